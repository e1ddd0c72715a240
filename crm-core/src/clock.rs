//! Time and randomness, injected: nothing else in the library asks the system for either.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use uuid::Uuid;

/// Where time and randomness come from.
///
/// Instants have microsecond precision, the finest both databases keep.
pub trait Source: Send + Sync + 'static {
    /// The present instant.
    fn now(&self) -> DateTime<Utc>;
    /// Fills `bytes` with randomness fit for secrets.
    fn fill(&self, bytes: &mut [u8]);
    /// Fills `bytes` with randomness that makes ids differ, and keeps no secret.
    fn fill_id(&self, bytes: &mut [u8]) {
        self.fill(bytes);
    }
}

/// The handle on time and randomness that the library passes around.
#[derive(Clone)]
pub struct Clock(Arc<dyn Source>);

impl Clock {
    /// The system's clock and random generator.
    pub fn system() -> Self {
        Self(Arc::new(System))
    }

    /// A clock that stands at `start` until moved, with randomness counted up from `seed`.
    pub fn fixed(start: DateTime<Utc>, seed: u64) -> (Self, Arc<Fixed>) {
        let fixed = Arc::new(Fixed {
            micros: AtomicU64::new(u64::try_from(start.timestamp_micros()).unwrap_or(0)),
            counter: AtomicU64::new(seed),
        });
        (Self(fixed.clone()), fixed)
    }

    /// The present instant, to the microsecond.
    pub fn now(&self) -> DateTime<Utc> {
        self.0.now().trunc_subsecs(6)
    }

    /// A new UUID of version 7 (RFC 9562 §5.7): ordered by time to a quarter of a microsecond
    /// (§6.2, method 3), so that what one caller makes one after the other stays in order; 62
    /// random bits.
    pub fn new_id(&self) -> Uuid {
        self.new_id_and_time().0
    }

    /// A new id, and the instant in it: the present one, cut to milliseconds.
    pub fn new_id_and_time(&self) -> (Uuid, DateTime<Utc>) {
        let mut random = [0; 10];
        self.0.fill_id(&mut random);
        let precise = self.0.now();
        let now = precise.trunc_subsecs(3);
        let fraction = (precise - now).num_nanoseconds().unwrap_or(0) * 4_096 / 1_000_000;
        random[..2].copy_from_slice(&u16::try_from(fraction).unwrap_or(0).to_be_bytes());
        let millis = u64::try_from(now.timestamp_millis()).unwrap_or(0);
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        (id, now)
    }

    /// `N` random bytes fit for secrets.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes);
        bytes
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

struct System;

impl Source for System {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that asks the system for the time"
    )]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    #[expect(
        clippy::expect_used,
        reason = "without a random generator no secret may be made"
    )]
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system has a random generator");
    }

    /// Asks the system for many bytes at a time: an imported record takes three ids.
    fn fill_id(&self, bytes: &mut [u8]) {
        ID_BYTES.with_borrow_mut(|(ahead, used)| {
            if ahead.len() < *used + bytes.len() {
                self.fill(ahead);
                *used = 0;
            }
            match ahead.get(*used..*used + bytes.len()) {
                Some(some) => bytes.copy_from_slice(some),
                None => self.fill(bytes),
            }
            *used += bytes.len();
        });
    }
}

thread_local! {
    /// Random bytes for ids, and how many of them have been used.
    static ID_BYTES: RefCell<([u8; 480], usize)> = const { RefCell::new(([0; 480], usize::MAX / 2)) };
}

/// A clock for tests: it moves only when told to, and its randomness repeats.
#[derive(Debug)]
pub struct Fixed {
    micros: AtomicU64,
    counter: AtomicU64,
}

impl Fixed {
    /// Moves the clock forward.
    pub fn advance(&self, by: TimeDelta) {
        let micros = by
            .num_microseconds()
            .and_then(|n| u64::try_from(n).ok())
            .unwrap_or(0);
        self.micros.fetch_add(micros, Ordering::SeqCst);
    }

    /// Puts the clock back, as an operator or a time server may do.
    pub fn step_back(&self, by: TimeDelta) {
        let micros = by
            .num_microseconds()
            .and_then(|n| u64::try_from(n).ok())
            .unwrap_or(0);
        self.micros.fetch_sub(micros, Ordering::SeqCst);
    }
}

impl Source for Fixed {
    fn now(&self) -> DateTime<Utc> {
        let micros = i64::try_from(self.micros.load(Ordering::SeqCst)).unwrap_or(i64::MAX);
        DateTime::from_timestamp_micros(micros).unwrap_or_default()
    }

    fn fill(&self, bytes: &mut [u8]) {
        // The counter fills the end, so that ids made in the same millisecond keep their order.
        let count = self.counter.fetch_add(1, Ordering::SeqCst).to_be_bytes();
        bytes.fill(0);
        let width = bytes.len().min(count.len());
        let (from, to) = (count.len() - width, bytes.len() - width);
        bytes[to..].copy_from_slice(&count[from..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asvs_6_5_3_secrets_come_from_the_operating_systems_generator() {
        let clock = Clock::system();
        let many: Vec<[u8; 16]> = (0..64).map(|_| clock.random()).collect();
        for at in 0..16 {
            let values: std::collections::BTreeSet<_> = many.iter().map(|one| one[at]).collect();
            assert!(values.len() > 32, "byte {at} repeats itself");
        }
        // Nothing else in the library draws random bytes, so that no secret comes from elsewhere.
        let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        let generators = [
            "getrandom",
            " rand::",
            "thread_rng",
            "SystemRandom",
            "OsRng",
        ];
        let mut drawn = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if path.is_dir() {
                    folders.push(path);
                } else if name.ends_with(".rs") && name != "tests.rs" {
                    let source = std::fs::read_to_string(&path).unwrap();
                    let draws = generators.iter().any(|one| source.contains(one));
                    drawn.extend(draws.then_some(name));
                }
            }
        }
        assert_eq!(drawn, ["clock.rs"]);
    }

    #[test]
    fn ids_made_one_after_the_other_are_in_order_and_hold_their_millisecond() {
        let clock = Clock::system();
        let ids: Vec<_> = (0..1_000)
            .map(|_| {
                std::thread::sleep(std::time::Duration::from_nanos(300));
                clock.new_id_and_time()
            })
            .collect();
        assert!(ids.is_sorted());
        for (id, at) in ids {
            let millis = id.get_timestamp().map(|time| time.to_unix().0);
            assert_eq!(millis, u64::try_from(at.timestamp()).ok());
            assert_eq!(id.get_version_num(), 7);
        }
    }
}
