//! The roles of a tenant: their permissions, their hierarchy, and the four every tenant begins
//! with. Refuses cycles, changes of built-in roles, and granting what the actor does not hold.

mod draft;
mod rows;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::crm::Core;
use crate::db::Tx;
use crate::error::{Error, Result};
use crate::id::RoleId;
use crate::journal;
use crate::module::Ident;
use crate::policy::{self, Permission, PermissionInput};
use crate::scope::{Create, Delete, Permit, Read, Scope, Update};
use draft::Draft;

pub(crate) use rows::{ADMIN, BuiltIns, parse, resolve, resolve_each, seed_roles, select};

/// The object of the permissions asked for here, and the entity of the audit rows.
const OBJECT: &str = "roles";

/// A role as answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Role {
    /// Its id.
    pub id: RoleId,
    /// Its name, unique in the tenant.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Whether it came with the tenant; such a role cannot be changed or deleted.
    pub is_system: bool,
    /// The role whose permissions this one includes, denials too.
    pub parent_id: Option<RoleId>,
    /// Its own permissions, in order.
    pub permissions: Vec<Permission>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// What a new role needs.
#[derive(Debug, Clone, Default)]
pub struct NewRole {
    /// 1 to 100 characters, unique in the tenant.
    pub name: String,
    /// At most 1,000 characters.
    pub description: String,
    /// The role whose permissions the new one includes.
    pub parent_id: Option<RoleId>,
    /// Permissions as [`Permission`] reads them: `contacts.read`, `deals.*`, `!deals.delete`, each
    /// with a condition on the rows if need be.
    pub permissions: Vec<PermissionInput>,
}

/// The changes of a role; `None` leaves a value as it is.
#[derive(Debug, Clone, Default)]
pub struct RoleChange {
    /// 1 to 100 characters, unique in the tenant.
    pub name: Option<String>,
    /// At most 1,000 characters.
    pub description: Option<String>,
    /// The role to inherit from, or `Some(None)` for none.
    pub parent_id: Option<Option<RoleId>>,
    /// The complete new list of permissions.
    pub permissions: Option<Vec<PermissionInput>>,
}

/// The roles of the tenant that a permit is for.
#[derive(Clone)]
pub struct Roles {
    core: Arc<Core>,
}

impl Roles {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// All roles, the oldest first.
    ///
    /// # Errors
    /// Only those of the database: the permit has answered every other question.
    pub async fn list(&self, permit: &Permit<Read>) -> Result<Vec<Role>> {
        let scope = permit.on(OBJECT)?;
        rows::parse(
            self.core
                .db
                .fetch_all(rows::select(scope.tenant(), None))
                .await?,
        )
    }

    /// One role.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the tenant has no such role.
    pub async fn get(&self, permit: &Permit<Read>, id: RoleId) -> Result<Role> {
        let scope = permit.on(OBJECT)?;
        let found = self
            .core
            .db
            .fetch_all(rows::select(scope.tenant(), Some(id)))
            .await?;
        rows::parse(found)?.pop().ok_or(Error::NotFound)
    }

    /// Makes a role.
    ///
    /// # Errors
    /// [`Error::Invalid`] for values that break a rule, [`Error::Refused`] `forbidden` for permissions that
    /// the actor does not hold, which it names, [`Error::Conflict`] `already_exists` for a name in use.
    pub async fn create(&self, permit: &Permit<Create>, input: NewRole) -> Result<Role> {
        let scope = permit.on(OBJECT)?.clone();
        let change = RoleChange {
            name: Some(input.name),
            description: Some(input.description),
            parent_id: Some(input.parent_id),
            permissions: Some(input.permissions),
        };
        let draft = Draft::check(&scope, change, &[])?;
        let new = Role {
            id: RoleId(scope.clock().new_id()),
            name: String::new(),
            description: String::new(),
            is_system: false,
            parent_id: None,
            permissions: Vec::new(),
            created_at: scope.clock().now(),
        };
        let write = Write(scope.clone());
        let made = scope.write_policy(move |tx| Box::pin(write.create(tx, draft.apply(new))));
        made.await
    }

    /// Changes a role.
    ///
    /// # Errors
    /// As [`Roles::create`]; [`Error::NotFound`], [`Error::Conflict`] `system_role`, and
    /// [`Error::Refused`] `beyond_your_rights` when the role would lose a right that the actor does not
    /// hold.
    pub async fn update(
        &self,
        permit: &Permit<Update>,
        id: RoleId,
        change: RoleChange,
    ) -> Result<Role> {
        let scope = permit.on(OBJECT)?.clone();
        let write = Write(scope.clone());
        let changed = scope.write_policy(move |tx| Box::pin(write.update(tx, id, change)));
        changed.await
    }

    /// Deletes a role that nobody holds.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`] `system_role`, and `role_in_use` while a member,
    /// an API key or another role refers to it.
    pub async fn delete(&self, permit: &Permit<Delete>, id: RoleId) -> Result<()> {
        let scope = permit.on(OBJECT)?.clone();
        let write = Write(scope.clone());
        let deleted = scope.write_policy(move |tx| Box::pin(write.delete(tx, id)));
        deleted.await
    }
}

/// Takes from all roles what they say of a module that ends with the transaction, which holds the
/// lock on the tenant's policy. The audit log tells each of them as a change of the role.
pub(crate) async fn forget_module(tx: &mut Tx<'_>, scope: &Scope, module: &Ident) -> Result<()> {
    let write = Write(scope.clone());
    let roles = rows::parse(tx.fetch_all(rows::select(scope.tenant(), None)).await?)?;
    rows::delete_rules(tx, scope.tenant(), module).await?;
    for old in roles {
        let mut new = old.clone();
        new.permissions
            .retain(|permission| permission.module() != module.as_str());
        if new != old {
            write
                .audit(tx, "roles.update", Some(&old), Some(&new))
                .await?;
        }
    }
    Ok(())
}

/// The inside of a transaction that holds the lock on the tenant's policy.
struct Write(Scope);

impl Write {
    async fn create(self, tx: &mut Tx<'_>, role: Role) -> Result<Role> {
        let tenant = self.0.tenant();
        let before = policy::rules(tx, tenant).await?;
        draft::check_room(&before)?;
        draft::check_parent(&before, &role)?;
        rows::insert(tx, tenant, &role, self.0.clock()).await?;
        policy::check_gain(tx, &self.0, &before).await?;
        self.audit(tx, "roles.create", None, Some(&role)).await?;
        Ok(role)
    }

    async fn update(self, tx: &mut Tx<'_>, id: RoleId, change: RoleChange) -> Result<Role> {
        let tenant = self.0.tenant();
        let old = self.changeable(tx, id).await?;
        let draft = Draft::check(&self.0, change, &old.permissions)?;
        let new = draft.apply(old.clone());
        if new == old {
            return Ok(old);
        }
        let before = policy::rules(tx, tenant).await?;
        draft::check_parent(&before, &new)?;
        rows::update(tx, tenant, &new, self.0.clock()).await?;
        policy::check_gain(tx, &self.0, &before).await?;
        self.audit(tx, "roles.update", Some(&old), Some(&new))
            .await?;
        Ok(new)
    }

    async fn delete(self, tx: &mut Tx<'_>, id: RoleId) -> Result<()> {
        let old = self.changeable(tx, id).await?;
        rows::delete(tx, self.0.tenant(), id).await?;
        self.audit(tx, "roles.delete", Some(&old), None).await
    }

    async fn changeable(&self, tx: &mut Tx<'_>, id: RoleId) -> Result<Role> {
        let found = tx
            .fetch_all(rows::select(self.0.tenant(), Some(id)))
            .await?;
        let role = rows::parse(found)?.pop().ok_or(Error::NotFound)?;
        if role.is_system {
            return Err(Error::conflict(
                "system_role",
                "this role comes with every tenant and stays as it is; make a role of your own",
            ));
        }
        Ok(role)
    }

    async fn audit(
        &self,
        tx: &mut Tx<'_>,
        action: &str,
        before: Option<&Role>,
        after: Option<&Role>,
    ) -> Result<()> {
        let id = after.or(before).map(|role| role.id.to_string());
        let json = |role: Option<&Role>| {
            role.map(serde_json::to_value)
                .transpose()
                .map_err(Error::internal)
        };
        let (before, after) = (json(before)?, json(after)?);
        journal::audit(tx, &self.0, action, (OBJECT, id), before, after).await
    }
}

#[cfg(test)]
mod tests;
