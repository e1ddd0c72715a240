//! What is required of a new record is judged behind the hooks that may complete it.

use super::*;
use crm_core::event::ChangeKind;
use crm_core::record::When;

on_both_databases!(
    a_hook_gives_a_new_record_what_is_required,
    what_no_hook_gives_is_refused_by_its_field,
);

const PARCELS: &str = r#"
    name = "parcels"
    singular = "parcel"
    fields = [
        { name = "label", type = "text", required = true },
        { name = "weight", type = "integer", required = true },
        { name = "state", type = "enum", values = ["new", "sent"], required = true },
    ]
    [[machines]]
    field = "state"
    initial = ["new"]
    edges = { new = ["sent"] }
"#;

async fn open(backend: Backend) -> anyhow::Result<Fixture> {
    Fixture::built(backend, |builder| {
        let Ok(spec) = ModuleSpec::from_toml(PARCELS) else {
            return builder;
        };
        builder
            .modules([spec])
            .hook("parcels", When::Before, ChangeKind::Created, |cx| {
                Box::pin(async move {
                    let weight = cx.record().and_then(|record| record.get("weight"));
                    let heavy = weight.is_some_and(|weight| json!(weight) == json!(100));
                    cx.set("label", if heavy { "heavy" } else { "light" })?;
                    cx.set("state", if heavy { "sent" } else { "new" })
                })
            })
    })
    .await
}

async fn a_hook_gives_a_new_record_what_is_required(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let made = it.create(&scope, "parcels", json!({"weight": 1})).await?;
    assert_eq!(
        json!([made.get("label"), made.get("state")]),
        json!(["light", "new"])
    );
    let heavy = it.create(&scope, "parcels", json!({"weight": 100})).await;
    assert_eq!(code(heavy), "validation_failed", "the machine holds");
    Ok(())
}

async fn what_no_hook_gives_is_refused_by_its_field(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let Err(Error::Invalid(refused)) = it.create(&scope, "parcels", json!({})).await else {
        anyhow::bail!("made without a weight");
    };
    let found: Vec<_> = refused
        .iter()
        .map(|one| (one.pointer.as_str(), one.code))
        .collect();
    assert_eq!(found, [("/weight", "required")]);
    let typed = it.create(&scope, "parcels", json!({"weight": "x"})).await;
    assert_eq!(code(typed), "validation_failed", "types come first");
    let page = it.ids(&scope, "parcels", &Query::default()).await?;
    assert_eq!(page, []);
    Ok(())
}
