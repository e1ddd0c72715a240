//! Roles and their rules in the database.

use uuid::Uuid;

use super::Role;
use crate::clock::Clock;
use crate::db::{ColumnType, Row, Sql, Tx};
use crate::error::{Error, FieldError, Result};
use crate::id::{RoleId, TenantId};
use crate::module::Ident;
use crate::policy::{Permission, read_permission};

/// The name of the built-in role whose last holder stays.
pub(crate) const ADMIN: &str = "admin";

/// The statement that reads all roles of a tenant, or the one with this id.
pub(crate) fn select(tenant: TenantId, id: Option<RoleId>) -> Sql {
    use ColumnType::{Bool, Instant, Text, Uuid};
    let mut sql = Sql::new(
        "SELECT r.id, r.name, r.description, r.is_system, r.parent_id, r.created_at, \
         p.module, p.action, p.row_scope, p.effect, p.condition, p.fields \
         FROM roles r \
         LEFT JOIN policy_rules p ON p.tenant_id = r.tenant_id AND p.role_id = r.id \
         WHERE r.tenant_id = ",
    )
    .returns(&[
        Uuid, Text, Text, Bool, Uuid, Instant, Text, Text, Text, Text, Text, Text,
    ]);
    sql.arg(tenant, Uuid);
    if let Some(id) = id {
        sql.push(" AND r.id = ").arg(id, Uuid);
    }
    sql.push(" ORDER BY r.id");
    sql
}

/// The roles, with their rules gathered.
pub(crate) fn parse(rows: Vec<Row>) -> Result<Vec<Role>> {
    let mut roles = Vec::<Role>::new();
    for mut row in rows {
        let role = Role {
            id: row.uuid()?,
            name: row.text()?,
            description: row.text()?,
            is_system: row.bool()?,
            parent_id: row.opt_uuid()?,
            created_at: row.instant()?,
            permissions: Vec::new(),
        };
        if roles.last().is_none_or(|last| last.id != role.id) {
            roles.push(role);
        }
        if let (Some(role), Some(permission)) = (roles.last_mut(), read_permission(&mut row)?) {
            role.permissions.push(permission);
        }
    }
    for role in &mut roles {
        role.permissions.sort_unstable();
    }
    Ok(roles)
}

/// Writes a new role with its rules.
pub(super) async fn insert(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    role: &Role,
    clock: &Clock,
) -> Result<()> {
    let insert = Sql::new(
        "INSERT INTO roles (tenant_id, id, name, description, is_system, parent_id, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(role.id, ColumnType::Uuid)
    .bind(role.name.as_str(), ColumnType::Text)
    .bind(role.description.as_str(), ColumnType::Text)
    .bind(role.is_system, ColumnType::Bool)
    .bind(role.parent_id, ColumnType::Uuid)
    .bind(role.created_at, ColumnType::Instant);
    tx.execute(insert).await?;
    insert_rules(tx, tenant, role, clock).await
}

/// Replaces a role's values and rules.
pub(super) async fn update(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    role: &Role,
    clock: &Clock,
) -> Result<()> {
    let update = Sql::new(
        "UPDATE roles SET name = $1, description = $2, parent_id = $3 \
         WHERE tenant_id = $4 AND id = $5",
    )
    .bind(role.name.as_str(), ColumnType::Text)
    .bind(role.description.as_str(), ColumnType::Text)
    .bind(role.parent_id, ColumnType::Uuid)
    .bind(tenant, ColumnType::Uuid)
    .bind(role.id, ColumnType::Uuid);
    tx.execute(update).await?;
    let clear = Sql::new("DELETE FROM policy_rules WHERE tenant_id = $1 AND role_id = $2")
        .bind(tenant, ColumnType::Uuid)
        .bind(role.id, ColumnType::Uuid);
    tx.execute(clear).await?;
    insert_rules(tx, tenant, role, clock).await
}

async fn insert_rules(tx: &mut Tx<'_>, tenant: TenantId, role: &Role, clock: &Clock) -> Result<()> {
    if role.permissions.is_empty() {
        return Ok(());
    }
    let mut sql = Sql::new(
        "INSERT INTO policy_rules (tenant_id, id, role_id, module, action, row_scope, effect, \
         condition, fields) VALUES ",
    );
    for (index, permission) in role.permissions.iter().enumerate() {
        sql.push(if index == 0 { "(" } else { ", (" })
            .arg(tenant, ColumnType::Uuid)
            .push(", ")
            .arg(clock.new_id(), ColumnType::Uuid)
            .push(", ")
            .arg(role.id, ColumnType::Uuid)
            .push(", ")
            .arg(permission.module(), ColumnType::Text)
            .push(", ")
            .arg(permission.action(), ColumnType::Text)
            .push(", ")
            .arg(permission.rows().as_str(), ColumnType::Text)
            .push(", ")
            .arg(permission.effect().as_str(), ColumnType::Text)
            .push(", ")
            .arg(permission.condition().unwrap_or_default(), ColumnType::Text)
            .push(", ")
            .arg(permission.fields().stored(), ColumnType::Text)
            .push(")");
    }
    tx.execute(sql).await?;
    Ok(())
}

/// Deletes the rules of all roles about a module.
pub(super) async fn delete_rules(tx: &mut Tx<'_>, tenant: TenantId, module: &Ident) -> Result<()> {
    let delete = Sql::new("DELETE FROM policy_rules WHERE tenant_id = $1 AND module = $2")
        .bind(tenant, ColumnType::Uuid)
        .bind(module.as_str(), ColumnType::Text);
    tx.execute(delete).await.map(drop)
}

/// Deletes a role with its rules, unless anything refers to it: the foreign keys know every use.
pub(super) async fn delete(tx: &mut Tx<'_>, tenant: TenantId, id: RoleId) -> Result<()> {
    let delete = Sql::new("DELETE FROM roles WHERE tenant_id = $1 AND id = $2")
        .bind(tenant, ColumnType::Uuid)
        .bind(id, ColumnType::Uuid);
    match tx.execute(delete).await {
        Ok(_) => Ok(()),
        Err(Error::Conflict {
            code: "reference_violation",
            ..
        }) => Err(Error::conflict(
            "role_in_use",
            "the role is held by a member, a group, an API key or a role below it; take it from them \
             first",
        )),
        Err(error) => Err(error),
    }
}

/// The ids of roles given by name or id, ordered and distinct.
///
/// # Errors
/// Those of [`resolve_each`].
pub(crate) async fn resolve(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    field: &str,
    roles: &[String],
) -> Result<Vec<RoleId>> {
    let mut found = resolve_each(tx, tenant, field, roles).await?;
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The ids of roles given by name or id, one by one.
///
/// # Errors
/// [`Error::Invalid`] at the place in `field` that names no role of the tenant.
pub(crate) async fn resolve_each(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    field: &str,
    roles: &[String],
) -> Result<Vec<RoleId>> {
    let all = Sql::new("SELECT id, name FROM roles WHERE tenant_id = $1")
        .bind(tenant, ColumnType::Uuid)
        .returns(&[ColumnType::Uuid, ColumnType::Text]);
    let mut known = Vec::<(RoleId, String)>::new();
    for mut row in tx.fetch_all(all).await? {
        known.push((row.uuid()?, row.text()?));
    }
    let mut found = Vec::with_capacity(roles.len());
    for (index, text) in roles.iter().enumerate() {
        // No role has a name that reads as an id.
        let id = text.parse::<Uuid>().ok().map(RoleId);
        let role = known
            .iter()
            .find(|(known, name)| Some(*known) == id || name == text);
        let Some((role, _)) = role else {
            return Err(Error::Invalid(vec![FieldError {
                pointer: format!("/{field}/{index}"),
                code: "unknown_role",
                message: "There is no such role in this tenant.".into(),
            }]));
        };
        found.push(*role);
    }
    Ok(found)
}

/// The built-in roles of a new tenant, as far as its maker gives them away.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BuiltIns {
    /// May do everything.
    pub(crate) admin: RoleId,
}

/// Makes the built-in roles of a new tenant: `admin`, `manager`, `member` and `viewer`.
pub(crate) async fn seed_roles(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    clock: &Clock,
) -> Result<BuiltIns> {
    let manager = ["records.*", "members.read", "roles.read", "audit.read"];
    let sees = "Works with all records; sees members, roles and the audit log.";
    let mut seed = Seed { tx, tenant, clock };
    let admin = seed.role(ADMIN, "May do everything.", &["*.*"]).await?;
    seed.role("manager", sees, &manager).await?;
    seed.role("member", "Works with own records.", &["records.*:own"])
        .await?;
    seed.role("viewer", "Sees all records.", &["records.read"])
        .await?;
    Ok(BuiltIns { admin })
}

struct Seed<'a, 'c> {
    tx: &'a mut Tx<'c>,
    tenant: TenantId,
    clock: &'a Clock,
}

impl Seed<'_, '_> {
    async fn role(&mut self, name: &str, description: &str, rules: &[&str]) -> Result<RoleId> {
        let permissions: Result<Vec<Permission>, _> =
            rules.iter().map(|text| text.parse()).collect();
        let role = Role {
            id: RoleId(self.clock.new_id()),
            name: name.into(),
            description: description.into(),
            is_system: true,
            parent_id: None,
            permissions: permissions.map_err(Error::internal)?,
            created_at: self.clock.now(),
        };
        insert(self.tx, self.tenant, &role, self.clock).await?;
        Ok(role.id)
    }
}
