//! Names that may stand in SQL, URLs and permission codes without quoting or escaping.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A lower-case name: `[a-z][a-z0-9_]*`, 1 to 48 characters.
///
/// The only run-time text that ever reaches an SQL statement, hence the narrow alphabet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ident(Cow<'static, str>);

/// Why a text is not an [`Ident`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name: use a-z, 0-9 and _, start with a letter, at most 48 characters")]
pub struct InvalidIdent(String);

impl Ident {
    /// The longest name: PostgreSQL cuts identifiers at 63 bytes, and indexes add to the name.
    pub const MAX_LEN: usize = 48;

    /// A name written in the program.
    ///
    /// # Panics
    /// When `text` is not a name; in a `const` block that is a compile error.
    pub const fn from_static(text: &'static str) -> Self {
        assert!(
            is_name(text),
            "use a-z, 0-9 and _, start with a letter, at most 48 characters"
        );
        Self(Cow::Borrowed(text))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.is_empty() || bytes.len() > Ident::MAX_LEN || !bytes[0].is_ascii_lowercase() {
        return false;
    }
    let mut at = 1;
    while at < bytes.len() {
        if !matches!(bytes[at], b'a'..=b'z' | b'0'..=b'9' | b'_') {
            return false;
        }
        at += 1;
    }
    true
}

impl TryFrom<String> for Ident {
    type Error = InvalidIdent;

    fn try_from(text: String) -> Result<Self, InvalidIdent> {
        if is_name(&text) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidIdent(text))
        }
    }
}

impl FromStr for Ident {
    type Err = InvalidIdent;

    fn from_str(text: &str) -> Result<Self, InvalidIdent> {
        Self::try_from(text.to_owned())
    }
}

impl From<Ident> for String {
    fn from(ident: Ident) -> Self {
        ident.0.into_owned()
    }
}

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq<str> for Ident {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl std::borrow::Borrow<str> for Ident {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Ident {
    fn as_ref(&self) -> &str {
        &self.0
    }
}
