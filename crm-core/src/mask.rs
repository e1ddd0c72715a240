//! Hides secrets in what is kept and told of plugins' runs: as they are, and as they are commonly
//! written: in Base64 of both alphabets wherever it begins, in hexadecimal, percent-encoded, and
//! escaped in JSON. What a plugin hides in a way of its own, it could also tell outright to whom it
//! sends.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem::Finder;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value as Json;

use crate::hook::{Output, Verdict};

/// Secrets to hide, each under its name.
#[derive(Default, Clone)]
pub struct Mask(Vec<Hidden>);

/// One secret in the forms that are looked for.
#[derive(Clone)]
struct Hidden {
    name: String,
    plain: Vec<u8>,
    /// In lower case.
    hex: Vec<u8>,
    base64: Vec<Vec<u8>>,
}

/// A text as it reads once decoded, with the place in the text where each byte begins.
struct View {
    bytes: Vec<u8>,
    places: Vec<usize>,
}

impl Mask {
    /// Hides this secret from now on, under the first name that it is learned by.
    pub fn learn(&mut self, name: &str, secret: &SecretString) {
        let plain = secret.expose_secret().as_bytes();
        let known = |hidden: &Hidden| hidden.plain == plain;
        if plain.is_empty() || self.0.iter().any(known) {
            return;
        }
        self.0.push(Hidden {
            name: name.to_owned(),
            hex: hex::encode(plain).into_bytes(),
            base64: base64(plain),
            plain: plain.to_vec(),
        });
    }

    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a plugin answers, with names in place of secrets.
    pub fn hide_output(&self, output: &mut Output) {
        match output {
            Output::Verdict(Verdict::Reject { code, message, .. }) => {
                self.hide(code);
                self.hide(message);
            }
            Output::Action(Some(text)) => self.hide(text),
            _ => {}
        }
    }

    /// The text with names in place of secrets.
    pub fn hide(&self, text: &mut String) {
        if let Some(hidden) = self.hidden(text.as_bytes()) {
            // What is cut out begins and ends between characters.
            *text = String::from_utf8_lossy(&hidden).into_owned();
        }
    }

    /// The bytes with names in place of secrets.
    pub fn hide_bytes(&self, bytes: &mut Vec<u8>) {
        if let Some(hidden) = self.hidden(bytes) {
            *bytes = hidden;
        }
    }

    /// Every text of the JSON with names in place of secrets.
    pub(crate) fn hide_texts(&self, json: &mut Json) {
        match json {
            Json::String(text) => self.hide(text),
            Json::Array(items) => items.iter_mut().for_each(|item| self.hide_texts(item)),
            Json::Object(members) => {
                let members = members.values_mut();
                members.for_each(|member| self.hide_texts(member));
            }
            _ => {}
        }
    }

    /// `None` where there is nothing to hide.
    fn hidden(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut found = self.find(bytes);
        found.sort_unstable();
        let (mut hidden, mut behind) = (Vec::new(), 0);
        for (from, to, name) in &found {
            if *from >= behind {
                hidden.extend_from_slice(&bytes[behind..*from]);
                hidden.extend_from_slice(format!("[secret:{name}]").as_bytes());
            }
            behind = behind.max(*to);
        }
        hidden.extend_from_slice(&bytes[behind..]);
        (!found.is_empty()).then_some(hidden)
    }

    /// Where secrets stand: from, to, and whose; one place where a secret overlaps itself.
    fn find(&self, bytes: &[u8]) -> Vec<(usize, usize, &str)> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let lower = bytes.to_ascii_lowercase();
        let views: Vec<View> = [percent(bytes, false), percent(bytes, true), json(bytes)]
            .into_iter()
            .flatten()
            .collect();
        let mut found = Vec::new();
        for hidden in &self.0 {
            let name = hidden.name.as_str();
            let straight = [(bytes, &hidden.plain), (lower.as_slice(), &hidden.hex)];
            for (text, needle) in straight {
                let places = all(text, needle).map(|at| (at, at + needle.len()));
                found.extend(merged(name, places));
            }
            for view in &views {
                let end = |at: usize| view.places.get(at).copied().unwrap_or(bytes.len());
                let places = all(&view.bytes, &hidden.plain);
                let places = places.map(|at| (end(at), end(at + hidden.plain.len())));
                found.extend(merged(name, places));
            }
            for needle in &hidden.base64 {
                // The characters around it are partly of the secret, too.
                let is_digit = |at: usize| {
                    let byte = bytes.get(at);
                    byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte))
                };
                let places = all(bytes, needle).map(|at| {
                    let to = at + needle.len();
                    let before = usize::from(at > 0 && is_digit(at - 1));
                    (at - before, to + usize::from(is_digit(to)))
                });
                found.extend(merged(name, places));
            }
        }
        found
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|hidden| &hidden.name);
        f.debug_set().entries(names).finish()
    }
}

/// Everywhere that the needle stands, also where it overlaps itself.
fn all<'t>(text: &'t [u8], needle: &'t [u8]) -> impl Iterator<Item = usize> + 't {
    let finder = Finder::new(needle);
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = from + finder.find(text.get(from..)?)?;
        from = at + 1;
        Some(at)
    })
}

/// The places of one form of a secret, in their order, as one where they overlap.
fn merged(name: &str, places: impl Iterator<Item = (usize, usize)>) -> Vec<(usize, usize, &str)> {
    let mut merged = Vec::<(usize, usize, &str)>::new();
    for (from, to) in places {
        match merged.last_mut() {
            Some(last) if from < last.1 => last.1 = to,
            _ => merged.push((from, to, name)),
        }
    }
    merged
}

/// What of its Base64 is the secret's alone, wherever it begins in what is encoded (RFC 4648 §4,
/// §5).
fn base64(plain: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for before in 0..3_usize {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(plain);
        let from = (before * 8).div_ceil(6);
        let to = bytes.len() * 8 / 6;
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let text = engine.encode(&bytes).into_bytes();
            let own = text.get(from..to).unwrap_or_default().to_vec();
            // Fewer digits than these stand in many a text.
            if own.len() >= 6 && !forms.contains(&own) {
                forms.push(own);
            }
        }
    }
    forms
}

/// The text with `%xx` decoded (RFC 3986 §2.1), in a `form` with `+` as a space; none without any.
fn percent(bytes: &[u8], form: bool) -> Option<View> {
    let encoded = |byte: &u8| *byte == b'%' || form && *byte == b'+';
    bytes.iter().any(encoded).then(|| {
        decoded(bytes, |rest| match rest {
            [b'+', ..] if form => Some((b" ".to_vec(), 1)),
            [b'%', high, low, ..] => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let value = digit(*high)? * 16 + digit(*low)?;
                Some((vec![u8::try_from(value).ok()?], 3))
            }
            _ => None,
        })
    })
}

/// The text with the escapes of JSON decoded (RFC 8259 §7); none without any.
fn json(bytes: &[u8]) -> Option<View> {
    bytes.contains(&b'\\').then(|| {
        decoded(bytes, |rest| {
            let [b'\\', kind, ..] = rest else {
                return None;
            };
            let plain = match kind {
                b'"' | b'\\' | b'/' => *kind,
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'u' => return unicode(rest),
                _ => return None,
            };
            Some((vec![plain], 2))
        })
    })
}

/// What `\uxxxx`, or two of them, stand for.
fn unicode(rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    let unit = |at: usize| {
        let text = std::str::from_utf8(rest.get(at..at + 6)?).ok()?;
        u16::from_str_radix(text.strip_prefix("\\u")?, 16).ok()
    };
    let first = unit(0)?;
    let pair = unit(6).filter(|_| (0xd800..0xdc00).contains(&first));
    let units = [first, pair.unwrap_or(0)];
    let taken = 1 + usize::from(pair.is_some());
    let character = char::decode_utf16(units.into_iter().take(taken))
        .next()?
        .ok()?;
    Some((character.to_string().into_bytes(), 6 * taken))
}

/// The text with what `decode` makes of each place: bytes, and how many they stand for.
fn decoded(bytes: &[u8], decode: impl Fn(&[u8]) -> Option<(Vec<u8>, usize)>) -> View {
    let mut view = View {
        bytes: Vec::with_capacity(bytes.len()),
        places: Vec::with_capacity(bytes.len()),
    };
    let mut at = 0;
    while at < bytes.len() {
        let (made, taken) = decode(&bytes[at..]).unwrap_or_else(|| (vec![bytes[at]], 1));
        view.places.extend(made.iter().map(|_| at));
        view.bytes.extend(made);
        at += taken;
    }
    view
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "pä\"ss/w+rd\n?~1";

    fn hidden(text: &str) -> String {
        let mut mask = Mask::default();
        mask.learn("key", &SECRET.to_owned().into());
        let mut text = text.to_owned();
        mask.hide(&mut text);
        text
    }

    #[test]
    fn a_secret_is_hidden_in_every_common_form() {
        let hex = hex::encode(SECRET);
        let every: String = SECRET.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let some = "p%c3%a4%22ss%2Fw%2brd%0a%3F~1";
        let escaped = r#"p\u00e4\"ss\/w+rd\n?~1"#;
        let plain = serde_json::to_string(SECRET).unwrap();
        let plain = plain.trim_matches('"');
        for form in [
            SECRET,
            &hex,
            &hex.to_uppercase(),
            &every,
            some,
            escaped,
            plain,
        ] {
            assert_eq!(hidden(&format!("a {form} b")), "a [secret:key] b", "{form}");
        }
        assert_eq!(
            hidden(&format!("{SECRET}{SECRET}")),
            "[secret:key][secret:key]"
        );
    }

    #[test]
    fn a_secret_is_hidden_in_base64_wherever_it_begins() {
        for before in ["", "u", "us", "use", "user"] {
            for behind in ["", ":", "::"] {
                for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
                    let text = engine.encode(format!("{before}{SECRET}{behind}"));
                    let shown = hidden(&text);
                    assert!(shown.contains("[secret:key]"), "{before}: {shown}");
                    assert!(shown.len() < "[secret:key]".len() + 9, "{before}: {shown}");
                }
            }
        }
    }

    #[test]
    fn a_secret_that_overlaps_itself_is_hidden_whole_and_noted_once() {
        let mut mask = Mask::default();
        for name in ["key", "other"] {
            mask.learn(name, &"abababab".to_owned().into());
        }
        let text = "ab".repeat(100_000);
        assert_eq!(mask.find(text.as_bytes()).len(), 1);
        let mut text = format!("<{text}a>");
        mask.hide(&mut text);
        assert_eq!(text, "<[secret:key]a>");
    }

    #[test]
    fn what_holds_no_secret_stays_as_it_is() {
        for text in ["", "%", "%zz+\\u12", "\\ud800\\u0041", "100% + \\n", "päss"] {
            assert_eq!(hidden(text), text);
        }
        let mut bytes = b"\xff%\xff\\".to_vec();
        let before = bytes.clone();
        let mut mask = Mask::default();
        mask.learn("key", &SECRET.to_owned().into());
        mask.hide_bytes(&mut bytes);
        assert_eq!(bytes, before);
        assert_eq!(format!("{mask:?}"), "{\"key\"}");
    }
}
