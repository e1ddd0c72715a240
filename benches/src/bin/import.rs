//! Measures an import: how many rows a second, and how far the memory grows; then how long its
//! audit entries take to be sealed and verified (`import 1000000` for a million of them).
//!
//! `import [ROWS] [FOLDER]` makes a CSV of contacts, sends it piece by piece, and runs the job with
//! audit and outbox rows on SQLite as it comes (`synchronous=FULL`), or on the empty database that
//! `BENCH_DATABASE` names.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use crm_benches::Fixture;
use crm_core::job::JobState;
use crm_core::transfer::{Format, ImportOptions};
use crm_core::{DatabaseOptions, Read};

/// As in `crm`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let rows: usize = arguments.next().map_or(Ok(200_000), |text| text.parse())?;
    let folder = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let fixture = Fixture::open_on_any(&folder, DatabaseOptions::default()).await?;
    let before = memory()?;
    let options = ImportOptions::new(Format::Csv);
    let transfer = fixture.crm.transfer();
    let mut upload = transfer.import(&fixture.scope, "contacts", options).await?;
    upload
        .push(b"name,email,phone,company,job_title,score,status\n")
        .await?;
    let sent = Instant::now();
    for row in 0..rows {
        let line = format!(
            "Row {row},row{row}@example.com,+49 30 {row},\"Company {}, Inc.\",Clerk,{},lead\n",
            row % 1_000,
            row % 101
        );
        upload.push(line.as_bytes()).await?;
    }
    let bytes = upload.received();
    let id = upload.finish().await?;
    println!(
        "sent     {bytes} bytes in {:.2} s",
        sent.elapsed().as_secs_f64()
    );

    let begun = Instant::now();
    fixture.crm.run_jobs_once().await?;
    let took = begun.elapsed().as_secs_f64();
    let job = fixture.crm.jobs().get(&fixture.scope, id).await?;
    ensure!(job.state == JobState::Done, "{job:?}");
    ensure!(job.progress.done == rows as u64, "{job:?}");
    println!(
        "imported {rows} rows in {took:.2} s: {:.0} rows/s",
        rows as f64 / took
    );
    println!("memory   +{} MiB at most", (memory()? - before) / 1024);
    audit(&fixture).await?;
    fixture.crm.close().await;
    Ok(())
}

/// How long the audit entries take to be sealed, and to be held against their chain.
async fn audit(fixture: &Fixture) -> Result<()> {
    let begun = Instant::now();
    let sealed = fixture.crm.seal_audit_once().await?;
    println!(
        "sealed   {sealed} audit entries in {:.2} s",
        begun.elapsed().as_secs_f64()
    );
    let begun = Instant::now();
    let permit = fixture.scope.permit::<Read>("audit")?;
    let found = fixture.crm.audit().verify(&permit, None).await?;
    ensure!(found.fault.is_none(), "{found:?}");
    println!(
        "verified {} audit entries in {:.2} s",
        found.verified,
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

/// The most memory the process has held, in KiB.
fn memory() -> Result<i64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(number.context("no VmHWM")?.parse()?)
}
