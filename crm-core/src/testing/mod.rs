//! Test support for this library and for applications built on it; behind the feature `testing`.

mod isolation;
pub mod postgres;
mod suite;

pub use isolation::{IsolationBroken, Leak, isolation_suite};
pub use suite::{Broken, module_suite};
use tempfile::TempDir;

use crate::crm::Crm;
use crate::error::Result;
use crate::id::{TenantId, UserId};
use crate::policy::Subject;
use crate::scope::{Actor, RequestContext, Scope};

/// The scope of a user in a tenant as [`Crm::authenticate`] makes it, without a credential; `None`
/// when they are no active member there.
///
/// # Errors
/// Those of the database.
pub async fn scope(
    crm: &Crm,
    tenant: TenantId,
    user: UserId,
    request: RequestContext,
) -> Result<Option<Scope>> {
    let core = &crm.core;
    let rights = core.policy.rights_for(tenant, Subject::User(user)).await?;
    let actor = Actor::User(user);
    Ok(rights.map(|rights| Scope::of(core.clone(), actor, tenant, rights, request)))
}

/// What the work answers, and how many statements it reads by, outside of transactions.
pub async fn reads<T>(work: impl Future<Output = T>) -> (T, u64) {
    crate::db::counted::reads(work).await
}

/// An empty database of one test, gone after it.
#[derive(Debug)]
pub struct Backend {
    url: String,
    _directory: Option<TempDir>,
}

impl Backend {
    /// A new SQLite file in a directory of its own.
    ///
    /// # Panics
    /// When there is no place for temporary files.
    #[expect(
        clippy::expect_used,
        reason = "a test without a place for its database cannot pass"
    )]
    pub fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let url = format!("sqlite://{}", directory.path().join("crm.db").display());
        Self {
            url,
            _directory: Some(directory),
        }
    }

    /// A new database of the test server.
    ///
    /// # Panics
    /// When there is no server, see [`postgres::url`].
    pub async fn postgres() -> Self {
        Self {
            url: postgres::database().await,
            _directory: None,
        }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// Makes each `async fn(Backend) -> Result` a test on both databases: `sqlite::…`, `postgres::…`.
#[macro_export]
macro_rules! on_both_databases {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() -> anyhow::Result<()> {
                    super::$name($crate::testing::Backend::sqlite()).await
                }
            )+
        }

        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() -> anyhow::Result<()> {
                    super::$name($crate::testing::Backend::postgres().await).await
                }
            )+
        }
    };
}
