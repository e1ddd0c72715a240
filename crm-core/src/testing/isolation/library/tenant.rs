//! The doors of a tenant as a whole: its fields and modules, its jobs, its export and its end.

use serde_json::json;

use crate::custom::{FieldChange, ModuleChange};
use crate::error::{Error, Result};
use crate::module::{FieldSpec, ModuleSpec};
use crate::schema::DataLoss;
use crate::scope::{Create, Delete, Read, Update};
use crate::testing::isolation::stage::{Stage, request};
use crate::testing::isolation::stock::{OWN_MODULE, first_module};
use crate::transfer::{Format, ImportOptions};

pub(super) async fn fields(it: &Stage) -> Result<()> {
    let declared = first_module(&it.crm)?.name().to_string();
    for (module, name) in [
        (declared.as_str(), "isolation_level"),
        (OWN_MODULE, "hours"),
    ] {
        let scope = it.operator().await?;
        let (read, update) = (
            scope.permit::<Read>("modules")?,
            scope.permit::<Update>("modules")?,
        );
        let delete = scope.permit::<Delete>("modules")?;
        let fields = it.crm.custom_fields();
        let names = |fields: Vec<crate::custom::CustomField>| {
            let fields = fields.into_iter();
            fields
                .map(|field| (field.spec, field.indexed, field.removed_at))
                .collect::<Vec<_>>()
        };
        it.say("list", fields.list(&read, module).await.map(names));
        for name in [name, "isolation_other"] {
            let change = FieldChange {
                description: Some("changed".into()),
                ..FieldChange::default()
            };
            let changed = fields.change(&update, module, name, change).await;
            it.say("change", changed.map(|field| field.spec));
        }
        let spec = json!({"name": "isolation_other", "type": "text", "unique": true, "sort": true});
        let spec: FieldSpec = serde_json::from_value(spec).map_err(Error::internal)?;
        let made = fields.declare(&update, module, spec.clone()).await;
        it.say("declare", made.map(|field| field.spec));
        it.say("remove", fields.remove(&update, module, name).await);
        it.say("purge", fields.purge(&delete, module, name).await);
        it.say(
            "remove",
            fields.remove(&update, module, "isolation_other").await,
        );
        it.say(
            "declare again",
            fields
                .declare(&update, module, spec)
                .await
                .map(|field| field.spec),
        );
        it.say("list", fields.list(&read, module).await.map(names));
        let scope = it.operator().await?;
        let permit = scope.permit::<Read>(module)?;
        let page = it.crm.records().list(&permit, &Default::default()).await;
        it.say("records", page.map(|page| page.data));
    }
    Ok(())
}

pub(super) async fn modules(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let (create, delete) = (
        scope.permit::<Create>("modules")?,
        scope.permit::<Delete>("modules")?,
    );
    let update = scope.permit::<Update>("modules")?;
    let modules = it.crm.custom_modules();
    let declared = scope.modules().map(|module| module.spec().clone());
    it.say("modules", Ok(declared.collect::<Vec<_>>()));
    let spec = json!({
        "name": "isolation_more",
        "singular": "isolation_one",
        "fields": [{"name": "note", "type": "text"}],
    });
    let spec: ModuleSpec = serde_json::from_value(spec).map_err(Error::internal)?;
    it.say("create", modules.create(&create, spec).await);
    let change = ModuleChange {
        description: Some("changed".into()),
        machines: Some(Vec::new()),
    };
    let changed = modules.change(&update, OWN_MODULE, change).await;
    it.say("change", changed.map(|module| module.spec().clone()));
    it.say(
        "destroyable",
        modules.destroyable(&delete, OWN_MODULE).await,
    );
    it.say(
        "delete",
        modules.delete(&delete, OWN_MODULE, DataLoss::Refused).await,
    );
    it.say(
        "delete with data",
        modules
            .delete(&delete, OWN_MODULE, DataLoss::Accepted)
            .await,
    );
    let scope = it.operator().await?;
    it.say(
        "modules",
        Ok(scope
            .modules()
            .map(|module| module.name().clone())
            .collect::<Vec<_>>()),
    );
    Ok(())
}

pub(super) async fn jobs(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let jobs = it.crm.jobs();
    it.say("list", jobs.list(&scope, None, 10).await);
    it.say(
        "list before",
        jobs.list(&scope, Some(it.cast.job.both), 10).await,
    );
    for id in it.cast.job.each() {
        it.say("get", jobs.get(&scope, id).await);
        it.say("errors", jobs.errors(&scope, id, 0, 10).await);
        it.say("cancel", jobs.cancel(&scope, id).await);
        it.say("run", it.crm.run_job(&scope, id).await);
    }
    let [first, second] = it.cast.queued;
    it.say("run", it.crm.run_job(&scope, first).await);
    it.say("cancel", jobs.cancel(&scope, second).await);
    let asked = jobs.cancel(&scope, it.cast.running).await;
    it.say("cancel what runs elsewhere", asked);
    it.say("errors", jobs.errors(&scope, first, 0, 10).await);
    let module = first_module(&it.crm)?.name().to_string();
    let (transfer, options) = (it.crm.transfer(), ImportOptions::new(Format::Ndjson));
    let upload = || transfer.import(&scope, &module, options.clone());
    let left = upload().await?;
    it.say("abandon", left.abandon().await);
    let mut cancelled = upload().await?;
    it.say("push", cancelled.push(b"{}\n").await);
    it.say(
        "cancel",
        jobs.cancel(&scope, cancelled.id())
            .await
            .map(|job| job.state),
    );
    it.say("finish", cancelled.finish().await.map(drop));
    let mut waiting = upload().await?;
    it.say("push", waiting.push(b"{}\n").await);
    let id = waiting.finish().await?;
    it.say("run", it.crm.run_job(&scope, id).await);
    it.say("list", jobs.list(&scope, None, 10).await);
    Ok(())
}

pub(super) async fn export(it: &Stage) -> Result<()> {
    let mut export = it.crm.export_tenant(it.tenant, request()).await?;
    while let Some(piece) = export.next().await? {
        // Seals hash the tenant's id, and keys begin with random letters.
        let name = &piece.file;
        let differs = ["seals", "keys", "tenant"]
            .iter()
            .any(|part| name.contains(part));
        let text = if differs {
            piece.text.lines().count().to_string()
        } else {
            piece.text
        };
        it.say(piece.file, Ok(text));
    }
    Ok(())
}

/// As [`Tenants::erase`](crate::tenant::Tenants::erase), but for the time it waits for other
/// processes.
pub(super) async fn erasure(it: &Stage) -> Result<()> {
    let db = &it.crm.core.db;
    let tables = db.tenant_tables().await?;
    db.erase(tables, it.tenant).await?;
    let layout = db.layout().await?;
    let left = db
        .image(&layout, it.tenant, crate::db::twin::Detail::All)
        .await?;
    it.say("what is left", Ok(left.texts().count()));
    Ok(())
}
