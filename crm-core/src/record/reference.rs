//! Whom a record may refer to: records of the same tenant that the writer may see (XC-02).

use std::collections::HashSet;

use uuid::Uuid;

use crate::crm::Core;
use crate::db::{Dialect, Row, Sql, Tx};
use crate::error::{Error, FieldError, Result};
use crate::id::{RecordId, TenantId};
use crate::module::{CompiledModule, FieldType, Ident};
use crate::scope::{Read, Scope};
use crate::value::Value;

/// Ids that one statement looks for.
const CHUNK: usize = 4_000;

/// The records that a field's value names.
pub(super) struct Named<'m> {
    /// The field's position.
    pub(super) field: usize,
    pub(super) target: &'m Ident,
    pub(super) ids: Vec<Uuid>,
}

/// What the field at `field` newly refers to, when it had the value `before` and gets this one.
pub(super) fn named<'m>(
    module: &'m CompiledModule,
    field: usize,
    value: &Value,
    before: Option<&Value>,
) -> Option<Named<'m>> {
    let (target, ids) = match (&module.fields()[field].kind, value) {
        (FieldType::Reference { module, .. }, Value::Uuid(id)) => (module, vec![*id]),
        (FieldType::References { module, .. }, Value::Tags(ids)) => {
            let known = match before {
                Some(Value::Tags(known)) => known.as_slice(),
                _ => &[],
            };
            let new = ids.iter().filter(|id| !known.contains(id));
            (module, new.filter_map(|id| id.parse().ok()).collect())
        }
        (FieldType::AnyReference { modules, .. }, Value::Text(text)) => {
            let (name, id) = split(text)?;
            let target = modules.iter().find(|module| module.as_str() == name)?;
            (target, vec![id])
        }
        _ => return None,
    };
    Some(Named { field, target, ids }).filter(|named| !named.ids.is_empty())
}

/// The module and the id that a value of an [`AnyReference`](FieldType::AnyReference) names.
pub(super) fn split(text: &str) -> Option<(&str, Uuid)> {
    let (name, id) = text.split_once('/')?;
    Some((name, id.parse().ok()?))
}

/// Refuses what names a record that the scope cannot see.
pub(super) async fn check(
    tx: &mut Tx<'_>,
    core: &Core,
    scope: &Scope,
    module: &CompiledModule,
    named: Vec<Named<'_>>,
) -> Result<()> {
    let mut refused = Vec::new();
    for one in named {
        let found = visible(tx, core, scope, module, &one).await?;
        if !one.ids.iter().all(|id| found.contains(id)) {
            refused.push(unknown(module, &one));
        }
    }
    match refused.is_empty() {
        true => Ok(()),
        false => Err(Error::Invalid(refused)),
    }
}

/// The refusal of a field that names a record nobody sees.
pub(super) fn unknown(module: &CompiledModule, named: &Named<'_>) -> FieldError {
    let name = module.fields()[named.field].name.as_str();
    let message = format!("there is no such record in {}", named.target);
    FieldError::new(name, "unknown_reference", message)
}

/// Those of the named records that the scope may see. Where no foreign key does so, it keeps them
/// from being deleted until the transaction ends.
pub(super) async fn visible(
    tx: &mut Tx<'_>,
    core: &Core,
    scope: &Scope,
    module: &CompiledModule,
    named: &Named<'_>,
) -> Result<HashSet<Uuid>> {
    let Ok(permit) = scope.permit::<Read>(named.target.as_str()) else {
        return Ok(HashSet::new());
    };
    let statements = core.statements(permit.module()?);
    let (tenant, reach) = (permit.tenant(), permit.reach());
    let keyed = module.is_keyed(named.field);
    let mut found = HashSet::with_capacity(named.ids.len());
    for ids in named.ids.chunks(CHUNK) {
        let ids: Vec<Value> = ids.iter().copied().map(Value::Uuid).collect();
        let sql = statements.held(tenant, reach, &ids, keyed);
        for mut row in tx.fetch_all(sql).await? {
            found.insert(row.uuid()?);
        }
    }
    Ok(found)
}

/// Writes the links of a record: all of a new one, otherwise those that changed.
pub(super) async fn link(
    tx: &mut Tx<'_>,
    core: &Core,
    tenant: TenantId,
    module: &CompiledModule,
    record: RecordId,
    changes: &[(usize, Value)],
) -> Result<()> {
    let statements = core.statements(module);
    for (position, value) in changes {
        if !module.linked().contains(position) {
            continue;
        }
        tx.execute(statements.unlink(tenant, *position, record))
            .await?;
        tx.insert_all(links(core, tenant, module, record, *position, value))
            .await?;
    }
    Ok(())
}

/// The rows of the links that a value stands for.
pub(super) fn links(
    core: &Core,
    tenant: TenantId,
    module: &CompiledModule,
    record: RecordId,
    position: usize,
    value: &Value,
) -> Vec<Sql> {
    let Value::Tags(ids) = value else {
        return Vec::new();
    };
    let statements = core.statements(module);
    let ids = ids.iter().filter_map(|id| id.parse().ok()).enumerate();
    ids.map(|(place, id)| statements.link(tenant, position, [record, RecordId(id)], place))
        .collect()
}

/// The rows of a statement that locks records. On PostgreSQL a record that it had to wait for comes
/// with its new values, but with the links that it had before: those are read again.
pub(super) async fn locked(tx: &mut Tx<'_>, module: &CompiledModule, sql: Sql) -> Result<Vec<Row>> {
    if !module.linked().is_empty() && tx.dialect() == Dialect::Postgres {
        tx.fetch_all(sql.clone()).await?;
    }
    tx.fetch_all(sql).await
}
