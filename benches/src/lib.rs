//! What the micro benches share: a database with contacts, the same work in bare sqlx, and a
//! comparison that a noisy machine cannot bend.
//!
//! The load program is `src/bin/load`.

mod bare;
mod fixture;

use std::time::Instant;

pub use bare::{Bare, Contact};
pub use fixture::{Fixture, contact, library, request};

/// How fast `subject` is, as a multiple of `reference`: 2 is twice as fast, 0.5 half as fast.
///
/// Both run in turns, `repeats` times each per round, so that whatever else the machine does slows
/// both; the answer is the median of the rounds.
pub async fn speed_ratio(
    rounds: usize,
    repeats: usize,
    mut subject: impl AsyncFnMut(),
    mut reference: impl AsyncFnMut(),
) -> f64 {
    let mut ratios = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let started = Instant::now();
        for _ in 0..repeats {
            reference().await;
        }
        let between = Instant::now();
        for _ in 0..repeats {
            subject().await;
        }
        let ended = Instant::now();
        ratios.push((between - started).as_secs_f64() / (ended - between).as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    ratios.get(rounds / 2).copied().unwrap_or(f64::NAN)
}
