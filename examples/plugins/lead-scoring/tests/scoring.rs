//! The plugin in a whole CRM: `CRM=path/to/crm cargo test`.

use crm_plugin_sdk::testing::Crm;
use crm_plugin_sdk::{Result, json};

fn crm() -> Result<Crm> {
    Ok(Crm::with_plugin(env!("CARGO_MANIFEST_DIR"))?)
}

#[test]
fn a_new_contact_is_scored_and_the_log_says_why() -> Result {
    let crm = crm()?;
    let ada = crm.create(
        "contacts",
        json!({
            "name": "Ada", "email": "ada@engines.example", "company": "Engines",
            "job_title": "Owner", "tags": ["vip"],
        }),
    )?;
    let ada = crm.get("contacts", &ada)?;
    assert_eq!((&ada["score"], &ada["version"]), (&json!(80), &json!(2)));
    let run = &crm.runs()?[0];
    assert_eq!(run["outcome"], "succeeded", "{run}");
    assert_eq!((&run["rows_read"], &run["rows_written"]), (&json!(1), &json!(1)));
    assert!(run["logs"].to_string().contains("+20 a job title that decides"));
    Ok(())
}

#[test]
fn a_contact_that_changes_is_not_scored_again() -> Result {
    let crm = crm()?;
    let bob = crm.create("contacts", json!({ "name": "Bob" }))?;
    crm.update("contacts", &bob, json!({ "phone": "+44 20 7946 0000" }))?;
    assert_eq!(crm.get("contacts", &bob)?["score"], 0);
    assert_eq!(crm.runs()?.len(), 1);
    Ok(())
}
