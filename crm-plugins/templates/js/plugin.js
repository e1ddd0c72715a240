import { log } from "crm:automation/log@1.0.0";
import { object, plugin } from "./crm.js";

export const handle = plugin((event) => {
  const contact = object(event.after);
  log("info", `${event.kind}: ${contact.name}`);
});
