//! The plugin host: judges components and runs them, each call in a store of its own.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use crm_core::event::Event;
use crm_core::hook::{Call, Outcome, PluginHost, Report};
use crm_core::plugin::{Manifest, Plugin};
use crm_core::value::instant;
use crm_core::{Error, Result};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use wasmtime::{Engine, Store, UpdateDeadline};

use crate::bindings::{PluginPre, types};
use crate::compile::{Compiler, hash};
use crate::engine::{Ticker, engine};
use crate::inspect::check;
use crate::limits::{Limits, Stop};
use crate::outcome::{of_refusal, of_stop, of_unwound};
use crate::run::Run;

/// A host of WebAssembly plugins. It must be used on a tokio runtime with a timer.
///
/// A run that is stopped undoes nothing: what it wrote stays, also a write under way.
pub struct Host {
    limits: Arc<Limits>,
    engine: Engine,
    compiler: Compiler,
    ticker: Ticker,
    slots: Semaphore,
}

impl Host {
    /// A host with these limits.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] when the limits do not fit together.
    pub fn new(limits: Limits) -> Result<Self> {
        let engine = engine(&limits)?;
        let compiler = Compiler::new(engine.clone(), &limits)?;
        let ticker = Ticker::start(engine.clone())?;
        let slots = Semaphore::new(limits.concurrent_runs as usize);
        Ok(Self {
            limits: Arc::new(limits),
            engine,
            compiler,
            ticker,
            slots,
        })
    }

    async fn judge(&self, component: Bytes) -> Result<Manifest> {
        let (bytes, limits) = (component.clone(), self.limits.clone());
        let manifest = tokio::task::spawn_blocking(move || check(&bytes, &limits))
            .await
            .map_err(Error::internal)??;
        self.compiler.compile(component).await?;
        Ok(manifest)
    }

    async fn run(&self, call: Call) -> Result<Report> {
        let Call {
            plugin,
            event,
            door,
            component,
        } = call;
        let ready = match self.compiler.find(&plugin.sha256) {
            Some(ready) => ready,
            None => match self.prepare(&plugin, component).await {
                Ok(ready) => ready,
                // These fail every time: the component is another than the one installed, or none.
                Err(error @ (Error::Inconsistent { .. } | Error::Invalid(_) | Error::NotFound)) => {
                    let cause = &error as &dyn std::error::Error;
                    tracing::error!(plugin = %plugin.id, error = cause, "a plugin did not start");
                    let reason = format!("the plugin could not be made ready: {error}");
                    return Ok(Report::refused(reason));
                }
                Err(error) => return Err(error),
            },
        };
        // The semaphore is never closed; a permit missing would only lift the bound.
        let _slot = self.slots.acquire().await;
        let started = Instant::now();
        let mut store = Store::new(&self.engine, Run::new(self.limits.clone(), door));
        let (outcome, error) = match self.enter(&mut store, &ready, &event).await {
            Ok(()) => (Outcome::Succeeded, None),
            Err((outcome, sentence)) => (outcome, Some(sentence)),
        };
        let fuel = self
            .limits
            .fuel
            .saturating_sub(store.get_fuel().unwrap_or(0));
        let run = store.into_data();
        Ok(Report {
            outcome,
            error,
            fuel,
            duration: started.elapsed(),
            host_calls: run.host_calls,
            logs: run.logs,
        })
    }

    /// Fetches and compiles a component that is not kept compiled.
    async fn prepare(
        &self,
        plugin: &Plugin,
        component: crm_core::hook::ComponentLoader,
    ) -> Result<Arc<PluginPre<Run>>> {
        let bytes = component().await?;
        if hash(&bytes) != plugin.sha256 {
            let (table, column) = ("plugin_components".into(), "component".into());
            return Err(Error::Inconsistent { table, column });
        }
        self.compiler.compile(bytes).await
    }

    /// Runs the guest inside its limits, until it answers or is stopped.
    async fn enter(
        &self,
        store: &mut Store<Run>,
        plugin: &PluginPre<Run>,
        event: &Event,
    ) -> Result<(), (Outcome, String)> {
        let limits = &*self.limits;
        let unwound = |error: wasmtime::Error| of_unwound(&error, limits);
        store.set_fuel(limits.fuel).map_err(unwound)?;
        store.set_hostcall_fuel(limits.call_bytes);
        store.limiter(|run| run);
        // One tick at a time: the wall clock decides, because ticks come late under load; between
        // ticks other tasks get the thread.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| {
            store.data().check_deadline()?;
            Ok(UpdateDeadline::Yield(1))
        });
        let _ticking = self.ticker.tick();
        let event = guest_event(event);
        let guest = async {
            let instance = plugin.instantiate_async(&mut *store).await?;
            instance.call_handle(&mut *store, &event).await
        };
        match tokio::time::timeout(limits.deadline, guest).await {
            Ok(Ok(answer)) => answer.map_err(of_refusal),
            Ok(Err(error)) => Err(unwound(error)),
            Err(_) => Err(of_stop(Stop::Deadline(limits.deadline))),
        }
    }
}

impl PluginHost for Host {
    fn inspect(&self, component: Bytes) -> BoxFuture<'_, Result<Manifest>> {
        self.judge(component).boxed()
    }

    fn handle(&self, call: Call) -> BoxFuture<'_, Result<Report>> {
        self.run(call).boxed()
    }
}

/// The event as the guest sees it.
fn guest_event(event: &Event) -> types::Event {
    types::Event {
        id: event.id.to_string(),
        sequence: event.sequence,
        tenant_id: event.tenant_id.to_string(),
        module: event.module.clone(),
        kind: event.kind.clone(),
        record_id: event.record_id.to_string(),
        before: event.before.as_ref().map(ToString::to_string),
        after: event.after.as_ref().map(ToString::to_string),
        actor: event.actor.clone(),
        request_id: event.request_id.clone(),
        root_id: event.root_id.to_string(),
        depth: event.depth,
        occurred_at: instant(&event.occurred_at),
    }
}
