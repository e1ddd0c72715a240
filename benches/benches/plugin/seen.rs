//! Times and memory, and how they are printed.

use std::time::{Duration, Instant};

/// How long one figure is measured at most.
const PATIENCE: Duration = Duration::from_secs(3);

/// Times of so many rounds, fewer where they take long; behind a tenth as many to warm up.
pub(crate) async fn samples(rounds: usize, mut work: impl AsyncFnMut()) -> Vec<Duration> {
    let begun = Instant::now();
    for _ in 0..rounds / 10 {
        work().await;
        if begun.elapsed() > PATIENCE / 10 {
            break;
        }
    }
    let (begun, mut times) = (Instant::now(), Vec::with_capacity(rounds));
    while times.len() < rounds && begun.elapsed() < PATIENCE {
        let started = Instant::now();
        work().await;
        times.push(started.elapsed());
    }
    times
}

/// The time that so many of 100 stay below.
pub(crate) fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    let at = times.len() * percent / 100;
    times[at.min(times.len() - 1)]
}

/// The middle and the slow ones.
pub(crate) fn shown(times: &mut [Duration]) -> String {
    let [middle, slow] = [50, 99].map(|percent| percentile(times, percent));
    format!("p50 {middle:.1?}, p99 {slow:.1?}")
}

/// How the middle of these compares with that of Wasmtime alone.
pub(crate) fn against(times: &mut [Duration], alone: &mut [Duration]) -> String {
    let [times, alone] = [times, alone].map(|times| percentile(times, 50));
    let ratio = times.as_secs_f64() / alone.as_secs_f64();
    format!("{ratio:.2} times Wasmtime alone ({alone:.1?})")
}

/// One line of the table.
pub(crate) fn print(what: &str, seen: &str, target: &str) {
    let target = match target {
        "" => String::new(),
        target => format!("  (target: {target})"),
    };
    println!("{what:<48} {seen}{target}");
}

/// Anonymous and whole resident memory of this process, in KiB.
pub(crate) fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        number.unwrap_or(0)
    };
    (of("RssAnon:"), of("VmRSS:"))
}

/// What grew between two looks at the memory, for each of so many.
pub(crate) fn grown(before: (u64, u64), after: (u64, u64), count: usize) -> String {
    let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / count as f64;
    format!(
        "{:.1} KiB anonymous, {:.1} KiB resident each",
        each(before.0, after.0),
        each(before.1, after.1)
    )
}
