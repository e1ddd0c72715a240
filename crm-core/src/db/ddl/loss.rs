//! How many records a change of a module's declaration takes something from.

use crate::db::{ColumnType, Sql};
use crate::module::{DELETED_AT, FieldSpec, Ident, ModuleSpec};

/// Counts the records that have a value of a field that goes, or lie in a trash that goes; none
/// when nothing does.
pub(crate) fn losing(old: &ModuleSpec, new: &ModuleSpec) -> Option<Sql> {
    let stays = |field: &&FieldSpec| new.fields.iter().any(|other| other.name == field.name);
    let gone = old.fields.iter().filter(|field| !stays(field));
    let trash =
        (old.soft_delete && !new.soft_delete).then_some(const { Ident::from_static(DELETED_AT) });
    let (linked, stored): (Vec<_>, Vec<_>) = gone.partition(|field| field.kind.is_linked());
    let stored = stored.into_iter().map(|field| field.name.clone());
    let columns: Vec<Ident> = stored.chain(trash).collect();
    let mut sql = Sql::new("SELECT count(*) FROM ");
    sql.ident(&old.name);
    for (count, column) in columns.iter().enumerate() {
        sql.push(if count == 0 { " WHERE " } else { " OR " });
        sql.ident(column).push(" IS NOT NULL");
    }
    for (count, field) in linked.iter().enumerate() {
        let first = count == 0 && columns.is_empty();
        sql.push(if first { " WHERE " } else { " OR " })
            .push("id IN (SELECT from_id FROM ")
            .link_table(&old.name, &field.name)
            .push(")");
    }
    (!columns.is_empty() || !linked.is_empty()).then(|| sql.returns(&[ColumnType::Int]))
}
