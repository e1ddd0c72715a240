//! Background jobs: how far they are, what they refused, and the way to stop them.

use bytes::Bytes;
use crm_core::Crm;
use crm_core::id::JobId;
use crm_core::job::{self, JobState};
use futures::stream;
use poem::http::header::CONTENT_TYPE;
use poem::{Body, IntoResponse, Response};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::registry::{
    MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
};
use poem_openapi::types::{Any, ToJSON};
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};
use serde_json::Value;
use uuid::Uuid;

use crate::credential::Caller;
use crate::problem::Problem;
use crate::wire::{Instant, Tag};

/// The operations on jobs.
pub(crate) struct Jobs {
    pub(crate) crm: Crm,
}

/// A background job.
#[derive(Object)]
#[oai(rename = "Job")]
struct Reply {
    id: Uuid,
    /// What it does, such as `import`.
    kind: String,
    state: State,
    /// What it was asked to do.
    input: Any<Value>,
    progress: Progress,
    /// What came of it, once done: of an import, the records `created`, `updated` and `unchanged`
    /// and the entries that `failed`.
    #[oai(nullable)]
    result: Option<Any<Value>>,
    /// Why it failed.
    #[oai(nullable)]
    error: Option<Failure>,
    /// Who started it: `user:<id>`, `api_key:<id>` or `operator`.
    created_by: String,
    created_at: Instant,
    /// When it last began to run.
    #[oai(nullable)]
    started_at: Option<Instant>,
    #[oai(nullable)]
    finished_at: Option<Instant>,
}

/// Where a job stands.
#[derive(Enum)]
#[oai(rename = "JobState", rename_all = "snake_case")]
enum State {
    /// Its file is still arriving.
    Receiving,
    /// It waits for its turn.
    Queued,
    /// It runs, or waits to be resumed.
    Running,
    /// It came to its end.
    Done,
    /// It stopped at an error.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

/// How far a job is.
#[derive(Object)]
#[oai(rename = "JobProgress")]
struct Progress {
    /// Entries handled well.
    done: u64,
    /// Entries refused.
    failed: u64,
    /// Bytes read of its file.
    bytes: u64,
    /// Bytes of its file.
    total_bytes: u64,
}

/// Why a job failed.
#[derive(Object)]
#[oai(rename = "JobFailure")]
struct Failure {
    /// For programs; stable.
    code: String,
    /// What to do about it, for people.
    message: String,
}

/// Some jobs.
#[derive(Object)]
#[oai(rename = "JobList")]
struct List {
    /// The jobs, newest first.
    data: Vec<Reply>,
    /// The `cursor` of the next page; null at the end.
    #[oai(nullable)]
    next_cursor: Option<Uuid>,
}

/// How the refused entries are written.
#[derive(Enum, Clone, Copy)]
#[oai(rename = "JobErrorFormat", rename_all = "snake_case")]
enum ErrorFormat {
    Csv,
    Ndjson,
}

#[OpenApi(prefix_path = "/api/v1/jobs", tag = "Tag::Jobs")]
impl Jobs {
    /// List background jobs
    ///
    /// Newest first: one's own, and with `jobs.read` everybody's. Permission: none.
    #[oai(path = "/", method = "get", operation_id = "list_jobs")]
    async fn list(
        &self,
        caller: Caller,
        /// Most jobs of the page.
        #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
        limit: Query<Option<u32>>,
        /// The `next_cursor` of the page before.
        cursor: Query<Option<Uuid>>,
    ) -> Result<Json<List>, Problem> {
        let limit = limit.0.unwrap_or(20);
        let jobs = self.crm.jobs();
        let page = jobs.list(&caller, cursor.0.map(JobId), limit).await?;
        Ok(Json(List {
            data: page.data.into_iter().map(Reply::from).collect(),
            next_cursor: page.next_cursor.map(|id| id.0),
        }))
    }

    /// Get a background job
    ///
    /// One's own, and with `jobs.read` everybody's. Also needs `jobs.read` when it is another's.
    /// Permission: none.
    #[oai(path = "/:id", method = "get", operation_id = "get_job")]
    async fn get(
        &self,
        caller: Caller,
        /// The job's id.
        Path(id): Path<Uuid>,
    ) -> Result<Json<Reply>, Problem> {
        let job = self.crm.jobs().get(&caller, JobId(id)).await?;
        Ok(Json(job.into()))
    }

    /// Cancel a background job
    ///
    /// A waiting job ends at once, a running one at its next checkpoint; what it has done stays. One's
    /// own, and with `jobs.update` everybody's. Also needs `jobs.read` and `jobs.update` when it is
    /// another's. Permission: none.
    #[oai(path = "/:id/cancel", method = "post", operation_id = "cancel_job")]
    async fn cancel(
        &self,
        caller: Caller,
        /// The job's id.
        Path(id): Path<Uuid>,
    ) -> Result<Json<Reply>, Problem> {
        let job = self.crm.jobs().cancel(&caller, JobId(id)).await?;
        Ok(Json(job.into()))
    }

    /// Get the refused entries of a job's file
    ///
    /// A file of `line`, `code`, `pointer` and `message`, in the order of lines; the first 10,000.
    /// One's own job's, and with `jobs.read` everybody's. Also needs `jobs.read` when it is another's.
    /// Permission: none.
    #[oai(path = "/:id/errors", method = "get", operation_id = "get_job_errors")]
    async fn errors(
        &self,
        caller: Caller,
        /// The job's id.
        Path(id): Path<Uuid>,
        /// How the file is written; NDJSON when left out.
        format: Query<Option<ErrorFormat>>,
    ) -> Result<ErrorFile, Problem> {
        let scope = caller.clone();
        let jobs = self.crm.jobs().clone();
        let first = jobs.errors(&scope, JobId(id), 0, PAGE).await?;
        let format = format.0.unwrap_or(ErrorFormat::Ndjson);
        let begin = Pages {
            jobs,
            scope,
            id: JobId(id),
            format,
            from: 0,
            page: Some(first),
        };
        let file = stream::unfold(begin, Pages::next);
        Ok(ErrorFile(format, Body::from_bytes_stream(file)))
    }
}

/// Refused entries read at a time.
const PAGE: u32 = 500;

struct Pages {
    jobs: job::Jobs,
    scope: crm_core::Scope,
    id: JobId,
    format: ErrorFormat,
    from: u64,
    page: Option<Vec<job::LineError>>,
}

impl Pages {
    async fn next(mut self) -> Option<(Result<Bytes, std::io::Error>, Self)> {
        let page = self.page.take()?;
        let mut out = String::new();
        if self.from == 0 && matches!(self.format, ErrorFormat::Csv) {
            out.push_str("line,code,pointer,message\r\n");
        }
        for error in &page {
            match self.format {
                ErrorFormat::Ndjson => {
                    out.push_str(&serde_json::to_string(error).unwrap_or_default());
                    out.push('\n');
                }
                ErrorFormat::Csv => out.push_str(&csv_line(error)),
            }
        }
        if page.len() == PAGE as usize {
            self.from += u64::from(PAGE);
            let next = self.jobs.errors(&self.scope, self.id, self.from, PAGE);
            match next.await {
                Ok(page) => self.page = Some(page),
                Err(_) => return Some((Err(std::io::Error::other("ended early")), self)),
            }
        }
        Some((Ok(out.into()), self))
    }
}

fn csv_line(error: &job::LineError) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let (line, code) = (error.line, &error.code);
    let (pointer, message) = (quoted(&error.pointer), quoted(&error.message));
    format!("{line},{code},{pointer},{message}\r\n")
}

/// The refused entries as a file.
struct ErrorFile(ErrorFormat, Body);

impl ErrorFormat {
    fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv",
            Self::Ndjson => "application/x-ndjson",
        }
    }
}

impl IntoResponse for ErrorFile {
    fn into_response(self) -> Response {
        Response::builder()
            .header(CONTENT_TYPE, self.0.media_type())
            .body(self.1)
    }
}

impl ApiResponse for ErrorFile {
    fn meta() -> MetaResponses {
        let content = [ErrorFormat::Ndjson, ErrorFormat::Csv].map(|format| MetaMediaType {
            content_type: format.media_type(),
            schema: MetaSchemaRef::Inline(Box::new(MetaSchema::new("string"))),
        });
        MetaResponses {
            responses: vec![MetaResponse {
                description: "The refused entries.",
                status: Some(200),
                status_range: None,
                content: content.into(),
                headers: Vec::new(),
            }],
        }
    }

    fn register(_registry: &mut Registry) {}
}

/// A job on the wire, for answers of other resources.
pub(crate) fn job_reply(job: job::Job) -> Value {
    Reply::from(job).to_json().unwrap_or_default()
}

impl From<job::Job> for Reply {
    fn from(job: job::Job) -> Self {
        let progress = job.progress;
        Self {
            id: job.id.0,
            kind: job.kind,
            state: match job.state {
                JobState::Receiving => State::Receiving,
                JobState::Queued => State::Queued,
                JobState::Running => State::Running,
                JobState::Done => State::Done,
                JobState::Failed => State::Failed,
                JobState::Cancelled => State::Cancelled,
            },
            input: Any(job.input),
            progress: Progress {
                done: progress.done,
                failed: progress.failed,
                bytes: progress.bytes,
                total_bytes: progress.total_bytes,
            },
            result: job.result.map(Any),
            error: job.error.map(|error| Failure {
                code: error.code,
                message: error.message,
            }),
            created_by: job.created_by,
            created_at: job.created_at.into(),
            started_at: job.started_at.map(Instant::from),
            finished_at: job.finished_at.map(Instant::from),
        }
    }
}
