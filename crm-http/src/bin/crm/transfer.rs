//! `crm import` and `crm export`

mod bar;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use crm_core::count::told;
use crm_core::id::JobId;
use crm_core::job::{Job, JobState, Progress};
use crm_core::record::{Filter, Query};
use crm_core::transfer::{Format, ImportMode, ImportOptions, MappingOption, OnError};
use crm_core::{Crm, Error, FieldError, Read, Scope};
use tokio::io::AsyncReadExt as _;

use self::bar::Bar;
use crate::Outcome;
use crate::settings::{Settings, request, tenant};
use crate::stdout::{note, say};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How often progress is shown.
const TICK: Duration = Duration::from_millis(250);
/// What `--resume` without a job means.
const NEWEST: &str = "newest";
/// Bytes of the file that are read at a time.
const PIECE: usize = 256 * 1024;

/// Import a file of records: CSV, NDJSON, JSON or vCard
///
/// Runs as a background job of the tenant, in this program; should it be interrupted, a running
/// server goes on with it, or `--resume` does. Refused lines are told on standard error.
#[derive(Args)]
#[command(after_long_help = "\
Exit codes: 0 everything imported, 1 something was refused or failed, 2 wrong usage.

Examples:
  crm import people.csv --tenant acme --module contacts
  crm import people.csv --tenant acme --module contacts --map '{\"Full name\": \"name\", \"Fax\": null}'
  crm import contacts.csv --tenant acme --module contacts --map google_contacts --upsert-key email
  crm import cards.vcf --tenant acme --module contacts --dry-run
  crm import --tenant acme --resume")]
pub(crate) struct Import {
    /// The file
    #[arg(required_unless_present = "resume")]
    file: Option<PathBuf>,
    /// The tenant's name
    #[arg(long)]
    tenant: String,
    /// The module to import into
    #[arg(long, required_unless_present = "resume")]
    module: Option<String>,
    /// Go on with an import that was interrupted: this job, or the newest that is not finished
    #[arg(long, value_name = "JOB", num_args = 0..=1, default_missing_value = NEWEST,
        conflicts_with_all = ["file", "module", "format", "map", "upsert_key", "dry_run", "abort_on_error"])]
    resume: Option<String>,
    /// How the file is written: csv, ndjson, json or vcard; by the file's name when left out
    #[arg(long, value_parser = parsed::<Format>)]
    format: Option<Format>,
    /// Which column is which field: google_contacts, outlook, or a JSON object; by name when left out
    #[arg(long, value_parser = parsed::<MappingOption>)]
    map: Option<MappingOption>,
    /// Change the records that have the same value in this unique field, make the others
    #[arg(long, value_name = "FIELD")]
    upsert_key: Option<String>,
    /// Check every line against the records that are there, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Stop at the first refused line
    #[arg(long)]
    abort_on_error: bool,
}

/// Export the records of a module as a file: CSV, NDJSON or JSON
///
/// In CSV, cells that a spreadsheet would run as a formula carry an apostrophe in front.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  crm export --tenant acme --module contacts > contacts.csv
  crm export --tenant acme --module contacts --format ndjson --where 'status=lead' \\
    --where 'score[gte]=50' --output leads.ndjson")]
pub(crate) struct Export {
    /// The tenant's name
    #[arg(long)]
    tenant: String,
    /// The module to export
    #[arg(long)]
    module: String,
    /// How the file is written: csv, ndjson or json
    #[arg(long, default_value = "csv", value_parser = exported)]
    format: Format,
    /// A condition as in the API: `field=value` or `field[op]=value`; repeatable
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<String>,
    /// Words that the searchable fields must contain; in double quotes a phrase
    #[arg(long)]
    search: Option<String>,
    /// The file to write; standard output when left out
    #[arg(long)]
    output: Option<PathBuf>,
}

fn parsed<T: std::str::FromStr<Err = FieldError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: FieldError| error.message)
}

fn exported(text: &str) -> Result<Format, String> {
    Format::of_export(text).map_err(|error| error.message)
}

fn format_of(file: &Path) -> Result<Format, String> {
    let extension = file.extension().unwrap_or_default().to_string_lossy();
    match extension.to_ascii_lowercase().as_str() {
        "csv" | "tsv" | "txt" => Ok(Format::Csv),
        "ndjson" | "jsonl" => Ok(Format::Ndjson),
        "json" => Ok(Format::Json),
        "vcf" | "vcard" => Ok(Format::Vcard),
        _ => Err("the file's name does not tell its format; give --format".to_owned()),
    }
}

impl Import {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let order = match &self.resume {
            Some(_) => None,
            None => Some(self.order()?),
        };
        // Plugins judge what is imported as they judge every change.
        let (crm, _) = crate::plugin::open(&settings).await?;
        let tenant = tenant(&crm, &self.tenant).await?;
        let scope = crm.operator_in(tenant, request(&crm)).await?;
        let id = match order {
            Some(order) => order.send(&crm, &scope).await?,
            None => self.interrupted(&crm, &scope).await?,
        };
        let job = to_the_end(&crm, &scope, id, &self.tenant).await?;
        tell_errors(&crm, &scope, &job).await?;
        crm.close().await;
        outcome(job)
    }

    /// What to import and how, as far as the command line tells.
    fn order(&self) -> Result<Order, String> {
        let file = self.file.clone().unwrap_or_default();
        let format = self.format.map_or_else(|| format_of(&file), Ok)?;
        let mut options = ImportOptions::new(format);
        if let Some(key) = &self.upsert_key {
            options.mode = ImportMode::Upsert;
            options.key = Some(key.clone());
        }
        options.dry_run = self.dry_run;
        options.mapping = self.map.clone();
        if self.abort_on_error {
            options.on_error = OnError::Abort;
        }
        Ok(Order {
            file,
            module: self.module.clone().unwrap_or_default(),
            options,
        })
    }

    /// The import to go on with.
    async fn interrupted(&self, crm: &Crm, scope: &Scope) -> Result<JobId, Failure> {
        let wanted = self.resume.as_deref().unwrap_or(NEWEST);
        let job = if wanted == NEWEST {
            let jobs = crm.jobs().list(scope, None, 100).await?.data;
            let mut open = jobs
                .into_iter()
                .filter(|job| job.kind == "import" && !job.state.is_final());
            open.next()
                .ok_or("this tenant has no import that is not finished")?
        } else {
            let id = wanted.parse().map(JobId);
            let id = id.map_err(|_| format!("{wanted:?} is not the id of a job"))?;
            let unknown = |_| format!("this tenant has no job {wanted}");
            crm.jobs().get(scope, id).await.map_err(unknown)?
        };
        match job.state {
            JobState::Receiving => {
                let id = job.id;
                Err(format!("the file of job {id} never came whole; import it again").into())
            }
            _ => Ok(job.id),
        }
    }
}

/// A file to import.
struct Order {
    file: PathBuf,
    module: String,
    options: ImportOptions,
}

impl Order {
    /// Stores the file with a job that waits for its turn.
    async fn send(self, crm: &Crm, scope: &Scope) -> Result<JobId, Failure> {
        let unreadable = |error| format!("{} cannot be read: {error}", self.file.display());
        let mut file = tokio::fs::File::open(&self.file)
            .await
            .map_err(unreadable)?;
        let mut upload = crm
            .transfer()
            .import(scope, &self.module, self.options)
            .await
            .map_err(|error| named(error, &self.module))?;
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece).await {
                Ok(0) => break,
                Ok(length) => upload.push(&piece[..length]).await?,
                Err(error) => {
                    upload.abandon().await?;
                    return Err(unreadable(error).into());
                }
            }
        }
        Ok(upload.finish().await?)
    }
}

/// What an import that ended says last.
fn outcome(job: Job) -> Outcome {
    let Progress { done, failed, .. } = job.progress;
    match job.state {
        JobState::Done if failed == 0 => {
            let would = if job.input["dry_run"] == true {
                "would be "
            } else {
                ""
            };
            say!("{} {would}imported", told(done, "record", "records"));
            Ok(())
        }
        JobState::Done => {
            let all = told(done + failed, "entry", "entries");
            let were = if failed == 1 { "was" } else { "were" };
            Err(format!("{failed} of {all} {were} refused, the others imported").into())
        }
        JobState::Cancelled => {
            Err(format!("cancelled after {}", told(done, "entry", "entries")).into())
        }
        _ => {
            let done = told(done, "entry", "entries");
            let reason = job.error.map_or_else(String::new, |error| error.message);
            Err(format!("the import stopped after {done}: {reason}").into())
        }
    }
}

/// What is wrong with a module's name, in one line.
fn named(error: Error, module: &str) -> String {
    match error {
        Error::NotFound => format!("there is no module {module:?}"),
        error => error.to_string(),
    }
}

/// Runs the job here, or watches another process run it.
async fn to_the_end(crm: &Crm, scope: &Scope, id: JobId, tenant: &str) -> Result<Job, Error> {
    let mut bar = Bar::new();
    if bar.is_shown() {
        note!("job {id}; if interrupted: crm import --tenant {tenant:?} --resume {id}");
    }
    loop {
        let mut run = std::pin::pin!(crm.run_job(scope, id));
        let ran = loop {
            tokio::select! {
                ran = run.as_mut() => break ran?,
                () = tokio::time::sleep(TICK) => {
                    bar.show(crm.jobs().get(scope, id).await?.progress);
                }
            }
        };
        let job = crm.jobs().get(scope, id).await?;
        bar.show(job.progress);
        if job.state.is_final() {
            bar.end();
            return Ok(job);
        }
        if !ran {
            tokio::time::sleep(TICK).await;
        }
    }
}

/// The first refused lines; the rest is in the database.
async fn tell_errors(crm: &Crm, scope: &Scope, job: &Job) -> Result<(), Error> {
    const TOLD: u32 = 20;
    let jobs = crm.jobs();
    let errors = jobs.errors(scope, job.id, 0, TOLD + 1).await?;
    for error in errors.iter().take(TOLD as usize) {
        let field = error.pointer.trim_start_matches('/');
        let space = if field.is_empty() { "" } else { " " };
        note!("line {}: {field}{space}{}", error.line, error.message);
    }
    if errors.len() > TOLD as usize {
        let id = job.id;
        note!("further ones are at /api/v1/jobs/{id}/errors");
    }
    Ok(())
}

impl Export {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let crm = settings.open().await?;
        let tenant = tenant(&crm, &self.tenant).await?;
        let scope = crm.operator_in(tenant, request(&crm)).await?;
        let permit = scope
            .permit::<Read>(&self.module)
            .map_err(|error| named(error, &self.module))?;
        let unknown = || named(Error::NotFound, &self.module);
        let module = scope.module(&self.module).ok_or_else(unknown)?;
        let mut conditions = Vec::new();
        for condition in &self.conditions {
            let (name, value) = condition
                .split_once('=')
                .ok_or_else(|| format!("{condition:?} must be field=value or field[op]=value"))?;
            let filter = Filter::of_parameter(&scope, module, name, value);
            conditions.push(filter.map_err(|error| Error::Invalid(vec![error]))?);
        }
        let query = Query {
            filter: Filter::all(conditions).map_err(|error| Error::Invalid(vec![error]))?,
            search: self.search,
            ..Query::default()
        };
        let mut out: Box<dyn std::io::Write + Send> = match &self.output {
            Some(path) => Box::new(
                std::fs::File::create(path)
                    .map_err(|error| format!("{} cannot be written: {error}", path.display()))?,
            ),
            None => Box::new(std::io::stdout()),
        };
        let mut export = crm.transfer().export(permit, query, self.format)?;
        while let Some(piece) = export.next().await? {
            out.write_all(piece.as_bytes())?;
        }
        out.flush()?;
        crm.close().await;
        Ok(())
    }
}
