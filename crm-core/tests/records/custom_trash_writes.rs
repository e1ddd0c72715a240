//! Writes of many records, merges, upserts and exports over a tenant's own module with a trash: as
//! over any module.

use super::custom_trash::visits;
use super::*;
use crm_core::event::ChangeKind;
use crm_core::record::{Expected, Many, Matched, Merge, Write};
use crm_core::transfer::Format;

on_both_databases!(
    a_bulk_write_over_a_tenants_own_module_fills_its_trash_and_passes_over_it,
    the_merged_of_a_tenants_own_module_go_to_its_trash,
    an_upsert_passes_over_the_trash_of_a_tenants_own_module,
    an_export_of_a_tenants_own_module_leaves_out_its_trash,
);

/// The tenant with the module, and a rival with the same one and a record.
async fn open(backend: Backend) -> anyhow::Result<(Fixture, Scope)> {
    let it = Fixture::open(backend).await?;
    it.found_module(it.tenant, visits()).await?;
    let rival = it.rival().await?;
    it.found_module(rival, visits()).await?;
    let theirs = it.operator_in(rival).await?;
    it.create(&theirs, "visits", json!({"place": "Ulm", "code": "u"}))
        .await?;
    let scope = it.operator_in(it.tenant).await?;
    Ok((it, scope))
}

fn get(record: &Record, field: &str) -> Json {
    serde_json::to_value(record.get(field)).unwrap_or_default()
}

async fn a_bulk_write_over_a_tenants_own_module_fills_its_trash_and_passes_over_it(
    backend: Backend,
) -> anyhow::Result<()> {
    let (it, scope) = open(backend).await?;
    let mut made = Vec::new();
    for place in ["Aachen", "Bonn", "Kiel"] {
        let visit = json!({"place": place, "code": place});
        made.push(it.create(&scope, "visits", visit).await?);
    }
    it.delete(&scope, &made[0]).await?;
    let module = scope.module("visits").context("declared")?;
    let (read, update, delete) = (
        scope.permit::<Read>("visits")?,
        scope.permit::<Update>("visits")?,
        scope.permit::<Delete>("visits")?,
    );
    let filter = |json: Json| Filter::from_json(module, &body(json)).map_err(Error::Invalid);
    let written = async |many: Many| {
        let Matched { matched, changed } = it.crm.records().write_many(many).await?;
        anyhow::Ok((matched, changed))
    };
    let all = filter(json!({"code": {"is_null": false}}))?;
    let moved = body(json!({"place": "Hof"}));
    let many = Many::update(&read, &update, all.clone(), moved, None)?;
    assert_eq!(written(many).await?, (2, 2));
    let back = it.bring_back(&scope, &made[0]).await?;
    assert_eq!(get(&back, "place"), "Aachen");

    let there = filter(json!({"place": "Hof"}))?;
    for count in [(2, 2), (0, 0)] {
        let many = Many::delete(&read, &delete, there.clone(), None)?;
        assert_eq!(written(many).await?, count);
    }
    let mut gone = [made[1].id, made[2].id];
    gone.sort_unstable();
    assert_eq!(it.in_trash(&scope).await?, gone);
    let left = it.ids(&scope, "visits", &Query::default()).await?;
    assert_eq!(left, [made[0].id]);
    Ok(())
}

async fn the_merged_of_a_tenants_own_module_go_to_its_trash(
    backend: Backend,
) -> anyhow::Result<()> {
    let (it, scope) = open(backend).await?;
    let kept = it.create(&scope, "visits", json!({"place": "Ulm"})).await?;
    let other = it.create(&scope, "visits", json!({"code": "u"})).await?;
    let below = json!({"place": "Bonn", "above_id": other.id});
    let below = it.create(&scope, "visits", below).await?;
    let merge = Write::merge(
        &scope.permit("visits")?,
        &scope.permit("visits")?,
        &scope.permit("visits")?,
        kept.id,
        Expected::Any,
        Merge {
            from: vec![(other.id, None)],
            take: Vec::new(),
        },
    )?;
    let merged = it.crm.records().merge(merge).await?;
    assert_eq!((get(&merged, "code"), merged.id), (json!("u"), kept.id));
    let below = it.get(&scope, "visits", below.id).await?;
    assert_eq!(get(&below, "above_id"), json!(kept.id));
    assert_eq!(it.in_trash(&scope).await?, [other.id]);
    let back = it.bring_back(&scope, &other).await;
    assert_eq!(code(back), "already_exists", "the survivor has its code");
    Ok(())
}

async fn an_upsert_passes_over_the_trash_of_a_tenants_own_module(
    backend: Backend,
) -> anyhow::Result<()> {
    let (it, scope) = open(backend).await?;
    let upsert = async |place: &str| {
        let visit = body(json!({"code": "u", "place": place}));
        let (create, update) = (scope.permit("visits")?, scope.permit("visits")?);
        let records = it.crm.records();
        records.upsert(&create, &update, "code", visit).await
    };
    let first = upsert("Ulm").await?;
    assert_eq!(first.kind, ChangeKind::Created);
    it.delete(&scope, &first.record).await?;
    let second = upsert("Bonn").await?;
    assert_eq!(second.kind, ChangeKind::Created);
    assert_ne!(second.record.id, first.record.id);
    let again = upsert("Kiel").await?;
    assert_eq!(again.kind, ChangeKind::Updated);
    assert_eq!(
        (again.record.id, again.record.version),
        (second.record.id, 2)
    );
    assert_eq!(it.in_trash(&scope).await?, [first.record.id]);
    Ok(())
}

async fn an_export_of_a_tenants_own_module_leaves_out_its_trash(
    backend: Backend,
) -> anyhow::Result<()> {
    let (it, scope) = open(backend).await?;
    let kept = it.create(&scope, "visits", json!({"place": "Ulm"})).await?;
    let gone = it
        .create(&scope, "visits", json!({"place": "Bonn"}))
        .await?;
    it.delete(&scope, &gone).await?;
    for format in [Format::Csv, Format::Ndjson, Format::Json] {
        let permit = scope.permit::<Read>("visits")?;
        let transfer = it.crm.transfer();
        let mut export = transfer.export(permit, Query::default(), format)?;
        let mut file = String::new();
        while let Some(piece) = export.next().await? {
            file.push_str(&piece);
        }
        assert!(file.contains(&kept.id.to_string()), "{file}");
        assert_eq!(file.matches("Ulm").count(), 1, "{file}");
        assert!(!file.contains("Bonn"), "{file}");
    }
    Ok(())
}
