//! The library's one error type: a closed set of kinds, each with stable machine codes.
//!
//! A message is written for the caller and says what to do next; the source stays behind it for the
//! log and never reaches a client.

mod refusal;

use std::borrow::Cow;
use std::time::Duration;

pub use refusal::{Refusal, RefusalKind};

/// The result of every fallible operation of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The boxed cause of an [`Error::Unavailable`] or [`Error::Internal`].
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// One refused field of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// JSON Pointer (RFC 6901) into the input, such as `/email`; empty for the whole input.
    pub pointer: String,
    /// Stable machine code, such as `required` or `too_long`.
    pub code: &'static str,
    /// A full sentence for the user.
    pub message: String,
}

impl FieldError {
    /// A refusal of the field called `name`.
    pub fn new(name: &str, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            pointer: Self::pointer_to(name),
            code,
            message: message.into(),
        }
    }

    /// The pointer to the member of an object with this name (RFC 6901, section 4).
    pub fn pointer_to(name: &str) -> String {
        format!("/{}", name.replace('~', "~0").replace('/', "~1"))
    }

    /// The same refusal in a larger input: its pointer begins with `prefix`.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        self.pointer.insert_str(0, prefix);
        self
    }
}

/// A limit of so many in a time, and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// What it is called.
    pub name: &'static str,
    /// How many it lets through in its window.
    pub quota: u32,
    /// The window, in seconds.
    pub window: u32,
    /// How many are left.
    pub remaining: u32,
    /// Seconds until all of them are back.
    pub reset: u64,
}

/// What went wrong, as one of a closed set of kinds.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input breaks a declared rule; every broken rule is listed.
    #[error("the input is not valid: {}", summary(.0))]
    Invalid(Vec<FieldError>),
    /// No credential, or one that does not hold (any more).
    #[error("{message}")]
    Unauthenticated {
        /// Stable machine code, such as `token_expired`.
        code: &'static str,
        /// What to do about it.
        message: &'static str,
    },
    /// The password was right, and a second factor is needed to finish the login.
    #[error("finish the login with a code of your second factor")]
    SecondFactor {
        /// Good for finishing this login.
        token: secrecy::SecretString,
        /// Whether the user has a second factor; who has none sets one up now.
        enrolled: bool,
        /// Whether one of the user's passkeys will do.
        passkey: bool,
        /// The strength of the password, 0 to 4, as zxcvbn estimates it; none but where it was set
        /// just now, by a registration or in place of one that somebody else had set.
        password_score: Option<u8>,
    },
    /// The caller may see the thing, and may not do this to it.
    #[error("you lack the permission {permission}")]
    Forbidden {
        /// The missing permission, `module.action`.
        permission: String,
    },
    /// Absent, foreign or not visible: deliberately one and the same.
    #[error("there is no such resource")]
    NotFound,
    /// The state of the data does not allow the operation.
    #[error("{message}")]
    Conflict {
        /// Stable machine code, such as `already_exists`.
        code: &'static str,
        /// A full sentence for the user.
        message: Cow<'static, str>,
    },
    /// The row has another version than the caller expected.
    #[error("the record has changed since you read it; read it again and repeat your change")]
    PreconditionFailed,
    /// The module wants every change to name the version that it is meant for.
    #[error("say which version of the record you mean (If-Match), as you read it")]
    PreconditionRequired,
    /// A rule of the application forbids it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too many requests.
    #[error("too many requests, or too soon after the last one; try again in {} s", seconds(*.retry_after))]
    TooMany {
        /// How long to wait.
        retry_after: Duration,
        /// The limit that refused; none for a wait that is no limit of so many in a time.
        limit: Option<RateLimit>,
    },
    /// The input is larger than a stated limit.
    #[error("{message}")]
    LimitExceeded {
        /// Stable machine code, such as `body_too_large`.
        code: &'static str,
        /// Which limit, and its size.
        message: Cow<'static, str>,
    },
    /// A component outside this process does not answer, or a queue is full.
    #[error("{message}")]
    Unavailable {
        /// What does not answer.
        message: Cow<'static, str>,
        /// The cause, for the log.
        #[source]
        source: Option<Source>,
    },
    /// The configuration cannot work; the message says which setting and how to mend it.
    #[error("{0}")]
    Configuration(Cow<'static, str>),
    /// Stored data breaks an invariant of this library.
    #[error("{table}.{column} holds a value this program does not understand")]
    Inconsistent {
        /// The table.
        table: Cow<'static, str>,
        /// The column.
        column: Cow<'static, str>,
    },
    /// A bug, or a failure without a better name.
    #[error("internal error")]
    Internal(#[source] Source),
}

impl Error {
    /// A wait that is no limit of so many in a time.
    pub(crate) fn too_soon(retry_after: Duration) -> Self {
        Self::TooMany {
            retry_after,
            limit: None,
        }
    }

    /// A single refused field; an empty name stands for the whole input.
    pub fn invalid(field: &str, code: &'static str, message: impl Into<String>) -> Self {
        let mut refused = FieldError::new(field, code, message);
        if field.is_empty() {
            refused.pointer.clear();
        }
        Self::Invalid(vec![refused])
    }

    /// The same error once more: a refusal as it is, of a failure only its sentence.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Invalid(fields) => Self::Invalid(fields.clone()),
            Self::Forbidden { permission } => Self::Forbidden {
                permission: permission.clone(),
            },
            Self::NotFound => Self::NotFound,
            Self::Conflict { code, message } => Self::Conflict {
                code,
                message: message.clone(),
            },
            Self::PreconditionFailed => Self::PreconditionFailed,
            Self::PreconditionRequired => Self::PreconditionRequired,
            Self::Refused(refusal) => Self::Refused(refusal.clone()),
            Self::LimitExceeded { code, message } => Self::LimitExceeded {
                code,
                message: message.clone(),
            },
            other => Self::internal(other.to_string()),
        }
    }

    /// The same error about a part of a larger input: pointers begin with `prefix`.
    #[must_use]
    pub fn under(self, prefix: &str) -> Self {
        match self {
            Self::Invalid(refused) => {
                let refused = refused.into_iter().map(|field| field.under(prefix));
                Self::Invalid(refused.collect())
            }
            Self::Refused(refusal) => Self::Refused(refusal.under(prefix)),
            error => error,
        }
    }

    /// A conflict with its code and sentence.
    pub fn conflict(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Conflict {
            code,
            message: message.into(),
        }
    }

    /// A missing or unusable credential.
    pub fn unauthenticated(code: &'static str, message: &'static str) -> Self {
        Self::Unauthenticated { code, message }
    }

    /// A failure that is nobody's input.
    pub fn internal(source: impl Into<Source>) -> Self {
        Self::Internal(source.into())
    }

    /// Something outside this process that does not answer.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::Unavailable {
            message: message.into(),
            source: None,
        }
    }

    /// The stable machine code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "validation_failed",
            Self::Unauthenticated { code, .. }
            | Self::Conflict { code, .. }
            | Self::LimitExceeded { code, .. } => code,
            Self::SecondFactor { .. } => "second_factor_required",
            Self::Forbidden { .. } => "forbidden",
            Self::NotFound => "not_found",
            Self::PreconditionFailed => "version_mismatch",
            Self::PreconditionRequired => "precondition_required",
            Self::Refused(refusal) => refusal.code(),
            Self::TooMany { .. } => "rate_limited",
            Self::Unavailable { .. } => "unavailable",
            Self::Configuration(_) => "configuration",
            Self::Inconsistent { .. } => "inconsistent",
            Self::Internal(_) => "internal",
        }
    }
}

/// Whole seconds, rounded up: who waits them is let through.
pub(crate) fn seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

fn summary(fields: &[FieldError]) -> String {
    let mut text = String::new();
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            text.push_str("; ");
        }
        let name = field.pointer.trim_start_matches('/');
        if !name.is_empty() {
            text.push_str(name);
            text.push_str(": ");
        }
        text.push_str(&field.message);
    }
    text
}
