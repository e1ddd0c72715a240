// Reads the event's record, sets its score, logs the event's kind.

import { log } from "crm:automation/log@1.0.0";
import { get, update } from "crm:automation/records@1.0.0";
import { fields, object, plugin } from "./crm.js";

export const handle = plugin((event) => {
  const contact = object(get(event.module, event.recordId));
  update(event.module, event.recordId, undefined, fields({ score: 7 }));
  log("info", `${event.kind}: ${contact.name}`);
});
