//! An export: the records of a query as a file, page by page.

use std::sync::Arc;

use super::{Format, SYSTEM_COLUMNS, Transfer, cell, csv};
use crate::error::{Error, Result};
use crate::module::CompiledModule;
use crate::record::{Count, Query, Record, Records};
use crate::scope::{Permit, Read};
use crate::value::Value;

/// A file on its way out; each piece is one page of records.
pub struct Export {
    records: Records,
    permit: Permit<Read>,
    module: Arc<CompiledModule>,
    query: Query,
    format: Format,
    begun: bool,
    ended: bool,
}

impl Transfer {
    /// The records that the permit covers and the query asks for, all pages of them: which page the
    /// query asks for, of how many records and how they are counted, is read past.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a format that is none of CSV, NDJSON and JSON.
    pub fn export(&self, permit: Permit<Read>, query: Query, format: Format) -> Result<Export> {
        if format == Format::Vcard {
            return Err(Error::Invalid(vec![Format::not_exported()]));
        }
        Ok(Export {
            records: Records::new(self.core.clone()),
            module: permit.asked()?,
            permit,
            query: Query {
                limit: Query::MAX_LIMIT,
                cursor: None,
                page: None,
                count: Count::No,
                ..query
            },
            format,
            begun: false,
            ended: false,
        })
    }
}

impl Export {
    /// The next piece of the file; none at its end.
    ///
    /// # Errors
    /// Those of a list.
    pub async fn next(&mut self) -> Result<Option<String>> {
        if self.ended {
            return Ok(None);
        }
        let page = self.records.list(&self.permit, &self.query).await?;
        let mut out = String::new();
        let first = !self.begun;
        if first && self.format == Format::Csv {
            self.header(&mut out);
        }
        if first && self.format == Format::Json {
            out.push('[');
        }
        for (count, record) in page.data.iter().enumerate() {
            match self.format {
                Format::Json => {
                    out.push_str(if first && count == 0 { "\n" } else { ",\n" });
                    out.push_str(&record.to_json());
                }
                Format::Ndjson => {
                    out.push_str(&record.to_json());
                    out.push('\n');
                }
                Format::Csv | Format::Vcard => row(&mut out, &self.module, record),
            }
        }
        self.begun = true;
        self.ended = page.next_cursor.is_none();
        self.query.cursor = page.next_cursor;
        if self.ended && self.format == Format::Json {
            out.push_str("\n]\n");
        }
        Ok(Some(out))
    }

    fn header(&self, out: &mut String) {
        let declared = self.module.readable().chain(self.module.computed());
        let declared = declared.map(|field| field.name.as_str());
        for (count, name) in SYSTEM_COLUMNS.into_iter().chain(declared).enumerate() {
            if count > 0 {
                out.push(',');
            }
            out.push_str(name);
        }
        out.push_str("\r\n");
    }
}

/// The record in the columns of the module; empty where it shows none of theirs.
fn row(out: &mut String, module: &CompiledModule, record: &Record) {
    let own = record.module();
    let owner = record.owner_id.filter(|_| own.shows_owner());
    let system: [Value; 5] = [
        record.id.into(),
        record.version.into(),
        owner.into(),
        record.created_at.into(),
        record.updated_at.into(),
    ];
    let columns = (0..module.fields().len()).filter(|at| module.is_readable(*at));
    let stored = columns.map(|at| match own.is_readable(at) {
        true => record.values().get(at).cloned().unwrap_or_default(),
        false => Value::Null,
    });
    let computed = module.computed().map(|field| {
        let place = own.computed_at(field.name.as_str());
        let value = place.and_then(|place| own.compute(place, record.values()));
        value.map(|(_, value)| value).unwrap_or_default()
    });
    let values = system.into_iter().chain(stored).chain(computed);
    for (count, value) in values.enumerate() {
        if count > 0 {
            out.push(',');
        }
        csv::write(out, &cell::from_value(&value));
    }
    out.push_str("\r\n");
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}
