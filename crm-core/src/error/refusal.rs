//! A refusal by a rule of the application itself, such as one of its hooks.

use super::FieldError;

/// Why the application refuses a write: a code of its own, a sentence, and the field at fault where
/// there is one.
///
/// ```
/// use crm_core::error::Refusal;
///
/// let refusal = Refusal::conflict("deal_closed", "a closed deal does not change").on("amount");
/// assert_eq!(refusal.code(), "deal_closed");
/// let error: crm_core::Error = refusal.into();
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    kind: RefusalKind,
    code: &'static str,
    pointer: Option<String>,
    message: String,
}

/// What kind of refusal, which decides the HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// 400: it makes no sense.
    BadRequest,
    /// 403: not by this caller.
    Forbidden,
    /// 409: not in this state of the data.
    Conflict,
    /// 422: a value breaks a rule.
    Invalid,
}

impl Refusal {
    /// A request that makes no sense.
    pub fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(RefusalKind::BadRequest, code, message)
    }

    /// Something that this caller may not do.
    pub fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(RefusalKind::Forbidden, code, message)
    }

    /// Something that the state of the data does not allow.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(RefusalKind::Conflict, code, message)
    }

    /// A value that breaks a rule.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(RefusalKind::Invalid, code, message)
    }

    fn new(kind: RefusalKind, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            code,
            pointer: None,
            message: message.into(),
        }
    }

    /// The same refusal, of this field.
    #[must_use]
    pub fn on(mut self, field: &str) -> Self {
        self.pointer = Some(FieldError::pointer_to(field));
        self
    }

    /// What kind it is.
    pub fn kind(&self) -> RefusalKind {
        self.kind
    }

    /// The stable machine code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The refused field, where there is one.
    pub fn field(&self) -> Option<FieldError> {
        self.pointer.clone().map(|pointer| FieldError {
            pointer,
            code: self.code,
            message: self.message.clone(),
        })
    }

    pub(super) fn under(mut self, prefix: &str) -> Self {
        if let Some(pointer) = &mut self.pointer {
            pointer.insert_str(0, prefix);
        }
        self
    }
}
