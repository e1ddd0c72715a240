//! Who there is, and what they may do.

use secrecy::SecretString;
use uuid::Uuid;

use super::{LIMITED, OWN_MODULE};
use crate::crm::Crm;
use crate::db::{ColumnType, Sql};
use crate::error::{Error, Result};
use crate::group::{GroupMember, GroupRecord, NewGroup};
use crate::id::{ApiKeyId, InvitationId, TenantId, UserId};
use crate::identity::{Login, NewApiKey, NewInvitation, NewServiceAccount, NewUser, Session};
use crate::role::{NewRole, RoleChange};
use crate::scope::{Create, Scope, Update};
use crate::testing::isolation::cast::{Cast, tenant_name};
use crate::testing::isolation::stage::request;

const PASSWORD: &str = "a passphrase of the isolation suite";

pub(super) async fn limited_role(crm: &Crm, scope: &Scope) -> Result<Uuid> {
    let mut permissions = Vec::new();
    for object in ["groups", "members", "roles", "api_keys"] {
        permissions.push(format!("{object}.*").into());
    }
    for module in scope.modules() {
        let name = module.name();
        permissions.push(format!("{name}.read:team").into());
        permissions.push(format!("{name}.create").into());
        permissions.push(format!("{name}.update:parent").into());
        permissions.push(format!("{name}.delete:own").into());
    }
    let input = NewRole {
        name: LIMITED.into(),
        permissions,
        ..NewRole::default()
    };
    let permit = scope.permit::<Create>("roles")?;
    Ok(crm.roles().create(&permit, input).await?.id.0)
}

pub(super) async fn new_role(crm: &Crm, scope: &Scope, name: &str) -> Result<Uuid> {
    let input = NewRole {
        name: name.into(),
        permissions: vec!["*.*".into(), format!("{OWN_MODULE}.read").into()],
        ..NewRole::default()
    };
    let permit = scope.permit::<Create>("roles")?;
    Ok(crm.roles().create(&permit, input).await?.id.0)
}

pub(super) async fn widen(crm: &Crm, scope: &Scope, cast: &Cast) -> Result<()> {
    let change = RoleChange {
        description: Some("the other tenant's".into()),
        permissions: Some(vec!["*.*".into()]),
        ..RoleChange::default()
    };
    let permit = scope.permit::<Update>("roles")?;
    crm.roles().update(&permit, cast.role.both, change).await?;
    let permit = scope.permit::<Update>("members")?;
    let roles = [LIMITED.to_owned(), "admin".to_owned()];
    crm.members().set_roles(&permit, cast.bob, roles).await?;
    Ok(())
}

pub(super) async fn user(crm: &Crm, scope: &Scope, name: &str, role: &str) -> Result<UserId> {
    let input = NewUser {
        email: format!("{name}.{}@example.com", crm.clock().new_id().simple()),
        name: name.to_owned(),
        password: SecretString::from(PASSWORD),
        roles: vec![role.to_owned()],
    };
    let permit = scope.permit::<Create>("members")?;
    Ok(crm.accounts().create_user(&permit, input).await?.user_id)
}

/// Opens a session.
pub(in crate::testing::isolation) async fn log_in(
    crm: &Crm,
    tenant: TenantId,
    user: UserId,
) -> Result<Session> {
    let input = Login {
        email: email(crm, user).await?,
        password: SecretString::from(PASSWORD),
        tenant: Some(tenant_name(tenant)),
        new_password: None,
    };
    crm.accounts().login(input, request()).await
}

pub(super) async fn email(crm: &Crm, user: UserId) -> Result<String> {
    let sql = Sql::new("SELECT email FROM users WHERE id = $1")
        .bind(user, ColumnType::Uuid)
        .returns(&[ColumnType::Text]);
    let row = crm.core.db.fetch_optional(sql).await?;
    row.ok_or(Error::NotFound)?.text()
}

pub(super) async fn group(
    crm: &Crm,
    scope: &Scope,
    name: &str,
    members: Vec<GroupMember>,
    records: Vec<GroupRecord>,
    roles: &[&str],
) -> Result<Uuid> {
    let input = NewGroup {
        name: name.into(),
        description: String::new(),
        roles: roles.iter().map(ToString::to_string).collect(),
        members,
        records,
    };
    let permit = scope.permit::<Create>("groups")?;
    Ok(crm.groups().create(&permit, input).await?.id.0)
}

pub(super) async fn service(crm: &Crm, scope: &Scope, name: &str) -> Result<UserId> {
    let input = NewServiceAccount {
        name: name.into(),
        roles: vec!["viewer".into()],
    };
    let permit = scope.permit::<Create>("members")?;
    crm.accounts().create_service_account(&permit, input).await
}

pub(super) async fn key(
    crm: &Crm,
    scope: &Scope,
    role: &str,
    service: UserId,
) -> Result<(ApiKeyId, SecretString)> {
    let input = NewApiKey {
        name: "isolation".into(),
        role: role.into(),
        service_account: (role == "viewer").then_some(service),
        ..NewApiKey::default()
    };
    let permit = scope.permit::<Create>("api_keys")?;
    let (key, secret) = crm.api_keys().create(&permit, input).await?;
    Ok((key.id, secret))
}

pub(super) async fn invite(crm: &Crm, scope: &Scope, name: &str) -> Result<InvitationId> {
    let input = NewInvitation {
        email: format!("isolation.{name}@example.com"),
        name: name.into(),
        roles: vec!["viewer".into()],
    };
    let permit = scope.permit::<Create>("members")?;
    Ok(crm.invitations().create(&permit, input).await?.id)
}
