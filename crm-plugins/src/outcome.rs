//! How a run ended, from what the engine says.

use crm_core::hook::Outcome;
use wasmtime::Trap;

use crate::limits::{Limits, Stop};

/// The longest error sentence a run record keeps, in bytes.
const MAX_SENTENCE: usize = 4 << 10;

/// The outcome and the sentence of a run the engine unwound.
pub(crate) fn of_unwound(error: &wasmtime::Error, limits: &Limits) -> (Outcome, String) {
    match stop(error, limits) {
        Some(stop) => of_stop(stop),
        None => {
            let reason = match error.downcast_ref::<Trap>() {
                Some(trap) => trap.to_string().replace("wasm trap: ", ""),
                None => error.root_cause().to_string(),
            };
            (Outcome::Trapped, format!("the plugin crashed: {reason}"))
        }
    }
}

/// The outcome and the sentence of a run stopped at a limit.
pub(crate) fn of_stop(stop: Stop) -> (Outcome, String) {
    let outcome = match stop {
        Stop::Cancelled => Outcome::Cancelled,
        Stop::Deadline(_) => Outcome::TimedOut,
        Stop::Fuel(_) => Outcome::OutOfFuel,
        Stop::Memory(_) => Outcome::OutOfMemory,
        _ => Outcome::LimitExceeded,
    };
    (outcome, stop.to_string())
}

/// The outcome and the sentence of a run whose guest answered with an error.
pub(crate) fn of_refusal(message: String) -> (Outcome, String) {
    (Outcome::Failed, message)
}

fn stop(error: &wasmtime::Error, limits: &Limits) -> Option<Stop> {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return Some(*stop);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => return Some(Stop::Fuel(limits.fuel)),
        Some(Trap::StackOverflow) => return Some(Stop::Stack(limits.stack_bytes)),
        Some(_) => return None,
        None => {}
    }
    // The engine keeps this error's type private; a test holds its text.
    let too_much = error
        .root_cause()
        .to_string()
        .contains("fuel allocated for hostcalls");
    too_much.then_some(Stop::CallBytes(limits.call_bytes))
}

/// The sentence as a run record keeps it. Secrets are hidden before: a part of one would not be
/// found.
pub(crate) fn cut(mut text: String) -> String {
    if text.len() > MAX_SENTENCE {
        text.truncate(text.floor_char_boundary(MAX_SENTENCE));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_sentence_is_cut_between_characters() {
        let (outcome, sentence) = of_refusal("é".repeat(MAX_SENTENCE));
        assert_eq!(outcome, Outcome::Failed);
        assert_eq!(cut(sentence), format!("{}…", "é".repeat(MAX_SENTENCE / 2)));
    }
}
