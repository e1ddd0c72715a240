//! What was asked and answered, without what differs from one play to the next by itself.

use std::collections::HashMap;
use std::fmt::Debug;

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) what: String,
    pub(super) answer: String,
}

/// Everything that was said in a chapter.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    said: Vec<Said>,
    names: HashMap<Uuid, String>,
    made: usize,
    begun: DateTime<Utc>,
}

impl Transcript {
    /// Ids with a name are called so; others are new ones, counted as they appear. Times behind the
    /// beginning are left out.
    pub(super) fn new(names: HashMap<Uuid, String>, begun: DateTime<Utc>) -> Self {
        Self {
            names,
            begun,
            ..Self::default()
        }
    }

    pub(super) fn say(&mut self, what: String, answer: &dyn Debug) {
        let answer = self.plain(&format!("{answer:?}"));
        self.said.push(Said { what, answer });
    }

    pub(super) fn into_said(self) -> Vec<Said> {
        self.said
    }

    /// The text with names for ids, and without times.
    fn plain(&mut self, text: &str) -> String {
        let mut plain = String::with_capacity(text.len());
        let mut rest = text;
        let mut inside = false;
        while let Some(first) = rest.chars().next() {
            let word = first.is_ascii_alphanumeric();
            let known = match word && !inside {
                true => hash(rest)
                    .or_else(|| self.id(rest))
                    .or_else(|| self.time(rest)),
                false => None,
            };
            let length = match known {
                Some((name, length)) => {
                    plain.push_str(&name);
                    length
                }
                None => {
                    plain.push(first);
                    first.len_utf8()
                }
            };
            inside = word;
            rest = &rest[length..];
        }
        plain
    }

    fn id(&mut self, text: &str) -> Option<(String, usize)> {
        let (id, length) = leading_id(text)?;
        if !self.names.contains_key(&id) {
            self.made += 1;
            self.names.insert(id, format!("<new {}>", self.made));
        }
        Some((self.names.get(&id)?.clone(), length))
    }

    fn time(&self, text: &str) -> Option<(String, usize)> {
        let length = text.find('Z')? + 1;
        let time = text.get(..length).filter(|time| time.len() <= 32)?;
        let time: DateTime<Utc> = time.parse().ok()?;
        (time >= self.begun).then(|| ("<time>".to_owned(), length))
    }
}

/// A hash that the text begins with: those of audit chains are of the tenant's id, too.
fn hash(text: &str) -> Option<(String, usize)> {
    const LENGTH: usize = 64;
    let digits = text.bytes().take_while(u8::is_ascii_hexdigit).count();
    (digits == LENGTH).then(|| ("<hash>".to_owned(), LENGTH))
}

/// The UUID that the text begins with, with or without hyphens, and its length.
pub(super) fn leading_id(text: &str) -> Option<(Uuid, usize)> {
    [36, 32].into_iter().find_map(|length| {
        let word = text.get(..length)?;
        let next = text[length..].chars().next();
        if next.is_some_and(|next| next.is_ascii_alphanumeric()) {
            return None;
        }
        Some((Uuid::try_parse(word).ok()?, length))
    })
}

/// All UUIDs in a text.
pub(super) fn ids(text: &str) -> Vec<Uuid> {
    let mut found = Vec::new();
    let mut before = ' ';
    for (at, character) in text.char_indices() {
        if character.is_ascii_hexdigit()
            && !before.is_ascii_alphanumeric()
            && let Some((id, _)) = leading_id(&text[at..])
        {
            found.push(id);
        }
        before = character;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_by_itself_is_left_out() {
        let begun = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let (known, new) = (Uuid::from_u128(7), Uuid::from_u128(8));
        let names = HashMap::from([(known, "<tenant>".to_owned())]);
        let mut transcript = Transcript::new(names, begun);
        let text = format!(
            "{known} {} x{new} 2030-01-01T00:00:00Z 2001-01-01T00:00:00Z",
            new.simple()
        );
        assert_eq!(
            transcript.plain(&text),
            format!("<tenant> <new 1> x{new} <time> 2001-01-01T00:00:00Z")
        );
        assert_eq!(
            ids(&format!("X'{}', '{known}'", new.simple())),
            [new, known]
        );
    }
}
