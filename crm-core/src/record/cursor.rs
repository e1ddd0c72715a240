//! Opaque keyset cursors, bound to the query they came from (XC-19).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Field, Query, Record};
use crate::error::{Error, Result};
use crate::module::CompiledModule;
use crate::module::input::from_json_filter;
use crate::value::Value;

/// The place in a list after a record: its sort key and id.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Position {
    /// Null when the record has no value in the sort field.
    pub(crate) key: Value,
    pub(crate) id: Uuid,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    /// Which query: 8 bytes of a hash over module, filter, search and order.
    q: [u8; 8],
    k: serde_json::Value,
    i: Uuid,
}

impl Position {
    /// The place after `record` in lists of this order.
    pub(crate) fn after(record: &Record, field: Field) -> Self {
        let key = match field {
            Field::Declared(position) => record.values().get(position).cloned().unwrap_or_default(),
            Field::CreatedAt => record.created_at.into(),
            Field::UpdatedAt => record.updated_at.into(),
            Field::Id | Field::OwnerId => record.id.into(),
        };
        Self {
            key,
            id: record.id.0,
        }
    }

    pub(crate) fn encode(&self, module: &CompiledModule, query: &Query) -> Result<String> {
        let key = serde_json::to_value(&self.key).map_err(Error::internal)?;
        let wire = Wire {
            q: fingerprint(module, query),
            k: key,
            i: self.id,
        };
        let bytes = serde_json::to_vec(&wire).map_err(Error::internal)?;
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    pub(crate) fn decode(module: &CompiledModule, query: &Query, text: &str) -> Result<Self> {
        let refuse = || {
            Error::invalid(
                "cursor",
                "invalid_cursor",
                "this cursor belongs to another query; begin again without one",
            )
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| refuse())?;
        let wire: Wire = serde_json::from_slice(&bytes).map_err(|_| refuse())?;
        if wire.q != fingerprint(module, query) {
            return Err(refuse());
        }
        let kind = query.sort.field.kind(module);
        let key = from_json_filter(&kind, &wire.k).map_err(|_| refuse())?;
        Ok(Self { key, id: wire.i })
    }
}

fn fingerprint(module: &CompiledModule, query: &Query) -> [u8; 8] {
    let text = format!(
        "{} {:?} {:?} {:?}",
        module.name(),
        query.filter,
        query.search,
        query.sort
    );
    let hash = Sha256::digest(text);
    std::array::from_fn(|index| hash[index])
}
