//! Limits how often sign-in is tried, per address and e-mail, in this process.
//!
//! A sliding window: of the last 60 seconds at most so many attempts, right or wrong, are let
//! through; one that is refused does not lengthen the wait. Memory is bounded by forgetting the keys
//! used least.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use moka::sync::Cache;

use crate::clock::Clock;
use crate::error::{Error, Result};

const WINDOW: TimeDelta = TimeDelta::seconds(60);
/// Keys remembered; a key takes some 500 bytes.
const MOST_KEYS: u64 = 20_000;

type Key = (Option<IpAddr>, String);
type Attempts = Arc<Mutex<VecDeque<DateTime<Utc>>>>;

/// Counts attempts per address and e-mail.
pub(super) struct Throttle {
    limit: usize,
    attempts: Cache<Key, Attempts>,
    clock: Clock,
}

impl Throttle {
    /// At most `limit` attempts a minute; 0 switches the limit off.
    pub(super) fn new(limit: u32, clock: Clock) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
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
        let attempts = self
            .attempts
            .get_with((address, email.to_owned()), Attempts::default);
        let mut attempts = attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        while attempts.front().is_some_and(|first| *first + WINDOW <= now) {
            attempts.pop_front();
        }
        if let Some(first) = attempts.front().filter(|_| attempts.len() >= self.limit) {
            let retry_after = (*first + WINDOW - now).to_std().unwrap_or_default();
            return Err(Error::TooMany { retry_after });
        }
        attempts.push_back(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ANN: &str = "ann@example.com";

    #[test]
    fn xc_15_the_sixth_attempt_within_a_minute_waits_until_the_first_is_a_minute_old() {
        let (clock, fixed) = Clock::fixed(DateTime::UNIX_EPOCH, 1);
        let throttle = Throttle::new(5, clock);
        for _ in 0..5 {
            throttle.attempt(None, ANN).unwrap();
            fixed.advance(TimeDelta::seconds(5));
        }
        for _ in 0..3 {
            let Err(Error::TooMany { retry_after }) = throttle.attempt(None, ANN) else {
                panic!("the sixth attempt was let through");
            };
            assert_eq!(retry_after, Duration::from_secs(35));
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
