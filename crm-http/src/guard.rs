//! How often one may ask: limits by address, user and API key, in this process.
//!
//! Each limit lets a number of requests through at once and refills at that number a minute (GCRA,
//! as `governor` has it). Memory is bounded by forgetting those seen least. Time is that of the
//! library's clock as far as it goes forward: a clock that is put back neither frees nor locks.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use crm_core::id::TenantId;
use crm_core::identity::network;
use crm_core::{Actor, Error, RateLimit, Scope};
use governor::clock::Clock as _;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;
use poem::http::{HeaderMap, HeaderName, HeaderValue};
use quick_cache::sync::Cache;

/// Those remembered by each limit; one takes some 300 bytes.
const MOST: usize = 65_536;
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

type Bucket = RateLimiter<NotKeyed, InMemoryState, Steady, StateInformationMiddleware>;

/// Who is counted.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Address(IpAddr),
    Actor(TenantId, Actor),
}

/// Tells of a limit by the headers of draft-ietf-httpapi-ratelimit-headers-10.
pub(crate) fn tell(limit: &RateLimit, headers: &mut HeaderMap) {
    let RateLimit {
        name,
        quota,
        window,
        remaining,
        reset,
    } = limit;
    let policy = format!("\"{name}\";q={quota};w={window}");
    let state = format!("\"{name}\";r={remaining};t={reset}");
    for (header, value) in [(POLICY, policy), (STATE, state)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(header, value);
        }
    }
}

/// One limit, counted for each key by itself.
struct Limit {
    name: &'static str,
    quota: NonZeroU32,
    buckets: Cache<Key, Arc<Bucket>>,
    clock: Steady,
}

impl Limit {
    fn new(name: &'static str, per_minute: u32, clock: &Steady) -> Option<Self> {
        Some(Self {
            name,
            quota: NonZeroU32::new(per_minute)?,
            buckets: Cache::new(MOST),
            clock: clock.clone(),
        })
    }

    /// Counts a request; the error is how long to wait.
    fn check(&self, key: Key) -> (RateLimit, Result<(), Duration>) {
        let make = || {
            let quota = Quota::per_minute(self.quota);
            let bucket = RateLimiter::direct_with_clock(quota, self.clock.clone());
            Ok::<_, std::convert::Infallible>(Arc::new(bucket.with_middleware()))
        };
        let Ok(bucket) = self.buckets.get_or_insert_with(&key, make);
        let (remaining, outcome) = match bucket.check() {
            Ok(state) => (state.remaining_burst_capacity(), Ok(())),
            Err(refused) => (0, Err(refused.wait_time_from(self.clock.now()))),
        };
        let quota = self.quota.get();
        let missing = u64::from(quota.saturating_sub(remaining));
        let left = RateLimit {
            name: self.name,
            quota,
            window: 60,
            remaining,
            reset: (missing * 60).div_ceil(u64::from(quota)),
        };
        (left, outcome)
    }
}

/// The limits of a front end.
pub(crate) struct Guard {
    sign_in: Option<Limit>,
    general: Option<Limit>,
}

impl Guard {
    /// At most so many requests a minute; 0 switches a limit off.
    pub(crate) fn new(sign_in: u32, general: u32, clock: &crm_core::clock::Clock) -> Self {
        let clock = Steady::new(clock.clone());
        Self {
            sign_in: Limit::new("sign-in", sign_in, &clock),
            general: Limit::new("requests", general, &clock),
        }
    }

    /// Counts a request that opens or refreshes a session.
    pub(crate) fn sign_in(&self, address: Option<IpAddr>) -> Outcome {
        check(self.sign_in.as_ref(), address.map(by_network))
    }

    /// Counts a request whose credential holds.
    pub(crate) fn caller(&self, scope: &Scope) -> Outcome {
        let key = Key::Actor(scope.tenant(), scope.actor());
        check(self.general.as_ref(), Some(key))
    }

    /// Counts a request whose credential does not hold.
    pub(crate) fn stranger(&self, address: Option<IpAddr>) -> Outcome {
        check(self.general.as_ref(), address.map(by_network))
    }
}

/// What is left, and whether the request may pass.
pub(crate) type Outcome = (Option<RateLimit>, Result<(), Error>);

fn check(limit: Option<&Limit>, key: Option<Key>) -> Outcome {
    let (Some(limit), Some(key)) = (limit, key) else {
        return (None, Ok(()));
    };
    let (left, outcome) = limit.check(key);
    let refused = |wait: Duration| Error::TooMany {
        // Whole seconds, rounded up: who waits them is let through.
        retry_after: Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)),
        limit: Some(left),
    };
    (Some(left), outcome.map_err(refused))
}

fn by_network(address: IpAddr) -> Key {
    Key::Address(network(address))
}

/// The library's clock without its steps back.
#[derive(Clone)]
struct Steady {
    clock: crm_core::clock::Clock,
    state: Arc<Mutex<(DateTime<Utc>, Duration)>>,
}

impl Steady {
    fn new(clock: crm_core::clock::Clock) -> Self {
        let state = Arc::new(Mutex::new((clock.now(), Duration::ZERO)));
        Self { clock, state }
    }
}

impl governor::clock::Clock for Steady {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let (before, passed) = *state;
        let passed = passed + (now - before).to_std().unwrap_or_default();
        *state = (now, passed);
        passed.into()
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use crm_core::clock::{Clock, Fixed};

    use super::*;

    fn guard(sign_in: u32) -> (Guard, Arc<Fixed>) {
        let (clock, hands) = Clock::fixed(DateTime::UNIX_EPOCH + TimeDelta::days(1), 1);
        (Guard::new(sign_in, 0, &clock), hands)
    }

    fn passes(guard: &Guard, address: &str) -> bool {
        guard.sign_in(address.parse().ok()).1.is_ok()
    }

    #[test]
    fn xc_15_a_limit_lets_its_number_through_and_says_how_long_to_wait() {
        let (guard, hands) = guard(5);
        for left in (0..5).rev() {
            let (state, outcome) = guard.sign_in("192.0.2.1".parse().ok());
            assert_eq!(state.map(|state| state.remaining), Some(left));
            outcome.unwrap();
        }
        let (state, refused) = guard.sign_in("192.0.2.1".parse().ok());
        let Err(Error::TooMany { retry_after, .. }) = refused else {
            panic!("the sixth passed");
        };
        assert_eq!(retry_after, Duration::from_secs(12));
        assert_eq!(state.map(|state| state.reset), Some(60));
        hands.advance(TimeDelta::seconds(12));
        assert!(passes(&guard, "192.0.2.1"));
        assert!(!passes(&guard, "192.0.2.1"));
    }

    #[test]
    fn xc_15_zero_switches_a_limit_off_and_addresses_are_counted_apart() {
        let (off, _) = guard(0);
        assert!((0..1_000).all(|_| passes(&off, "192.0.2.1")));
        let (guard, _) = guard(1);
        assert!(passes(&guard, "192.0.2.1"));
        assert!(passes(&guard, "192.0.2.2"));
        assert!(!passes(&guard, "192.0.2.1"));
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_counted_together() {
        let (guard, _) = guard(1);
        assert!(passes(&guard, "2001:db8::1"));
        assert!(!passes(&guard, "2001:db8::2"));
        assert!(passes(&guard, "2001:db8:0:1::1"));
    }

    #[test]
    fn a_clock_put_back_neither_frees_nor_locks() {
        let (guard, hands) = guard(1);
        assert!(passes(&guard, "192.0.2.1"));
        hands.step_back(TimeDelta::hours(5));
        assert!(!passes(&guard, "192.0.2.1"));
        hands.advance(TimeDelta::seconds(60));
        assert!(passes(&guard, "192.0.2.1"));
    }

    #[test]
    fn memory_is_bounded_whoever_asks() {
        let (guard, _) = guard(1);
        for n in 0..200_000u32 {
            let address = IpAddr::from(n.to_be_bytes());
            assert!(guard.sign_in(Some(address)).1.is_ok());
        }
        let kept = guard.sign_in.as_ref().map(|limit| limit.buckets.len());
        assert!(kept.is_some_and(|kept| kept <= MOST), "{kept:?}");
    }
}
