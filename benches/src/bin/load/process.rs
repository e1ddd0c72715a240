//! What the kernel knows of the server process: CPU time and memory, from `/proc`.

use anyhow::{Context as _, Result};

/// Ticks of a second in `/proc/PID/stat`: USER_HZ, which is 100 on every Linux we run on (proc(5)).
const TICKS: f64 = 100.0;

/// CPU seconds that the process has used, in its own code and in the kernel.
pub(crate) fn cpu_seconds(process: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))
        .context("the server has ended, or this is no Linux")?;
    cpu_ticks(&stat)
        .map(|ticks| ticks as f64 / TICKS)
        .context("/proc/PID/stat has changed")
}

/// Fields 14 and 15, `utime` and `stime`. The second field is a name in brackets and may hold
/// anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// Resident memory of the process, in MiB.
pub(crate) fn resident_mib(process: u32) -> Result<u64> {
    memory_mib(process, "VmRSS:")
}

/// The most resident memory since [`forget_peak`], in MiB.
pub(crate) fn peak_mib(process: u32) -> Result<u64> {
    memory_mib(process, "VmHWM:")
}

/// Lets [`peak_mib`] begin anew (proc_pid_clear_refs(5)).
pub(crate) fn forget_peak(process: u32) -> Result<()> {
    std::fs::write(format!("/proc/{process}/clear_refs"), "5")
        .context("the kernel keeps the peak of a process's memory to itself")
}

fn memory_mib(process: u32, name: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib / 1024)
        .with_context(|| format!("/proc/PID/status has no {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_program_name() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0";
        assert_eq!(cpu_ticks(stat), Some(300));
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(resident_mib(std::process::id()).unwrap() > 0);
        assert!(peak_mib(std::process::id()).unwrap() > 0);
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
    }
}
