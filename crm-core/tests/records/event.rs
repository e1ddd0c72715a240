//! What a write leaves behind: an audit row and an event, which subscribers hear in order.

use super::*;

on_both_databases!(
    every_write_leaves_one_audit_row_and_one_event_and_a_failed_one_leaves_none,
    events_reach_subscribers_in_order_and_again_after_a_failure,
);

async fn every_write_leaves_one_audit_row_and_one_event_and_a_failed_one_leaves_none(
    backend: Backend,
) -> anyhow::Result<()> {
    let seen = Arc::new(Collector::default());
    let it = Fixture::with(backend, Some(seen.clone())).await?;
    let scope = it.operator();
    let before = it.audit().await?.len();
    let made = it
        .create(
            &scope,
            "contacts",
            json!({"name": "Ada", "email": "a@b.example"}),
        )
        .await?;
    let changed = it
        .update(&scope, &made, None, json!({"name": "Ada L"}))
        .await?;
    for refused in [
        it.create(
            &scope,
            "contacts",
            json!({"name": "Eve", "email": "A@b.example"}),
        )
        .await,
        it.update(&scope, &made, Some(1), json!({"name": "Eve"}))
            .await,
        it.create(&scope, "contacts", json!({"name": ""})).await,
    ] {
        assert!(refused.is_err());
    }
    it.delete(&scope, &made).await?;
    it.crm.dispatch_once().await?;
    let events = seen.take();
    let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(
        kinds,
        ["contact.created", "contact.updated", "contact.deleted"]
    );
    assert_eq!(
        events[1].after,
        Some(serde_json::from_str(&changed.to_json())?)
    );
    assert_eq!(events[1].before, events[0].after);
    let audit = it.audit().await?;
    let actions: Vec<_> = audit
        .iter()
        .rev()
        .skip(before)
        .map(|e| e.action.as_str())
        .collect();
    assert_eq!(
        actions,
        ["contacts.create", "contacts.update", "contacts.delete"]
    );
    assert_eq!(audit[1].before, events[1].before);
    assert_eq!(
        (audit[1].actor.as_str(), audit[1].request_id.as_str()),
        ("operator", "req-1")
    );
    Ok(())
}

async fn events_reach_subscribers_in_order_and_again_after_a_failure(
    backend: Backend,
) -> anyhow::Result<()> {
    let seen = Arc::new(Collector::default());
    let it = Fixture::with(backend, Some(seen.clone())).await?;
    let scope = it.operator();
    let (one, two) = (
        it.create(&scope, "things", json!({"number": 0})).await?,
        it.create(&scope, "things", json!({"number": 0})).await?,
    );
    for n in 1..4 {
        it.update(&scope, &one, None, json!({"number": n})).await?;
        it.update(&scope, &two, None, json!({"number": n})).await?;
    }
    seen.refuse(Some(one.id));
    it.crm.dispatch_once().await?;
    assert!(seen.take().iter().all(|event| event.record_id == two.id));
    seen.refuse(None);
    it.crm.dispatch_once().await?;
    let counts: Vec<_> = seen
        .take()
        .iter()
        .map(|event| {
            event
                .after
                .as_ref()
                .and_then(|after| after["number"].as_i64())
        })
        .collect();
    assert_eq!(counts, [Some(0), Some(1), Some(2), Some(3)]);
    assert_eq!(it.crm.dispatch_once().await?, 0);
    Ok(())
}

#[test]
fn time_moves_only_forward() {
    let (clock, hand) = Clock::fixed(DateTime::UNIX_EPOCH, 0);
    let before = clock.now();
    hand.advance(TimeDelta::seconds(1));
    assert_eq!(clock.now() - before, TimeDelta::seconds(1));
}
