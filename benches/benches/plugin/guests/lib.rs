//! Reads the event's record, sets its score, logs the event's kind.

use crm_plugin_sdk::{Event, Result, Value, json, log, plugin, records};
use serde::Deserialize;

#[derive(Deserialize)]
struct Contact {
    name: String,
}

fn work(event: Event) -> Result {
    let contact: Contact = records::get(&event.module, &event.record_id)?;
    records::update::<Value>(&event.module, &event.record_id, &json!({ "score": 7 }))?;
    log::info(format!("{}: {}", event.kind, contact.name));
    Ok(())
}

plugin!(handle = work);
