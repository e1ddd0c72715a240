//! Memberships and role assignments in the database.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{HeldRole, Member, MemberKind};
use crate::db::{ColumnType, Row, Sql, Tx};
use crate::error::Result;
use crate::id::{RoleId, TenantId, UserId};
use crate::role::ADMIN;
use crate::scope::Actor;

const COLUMNS: &[ColumnType] = &[
    ColumnType::Uuid,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Instant,
    ColumnType::Uuid,
    ColumnType::Text,
    ColumnType::Instant,
];

/// The statement that reads one member with their roles.
pub(super) fn select(tenant: TenantId, user: UserId) -> Sql {
    Sql::new(
        "SELECT m.user_id, u.email, u.name, u.status, u.kind, m.created_at, r.id, r.name, a.until \
         FROM memberships m \
         JOIN users u ON u.id = m.user_id \
         LEFT JOIN role_assignments a ON a.tenant_id = m.tenant_id AND a.user_id = m.user_id \
         LEFT JOIN roles r ON r.tenant_id = a.tenant_id AND r.id = a.role_id \
         WHERE m.tenant_id = $1 AND m.user_id = $2 ORDER BY r.id",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(user, ColumnType::Uuid)
    .returns(COLUMNS)
}

/// The statement that reads the first members after a user, with their roles.
pub(super) fn select_page(tenant: TenantId, after: Option<UserId>, limit: u32) -> Sql {
    Sql::new(
        "SELECT m.user_id, u.email, u.name, u.status, u.kind, m.created_at, r.id, r.name, a.until \
         FROM (SELECT tenant_id, user_id, created_at FROM memberships \
         WHERE tenant_id = $1 AND user_id > $2 ORDER BY user_id LIMIT $3) m \
         JOIN users u ON u.id = m.user_id \
         LEFT JOIN role_assignments a ON a.tenant_id = m.tenant_id AND a.user_id = m.user_id \
         LEFT JOIN roles r ON r.tenant_id = a.tenant_id AND r.id = a.role_id \
         ORDER BY m.user_id, r.id",
    )
    .bind(tenant, ColumnType::Uuid)
    // Every id comes after the one of zeros.
    .bind(after.unwrap_or(UserId(Uuid::nil())), ColumnType::Uuid)
    .bind(limit, ColumnType::Int)
    .returns(COLUMNS)
}

/// The members, with their roles gathered.
pub(super) fn parse(rows: Vec<Row>) -> Result<Vec<Member>> {
    let mut members = Vec::<Member>::new();
    for mut row in rows {
        let member = Member {
            user_id: row.uuid()?,
            email: row.text()?,
            name: row.text()?,
            active: row.text::<String>()? == "active",
            kind: match row.text::<String>()?.as_str() {
                "service" => MemberKind::Service,
                _ => MemberKind::Person,
            },
            joined_at: row.instant()?,
            roles: Vec::new(),
        };
        if members
            .last()
            .is_none_or(|last| last.user_id != member.user_id)
        {
            members.push(member);
        }
        if let (Some(member), Some(id)) = (members.last_mut(), row.opt_uuid()?) {
            member.roles.push(HeldRole {
                id,
                name: row.text()?,
                until: row.opt_instant()?,
            });
        }
    }
    Ok(members)
}

/// Gives a member of the tenant these roles, without an end.
pub(crate) async fn assign(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    user: UserId,
    roles: &[RoleId],
    now: DateTime<Utc>,
) -> Result<()> {
    let roles: Vec<_> = roles.iter().map(|role| (*role, None)).collect();
    assign_until(tx, tenant, user, &roles, now).await
}

/// Gives a member of the tenant these roles, each until its end.
pub(super) async fn assign_until(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    user: UserId,
    roles: &[(RoleId, Option<DateTime<Utc>>)],
    now: DateTime<Utc>,
) -> Result<()> {
    let insert = roles.iter().map(|(role, until)| {
        Sql::new(
            "INSERT INTO role_assignments (tenant_id, user_id, created_at, role_id, until) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(tenant, ColumnType::Uuid)
        .bind(user, ColumnType::Uuid)
        .bind(now, ColumnType::Instant)
        .bind(*role, ColumnType::Uuid)
        .bind(*until, ColumnType::Instant)
    });
    tx.insert_all(insert.collect()).await
}

/// Takes all roles from a member.
pub(super) async fn clear(tx: &mut Tx<'_>, tenant: TenantId, user: UserId) -> Result<()> {
    let delete = Sql::new("DELETE FROM role_assignments WHERE tenant_id = $1 AND user_id = $2")
        .bind(tenant, ColumnType::Uuid)
        .bind(user, ColumnType::Uuid);
    tx.execute(delete).await?;
    Ok(())
}

/// Ends a membership; assignments and sessions go with it.
pub(super) async fn remove(tx: &mut Tx<'_>, tenant: TenantId, user: UserId) -> Result<()> {
    let delete = Sql::new("DELETE FROM memberships WHERE tenant_id = $1 AND user_id = $2")
        .bind(tenant, ColumnType::Uuid)
        .bind(user, ColumnType::Uuid);
    tx.execute(delete).await?;
    // What they gave and nobody has taken yet is theirs to give no more.
    let invited = Sql::new("DELETE FROM invitations WHERE tenant_id = $1 AND invited_by = $2")
        .bind(tenant, ColumnType::Uuid)
        .bind(Actor::User(user).to_string(), ColumnType::Text);
    tx.execute(invited).await?;
    Ok(())
}

/// Whether an active member holds the built-in admin role, without an end.
pub(crate) async fn has_admin(tx: &mut Tx<'_>, tenant: TenantId) -> Result<bool> {
    Ok(!admins(tx, tenant).await?.is_empty())
}

/// Active members who hold the built-in admin role, without an end: some of them, where there are
/// very many.
pub(crate) async fn admins(tx: &mut Tx<'_>, tenant: TenantId) -> Result<BTreeSet<UserId>> {
    let select = Sql::new(
        "SELECT a.user_id FROM roles r \
         JOIN role_assignments a ON a.tenant_id = r.tenant_id AND a.role_id = r.id \
         JOIN users u ON u.id = a.user_id AND u.status = 'active' \
         AND u.kind = 'person' \
         WHERE r.tenant_id = $1 AND r.name = $2 AND r.is_system AND a.until IS NULL LIMIT 100",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(ADMIN, ColumnType::Text)
    .returns(&[ColumnType::Uuid]);
    let rows = tx.fetch_all(select).await?.into_iter();
    rows.map(|mut row| row.uuid()).collect()
}
