//! The rows of a permit as conditions: the SQL form of [`Reach`].

use super::Statements;
use super::custom::within;
use crate::db::{ColumnType, Sql};
use crate::id::{RecordId, TenantId};
use crate::module::CompiledModule;
use crate::policy::still;
use crate::reach::{Limits, Reach, Rule};

impl Statements {
    /// A row if the reach covers the record, live or in the trash.
    pub(crate) fn covered(&self, tenant: TenantId, reach: &Reach, id: RecordId) -> Sql {
        let mut sql = Sql::new("SELECT id FROM ");
        sql.ident(self.module.table()).push(" WHERE ");
        within(&mut sql, &self.module);
        sql.push("tenant_id = ").arg(tenant, ColumnType::Uuid);
        sql.push(" AND id = ").arg(id, ColumnType::Uuid);
        sql.push(" AND ");
        self.reached(&mut sql, tenant, reach);
        sql.returns(&[ColumnType::Uuid])
    }

    /// The condition that a row is covered.
    pub(super) fn reached(&self, sql: &mut Sql, tenant: TenantId, reach: &Reach) {
        match reach {
            Reach::All => {
                sql.push("1 = 1");
            }
            Reach::Own(user) => {
                sql.push("owner_id = ").arg(*user, ColumnType::Uuid);
            }
            Reach::Both(both) => {
                sql.push("(");
                self.reached(sql, tenant, &both.0);
                sql.push(" AND ");
                self.reached(sql, tenant, &both.1);
                sql.push(")");
            }
            Reach::Some(limits) => {
                sql.push("(");
                for (count, rule) in limits.rules.iter().enumerate() {
                    sql.push(if count > 0 { " OR " } else { "" });
                    self.meets(sql, tenant, limits, rule);
                }
                sql.push(if limits.rules.is_empty() {
                    "1 = 0)"
                } else {
                    ")"
                });
            }
        }
    }

    fn meets(&self, sql: &mut Sql, tenant: TenantId, limits: &Limits, rule: &Rule) {
        sql.push("(1 = 1");
        if rule.own {
            sql.push(" AND owner_id = ");
            sql.arg(limits.user, ColumnType::Uuid);
        }
        if rule.team {
            sql.push(" AND ");
            team(sql, tenant, limits);
        }
        if rule.parent {
            sql.push(" AND ");
            self.mine(sql, tenant, limits, &limits.line);
        }
        for filter in &rule.filters {
            sql.push(" AND ");
            self.filter(sql, filter);
        }
        sql.push(")");
    }

    /// The row is the user's, or in the charge of a group of theirs, or its parent is.
    fn mine(
        &self,
        sql: &mut Sql,
        tenant: TenantId,
        limits: &Limits,
        line: &[std::sync::Arc<CompiledModule>],
    ) {
        sql.push("(owner_id = ").arg(limits.user, ColumnType::Uuid);
        let Some((module, above)) = line.split_first() else {
            sql.push(")");
            return;
        };
        in_charge(sql, tenant, limits, module);
        if let (Some(position), Some(parent)) = (module.parent(), above.first()) {
            sql.push(" OR ");
            match module.number(position) {
                None => sql.ident(&module.fields()[position].name),
                Some(number) => sql.custom(self.dialect, module.columns()[position], number),
            };
            sql.push(" IN (SELECT id FROM ")
                .ident(parent.table())
                .push(" WHERE ");
            within(sql, parent);
            sql.push("tenant_id = ").arg(tenant, ColumnType::Uuid);
            sql.push(" AND ");
            self.mine(sql, tenant, limits, above);
            sql.push(")");
        }
        sql.push(")");
    }
}

/// The owner is the user, or shares a group with them.
fn team(sql: &mut Sql, tenant: TenantId, limits: &Limits) {
    if let Some(team) = limits.team() {
        for (count, member) in team.iter().enumerate() {
            sql.push(if count > 0 { ", " } else { "owner_id IN (" })
                .arg(*member, ColumnType::Uuid);
        }
        sql.push(")");
        return;
    }
    sql.push("(owner_id = ")
        .arg(limits.user, ColumnType::Uuid)
        .push(
            " OR owner_id IN (SELECT o.user_id FROM user_group_members m \
             JOIN user_group_members o ON o.tenant_id = m.tenant_id AND o.group_id = m.group_id \
             WHERE m.tenant_id = ",
        )
        .arg(tenant, ColumnType::Uuid)
        .push(" AND m.user_id = ")
        .arg(limits.user, ColumnType::Uuid);
    still(sql, "m", limits.now);
    still(sql, "o", limits.now);
    sql.push("))");
}

/// Or a group of the user's is in charge of the row.
fn in_charge(sql: &mut Sql, tenant: TenantId, limits: &Limits, module: &CompiledModule) {
    if let Some(charge) = limits.charge(module) {
        for (count, id) in charge.iter().enumerate() {
            sql.push(if count > 0 { ", " } else { " OR id IN (" })
                .arg(*id, ColumnType::Uuid);
        }
        sql.push(if charge.is_empty() { "" } else { ")" });
        return;
    }
    sql.push(
        " OR id IN (SELECT c.record_id FROM user_group_records c \
         JOIN user_group_members m ON m.tenant_id = c.tenant_id AND m.group_id = c.group_id \
         WHERE c.tenant_id = ",
    )
    .arg(tenant, ColumnType::Uuid)
    .push(" AND c.module = ")
    .arg(module.name().as_str(), ColumnType::Text)
    .push(" AND m.user_id = ")
    .arg(limits.user, ColumnType::Uuid);
    still(sql, "m", limits.now);
    sql.push(")");
}
