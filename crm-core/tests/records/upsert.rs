//! What upserts promise: what is found is judged as an update, what is not as a create.

use super::*;
use crm_core::event::ChangeKind;
use crm_core::record::Written;

on_both_databases!(
    a_known_record_is_upserted_by_the_rules_of_an_update,
    a_new_record_is_upserted_by_the_rules_of_a_create,
);

const ORDERS: &str = r#"
name = "orders"
singular = "order"
fields = [
    { name = "code", type = "text", max = 40, required = true, unique = true },
    { name = "title", type = "text", required = true },
    { name = "state", type = "enum", values = ["open", "sent", "paid"], required = true, default = "open" },
]

[[machines]]
field = "state"
initial = ["open"]
edges = { open = ["sent"], sent = ["paid"] }
"#;

async fn open(backend: Backend) -> anyhow::Result<Fixture> {
    let spec = ModuleSpec::from_toml(ORDERS)?;
    Fixture::built(backend, |builder| builder.modules([spec])).await
}

async fn upsert(it: &Fixture, json: Json) -> crm_core::Result<Written> {
    let scope = it.operator();
    let (create, update) = (scope.permit("orders")?, scope.permit("orders")?);
    let records = it.crm.records();
    records.upsert(&create, &update, "code", body(json)).await
}

/// The field and the code of a refusal.
fn refused(written: crm_core::Result<Written>) -> (String, &'static str) {
    match written {
        Err(Error::Invalid(fields)) => (fields[0].pointer.clone(), fields[0].code),
        other => (String::new(), code(other)),
    }
}

async fn a_known_record_is_upserted_by_the_rules_of_an_update(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let whole = |state: &str, title: &str| json!({"code": "1", "title": title, "state": state});
    upsert(&it, whole("open", "a")).await?;
    for (state, title, version) in [
        ("sent", "a", 2),
        // The whole record as it is, and with another title, past its first state.
        ("sent", "a", 2),
        ("sent", "b", 3),
        ("paid", "b", 4),
        ("paid", "c", 5),
    ] {
        let written = upsert(&it, whole(state, title)).await?;
        assert_eq!(written.kind, ChangeKind::Updated);
        assert_eq!(written.record.version, version, "{state} {title}");
    }
    let back = refused(upsert(&it, whole("open", "c")).await);
    assert_ne!(back.1, "invalid_initial_state");
    // What is left out stays.
    let written = upsert(&it, json!({"code": "1"})).await?;
    assert_eq!(written.record.version, 5);
    Ok(())
}

async fn a_new_record_is_upserted_by_the_rules_of_a_create(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    for (sent, field, expected) in [
        (
            json!({"code": "1", "title": "a", "state": "sent"}),
            "/state",
            "invalid_initial_state",
        ),
        (json!({"code": "1"}), "/title", "required"),
        (json!({"title": "a"}), "/code", "required"),
        (
            json!({"code": "1", "title": "a", "odd": 1}),
            "/odd",
            "unknown_field",
        ),
    ] {
        assert_eq!(
            refused(upsert(&it, sent).await),
            (field.to_owned(), expected)
        );
    }
    let written = upsert(&it, json!({"code": "1", "title": "a"})).await?;
    assert_eq!(written.kind, ChangeKind::Created);
    Ok(())
}
