//! `crm plugin run`

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use crm_core::clock::Clock;
use crm_core::hook::{Call, Outcome as Ended, Output, PluginHost as _, Verdict};
use crm_plugins::MemoryDoor;
use futures::FutureExt as _;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::event;
use crate::Outcome;
use crate::settings::Settings;
use crate::stdout::{plain, say};

/// Run a component once on an event, without a database
///
/// The event is a JSON file in the form that subscribers receive, or one of {"action": "rescore",
/// "module": "contacts", "records": [{"id": …}], "input": {…}}, {"webhook": "payments", "body": {…}},
/// {"cron": "nightly"} and {"before": "contact.update", "module": "contacts", "old": {…}, "new": {…}}.
/// The records the plugin sees are those of the file itself; what it does is
/// printed and kept nowhere.
#[derive(Args)]
#[command(
    after_long_help = "Example:\n  crm plugin run lead-scoring.wasm --event contact-created.json"
)]
pub(crate) struct Run {
    /// The component
    file: PathBuf,

    /// The event, as JSON
    #[arg(long, value_name = "FILE")]
    event: PathBuf,

    /// What the run's random numbers follow from
    #[arg(long, default_value_t = 0)]
    seed: u8,
}

impl Run {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let component = super::read(&self.file)?;
        let now = Clock::system().now();
        let woken = event::read(&self.event, now)?;
        let host = super::host(&settings, None)?;
        let manifest = host.inspect(component.clone()).await?;
        event::check(&manifest, &woken.input)?;
        let mut tenant = MemoryDoor::new(manifest);
        for (module, id, record) in woken.records {
            tenant = tenant.record(&module, id, record);
        }
        let tenant = Arc::new(tenant);
        let report = host
            .run(Call {
                sha256: Sha256::digest(&component).into(),
                component: Box::new(move || async move { Ok(component.into()) }.boxed()),
                input: woken.input,
                seed: [self.seed; 32],
                now,
                fuel: None,
                deadline: None,
                cancel: CancellationToken::new(),
                door: tenant.clone(),
            })
            .await?;

        for line in &report.logs {
            say!("log   {:?}: {}", line.level, plain(&line.message));
        }
        for line in tenant.done() {
            say!("{line}");
        }
        match &report.output {
            Some(Output::Action(Some(answer))) => say!("answers {}", plain(answer)),
            Some(Output::Verdict(verdict)) => say!("{}", plain(&told(verdict))),
            _ => {}
        }
        say!(
            "{} with {} fuel in {} µs, {} host calls, {} KiB of memory",
            report.outcome,
            report.usage.fuel,
            report.usage.duration.as_micros(),
            report.usage.host_calls,
            report.usage.memory >> 10
        );
        match report.outcome {
            Ended::Succeeded => Ok(()),
            outcome => {
                let error = report.error.map(|error| plain(&error));
                Err(error.unwrap_or_else(|| outcome.to_string()).into())
            }
        }
    }
}

/// What a judge says, in one line.
fn told(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accepts".to_owned(),
        Verdict::Amend(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| format!("{name} = {value:?}"));
            format!("amends {}", fields.collect::<Vec<_>>().join(", "))
        }
        Verdict::Reject {
            code,
            message,
            field,
        } => {
            let field = field.as_ref().map(|field| format!(" of {field}"));
            format!("rejects{}: {message} ({code})", field.unwrap_or_default())
        }
    }
}
