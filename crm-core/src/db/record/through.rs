//! The SQL of conditions on the records that a reference points to.

use super::Statements;
use crate::db::Sql;
use crate::record::Through;

impl Statements {
    /// One of the records that the field refers to meets the condition.
    ///
    /// The other module's own WHERE stands in a subquery of its own, where its columns mean nothing
    /// else, also when the modules are one. Tenant and id tie it to the record outside: both
    /// databases look it up by its primary key, or begin with it.
    pub(super) fn through(&self, sql: &mut Sql, through: &Through) {
        let Some(field) = self.module.fields().get(through.field()) else {
            sql.push("1 = 0");
            return;
        };
        let (table, target) = (self.module.table(), through.target());
        let linked = self.is_linked(through.field());
        sql.push("EXISTS (SELECT 1 FROM ");
        if linked {
            sql.link_table(table, &field.name).push(" AS link, ");
        }
        sql.push("(SELECT tenant_id, id FROM ")
            .ident(target.table());
        let (tenant, reach) = through.rows();
        let there = Self::new(target, self.dialect);
        there.conditions(sql, tenant, reach, Some(through.filter()), None);
        sql.push(") AS referred WHERE ");
        if linked {
            sql.push("link.tenant_id = ").ident(table);
            sql.push(".tenant_id AND link.from_id = ").ident(table);
            sql.push(".id AND referred.tenant_id = link.tenant_id AND referred.id = link.to_id)");
        } else {
            sql.push("referred.tenant_id = ").ident(table);
            sql.push(".tenant_id AND referred.id = ").ident(table);
            sql.push(".").ident(&field.name).push(")");
        }
    }
}
