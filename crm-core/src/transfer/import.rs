//! The import as a background job: entries in batches, each with its checkpoint in one transaction.

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::mapping::{Mapping, renamed};
use super::options::{Format, OnError, Order};
use super::permits;
use super::source::{Entry, Item, Mark, Source};
use super::vcard;
use crate::error::{Error, FieldError, Result};
use crate::event::ChangeKind;
use crate::job::{JobContext, JobKind, Progress, Saved, drop_chunks_before, insert_error};
use crate::module::CompiledModule;
use crate::record::bulk::{Bulk, Outcome, Prepared, Rules};
use crate::record::{Hearing, Key};

/// The kind of import jobs.
pub(super) const KIND: &str = "import";
/// Most entries of a batch: few enough that other writers wait some 100 ms at most, many enough
/// that the disk's flush at its end costs little of each.
const BATCH: usize = 1_000;
/// Bytes after which a batch takes no further entry.
const BATCH_BYTES: u64 = 512 * 1024;
/// Most refused fields that are kept for a file; further ones are counted.
const MOST_ERRORS: u64 = 10_000;
/// How often a batch is tried when other writers take unique values meanwhile.
const TRIES: usize = 5;

/// Imports files of records.
pub(crate) struct Import;

impl JobKind for Import {
    fn name(&self) -> &'static str {
        KIND
    }

    fn run<'a>(&'a self, job: &'a mut JobContext) -> BoxFuture<'a, Result<Json>> {
        Box::pin(run(job))
    }
}

/// Where an import is, between two batches.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    mark: Mark,
    /// Of a CSV file.
    header: Option<Vec<String>>,
    delimiter: u8,
    created: u64,
    updated: u64,
    unchanged: u64,
    /// Entries refused.
    failed: u64,
    /// Refused fields kept.
    errors: u64,
}

async fn run(job: &mut JobContext) -> Result<Json> {
    let order: Order = job.input()?;
    let order = Arc::new(order);
    let mut state: State = job.checkpoint()?.unwrap_or_default();
    let mut reader = Reader::open(job, &order, &mut state).await?;
    let mut batch = reader.batch().await?;
    loop {
        job.check_cancelled()?;
        let ended = batch.ended;
        // The next batch is read and checked while this one is written.
        let following = async {
            match ended {
                true => Ok(None),
                false => reader.batch().await.map(Some),
            }
        };
        let (written, following) = futures::join!(write(job, &order, state, batch), following);
        state = written?;
        if order.options.on_error == OnError::Abort && state.failed > 0 {
            let message = "stopped at the first refused entry; see the errors of this job";
            return Err(Error::conflict("import_aborted", message));
        }
        batch = match following? {
            Some(following) => following,
            None => {
                return Ok(json!({
                    "created": state.created, "updated": state.updated,
                    "unchanged": state.unchanged, "failed": state.failed,
                    "dry_run": order.options.dry_run,
                }));
            }
        };
    }
}

/// Some entries that were held against the rules, and where the ones after them begin.
struct Batch {
    module: Arc<CompiledModule>,
    prepared: Prepared,
    mark: Mark,
    /// Up to where stored pieces of the file are of no more use behind this batch.
    kept_from: u64,
    ended: bool,
}

struct Reader {
    source: Source,
    order: Arc<Order>,
    rules: Rules,
    mapping: Option<Mapping>,
    /// An entry that was read and belongs to the next batch.
    carried: Option<(u64, Map<String, Json>)>,
}

impl Reader {
    /// Opens the file where the import is, and notes its header there.
    async fn open(job: &JobContext, order: &Arc<Order>, state: &mut State) -> Result<Self> {
        let module = job.scope().await?.module(&order.module).cloned();
        let module = module.ok_or(Error::NotFound)?;
        let format = order.options.format;
        let hooked = !job.core().hooks.of(&module, ChangeKind::Created).is_empty();
        let mut source = Source::new(job.core().clone(), job.lease(), format, state.mark.clone());
        let mut header = vcard::HEADER.map(str::to_owned).to_vec();
        if format == Format::Csv {
            let (delimiter, names) = match state.header.take() {
                Some(names) => (state.delimiter, names),
                None => source.header().await?,
            };
            source.delimited_by(delimiter);
            header.clone_from(&names);
            state.delimiter = delimiter;
            state.header = Some(names);
        }
        let mapping = Mapping::new(&module, format, order.options.mapping.as_ref(), &header);
        let mapping = match format {
            Format::Csv | Format::Vcard => {
                Some(mapping.map_err(|refused| Error::Invalid(vec![refused]))?)
            }
            Format::Ndjson | Format::Json => None,
        };
        let key = order.options.key.as_deref();
        let rules = Rules {
            key: key.and_then(|key| module.position(key)),
            tenant: job.tenant(),
            module,
            hooked,
        };
        Ok(Self {
            source,
            order: order.clone(),
            rules,
            mapping,
            carried: None,
        })
    }

    async fn batch(&mut self) -> Result<Batch> {
        let mut entries = Vec::with_capacity(BATCH);
        let mut faults: Vec<(u64, FieldError)> = Vec::new();
        let mut mark = self.source.mark().clone();
        let (from, mut ended) = (mark.offset, false);
        let mut keys = HashSet::new();
        if let Some(entry) = self.carried.take() {
            keys.extend(self.key(&entry.1));
            entries.push(entry);
        }
        let abort = self.order.options.on_error == OnError::Abort;
        while entries.len() + faults.len() < BATCH
            && self.source.mark().offset - from < BATCH_BYTES
            && (!abort || faults.is_empty())
        {
            mark = self.source.mark().clone();
            let Some(Item { line, entry }) = self.source.next().await? else {
                ended = true;
                break;
            };
            let body = match entry {
                Ok(Entry::Cells(cells)) if cells.is_empty() => continue,
                Ok(Entry::Cells(cells)) => match &self.mapping {
                    Some(mapping) => mapping.body(&self.rules.module, &cells),
                    None => return Err(Error::internal("cells without a mapping")),
                },
                Ok(Entry::Object(object)) => renamed(self.order.options.mapping.as_ref(), object),
                Err(fault) => {
                    faults.push((line, fault));
                    continue;
                }
            };
            // The same key again: the next batch will find the record that this one writes.
            if let Some(key) = self.key(&body)
                && !keys.insert(key)
            {
                self.carried = Some((line, body));
                return self.checked(entries, faults, mark, ended);
            }
            entries.push((line, body));
        }
        let mark = self.source.mark().clone();
        self.checked(entries, faults, mark, ended)
    }

    fn checked(
        &self,
        entries: Vec<(u64, Map<String, Json>)>,
        faults: Vec<(u64, FieldError)>,
        mark: Mark,
        ended: bool,
    ) -> Result<Batch> {
        let mut prepared = self.rules.prepare(entries)?;
        prepared.faults.extend(faults);
        Ok(Batch {
            module: self.rules.module.clone(),
            prepared,
            kept_from: self.source.kept_from(&mark),
            mark,
            ended,
        })
    }

    /// What an upsert finds the record by, roughly.
    fn key(&self, body: &Map<String, Json>) -> Option<String> {
        let json = body.get(self.order.options.key.as_ref()?)?;
        let text = json
            .as_str()
            .map_or_else(|| json.to_string(), str::to_owned);
        Some(text.trim().to_ascii_lowercase())
    }
}

async fn write(job: &mut JobContext, order: &Order, state: State, batch: Batch) -> Result<State> {
    let options = &order.options;
    // The starter's rights as they are now: what they lost they cannot import with.
    let scope = job.scope().await?;
    let (create, update) = permits(&scope, &order.module, options.mode)?;
    if batch.module.numbers() != create.module()?.numbers() {
        let message = "the tenant's fields have changed; the import begins again from here";
        return Err(Error::unavailable(message));
    }
    let key = match options.key.as_deref() {
        // A field may be gone since the import began, or not be the starter's to read any more.
        Some(key) => {
            let readable = scope.readable(&order.module).ok_or(Error::NotFound)?;
            Some(Key::named(&readable, key)?.position())
        }
        None => None,
    };
    let step = Step {
        bulk: Bulk {
            core: job.core().clone(),
            create,
            upsert: update.zip(key),
            dry_run: options.dry_run,
            stop_at_fault: options.on_error == OnError::Abort,
        },
        lease: job.lease(),
        kept_from: batch.kept_from,
        state: State {
            mark: batch.mark,
            ..state
        },
        total_bytes: job.progress().total_bytes,
    };
    let hearing = match options.dry_run {
        true => Hearing::of_trial(job.core(), scope.tenant()).await?,
        false => Hearing::of(job.core(), scope.tenant()).await?,
    };
    commit(job, &step, &batch.prepared, &hearing).await?;
    job.checkpoint()?
        .ok_or_else(|| Error::internal("a batch without a checkpoint"))
}

/// Commits a batch, once more where other writers took unique values meanwhile.
async fn commit(
    job: &mut JobContext,
    step: &Step,
    prepared: &Prepared,
    hearing: &Hearing,
) -> Result<()> {
    let mut tries = 1;
    loop {
        let (step, prepared, attended) = (step.clone(), prepared.clone(), hearing.clone());
        let written = job
            .commit(move |tx| {
                Box::pin(async move {
                    tx.attend(attended.clone());
                    let saved = step.apply(tx, prepared).await?;
                    attended.adjourn()?;
                    Ok(saved)
                })
            })
            .await;
        match written {
            Ok(()) => return Ok(()),
            Err(Error::Conflict {
                code: "already_exists" | "reference_violation",
                ..
            }) if tries < TRIES => tries += 1,
            Err(error) => hearing.resume(error).await?,
        }
    }
}

/// The transaction of one batch.
#[derive(Clone)]
struct Step {
    bulk: Bulk,
    lease: crate::job::Lease,
    kept_from: u64,
    state: State,
    total_bytes: u64,
}

impl Step {
    async fn apply(self, tx: &mut crate::db::Tx<'_>, prepared: Prepared) -> Result<Saved> {
        let Outcome {
            created,
            updated,
            unchanged,
            faults,
        } = self.bulk.write(tx, prepared).await?;
        let mut state = self.state;
        state.created += created;
        state.updated += updated;
        state.unchanged += unchanged;
        let lines: HashSet<u64> = faults.iter().map(|(line, _)| *line).collect();
        state.failed += lines.len() as u64;
        let mut kept = Vec::new();
        for (line, refused) in &faults {
            if state.errors < MOST_ERRORS {
                kept.push(insert_error(self.lease, state.errors, *line, refused));
                state.errors += 1;
            }
        }
        tx.insert_all(kept).await?;
        if self.kept_from > 0 {
            tx.execute(drop_chunks_before(self.lease, self.kept_from))
                .await?;
        }
        let progress = Progress {
            done: state.created + state.updated + state.unchanged,
            failed: state.failed,
            bytes: state.mark.offset,
            total_bytes: self.total_bytes,
        };
        let checkpoint = serde_json::to_value(state).map_err(Error::internal)?;
        Ok(Saved {
            checkpoint,
            progress,
        })
    }
}
