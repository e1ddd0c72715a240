//! The audit log as a file: all entries of a query, a page at a time, one JSON object on each line.

use super::{Audit, AuditQuery};
use crate::error::{Error, Result};
use crate::record::Query;
use crate::scope::{Permit, Read};

/// A file on its way out; each piece is one page of entries, newest first.
#[derive(Debug)]
pub struct AuditExport {
    audit: Audit,
    permit: Permit<Read>,
    query: AuditQuery,
    ended: bool,
}

impl Audit {
    /// All entries of the tenant that the query asks for, whatever its limit, as NDJSON. `permit`
    /// is one for the object `audit`.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a permit of another object.
    pub fn export(&self, permit: &Permit<Read>, query: AuditQuery) -> Result<AuditExport> {
        permit.on("audit")?;
        Ok(AuditExport {
            audit: self.clone(),
            permit: permit.clone(),
            query: AuditQuery {
                limit: Some(Query::MAX_LIMIT),
                ..query
            },
            ended: false,
        })
    }
}

impl AuditExport {
    /// The next piece of the file; none at its end.
    ///
    /// # Errors
    /// Those of a list.
    pub async fn next(&mut self) -> Result<Option<String>> {
        if self.ended {
            return Ok(None);
        }
        let page = self.audit.list(&self.permit, &self.query).await?;
        let mut out = String::new();
        for entry in &page.data {
            out.push_str(&serde_json::to_string(entry).map_err(Error::internal)?);
            out.push('\n');
        }
        self.ended = page.next_cursor.is_none();
        self.query.cursor = page.next_cursor;
        Ok(Some(out))
    }
}
