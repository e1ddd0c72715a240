//! Loads a real `crm serve` over loopback, and prints what each kind of request costs the server.
//!
//! It shares the machine with the server, so its own HTTP client is lean, and the cost to look at
//! is the server's CPU time rather than the rate. An answer that is no 2xx makes it fail.

mod client;
mod contact;
mod logins;
mod measure;
mod process;
mod server;
mod tenant;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;

use crate::measure::Pace;
use crate::server::Server;
use crate::tenant::Tenants;
use crate::work::Work;

/// Load a real `crm serve` and print what each kind of request costs it
///
/// Give it a release build of the server, and nothing else to do to the machine.
#[derive(Parser)]
#[command(
    name = "load",
    max_term_width = 100,
    after_long_help = "\
Examples:
  cargo build --release --workspace --bins && target/release/load
  target/release/load --contacts 200000 --tenants 100 --only search --concurrency 1
  target/release/load --database postgres://crm:secret@localhost/empty

The columns: requests answered per second; the median and the 99th percentile of their time; CPU
seconds of the server process for 1,000 requests, with the background work they cause (PostgreSQL's
own processes are not counted); its resident memory afterwards; answers that were no 2xx."
)]
pub(crate) struct Options {
    /// The crm program
    #[arg(long, default_value = "target/release/crm", value_name = "FILE")]
    server: PathBuf,

    /// An empty database to use, instead of a temporary one on SQLite
    #[arg(long, value_name = "URL")]
    database: Option<String>,

    /// Where the temporary database lies: on the disk to be measured
    #[arg(long, default_value = "target", value_name = "FOLDER")]
    folder: PathBuf,

    /// A file for the server's log, which is thrown away otherwise
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,

    /// Contacts to begin with, over all tenants
    #[arg(long, default_value_t = 10_000)]
    contacts: usize,

    /// Tenants
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    tenants: u32,

    /// Connections, each with one request at a time; several values are measured in turn
    #[arg(long, value_delimiter = ',', default_value = "1,32", value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: Vec<u32>,

    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Work::ALL)]
    only: Vec<Work>,

    /// How long to measure each, in seconds
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    seconds: f64,

    /// How long to warm up before each, in seconds
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    warm_up: f64,
}

/// Access tokens hold for ten minutes, so no measurement may last longer than five.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=300.0).contains(&seconds) => Ok(seconds),
        _ => Err("give seconds between 0.1 and 300".to_owned()),
    }
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let failed = runtime.block_on(run(&options))?;
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Seeds, measures, prints; answers how many requests failed.
async fn run(options: &Options) -> Result<u64> {
    let least = 200 * options.tenants as usize;
    if options.contacts < least {
        bail!("every tenant needs 200 contacts: give at least {least} of them");
    }
    let server = Server::start(options).await?;
    let mut tenants = Tenants::open(&server, options.tenants).await?;
    tenants.seed(server.address, options.contacts).await?;
    println!(
        "{} contacts, {} tenants, {}, {}",
        options.contacts,
        options.tenants,
        server.database_kind(),
        options.server.display()
    );
    let pace = Pace {
        warm_up: Duration::from_secs_f64(options.warm_up),
        measured: Duration::from_secs_f64(options.seconds),
    };
    println!("{}", measure::HEADING);
    let mut failed = 0;
    for work in &options.only {
        for concurrency in &options.concurrency {
            tenants.renew_tokens(&server).await?;
            let line = measure::line(&server, &tenants, *work, *concurrency, pace).await?;
            println!("{line}");
            failed += line.failed();
        }
    }
    Ok(failed)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn no_measurement_outlasts_a_token() {
        assert!(seconds("5").is_ok());
        for odd in ["0", "301", "NaN", "-1", "five"] {
            assert!(seconds(odd).is_err(), "{odd}");
        }
    }
}
