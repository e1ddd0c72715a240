//! Records of a trash and those that refer to them: none goes there while live ones refer to it,
//! and what refers to it from there stays as it is.

use super::trash::{open, purge, restore, title, trash};
use super::*;
use crm_core::record::View;

on_both_databases!(
    a_record_that_live_ones_refer_to_is_not_deleted,
    a_reference_into_the_trash_stays_and_expands_to_null,
    an_old_trash_is_purged_referrers_first_and_what_is_referred_to_stays,
    racing_references_and_deletes_leave_no_new_reference_into_the_trash,
);

async fn a_record_that_live_ones_refer_to_is_not_deleted(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let file = it.create(&scope, "folders", json!({"title": "x"})).await?;
    let sheet = it
        .create(
            &scope,
            "sheets",
            json!({"title": "y", "folder_id": file.id}),
        )
        .await?;
    assert_eq!(code(it.delete(&scope, &file).await), "has_dependents");
    it.delete(&scope, &sheet).await?;
    it.delete(&scope, &file).await?;
    // The sheet in the trash still refers to it.
    assert_eq!(code(purge(&it, &scope, &file).await), "has_dependents");
    // One that refers to itself stands in nobody's way.
    let own = it
        .create(&scope, "folders", json!({"title": "own"}))
        .await?;
    it.update(&scope, &own, None, json!({"parent_id": own.id}))
        .await?;
    it.delete(&scope, &own).await?;
    purge(&it, &scope, &own).await?;
    Ok(())
}

async fn a_reference_into_the_trash_stays_and_expands_to_null(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let file = it.create(&scope, "folders", json!({"title": "x"})).await?;
    let sheet = it
        .create(
            &scope,
            "sheets",
            json!({"title": "y", "folder_id": file.id}),
        )
        .await?;
    it.delete(&scope, &sheet).await?;
    it.delete(&scope, &file).await?;
    let sheet = restore(&it, &scope, &sheet).await?;
    let mut view = View::default();
    let module = it.crm.registry().get("sheets").context("sheets")?;
    view.expand(&scope, module, ["folder_id"])
        .map_err(|error| anyhow::anyhow!(error.message))?;
    let permit = scope.permit::<Read>("sheets")?;
    let viewed = it
        .crm
        .records()
        .view(&permit, vec![sheet.clone()], &view)
        .await?;
    let json = serde_json::to_value(&viewed[0])?;
    assert_eq!(
        (&json["folder_id"], &json["folder"]),
        (&json!(file.id), &Json::Null)
    );
    // Other fields change, with the reference as it is.
    let changed = it
        .update(
            &scope,
            &sheet,
            None,
            json!({"title": "z", "folder_id": file.id}),
        )
        .await?;
    assert_eq!(title(&changed), "z");
    Ok(())
}

async fn an_old_trash_is_purged_referrers_first_and_what_is_referred_to_stays(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let file = |n: i64| json!({"title": format!("file {n}")});
    let mut files = Vec::new();
    for n in 0..3 {
        files.push(it.create(&scope, "folders", file(n)).await?);
    }
    let sheet = async |file: &Record| {
        it.create(
            &scope,
            "sheets",
            json!({"title": "s", "folder_id": file.id}),
        )
        .await
    };
    let (gone, stays) = (sheet(&files[0]).await?, sheet(&files[1]).await?);
    for sheet in [&gone, &stays] {
        it.delete(&scope, sheet).await?;
    }
    for file in &files {
        it.delete(&scope, file).await?;
    }
    restore(&it, &scope, &stays).await?;
    let now = it.crm.clock().now();
    let none = it
        .crm
        .purge_trash(None, now - TimeDelta::days(1), request())
        .await?;
    assert_eq!((none.removed, none.kept), (0, 0));
    let rival = it.crm.tenants().create("Rival", request()).await?.id;
    let later = now + TimeDelta::days(1);
    let none = it.crm.purge_trash(Some(rival), later, request()).await?;
    assert_eq!((none.removed, none.kept), (0, 0));
    let purged = it.crm.purge_trash(None, later, request()).await?;
    assert_eq!((purged.removed, purged.kept), (3, 1));
    assert_eq!(trash(&it, &scope, &Query::default()).await?, ["file 1"]);
    Ok(())
}

async fn racing_references_and_deletes_leave_no_new_reference_into_the_trash(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    for _ in 0..12 {
        let file = it.create(&scope, "folders", json!({"title": "x"})).await?;
        let sheet = json!({"title": "y", "folder_id": file.id});
        let (made, deleted) =
            tokio::join!(it.create(&scope, "sheets", sheet), it.delete(&scope, &file));
        assert!(made.is_ok() != deleted.is_ok(), "{made:?} {deleted:?}");
    }
    Ok(())
}
