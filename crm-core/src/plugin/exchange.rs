//! One call of the host by a guest, and its answer, as stored in a run's transcript.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::kept::{Base64, KeptFields, give, keep};
use crate::error::{Error, FieldError, Refusal, RefusalKind, Result};
use crate::hook::{DoorPage, DoorQuery, DoorRequest, DoorResponse, Fields};
use crate::id::RecordId;

/// A call and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Exchange {
    pub(super) call: Asked,
    pub(super) answer: KeptAnswer,
}

/// What a guest asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Asked {
    Get {
        module: String,
        id: RecordId,
    },
    List {
        module: String,
        query: DoorQuery,
    },
    Create {
        module: String,
        values: KeptFields,
    },
    Update {
        module: String,
        id: RecordId,
        version: Option<i64>,
        values: KeptFields,
    },
    Delete {
        module: String,
        id: RecordId,
        version: Option<i64>,
    },
    Aggregate {
        module: String,
        query: String,
    },
    Emit {
        name: String,
        data: String,
    },
    KvGet {
        key: String,
    },
    KvSet {
        key: String,
        value: Base64,
    },
    KvDelete {
        key: String,
    },
    KvKeys {
        prefix: String,
        after: Option<String>,
    },
    Fetch {
        method: String,
        url: String,
        headers: Vec<(String, String)>,
        body: Base64,
    },
    Secret {
        name: String,
    },
    Schedule {
        name: String,
        delay_seconds: u64,
        payload: Option<String>,
    },
}

/// What it was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KeptAnswer {
    Nothing,
    Fields(KeptFields),
    Page {
        records: Vec<KeptFields>,
        next_cursor: Option<String>,
    },
    Text(String),
    Value(Option<Base64>),
    Removed(bool),
    Keys(Vec<String>),
    Response {
        status: u16,
        headers: Vec<(String, String)>,
        body: Base64,
    },
    /// A secret: never stored.
    Secret,
    Error(KeptError),
    /// None: the run was stopped while it waited.
    Unanswered,
}

/// An error, as far as a guest is told of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KeptError {
    Forbidden(String),
    NotFound,
    Invalid(Vec<(String, String, String)>),
    Conflict(String, String),
    Refused(KeptRefusal),
    PreconditionFailed,
    PreconditionRequired,
    TooMany(u64),
    LimitExceeded(String, String),
    Unavailable(String),
    Internal,
}

/// A refusal by a rule of the application.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct KeptRefusal {
    kind: String,
    code: String,
    message: String,
    field: Option<String>,
}

/// An answer that has a stored form.
pub(super) trait Storable: Sized {
    fn keep(&self) -> KeptAnswer;

    /// `None` for an answer of another kind.
    fn give(answer: KeptAnswer) -> Option<Self>;
}

impl Storable for () {
    fn keep(&self) -> KeptAnswer {
        KeptAnswer::Nothing
    }

    fn give(answer: KeptAnswer) -> Option<Self> {
        matches!(answer, KeptAnswer::Nothing).then_some(())
    }
}

impl Storable for Fields {
    fn keep(&self) -> KeptAnswer {
        KeptAnswer::Fields(keep(self.clone()))
    }

    fn give(answer: KeptAnswer) -> Option<Self> {
        match answer {
            KeptAnswer::Fields(fields) => Some(give(fields)),
            _ => None,
        }
    }
}

impl Storable for DoorPage {
    fn keep(&self) -> KeptAnswer {
        KeptAnswer::Page {
            records: self.records.iter().cloned().map(keep).collect(),
            next_cursor: self.next_cursor.clone(),
        }
    }

    fn give(answer: KeptAnswer) -> Option<Self> {
        match answer {
            KeptAnswer::Page {
                records,
                next_cursor,
            } => Some(Self {
                records: records.into_iter().map(give).collect(),
                next_cursor,
            }),
            _ => None,
        }
    }
}

impl Storable for String {
    fn keep(&self) -> KeptAnswer {
        KeptAnswer::Text(self.clone())
    }

    fn give(answer: KeptAnswer) -> Option<Self> {
        match answer {
            KeptAnswer::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl Storable for Option<Vec<u8>> {
    fn keep(&self) -> KeptAnswer {
        KeptAnswer::Value(self.clone().map(Base64))
    }

    fn give(answer: KeptAnswer) -> Option<Self> {
        match answer {
            KeptAnswer::Value(value) => Some(value.map(|bytes| bytes.0)),
            _ => None,
        }
    }
}

impl Storable for bool {
    fn keep(&self) -> KeptAnswer {
        KeptAnswer::Removed(*self)
    }

    fn give(answer: KeptAnswer) -> Option<Self> {
        match answer {
            KeptAnswer::Removed(removed) => Some(removed),
            _ => None,
        }
    }
}

impl Storable for Vec<String> {
    fn keep(&self) -> KeptAnswer {
        KeptAnswer::Keys(self.clone())
    }

    fn give(answer: KeptAnswer) -> Option<Self> {
        match answer {
            KeptAnswer::Keys(keys) => Some(keys),
            _ => None,
        }
    }
}

impl Storable for DoorResponse {
    fn keep(&self) -> KeptAnswer {
        KeptAnswer::Response {
            status: self.status,
            headers: self.headers.clone(),
            body: Base64(self.body.to_vec()),
        }
    }

    fn give(answer: KeptAnswer) -> Option<Self> {
        match answer {
            KeptAnswer::Response {
                status,
                headers,
                body,
            } => Some(Self {
                status,
                headers,
                body: Bytes::from(body.0),
            }),
            _ => None,
        }
    }
}

impl Asked {
    pub(super) fn fetch(request: &DoorRequest) -> Self {
        Self::Fetch {
            method: request.method.clone(),
            url: request.url.clone(),
            headers: request.headers.clone(),
            body: Base64(request.body.to_vec()),
        }
    }
}

/// The stored form of what a call came to.
pub(super) fn answered<T: Storable>(result: &Result<T>) -> KeptAnswer {
    match result {
        Ok(answer) => answer.keep(),
        Err(error) => KeptAnswer::Error(error.into()),
    }
}

/// What a call came to, from its stored form.
pub(super) fn given<T: Storable>(answer: KeptAnswer) -> Option<Result<T>> {
    match answer {
        KeptAnswer::Error(error) => Some(Err(error.into())),
        answer => T::give(answer).map(Ok),
    }
}

impl From<&Error> for KeptError {
    fn from(error: &Error) -> Self {
        match error {
            Error::Forbidden { permission } => Self::Forbidden(permission.clone()),
            Error::NotFound => Self::NotFound,
            Error::Invalid(fields) => {
                let fields = fields.iter().cloned();
                let fields = fields.map(|one| (one.pointer, one.code.to_owned(), one.message));
                Self::Invalid(fields.collect())
            }
            Error::Conflict { code, message } => {
                Self::Conflict((*code).to_owned(), message.to_string())
            }
            Error::Refused(refusal) => Self::Refused(KeptRefusal {
                kind: kind(refusal.kind()).to_owned(),
                code: refusal.code().to_owned(),
                message: refusal.to_string(),
                field: refusal.field().map(|field| field.pointer),
            }),
            Error::PreconditionFailed => Self::PreconditionFailed,
            Error::PreconditionRequired => Self::PreconditionRequired,
            Error::TooMany { retry_after, .. } => Self::TooMany(retry_after.as_secs()),
            Error::LimitExceeded { code, message } => {
                Self::LimitExceeded((*code).to_owned(), message.to_string())
            }
            Error::Unavailable { message, .. } => Self::Unavailable(message.to_string()),
            _ => Self::Internal,
        }
    }
}

impl From<KeptError> for Error {
    fn from(error: KeptError) -> Self {
        match error {
            KeptError::Forbidden(permission) => Self::Forbidden { permission },
            KeptError::NotFound => Self::NotFound,
            KeptError::Invalid(fields) => {
                let fields = fields
                    .into_iter()
                    .map(|(pointer, code, message)| FieldError {
                        pointer,
                        code: code_of(&code),
                        message,
                    });
                Self::Invalid(fields.collect())
            }
            KeptError::Conflict(code, message) => Self::conflict(code_of(&code), message),
            KeptError::Refused(refused) => {
                let code = code_of(&refused.code);
                let refusal = match refused.kind.as_str() {
                    "bad_request" => Refusal::bad_request(code, refused.message),
                    "forbidden" => Refusal::forbidden(code, refused.message),
                    "conflict" => Refusal::conflict(code, refused.message),
                    _ => Refusal::invalid(code, refused.message),
                };
                match refused.field {
                    Some(pointer) => refusal.on(pointer.trim_start_matches('/')).into(),
                    None => refusal.into(),
                }
            }
            KeptError::PreconditionFailed => Self::PreconditionFailed,
            KeptError::PreconditionRequired => Self::PreconditionRequired,
            KeptError::TooMany(seconds) => Self::too_soon(Duration::from_secs(seconds)),
            KeptError::LimitExceeded(code, message) => Self::LimitExceeded {
                code: code_of(&code),
                message: message.into(),
            },
            KeptError::Unavailable(message) => Self::unavailable(message),
            KeptError::Internal => Self::internal("as it was in the replayed run"),
        }
    }
}

fn kind(kind: RefusalKind) -> &'static str {
    match kind {
        RefusalKind::BadRequest => "bad_request",
        RefusalKind::Forbidden => "forbidden",
        RefusalKind::Conflict => "conflict",
        RefusalKind::Invalid => "invalid",
    }
}

/// A code as errors carry it. They are words of this program and of the application, a few hundred
/// at most, each kept once.
fn code_of(code: &str) -> &'static str {
    const MOST: usize = 4_096;
    static CODES: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut codes = CODES.lock();
    let codes = codes.get_or_insert_default();
    match codes.get(code) {
        Some(known) => known,
        None if codes.len() < MOST && code.len() <= 64 => {
            let kept: &'static str = Box::leak(code.into());
            codes.insert(kept);
            kept
        }
        None => "replayed",
    }
}
