//! A tenant with one member per built-in role, for the tests of policy, roles and members.

use std::sync::Arc;

use chrono::DateTime;
use secrecy::SecretString;

use super::{Grants, Subject};
use crate::crm::{Builder, Crm};
use crate::db::{ColumnType, Sql, Tx};
use crate::egress::Egress;
use crate::error::Result;
use crate::id::{ApiKeyId, RoleId, TenantId, UserId};
use crate::identity::PasswordCost;
use crate::module::ModuleSpec;
use crate::scope::{Action, Permit, RequestContext, Scope};
use crate::testing::Backend;
use crate::{clock, member, role, tenant, testing};

/// Declares each test on SQLite and on PostgreSQL.
macro_rules! on_both_databases {
    ($($test:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::policy::fixture::World::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::policy::fixture::World::postgres().await).await;
            })*
        }
    };
}
pub(crate) use on_both_databases;

pub(crate) struct World {
    pub(crate) crm: Crm,
    pub(crate) tenant: TenantId,
    pub(crate) admin: UserId,
    pub(crate) manager: UserId,
    pub(crate) member: UserId,
    pub(crate) viewer: UserId,
    backend: Backend,
}

impl World {
    pub(crate) async fn sqlite() -> Self {
        Self::open(Backend::sqlite().await).await
    }

    pub(crate) async fn postgres() -> Self {
        Self::open(Backend::postgres().await).await
    }

    async fn open(backend: Backend) -> Self {
        let start = DateTime::from_timestamp(1_750_000_000, 0).unwrap();
        let clock = clock::Clock::fixed(start, 1).0;
        let crm = library(&backend, clock).build().await.unwrap();
        let mut world = Self {
            crm,
            tenant: TenantId(uuid::Uuid::nil()),
            admin: UserId(uuid::Uuid::nil()),
            manager: UserId(uuid::Uuid::nil()),
            member: UserId(uuid::Uuid::nil()),
            viewer: UserId(uuid::Uuid::nil()),
            backend,
        };
        world.tenant = world.new_tenant("acme").await;
        world.admin = world.new_member(&["admin"]).await;
        world.manager = world.new_member(&["manager"]).await;
        world.member = world.new_member(&["member"]).await;
        world.viewer = world.new_member(&["viewer"]).await;
        world
    }

    /// The same tenant in a process whose requests leave this way.
    pub(crate) async fn reaching(self, egress: Egress) -> Self {
        self.crm.close().await;
        let builder = library(&self.backend, self.crm.clock().clone()).egress(egress);
        let crm = builder.build().await.unwrap();
        Self { crm, ..self }
    }

    /// Another tenant, with its built-in roles and nobody in it.
    pub(crate) async fn new_tenant(&self, name: &'static str) -> TenantId {
        let clock = self.crm.clock().clone();
        let write = self.crm.core.db.write(move |tx| {
            Box::pin(async move { tenant::insert(tx, &clock, name.to_owned()).await })
        });
        write.await.unwrap().0.id
    }

    /// A new active user, in the tenant with these roles.
    pub(crate) async fn new_member(&self, roles: &[&str]) -> UserId {
        self.new_member_of(self.tenant, roles).await
    }

    /// As [`new_member`](Self::new_member), in any tenant.
    pub(crate) async fn new_member_of(&self, tenant: TenantId, roles: &[&str]) -> UserId {
        let clock = self.crm.clock().clone();
        let roles: Vec<String> = roles.iter().map(ToString::to_string).collect();
        let user = UserId(clock.new_id());
        let job = self.crm.core.policy.write(tenant, move |tx| {
            Box::pin(async move {
                let insert = Sql::new(
                    "INSERT INTO users (id, email, name, created_at) VALUES ($1, $2, 'Someone', $3)",
                )
                .bind(user, ColumnType::Uuid)
                .bind(format!("{user}@example.com"), ColumnType::Text)
                .bind(clock.now(), ColumnType::Instant);
                tx.execute(insert).await?;
                let join = Sql::new(
                    "INSERT INTO memberships (tenant_id, user_id, created_at) VALUES ($1, $2, $3)",
                )
                .bind(tenant, ColumnType::Uuid)
                .bind(user, ColumnType::Uuid)
                .bind(clock.now(), ColumnType::Instant);
                tx.execute(join).await?;
                let roles = role::resolve(tx, tenant, "roles", &roles).await?;
                member::assign(tx, tenant, user, &roles, clock.now()).await
            })
        });
        job.await.unwrap();
        user
    }

    /// A key of the tenant, bound to a role.
    pub(crate) async fn new_key(&self, role: RoleId) -> ApiKeyId {
        let key = ApiKeyId(self.crm.clock().new_id());
        let insert = Sql::new(
            "INSERT INTO api_keys (tenant_id, id, name, prefix, hash, role_id, created_by, \
             created_at) VALUES ($1, $2, 'key', 'crm_', $3, $4, 'operator', $5)",
        )
        .bind(self.tenant, ColumnType::Uuid)
        .bind(key, ColumnType::Uuid)
        .bind(key.0.as_bytes().to_vec(), ColumnType::Bytes)
        .bind(role, ColumnType::Uuid)
        .bind(self.crm.clock().now(), ColumnType::Instant);
        self.execute(insert).await;
        key
    }

    /// Runs one statement outside any repository.
    pub(crate) async fn execute(&self, sql: Sql) {
        let write = self
            .crm
            .core
            .db
            .write(move |tx: &mut Tx<'_>| Box::pin(tx.execute(sql)));
        write.await.unwrap();
    }

    /// What the cache answers of a subject of the tenant.
    pub(crate) async fn grants(&self, subject: Subject) -> Option<Arc<Grants>> {
        self.crm
            .core
            .policy
            .grants_for(self.tenant, subject)
            .await
            .unwrap()
    }

    pub(crate) async fn scope(&self, user: UserId) -> Scope {
        let scope = testing::scope(&self.crm, self.tenant, user, request()).await;
        scope.unwrap().unwrap()
    }

    pub(crate) fn operator(&self, tenant: TenantId) -> Scope {
        self.crm.operator(tenant, request())
    }

    pub(crate) async fn permit<A: Action>(&self, user: UserId, object: &str) -> Permit<A> {
        self.scope(user).await.permit(object).unwrap()
    }

    /// The audit log of the tenant: actions, the oldest first.
    pub(crate) async fn audit(&self) -> Vec<String> {
        let select = Sql::new("SELECT action FROM audit_log WHERE tenant_id = $1 ORDER BY id")
            .bind(self.tenant, ColumnType::Uuid)
            .returns(&[ColumnType::Text]);
        let rows = self.crm.core.db.fetch_all(select).await.unwrap();
        rows.into_iter()
            .map(|mut row| row.text().unwrap())
            .collect()
    }
}

fn library(backend: &Backend, clock: clock::Clock) -> Builder {
    let modules = ["contacts", "deals"].map(|name| {
        let singular = name.trim_end_matches('s');
        let text = format!(
            "name = '{name}'\nsingular = '{singular}'\n\
             [[fields]]\nname = 'title'\ntype = 'text'\n"
        );
        ModuleSpec::from_toml(&text).unwrap()
    });
    Crm::builder()
        .database(backend.url())
        .database_options(crate::testing::database_options())
        .clock(clock)
        .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
        .password_cost(PasswordCost::LOWEST)
        .modules(modules)
}

fn request() -> RequestContext {
    RequestContext {
        id: "test".into(),
        address: None,
    }
}

/// The code of a refusal.
pub(crate) fn refusal<T: std::fmt::Debug>(answer: Result<T>) -> &'static str {
    answer.unwrap_err().code()
}

/// The first permission that a refusal says is missing.
pub(crate) fn missing<T: std::fmt::Debug>(answer: Result<T>) -> String {
    let refused = answer.unwrap_err();
    assert_eq!(refused.code(), "forbidden", "{refused}");
    let message = refused.to_string();
    let mut words = message.split([' ', ',', ';']);
    let permission = words.find(|word| word.contains('.'));
    permission.expect("the name of a permission").to_owned()
}
