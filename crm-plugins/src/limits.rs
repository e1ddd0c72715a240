//! What a plugin may use up, and the stop that follows when it wants more.

use std::time::Duration;

/// The limits of one host. Every run report that ends at a limit names it with its size.
///
/// ```
/// # use std::time::Duration;
/// let tight = crm_plugins::Limits { deadline: Duration::from_millis(100), ..Default::default() };
/// ```
#[derive(Debug, Clone)]
pub struct Limits {
    /// The largest component, in bytes. Default 32 MiB: a Python guest has 19 MB.
    pub component_bytes: usize,
    /// Functions of a component, those of its parts together. Default 60,000.
    pub functions: u32,
    /// The largest function of a component, in bytes. Default 512 KiB.
    pub function_bytes: usize,
    /// Targets of one branch table of a component. Default 16,384.
    pub branch_targets: u32,
    /// All linear memories of a run together, in bytes. Default 64 MiB.
    pub memory_bytes: usize,
    /// All table elements of a run together. Default 100,000.
    pub table_elements: usize,
    /// The call stack, in bytes. Default 512 KiB.
    pub stack_bytes: usize,
    /// Fuel of a run, about one unit per instruction. Default 1,000,000,000.
    pub fuel: u64,
    /// Wall time of a run, waiting for records and requests included. Default 2 s.
    pub deadline: Duration,
    /// Calls of host functions in a run, log lines included. Default 1,000.
    pub host_calls: u32,
    /// What a guest may hand to the host in one call, in bytes. Default 4 MiB.
    pub call_bytes: usize,
    /// What a guest may answer with, an error's sentence included, in bytes. Default 256 KiB.
    pub answer_bytes: usize,
    /// Records read in a run. Default 10,000.
    pub rows_read: u32,
    /// Records written in a run. Default 500.
    pub rows_written: u32,
    /// Requests sent in a run. Default 20.
    pub requests: u32,
    /// Bytes sent and received with all requests of a run. Default 4 MiB.
    pub request_bytes: u64,
    /// Log lines of a run. Default 200.
    pub log_lines: usize,
    /// Bytes of all log lines of a run. Default 64 KiB.
    pub log_bytes: usize,
    /// Runs at the same time on this host; further ones wait. Default 64.
    pub concurrent_runs: u32,
    /// How long an upload or a run waits for its turn with the compiler; longer than a component of
    /// up to 1 MiB may take, and an upload of a larger one two minutes more. Default 60 s.
    pub compile_wait: Duration,
    /// Processor time for compiling a component of up to 1 MiB, and again for every further MiB,
    /// two minutes at most. Default 10 s. A compile worker only.
    pub compile_time: Duration,
    /// Memory for compiling a component, in bytes. Default 1 GiB. A compile worker only.
    pub compile_memory: u64,
    /// Machine code of one component, in bytes. Default 192 MiB.
    pub code_bytes: u64,
    /// Machine code kept ready, in bytes; what is used least goes first. Default 256 MiB.
    pub compiled_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            component_bytes: 32 << 20,
            functions: 60_000,
            function_bytes: 512 << 10,
            branch_targets: 1 << 14,
            memory_bytes: 64 << 20,
            table_elements: 100_000,
            stack_bytes: 512 << 10,
            fuel: 1_000_000_000,
            deadline: Duration::from_secs(2),
            host_calls: 1_000,
            call_bytes: 4 << 20,
            answer_bytes: 256 << 10,
            rows_read: 10_000,
            rows_written: 500,
            requests: 20,
            request_bytes: 4 << 20,
            log_lines: 200,
            log_bytes: 64 << 10,
            concurrent_runs: 64,
            compile_wait: Duration::from_secs(60),
            compile_time: Duration::from_secs(10),
            compile_memory: 1 << 30,
            code_bytes: 192 << 20,
            compiled_bytes: 256 << 20,
        }
    }
}

/// The limit a run was stopped at. As an error it unwinds the guest, which cannot catch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stop {
    #[error("the run was cancelled: an administrator stopped it, or the plugin was switched off")]
    Cancelled,
    #[error("the run took longer than {} ms (limit deadline)", .0.as_millis())]
    Deadline(Duration),
    #[error("the run used more than {0} units of fuel (limit fuel)")]
    Fuel(u64),
    #[error("the run wanted more than {0} bytes of memory (limit memory_bytes)")]
    Memory(usize),
    #[error("the run wanted more than {0} table elements (limit table_elements)")]
    Tables(usize),
    #[error("the run's calls nested deeper than {0} bytes of stack (limit stack_bytes)")]
    Stack(usize),
    #[error("the run called the host more than {0} times (limit host_calls)")]
    HostCalls(u32),
    #[error("the run handed more than {0} bytes to the host in one call (limit call_bytes)")]
    CallBytes(usize),
    #[error("the run answered with more than {0} bytes (limit answer_bytes)")]
    AnswerBytes(usize),
    #[error("the run read more than {0} records (limit rows_read)")]
    RowsRead(u32),
    #[error("the run wrote more than {0} records (limit rows_written)")]
    RowsWritten(u32),
    #[error("the run sent more than {0} requests (limit requests)")]
    Requests(u32),
    #[error("the run's requests had more than {0} bytes (limit request_bytes)")]
    RequestBytes(u64),
    #[error("the run logged more than {0} lines (limit log_lines)")]
    LogLines(usize),
    #[error("the run logged more than {0} bytes (limit log_bytes)")]
    LogBytes(usize),
}
