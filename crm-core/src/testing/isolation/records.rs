//! The doors of records, tried on every module.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Map, Value as Json, json};

use super::cast::{Target, invalid, is_free, reference};
use super::stage::{Play, Stage};
use super::stock::ONCE;
use crate::error::{Error, Result};
use crate::id::RecordId;
use crate::module::{CompiledModule, FieldType};
use crate::record::{
    Aggregate, Count, Filter, Funnel, GroupKey, MAX_EXPAND, Many, MaxAge, Merge, Metric, Nearest,
    Once, Query, Record, Reply, Sort, View, Work, Write, operators,
};
use crate::scope::{Create, Delete, Purge, Read, Scope, Update};
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

async fn reads(it: &Stage) -> Result<()> {
    let (scope, module) = operator(it).await?;
    let permit = scope.permit::<Read>(module.name().as_str())?;
    let mut records = Vec::new();
    for (whose, id) in it.ids(&module)? {
        let found = it.crm.records().find(&permit, id).await?;
        it.say(format!("find {whose}"), Ok(&found));
        it.say(
            format!("get {whose}"),
            it.crm.records().get(&permit, id).await,
        );
        records.extend(found);
    }
    let references = module
        .fields()
        .iter()
        .filter(|field| field.kind.is_reference());
    let names: Vec<&str> = references.map(|field| field.name.as_str()).collect();
    let mut view = View::default();
    let names = names.into_iter().take(MAX_EXPAND);
    view.expand(it.crm.registry(), &module, names)
        .map_err(invalid)?;
    let viewed = it.crm.records().view(&permit, records, &view).await;
    let viewed = viewed.map(|records| serde_json::to_string(&records).unwrap_or_default());
    it.say("expand", viewed);
    for field in module.readable() {
        let FieldType::Vector { dimensions } = field.kind else {
            continue;
        };
        let vector = (0..dimensions).map(|at| json!(if at == 0 { 1.0 } else { -0.5 }));
        let vector: Vec<Json> = vector.collect();
        let mut ask = Nearest::new(&module, field.name.as_str(), &vector).map_err(invalid)?;
        ask.limit = 1;
        let found = it.crm.records().nearest(&permit, &ask).await;
        let found = found.map(|found| {
            found
                .iter()
                .map(|one| (one.score, one.record.id, one.record.version))
                .collect::<Vec<_>>()
        });
        it.say("nearest", found);
    }
    Ok(())
}

/// The pages of a query, at most a few of them.
async fn pages(
    it: &Stage,
    scope: &Scope,
    module: &CompiledModule,
    what: &str,
    query: Query,
) -> Result<()> {
    let permit = scope.permit::<Read>(module.name().as_str())?;
    let mut query = query;
    for page in 1..=3 {
        let answer = it.crm.records().list(&permit, &query).await;
        let next = answer
            .as_ref()
            .ok()
            .and_then(|page| page.next_cursor.clone());
        let told = answer.map(|page| (brief(&page.data), page.total, page.number));
        it.say(format!("{what}, page {page}"), told);
        if next.is_none() {
            break;
        }
        query.cursor = next;
    }
    Ok(())
}

async fn lists(it: &Stage) -> Result<()> {
    let (scope, module) = operator(it).await?;
    let few = || Query {
        limit: 2,
        count: Count::Exact,
        ..Query::default()
    };
    pages(it, &scope, &module, "list", few()).await?;
    let capped = Query {
        count: Count::Capped,
        ..Query::default()
    };
    let permit = scope.permit::<Read>(module.name().as_str())?;
    it.say("count", it.crm.records().count(&permit, &capped).await);
    let numbered = Query {
        page: Some(2),
        count: Count::Capped,
        ..few()
    };
    it.say(
        "page 2",
        it.crm
            .records()
            .list(&permit, &numbered)
            .await
            .map(|page| brief(&page.data)),
    );
    let foreign = Query {
        cursor: it.kin(&module)?.cursor.clone(),
        ..few()
    };
    pages(it, &scope, &module, "list from a foreign cursor", foreign).await?;
    for position in module.sortable() {
        let name = module.fields()[*position].name.as_str();
        for sort in [name.to_owned(), format!("-{name}")] {
            let query = Query {
                sort: Sort::parse_list(&module, &sort).map_err(invalid)?,
                ..few()
            };
            pages(it, &scope, &module, &format!("list by {sort}"), query).await?;
        }
    }
    Ok(())
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

async fn filters(it: &Stage) -> Result<()> {
    let (scope, module) = operator(it).await?;
    let kin = it.kin(&module)?;
    let mut asked: BTreeMap<String, (String, String, String)> = BTreeMap::new();
    for (whose, body) in [("own", &kin.known), ("foreign", &kin.foreign)] {
        for field in module.readable() {
            let value = body.get(field.name.as_str()).and_then(parameter);
            let Some(text) = value else { continue };
            for op in ["eq", "has", "has_all", "starts", "is_null"] {
                if operators(&field.kind).any(|known| known == op) {
                    let text = if op == "is_null" { "true" } else { &text };
                    let asks = (field.name.to_string(), op.to_owned(), text.to_owned());
                    asked.insert(format!("{}[{op}] of {whose}", field.name), asks);
                }
            }
        }
    }
    for field in module.readable().filter(|field| field.kind.is_reference()) {
        for target in field.kind.targets() {
            let (name, other) = (target.as_str(), it.cast.kin.get(target.as_str()));
            let module = scope.module(name).cloned();
            let (Some(other), Some(module)) = (other, module) else {
                continue;
            };
            for (whose, body) in [("own", &other.known), ("foreign", &other.foreign)] {
                let first = module.readable().find_map(|field| {
                    let value = body.get(field.name.as_str()).and_then(parameter)?;
                    let equal = operators(&field.kind).any(|known| known == "eq");
                    (equal && !field.kind.is_reference()).then(|| (field.name.to_string(), value))
                });
                let Some((behind, value)) = first else {
                    continue;
                };
                let path = format!("{}.{behind}", field.name);
                asked.insert(format!("{path} of {whose}"), (path, "eq".to_owned(), value));
            }
        }
        // Each record that it may lead to, and one that the other tenant alone has.
        let most = it
            .cast
            .kin
            .values()
            .map(|kin| kin.both.len())
            .max()
            .unwrap_or_default();
        for at in 0..=most {
            let target: Target<'_> = &|name| {
                let kin = it.cast.kin.get(name)?;
                kin.both.get(at).or(kin.other.first()).copied()
            };
            if let Some(text) = reference(&field.kind, target).as_ref().and_then(parameter) {
                let many = matches!(field.kind, FieldType::References { .. });
                let op = if many { "has" } else { "eq" };
                let asks = (field.name.to_string(), op.to_owned(), text);
                asked.insert(format!("{} to record {at}", field.name), asks);
            }
        }
    }
    let permit = scope.permit::<Read>(module.name().as_str())?;
    for (what, (name, op, text)) in asked {
        let query = Filter::parse_for(&scope, &module, &name, &op, &text).map(|filter| Query {
            filter: Some(filter),
            count: Count::Exact,
            ..Query::default()
        });
        let Ok(query) = query else { continue };
        let found = it.crm.records().list(&permit, &query).await;
        it.say(what, found.map(|page| (brief(&page.data), page.total)));
    }
    Ok(())
}

async fn searches(it: &Stage) -> Result<()> {
    let (scope, module) = operator(it).await?;
    let kin = it.kin(&module)?;
    let permit = scope.permit::<Read>(module.name().as_str())?;
    // The second time an index may have been made.
    for round in ["first", "second"] {
        for position in module.searchable() {
            let name = module.fields()[*position].name.as_str();
            for (whose, body) in [("own", &kin.known), ("foreign", &kin.foreign)] {
                let Some(text) = body.get(name).and_then(parameter) else {
                    continue;
                };
                let query = Query {
                    search: Some(text.to_uppercase()),
                    count: Count::Exact,
                    ..Query::default()
                };
                let found = it.crm.records().list(&permit, &query).await;
                let found = found.map(|page| (brief(&page.data), page.total));
                it.say(format!("{round} search in {name}, {whose}"), found);
            }
        }
        for _ in 0..3 {
            it.crm.upkeep_once().await?;
        }
        // Changed and new records, which the index does not know as they are.
        let update = scope.permit::<Update>(module.name().as_str())?;
        if let Some(id) = kin.both.get(1) {
            let version = it.crm.records().get(&permit, *id).await?.version;
            let change = it.change(&module)?;
            let changed = it
                .crm
                .records()
                .update(&update, *id, Some(version), change)
                .await;
            it.say("change", changed.map(|record| record.version));
        }
        let create = scope.permit::<Create>(module.name().as_str())?;
        let made = it.crm.records().create(&create, it.body(&module)?).await;
        it.say("create", made.map(|record| record.id));
    }
    Ok(())
}

async fn figures(it: &Stage) -> Result<()> {
    let (scope, module) = operator(it).await?;
    let permit = scope.permit::<Read>(module.name().as_str())?;
    let names: Vec<&str> = module.readable().map(|field| field.name.as_str()).collect();
    let mut metrics = vec![Metric::parse(&module, "count").map_err(invalid)?];
    for name in &names {
        for function in ["sum", "max", "distinct"] {
            metrics.extend(Metric::parse(&module, &format!("{function}:{name}")));
        }
    }
    for metrics in metrics.chunks(Aggregate::MAX_METRICS) {
        let ask = Aggregate {
            metrics: metrics.to_vec(),
            ..Aggregate::default()
        };
        it.say("aggregate", it.crm.records().aggregate(&permit, &ask).await);
        let kept = it
            .crm
            .records()
            .figures(&permit, &ask, MaxAge::seconds(60)?)
            .await;
        it.say("kept figures", kept.map(|figures| figures.groups));
    }
    let count = Metric::parse(&module, "count").map_err(invalid)?;
    for name in &names {
        let Ok(key) = GroupKey::parse(&module, name) else {
            continue;
        };
        let ask = Aggregate {
            group_by: vec![key],
            metrics: vec![count],
            ..Aggregate::default()
        };
        let groups = it.crm.records().aggregate(&permit, &ask).await;
        it.say(format!("count by {name}"), groups);
    }
    for field in module
        .readable()
        .filter(|field| matches!(field.kind, FieldType::Enum { .. }))
    {
        let funnel = Funnel::new(&module, field.name.as_str(), &[], None).map_err(invalid)?;
        let groups = it
            .crm
            .records()
            .aggregate(&permit, funnel.aggregate())
            .await;
        it.say("funnel", groups.map(|groups| funnel.stages(&groups)));
    }
    Ok(())
}

async fn duplicates(it: &Stage) -> Result<()> {
    let (scope, module) = operator(it).await?;
    let name = module.name().as_str();
    let permit = scope.permit::<Read>(name)?;
    let create = scope.permit::<Create>(name)?;
    // Like the first record, and like one of the other tenant, in all but what is unique.
    let kin = it.kin(&module)?;
    let unique = |name: &String| module.field(name).is_some_and(|field| field.unique);
    for like in [&kin.known, &kin.foreign] {
        let mut body = it.body(&module)?;
        body.extend(
            like.iter()
                .filter(|(name, _)| !unique(name))
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        it.say(
            "create",
            it.crm
                .records()
                .create(&create, body)
                .await
                .map(|record| record.id),
        );
    }
    let page = it.crm.records().duplicates(&permit, 20, None).await;
    let told = page.map(|page| {
        let groups = page.data.iter();
        groups
            .map(|group| (group.key.clone(), group.count, brief(&group.records)))
            .collect::<Vec<_>>()
    });
    it.say("duplicates", told);
    for (whose, id) in it.ids(&module)? {
        let found = it.crm.records().duplicates_of(&permit, id).await;
        let told = found.map(|found| {
            let groups = found.iter();
            groups
                .map(|group| (group.count, brief(&group.records)))
                .collect::<Vec<_>>()
        });
        it.say(format!("duplicates of {whose}"), told);
    }
    Ok(())
}

/// A body for each reference, where it leads to a record of the other tenant alone.
fn foreign_references(
    it: &Stage,
    module: &CompiledModule,
    full: bool,
) -> Result<Vec<(String, Map<String, Json>)>> {
    let foreign: Target<'_> = &|name| it.cast.kin.get(name)?.other.first().copied();
    let mut bodies = Vec::new();
    for field in module.writable().filter(|field| field.kind.is_reference()) {
        let mut body = if full { it.body(module)? } else { Map::new() };
        if !full && !is_free(module, field) {
            continue;
        }
        if let Some(value) = reference(&field.kind, foreign) {
            body.insert(field.name.to_string(), value);
            bodies.push((field.name.to_string(), body));
        }
    }
    Ok(bodies)
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

async fn creates(it: &Stage) -> Result<()> {
    let (scope, module) = operator(it).await?;
    let permit = scope.permit::<Create>(module.name().as_str())?;
    let records = it.crm.records();
    it.say("create", records.create(&permit, it.body(&module)?).await);
    for (what, body) in taken(it, &module)? {
        it.say(
            format!("create with {what}"),
            records.create(&permit, body).await,
        );
    }
    for (name, body) in foreign_references(it, &module, true)? {
        let what = format!("create with {name} to a foreign record");
        it.say(what, records.create(&permit, body).await);
    }
    for (whose, owner) in [("own", it.cast.bob), ("foreign", it.cast.carl)] {
        let mut body = it.body(&module)?;
        body.insert("owner_id".into(), owner.to_string().into());
        let made = records.create(&permit, body).await;
        it.say(format!("create for the {whose} member"), made);
    }
    Ok(())
}

async fn version(it: &Stage, scope: &Scope, module: &CompiledModule, id: RecordId) -> Option<i64> {
    let permit = scope.permit::<Read>(module.name().as_str()).ok()?;
    let record = it.crm.records().find(&permit, id).await.ok()??;
    Some(record.version)
}

async fn updates(it: &Stage) -> Result<()> {
    let (scope, module) = operator(it).await?;
    let permit = scope.permit::<Update>(module.name().as_str())?;
    let records = it.crm.records();
    for (whose, id) in it.ids(&module)? {
        let change = it.change(&module)?;
        let expected = version(it, &scope, &module, id).await.or(Some(1));
        let done = records.update(&permit, id, expected, change).await;
        it.say(format!("update {whose}"), done);
    }
    let kin = it.kin(&module)?;
    let id = *kin.both.first().ok_or(Error::NotFound)?;
    let plain = |name: &str| {
        json!({ name: null })
            .as_object()
            .cloned()
            .unwrap_or_default()
    };
    for (name, body) in foreign_references(it, &module, false)? {
        let expected = version(it, &scope, &module, id).await;
        let what = format!("update {name} to a foreign record");
        it.say(what, records.update(&permit, id, expected, body).await);
        let expected = version(it, &scope, &module, id).await;
        it.say(
            format!("clear {name}"),
            records.update(&permit, id, expected, plain(&name)).await,
        );
    }
    for (whose, owner) in [("own", it.cast.bob), ("foreign", it.cast.carl)] {
        let body = Map::from_iter([("owner_id".to_owned(), owner.to_string().into())]);
        let expected = version(it, &scope, &module, id).await;
        let done = records.update(&permit, id, expected, body).await;
        it.say(format!("give to the {whose} member"), done);
    }
    Ok(())
}

async fn upserts(it: &Stage) -> Result<()> {
    let (scope, module) = operator(it).await?;
    let name = module.name().as_str();
    let (create, update) = (scope.permit::<Create>(name)?, scope.permit::<Update>(name)?);
    let kin = it.kin(&module)?;
    for field in module.fields().iter().filter(|field| field.is_key()) {
        for (whose, values) in [("own", &kin.known), ("foreign", &kin.foreign)] {
            let Some(value) = values.get(field.name.as_str()) else {
                continue;
            };
            let mut body = it.body(&module)?;
            body.insert(field.name.to_string(), value.clone());
            let by = field.name.as_str();
            let done = it.crm.records().upsert(&create, &update, by, body).await;
            it.say(format!("upsert by the {whose} {by}"), done);
        }
    }
    Ok(())
}

async fn batches(it: &Stage) -> Result<()> {
    let module = it.module().await?;
    let name = module.name().as_str();
    let scope = it.user(it.cast.ann).await?;
    let (create, update) = (scope.permit::<Create>(name)?, scope.permit::<Update>(name)?);
    let delete = scope.permit::<Delete>(name)?;
    for key in ONCE.iter().chain(&["isolation-new", "isolation-new"]) {
        let mut writes = vec![Write::create(&create, it.body(&module)?)];
        for (_, id) in it.ids(&module)? {
            let expected = version(it, &scope, &module, id).await.or(Some(1));
            let change = it.change(&module)?;
            writes.push(Write::update(&update, id, expected, change));
        }
        if let Some(id) = it.kin(&module)?.other.first() {
            writes.push(Write::delete(&delete, *id, Some(1)));
        }
        let once = Once::new(&scope, key, [b"", b"", b"", b""])?;
        let reply = |outcomes: Vec<Result<_>>| {
            let outcomes: Vec<_> = outcomes
                .into_iter()
                .map(|outcome: Result<crate::record::Written>| match outcome {
                    Ok(written) => format!("{:?} {}", written.kind, written.record.id),
                    Err(error) => error.code().to_owned(),
                })
                .collect();
            Ok(Reply {
                status: 200,
                record: None,
                body: Some(outcomes.join(" ")),
            })
        };
        let done = it
            .crm
            .records()
            .perform(Work::Each(writes), Some(once), reply)
            .await;
        let done = done.map_err(|refused| refused.error);
        it.say(format!("a batch with the key {key}"), done);
    }
    Ok(())
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

async fn bulk_updates(it: &Stage) -> Result<()> {
    let (scope, module) = operator(it).await?;
    let name = module.name().as_str();
    let (read, update) = (scope.permit::<Read>(name)?, scope.permit::<Update>(name)?);
    let plain = |name: &String| module.field(name).is_some_and(|field| !field.unique);
    let mut change = it.change(&module)?;
    change.retain(|name, _| plain(name));
    let bodies = foreign_references(it, &module, false)?;
    let bodies = bodies.into_iter().map(|(_, body)| body).chain([change]);
    for body in bodies {
        let filter = everything(&scope, &module)?;
        let done = match Many::update(&read, &update, filter, body, None) {
            Ok(many) => it.crm.records().write_many(many).await,
            Err(refused) => Err(refused),
        };
        it.say("update all", done);
    }
    listed(it, &scope, &module).await
}

async fn bulk_deletes(it: &Stage) -> Result<()> {
    let (scope, module) = operator(it).await?;
    let name = module.name().as_str();
    let (read, delete) = (scope.permit::<Read>(name)?, scope.permit::<Delete>(name)?);
    let many = Many::delete(&read, &delete, everything(&scope, &module)?, None)?;
    it.say("delete all", it.crm.records().write_many(many).await);
    listed(it, &scope, &module).await
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

async fn deletes(it: &Stage) -> Result<()> {
    let (scope, module) = operator(it).await?;
    let permit = scope.permit::<Delete>(module.name().as_str())?;
    for (whose, id) in it.ids(&module)?.into_iter().rev() {
        let expected = version(it, &scope, &module, id).await.or(Some(1));
        let done = it.crm.records().delete(&permit, id, expected).await;
        it.say(format!("delete {whose}"), done);
        referring(it, &scope, &module).await?;
    }
    listed(it, &scope, &module).await
}

async fn trash(it: &Stage) -> Result<()> {
    let (scope, module) = operator(it).await?;
    if !module.spec().soft_delete {
        return Ok(());
    }
    let name = module.name().as_str();
    let (read, delete) = (scope.permit::<Read>(name)?, scope.permit::<Delete>(name)?);
    let purge = scope.permit::<Purge>(name)?;
    let (records, kin) = (it.crm.records(), it.kin(&module)?);
    let all = Query::default();
    let shown = records.trash(&read, &delete, &all).await;
    it.say("the trash", shown.map(|page| page.data));
    for id in kin.trashed.iter().chain(kin.other.first()) {
        it.say("restore", records.restore(&delete, *id, None).await);
        it.say("purge", records.purge(&purge, *id, None).await);
    }
    for id in &kin.both {
        let expected = version(it, &scope, &module, *id).await;
        let done = records.delete(&delete, *id, expected).await;
        it.say("delete", done);
    }
    if let Some(id) = kin.both.first() {
        it.say("restore", records.restore(&delete, *id, None).await);
        let expected = version(it, &scope, &module, *id).await;
        it.say("delete", records.delete(&delete, *id, expected).await);
    }
    for id in kin.both.iter().take(2) {
        it.say("purge", records.purge(&purge, *id, None).await);
    }
    let later = it.crm.clock().now() + TimeDelta::days(1);
    it.say("purge all", records.purge_before(&purge, later).await);
    let shown = records.trash(&read, &delete, &all).await;
    it.say("the trash", shown.map(|page| page.data));
    referring(it, &scope, &module).await
}

async fn merges(it: &Stage) -> Result<()> {
    let (scope, module) = operator(it).await?;
    let name = module.name().as_str();
    let (read, update) = (scope.permit::<Read>(name)?, scope.permit::<Update>(name)?);
    let delete = scope.permit::<Delete>(name)?;
    let kin = it.kin(&module)?;
    let (Some(first), Some(second)) = (kin.both.first(), kin.both.get(1)) else {
        return Ok(());
    };
    let foreign = kin.other.first().copied();
    let pairs = [
        (Some(*first), foreign),
        (foreign, Some(*first)),
        (Some(*first), Some(*second)),
    ];
    for (survivor, from) in pairs {
        let (Some(survivor), Some(from)) = (survivor, from) else {
            continue;
        };
        let expected = version(it, &scope, &module, survivor).await.or(Some(1));
        let merge = Merge {
            from: vec![(from, version(it, &scope, &module, from).await.or(Some(1)))],
            take: Vec::new(),
        };
        let merge = Write::merge(&read, &update, &delete, survivor, expected, merge)?;
        it.say("merge", it.crm.records().merge(merge).await);
    }
    referring(it, &scope, &module).await?;
    listed(it, &scope, &module).await
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
