//! Reading records: one, a page by query string, a page by a JSON query.

use crm_core::Read;
use crm_core::id::RecordId;
use crm_core::record::{Page, PageNumber, Query, View, Viewed};
use poem::http::StatusCode;
use poem::{Request, Response};
use serde::Serialize;

use super::{Handler, body, condition, json_response, query, query_body, tagged};
use crate::problem::Problem;

/// The path segment below a collection that takes a query as its body.
pub(super) const QUERY: &str = "query";

impl Handler<'_> {
    pub(super) async fn list(&self, request: &Request) -> Result<Response, Problem> {
        let permit = self.scope.permit::<Read>(self.name())?;
        let (query, view) = query::parse(&self.scope, &self.module, request)?;
        self.page(permit, &query, &view).await
    }

    pub(super) async fn query(&self, request: Request) -> Result<Response, Problem> {
        let permit = self.scope.permit::<Read>(self.name())?;
        query::refuse_any(&request)?;
        let sent = self.values(request).await?;
        let (query, view) = query_body::parse(&self.scope, &self.module, sent)?;
        self.page(permit, &query, &view).await
    }

    pub(super) async fn get(&self, request: &Request, id: RecordId) -> Result<Response, Problem> {
        let permit = self.scope.permit::<Read>(self.name())?;
        let view = query::view(&self.scope, &self.module, request)?;
        let records = self.exchange.app.crm.records();
        let record = records.get(&permit, id).await?;
        let version = record.version;
        let viewed = records.view(&permit, vec![record], &view).await?;
        let one = viewed.first().ok_or(crm_core::Error::NotFound)?;
        // What is shown changes without the record's version: with rights, fields and what is
        // expanded.
        let shown = serde_json::to_vec(one).map_err(crm_core::Error::internal)?;
        let tag = condition::tag(version, &shown);
        let response = match condition::is_known(request.headers(), &tag) {
            true => Response::builder()
                .status(StatusCode::NOT_MODIFIED)
                .finish(),
            false => json_response(StatusCode::OK, shown),
        };
        Ok(tagged(response, &tag))
    }

    pub(super) async fn page(
        &self,
        permit: crm_core::Permit<Read>,
        query: &Query,
        view: &View,
    ) -> Result<Response, Problem> {
        let records = self.exchange.app.crm.records();
        let page = records.list(&permit, query).await?;
        self.shown(&permit, page, view).await
    }

    /// A page as the view shows it.
    pub(super) async fn shown(
        &self,
        permit: &crm_core::Permit<Read>,
        page: Page,
        view: &View,
    ) -> Result<Response, Problem> {
        let records = self.exchange.app.crm.records();
        let list = List {
            data: records.view(permit, page.data, view).await?,
            next_cursor: page.next_cursor,
            number: page.number,
            total: page.total.map(|total| Total {
                count: total.count,
                capped: total.capped,
            }),
        };
        body(StatusCode::OK, &list)
    }
}

/// A page on the wire.
#[derive(Serialize)]
struct List {
    data: Vec<Viewed>,
    next_cursor: Option<String>,
    #[serde(flatten)]
    number: Option<PageNumber>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<Total>,
}

#[derive(Serialize)]
struct Total {
    count: u64,
    capped: bool,
}
