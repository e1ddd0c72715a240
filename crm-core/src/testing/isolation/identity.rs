//! The doors of what lets people in: identity providers, acting in another's name, and what a
//! tenant settles for its members.

use chrono::TimeDelta;
use futures::FutureExt;
use secrecy::ExposeSecret;

use super::cast::Cast;
use super::stage::{Play, Stage, request};
use super::stock::log_in;
use crate::audit::AuditQuery;
use crate::crm::Crm;
use crate::db::{ColumnType, Sql};
use crate::error::Result;
use crate::id::{FamilyId, IdentityId, ProviderId, TenantId, UserId};
use crate::identity::{NewImpersonation, PasswordPolicy, ProviderSettings, TenantSecurityChange};
use crate::platform::PLATFORM;
use crate::scope::{Create, Delete, Read, Scope, Update};

/// The doors by name, and the tables in which they touch all tenants.
pub(super) const CHAPTERS: &[(&str, Play, &[&str])] = &[
    ("identity providers", |it| providers(it).boxed(), &[]),
    ("acting in another's name", |it| acting(it).boxed(), &[]),
    ("rules for members", |it| rules(it).boxed(), &[]),
    ("unlinking an identity", |it| unlinking(it).boxed(), &[]),
];

/// Providers that only the twin has: with the one of both, more than a tenant may have.
const MORE: usize = 9;

fn settings(name: &str) -> ProviderSettings {
    ProviderSettings {
        name: name.into(),
        client_id: "isolation".into(),
        client_secret: None,
        redirect_uris: vec!["https://app.example/back".into()],
        domains: vec!["example.com".into()],
        join_role: None,
        trusts_second_factor: false,
        // One that is declared switched on is asked whether it answers.
        enabled: false,
    }
}

pub(super) async fn provider(crm: &Crm, scope: &Scope, name: &str) -> Result<ProviderId> {
    let permit = scope.permit::<Create>("identity_providers")?;
    let (providers, issuer) = (crm.identity_providers(), "https://id.example");
    let made = providers.create(&permit, issuer, settings(name)).await?;
    let on =
        Sql::new("UPDATE identity_providers SET enabled = $1 WHERE tenant_id = $2 AND id = $3")
            .bind(true, ColumnType::Bool)
            .bind(scope.tenant(), ColumnType::Uuid)
            .bind(made.id, ColumnType::Uuid);
    crm.core.db.execute(on).await?;
    Ok(made.id)
}

/// Lets the provider vouch for a member.
pub(super) async fn link(
    crm: &Crm,
    tenant: TenantId,
    provider: ProviderId,
    user: UserId,
) -> Result<IdentityId> {
    let id = IdentityId(crm.clock().new_id());
    let link = Sql::new(
        "INSERT INTO user_identities (tenant_id, id, provider_id, subject, user_id, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(id, ColumnType::Uuid)
    .bind(provider, ColumnType::Uuid)
    .bind(user.to_string(), ColumnType::Text)
    .bind(user, ColumnType::Uuid)
    .bind(crm.clock().now(), ColumnType::Instant);
    crm.core.db.execute(link).await?;
    Ok(id)
}

/// Lets one act in the name of the other, as an operator does; the provider has vouched for it.
pub(super) async fn act(
    crm: &Crm,
    tenant: TenantId,
    by: UserId,
    of: UserId,
    provider: ProviderId,
) -> Result<FamilyId> {
    let id = start(crm, tenant, by, of).await?;
    let operators = Sql::new(
        "UPDATE refresh_families SET parent_id = NULL, home_id = $1, provider_id = $2, \
         expires_at = $3 WHERE id = $4",
    )
    .bind(PLATFORM, ColumnType::Uuid)
    .bind(provider, ColumnType::Uuid)
    // As long as the suite takes, wherever it runs.
    .bind(crm.clock().now() + TimeDelta::days(1), ColumnType::Instant)
    .bind(id, ColumnType::Uuid);
    crm.core.db.execute(operators).await?;
    Ok(id)
}

async fn start(crm: &Crm, tenant: TenantId, by: UserId, of: UserId) -> Result<FamilyId> {
    let scope = session(crm, tenant, by).await?;
    let permit = scope.permit::<Create>("impersonations")?;
    let begun = crm.impersonations().start(&permit, named(of)).await?;
    Ok(begun.impersonation.id)
}

fn named(user: UserId) -> NewImpersonation {
    NewImpersonation {
        user: user.to_string(),
        reason: "to see that tenants are apart".into(),
    }
}

/// The scope of somebody who has just logged in.
async fn session(crm: &Crm, tenant: TenantId, user: UserId) -> Result<Scope> {
    let session = log_in(crm, tenant, user).await?;
    let token = session.access_token.expose_secret();
    crm.authenticate(token, request()).await
}

/// What only the twin has of all this.
pub(super) async fn more(crm: &Crm, scope: &Scope, cast: &Cast) -> Result<ProviderId> {
    let other = provider(crm, scope, "isolation other").await?;
    for number in 1..MORE {
        provider(crm, scope, &format!("isolation {number}")).await?;
    }
    for user in [cast.ann, cast.carl] {
        link(crm, scope.tenant(), cast.provider.both, user).await?;
    }
    let security = TenantSecurityChange {
        operator_impersonation: Some(false),
        password_policy: Some(Some(PasswordPolicy::default())),
    };
    let permit = scope.permit::<Update>("members")?;
    let accounts = crm.accounts();
    accounts.update_tenant_security(&permit, security).await?;
    // Which ends what operators began.
    let again = Sql::new(
        "UPDATE refresh_families SET revoked_at = NULL WHERE tenant_id = $1 AND home_id = $2",
    )
    .bind(scope.tenant(), ColumnType::Uuid)
    .bind(PLATFORM, ColumnType::Uuid);
    crm.core.db.execute(again).await?;
    Ok(other)
}

async fn providers(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let object = "identity_providers";
    let (create, read) = (
        scope.permit::<Create>(object)?,
        scope.permit::<Read>(object)?,
    );
    let (update, delete) = (
        scope.permit::<Update>(object)?,
        scope.permit::<Delete>(object)?,
    );
    let providers = it.crm.identity_providers();
    it.say("list", providers.list(&read).await);
    it.say("identities", providers.identities(&read, None).await);
    let behind = providers.identities(&read, Some(it.cast.identity)).await;
    it.say("identities behind", behind);
    for id in it.cast.provider.each() {
        it.say("get", providers.get(&read, id).await);
        let foreign = ProviderSettings {
            join_role: Some(it.cast.role.other.to_string()),
            enabled: true,
            ..settings("isolation")
        };
        let changed = providers.update(&update, id, None, foreign).await;
        it.say("take a foreign role", changed);
        let off = settings("isolation other");
        let changed = providers.update(&update, id, None, off).await;
        it.say("switch off under a foreign name", changed);
    }
    for name in ["isolation 1", "isolation 2"] {
        let made = providers
            .create(&create, "https://id.example", settings(name))
            .await;
        it.say("create with a foreign name", made);
    }
    for id in it.cast.provider.each() {
        it.say("delete", providers.delete(&delete, id).await);
    }
    it.say("list", providers.list(&read).await);
    Ok(())
}

/// An identity is unlinked by its user, who may be in any of their tenants: by its id alone, so
/// that it is a new one here.
async fn unlinking(it: &Stage) -> Result<()> {
    let (crm, bob) = (&it.crm, it.cast.bob);
    let scope = session(crm, it.tenant, bob).await?;
    let old = Sql::new("DELETE FROM user_identities WHERE tenant_id = $1 AND id = $2")
        .bind(it.tenant, ColumnType::Uuid)
        .bind(it.cast.identity, ColumnType::Uuid);
    crm.core.db.execute(old).await?;
    let identity = link(crm, it.tenant, it.cast.provider.both, bob).await?;
    let accounts = crm.accounts();
    it.say("unlink", accounts.unlink_identity(&scope, identity).await);
    it.say("unlink", accounts.unlink_identity(&scope, identity).await);
    let read = it.operator().await?.permit::<Read>("members")?;
    let open = crm.sessions().list_of(&read, bob).await;
    it.say("sessions", open.map(|open| open.len()));
    Ok(())
}

async fn acting(it: &Stage) -> Result<()> {
    let scope = session(&it.crm, it.tenant, it.cast.ann).await?;
    let (create, read) = (
        scope.permit::<Create>("impersonations")?,
        scope.permit::<Read>("impersonations")?,
    );
    let delete = scope.permit::<Delete>("impersonations")?;
    let impersonations = it.crm.impersonations();
    it.say("list", impersonations.list(&read).await);
    for user in [it.cast.bob, it.cast.carl] {
        let begun = impersonations.start(&create, named(user)).await;
        it.say("start", begun.map(|begun| begun.impersonation));
    }
    for id in [it.cast.impersonation, FamilyId(it.cast.carl.0)] {
        it.say("end", impersonations.end(&delete, id).await);
    }
    it.say("list", impersonations.list(&read).await);
    Ok(())
}

async fn rules(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let (read, update) = (
        scope.permit::<Read>("members")?,
        scope.permit::<Update>("members")?,
    );
    let accounts = it.crm.accounts();
    it.say("read", accounts.tenant_security(&read).await);
    for operator_impersonation in [false, true] {
        let security = TenantSecurityChange {
            operator_impersonation: Some(operator_impersonation),
            password_policy: Some(None),
        };
        let set = accounts.update_tenant_security(&update, security).await;
        it.say("set", set);
        it.say("read", accounts.tenant_security(&read).await);
    }
    let required = accounts.require_second_factor(&update, true).await;
    it.say("require a second factor", required);
    // Which tells what was settled before.
    let permit = scope.permit::<Read>("audit")?;
    let query = AuditQuery {
        limit: Some(5),
        ..AuditQuery::default()
    };
    it.say("the audit log", it.crm.audit().list(&permit, &query).await);
    Ok(())
}
