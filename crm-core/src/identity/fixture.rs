//! An installation for the tests of identity: a clock that stands still, cheap passwords, and Ann,
//! admin of the tenant Acme.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta};
use secrecy::{ExposeSecret, SecretString};

use super::{Accounts, Login, NewUser, PasswordCost, Registration, Session};
use crate::audit::AuditQuery;
use crate::clock::{Clock, Fixed};
use crate::crm::{Builder, Crm};
use crate::db::{ColumnType, Sql};
use crate::error::{Error, Result as CrmResult};
use crate::id::{TenantId, UserId};
use crate::scope::{Create, RequestContext, Scope};
use crate::testing::Backend;

pub(super) const ACME: &str = "Acme";
pub(super) const ANN: &str = "ann@example.com";
pub(super) const PASSWORD: &str = "correct horse";

pub(super) const SECRET: &str = "0123456789abcdef0123456789abcdef";

pub(super) struct World {
    pub(super) crm: Crm,
    pub(super) clock: Arc<Fixed>,
    backend: Backend,
}

pub(super) fn request() -> RequestContext {
    RequestContext {
        id: "request-1".into(),
        address: Some(IpAddr::from([192, 0, 2, 1])),
    }
}

pub(super) fn registration(setup_token: SecretString) -> Registration {
    Registration {
        setup_token,
        tenant: ACME.into(),
        email: ANN.into(),
        password: PASSWORD.into(),
        name: "Ann".into(),
    }
}

pub(super) fn login_of(email: &str) -> Login {
    Login {
        email: email.into(),
        password: PASSWORD.into(),
        tenant: None,
        new_password: None,
    }
}

pub(super) fn code<T>(result: CrmResult<T>) -> &'static str {
    match result {
        Ok(_) => "no error",
        Err(error) => error.code(),
    }
}

/// The pointer and code of the one refused field.
pub(super) fn refused_field<T>(result: CrmResult<T>) -> (String, &'static str) {
    match result {
        Err(Error::Invalid(fields)) if fields.len() == 1 => {
            (fields[0].pointer.clone(), fields[0].code)
        }
        Err(other) => panic!("another refusal: {other:?}"),
        Ok(_) => panic!("the input was accepted"),
    }
}

impl World {
    pub(super) async fn empty(backend: Backend) -> Result<Self> {
        Self::with(backend, |builder| builder).await
    }

    /// Without anybody, and with more to it.
    pub(super) async fn with(
        backend: Backend,
        more: impl FnOnce(Builder) -> Builder,
    ) -> Result<Self> {
        let start = DateTime::from_timestamp(1_800_000_000, 0).context("an instant")?;
        let (clock, fixed) = Clock::fixed(start, 1);
        let builder = Self::builder(&backend, clock, PasswordCost::LOWEST);
        let crm = more(builder).build().await?;
        Ok(Self {
            crm,
            clock: fixed,
            backend,
        })
    }

    /// With Ann registered; the session is hers.
    pub(super) async fn new(backend: Backend) -> Result<(Self, Session)> {
        let world = Self::empty(backend).await?;
        let input = registration(world.setup().await?);
        let session = world.accounts().register(input, request()).await?;
        Ok((world, session))
    }

    async fn build(backend: &Backend, clock: Clock, cost: PasswordCost) -> Result<Crm> {
        Ok(Self::builder(backend, clock, cost).build().await?)
    }

    fn builder(backend: &Backend, clock: Clock, cost: PasswordCost) -> Builder {
        let options = crate::testing::database_options();
        Crm::builder()
            .database(backend.url())
            .database_options(options)
            .secret(SECRET.into())
            .clock(clock)
            .password_cost(cost)
            .failed_login_time(Duration::ZERO)
    }

    /// Another process on the same database, with the same clock; the first one is not told.
    pub(super) async fn other_process(&self) -> Result<Crm> {
        let clock = self.crm.clock().clone();
        Self::build(&self.backend, clock, PasswordCost::LOWEST).await
    }

    /// As [`other_process`](Self::other_process), with other options.
    pub(super) async fn process_of(&self, more: impl FnOnce(Builder) -> Builder) -> CrmResult<Crm> {
        let clock = self.crm.clock().clone();
        let builder = Self::builder(&self.backend, clock, PasswordCost::LOWEST);
        more(builder).build().await
    }

    /// The same installation after a restart with another cost of passwords.
    pub(super) async fn restarted(self, cost: PasswordCost) -> Result<Self> {
        let clock = self.crm.clock().clone();
        self.crm.close().await;
        let crm = Self::build(&self.backend, clock, cost).await?;
        Ok(Self { crm, ..self })
    }

    /// The same installation after a restart that made it strict.
    pub(super) async fn made_strict(self) -> Result<Self> {
        let clock = self.crm.clock().clone();
        self.crm.close().await;
        let builder = Self::builder(&self.backend, clock, PasswordCost::LOWEST);
        let crm = builder.strict_authentication().build().await?;
        Ok(Self { crm, ..self })
    }

    pub(super) fn accounts(&self) -> Accounts {
        self.crm.accounts()
    }

    pub(super) async fn setup(&self) -> Result<SecretString> {
        self.crm
            .ensure_setup_token()
            .await?
            .context("a setup token")
    }

    pub(super) async fn scope(&self, credential: &SecretString) -> CrmResult<Scope> {
        self.crm
            .authenticate(credential.expose_secret(), request())
            .await
    }

    /// Makes a member with these roles; the scope is theirs after a login.
    pub(super) async fn member(
        &self,
        tenant: TenantId,
        email: &str,
        roles: &[&str],
    ) -> CrmResult<UserId> {
        let user = NewUser {
            email: email.into(),
            name: "Bob".into(),
            password: PASSWORD.into(),
            roles: roles.iter().map(ToString::to_string).collect(),
        };
        let permit = self
            .crm
            .operator(tenant, request())
            .permit::<Create>("members")?;
        Ok(self.accounts().create_user(&permit, user).await?.user_id)
    }

    pub(super) async fn other_tenant(&self, name: &str) -> CrmResult<TenantId> {
        Ok(self.crm.tenants().create(name, request()).await?.id)
    }

    /// Lets the throttle forget.
    pub(super) fn wait_a_minute(&self) {
        self.clock.advance(TimeDelta::minutes(1));
    }

    /// The actions audited in a tenant, the oldest first.
    pub(super) async fn audited(&self, tenant: TenantId) -> Result<Vec<String>> {
        self.crm.core.identity.settle().await;
        let permit = self.crm.operator(tenant, request()).permit("audit")?;
        let query = AuditQuery {
            limit: Some(100),
            ..AuditQuery::default()
        };
        let page = self.crm.audit().list(&permit, &query).await?;
        Ok(page
            .data
            .into_iter()
            .rev()
            .map(|entry| entry.action)
            .collect())
    }

    /// Runs a statement that no repository offers.
    pub(super) async fn execute(&self, sql: Sql) -> Result<()> {
        self.crm.core.db.execute(sql).await?;
        Ok(())
    }

    pub(super) async fn count(&self, count: &'static str) -> Result<i64> {
        let count = Sql::new(count).returns(&[ColumnType::Int]);
        let mut row = self
            .crm
            .core
            .db
            .fetch_optional(count)
            .await?
            .context("a count")?;
        Ok(row.int()?)
    }
}
