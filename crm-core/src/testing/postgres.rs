//! A throwaway PostgreSQL for tests: one cluster per test process, one database per test.
//!
//! The cluster listens on a free loopback port with a random password, and trades durability for
//! speed: it lives in memory where there is room, and a new database is a copy of one that was
//! migrated once. (A Unix socket would refuse connections whenever its short backlog is full.) Its
//! watchdog holds a pipe to the test process and removes everything as soon as that process is
//! gone, even when it was killed.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::OnceCell;

use crate::clock::Clock;

/// The URL of the test server's maintenance database.
///
/// It is `CRM_TEST_POSTGRES` when that variable is set, and otherwise a cluster that the first call
/// starts from the server programs installed on this machine.
///
/// # Panics
/// When there is no server: a test that needs one cannot pass without it.
pub fn url() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| match std::env::var("CRM_TEST_POSTGRES") {
        Ok(url) => url,
        Err(_) => match Cluster::start() {
            Ok(cluster) => {
                let url = cluster.url();
                // Dropped with the process: the pipe closes, and the watchdog cleans up.
                std::mem::forget(cluster);
                url
            }
            Err(reason) => panic!("{reason}"),
        },
    })
}

/// A database of the test server for one test, removed behind it.
///
/// On a server named by `CRM_TEST_POSTGRES` it is called `crm_test_…`; what a process that ends
/// leaves behind there stays.
#[derive(Debug)]
pub struct Database {
    name: String,
    url: String,
}

impl Database {
    /// A new one with the tables of this library.
    ///
    /// # Panics
    /// When there is no server, or it refuses to create the database.
    pub async fn new() -> Self {
        /// Never removed: the last test may need it.
        static MIGRATED: OnceCell<String> = OnceCell::const_new();
        let template = MIGRATED.get_or_init(async || {
            let database = Self::empty().await;
            if let Err(error) = super::migrate(&database.url).await {
                panic!("the library's tables cannot be made: {error}");
            }
            let name = database.name.clone();
            std::mem::forget(database);
            name
        });
        Self::copy_of(template.await).await
    }

    /// A new one without the tables.
    ///
    /// # Panics
    /// As [`Database::new`].
    pub async fn empty() -> Self {
        Self::copy_of("template1").await
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    async fn copy_of(template: &str) -> Self {
        let name = format!("crm_test_{}", Clock::system().new_id().simple());
        if let Err(error) = execute(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await {
            panic!("the test server refuses to create a database: {error}");
        }
        let url = with_database(url(), &name);
        Self { name, url }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Without the thread, the database stays until the cluster ends.
        let _ = remover().send(std::mem::take(&mut self.name));
    }
}

/// Removes the databases it is told of, one after another, on a thread of its own: a test that is
/// over has no runtime left to wait with.
fn remover() -> &'static Sender<String> {
    static REMOVER: OnceLock<Sender<String>> = OnceLock::new();
    REMOVER.get_or_init(|| {
        let (sender, names) = mpsc::channel::<String>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            for name in names {
                let remove = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                // Nobody is left to hear of a server that went away.
                let _ = runtime.block_on(execute(&remove));
            }
            std::io::Result::Ok(())
        });
        sender
    })
}

async fn execute(statement: &str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(url()).await?;
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(&mut connection)
        .await?;
    connection.close().await
}

/// The same server, another database.
fn with_database(url: &str, name: &str) -> String {
    let (address, query) = url.split_at(url.find('?').unwrap_or(url.len()));
    let host = address.find("://").map_or(0, |at| at + 3);
    let server = address[host..]
        .find('/')
        .map_or(address, |at| &address[..host + at]);
    format!("{server}/{name}{query}")
}

/// A running server and the watchdog that ends it.
struct Cluster {
    /// The shell that stops the server when its standard input closes.
    watchdog: Child,
    directory: PathBuf,
    password: String,
    port: u16,
}

impl Cluster {
    fn start() -> Result<Self, String> {
        let programs = programs().ok_or(
            "No PostgreSQL server is installed: install the `postgresql` package, \
             or set CRM_TEST_POSTGRES to the URL of a server.",
        )?;
        let directory = tempfile::Builder::new()
            .prefix("crm-pg-")
            .tempdir_in(super::folder())
            .map_err(|error| format!("No directory for a test server: {error}"))?
            .keep();
        Self::start_in(&programs, directory.clone()).map_err(|reason| {
            // The watchdog removed it already, unless it never ran.
            let _ = std::fs::remove_dir_all(&directory);
            format!(
                "PostgreSQL in {} does not start: {reason}",
                programs.display()
            )
        })
    }

    fn start_in(programs: &Path, directory: PathBuf) -> Result<Self, String> {
        let password = hex::encode(Clock::system().random::<16>());
        std::fs::write(directory.join("password"), &password).map_err(|error| error.to_string())?;
        // Free now, and the kernel hands it to nobody else soon.
        let port = TcpListener::bind(("127.0.0.1", 0))
            .and_then(|listener| listener.local_addr())
            .map_err(|error| error.to_string())?
            .port();
        let mut command = Command::new("sh");
        command
            .args(["-c", include_str!("postgres.sh"), "crm-test-postgres"])
            .args([programs, &directory])
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C reaches the tests, and through their end the watchdog.
            .process_group(0);
        run_unprivileged(&mut command, &directory)?;
        let mut watchdog = command.spawn().map_err(|error| error.to_string())?;
        let mut answer = String::new();
        if let Some(stdout) = watchdog.stdout.take() {
            let mut stdout = BufReader::new(stdout);
            stdout
                .read_line(&mut answer)
                .map_err(|error| error.to_string())?;
            if answer != "ready\n" {
                stdout
                    .read_to_string(&mut answer)
                    .map_err(|error| error.to_string())?;
                return Err(answer);
            }
        }
        Ok(Self {
            watchdog,
            directory,
            password,
            port,
        })
    }

    fn url(&self) -> String {
        let (password, port) = (&self.password, self.port);
        format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres?sslmode=disable")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
        // Gone already, unless the watchdog itself was killed.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// PostgreSQL refuses to run as root: then it runs as `postgres` or `nobody`, who gets `directory`.
fn run_unprivileged(command: &mut Command, directory: &Path) -> Result<(), String> {
    let owner = std::fs::metadata(directory)
        .map_err(|error| error.to_string())?
        .uid();
    if owner != 0 {
        return Ok(());
    }
    let accounts = std::fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())?;
    let (uid, gid) = ["postgres", "nobody"]
        .iter()
        .find_map(|name| account(&accounts, name))
        .ok_or("there is no user `postgres` or `nobody` to run it as")?;
    std::os::unix::fs::chown(directory, Some(uid), Some(gid)).map_err(|error| error.to_string())?;
    command.uid(uid).gid(gid);
    Ok(())
}

/// User and group number of the account called `name` in the text of `/etc/passwd`.
fn account(accounts: &str, name: &str) -> Option<(u32, u32)> {
    accounts
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut fields| {
            let found = fields.next()? == name;
            let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            found.then_some((uid, gid))
        })
}

/// The directory of the server programs: from `PATH`, else where Debian keeps the newest.
fn programs() -> Option<PathBuf> {
    let complete = |directory: &PathBuf| {
        ["initdb", "pg_ctl", "postgres"]
            .iter()
            .all(|name| directory.join(name).is_file())
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).find(complete).or_else(|| {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
        versions
            .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry)))
            .map(|(version, entry)| (version, entry.path().join("bin")))
            .filter(|(_, directory)| complete(directory))
            .max()
            .map(|(_, directory)| directory)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_database_is_migrated_another_one_and_gone_behind_its_test() -> anyhow::Result<()>
    {
        let (one, other) = (Database::new().await, Database::new().await);
        assert_ne!(one.url(), other.url());
        let gone = one.url().to_owned();
        for database in [one, other] {
            let mut connection = PgConnection::connect(database.url()).await?;
            let users: i64 = sqlx::query_scalar("SELECT count(*) FROM users")
                .fetch_one(&mut connection)
                .await?;
            assert_eq!(users, 0);
            sqlx::raw_sql("CREATE TABLE contacts (id bigint)")
                .execute(&mut connection)
                .await?;
            let lower: String = sqlx::query_scalar("SELECT lower('ÄÉ')")
                .fetch_one(&mut connection)
                .await?;
            assert_eq!(lower, "äé");
        }
        while PgConnection::connect(&gone).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        Ok(())
    }

    #[tokio::test]
    async fn the_cluster_vanishes_when_the_pipe_of_its_owner_closes() -> anyhow::Result<()> {
        let cluster = Cluster::start().map_err(anyhow::Error::msg)?;
        let (url, directory) = (cluster.url(), cluster.directory.clone());
        PgConnection::connect(&url).await?.close().await?;
        drop(cluster);
        assert!(!directory.exists());
        assert!(PgConnection::connect(&url).await.is_err());
        Ok(())
    }

    #[test]
    fn another_database_keeps_server_and_options() {
        let cases = [
            (
                "postgres://u:p@h:1/a?sslmode=disable",
                "postgres://u:p@h:1/b?sslmode=disable",
            ),
            ("postgres://h/a?host=/tmp/x", "postgres://h/b?host=/tmp/x"),
            ("postgres://h", "postgres://h/b"),
        ];
        for (url, expected) in cases {
            assert_eq!(with_database(url, "b"), expected);
        }
    }

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let accounts = "post:x:1:2:::\npostgres:x:101:104:PostgreSQL:/var/lib:/bin/bash\n";
        assert_eq!(account(accounts, "postgres"), Some((101, 104)));
        assert_eq!(account(accounts, "nobody"), None);
    }
}
