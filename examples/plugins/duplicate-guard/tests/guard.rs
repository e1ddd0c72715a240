//! The plugin in a whole CRM: `CRM=path/to/crm cargo test`.

use crm_plugin_sdk::testing::Crm;
use crm_plugin_sdk::{Result, json};

#[test]
fn a_contact_with_the_name_and_company_of_another_is_refused() -> Result {
    let crm = Crm::with_plugin(env!("CARGO_MANIFEST_DIR"))?;
    let ada = json!({ "name": "Ada", "company": "Engines" });
    crm.create("contacts", ada.clone())?;
    assert!(crm.create("contacts", ada).is_err());
    assert_eq!(crm.list("contacts")?.len(), 1);
    Ok(())
}

#[test]
fn whoever_asks_is_told_that_there_are_no_twins() -> Result {
    let crm = Crm::with_plugin(env!("CARGO_MANIFEST_DIR"))?;
    let ada = crm.create("contacts", json!({ "name": "Ada", "company": "Engines" }))?;
    assert_eq!(crm.act("twins", "contacts", &[&ada], json!({}))?, json!([]));
    crm.delete("contacts", &ada)?;
    assert!(crm.act("twins", "contacts", &[&ada], json!({})).is_err());
    Ok(())
}
