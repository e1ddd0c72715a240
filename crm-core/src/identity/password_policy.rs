//! What a new password must be: the rules of NIST SP 800-63B, with stricter ones to choose.
//!
//! Length, a list of common passwords, and words that are known of the user; no composition rules
//! unless an application asks for them. Judges new passwords only: a login accepts whatever was
//! set.
//!
//! The list holds the passwords of 8 characters and more among the 20,000 most common ones of
//! published breaches; its source and licence stand beside it, in `common_passwords/SOURCE.md`.

use std::collections::HashSet;
use std::io::Read as _;
use std::sync::LazyLock;

use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};

use super::password::MAX_PASSWORD_CHARS;
use crate::error::{Error, FieldError, Result};

/// Shortest password that a policy may allow, in characters (NIST SP 800-63B §3.1.1.2).
pub const MIN_PASSWORD_CHARS: usize = 8;

/// Shortest word of the context that counts: shorter ones occur in any text.
const MIN_CONTEXT_CHARS: usize = 3;
/// Most of the list, unpacked; more would not be our file.
const MOST_LIST_BYTES: u64 = 1 << 20;

static COMMON: LazyLock<HashSet<Box<str>>> = LazyLock::new(|| {
    let packed: &[u8] = include_bytes!("common_passwords/list.txt.gz");
    let mut text = String::new();
    let read = GzDecoder::new(packed)
        .take(MOST_LIST_BYTES)
        .read_to_string(&mut text);
    if let Err(error) = read {
        tracing::error!(%error, "the list of common passwords cannot be read");
    }
    text.lines().map(Box::from).collect()
});

/// A kind of character that a policy may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CharacterClass {
    /// An upper-case letter of any script.
    Upper,
    /// A lower-case letter of any script.
    Lower,
    /// A digit of any script.
    Digit,
    /// Neither letter nor digit.
    Symbol,
}

impl CharacterClass {
    fn holds(self, char: char) -> bool {
        match self {
            Self::Upper => char.is_uppercase(),
            Self::Lower => char.is_lowercase(),
            Self::Digit => char.is_numeric(),
            Self::Symbol => !char.is_alphanumeric(),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Upper => "an upper-case letter",
            Self::Lower => "a lower-case letter",
            Self::Digit => "a digit",
            Self::Symbol => "a character that is neither letter nor digit",
        }
    }
}

/// The rules for new passwords.
///
/// Common passwords, and the user's own words, are refused by every policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordPolicy {
    /// Fewest characters, 8 to 64.
    pub min_chars: usize,
    /// Kinds of characters that must occur; none by default, as NIST SP 800-63B asks.
    pub classes: Vec<CharacterClass>,
    /// Lowest strength as zxcvbn estimates it, 0 to 4; 0 by default.
    pub min_score: u8,
}

impl Default for PasswordPolicy {
    fn default() -> Self {
        Self {
            min_chars: MIN_PASSWORD_CHARS,
            classes: Vec::new(),
            min_score: 0,
        }
    }
}

impl PasswordPolicy {
    /// The stricter one of each rule.
    #[must_use]
    pub(super) fn and(mut self, other: &Self) -> Self {
        self.min_chars = self.min_chars.max(other.min_chars);
        self.min_score = self.min_score.max(other.min_score);
        let missing = other.classes.iter();
        let missing: Vec<_> = missing
            .filter(|class| !self.classes.contains(class))
            .collect();
        self.classes.extend(missing);
        self
    }

    /// Refuses a policy that is weaker than the standard allows, or that few could meet.
    ///
    /// # Errors
    /// [`Error::Configuration`].
    pub(super) fn check_itself(&self) -> Result<()> {
        if (MIN_PASSWORD_CHARS..=64).contains(&self.min_chars) && self.min_score <= 4 {
            return Ok(());
        }
        Err(Error::Configuration(
            "a password policy asks for 8 to 64 characters and a strength of 0 to 4".into(),
        ))
    }

    /// Judges a new password, given in NFC; `context` are texts that are known of the user, such as
    /// their e-mail address. Answers its strength, 0 to 4 (zxcvbn, Wheeler 2016).
    ///
    /// # Errors
    /// [`Error::Invalid`] on `field`, with every broken rule: `too_short`, `too_long`, `composition`,
    /// `common_password`, `context_word`, `too_weak`.
    pub fn check(&self, field: &str, password: &str, context: &[String]) -> Result<u8> {
        let count = password.chars().count();
        if count > MAX_PASSWORD_CHARS {
            let message = format!("Use at most {MAX_PASSWORD_CHARS} characters.");
            return Err(Error::invalid(field, "too_long", message));
        }
        let inputs: Vec<&str> = context.iter().map(String::as_str).collect();
        let score = u8::from(zxcvbn::zxcvbn(password, &inputs).score());
        let mut broken = Vec::new();
        if count < self.min_chars {
            let message = format!("Use at least {} characters", self.min_chars);
            broken.push(("too_short", message));
        } else if self.rest(password, context) < self.min_chars {
            let message = format!(
                "Use at least {} characters beside your e-mail address, your names and your tenant's",
                self.min_chars
            );
            broken.push(("context_word", message));
        }
        let missing = self
            .classes
            .iter()
            .filter(|class| !password.chars().any(|char| class.holds(char)));
        for class in missing {
            broken.push(("composition", format!("Use {}", class.words())));
        }
        if COMMON.contains(password.to_lowercase().as_str()) {
            let message = "This is one of the most common passwords; choose another".to_owned();
            broken.push(("common_password", message));
        }
        if broken.is_empty() && score < self.min_score {
            let message = "This is too easy to guess; use more, or rarer, words".to_owned();
            broken.push(("too_weak", message));
        }
        if broken.is_empty() {
            return Ok(score);
        }
        let refuse = |(code, message)| {
            FieldError::new(field, code, format!("{message} (strength {score} of 4)."))
        };
        Err(Error::Invalid(broken.into_iter().map(refuse).collect()))
    }

    /// How many characters remain when the words of the context are taken out.
    fn rest(&self, password: &str, context: &[String]) -> usize {
        let mut rest = password.to_lowercase();
        let whole = context.iter().map(|text| text.to_lowercase());
        let mut words: Vec<String> = whole.collect();
        let parts: Vec<String> = words
            .iter()
            .flat_map(|text| text.split(|char: char| !char.is_alphanumeric()))
            .map(str::to_owned)
            .collect();
        words.extend(parts);
        words.retain(|word| word.chars().count() >= MIN_CONTEXT_CHARS);
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        for word in words {
            rest = rest.replace(&word, "");
        }
        rest.chars().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(policy: &PasswordPolicy, password: &str, context: &[&str]) -> Vec<&'static str> {
        let context: Vec<String> = context.iter().map(ToString::to_string).collect();
        match policy.check("password", password, &context) {
            Ok(_) => Vec::new(),
            Err(Error::Invalid(fields)) => fields.into_iter().map(|field| field.code).collect(),
            Err(other) => panic!("another refusal: {other:?}"),
        }
    }

    #[test]
    fn asvs_6_2_1_eight_characters_of_any_kind_will_do() {
        let policy = PasswordPolicy::default();
        assert_eq!(codes(&policy, "qzvkwmxj", &[]), [""; 0]);
        assert_eq!(codes(&policy, "пароль на море", &[]), [""; 0]);
        assert_eq!(codes(&policy, "qzvkwmx", &[]), ["too_short"]);
        assert_eq!(codes(&policy, &"ü".repeat(128), &[]), [""; 0]);
        assert_eq!(codes(&policy, &"ü".repeat(129), &[]), ["too_long"]);
    }

    #[test]
    fn asvs_6_2_4_common_passwords_are_refused_in_any_case() {
        let policy = PasswordPolicy::default();
        assert!(COMMON.len() > 8_000);
        for password in ["password", "PassWord", "12345678", "iloveyou", "trustno1"] {
            assert_eq!(codes(&policy, password, &[]), ["common_password"]);
        }
    }

    #[test]
    fn asvs_6_2_11_what_is_known_of_the_user_does_not_count() {
        let context = ["ada@acme.example", "Ada Lovelace", "Acme"];
        let policy = PasswordPolicy::default();
        for password in [
            "ada@acme.example",
            "Lovelace1815",
            "acmeACMEacme",
            "ada-lovelace-x",
        ] {
            assert_eq!(
                codes(&policy, password, &context),
                ["context_word"],
                "{password}"
            );
        }
        assert_eq!(
            codes(&policy, "acme bought a harpsichord", &context),
            [""; 0]
        );
    }

    #[test]
    fn at_53_a_system_may_ask_for_kinds_of_characters_and_for_strength() {
        let policy = PasswordPolicy {
            classes: vec![
                CharacterClass::Upper,
                CharacterClass::Lower,
                CharacterClass::Digit,
            ],
            min_score: 3,
            ..PasswordPolicy::default()
        };
        assert_eq!(
            codes(&policy, "only small letters", &[]),
            ["composition", "composition"]
        );
        assert_eq!(codes(&policy, "Aaaaaaaaaaaaa1", &[]), ["too_weak"]);
        assert_eq!(codes(&policy, "Harpsichord-9-glacier", &[]), [""; 0]);
    }

    #[test]
    fn a_refusal_names_the_strength_and_never_the_password() {
        let refused = PasswordPolicy::default().check("password", "password", &[]);
        let Err(Error::Invalid(fields)) = refused else {
            panic!("a common password was accepted");
        };
        assert!(
            fields[0].message.contains("(strength 0 of 4)"),
            "{}",
            fields[0].message
        );
    }

    #[test]
    fn a_policy_below_the_standard_is_refused() {
        for policy in [
            PasswordPolicy {
                min_chars: 7,
                ..PasswordPolicy::default()
            },
            PasswordPolicy {
                min_score: 5,
                ..PasswordPolicy::default()
            },
        ] {
            assert!(matches!(
                policy.check_itself(),
                Err(Error::Configuration(_))
            ));
        }
    }
}
