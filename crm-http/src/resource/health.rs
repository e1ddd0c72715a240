//! Liveness and readiness, for whatever restarts this process or routes to it.

use crm_core::Crm;
use poem_openapi::payload::Json;
use poem_openapi::{Enum, Object, OpenApi};

use crate::problem::Problem;
use crate::wire::Tag;

/// The health of this process.
pub(crate) struct Health {
    pub(crate) crm: Crm,
}

/// How the process is.
#[derive(Debug, Enum)]
#[oai(rename_all = "snake_case")]
enum Status {
    /// It works.
    Ok,
}

/// The health of this process.
#[derive(Debug, Object)]
#[oai(rename = "Health")]
struct Report {
    /// How it is.
    status: Status,
}

#[OpenApi(prefix_path = "/health", tag = "Tag::Health")]
impl Health {
    /// Whether the process runs
    ///
    /// Answers without asking the database, and needs no credential.
    #[oai(path = "/", method = "get", operation_id = "get_health")]
    async fn live(&self) -> Json<Report> {
        Json(Report { status: Status::Ok })
    }

    /// Whether requests can be served
    ///
    /// Asks the database, and answers 503 when it does not answer. Needs no credential.
    #[oai(path = "/ready", method = "get", operation_id = "get_readiness")]
    async fn ready(&self) -> Result<Json<Report>, Problem> {
        self.crm.ready().await?;
        Ok(Json(Report { status: Status::Ok }))
    }
}
