//! The trash of modules that keep what is deleted.

use crm_core::id::RecordId;
use crm_core::record::Write;
use crm_core::{Delete, Purge, Read};
use poem::{Request, Response};

use super::{Handler, condition, query};
use crate::problem::Problem;

/// The path segment below a collection for its trash, and those below a record.
pub(super) const TRASH: &str = "trash";
pub(super) const RESTORE: &str = "restore";
pub(super) const PURGE: &str = "purge";

impl Handler<'_> {
    pub(super) async fn trash(&self, request: &Request) -> Result<Response, Problem> {
        let delete = self.scope.permit::<Delete>(self.name())?;
        let read = self.scope.permit::<Read>(self.name())?;
        let (query, view) = query::parse(&self.scope, &self.module, request)?;
        let records = self.exchange.app.crm.records();
        let page = records.trash(&read, &delete, &query).await?;
        self.shown(&read, page, &view).await
    }

    pub(super) async fn restore(
        &self,
        request: Request,
        id: RecordId,
    ) -> Result<Response, Problem> {
        let permit = self.scope.permit::<Delete>(self.name())?;
        query::refuse_any(&request)?;
        let expected = condition::expected(request.headers())?;
        let once = self.once(&request, &[])?;
        self.one(once, Write::restore(&permit, id, expected)?).await
    }

    pub(super) async fn purge(&self, request: Request, id: RecordId) -> Result<Response, Problem> {
        let permit = self.scope.permit::<Purge>(self.name())?;
        query::refuse_any(&request)?;
        let expected = condition::expected(request.headers())?;
        let once = self.once(&request, &[])?;
        self.one(once, Write::purge(&permit, id, expected)?).await
    }
}
