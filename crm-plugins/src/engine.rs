//! The engine's configuration, and the ticker that lets it interrupt guests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crm_core::{Error, Result};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::limits::Limits;

/// The most memories, tables and core instances of one component: QuickJS has 3 memories, Python
/// about 40 tables.
pub(crate) const MEMORIES: u32 = 10;
pub(crate) const TABLES: u32 = 60;
pub(crate) const CORE_INSTANCES: u32 = 60;

/// Stack left for host functions below the guest's own.
const HOST_STACK: usize = 512 << 10;
/// What a pooled memory keeps between runs; halves the cost of a fresh instance.
const KEEP_RESIDENT: usize = 2 << 20;
/// What a pooled table keeps: those of usual guests.
const TABLE_RESIDENT: usize = 64 << 10;

/// An engine with pooled instances, or with instances on demand where the address space for the
/// pool cannot be had.
///
/// # Errors
///
/// [`Error::Configuration`] when the limits do not fit together.
pub(crate) fn engine(limits: &Limits) -> Result<Engine> {
    let mut pooled = config(limits);
    pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(limits)));
    Engine::new(&pooled).or_else(|reason| {
        tracing::warn!(%reason, "no pool for plugin instances; making them on demand, slower");
        Engine::new(&config(limits)).map_err(|error| {
            Error::Configuration(format!("the plugin host cannot start: {error}").into())
        })
    })
}

/// An engine that compiles for [`engine`], and has no room to run anything.
pub(crate) fn compiling_engine() -> wasmtime::Result<Engine> {
    Engine::new(&config(&Limits::default()))
}

fn config(limits: &Limits) -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(limits.stack_bytes)
        .async_stack_size(limits.stack_bytes + HOST_STACK)
        .wasm_backtrace_max_frames(None)
        // What only backtraces need makes code larger and slower to load.
        .generate_address_map(false)
        .native_unwind_info(cfg!(windows))
        // The same run gives the same result and the same fuel on every machine.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .wasm_memory64(false)
        .concurrency_support(false);
    config
}

fn pool(limits: &Limits) -> PoolingAllocationConfig {
    let runs = limits.concurrent_runs;
    let mut pool = PoolingAllocationConfig::new();
    // Slots for as many runs as there may be at once: a run never fails for want of a slot.
    pool.total_component_instances(runs)
        .total_core_instances(runs.saturating_mul(CORE_INSTANCES))
        .total_memories(runs.saturating_mul(MEMORIES))
        .total_tables(runs.saturating_mul(TABLES))
        .total_stacks(runs)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .table_elements(limits.table_elements)
        .max_memory_size(limits.memory_bytes)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(TABLE_RESIDENT)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// Advances the engine's epoch every millisecond while guests run; sleeps otherwise, and ends with
/// the host.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    running: AtomicUsize,
    stopped: AtomicBool,
}

impl Ticker {
    const TICK: Duration = Duration::from_millis(1);

    pub(crate) fn start(engine: Engine) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let seen = shared.clone();
        let thread = std::thread::Builder::new()
            .name("plugin-epochs".into())
            .spawn(move || {
                while !seen.stopped.load(Ordering::SeqCst) {
                    if seen.running.load(Ordering::SeqCst) == 0 {
                        std::thread::park();
                    } else {
                        std::thread::sleep(Self::TICK);
                        engine.increment_epoch();
                    }
                }
            })
            .map_err(Error::internal)?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Keeps the epoch advancing until the guard is dropped.
    pub(crate) fn tick(&self) -> Ticking<'_> {
        if self.shared.running.fetch_add(1, Ordering::SeqCst) == 0 {
            self.wake();
        }
        Ticking(&self.shared)
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.wake();
        // At most one tick away; a panic of the thread has nothing to tell here.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A running guest, as seen by the ticker.
pub(crate) struct Ticking<'a>(&'a Shared);

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ticker_ends_with_its_owner() {
        let ticker = Ticker::start(engine(&Limits::default()).unwrap()).unwrap();
        let shared = Arc::downgrade(&ticker.shared);
        let ticking = ticker.tick();
        drop(ticking);
        drop(ticker);
        assert!(
            shared.upgrade().is_none(),
            "the thread still holds its half"
        );
    }

    #[test]
    fn a_pool_that_cannot_be_reserved_is_done_without() {
        let greedy = Limits {
            concurrent_runs: 1_000_000,
            ..Limits::default()
        };
        assert!(
            Engine::new(
                config(&greedy)
                    .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(&greedy)))
            )
            .is_err()
        );
        assert!(engine(&greedy).is_ok());
    }

    #[test]
    fn limits_that_contradict_themselves_are_a_configuration_error() {
        let none = Limits {
            stack_bytes: 0,
            ..Limits::default()
        };
        assert!(matches!(engine(&none), Err(Error::Configuration(_))));
    }
}
