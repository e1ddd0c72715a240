//! One line of the table: a kind of request at one concurrency for a bounded time.

use std::cell::Cell;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::future::try_join_all;

use crate::client::{Connection, Reply, Request};
use crate::contact::Random;
use crate::logins::{self, Logins};
use crate::process::{cpu_seconds, forget_peak, peak_mib, resident_mib};
use crate::server::Server;
use crate::tenant::Tenants;
use crate::work::Work;

pub(crate) const HEADING: &str =
    "work      c     req/s    p50 ms    p99 ms  CPU-s/1,000  RSS MiB  failed";

/// A server that answers nothing for so long has hung.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often to look whether the server still works, and the CPU seconds that count as rest.
const LOOK: Duration = Duration::from_millis(250);
const REST: f64 = 0.015;

/// How long to warm up and to measure.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// What was measured.
pub(crate) struct Line {
    work: Work,
    concurrency: u32,
    elapsed: Duration,
    cpu_seconds: f64,
    resident_mib: u64,
    /// The most memory it held, beyond what it held before the line.
    growth_mib: u64,
    tally: Tally,
}

/// What the connections counted.
#[derive(Default)]
pub(crate) struct Tally {
    /// Of every answered request, in microseconds.
    times: Vec<u32>,
    failed: u64,
    first_failure: Option<String>,
    /// Those that went on beside the requests, if any.
    logins: Option<Logins>,
}

/// Measures one line.
///
/// The CPU time is taken from rest to rest, so that background work that the requests left behind
/// is on their account.
pub(crate) async fn line(
    server: &Server,
    tenants: &Tenants,
    work: Work,
    concurrency: u32,
    pace: Pace,
) -> Result<Line> {
    rest(server).await?;
    forget_peak(server.process)?;
    let resident_before = resident_mib(server.process)?;
    load(server, tenants, work, concurrency, pace.warm_up).await?;
    let before = rest(server).await?;
    let started = Instant::now();
    let mut tally = load(server, tenants, work, concurrency, pace.measured).await?;
    let elapsed = started.elapsed();
    let cpu_seconds = rest(server).await? - before;
    tally.times.sort_unstable();
    let resident_mib = resident_mib(server.process)?;
    let growth_mib = peak_mib(server.process)?.saturating_sub(resident_before);
    Ok(Line {
        work,
        concurrency,
        elapsed,
        cpu_seconds,
        resident_mib,
        growth_mib,
        tally,
    })
}

async fn load(
    server: &Server,
    tenants: &Tenants,
    work: Work,
    concurrency: u32,
    time: Duration,
) -> Result<Tally> {
    let end = Instant::now() + time;
    if let Work::Health = work {
        let under_logins = logins::health(server, tenants, concurrency, end);
        return tokio::time::timeout(time + PATIENCE, under_logins)
            .await
            .context("the server does not answer any more")?;
    }
    let connections = (0..concurrency).map(|_| connection(server, tenants, work, end));
    let tallies = tokio::time::timeout(time + PATIENCE, try_join_all(connections))
        .await
        .context("the server does not answer any more")??;
    Ok(tallies.into_iter().fold(Tally::default(), Tally::and))
}

thread_local! {
    /// Numbers what is made, beyond the numbers of seeded contacts.
    static SERIAL: Cell<u64> = const { Cell::new(1 << 32) };
}

async fn connection(server: &Server, tenants: &Tenants, work: Work, end: Instant) -> Result<Tally> {
    let mut connection = Connection::open(server.address).await?;
    let mut request = Request::default();
    let mut random = Random::new(SERIAL.get());
    let mut tally = Tally::default();
    loop {
        let serial = SERIAL.get();
        SERIAL.set(serial + 1);
        work.next(&mut request, random.pick(&tenants.all), &mut random, serial);
        let sent = Instant::now();
        if sent >= end {
            return Ok(tally);
        }
        let reply = connection.exchange(&request).await?;
        tally.count(sent.elapsed(), &reply);
    }
}

/// Waits until the server has nothing to do, and answers its CPU seconds so far.
async fn rest(server: &Server) -> Result<f64> {
    let deadline = Instant::now() + PATIENCE;
    let mut before = cpu_seconds(server.process)?;
    loop {
        tokio::time::sleep(LOOK).await;
        let now = cpu_seconds(server.process)?;
        if now - before < REST || Instant::now() > deadline {
            return Ok(now);
        }
        before = now;
    }
}

impl Tally {
    /// Counts an answer that took so long.
    pub(crate) fn count(&mut self, time: Duration, reply: &Reply<'_>) {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.times.push(micros);
        if !reply.is_success() {
            self.failed += 1;
            self.first_failure.get_or_insert_with(|| reply.to_string());
        }
    }

    pub(crate) fn beside(self, logins: Logins) -> Self {
        Self {
            logins: Some(logins),
            ..self
        }
    }

    fn and(mut self, other: Self) -> Self {
        self.times.extend(other.times);
        self.failed += other.failed;
        self.first_failure = self.first_failure.or(other.first_failure);
        self
    }

    /// The time, in milliseconds, that this percentage of requests did not exceed.
    fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.times.len() * percent).div_ceil(100);
        let time = self.times.get(rank.saturating_sub(1));
        time.map_or(f64::NAN, |micros| f64::from(*micros) / 1000.0)
    }
}

impl Line {
    /// Answers that were no 2xx.
    pub(crate) fn failed(&self) -> u64 {
        self.tally.failed
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests = self.tally.times.len() as f64;
        write!(
            f,
            "{:8} {:>2} {:>9.0} {:>9.2} {:>9.2} {:>12.3} {:>8} {:>7}",
            self.work.name(),
            self.concurrency,
            requests / self.elapsed.as_secs_f64(),
            self.tally.percentile(50),
            self.tally.percentile(99),
            self.cpu_seconds * 1000.0 / requests,
            self.resident_mib,
            self.tally.failed,
        )?;
        if let Some(logins) = &self.tally.logins {
            let growth = self.growth_mib;
            write!(
                f,
                "\n  {logins}; at most {growth} MiB more memory than before"
            )?;
        }
        match &self.tally.first_failure {
            Some(failure) => write!(f, "\n  the first failure: {failure}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_taken_from_the_sorted_times() {
        let tally = Tally {
            times: (1..=100).map(|ms| ms * 1000).collect(),
            ..Tally::default()
        };
        assert_eq!((tally.percentile(50), tally.percentile(99)), (50.0, 99.0));
        assert!(Tally::default().percentile(99).is_nan());
    }

    #[test]
    fn a_failure_anywhere_is_counted_and_shown() {
        let failed = Tally {
            times: vec![1],
            failed: 1,
            first_failure: Some("500 x".into()),
            ..Tally::default()
        };
        let tally = Tally::default().and(failed).and(Tally::default());
        assert_eq!(
            (tally.failed, tally.first_failure.as_deref()),
            (1, Some("500 x"))
        );
    }
}
