//! Copied fields get their values when their reference does, in the same transaction.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::{Comparison, Field, Filter, Record};
use crate::crm::Core;
use crate::db::Tx;
use crate::error::Result;
use crate::module::{CompiledModule, Copied, misfit};
use crate::reach::Reach;
use crate::scope::Scope;
use crate::value::Value;

/// Copies what the changed references of a record bring. Whether the caller may follow them is
/// judged with the references.
pub(super) async fn fill(
    tx: &mut Tx<'_>,
    core: &Core,
    scope: &Scope,
    before: Option<&Record>,
    after: &mut Record,
) -> Result<()> {
    let module = after.module.clone();
    if module.copies().is_empty() {
        return Ok(());
    }
    let before = before.map(|before| before.values.as_slice());
    let pairs = vec![(before, &mut after.values)];
    fill_all(tx, core, scope, &module, pairs).await
}

/// The same of many records: one statement for each copied field.
pub(super) async fn fill_all(
    tx: &mut Tx<'_>,
    core: &Core,
    scope: &Scope,
    module: &CompiledModule,
    mut records: Vec<(Option<&[Value]>, &mut Vec<Value>)>,
) -> Result<()> {
    for copied in module.copies() {
        let named = |before: Option<&[Value]>, after: &[Value]| {
            let mut changed = module.to_copy(before, after);
            changed.any(|other| other.position == copied.position)
        };
        let ids = records.iter().filter_map(|(before, after)| {
            named(*before, after).then(|| after.get(copied.reference).cloned())?
        });
        let mut ids: Vec<Uuid> = ids
            .filter_map(|value| match value {
                Value::Uuid(id) => Some(id),
                _ => None,
            })
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let found = sources(tx, core, scope, (module, copied), ids).await?;
        for (before, after) in &mut records {
            if !named(*before, after) {
                continue;
            }
            let value = match after.get(copied.reference) {
                Some(Value::Uuid(id)) => found.get(id).cloned().unwrap_or_default(),
                _ => Value::Null,
            };
            if let Some(slot) = after.get_mut(copied.position) {
                *slot = value;
            }
        }
    }
    Ok(())
}

/// The values to copy, by the records' ids; none where the source is not there for a tenant's own
/// copy any more, or has become another field since.
async fn sources(
    tx: &mut Tx<'_>,
    core: &Core,
    scope: &Scope,
    (module, copied): (&CompiledModule, &Copied),
    ids: Vec<Uuid>,
) -> Result<HashMap<Uuid, Value>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let field = &module.fields()[copied.position];
    let from = (&copied.target, copied.source.as_str());
    let fits =
        |target: &&Arc<CompiledModule>| misfit(field, from, target.field(&copied.source)).is_none();
    let Some(target) = scope.module(copied.target.as_str()).filter(fits) else {
        return Ok(HashMap::new());
    };
    let ids = ids.into_iter().map(Value::Uuid).collect();
    let filter = Filter::Compare(Field::Id, Comparison::In(ids));
    let sql = core
        .statements(target)
        .matching(scope.tenant(), &Reach::All, &filter);
    let mut found = HashMap::new();
    for row in tx.fetch_all(sql).await? {
        let record = Record::from_row(target, row)?;
        let value = record.get(&copied.source).cloned().unwrap_or_default();
        found.insert(record.id.0, value);
    }
    Ok(found)
}
