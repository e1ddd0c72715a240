//! Lines on standard output and standard error. An output that is full is an error like any other, never
//! a panic; one that its reader has closed, such as `head`, ends the command in silence.

use std::io::{self, Write as _};

/// What a command fails by.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Prints a line; use it in functions that answer an `Outcome`.
macro_rules! say {
    ($($words:tt)*) => {
        crate::stdout::line(format_args!($($words)*))?
    };
}

/// Prints a line on standard error, where somebody reads it.
macro_rules! note {
    ($($words:tt)*) => {
        crate::stdout::aside(format_args!($($words)*))
    };
}

pub(crate) use {note, say};

/// Another's words on one line, with their control characters escaped: no terminal obeys them.
pub(crate) fn plain(words: &str) -> String {
    let mut plain = String::with_capacity(words.len());
    for character in words.chars() {
        match character.is_control() {
            true => plain.extend(character.escape_default()),
            false => plain.push(character),
        }
    }
    plain
}

pub(crate) fn line(words: std::fmt::Arguments<'_>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{words}").and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => error.into(),
        _ => format!("standard output cannot be written: {error}").into(),
    })
}

pub(crate) fn aside(words: std::fmt::Arguments<'_>) {
    // Where nobody reads it, there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "{words}");
}

#[cfg(test)]
#[test]
fn what_others_say_stays_on_its_line_and_rules_no_terminal() {
    let told = plain("a\u{1b}[2Jb\r\nc\u{9b}d é");
    assert_eq!(told, r"a\u{1b}[2Jb\r\nc\u{9b}d é");
}

/// Whether a command ended because nobody reads its output any more.
pub(crate) fn is_closed(failure: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    let error = failure.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
