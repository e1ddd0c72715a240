//! The doors that write records: one, several or all that match, the trash, and merges.

use chrono::TimeDelta;
use serde_json::{Map, json};

use super::{everything, foreign_references, listed, operator, referring, taken, version};
use crate::error::{Error, Result};
use crate::record::{Many, Merge, Once, Query, Reply, Work, Write};
use crate::scope::{Create, Delete, Purge, Read, Update};
use crate::testing::isolation::stage::Stage;
use crate::testing::isolation::stock::ONCE;

pub(super) async fn creates(it: &Stage) -> Result<()> {
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

pub(super) async fn updates(it: &Stage) -> Result<()> {
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

pub(super) async fn upserts(it: &Stage) -> Result<()> {
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

pub(super) async fn batches(it: &Stage) -> Result<()> {
    let module = it.module().await?;
    let name = module.name().as_str();
    let scope = it.user(it.cast.ann).await?;
    let (create, update) = (scope.permit::<Create>(name)?, scope.permit::<Update>(name)?);
    let delete = scope.permit::<Delete>(name)?;
    // The first one again: what was forgotten meanwhile is done anew.
    let again = ["isolation-new", "isolation-new", ONCE[0]];
    for key in ONCE.iter().chain(&again) {
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
            .perform(&scope, Work::Each(writes), Some(once), reply)
            .await;
        let done = done.map_err(|refused| refused.error);
        it.say(format!("a batch with the key {key}"), done);
    }
    Ok(())
}

pub(super) async fn bulk_updates(it: &Stage) -> Result<()> {
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

pub(super) async fn bulk_deletes(it: &Stage) -> Result<()> {
    let (scope, module) = operator(it).await?;
    let name = module.name().as_str();
    let (read, delete) = (scope.permit::<Read>(name)?, scope.permit::<Delete>(name)?);
    let many = Many::delete(&read, &delete, everything(&scope, &module)?, None)?;
    it.say("delete all", it.crm.records().write_many(many).await);
    listed(it, &scope, &module).await
}

pub(super) async fn deletes(it: &Stage) -> Result<()> {
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

pub(super) async fn trash(it: &Stage) -> Result<()> {
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

pub(super) async fn merges(it: &Stage) -> Result<()> {
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
