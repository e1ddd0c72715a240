//! Liveness and readiness, for whatever restarts or routes to this process. Neither needs a token.

use crm_core::Crm;
use poem::Response;

use crate::problem::Problem;

/// The process answers; the database is not asked.
pub(crate) fn live() -> Response {
    ok()
}

/// The database answers too.
///
/// # Errors
/// 503 when it does not.
pub(crate) async fn ready(crm: &Crm) -> Result<Response, Problem> {
    crm.ready().await?;
    Ok(ok())
}

fn ok() -> Response {
    Response::builder().content_type("application/json").body(r#"{"status":"ok"}"#)
}
