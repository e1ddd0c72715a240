//! How the state machines of tenants' own modules are declared, and what of a field they hold fast.

use super::custom::refusals;
use super::custom_machine::{projects, stage};
use super::*;
use crm_core::custom::FieldChange;

on_both_databases!(
    a_field_that_a_machine_names_stays_what_the_machine_needs,
    a_module_whose_machine_names_a_reference_to_itself_is_destroyed,
    machines_that_cannot_be_are_refused_by_their_place,
);

/// What a conflict over a machine says.
fn told<T: std::fmt::Debug>(answer: crm_core::Result<T>) -> String {
    match answer {
        Err(Error::Conflict { code, message }) => {
            assert_eq!(code, "named_by_machine", "{message}");
            message.into_owned()
        }
        other => panic!("{other:?}"),
    }
}

impl Fixture {
    async fn change_field(&self, name: &str, change: FieldChange) -> crm_core::Result<()> {
        let scope = self.operator_in(self.tenant).await?;
        let permit = scope.permit::<Update>("modules")?;
        let fields = self.crm.custom_fields();
        let changed = fields.change(&permit, "projects", name, change).await;
        changed.map(drop)
    }
}

async fn a_field_that_a_machine_names_stays_what_the_machine_needs(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    it.found_module(it.tenant, projects()).await?;
    for (name, part) in [
        ("stage", "(field)"),
        ("budget", "(needs)"),
        ("outcome", "(sets)"),
        ("title", "(open)"),
    ] {
        let message = told(it.remove(it.tenant, "projects", name).await);
        let field = format!("projects.{name} is named by the state machine of stage {part}");
        assert!(message.starts_with(&field), "{message}");
    }
    it.remove(it.tenant, "projects", "secret").await?;
    let required = |required| FieldChange {
        required: Some(required),
        ..FieldChange::default()
    };
    let message = told(it.change_field("stage", required(false)).await);
    assert!(message.contains("projects.stage"), "{message}");
    let mut clearing = stage();
    clearing["sets"]["lost"]["note"] = Json::Null;
    it.change_module(it.tenant, "projects", json!([clearing]))
        .await?;
    told(it.change_field("note", required(true)).await);

    let left_out = FieldChange {
        default: Some(Some(json!("won"))),
        ..FieldChange::default()
    };
    let message = told(it.change_field("stage", left_out).await);
    assert!(message.contains("would begin as won"), "{message}");

    // Another state may be added, and be used from then on.
    let more = FieldChange {
        values: Some(
            ["idea", "offer", "parked", "won", "lost"]
                .map(Into::into)
                .to_vec(),
        ),
        ..FieldChange::default()
    };
    let mut parking = stage();
    parking["edges"]["idea"] = json!(["parked"]);
    let early = it.change_module(it.tenant, "projects", json!([parking]));
    let unknown = ("/machines/0/edges".to_owned(), "unknown_state");
    assert_eq!(refusals(early.await), [unknown]);
    it.change_field("stage", more).await?;
    it.change_module(it.tenant, "projects", json!([parking]))
        .await?;
    let scope = it.operator_in(it.tenant).await?;
    let one = it.create(&scope, "projects", json!({"title": "a"})).await?;
    it.update(&scope, &one, None, json!({"stage": "parked"}))
        .await?;

    it.change_module(it.tenant, "projects", json!([])).await?;
    it.change_field("stage", required(false)).await?;
    it.remove(it.tenant, "projects", "stage").await?;
    Ok(())
}

async fn a_module_whose_machine_names_a_reference_to_itself_is_destroyed(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let mut tree = projects();
    if let Some(fields) = tree["fields"].as_array_mut() {
        fields.push(json!({"name": "above_id", "type": "reference", "module": "projects"}));
    }
    tree["machines"][0]["open"] = json!(["above_id"]);
    it.found_module(it.tenant, tree.clone()).await?;
    told(it.remove(it.tenant, "projects", "above_id").await);
    let scope = it.operator_in(it.tenant).await?;
    let above = it.create(&scope, "projects", json!({"title": "a"})).await?;
    let below = json!({"title": "b", "above_id": above.id});
    it.create(&scope, "projects", below).await?;
    let gone = it.end_module("projects", crm_core::DataLoss::Accepted);
    assert_eq!(gone.await?, 2);
    // The machine went with the reference, whatever would have kept the module from its end.
    let mut entries = it.audit().await?.into_iter();
    let cut = entries.any(|entry| {
        let after = entry.after.unwrap_or_default();
        entry.entity_id.as_deref() == Some("projects") && after["machines"] == json!([])
    });
    assert!(cut);
    it.found_module(it.tenant, tree).await?;
    Ok(())
}

async fn machines_that_cannot_be_are_refused_by_their_place(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    it.found_module(it.tenant, projects()).await?;
    let log = json!({"module": "deals", "reference": "a", "kind": "b", "payload": "c"});
    for (part, key, code) in [
        (json!({"field": "title"}), "field", "invalid"),
        (json!({"field": "nothing"}), "field", "invalid"),
        (json!({"initial": ["nwe"]}), "initial", "unknown_state"),
        (
            json!({"edges": {"idea": ["nwe"]}}),
            "edges",
            "unknown_state",
        ),
        (
            json!({"needs": {"won": ["nothing"]}}),
            "needs",
            "unknown_field",
        ),
        (
            json!({"needs": {"won": [{"field": "budget", "gt": "much"}]}}),
            "needs",
            "wrong_type",
        ),
        (
            json!({"initial": ["offer"]}),
            "initial",
            "default_not_initial",
        ),
        (
            json!({"needs": {"won": [{"field": "outcome", "eq": "shut"}]}}),
            "needs",
            "not_allowed",
        ),
        (
            json!({"needs": {"won": [{"field": "outcome", "eq": null}]}}),
            "needs",
            "never_met",
        ),
        (json!({"back": "anyone"}), "back", "not_supported"),
        (
            json!({"needs": {"won": [{"field": "secret", "starts": "a"}]}}),
            "needs",
            "not_supported",
        ),
        (
            json!({"sets": {"won": {"outcome": "shut"}}}),
            "sets",
            "not_allowed",
        ),
        (
            json!({"sets": {"won": {"outcome": null}}}),
            "sets",
            "required",
        ),
        (json!({"open": ["nothing"]}), "open", "unknown_field"),
        (
            json!({"back": {"permission": "reopen"}}),
            "back",
            "unknown_action",
        ),
        (json!({"log": log}), "log", "not_supported"),
    ] {
        let mut machine = json!({"field": "stage"});
        for (name, value) in body(part) {
            machine[name] = value;
        }
        let place = [(format!("/machines/0/{key}"), code)];
        let changed = it.change_module(it.tenant, "projects", json!([machine]));
        assert_eq!(refusals(changed.await), place, "{machine}");
        let mut other = projects();
        other["name"] = json!("ventures");
        other["singular"] = json!("venture");
        other["machines"] = json!([machine]);
        let made = it.found_module(it.tenant, other).await;
        assert_eq!(refusals(made), place, "{machine}");
    }
    let twice = it.change_module(it.tenant, "projects", json!([stage(), stage()]));
    let twice = refusals(twice.await);
    assert_eq!(twice, [("/machines/1/field".into(), "duplicate")]);
    let endless = json!([{"field": "stage", "open": vec!["title"; 10_000]}]);
    let endless = it.change_module(it.tenant, "projects", endless).await;
    assert_eq!(refusals(endless), [("/machines".into(), "too_large")]);
    Ok(())
}
