//! An import whose program is killed goes on where it stood: every row once, none lost.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::ensure;
use crm_core::on_both_databases;
use crm_core::testing::Backend;
use sqlx::Connection as _;

use crate::SECRET;

on_both_databases!(a_killed_import_is_resumed_and_writes_every_row_once_with_its_traces);

const ROWS: usize = 15_000;
/// Rows that are there when the program is killed, at least.
const BEFORE: i64 = 2_000;

fn crm(database: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crm"));
    command
        .args(arguments)
        .args(["--database", database])
        .env("CRM_SECRET_KEY", SECRET)
        .env("LOG_LEVEL", "warn")
        .stdin(Stdio::null());
    command
}

/// Runs a statement on the database of a program that does not run.
pub(crate) async fn execute(url: &str, statement: &'static str) -> anyhow::Result<()> {
    macro_rules! run {
        ($connection:ty) => {{
            let mut connection = <$connection>::connect(url).await?;
            sqlx::query(statement).execute(&mut connection).await?;
        }};
    }
    match url.starts_with("sqlite") {
        true => run!(sqlx::SqliteConnection),
        false => run!(sqlx::PgConnection),
    }
    Ok(())
}

/// The numbers that a statement answers.
pub(crate) async fn numbers(url: &str, statement: &'static str) -> anyhow::Result<Vec<i64>> {
    use sqlx::Row as _;
    macro_rules! ask {
        ($connection:ty) => {{
            let mut connection = <$connection>::connect(url).await?;
            let row = sqlx::query(statement).fetch_one(&mut connection).await?;
            (0..row.len())
                .map(|at| Ok(row.try_get::<i64, _>(at)?))
                .collect()
        }};
    }
    match url.starts_with("sqlite") {
        true => ask!(sqlx::SqliteConnection),
        false => ask!(sqlx::PgConnection),
    }
}

/// Kills the program in the middle of its work.
async fn killed_amid_rows(mut program: Child, url: &str) -> anyhow::Result<()> {
    loop {
        ensure!(program.try_wait()?.is_none(), "the import ended too soon");
        if numbers(url, "SELECT count(*) FROM contacts").await?[0] >= BEFORE {
            break;
        }
        tokio::task::yield_now().await;
    }
    program.kill()?;
    program.wait()?;
    Ok(())
}

async fn a_killed_import_is_resumed_and_writes_every_row_once_with_its_traces(
    backend: Backend,
) -> anyhow::Result<()> {
    let url = backend.url();
    for set_up in [&["migrate", "up"][..], &["tenant", "create", "acme"]] {
        let done = crm(url, set_up).output()?;
        ensure!(done.status.success(), "{done:?}");
    }
    let mut file = tempfile::Builder::new().suffix(".csv").tempfile()?;
    writeln!(file, "name,email,score")?;
    for row in 0..ROWS {
        writeln!(file, "Row {row},row{row}@example.com,{}", row % 101)?;
    }
    file.flush()?;
    let path = file.path().to_string_lossy().into_owned();

    let import = ["import", &path, "--tenant", "acme", "--module", "contacts"];
    let program = crm(url, &import).stderr(Stdio::null()).spawn()?;
    killed_amid_rows(program, url).await?;
    let there = numbers(url, "SELECT count(*) FROM contacts").await?[0];
    ensure!((BEFORE..ROWS as i64).contains(&there), "{there} rows");

    let resume = crm(url, &["import", "--tenant", "acme", "--resume"]);
    let resumed = tokio::time::timeout(
        Duration::from_secs(120),
        tokio::process::Command::from(resume).output(),
    )
    .await??;
    let said = String::from_utf8_lossy(&resumed.stdout).into_owned();
    ensure!(said == format!("{ROWS} records imported\n"), "{resumed:?}");

    let rows = ROWS as i64;
    const COUNTS: &str = "SELECT \
        (SELECT count(*) FROM contacts), \
        (SELECT count(DISTINCT email) FROM contacts), \
        (SELECT count(*) FROM contacts c JOIN outbox o ON o.tenant_id = c.tenant_id \
         AND o.record_id = c.id AND o.kind = 'contact.created'), \
        (SELECT count(*) FROM outbox), \
        (SELECT count(*) FROM audit_log WHERE action = 'contacts.create'), \
        (SELECT count(DISTINCT entity_id) FROM audit_log WHERE action = 'contacts.create'), \
        (SELECT count(*) FROM jobs WHERE state = 'done'), \
        (SELECT count(*) FROM job_chunks)";
    let found = numbers(url, COUNTS).await?;
    assert_eq!(found, [rows, rows, rows, rows, rows, rows, 1, 0]);

    let again = crm(url, &["import", "--tenant", "acme", "--resume"]).output()?;
    let told = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(
        told,
        "crm: this tenant has no import that is not finished\n"
    );
    Ok(())
}
