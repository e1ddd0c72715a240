//! Reads the entries of a job's file one by one, holding no more than one entry and one stored
//! piece, from any place where an entry begins.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::frame::{self, Frame, Place};
use super::options::Format;
use super::{csv, fault, vcard};
use crate::crm::Core;
use crate::error::{Error, FieldError, Result};
use crate::job::{Lease, chunk_at};
use crate::json;

/// A place in a file where an entry begins.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Bytes before it.
    pub(super) offset: u64,
    /// Lines before it.
    pub(super) lines: u64,
    /// Where it is in a JSON array.
    #[serde(default)]
    place: Place,
    /// Whether it is inside a line too long to be an entry.
    #[serde(default)]
    skipping: bool,
}

/// An entry of a file, as read.
pub(super) enum Entry {
    /// Cells under a header.
    Cells(Vec<String>),
    /// A JSON object.
    Object(Map<String, Json>),
}

/// An entry or why it is none, and the line it begins on.
pub(super) struct Item {
    pub(super) line: u64,
    pub(super) entry: Result<Entry, FieldError>,
}

pub(super) struct Source {
    core: Arc<Core>,
    lease: Lease,
    format: Format,
    delimiter: u8,
    mark: Mark,
    /// Where the piece that was read last begins.
    piece: u64,
    buffer: Vec<u8>,
    /// Bytes of the buffer that have been passed on.
    used: usize,
    eof: bool,
}

impl Source {
    pub(super) fn new(core: Arc<Core>, lease: Lease, format: Format, mark: Mark) -> Self {
        Self {
            core,
            lease,
            format,
            delimiter: b',',
            piece: mark.offset,
            mark,
            buffer: Vec::new(),
            used: 0,
            eof: false,
        }
    }

    /// Where the next entry begins.
    pub(super) fn mark(&self) -> &Mark {
        &self.mark
    }

    /// Up to where stored pieces are of no more use once `mark` is kept.
    pub(super) fn kept_from(&self, mark: &Mark) -> u64 {
        if mark.offset >= self.piece {
            self.piece
        } else {
            0
        }
    }

    pub(super) fn delimited_by(&mut self, delimiter: u8) {
        self.delimiter = delimiter;
    }

    /// Reads the header of a CSV file at its beginning: what separates cells, and their names.
    pub(super) async fn header(&mut self) -> Result<(u8, Vec<String>)> {
        const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
        self.fill().await?;
        if self.buffer.starts_with(BYTE_ORDER_MARK) {
            self.pass(BYTE_ORDER_MARK.len());
        }
        self.delimiter = csv::delimiter(&self.buffer[self.used..]);
        loop {
            match self.next().await? {
                None => {
                    let message = "the file has no header";
                    return Err(Error::invalid("", "no_header", message));
                }
                Some(Item { entry, .. }) => match entry {
                    Ok(Entry::Cells(cells)) if cells.is_empty() => {}
                    Ok(Entry::Cells(cells)) => return Ok((self.delimiter, cells)),
                    Ok(Entry::Object(_)) => {
                        return Err(Error::internal("an object among cells"));
                    }
                    Err(fault) => return Err(Error::Invalid(vec![fault])),
                },
            }
        }
    }

    /// The next entry; none at the end of the file.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the file cannot be read on, and those of the database.
    pub(super) async fn next(&mut self) -> Result<Option<Item>> {
        loop {
            if self.mark.skipping && !self.skip() {
                if self.eof {
                    return Ok(None);
                }
                self.fill().await?;
                continue;
            }
            let buffer = &self.buffer[self.used..];
            let frame = match self.format {
                Format::Csv => csv::record(buffer, self.eof, self.delimiter).map(Entry::Cells),
                Format::Vcard => vcard::card(buffer, self.eof).map(Entry::Cells),
                Format::Ndjson => match frame::line(buffer, self.eof) {
                    Frame::Entry { length, entry } if entry.trim_ascii().is_empty() => {
                        self.pass(length);
                        continue;
                    }
                    frame => frame.and_then(object),
                },
                Format::Json => {
                    frame::element(buffer, self.eof, &mut self.mark.place).and_then(object)
                }
            };
            let (length, entry) = match frame {
                Frame::More => {
                    self.fill().await?;
                    continue;
                }
                Frame::End => return Ok(None),
                Frame::Entry { length, entry } => (length, Ok(entry)),
                Frame::Fault { length, fault } => (length, Err(fault)),
                Frame::Broken(fault) => {
                    let line = self.mark.lines + 1;
                    let message = format!("at line {line} or after: {}", fault.message);
                    return Err(Error::Invalid(vec![FieldError { message, ..fault }]));
                }
            };
            let line = self.mark.lines + 1 + self.blank_lines(length);
            let whole = self.buffer.get(self.used + length - 1) == Some(&b'\n');
            // A line longer than what may be held ends somewhere behind the buffer.
            let by_line = matches!(self.format, Format::Csv | Format::Ndjson);
            self.mark.skipping = by_line && entry.is_err() && !whole && !self.eof;
            self.pass(length);
            return Ok(Some(Item { line, entry }));
        }
    }

    /// Line ends in front of an entry that belong to no other: between elements of an array.
    fn blank_lines(&self, length: usize) -> u64 {
        let entry = &self.buffer[self.used..self.used + length];
        let lead = match self.format {
            Format::Json => entry.iter().position(|byte| *byte == b'{'),
            Format::Vcard => entry.iter().position(|byte| !byte.is_ascii_whitespace()),
            Format::Csv | Format::Ndjson => None,
        };
        line_ends(&entry[..lead.unwrap_or(0)])
    }

    /// Passes over the rest of a line; false when its end is not in the buffer.
    fn skip(&mut self) -> bool {
        let rest = &self.buffer[self.used..];
        let length = frame::line_length(rest);
        let ended = rest.get(length.wrapping_sub(1)) == Some(&b'\n');
        self.pass(length);
        self.mark.skipping = !ended;
        ended
    }

    fn pass(&mut self, length: usize) {
        let passed = &self.buffer[self.used..self.used + length];
        self.mark.lines += line_ends(passed);
        self.mark.offset += length as u64;
        self.used += length;
    }

    /// Reads the next stored piece behind what is held.
    async fn fill(&mut self) -> Result<()> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let next = self.mark.offset + self.buffer.len() as u64;
        match chunk_at(&self.core, self.lease, next).await? {
            Some(chunk) => {
                self.piece = chunk.position;
                let from = usize::try_from(next - chunk.position).unwrap_or(0);
                self.buffer.extend_from_slice(&chunk.bytes[from..]);
            }
            None => self.eof = true,
        }
        Ok(())
    }
}

impl<T> Frame<T> {
    fn map<U>(self, make: impl FnOnce(T) -> U) -> Frame<U> {
        self.and_then(|entry| Ok(make(entry)))
    }

    fn and_then<U>(self, make: impl FnOnce(T) -> Result<U, FieldError>) -> Frame<U> {
        match self {
            Self::More => Frame::More,
            Self::End => Frame::End,
            Self::Entry { length, entry } => match make(entry) {
                Ok(entry) => Frame::Entry { length, entry },
                Err(fault) => Frame::Fault { length, fault },
            },
            Self::Fault { length, fault } => Frame::Fault { length, fault },
            Self::Broken(fault) => Frame::Broken(fault),
        }
    }
}

fn line_ends(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// A JSON object that names no member twice at its top.
fn object(text: &[u8]) -> Result<Entry, FieldError> {
    json::object(text).map(Entry::Object).map_err(|error| {
        let message = format!("the entry is not a JSON object: {error}");
        fault("malformed_json", message)
    })
}
