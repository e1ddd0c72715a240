//! How many records a change of a module's declaration takes something from.

use crate::db::{ColumnType, Sql};
use crate::module::{DELETED_AT, FieldSpec, Ident, ModuleSpec};

/// Counts the records that have a value of a field that goes, or lie in a trash that goes; none when
/// nothing does.
pub(crate) fn losing(old: &ModuleSpec, new: &ModuleSpec) -> Option<Sql> {
    let stays = |field: &&FieldSpec| new.fields.iter().any(|other| other.name == field.name);
    let gone = old.fields.iter().filter(|field| !stays(field));
    let trash =
        (old.soft_delete && !new.soft_delete).then_some(const { Ident::from_static(DELETED_AT) });
    let columns: Vec<Ident> = gone.map(|field| field.name.clone()).chain(trash).collect();
    let mut sql = Sql::new("SELECT count(*) FROM ");
    sql.ident(&old.name);
    for (count, column) in columns.iter().enumerate() {
        sql.push(if count == 0 { " WHERE " } else { " OR " });
        sql.ident(column).push(" IS NOT NULL");
    }
    (!columns.is_empty()).then(|| sql.returns(&[ColumnType::Int]))
}
