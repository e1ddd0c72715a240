//! Names that people give to tenants, users and keys.

use crate::error::{Error, Result};

/// Longest name, in characters.
pub(crate) const MAX_NAME_CHARS: usize = 100;

/// The name, trimmed: 1 to 100 characters, none of them a control character.
///
/// # Errors
/// [`Error::Invalid`] on `field`: `required`, `too_long` or `control_character`.
pub(crate) fn check_name(field: &str, text: &str) -> Result<String> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Error::invalid(field, "required", "Give a name."));
    }
    if text.chars().count() > MAX_NAME_CHARS {
        let message = format!("Use at most {MAX_NAME_CHARS} characters.");
        return Err(Error::invalid(field, "too_long", message));
    }
    if text.chars().any(char::is_control) {
        let message = "Use no line breaks, tabs or other control characters.";
        return Err(Error::invalid(field, "control_character", message));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_trimmed_and_may_have_100_characters_of_any_script() {
        assert_eq!(
            check_name("name", "  Ärzte & Söhne ").unwrap(),
            "Ärzte & Söhne"
        );
        assert!(check_name("name", &"ü".repeat(MAX_NAME_CHARS)).is_ok());
    }

    #[test]
    fn empty_long_and_unprintable_names_are_refused() {
        let long = "ü".repeat(MAX_NAME_CHARS + 1);
        for (text, code) in [
            ("", "required"),
            (" \t ", "required"),
            (long.as_str(), "too_long"),
            ("a\nb", "control_character"),
            ("a\u{0}b", "control_character"),
        ] {
            let Err(Error::Invalid(fields)) = check_name("tenant", text) else {
                panic!("{text:?} was accepted");
            };
            assert_eq!(
                (fields[0].pointer.as_str(), fields[0].code),
                ("/tenant", code)
            );
        }
    }
}
