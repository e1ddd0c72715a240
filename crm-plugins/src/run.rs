//! One run: what the guest has used so far, and the host functions it may call.
//!
//! Every host function first counts itself, then goes through the [`Door`], which checks rights.
//! A refusal by the door is a value the guest can read; a [`Stop`] unwinds it.

use std::sync::Arc;
use std::time::Instant;

use crm_core::hook::{Door, DoorQuery, LogLevel, LogLine};
use crm_core::id::RecordId;
use crm_core::{Error, FieldError};
use wasmtime::ResourceLimiter;

use crate::bindings::{log, records, types};
use crate::engine::{CORE_INSTANCES, MEMORIES, TABLES};
use crate::limits::{Limits, Stop};

/// The state of one run, dropped with its store.
pub(crate) struct Run {
    limits: Arc<Limits>,
    door: Arc<dyn Door>,
    until: Instant,
    memory: usize,
    tables: usize,
    log_bytes: usize,
    pub(crate) host_calls: u32,
    pub(crate) logs: Vec<LogLine>,
}

impl Run {
    pub(crate) fn new(limits: Arc<Limits>, door: Arc<dyn Door>) -> Self {
        let until = Instant::now() + limits.deadline;
        let (memory, tables, log_bytes, host_calls) = (0, 0, 0, 0);
        Self {
            limits,
            door,
            until,
            memory,
            tables,
            log_bytes,
            host_calls,
            logs: Vec::new(),
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

    fn count_call(&mut self) -> Result<(), Stop> {
        if self.host_calls >= self.limits.host_calls {
            return Err(Stop::HostCalls(self.limits.host_calls));
        }
        self.host_calls += 1;
        self.check_deadline()
    }
}

impl types::Host for Run {}

impl log::Host for Run {
    fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.count_call()?;
        if self.logs.len() >= self.limits.log_lines {
            return Err(Stop::LogLines(self.limits.log_lines).into());
        }
        if self.log_bytes + message.len() > self.limits.log_bytes {
            return Err(Stop::LogBytes(self.limits.log_bytes).into());
        }
        self.log_bytes += message.len();
        let level = match level {
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        self.logs.push(LogLine { level, message });
        Ok(())
    }
}

/// A trap outside, an answer for the guest inside.
type Answer<T> = wasmtime::Result<Result<T, records::Error>>;

impl records::Host for Run {
    async fn get(&mut self, module: String, id: String) -> Answer<String> {
        self.count_call()?;
        let Ok(id) = id.parse() else {
            return Ok(Err(records::Error::NotFound));
        };
        Ok(self.door.get(&module, id).await.map_err(answer))
    }

    async fn list(&mut self, module: String, query: records::Query) -> Answer<records::Page> {
        self.count_call()?;
        let records::Query {
            filter,
            limit,
            cursor,
        } = query;
        let page = self
            .door
            .list(
                &module,
                DoorQuery {
                    filter,
                    limit,
                    cursor,
                },
            )
            .await;
        Ok(page
            .map(|page| records::Page {
                records: page.records,
                next_cursor: page.next_cursor,
            })
            .map_err(answer))
    }

    async fn create(&mut self, module: String, values: String) -> Answer<String> {
        self.count_call()?;
        Ok(self.door.create(&module, &values).await.map_err(answer))
    }

    async fn update(
        &mut self,
        module: String,
        id: String,
        version: Option<i64>,
        values: String,
    ) -> Answer<String> {
        self.count_call()?;
        let Ok(id) = id.parse::<RecordId>() else {
            return Ok(Err(records::Error::NotFound));
        };
        Ok(self
            .door
            .update(&module, id, version, &values)
            .await
            .map_err(answer))
    }
}

/// What the guest learns of an error: its own mistakes in full, ours not at all.
fn answer(error: Error) -> records::Error {
    match error {
        Error::Forbidden { permission } => records::Error::Denied(permission),
        Error::NotFound => records::Error::NotFound,
        Error::Invalid(fields) => {
            records::Error::Invalid(fields.into_iter().map(field_error).collect())
        }
        Error::Conflict { message, .. } => records::Error::Conflict(message.into_owned()),
        Error::PreconditionFailed => records::Error::Conflict(error.to_string()),
        Error::LimitExceeded { message, .. } => records::Error::LimitExceeded(message.into_owned()),
        Error::TooMany { .. } => records::Error::LimitExceeded(error.to_string()),
        other => {
            tracing::error!(
                error = &other as &dyn std::error::Error,
                "a plugin's call failed"
            );
            records::Error::Internal
        }
    }
}

fn field_error(field: FieldError) -> records::FieldError {
    records::FieldError {
        pointer: field.pointer,
        code: field.code.to_owned(),
        message: field.message,
    }
}

impl ResourceLimiter for Run {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.memory = self.memory.saturating_add(desired.saturating_sub(current));
        if self.memory > self.limits.memory_bytes {
            return Err(Stop::Memory(self.limits.memory_bytes).into());
        }
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
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
