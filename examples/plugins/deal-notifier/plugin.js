// Tells a chat of every deal that is won: a request to the one host that the manifest names, with the
// token that an administrator entrusted to the plugin. What the chat answers comes back by a webhook:
// {"deal": id, "stage": "negotiation"} moves the deal to that stage.

import { fetch } from "crm:automation/http@1.0.0";
import { log } from "crm:automation/log@1.0.0";
import { update } from "crm:automation/records@1.0.0";
import { get as secret } from "crm:automation/secrets@1.0.0";
import { bytes, fields, object, plugin, text } from "./crm.js";

const CHAT = "https://hooks.example.com/deals";

export const handle = plugin((event) => {
  const deal = object(event.after);
  const amount = deal.amount ? ` for ${deal.amount} ${deal.currency ?? ""}`.trimEnd() : "";
  const message = { text: `Won: ${deal.title}${amount}`, deal: event.recordId };
  const response = fetch({
    method: "POST",
    url: CHAT,
    headers: [
      { name: "content-type", value: "application/json" },
      { name: "authorization", value: `Bearer ${secret("webhook_token")}` },
    ],
    body: bytes(JSON.stringify(message)),
  });
  if (response.status >= 300) throw new Error(`the chat answered ${response.status}`);
  log("info", `told the chat of ${deal.title}`);
});

export const inbound = plugin((webhook) => {
  const { deal, stage } = JSON.parse(text(webhook.body));
  if (!deal || !stage) throw new Error("a reply names a deal and a stage");
  update("deals", deal, undefined, fields({ stage }));
  log("info", `moved ${deal} to ${stage}, as ${webhook.id} says`);
});
