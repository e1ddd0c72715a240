//! The doors of records, tried on every module.

mod read;
mod write;

use futures::FutureExt;
use futures::future::BoxFuture;
use read::{duplicates, figures, filters, lists, reads, searches};
use serde_json::{Map, Value as Json};
use write::{
    batches, bulk_deletes, bulk_updates, creates, deletes, merges, trash, updates, upserts,
};

use super::cast::{Target, invalid, is_free, reference};
use super::stage::{Play, Stage};
use crate::error::Result;
use crate::id::RecordId;
use crate::module::CompiledModule;
use crate::record::{Aggregate, Filter, Many, Metric, Query, Record};
use crate::scope::{Create, Delete, Read, Scope, Update};
use crate::transfer::{Format, ImportMode, ImportOptions};

/// The doors by name.
pub(super) const CHAPTERS: &[(&str, Play)] = &[
    ("reads", |it| reads(it).boxed()),
    ("lists", |it| lists(it).boxed()),
    ("filters", |it| filters(it).boxed()),
    ("searches", |it| searches(it).boxed()),
    ("figures", |it| figures(it).boxed()),
    ("duplicates", |it| duplicates(it).boxed()),
    ("creates", |it| creates(it).boxed()),
    ("updates", |it| updates(it).boxed()),
    ("upserts", |it| upserts(it).boxed()),
    ("batches", |it| batches(it).boxed()),
    ("bulk updates", |it| bulk_updates(it).boxed()),
    ("bulk deletes", |it| bulk_deletes(it).boxed()),
    ("deletes", |it| deletes(it).boxed()),
    ("the trash", |it| trash(it).boxed()),
    ("merges", |it| merges(it).boxed()),
    ("exports", |it| exports(it).boxed()),
    ("imports", |it| imports(it).boxed()),
    ("rights on rows", |it| rights_on_rows(it).boxed()),
];

/// Records as they are shown.
fn brief(records: &[Record]) -> Vec<String> {
    records.iter().map(Record::to_json).collect()
}

/// A scope and the module in it.
async fn operator(it: &Stage) -> Result<(Scope, std::sync::Arc<CompiledModule>)> {
    Ok((it.operator().await?, it.module().await?))
}

/// What `name` was given in a body, as a parameter says it.
fn parameter(value: &Json) -> Option<String> {
    match value {
        Json::Null | Json::Object(_) => None,
        Json::String(text) => Some(text.clone()),
        Json::Array(items) => items.first().and_then(Json::as_str).map(str::to_owned),
        other => Some(other.to_string()),
    }
}

/// A new body for each reference, which leads there.
fn references(
    it: &Stage,
    module: &CompiledModule,
    target: Target<'_>,
) -> Result<Vec<(String, Map<String, Json>)>> {
    let mut bodies = Vec::new();
    for field in module.writable().filter(|field| field.kind.is_reference()) {
        let mut body = it.body(module)?;
        if let Some(value) = reference(&field.kind, target) {
            body.insert(field.name.to_string(), value);
            bodies.push((field.name.to_string(), body));
        }
    }
    Ok(bodies)
}

/// A body for each reference, where it leads to a record of the other tenant alone.
fn foreign_references(
    it: &Stage,
    module: &CompiledModule,
    full: bool,
) -> Result<Vec<(String, Map<String, Json>)>> {
    let foreign: Target<'_> = &|name| it.cast.kin.get(name)?.other.first().copied();
    if full {
        return references(it, module, foreign);
    }
    let fields = module.writable().filter(|field| is_free(module, field));
    let changes = fields.filter_map(|field| {
        let value = reference(&field.kind, foreign)?;
        let name = field.name.to_string();
        Some((name.clone(), Map::from_iter([(name, value)])))
    });
    Ok(changes.collect())
}

/// Bodies with the unique values of the tenant and of the other one.
fn taken(it: &Stage, module: &CompiledModule) -> Result<Vec<(String, Map<String, Json>)>> {
    let kin = it.kin(module)?;
    let mut bodies = Vec::new();
    for field in module
        .writable()
        .filter(|field| field.unique && !field.kind.is_reference())
    {
        for (whose, values) in [("own", &kin.known), ("foreign", &kin.foreign)] {
            if let Some(value) = values.get(field.name.as_str()) {
                let mut body = it.body(module)?;
                body.insert(field.name.to_string(), value.clone());
                bodies.push((format!("the {whose} {}", field.name), body));
            }
        }
    }
    Ok(bodies)
}

async fn version(it: &Stage, scope: &Scope, module: &CompiledModule, id: RecordId) -> Option<i64> {
    let permit = scope.permit::<Read>(module.name().as_str()).ok()?;
    let record = it.crm.records().find(&permit, id).await.ok()??;
    Some(record.version)
}

/// A condition that all records meet.
fn everything(scope: &Scope, module: &CompiledModule) -> Result<Filter> {
    Filter::parse_for(scope, module, "created_at", "gte", "2000-01-01T00:00:00Z").map_err(invalid)
}

async fn listed(it: &Stage, scope: &Scope, module: &CompiledModule) -> Result<()> {
    let permit = scope.permit::<Read>(module.name().as_str())?;
    let page = it.crm.records().list(&permit, &Query::default()).await;
    it.say("list", page.map(|page| page.data));
    Ok(())
}

/// What refers to the module's records, as it stands now.
async fn referring(it: &Stage, scope: &Scope, module: &CompiledModule) -> Result<()> {
    let refers = |other: &&std::sync::Arc<CompiledModule>| {
        let mut fields = other.fields().iter();
        fields.any(|field| field.kind.targets().contains(module.name()))
    };
    for other in scope.modules().filter(refers) {
        listed(it, scope, other).await?;
    }
    Ok(())
}

async fn exports(it: &Stage) -> Result<()> {
    let (scope, module) = operator(it).await?;
    let permit = scope.permit::<Read>(module.name().as_str())?;
    let export = it
        .crm
        .transfer()
        .export(permit, Query::default(), Format::Ndjson);
    let mut export = export?;
    while let Some(text) = export.next().await? {
        it.say("a page of the export", Ok(text));
    }
    Ok(())
}

async fn imports(it: &Stage) -> Result<()> {
    let (scope, module) = operator(it).await?;
    let name = module.name().as_str();
    let kin = it.kin(&module)?;
    let mut bodies: Vec<Map<String, Json>> = vec![it.body(&module)?];
    bodies.extend(taken(it, &module)?.into_iter().map(|(_, body)| body));
    bodies.extend(
        foreign_references(it, &module, true)?
            .into_iter()
            .map(|(_, body)| body),
    );
    for owner in [it.cast.bob, it.cast.carl] {
        let mut body = it.body(&module)?;
        body.insert("owner_id".into(), owner.to_string().into());
        bodies.push(body);
    }
    let mut modes = vec![(ImportMode::Create, None, bodies)];
    for field in module.fields().iter().filter(|field| field.is_key()) {
        let known = [&kin.known, &kin.foreign].into_iter();
        let bodies = known.filter_map(|values| {
            let mut body = it.body(&module).ok()?;
            body.insert(
                field.name.to_string(),
                values.get(field.name.as_str())?.clone(),
            );
            Some(body)
        });
        modes.push((
            ImportMode::Upsert,
            Some(field.name.to_string()),
            bodies.collect(),
        ));
    }
    for (mode, key, bodies) in modes {
        let options = ImportOptions {
            mode,
            key,
            ..ImportOptions::new(Format::Ndjson)
        };
        let mut upload = it.crm.transfer().import(&scope, name, options).await?;
        for body in bodies {
            upload
                .push(format!("{}\n", Json::Object(body)).as_bytes())
                .await?;
        }
        let job = upload.finish().await?;
        it.say("import", it.crm.run_job(&scope, job).await);
        let done = it.crm.jobs().get(&scope, job).await;
        it.say(
            "the import",
            done.map(|job| (job.state, job.result, job.error)),
        );
        it.say(
            "its errors",
            it.crm.jobs().errors(&scope, job, 0, 100).await,
        );
    }
    listed(it, &scope, &module).await
}

fn rights_on_rows(it: &Stage) -> BoxFuture<'_, Result<()>> {
    async move {
        let module = it.module().await?;
        let name = module.name().as_str();
        let scope = it.user(it.cast.bob).await?;
        listed(it, &scope, &module).await?;
        let read = scope.permit::<Read>(name)?;
        let update = scope.permit::<Update>(name)?;
        let delete = scope.permit::<Delete>(name)?;
        let create = scope.permit::<Create>(name)?;
        let records = it.crm.records();
        let ask = Aggregate {
            metrics: vec![Metric::parse(&module, "count").map_err(invalid)?],
            ..Aggregate::default()
        };
        it.say("count", records.aggregate(&read, &ask).await);
        let operator = it.operator().await?;
        for (whose, id) in it.ids(&module)? {
            it.say(format!("get {whose}"), records.get(&read, id).await);
            let expected = version(it, &operator, &module, id).await.or(Some(1));
            let done = records
                .update(&update, id, expected, it.change(&module)?)
                .await;
            it.say(format!("update {whose}"), done);
        }
        it.say("create", records.create(&create, it.body(&module)?).await);
        // To what somebody else owns, here.
        let hidden: Target<'_> = &|name| it.cast.kin.get(name)?.both.first().copied();
        for (name, body) in references(it, &module, hidden)? {
            let made = records.create(&create, body).await;
            it.say(format!("create with {name} to a hidden record"), made);
        }
        let mut change = it.change(&module)?;
        change.retain(|name, _| module.field(name).is_some_and(|field| !field.unique));
        let filter = everything(&scope, &module)?;
        if let Ok(many) = Many::update(&read, &update, filter, change, None) {
            it.say("update all", records.write_many(many).await);
        }
        for (whose, id) in it.ids(&module)? {
            let expected = version(it, &operator, &module, id).await.or(Some(1));
            let done = records.delete(&delete, id, expected).await;
            it.say(format!("delete {whose}"), done);
        }
        listed(it, &operator, &module).await
    }
    .boxed()
}
