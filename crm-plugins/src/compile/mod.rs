//! Makes components ready to run, one of a kind at a time, and keeps the machine code in memory.
//!
//! Machine code never comes from outside: it is made from bytes whose SHA-256 is known, by this
//! process or by a worker that it starts, or read back from a cache that carries our own key's
//! mark.

mod cache;
mod child;

pub(crate) use cache::hmac;
pub use child::compile_worker;
pub(crate) use child::{OUT_OF_MEMORY, Order, REFUSED};

use std::sync::Arc;

use cache::CodeCache;
use crm_core::hook::Loaded;
use crm_core::{Error, Result};
use moka::sync::Cache;
use rlimit::Resource;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use wasmtime::component::{Component, HasSelf, InstancePre, Linker};
use wasmtime::{Engine, Error as EngineError};

use crate::bindings::Plugin;
use crate::export::Exports;
use crate::inspect::refused;
use crate::limits::Limits;
use crate::run::Run;
use crate::worker::{MOST_TIME, Worker, compile_apart};

/// Bytes from which on a component may take the compiler [longer](Limits::compile_time).
const SMALL: usize = 1 << 20;

/// A component's identity: the SHA-256 of its bytes.
pub(crate) type Hash = [u8; 32];

/// The SHA-256 of a component.
pub(crate) fn hash(component: &[u8]) -> Hash {
    Sha256::digest(component).into()
}

/// A component ready to run.
pub(crate) struct Ready {
    pub(crate) instance: InstancePre<Run>,
    pub(crate) exports: Exports,
}

/// The compiler with what it has compiled. Tenants that installed the same bytes share them.
pub(crate) struct Compiler {
    engine: Engine,
    limits: Arc<Limits>,
    linker: Linker<Run>,
    compiled: Cache<Hash, Arc<Ready>>,
    worker: Option<Worker>,
    cache: Option<Arc<CodeCache>>,
    /// Nobody's upload keeps others' plugins from running.
    uploads: Places,
    runs: Places,
}

/// Components are compiled one after the other, small ones apart from large ones: a large one keeps
/// no small ones waiting.
struct Places {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Places {
    fn new() -> Self {
        Self {
            small: Arc::new(Semaphore::new(1)),
            large: Arc::new(Semaphore::new(1)),
        }
    }

    /// Those for a component of this size.
    fn of(&self, bytes: usize) -> &Arc<Semaphore> {
        match bytes < SMALL {
            true => &self.small,
            false => &self.large,
        }
    }
}

/// What a component is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be judged.
    Upload,
    /// To run: it was judged before.
    Run,
}

impl Compiler {
    pub(crate) fn new(engine: Engine, limits: Arc<Limits>, worker: Option<Worker>) -> Result<Self> {
        let mut linker = Linker::new(&engine);
        Plugin::add_to_linker::<_, HasSelf<Run>>(&mut linker, |run| run)
            .map_err(|error| Error::internal(error.into_boxed_dyn_error()))?;
        let least = least_weight(limits.compiled_bytes);
        let compiled = Cache::builder()
            .max_capacity(limits.compiled_bytes)
            .weigher(move |_, ready: &Arc<Ready>| code_size(&ready.instance).max(least))
            .build();
        let kept = worker.as_ref().and_then(|worker| worker.cache.as_ref());
        let cache = kept
            .map(|kept| CodeCache::open(&engine, kept))
            .transpose()?
            .map(Arc::new);
        Ok(Self {
            engine,
            limits,
            linker,
            compiled,
            worker,
            cache,
            uploads: Places::new(),
            runs: Places::new(),
        })
    }

    /// The component ready to run, when its machine code is kept in memory or in the cache's
    /// folder.
    pub(crate) async fn find(&self, hash: &Hash) -> Result<Option<Arc<Ready>>> {
        if let Some(ready) = self.compiled.get(hash) {
            return Ok(Some(ready));
        }
        let Some(cache) = self.cache.clone() else {
            return Ok(None);
        };
        let kept = match cache.map(&self.engine, hash) {
            Some(component) => Some(component),
            None => {
                let (engine, wanted) = (self.engine.clone(), *hash);
                tokio::task::spawn_blocking(move || cache.load(&engine, &wanted))
                    .await
                    .map_err(Error::internal)?
            }
        };
        kept.map(|component| self.keep(*hash, &component))
            .transpose()
    }

    /// Compiles a component and keeps it.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when the compiler or the machine is busy for too long, or the
    /// compiler fails in a way that is none of the component's; [`Error::LimitExceeded`] with
    /// `component_too_complex` for one that takes a worker too much; [`Error::Invalid`] with
    /// `unsupported_component`, `foreign_import` or `wrong_export` when the host cannot run it.
    pub(crate) async fn compile(
        &self,
        hash: Hash,
        Loaded { component, turn }: Loaded,
        purpose: Purpose,
    ) -> Result<Arc<Ready>> {
        let wait = self.limits.compile_wait;
        let (places, wait) = match purpose {
            Purpose::Upload if component.len() < SMALL => (&self.uploads, wait),
            Purpose::Upload => (&self.uploads, wait.saturating_add(MOST_TIME)),
            Purpose::Run => (&self.runs, wait),
        };
        let places = places.of(component.len());
        let place = tokio::time::timeout(wait, places.clone().acquire_owned())
            .await
            .map_err(|_| {
                Error::unavailable("too many plugins are being compiled; try again later")
            })?
            .map_err(Error::internal)?;
        if let Some(ready) = self.find(&hash).await? {
            return Ok(ready);
        }
        let code = match &self.worker {
            Some(worker) => Some(compile_apart(worker, &self.limits, component.clone()).await?),
            None => None,
        };
        let (engine, cache) = (self.engine.clone(), self.cache.clone());
        let (compiled, _held) = tokio::task::spawn_blocking(move || {
            let compiled = match (code, cache) {
                (None, _) => Component::new(&engine, &component),
                (Some(code), Some(cache)) => cache.store(&engine, &hash, &code),
                (Some(code), None) => load(&engine, &code),
            };
            // Held by the work itself, because dropping this future does not stop it.
            (compiled, (place, turn))
        })
        .await
        .map_err(Error::internal)?;
        self.keep(hash, &compiled.map_err(unsupported)?)
    }

    /// Links a compiled component and keeps it in memory.
    fn keep(&self, hash: Hash, component: &Component) -> Result<Arc<Ready>> {
        let instance = self.linker.instantiate_pre(component).map_err(|error| {
            refused(
                "foreign_import",
                format!("The component's imports do not fit: {error:#}."),
            )
        })?;
        let exports = Exports::find(&instance)?;
        let ready = Arc::new(Ready { instance, exports });
        self.compiled.insert(hash, ready.clone());
        // What is beyond the bound goes now, not when there is time for it.
        self.compiled.run_pending_tasks();
        Ok(ready)
    }
}

/// Loads machine code that our worker made.
#[expect(
    unsafe_code,
    reason = "the bytes come from the worker this process started, through a pipe nobody else holds"
)]
fn load(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    unsafe { Component::deserialize(engine, code) }
}

fn unsupported(error: EngineError) -> Error {
    refused(
        "unsupported_component",
        format!("This host cannot run the component: {error:#}."),
    )
}

fn code_size(component: &InstancePre<Run>) -> u32 {
    let range = component.component().image_range();
    u32::try_from(range.end.addr() - range.start.addr()).unwrap_or(u32::MAX)
}

/// What a component weighs at least: code from the cache's folder holds its file open, and those
/// kept ready hold at most a quarter of the files that this process may open.
fn least_weight(compiled_bytes: u64) -> u32 {
    let files = Resource::NOFILE.get_soft().unwrap_or(u64::MAX);
    let most = (files / 4).max(1);
    u32::try_from(compiled_bytes / most).unwrap_or(u32::MAX)
}
