//! Lines on standard output. One that is closed or full is an error like any other, never a panic.

use std::io::{self, Write as _};

/// Prints a line; use it in functions that answer an `Outcome`.
macro_rules! say {
    ($($words:tt)*) => {
        crate::stdout::line(format_args!($($words)*))?
    };
}

pub(crate) use say;

pub(crate) fn line(words: std::fmt::Arguments<'_>) -> Result<(), String> {
    let mut out = io::stdout().lock();
    writeln!(out, "{words}")
        .and_then(|()| out.flush())
        .map_err(|error| format!("standard output cannot be written: {error}"))
}
