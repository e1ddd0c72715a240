//! One run: what the guest has used so far, and where that ends.
//!
//! Every host function first counts itself here, then goes through the [`Door`], which checks
//! rights. A refusal by the door is a value the guest can read; a [`Stop`] unwinds it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use crm_core::hook::{Door, LogLine, Mask, Output, Usage};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use wasmtime::ResourceLimiterAsync;

use crate::engine::{CORE_INSTANCES, MEMORIES, TABLES};
use crate::limits::{Limits, Stop};

/// After so many growths of its memory a run pauses: each locks the address space of the process, for
/// which the runs of others wait.
const GROWTHS: u32 = 16;
const PAUSE: Duration = Duration::from_millis(1);

/// The state of one run, dropped with its store.
pub(crate) struct Run {
    pub(crate) limits: Arc<Limits>,
    pub(crate) door: Arc<dyn Door>,
    /// What the guest's clock shows.
    pub(crate) now: DateTime<Utc>,
    /// The key stream of ChaCha20 (RFC 8439; counter of 64 bits, nonce 0) under the run's seed: the
    /// same on every machine.
    pub(crate) random: ChaCha20Rng,
    pub(crate) usage: Usage,
    pub(crate) logs: Vec<LogLine>,
    pub(crate) log_bytes: usize,
    /// Hides the secrets that the guest has asked for.
    pub(crate) mask: Mask,
    until: Instant,
    memory: usize,
    growths: u32,
    tables: usize,
}

impl Run {
    pub(crate) fn new(
        limits: Arc<Limits>,
        door: Arc<dyn Door>,
        now: DateTime<Utc>,
        seed: [u8; 32],
    ) -> Self {
        let until = Instant::now() + limits.deadline;
        let (memory, tables, log_bytes) = (0, 0, 0);
        Self {
            limits,
            door,
            now,
            random: ChaCha20Rng::from_seed(seed),
            usage: Usage::default(),
            logs: Vec::new(),
            log_bytes,
            mask: Mask::default(),
            until,
            memory,
            growths: 0,
            tables,
        }
    }

    /// The stop of a run that is past its deadline.
    pub(crate) fn check_deadline(&self) -> Result<(), Stop> {
        if Instant::now() < self.until {
            Ok(())
        } else {
            Err(Stop::Deadline(self.limits.deadline))
        }
    }

    /// Counts a call of a host function, before it does anything.
    pub(crate) fn count_call(&mut self) -> Result<(), Stop> {
        if self.usage.host_calls >= self.limits.host_calls {
            return Err(Stop::HostCalls(self.limits.host_calls));
        }
        self.usage.host_calls += 1;
        self.check_deadline()
    }

    /// Counts records that were read.
    pub(crate) fn count_read(&mut self, rows: usize) -> Result<(), Stop> {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        self.usage.rows_read = self.usage.rows_read.saturating_add(rows);
        if self.usage.rows_read > self.limits.rows_read {
            return Err(Stop::RowsRead(self.limits.rows_read));
        }
        Ok(())
    }

    /// Counts a record, before it is written.
    pub(crate) fn count_write(&mut self) -> Result<(), Stop> {
        if self.usage.rows_written >= self.limits.rows_written {
            return Err(Stop::RowsWritten(self.limits.rows_written));
        }
        self.usage.rows_written += 1;
        Ok(())
    }

    /// Counts a request, before it is sent.
    pub(crate) fn count_request(&mut self) -> Result<(), Stop> {
        if self.usage.requests >= self.limits.requests {
            return Err(Stop::Requests(self.limits.requests));
        }
        self.usage.requests += 1;
        Ok(())
    }

    /// Counts what goes to or comes from another system.
    pub(crate) fn count_request_bytes(&mut self, bytes: usize) -> Result<(), Stop> {
        self.usage.request_bytes = self.usage.request_bytes.saturating_add(bytes as u64);
        if self.usage.request_bytes > self.limits.request_bytes {
            return Err(Stop::RequestBytes(self.limits.request_bytes));
        }
        Ok(())
    }

    /// Counts bytes of the log, before they are looked through.
    pub(crate) fn count_log(&mut self, bytes: usize) -> Result<(), Stop> {
        if bytes > self.limits.log_bytes - self.log_bytes {
            return Err(Stop::LogBytes(self.limits.log_bytes));
        }
        self.log_bytes += bytes;
        Ok(())
    }

    /// The output without the secrets that the guest was told.
    pub(crate) fn redacted_output(&self, mut output: Output) -> Output {
        self.mask.hide_output(&mut output);
        output
    }

    /// The text without the secrets that the guest was told.
    pub(crate) fn redacted(&self, mut text: String) -> String {
        self.mask.hide(&mut text);
        text
    }
}

#[async_trait]
impl ResourceLimiterAsync for Run {
    async fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum && maximum < self.limits.memory_bytes) {
            return Ok(false);
        }
        self.memory = self.memory.saturating_add(desired.saturating_sub(current));
        if self.memory > self.limits.memory_bytes {
            return Err(Stop::Memory(self.limits.memory_bytes).into());
        }
        // Linear memories never shrink: the sum is the peak.
        self.usage.memory = self.memory as u64;
        if current > 0 {
            self.growths += 1;
            if self.growths.is_multiple_of(GROWTHS) {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(true)
    }

    async fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // A table that is declared smaller does not grow; one as large as the pool's wants too
        // much.
        if maximum.is_some_and(|maximum| desired > maximum && maximum < self.limits.table_elements)
        {
            return Ok(false);
        }
        self.tables = self.tables.saturating_add(desired.saturating_sub(current));
        if self.tables > self.limits.table_elements {
            return Err(Stop::Tables(self.limits.table_elements).into());
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES as usize
    }

    fn tables(&self) -> usize {
        TABLES as usize
    }

    fn memories(&self) -> usize {
        MEMORIES as usize
    }
}
