//! The records that the tenants have.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::operator;
use crate::crm::Crm;
use crate::error::{Error, Result};
use crate::id::{RecordId, TenantId, UserId};
use crate::module::{CompiledModule, FieldSpec};
use crate::record::Query;
use crate::scope::{Create, Delete, Read, Scope, Update};
use crate::testing::isolation::cast::{self, Cast, Kin, body};
use crate::testing::isolation::stage::request;
use crate::testing::isolation::{IsolationBroken, need};

/// Records of each module that both tenants have.
const RECORDS: usize = 3;

/// Records of all modules: those that others must refer to come first.
pub(super) async fn records(
    crm: &Crm,
    tenant: TenantId,
    ann: UserId,
    bob: UserId,
) -> Result<BTreeMap<String, Kin>, IsolationBroken> {
    let operator = need("a scope", operator(crm, tenant).await)?;
    let owner = need(
        "a scope",
        crate::testing::scope(crm, tenant, ann, request()).await,
    )?;
    let owner = owner.as_ref().unwrap_or(&operator);
    let mut kin: BTreeMap<String, Kin> = BTreeMap::new();
    let mut left: Vec<_> = operator.modules().cloned().collect();
    while !left.is_empty() {
        let before = left.len();
        let mut waiting = Vec::new();
        for module in left {
            let target = |name: &str| kin.get(name)?.both.first().copied();
            if body(&module, 0, &target, |_| true).is_none() {
                waiting.push(module);
                continue;
            }
            let made = some(crm, [owner, &operator], &module, &kin, bob).await;
            let made = need(format_args!("records of {}", module.name()), made)?;
            kin.insert(module.name().to_string(), made);
        }
        left = waiting;
        if left.len() == before {
            let names: Vec<_> = left.iter().map(|module| module.name().as_str()).collect();
            let message = "their required references lead in a circle";
            let refused = Err(Error::Configuration(message.into()));
            need(format_args!("records of {}", names.join(", ")), refused)?;
        }
    }
    need("references", refer(crm, &operator, &kin).await)?;
    Ok(kin)
}

async fn some(
    crm: &Crm,
    [owner, operator]: [&Scope; 2],
    module: &CompiledModule,
    all: &BTreeMap<String, Kin>,
    bob: UserId,
) -> Result<Kin> {
    let name = module.name().as_str();
    let mut kin = Kin::default();
    for at in 0..RECORDS + 1 {
        let target = |name: &str| {
            let kin = all.get(name)?;
            kin.both.get(at).or(kin.both.last()).copied()
        };
        // The twin's stand between them.
        let number = (u64::try_from(at).unwrap_or_default() + 1) * 10;
        let mut body = body(module, number, &target, |_| true).ok_or(Error::NotFound)?;
        if at == 0 {
            kin.known = body.clone();
        }
        if at == 2 {
            body.insert("owner_id".into(), bob.to_string().into());
        }
        let scope = if at == 0 { owner } else { operator };
        if at < RECORDS {
            let permit = scope.permit::<Create>(name)?;
            kin.both.push(crm.records().create(&permit, body).await?.id);
        } else if module.spec().soft_delete {
            let unique_targets = module.fields().iter();
            if unique_targets
                .clone()
                .any(|field| field.unique && field.kind.is_reference())
            {
                continue;
            }
            let permit = scope.permit::<Create>(name)?;
            let record = crm.records().create(&permit, body).await?;
            let permit = scope.permit::<Delete>(name)?;
            let version = Some(record.version);
            crm.records().delete(&permit, record.id, version).await?;
            kin.trashed.push(record.id);
        }
    }
    Ok(kin)
}

/// References that had no target when their record was made.
async fn refer(crm: &Crm, scope: &Scope, kin: &BTreeMap<String, Kin>) -> Result<()> {
    for module in scope.modules() {
        let name = module.name().as_str();
        let own = kin.get(name).ok_or(Error::NotFound)?;
        let permit = scope.permit::<Update>(name)?;
        let read = scope.permit::<Read>(name)?;
        // The record of the same place: none refers to itself but in modules that refer to their
        // own.
        for (at, id) in own.both.iter().enumerate().skip(1) {
            let target = |other: &str| {
                let at = if other == name { at - 1 } else { at };
                kin.get(other)?.both.get(at).copied()
            };
            let record = crm.records().get(&read, *id).await?;
            let empty = |field: &FieldSpec| {
                let value = record.get(field.name.as_str());
                field.kind.is_reference()
                    && cast::is_free(module, field)
                    && value.is_none_or(crate::value::Value::is_null)
            };
            let Some(change) = body(module, 0, &target, empty) else {
                continue;
            };
            if !change.is_empty() {
                let version = Some(record.version);
                // A record in a final state takes no change.
                let _ = crm.records().update(&permit, *id, version, change).await;
            }
        }
    }
    Ok(())
}

/// Records that only the twin has, and other contents of those that both have.
pub(super) async fn more_records(
    crm: &Crm,
    scope: &Scope,
    cast: &mut Cast,
) -> Result<(), IsolationBroken> {
    let names: Vec<String> = cast.kin.keys().cloned().collect();
    for name in names {
        let made = foreign(crm, scope, cast, &name).await;
        let (other, foreign, cursor) = need(format_args!("more records of {name}"), made)?;
        let kin = cast.kin.entry(name).or_default();
        (kin.other, kin.foreign, kin.cursor) = (other, foreign, cursor);
    }
    Ok(())
}

async fn foreign(
    crm: &Crm,
    scope: &Scope,
    cast: &Cast,
    name: &str,
) -> Result<(Vec<RecordId>, Map<String, Json>, Option<String>)> {
    let module = scope.module(name).ok_or(Error::NotFound)?;
    let records = crm.records();
    let (create, update) = (scope.permit::<Create>(name)?, scope.permit::<Update>(name)?);
    let read = scope.permit::<Read>(name)?;
    let target = |name: &str| cast.kin.get(name)?.both.last().copied();
    let plain = |field: &FieldSpec| !(field.unique && field.kind.is_reference());
    let mut first = Map::new();
    let mut made = Vec::new();
    // By bob, who sees his own: what he owns elsewhere is not here.
    for (number, owner) in [(5, Some(cast.bob)), (26, None), (27, None)] {
        // The last one has no more than it must.
        let wanted = |field: &FieldSpec| plain(field) && (field.required || number != 27);
        let Some(mut body) = body(module, number, &target, wanted) else {
            continue;
        };
        if first.is_empty() {
            first = body.clone();
        }
        if let Some(owner) = owner {
            body.insert("owner_id".into(), owner.to_string().into());
        }
        match records.create(&create, body).await {
            Err(_) if number == 27 => {}
            record => made.push(record?.id),
        }
    }
    let kin = cast.kin(module)?;
    for (at, id) in kin.both.iter().enumerate() {
        let next = |name: &str| {
            let both = &cast.kin.get(name)?.both;
            both.get((at + 1) % both.len()).copied()
        };
        let number = u64::try_from(at).unwrap_or_default() * 10 + 15;
        for references in [false, true] {
            let changed = |field: &FieldSpec| {
                let free = !field.unique && cast::is_free(module, field);
                free && field.kind.is_reference() == references
            };
            let change = body(module, number, &next, changed).unwrap_or_default();
            let version = records.get(&read, *id).await?.version;
            if !change.is_empty() {
                // A record in a final state takes no change.
                let _ = records.update(&update, *id, Some(version), change).await;
            }
        }
    }
    let query = Query {
        limit: 1,
        ..Query::default()
    };
    let cursor = records.list(&read, &query).await?.next_cursor;
    Ok((made, first, cursor))
}
