import { log } from "crm:automation/log@1.0.0";
import type { Event } from "crm:automation/types@1.0.0";
import { object, plugin } from "./crm.js";

interface Contact {
  name: string | null;
}

export const handle = plugin((event: Event) => {
  const contact = object<Contact>(event.after);
  log("info", `${event.kind}: ${contact.name}`);
});
