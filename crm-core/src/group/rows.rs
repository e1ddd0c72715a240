//! Groups in the database.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Group, GroupMember, GroupRecord};
use crate::db::{ColumnType, Row, Sql, Tx};
use crate::error::Result;
use crate::id::{GroupId, RoleId, TenantId};
use crate::member::HeldRole;

/// The statement that reads the ids of the first groups after one.
pub(super) fn page(tenant: TenantId, after: Option<GroupId>, limit: u32) -> Sql {
    Sql::new("SELECT id FROM user_groups WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3")
        .bind(tenant, ColumnType::Uuid)
        // Every id comes after the one of zeros.
        .bind(after.unwrap_or(GroupId(Uuid::nil())), ColumnType::Uuid)
        .bind(limit, ColumnType::Int)
        .returns(&[ColumnType::Uuid])
}

/// The ids that [`page`] found.
pub(super) fn ids(rows: Vec<Row>) -> Result<Vec<GroupId>> {
    rows.into_iter().map(|mut row| row.uuid()).collect()
}

/// The statements that read these groups, their roles, members and records; see [`parse`].
pub(super) fn select(tenant: TenantId, ids: &[GroupId]) -> [Sql; 4] {
    use ColumnType::{Instant, Text, Uuid};
    let groups = Sql::new(
        "SELECT g.id, g.name, g.description, g.created_at FROM user_groups g WHERE g.tenant_id = ",
    )
    .returns(&[Uuid, Text, Text, Instant]);
    let roles = Sql::new(
        "SELECT g.group_id, r.id, r.name FROM user_group_roles g \
         JOIN roles r ON r.tenant_id = g.tenant_id AND r.id = g.role_id WHERE g.tenant_id = ",
    )
    .returns(&[Uuid, Uuid, Text]);
    let members = Sql::new(
        "SELECT g.group_id, g.user_id, g.until FROM user_group_members g WHERE g.tenant_id = ",
    )
    .returns(&[Uuid, Uuid, Instant]);
    let records = Sql::new(
        "SELECT g.group_id, g.module, g.record_id FROM user_group_records g WHERE g.tenant_id = ",
    )
    .returns(&[Uuid, Text, Uuid]);
    [
        of(groups, tenant, " AND g.id IN (", ids, " ORDER BY g.id"),
        of(roles, tenant, " AND g.group_id IN (", ids, " ORDER BY r.id"),
        of(
            members,
            tenant,
            " AND g.group_id IN (",
            ids,
            " ORDER BY g.user_id",
        ),
        of(
            records,
            tenant,
            " AND g.group_id IN (",
            ids,
            " ORDER BY g.module, g.record_id",
        ),
    ]
}

fn of(
    mut sql: Sql,
    tenant: TenantId,
    among: &'static str,
    ids: &[GroupId],
    order: &'static str,
) -> Sql {
    sql.arg(tenant, ColumnType::Uuid).push(among);
    for id in ids {
        sql.arg(*id, ColumnType::Uuid).push(", ");
    }
    sql.push("NULL)").push(order);
    sql
}

/// The groups from the rows of [`select`]'s statements.
pub(super) fn parse(parts: Vec<Vec<Row>>) -> Result<Vec<Group>> {
    let mut parts = parts.into_iter();
    let mut groups = Vec::new();
    for mut row in parts.next().unwrap_or_default() {
        groups.push(Group {
            id: row.uuid()?,
            name: row.text()?,
            description: row.text()?,
            created_at: row.instant()?,
            roles: Vec::new(),
            members: Vec::new(),
            records: Vec::new(),
        });
    }
    let places: HashMap<GroupId, usize> = groups
        .iter()
        .enumerate()
        .map(|(at, group)| (group.id, at))
        .collect();
    for (part, rows) in parts.enumerate() {
        for mut row in rows {
            let Some(at) = places.get(&row.uuid()?) else {
                continue;
            };
            let group = &mut groups[*at];
            match part {
                0 => group.roles.push(HeldRole {
                    id: row.uuid()?,
                    name: row.text()?,
                    until: None,
                }),
                1 => group.members.push(GroupMember {
                    user_id: row.uuid()?,
                    until: row.opt_instant()?,
                }),
                _ => group.records.push(GroupRecord {
                    module: row.text()?,
                    id: row.uuid()?,
                }),
            }
        }
    }
    Ok(groups)
}

/// Writes a new group, without a name yet.
pub(super) async fn insert(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    id: GroupId,
    now: DateTime<Utc>,
) -> Result<()> {
    let insert = Sql::new(
        "INSERT INTO user_groups (tenant_id, id, name, created_at) VALUES ($1, $2, $3, $4)",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(id, ColumnType::Uuid)
    .bind(id.to_string(), ColumnType::Text)
    .bind(now, ColumnType::Instant);
    tx.execute(insert).await.map(drop)
}

/// Gives a group another name and description, as far as they are given.
pub(super) async fn rename(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    id: GroupId,
    name: Option<&str>,
    description: Option<&str>,
) -> Result<()> {
    let columns = [("name = ", name), ("description = ", description)];
    for (column, value) in columns {
        let Some(value) = value else { continue };
        let mut sql = Sql::new("UPDATE user_groups SET ");
        sql.push(column).arg(value, ColumnType::Text);
        sql.push(" WHERE tenant_id = ")
            .arg(tenant, ColumnType::Uuid)
            .push(" AND id = ")
            .arg(id, ColumnType::Uuid);
        tx.execute(sql).await?;
    }
    Ok(())
}

/// Replaces the roles of a group.
pub(super) async fn set_roles(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    id: GroupId,
    roles: &[RoleId],
    now: DateTime<Utc>,
) -> Result<()> {
    clear(
        tx,
        "DELETE FROM user_group_roles WHERE tenant_id = ",
        tenant,
        id,
    )
    .await?;
    let insert = roles.iter().map(|role| {
        Sql::new(
            "INSERT INTO user_group_roles (tenant_id, group_id, created_at, role_id) \
             VALUES ($1, $2, $3, $4)",
        )
        .bind(tenant, ColumnType::Uuid)
        .bind(id, ColumnType::Uuid)
        .bind(now, ColumnType::Instant)
        .bind(*role, ColumnType::Uuid)
    });
    tx.insert_all(insert.collect()).await
}

/// Replaces the members of a group.
pub(super) async fn set_members(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    id: GroupId,
    members: &[GroupMember],
    now: DateTime<Utc>,
) -> Result<()> {
    clear(
        tx,
        "DELETE FROM user_group_members WHERE tenant_id = ",
        tenant,
        id,
    )
    .await?;
    let insert = members.iter().map(|member| {
        Sql::new(
            "INSERT INTO user_group_members (tenant_id, group_id, created_at, user_id, until) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(tenant, ColumnType::Uuid)
        .bind(id, ColumnType::Uuid)
        .bind(now, ColumnType::Instant)
        .bind(member.user_id, ColumnType::Uuid)
        .bind(member.until, ColumnType::Instant)
    });
    tx.insert_all(insert.collect()).await
}

/// Replaces the records that a group is in charge of.
pub(super) async fn set_records(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    id: GroupId,
    records: &[GroupRecord],
    now: DateTime<Utc>,
) -> Result<()> {
    clear(
        tx,
        "DELETE FROM user_group_records WHERE tenant_id = ",
        tenant,
        id,
    )
    .await?;
    let insert = records.iter().map(|record| {
        Sql::new(
            "INSERT INTO user_group_records (tenant_id, group_id, created_at, module, record_id) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(tenant, ColumnType::Uuid)
        .bind(id, ColumnType::Uuid)
        .bind(now, ColumnType::Instant)
        .bind(record.module.as_str(), ColumnType::Text)
        .bind(record.id, ColumnType::Uuid)
    });
    tx.insert_all(insert.collect()).await
}

async fn clear(tx: &mut Tx<'_>, delete: &'static str, tenant: TenantId, id: GroupId) -> Result<()> {
    let mut sql = Sql::new(delete);
    sql.arg(tenant, ColumnType::Uuid)
        .push(" AND group_id = ")
        .arg(id, ColumnType::Uuid);
    tx.execute(sql).await.map(drop)
}

/// Deletes a group with all that it has.
pub(super) async fn delete(tx: &mut Tx<'_>, tenant: TenantId, id: GroupId) -> Result<()> {
    let delete = Sql::new("DELETE FROM user_groups WHERE tenant_id = $1 AND id = $2")
        .bind(tenant, ColumnType::Uuid)
        .bind(id, ColumnType::Uuid);
    tx.execute(delete).await.map(drop)
}
