//! What may leave the audit log: entries by pruning, what they hold by erasing, both with a chain
//! that verifies behind them.

use chrono::{DateTime, TimeDelta, Utc};

use crate::audit::{AuditFaultKind, AuditQuery, SEALER};
use crate::db::{ColumnType, Sql};
use crate::policy::fixture::{World, missing, on_both_databases};
use crate::scope::{Delete, Permit, Purge, Read, Update};

on_both_databases! {
    pruning_leaves_a_checkpoint_that_the_log_must_tell_of
    erasing_what_entries_hold_leaves_the_chain_whole
    erasing_waits_for_whoever_seals_at_the_moment
    pruning_and_erasing_need_the_right_to_purge
}

impl World {
    fn purge(&self) -> Permit<Purge> {
        self.operator(self.tenant).permit("audit").unwrap()
    }
}

/// The entries so far are of a day ago.
async fn age(world: &World) -> DateTime<Utc> {
    let now = world.crm.clock().now();
    let old = Sql::new("UPDATE audit_log SET occurred_at = $1 WHERE tenant_id = $2")
        .bind(now - TimeDelta::days(1), ColumnType::Instant)
        .bind(world.tenant, ColumnType::Uuid);
    world.execute(old).await;
    now - TimeDelta::hours(1)
}

async fn pruning_leaves_a_checkpoint_that_the_log_must_tell_of(world: World) {
    let audit = world.crm.audit();
    let now = world.crm.clock().now();
    assert_eq!(audit.prune(&world.purge(), now).await.unwrap(), None);
    // More seals than one transaction takes.
    world.contacts(1).await;
    let yesterday = age(&world).await;
    for _ in 0..11 {
        world.seal().await;
        world.contacts(1).await;
        age(&world).await;
    }
    world.seal().await;
    let old = world.verify().await.head.unwrap();
    world.contacts(3).await;
    world.seal().await;
    assert_eq!(world.verify().await.verified, 15);

    let pruned = audit.prune(&world.purge(), yesterday).await.unwrap();
    let pruned = pruned.unwrap();
    assert_eq!((pruned.entries, pruned.sequence), (12, 12));
    assert_eq!(pruned.hash, old.hash);
    assert_eq!(audit.prune(&world.purge(), yesterday).await.unwrap(), None);
    assert_eq!(world.ids().await.len(), 4);
    world.seal().await;
    let found = world.verify_with(Some(&old.hash)).await;
    assert_eq!((found.pruned, found.verified, found.fault), (12, 4, None));

    // Everything that is sealed may go, and the chain goes on.
    let later = world.crm.clock().now() + TimeDelta::days(1);
    let all = audit.prune(&world.purge(), later).await.unwrap().unwrap();
    assert_eq!((all.entries, all.sequence), (4, 16));
    world.contacts(2).await;
    world.seal().await;
    let found = world.verify().await;
    assert_eq!((found.pruned, found.verified, found.fault), (16, 3, None));

    // A checkpoint that nobody tells of is a hole.
    let ids = world.ids().await;
    world
        .tamper(
            "UPDATE audit_log SET action = 'audit.other' WHERE tenant_id = $1 AND id = $2",
            ids[0],
        )
        .await;
    let missing = AuditFaultKind::Missing;
    assert_eq!(world.fault().await, (missing, Some(16), None));
}

async fn erasing_what_entries_hold_leaves_the_chain_whole(world: World) {
    let id = world.contact(world.tenant, "Ada Lovelace").await;
    world.contacts(2).await;
    let permit = world.operator(world.tenant).permit::<Delete>("contacts");
    let record = crate::id::RecordId(id);
    let records = world.crm.records();
    records
        .delete(&permit.unwrap(), record, None)
        .await
        .unwrap();
    let audit = world.crm.audit();
    let id = id.to_string();
    // What waits is sealed first.
    let erased = audit.erase(&world.purge(), "contacts", &id).await.unwrap();
    assert_eq!(erased, 2);
    let again = audit.erase(&world.purge(), "contacts", &id).await.unwrap();
    assert_eq!(again, 0);
    world.seal().await;
    let found = world.verify().await;
    assert_eq!((found.verified, found.erased, found.fault), (5, 2, None));
    let permit = world
        .operator(world.tenant)
        .permit::<Read>("audit")
        .unwrap();
    let mut export = audit.export(&permit, AuditQuery::default()).unwrap();
    let mut text = String::new();
    while let Some(piece) = export.next().await.unwrap() {
        text.push_str(&piece);
    }
    assert_eq!(text.lines().count(), 5);
    assert!(
        text.contains("audit.erase") && !text.contains("Lovelace"),
        "{text}"
    );
    // The mark alone does not let anybody write something else there.
    world
        .tamper(
            "UPDATE audit_log SET after = '{}' WHERE tenant_id = $1 AND id = $2",
            world.ids().await[0],
        )
        .await;
    assert_eq!(world.fault().await.0, AuditFaultKind::Altered);
}

async fn erasing_waits_for_whoever_seals_at_the_moment(world: World) {
    let core = &world.crm.core;
    let mut other = crate::lease::Lease::new(SEALER, core.db.clone(), core.clock.clone());
    assert!(other.take().await.unwrap());
    let id = world
        .contact(world.tenant, "Ada Lovelace")
        .await
        .to_string();
    let (audit, purge) = (world.crm.audit(), world.purge());
    let mut erasure = Box::pin(audit.erase(&purge, "contacts", &id));
    let soon = std::time::Duration::from_millis(300);
    assert!(tokio::time::timeout(soon, &mut erasure).await.is_err());
    other.release().await.unwrap();
    assert_eq!(erasure.await.unwrap(), 1);
}

async fn pruning_and_erasing_need_the_right_to_purge(world: World) {
    let scope = world.scope(world.manager).await;
    assert_eq!(missing(scope.permit::<Purge>("audit")), "audit.purge");
    let other = world.operator(world.tenant).permit::<Purge>("contacts");
    let now = world.crm.clock().now();
    let refused = world.crm.audit().prune(&other.unwrap(), now).await;
    assert_eq!(missing(refused), "audit.purge");
    let other = world.operator(world.tenant).permit::<Update>("contacts");
    assert!(other.is_ok());
}
