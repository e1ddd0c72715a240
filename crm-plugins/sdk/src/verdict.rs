//! What becomes of a change that is not yet made.

use serde::Serialize;

use crate::{Error, Refusal, Verdict, fields};

/// The change is made as it is.
pub fn accept() -> Verdict {
    Verdict::Accept
}

/// The change is made with these fields set so.
///
/// # Errors
///
/// [`Error::Json`] for anything but a JSON object.
pub fn amend(values: &impl Serialize) -> Result<Verdict, Error> {
    Ok(Verdict::Amend(fields::write(values)?))
}

/// The change is refused; the caller reads the code, such as `duplicate`, and the sentence.
pub fn reject(code: &str, message: impl Into<String>) -> Verdict {
    refusal(code, message.into(), None)
}

/// The change is refused for one of its fields.
pub fn reject_field(field: &str, code: &str, message: impl Into<String>) -> Verdict {
    refusal(code, message.into(), Some(field.to_owned()))
}

fn refusal(code: &str, message: String, field: Option<String>) -> Verdict {
    Verdict::Reject(Refusal {
        code: code.to_owned(),
        message,
        field,
    })
}
