//! A reader of vCard 3.0 (RFC 2426) and 4.0 (RFC 6350): the properties that contacts have a field
//! for, as a record under the fixed header [`HEADER`]. Other properties are passed over.

use super::fault;
use super::frame::{Frame, MOST_ENTRY, line_length, too_long, without_end};

/// The columns that a card is read into.
pub(super) const HEADER: [&str; 8] = [
    "FN",
    "N",
    "EMAIL",
    "TEL",
    "ORG",
    "TITLE",
    "NOTE",
    "CATEGORIES",
];

/// The first card.
pub(super) fn card(buffer: &[u8], eof: bool) -> Frame<Vec<String>> {
    let mut at = 0;
    let mut begun = false;
    loop {
        let rest = &buffer[at..];
        if rest.is_empty() && eof && !begun {
            return Frame::End;
        }
        if rest.is_empty() && eof {
            return Frame::Fault {
                length: buffer.len(),
                fault: fault("unfinished_card", "the file ends before END:VCARD"),
            };
        }
        let length = line_length(rest);
        if at + length > MOST_ENTRY {
            return too_long(at + length);
        }
        if !eof && rest.get(length.wrapping_sub(1)) != Some(&b'\n') {
            return Frame::More;
        }
        let line = without_end(&rest[..length]).trim_ascii();
        at += length;
        let is = |text: &str| line.eq_ignore_ascii_case(text.as_bytes());
        if is("END:VCARD") && begun {
            return match std::str::from_utf8(&buffer[..at]).map(read) {
                Ok(Ok(cells)) => Frame::Entry {
                    length: at,
                    entry: cells,
                },
                Ok(Err(fault)) => Frame::Fault { length: at, fault },
                Err(_) => Frame::Fault {
                    length: at,
                    fault: fault("not_utf8", "the card is not UTF-8"),
                },
            };
        } else if is("BEGIN:VCARD") && !begun {
            begun = true;
        } else if !begun && !line.is_empty() {
            return Frame::Fault {
                length: at,
                fault: fault("not_a_card", "a card must begin with BEGIN:VCARD"),
            };
        }
    }
}

fn read(text: &str) -> Result<Vec<String>, crate::error::FieldError> {
    // RFC 6350 §3.2: a line break and a white-space character in between are no part of the value.
    let unfolded = text.replace("\r\n", "\n");
    let unfolded = unfolded.replace("\n ", "").replace("\n\t", "");
    let mut cells = vec![String::new(); HEADER.len()];
    let mut version = "";
    for line in unfolded.lines() {
        let Some((name, value)) = property(line) else {
            if line.trim().is_empty() {
                continue;
            }
            return Err(fault(
                "malformed_card",
                "a property must be written NAME:value",
            ));
        };
        if name.eq_ignore_ascii_case("VERSION") {
            version = value.trim();
        }
        let Some(place) = HEADER
            .iter()
            .position(|known| name.eq_ignore_ascii_case(known))
        else {
            continue;
        };
        // The first of several is taken.
        if cells[place].is_empty() {
            cells[place] = match HEADER[place] {
                "N" => person(value),
                "ORG" => unescaped(parts(value, ';').first().copied().unwrap_or_default()),
                "CATEGORIES" => {
                    let tags = parts(value, ',').into_iter().map(unescaped);
                    serde_json::Value::from(tags.collect::<Vec<_>>()).to_string()
                }
                "TEL" => unescaped(value.strip_prefix("tel:").unwrap_or(value)),
                _ => unescaped(value),
            };
        }
    }
    match version {
        "3.0" | "4.0" => Ok(cells),
        _ => Err(fault(
            "unsupported_version",
            "only vCard 3.0 and 4.0 are read; export the contacts in one of these",
        )),
    }
}

/// Name and value of `group.NAME;PARAM="x:y":value`.
fn property(line: &str) -> Option<(&str, &str)> {
    let mut quoted = false;
    let colon = line.char_indices().find(|(_, character)| {
        quoted ^= *character == '"';
        !quoted && *character == ':'
    });
    let (name, value) = (&line[..colon?.0], &line[colon?.0 + 1..]);
    let name = name.split(';').next().unwrap_or_default();
    let name = name.rsplit('.').next().unwrap_or_default();
    Some((name, value))
}

/// The parts of a value, at separators that are not escaped.
fn parts(value: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut from, mut escaped) = (Vec::new(), 0, false);
    for (at, character) in value.char_indices() {
        if character == separator && !escaped {
            parts.push(&value[from..at]);
            from = at + character.len_utf8();
        }
        escaped = character == '\\' && !escaped;
    }
    parts.push(&value[from..]);
    parts
}

/// Family; given; additional; prefixes; suffixes, as one says them.
fn person(value: &str) -> String {
    let parts: Vec<String> = parts(value, ';').into_iter().map(unescaped).collect();
    let spoken = [3, 1, 2, 0, 4].into_iter().filter_map(|at| parts.get(at));
    let words: Vec<&str> = spoken
        .map(|part| part.trim())
        .filter(|part| !part.is_empty())
        .collect();
    words.join(" ")
}

/// RFC 6350 §3.4: `\n`, `\,`, `\;` and `\\`.
fn unescaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n' | 'N') => text.push('\n'),
                Some(other) => text.push(other),
                None => {}
            },
            other => text.push(other),
        }
    }
    text
}
