//! The plugin host: judges components and runs them, each call in a store of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::DateTime;
use crm_core::hook::{
    Call, Capacity, ComponentLoader, Input, Outcome, Output, PluginHost, Report, Verdict,
};
use crm_core::plugin::Manifest;
use crm_core::{Error, Result};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use wasmtime::{Engine, Store, UpdateDeadline};

use crate::closed::Closed;
use crate::compile::{Compiler, Hash, Purpose, Ready, hash};
use crate::engine::{Ticker, engine};
use crate::inspect::{check, refused};
use crate::limits::{Limits, Stop};
use crate::outcome::{cut, of_refusal, of_stop, of_unwound};
use crate::run::Run;
use crate::turn::Turns;
use crate::worker::Worker;

/// A host of WebAssembly plugins. It must be used on a tokio runtime with a timer.
///
/// A run that is stopped undoes nothing: what it wrote stays, also a write under way.
pub struct Host {
    limits: Arc<Limits>,
    engine: Engine,
    compiler: Compiler,
    ticker: Ticker,
    slots: Semaphore,
    /// Descriptions of uploads at once: what nobody installed yet leaves most slots to what runs.
    descriptions: Semaphore,
    turns: Turns,
}

/// Of so many slots, descriptions have one.
const DESCRIBING: usize = 12;

impl Host {
    /// A host with these limits that compiles uploads in a process of their own, bounded in time
    /// and memory: a component made to overwhelm the compiler harms nobody.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] when the limits do not fit together, or the worker's cache cannot
    /// be used.
    pub fn new(limits: Limits, worker: Worker) -> Result<Self> {
        Self::with(limits, Some(worker))
    }

    /// A host that compiles uploads in this process, where nothing bounds the time and memory that
    /// the compiler takes: for tools, tests and components from people you trust.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] when the limits do not fit together.
    pub fn in_process(limits: Limits) -> Result<Self> {
        Self::with(limits, None)
    }

    fn with(limits: Limits, worker: Option<Worker>) -> Result<Self> {
        let engine = engine(&limits)?;
        let limits = Arc::new(limits);
        let compiler = Compiler::new(engine.clone(), limits.clone(), worker)?;
        let ticker = Ticker::start(engine.clone())?;
        let places = limits.concurrent_runs as usize;
        let slots = Semaphore::new(places);
        let descriptions = Semaphore::new((places / DESCRIBING).max(1));
        Ok(Self {
            limits,
            engine,
            compiler,
            ticker,
            slots,
            descriptions,
            turns: Turns::new(),
        })
    }

    /// What the component's parts show without anything of it being compiled.
    async fn look_at(&self, component: Bytes) -> Result<Manifest> {
        let limits = self.limits.clone();
        let looked = tokio::task::spawn_blocking(move || check(&component, &limits));
        looked.await.map_err(Error::internal)?
    }

    async fn judge(&self, component: Bytes) -> Result<Manifest> {
        let manifest = self.look_at(component.clone()).await?;
        let sha256 = hash(&component);
        let ready = self
            .compiler
            .compile(sha256, component.clone().into(), Purpose::Upload)
            .await?;
        if ready.exports.describe.is_some() {
            self.compare(&manifest, sha256, component).await?;
        }
        Ok(manifest)
    }

    /// Holds what the component says about itself against its manifest.
    async fn compare(&self, manifest: &Manifest, sha256: Hash, component: Bytes) -> Result<()> {
        let turn = tokio::time::timeout(self.limits.compile_wait, self.descriptions.acquire());
        let _turn = turn
            .await
            .map_err(|_| Error::unavailable("too many plugins are being judged; try again later"))?
            .map_err(Error::internal)?;
        let report = self
            .run_once(Call {
                sha256,
                component: Box::new(move || async move { Ok(component.into()) }.boxed()),
                input: Input::Describe,
                seed: [0; 32],
                now: DateTime::UNIX_EPOCH,
                fuel: None,
                deadline: None,
                cancel: CancellationToken::new(),
                door: Arc::new(Closed),
            })
            .await?;
        let Some(Output::Description { name, version }) = report.output else {
            let reason = report.error.unwrap_or_default();
            return Err(refused(
                "failed_description",
                format!("The component's describe did not answer: {reason}."),
            ));
        };
        if manifest.name == *name && manifest.version == version {
            return Ok(());
        }
        Err(refused(
            "other_description",
            format!(
                "The component describes itself as {name:?} {version:?}, and its manifest says \
                 {} {}.",
                manifest.name, manifest.version
            ),
        ))
    }

    async fn run_once(&self, call: Call) -> Result<Report> {
        let Call {
            sha256,
            component,
            input,
            seed,
            now,
            fuel,
            deadline,
            cancel,
            door,
        } = call;
        let begun = cancel
            .run_until_cancelled(self.begin(sha256, component))
            .await;
        let (ready, _slot) = match begun {
            Some(Ok(begun)) => begun,
            // These fail every time: the component is another than the one installed, or none.
            Some(Err(
                error @ (Error::Inconsistent { .. }
                | Error::Invalid(_)
                | Error::LimitExceeded { .. }
                | Error::NotFound),
            )) => {
                let cause = &error as &dyn std::error::Error;
                tracing::error!(error = cause, "a plugin did not start");
                let reason = format!("the plugin could not be made ready: {error}");
                return Ok(Report::refused(reason));
            }
            Some(Err(error)) => return Err(error),
            None => return Ok(Report::refused("the run was cancelled before it began")),
        };
        let limits = self.narrowed(fuel, deadline);
        let started = Instant::now();
        let run = Run::new(limits.clone(), door, now, seed);
        let mut store = Store::new(&self.engine, run);
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(of_stop(Stop::Cancelled)),
            ended = self.enter(&mut store, &limits, &ready, &input) => ended,
        };
        let fuel = limits.fuel.saturating_sub(store.get_fuel().unwrap_or(0));
        let mut run = store.into_data();
        run.usage.fuel = fuel;
        run.usage.duration = started.elapsed();
        let (outcome, error, output) = match ended {
            Ok(output) => {
                let output = output.map(|output| run.redacted_output(output));
                (Outcome::Succeeded, None, output)
            }
            Err((outcome, sentence)) => (outcome, Some(cut(run.redacted(sentence))), None),
        };
        Ok(Report {
            outcome,
            error,
            output,
            usage: run.usage,
            logs: run.logs,
        })
    }

    /// The compiled component and a slot to run it in. The semaphore is never closed; a permit
    /// missing would only lift the bound.
    async fn begin(
        &self,
        sha256: Hash,
        component: ComponentLoader,
    ) -> Result<(Arc<Ready>, Option<SemaphorePermit<'_>>)> {
        let ready = match self.compiler.find(&sha256).await? {
            Some(ready) => ready,
            None => self.prepare(sha256, component).await?,
        };
        Ok((ready, self.slots.acquire().await.ok()))
    }

    /// Fetches and compiles a component that is not kept compiled.
    async fn prepare(&self, sha256: Hash, component: ComponentLoader) -> Result<Arc<Ready>> {
        let loaded = component().await?;
        if hash(&loaded.component) != sha256 {
            let (table, column) = ("plugin_components".into(), "component".into());
            return Err(Error::Inconsistent { table, column });
        }
        self.compiler.compile(sha256, loaded, Purpose::Run).await
    }

    /// The host's limits with those of the call that are tighter.
    fn narrowed(&self, fuel: Option<u64>, deadline: Option<Duration>) -> Arc<Limits> {
        let ours = &self.limits;
        let fuel = fuel.unwrap_or(u64::MAX).min(ours.fuel);
        let deadline = deadline.unwrap_or(ours.deadline).min(ours.deadline);
        if fuel == ours.fuel && deadline == ours.deadline {
            return ours.clone();
        }
        let mut limits = Limits::clone(ours);
        (limits.fuel, limits.deadline) = (fuel, deadline);
        Arc::new(limits)
    }

    /// Runs the guest inside its limits, until it answers or is stopped.
    async fn enter(
        &self,
        store: &mut Store<Run>,
        limits: &Limits,
        ready: &Ready,
        input: &Input,
    ) -> Result<Option<Output>, (Outcome, String)> {
        let unwound = |error: wasmtime::Error| of_unwound(&error, limits);
        store.set_fuel(limits.fuel).map_err(unwound)?;
        store.set_hostcall_fuel(limits.call_bytes);
        store.limiter_async(|run| run);
        // One tick at a time: the wall clock decides, because ticks come late under load; between
        // ticks other tasks get the thread.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| {
            store.data().check_deadline()?;
            Ok(UpdateDeadline::Yield(1))
        });
        let _ticking = self.ticker.tick();
        let guest = async {
            let instance = ready.instance.instantiate_async(&mut *store).await?;
            ready.exports.call(store, &instance, input).await
        };
        match tokio::time::timeout(limits.deadline, self.turns.take(guest)).await {
            // What is too long is not looked through for secrets either.
            Ok(Ok(answer)) if spoken(&answer) > limits.answer_bytes => {
                Err(of_stop(Stop::AnswerBytes(limits.answer_bytes)))
            }
            Ok(Ok(answer)) => answer.map_err(of_refusal),
            Ok(Err(error)) => Err(unwound(error)),
            Err(_) => Err(of_stop(Stop::Deadline(limits.deadline))),
        }
    }
}

/// The bytes of the sentences and the JSON that a guest answered with.
fn spoken(answer: &Result<Option<Output>, String>) -> usize {
    match answer {
        Err(sentence) => sentence.len(),
        Ok(Some(Output::Action(Some(text)))) => text.len(),
        Ok(Some(Output::Verdict(Verdict::Reject { code, message, .. }))) => {
            code.len() + message.len()
        }
        Ok(_) => 0,
    }
}

impl PluginHost for Host {
    fn inspect(&self, component: Bytes) -> BoxFuture<'_, Result<Manifest>> {
        self.judge(component).boxed()
    }

    fn manifest(&self, component: Bytes) -> BoxFuture<'_, Result<Manifest>> {
        self.look_at(component).boxed()
    }

    fn run(&self, call: Call) -> BoxFuture<'_, Result<Report>> {
        self.run_once(call).boxed()
    }

    fn capacity(&self) -> Capacity {
        Capacity {
            runs: self.limits.concurrent_runs as usize,
            fuel: self.limits.fuel,
        }
    }
}
