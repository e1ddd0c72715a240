//! `crm audit`

use std::io::Write as _;
use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, Subcommand};
use crm_core::count::told;
use crm_core::platform::PLATFORM;
use crm_core::{Action, AuditQuery, Crm, Permit, Purge, Read};

use crate::Outcome;
use crate::settings::{Settings, request, tenant};
use crate::stdout::say;

/// Look into a tenant's audit log, and hold it against its hash chain
#[derive(Subcommand)]
pub(crate) enum Audit {
    /// Print where the hash chain ends: a number, a hash, and when it was sealed
    ///
    /// Kept elsewhere, it proves later what the log was: see `crm audit verify --expect-head`.
    Head(Of),
    /// Hold the log against its hash chain, and name the first entry that is not what was sealed
    #[command(after_long_help = "\
Exit codes: 0 everything is as it was sealed, 3 it is not, 1 it cannot be told, 2 wrong usage.

Examples:
  crm audit verify --tenant acme
  crm audit verify --tenant acme --expect-head 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    Verify {
        #[command(flatten)]
        of: Of,
        /// The hash of a head printed earlier, which the chain must have gone through
        #[arg(long, value_name = "HASH", value_parser = hash)]
        expect_head: Option<String>,
    },
    /// Write all entries, newest first, one JSON object on each line
    #[command(after_long_help = "\
Examples:
  crm audit export --tenant acme > audit.ndjson
  crm audit export --tenant acme --entity contacts --action contacts.delete --output deleted.ndjson")]
    Export(Export),
    /// Remove old entries for good, so that the rest can still be verified
    #[command(after_long_help = "Example:\n  crm audit prune --tenant acme --before 2025-01-01")]
    Prune {
        #[command(flatten)]
        of: Of,
        /// The first day to keep, such as 2025-01-01, or an instant such as 2025-01-01T06:00:00Z
        #[arg(long, value_name = "DATE", value_parser = moment)]
        before: DateTime<Utc>,
    },
    /// Erase what the entries about one thing say of it, before and after; the entries stay
    #[command(after_long_help = "\
Example:
  crm audit erase --tenant acme --entity contacts --id 0195c6b1-7c1e-7d31-9a55-2f6f1f0f5f10")]
    Erase {
        #[command(flatten)]
        of: Of,
        /// What kind of thing, such as contacts
        #[arg(long)]
        entity: String,
        /// Its id
        #[arg(long)]
        id: String,
    },
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Of {
    /// The tenant's name
    #[arg(long)]
    tenant: Option<String>,
    /// The log of the platform itself, in place of a tenant's: what operators did, and logins that
    /// failed for nobody
    #[arg(long)]
    platform: bool,
}

/// That a log is not as it was sealed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Altered(String);

#[derive(Args)]
pub(crate) struct Export {
    #[command(flatten)]
    of: Of,
    /// Only entries about this kind of thing, such as contacts
    #[arg(long)]
    entity: Option<String>,
    /// Only entries about this one
    #[arg(long, value_name = "ID")]
    entity_id: Option<String>,
    /// Only entries of this action, such as contacts.update
    #[arg(long)]
    action: Option<String>,
    /// Only entries of this actor, such as user:ID
    #[arg(long)]
    actor: Option<String>,
    /// Only entries in which this one acted in the actor's name, such as operator:ID
    #[arg(long)]
    impersonator: Option<String>,
    /// The file to write; standard output when left out
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Of {
    async fn permit<A: Action>(&self, crm: &Crm) -> Result<Permit<A>, Failure> {
        let tenant = match &self.tenant {
            Some(name) => tenant(crm, name).await?,
            None => PLATFORM,
        };
        Ok(crm.operator(tenant, request(crm)).permit::<A>("audit")?)
    }
}

impl Audit {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let crm = settings.open().await?;
        let outcome = self.on(&crm).await;
        crm.close().await;
        outcome
    }

    async fn on(self, crm: &Crm) -> Outcome {
        let audit = crm.audit();
        match self {
            Self::Head(of) => match audit.head(&of.permit::<Read>(crm).await?).await? {
                Some(head) => {
                    let at = head.sealed_at.to_rfc3339();
                    say!("{} {} {at}", head.sequence, head.hash);
                }
                None => return Err("nothing is sealed yet; a running server does so".into()),
            },
            Self::Verify { of, expect_head } => {
                let permit = of.permit::<Read>(crm).await?;
                return verify(crm, &permit, expect_head).await;
            }
            Self::Export(export) => export.run(crm).await?,
            Self::Prune { of, before } => {
                if before > crm.clock().now() {
                    let at = before.to_rfc3339();
                    return Err(format!(
                        "{at} is in the future, and nothing would be left; name the day from which \
                         on entries stay"
                    )
                    .into());
                }
                let permit = of.permit::<Purge>(crm).await?;
                match audit.prune(&permit, before).await? {
                    Some(pruned) => say!(
                        "{} removed, up to number {} {}",
                        told(pruned.entries, "entry", "entries"),
                        pruned.sequence,
                        pruned.hash
                    ),
                    None => say!("no sealed entry is that old"),
                }
            }
            Self::Erase { of, entity, id } => {
                let permit = of.permit::<Purge>(crm).await?;
                let erased = audit.erase(&permit, &entity, &id).await?;
                if erased == 0 {
                    return Err(format!(
                        "nothing was erased: no entry holds anything of {entity} {id}; the kinds of \
                         things and their ids are as in: crm audit export"
                    )
                    .into());
                }
                say!("{} erased", told(erased, "entry", "entries"));
            }
        }
        Ok(())
    }
}

async fn verify(crm: &Crm, permit: &Permit<Read>, expected: Option<String>) -> Outcome {
    let found = crm.audit().verify(permit, expected.as_deref()).await?;
    if let Some(fault) = found.fault {
        let kind = serde_json::to_value(fault.kind)?;
        let mut place = String::new();
        if let Some(id) = fault.entry_id {
            place.push_str(&format!(" entry {id}"));
        }
        if let Some(sequence) = fault.sequence {
            place.push_str(&format!(" number {sequence}"));
        }
        let kind = kind.as_str().unwrap_or_default();
        return Err(Altered(format!("{kind}{place}: {}", fault.message)).into());
    }
    let (one, all) = ("entry is as it was", "entries are as they were");
    say!("{} sealed", told(found.verified, one, all));
    if found.erased > 0 {
        let erased = told(found.erased, "of them has", "of them have");
        say!("{erased} been erased");
    }
    if found.pruned > 0 {
        let pruned = told(found.pruned, "before them has", "before them have");
        say!("{pruned} been pruned");
    }
    if found.unsealed > 0 {
        let waiting = told(found.unsealed, "entry waits", "entries wait");
        say!("{waiting} to be sealed");
    }
    if let Some(head) = found.head {
        say!("head {} {}", head.sequence, head.hash);
    }
    Ok(())
}

impl Export {
    async fn run(self, crm: &Crm) -> Outcome {
        let query = AuditQuery {
            entity: self.entity,
            entity_id: self.entity_id,
            action: self.action,
            actor: self.actor,
            impersonator: self.impersonator,
            ..AuditQuery::default()
        };
        let permit = self.of.permit::<Read>(crm).await?;
        let mut out: Box<dyn std::io::Write + Send> = match &self.output {
            Some(path) => Box::new(
                std::fs::File::create(path)
                    .map_err(|error| format!("{} cannot be written: {error}", path.display()))?,
            ),
            None => Box::new(std::io::stdout()),
        };
        let mut export = crm.audit().export(&permit, query)?;
        while let Some(piece) = export.next().await? {
            out.write_all(piece.as_bytes())?;
        }
        out.flush()?;
        Ok(())
    }
}

fn hash(text: &str) -> Result<String, String> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if text.len() == 64 && digits {
        return Ok(text);
    }
    Err("write the 64 hexadecimal digits that `crm audit head` prints".to_owned())
}

/// A day's beginning in UTC, or an instant.
pub(crate) fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(day.and_time(chrono::NaiveTime::MIN).and_utc());
    }
    text.parse().map_err(|_| {
        "write a day such as 2025-01-01, or an instant such as 2025-01-01T06:00:00Z".to_owned()
    })
}
