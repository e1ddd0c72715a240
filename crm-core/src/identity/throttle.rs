//! Limits how often sign-in is tried, per address and e-mail, in this process.
//!
//! A sliding window: of the last 60 seconds at most so many attempts, right or wrong, are let
//! through; one that is refused does not lengthen the wait. Memory is bounded by forgetting the
//! keys used least.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use moka::sync::Cache;

use crate::clock::Clock;
use crate::error::{Error, RateLimit, Result, seconds};

const WINDOW_SECONDS: u32 = 60;
const WINDOW: TimeDelta = TimeDelta::seconds(WINDOW_SECONDS as i64);
/// Keys remembered; a key takes some 500 bytes.
const MOST_KEYS: u64 = 20_000;

type Key = (Option<IpAddr>, String);
type Attempts = Arc<Mutex<VecDeque<DateTime<Utc>>>>;

/// Counts attempts per address and e-mail.
pub(super) struct Throttle {
    limit: u32,
    attempts: Cache<Key, Attempts>,
    clock: Clock,
}

impl Throttle {
    /// At most `limit` attempts a minute; 0 switches the limit off.
    pub(super) fn new(limit: u32, clock: Clock) -> Self {
        Self {
            limit,
            attempts: Cache::new(MOST_KEYS),
            clock,
        }
    }

    /// Counts an attempt.
    ///
    /// # Errors
    /// [`Error::TooMany`] when the limit is reached, with the time until the next one is let through.
    pub(super) fn attempt(&self, address: Option<IpAddr>, email: &str) -> Result<()> {
        if self.limit == 0 {
            return Ok(());
        }
        let key = (address.map(network), email.to_owned());
        let attempts = self.attempts.get_with(key, Attempts::default);
        let mut attempts = attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        while attempts.front().is_some_and(|first| *first + WINDOW <= now) {
            attempts.pop_front();
        }
        let full = u32::try_from(attempts.len()).is_ok_and(|made| made >= self.limit);
        match (attempts.front(), attempts.back()) {
            (Some(first), Some(last)) if full => {
                Err(self.refusal(until(*first, now), until(*last, now)))
            }
            _ => {
                attempts.push_back(now);
                Ok(())
            }
        }
    }

    /// The refusal of an attempt, when the next is let through and all of them are.
    fn refusal(&self, retry_after: Duration, reset: Duration) -> Error {
        Error::TooMany {
            retry_after,
            limit: Some(RateLimit {
                name: "login",
                quota: self.limit,
                window: WINDOW_SECONDS,
                remaining: 0,
                reset: seconds(reset),
            }),
        }
    }
}

/// What stands for the client at an address: of IPv6 its network of 64 bits, which one client has to
/// itself.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(whole) => Ipv6Addr::from_bits(whole.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

/// How long an attempt counts yet.
fn until(attempt: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (attempt + WINDOW - now).to_std().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: &str = "ann@example.com";

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let throttle = Throttle::new(2, Clock::fixed(DateTime::UNIX_EPOCH, 1).0);
        let attempt = |address: &str| throttle.attempt(Some(address.parse().unwrap()), ANN);
        assert!(attempt("2001:db8::1").is_ok() && attempt("2001:db8::2:0:0:1").is_ok());
        assert!(attempt("2001:db8::3").is_err());
        assert!(attempt("2001:db8:0:1::1").is_ok());
        assert!(attempt("192.0.2.1").is_ok() && attempt("::ffff:192.0.2.1").is_ok());
        assert!(attempt("192.0.2.1").is_err());
        assert!(attempt("192.0.2.2").is_ok());
    }

    #[test]
    fn xc_15_the_sixth_attempt_within_a_minute_waits_until_the_first_is_a_minute_old() {
        let (clock, fixed) = Clock::fixed(DateTime::UNIX_EPOCH, 1);
        let throttle = Throttle::new(5, clock);
        for _ in 0..5 {
            throttle.attempt(None, ANN).unwrap();
            fixed.advance(TimeDelta::seconds(5));
        }
        for _ in 0..3 {
            let Err(Error::TooMany { retry_after, limit }) = throttle.attempt(None, ANN) else {
                panic!("the sixth attempt was let through");
            };
            assert_eq!(retry_after, Duration::from_secs(35));
            let limit = limit.unwrap();
            assert_eq!((limit.quota, limit.window), (5, 60));
            // The last one was made five seconds ago.
            assert_eq!((limit.remaining, limit.reset), (0, 55));
        }
        fixed.advance(TimeDelta::seconds(35));
        throttle.attempt(None, ANN).unwrap();
        assert!(
            throttle.attempt(None, ANN).is_err(),
            "only one place has become free"
        );
    }

    #[test]
    fn addresses_and_emails_do_not_share_a_window() {
        let throttle = Throttle::new(1, Clock::fixed(DateTime::UNIX_EPOCH, 1).0);
        let address = Some(IpAddr::from([192, 0, 2, 1]));
        throttle.attempt(None, ANN).unwrap();
        throttle.attempt(address, ANN).unwrap();
        throttle.attempt(address, "bob@example.com").unwrap();
        assert!(throttle.attempt(address, ANN).is_err());
    }

    #[test]
    fn xc_15_zero_switches_the_limit_off() {
        let throttle = Throttle::new(0, Clock::fixed(DateTime::UNIX_EPOCH, 1).0);
        for _ in 0..100 {
            throttle.attempt(None, ANN).unwrap();
        }
    }
}
