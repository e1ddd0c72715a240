//! The worker's side: reads a component from standard input, bounds itself, and writes machine code
//! to standard output. A reason to refuse the component goes to standard error.

use std::io::{self, BufRead, Read, Write};
use std::process::ExitCode;

use rlimit::Resource;
use serde::{Deserialize, Serialize};

use crate::engine::compiling_engine;

/// What the worker is told before the component's bytes, as one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Bytes of the component.
    pub(crate) component: u64,
    /// Seconds of processor time.
    pub(crate) seconds: u64,
    /// Bytes of memory.
    pub(crate) memory: u64,
}

/// The exit code of a worker that refuses the component.
pub(crate) const REFUSED: u8 = 3;

/// The exit code of a worker that has no memory for the component.
pub(crate) const OUT_OF_MEMORY: u8 = 4;

/// The longest order, in bytes.
const MAX_ORDER: u64 = 4 << 10;

/// The whole life of a compile worker: what the program named by a [`Worker`](crate::Worker) calls
/// first, and answers as its own exit code. It starts no thread and touches no file.
pub fn compile_worker() -> ExitCode {
    match compile(&mut io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Refused(reason)) => {
            eprintln!("{reason:#}");
            ExitCode::from(REFUSED)
        }
        Err(Failure::Broken(error)) if error.kind() == io::ErrorKind::OutOfMemory => {
            ExitCode::from(OUT_OF_MEMORY)
        }
        Err(Failure::Broken(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

enum Failure {
    Refused(wasmtime::Error),
    Broken(io::Error),
}

fn compile(input: &mut impl BufRead, output: &mut impl Write) -> Result<(), Failure> {
    let order = read_order(input).map_err(Failure::Broken)?;
    confine(&order).map_err(Failure::Broken)?;
    let mut component = Vec::new();
    input
        .take(order.component)
        .read_to_end(&mut component)
        .map_err(Failure::Broken)?;
    let engine = compiling_engine().map_err(Failure::Refused)?;
    let code = engine
        .precompile_component(&component)
        .map_err(Failure::Refused)?;
    output.write_all(&code).map_err(Failure::Broken)?;
    output.flush().map_err(Failure::Broken)
}

fn read_order(input: &mut impl BufRead) -> io::Result<Order> {
    let mut line = Vec::new();
    input.take(MAX_ORDER).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)?)
}

/// Takes from this process what compiling does not need. What it has mapped already, such as an
/// allocator's reserve, counts as nothing.
fn confine(order: &Order) -> io::Result<()> {
    let memory = order.memory.saturating_add(mapped());
    // At the soft bound comes SIGXCPU, which tells it from whatever else kills; SIGKILL a second
    // later.
    Resource::CPU.set(order.seconds, order.seconds.saturating_add(1))?;
    for (resource, most) in [
        (Resource::AS, memory),
        (Resource::CORE, 0),
        (Resource::FSIZE, 0),
        (Resource::NOFILE, 3),
    ] {
        resource.set(most, most)?;
    }
    Ok(())
}

/// Bytes of address space that this process has mapped; 0 where nobody says.
fn mapped() -> u64 {
    const PAGE: u64 = 4 << 10;
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text
        .split(' ')
        .next()
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0).saturating_mul(PAGE)
}
