//! The plugin in a whole CRM: see README.md for what `cargo test` needs.

use crm_plugin_sdk::testing::Crm;
use crm_plugin_sdk::{Result, json};

#[test]
fn it_greets_a_new_contact() -> Result {
    let crm = Crm::with_plugin(env!("CARGO_MANIFEST_DIR"))?;
    crm.create("contacts", json!({ "name": "Ada" }))?;
    let run = &crm.runs()?[0];
    assert_eq!(run["outcome"], "succeeded", "{run}");
    assert_eq!(run["logs"][0]["message"], "contact.created: Ada");
    Ok(())
}
