//! Where one entry of a file ends: the framing of lines and of the elements of a JSON array.

use serde::{Deserialize, Serialize};

use super::fault;
use crate::error::FieldError;

/// Most bytes of one entry.
pub(super) const MOST_ENTRY: usize = 1024 * 1024;

/// What the beginning of a buffer holds.
#[derive(Debug, PartialEq)]
pub(super) enum Frame<T> {
    /// The rest of an entry is yet to be read.
    More,
    /// Nothing more.
    End,
    /// An entry, and how many bytes it takes with what ends it.
    Entry { length: usize, entry: T },
    /// What is no entry, and how many bytes to pass over.
    Fault { length: usize, fault: FieldError },
    /// The file cannot be read on from here.
    Broken(FieldError),
}

/// The bytes of the first line with its end; all when there is no end.
pub(super) fn line_length(buffer: &[u8]) -> usize {
    let end = buffer.iter().position(|byte| *byte == b'\n');
    end.map_or(buffer.len(), |end| end + 1)
}

/// The line without its end.
pub(super) fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The first line.
pub(super) fn line(buffer: &[u8], eof: bool) -> Frame<&[u8]> {
    if buffer.is_empty() {
        return if eof { Frame::End } else { Frame::More };
    }
    let length = line_length(buffer);
    if length > MOST_ENTRY {
        return too_long(length);
    }
    if !eof && buffer[length - 1] != b'\n' {
        return Frame::More;
    }
    Frame::Entry {
        length,
        entry: without_end(&buffer[..length]),
    }
}

pub(super) fn too_long<T>(length: usize) -> Frame<T> {
    Frame::Fault {
        length,
        fault: fault("entry_too_long", "an entry may have at most 1 MiB"),
    }
}

/// Where the reader of a JSON array stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Place {
    /// Before the opening bracket.
    #[default]
    Start,
    /// Behind the opening bracket.
    First,
    /// Behind an element.
    Behind,
    /// Behind the closing bracket.
    Closed,
}

/// The next element of an array of objects. Brackets, commas and white space in front of it are
/// counted to its length; `place` moves on with it.
pub(super) fn element<'b>(buffer: &'b [u8], eof: bool, place: &mut Place) -> Frame<&'b [u8]> {
    let mut now = *place;
    let mut at = 0;
    loop {
        let Some(byte) = buffer.get(at).copied() else {
            return match (eof, now) {
                (false, _) => Frame::More,
                (true, Place::Closed) => Frame::End,
                (true, _) => broken("the file ends inside the array"),
            };
        };
        match (now, byte) {
            (_, b' ' | b'\t' | b'\r' | b'\n') => {}
            (Place::Start, b'[') => now = Place::First,
            (Place::First | Place::Behind, b']') => now = Place::Closed,
            (Place::First, b'{') => break,
            (Place::Behind, b',') => {
                // Only an element may follow, which begins where white space ends.
                let rest = &buffer[at + 1..];
                let next = rest.iter().position(|byte| !byte.is_ascii_whitespace());
                match next.map(|next| (next, rest[next])) {
                    Some((next, b'{')) => {
                        at += 1 + next;
                        break;
                    }
                    Some(_) => return broken("an object must follow the comma"),
                    None if eof => return broken("the file ends inside the array"),
                    None => return Frame::More,
                }
            }
            (Place::Start, _) => return broken("the file must be a JSON array of objects"),
            (Place::First, _) => return broken("the array must hold objects"),
            (Place::Behind, _) => return broken("a comma or the end of the array must follow"),
            (Place::Closed, _) => return broken("nothing may follow the array"),
        }
        at += 1;
    }
    match object_length(&buffer[at..]) {
        Some(length) => {
            *place = Place::Behind;
            Frame::Entry {
                length: at + length,
                entry: &buffer[at..at + length],
            }
        }
        None if buffer.len() > MOST_ENTRY => {
            Frame::Broken(fault("entry_too_long", "an entry may have at most 1 MiB"))
        }
        None if eof => broken("the file ends inside an object"),
        None => Frame::More,
    }
}

fn broken<T>(message: &str) -> Frame<T> {
    Frame::Broken(fault("malformed_json", message))
}

/// Up to the brace that closes the first one, counting no brace inside a text.
fn object_length(buffer: &[u8]) -> Option<usize> {
    let (mut depth, mut text, mut escaped) = (0_usize, false, false);
    for (at, byte) in buffer.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if text => escaped = true,
            b'"' => text = !text,
            _ if text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}
