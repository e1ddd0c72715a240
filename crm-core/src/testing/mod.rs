//! Test support for this library and for applications built on it; behind the feature `testing`.

mod isolation;
pub mod postgres;
mod suite;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

pub use isolation::{IsolationBroken, Leak, isolation_suite};
pub use suite::{Broken, module_suite};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::clock::Clock;
use crate::crm::Crm;
use crate::db::{DatabaseOptions, Db, Durability};
use crate::error::Result;
use crate::id::{TenantId, UserId};
use crate::policy::Subject;
use crate::scope::{Actor, RequestContext, Scope};

/// Where Linux keeps files in memory.
const MEMORY: &str = "/dev/shm";

/// A cluster takes about 100 MB, and 10 MB for every test that runs at the time.
const ROOM: u64 = 2 << 30;

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

/// How tests open their database: nothing is synced to the disk, and nobody is refused because the
/// machine is busy.
pub fn database_options() -> DatabaseOptions {
    DatabaseOptions {
        durability: Durability::Off,
        acquire_timeout: Duration::from_secs(60),
        ..DatabaseOptions::default()
    }
}

/// Where databases live: in memory, when there is room for them.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| match room(MEMORY) {
        Some(room) if room >= ROOM => MEMORY.into(),
        _ => std::env::temp_dir(),
    })
}

/// The free bytes of a file system; `None` where `df` does not tell.
fn room(folder: &str) -> Option<u64> {
    let told = Command::new("df").args(["-Pk", folder]).output().ok()?;
    let told = String::from_utf8(told.stdout).ok()?;
    let kibibytes: u64 = told
        .lines()
        .nth(1)?
        .split_whitespace()
        .nth(3)?
        .parse()
        .ok()?;
    Some(kibibytes << 10)
}

async fn migrate(url: &str) -> Result<()> {
    let db = Db::open(url, &database_options()).await?;
    db.migrate_up(&Clock::system()).await?;
    db.close().await;
    Ok(())
}

/// The database of one test, gone behind it.
#[derive(Debug)]
pub struct Backend {
    url: String,
    _kept: Kept,
}

/// What is removed with it.
#[derive(Debug)]
enum Kept {
    Folder(#[expect(dead_code, reason = "dropped with the test")] TempDir),
    Database(#[expect(dead_code, reason = "dropped with the test")] postgres::Database),
}

impl Backend {
    /// A new SQLite file in a directory of its own, which has the library's tables already.
    ///
    /// # Panics
    /// When there is no place for temporary files.
    #[expect(
        clippy::expect_used,
        reason = "a test without a place for its database cannot pass"
    )]
    pub async fn sqlite() -> Self {
        static MIGRATED: OnceCell<Vec<u8>> = OnceCell::const_new();
        let migrated = MIGRATED.get_or_init(async || {
            let directory = tempfile::tempdir_in(folder()).expect("a temporary directory");
            let file = directory.path().join("crm.db");
            let made = migrate(&format!("sqlite://{}", file.display())).await;
            made.expect("the library's tables");
            std::fs::read(file).expect("a migrated file")
        });
        let directory = tempfile::tempdir_in(folder()).expect("a temporary directory");
        let file = directory.path().join("crm.db");
        std::fs::write(&file, migrated.await).expect("room for a database");
        Self {
            url: format!("sqlite://{}", file.display()),
            _kept: Kept::Folder(directory),
        }
    }

    /// A new database of the test server, which has the library's tables already.
    ///
    /// # Panics
    /// When there is no server, see [`postgres::url`].
    pub async fn postgres() -> Self {
        let database = postgres::Database::new().await;
        Self {
            url: database.url().to_owned(),
            _kept: Kept::Database(database),
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
                    super::$name($crate::testing::Backend::sqlite().await).await
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
