//! Compiles components, one at a time, and keeps the machine code in memory.
//!
//! Machine code never comes from outside: it is made here from bytes whose SHA-256 is known.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crm_core::{Error, Result};
use moka::sync::Cache;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Engine, Error as EngineError};

use crate::bindings::{Plugin, PluginPre};
use crate::inspect::{missing_export, refused};
use crate::limits::Limits;
use crate::run::Run;

/// A component's identity: the SHA-256 of its bytes.
pub(crate) type Hash = [u8; 32];

/// The SHA-256 of a component.
pub(crate) fn hash(component: &[u8]) -> Hash {
    Sha256::digest(component).into()
}

/// The compiler with its cache.
pub(crate) struct Compiler {
    engine: Engine,
    linker: Linker<Run>,
    compiled: Cache<Hash, Arc<PluginPre<Run>>>,
    turn: Arc<Semaphore>,
    wait: Duration,
}

impl Compiler {
    pub(crate) fn new(engine: Engine, limits: &Limits) -> Result<Self> {
        let mut linker = Linker::new(&engine);
        Plugin::add_to_linker::<_, HasSelf<Run>>(&mut linker, |run| run)
            .map_err(|error| Error::internal(error.into_boxed_dyn_error()))?;
        let compiled = Cache::builder()
            .max_capacity(limits.compiled_bytes)
            .weigher(|_, plugin: &Arc<PluginPre<Run>>| code_size(plugin))
            .build();
        let turn = Arc::new(Semaphore::new(1));
        Ok(Self {
            engine,
            linker,
            compiled,
            turn,
            wait: limits.compile_wait,
        })
    }

    /// The compiled component, when it is still kept.
    pub(crate) fn find(&self, hash: &Hash) -> Option<Arc<PluginPre<Run>>> {
        self.compiled.get(hash)
    }

    /// Compiles a component and keeps it.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when the compiler is busy for too long; [`Error::Invalid`] with
    /// `unsupported_component`, `foreign_import` or `missing_export` when the host cannot run it.
    pub(crate) async fn compile(&self, component: Bytes) -> Result<Arc<PluginPre<Run>>> {
        let turn = tokio::time::timeout(self.wait, self.turn.clone().acquire_owned())
            .await
            .map_err(|_| {
                Error::unavailable("too many plugins are being compiled; try again later")
            })?
            .map_err(Error::internal)?;
        let hash = hash(&component);
        if let Some(plugin) = self.find(&hash) {
            return Ok(plugin);
        }
        let engine = self.engine.clone();
        let compiled = tokio::task::spawn_blocking(move || {
            // Held by the work itself, because dropping this future does not stop it.
            let _turn = turn;
            Component::new(&engine, &component)
        })
        .await
        .map_err(Error::internal)?
        .map_err(unsupported)?;
        let linked = self.linker.instantiate_pre(&compiled).map_err(|error| {
            refused(
                "foreign_import",
                format!("The component's imports do not fit: {error:#}."),
            )
        })?;
        let plugin =
            PluginPre::new(linked).map_err(|error| missing_export(&format!("{error:#}")))?;
        let plugin = Arc::new(plugin);
        self.compiled.insert(hash, plugin.clone());
        Ok(plugin)
    }
}

fn unsupported(error: EngineError) -> Error {
    refused(
        "unsupported_component",
        format!("This host cannot run the component: {error:#}."),
    )
}

fn code_size(plugin: &PluginPre<Run>) -> u32 {
    let range = plugin.instance_pre().component().image_range();
    u32::try_from(range.end.addr() - range.start.addr()).unwrap_or(u32::MAX)
}
