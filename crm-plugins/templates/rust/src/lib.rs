//! What the plugin does.

use crm_plugin_sdk::{Event, Result, fields, log, plugin};
use serde::Deserialize;

#[derive(Deserialize)]
struct Contact {
    name: String,
}

fn greet(event: Event) -> Result {
    let contact: Contact = fields::read(event.after.as_deref().unwrap_or_default())?;
    log::info(format!("{}: {}", event.kind, contact.name));
    Ok(())
}

plugin!(handle = greet);
