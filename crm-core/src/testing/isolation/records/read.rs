//! The doors that show records: one by one, in lists, by search, as figures, and as duplicates.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::{brief, operator, parameter};
use crate::error::Result;
use crate::module::{CompiledModule, FieldType};
use crate::record::{
    Aggregate, Count, Filter, Funnel, GroupKey, MAX_EXPAND, MaxAge, Metric, Nearest, Query, Sort,
    View, operators,
};
use crate::scope::{Create, Read, Scope, Update};
use crate::testing::isolation::cast::{Target, invalid, reference};
use crate::testing::isolation::stage::Stage;

pub(super) async fn reads(it: &Stage) -> Result<()> {
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
    view.expand(&scope, &module, names).map_err(invalid)?;
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

pub(super) async fn lists(it: &Stage) -> Result<()> {
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

pub(super) async fn filters(it: &Stage) -> Result<()> {
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

pub(super) async fn searches(it: &Stage) -> Result<()> {
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

pub(super) async fn figures(it: &Stage) -> Result<()> {
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

pub(super) async fn duplicates(it: &Stage) -> Result<()> {
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
