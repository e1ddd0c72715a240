//! CSV after RFC 4180, strictly: a quote stands at both ends of a cell or is doubled inside one.
//!
//! Where that is not so, the line is refused and reading goes on with the next line, so that a
//! forgotten quote costs one record and not the rest of the file.

use super::fault;
use super::frame::{Frame, MOST_ENTRY, line_length, too_long};

/// Most columns of a record.
const MOST_CELLS: usize = 1_000;

/// The first record, as its cells. A line without anything is a record without cells.
pub(super) fn record(buffer: &[u8], eof: bool, delimiter: u8) -> Frame<Vec<String>> {
    if buffer.is_empty() {
        return if eof { Frame::End } else { Frame::More };
    }
    match cells(buffer, eof, delimiter) {
        Read::Record(length, cells) => Frame::Entry {
            length,
            entry: cells,
        },
        Read::More if buffer.len() <= MOST_ENTRY => Frame::More,
        // A line is passed over whole, and its end is yet to be read.
        Read::Quote | Read::Encoding | Read::Wide
            if !eof && buffer.len() <= MOST_ENTRY && !buffer.contains(&b'\n') =>
        {
            Frame::More
        }
        // No quote closes what this line opened, as far as one may look.
        Read::More if buffer.first() != Some(&b'"') && !buffer.contains(&b'"') => {
            too_long(line_length(buffer))
        }
        Read::More | Read::Quote => Frame::Fault {
            length: line_length(buffer),
            fault: fault(
                "broken_quote",
                "a quote is not closed, or stands inside a cell without being doubled",
            ),
        },
        Read::Encoding => Frame::Fault {
            length: line_length(buffer),
            fault: fault("not_utf8", "the line is not UTF-8; save the file as UTF-8"),
        },
        Read::Wide => Frame::Fault {
            length: line_length(buffer),
            fault: fault("too_many_cells", "a record has at most 1,000 cells"),
        },
    }
}

enum Read {
    Record(usize, Vec<String>),
    More,
    Quote,
    Encoding,
    Wide,
}

fn cells(buffer: &[u8], eof: bool, delimiter: u8) -> Read {
    let mut cells = Vec::new();
    let mut at = 0;
    loop {
        if cells.len() == MOST_CELLS {
            return Read::Wide;
        }
        let (bytes, end) = match buffer.get(at) {
            None if !eof => return Read::More,
            Some(b'"') => match quoted(buffer, at + 1, eof) {
                Ok(found) => found,
                Err(read) => return read,
            },
            _ => match bare(buffer, at, eof, delimiter) {
                Ok(found) => found,
                Err(read) => return read,
            },
        };
        let Ok(text) = String::from_utf8(bytes) else {
            return Read::Encoding;
        };
        cells.push(text);
        let rest = &buffer[end..];
        match rest.first() {
            None if eof => return finished(end, cells),
            None => return Read::More,
            Some(byte) if *byte == delimiter => at = end + 1,
            Some(b'\n') => return finished(end + 1, cells),
            Some(b'\r') => match rest.get(1) {
                Some(b'\n') => return finished(end + 2, cells),
                None if eof => return finished(end + 1, cells),
                None => return Read::More,
                Some(_) => return Read::Quote,
            },
            Some(_) => return Read::Quote,
        }
    }
}

fn finished(length: usize, mut cells: Vec<String>) -> Read {
    if cells.len() == 1 && cells[0].trim().is_empty() {
        cells.clear();
    }
    Read::Record(length, cells)
}

/// A cell behind its opening quote, and where its closing one ends.
fn quoted(buffer: &[u8], from: usize, eof: bool) -> Result<(Vec<u8>, usize), Read> {
    let (mut text, mut at) = (Vec::new(), from);
    loop {
        let Some(found) = buffer[at..].iter().position(|byte| *byte == b'"') else {
            return Err(if eof { Read::Quote } else { Read::More });
        };
        text.extend_from_slice(&buffer[at..at + found]);
        at += found + 1;
        match buffer.get(at) {
            Some(b'"') => {
                text.push(b'"');
                at += 1;
            }
            None if !eof => return Err(Read::More),
            _ => return Ok((text, at)),
        }
    }
}

/// A cell without quotes, and where it ends.
fn bare(buffer: &[u8], from: usize, eof: bool, delimiter: u8) -> Result<(Vec<u8>, usize), Read> {
    let rest = &buffer[from..];
    let stop = rest
        .iter()
        .position(|byte| *byte == delimiter || matches!(byte, b'\n' | b'"'));
    let end = match stop {
        Some(at) if rest[at] == b'"' => return Err(Read::Quote),
        Some(at) => at,
        None if eof => rest.len(),
        None => return Err(Read::More),
    };
    let mut cell = &rest[..end];
    let ends_line = rest.get(end).is_none_or(|byte| *byte == b'\n');
    if ends_line && cell.last() == Some(&b'\r') {
        cell = &cell[..end - 1];
    }
    Ok((cell.to_vec(), from + cell.len()))
}

/// What separates the cells of a header: what it has most of, commas when it has none.
pub(super) fn delimiter(header: &[u8]) -> u8 {
    let line = &header[..line_length(header)];
    let count = |wanted: u8| line.iter().filter(|byte| **byte == wanted).count();
    let mut best = b',';
    for candidate in [b';', b'\t'] {
        if count(candidate) > count(best) {
            best = candidate;
        }
    }
    best
}

/// Appends a cell, quoted where it must be.
pub(super) fn write(out: &mut String, text: &str) {
    if !text.contains([',', '"', '\n', '\r']) {
        out.push_str(text);
        return;
    }
    out.push('"');
    out.push_str(&text.replace('"', "\"\""));
    out.push('"');
}
