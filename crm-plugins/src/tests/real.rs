//! The real guest, compiled from its source, on this host alone.

use std::path::Path;
use std::sync::Arc;

use crm_core::hook::{Outcome, PluginHost};
use serde_json::json;

use super::{Contacts, call, contact_created, guests_wanted, host};
use crate::Limits;

#[tokio::test]
async fn the_lead_scoring_guest_scores_a_new_contact() {
    if !guests_wanted() {
        return;
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/plugins/lead-scoring");
    let component = tokio::task::spawn_blocking(move || crate::build(&dir))
        .await
        .unwrap()
        .unwrap();
    let host = host(Limits::default());
    let manifest = host.inspect(component.clone().into()).await.unwrap();
    assert_eq!(manifest.name.as_str(), "lead_scoring");

    let contacts = Contacts::granted(&["contacts.read", "contacts.update"]);
    let report = host
        .handle(call(component.clone(), contacts.clone(), contact_created()))
        .await
        .unwrap();
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:?}");
    // 30 an address of their own, 15 a company, 20 an owner, 15 a VIP.
    assert_eq!(contacts.field("score"), json!(80));
    assert!(
        report.logs.iter().any(|line| line.message.contains("+20")),
        "{report:?}"
    );

    let blind = Contacts::granted(&["contacts.update"]);
    let report = host
        .handle(call(component, Arc::clone(&blind) as _, contact_created()))
        .await
        .unwrap();
    assert_eq!(report.outcome, Outcome::Failed);
    assert!(
        report
            .error
            .is_some_and(|error| error.contains("contacts.read"))
    );
    assert_eq!(blind.field("score"), json!(null));
}
