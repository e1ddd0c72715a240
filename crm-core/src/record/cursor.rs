//! Opaque keyset cursors, bound to the query they came from (XC-19).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Query, Record};
use crate::error::{Error, Result};
use crate::module::CompiledModule;
use crate::module::input::from_json_filter;
use crate::value::Value;

/// The place in a list after a record: its sort keys and id.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Position {
    /// One for each key of the query's order; null where the record has no value.
    pub(crate) keys: Vec<Value>,
    pub(crate) id: Uuid,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    /// Which query: 8 bytes of a hash over module, filter, search and order.
    q: [u8; 8],
    k: Vec<serde_json::Value>,
    i: Uuid,
}

impl Position {
    /// The place after `record` in the list that `query` asks for.
    pub(crate) fn after(record: &Record, query: &Query) -> Self {
        let keys = query.order().keys.iter();
        Self {
            keys: keys.map(|key| key.field.of(record)).collect(),
            id: record.id.0,
        }
    }

    pub(crate) fn encode(&self, module: &CompiledModule, query: &Query) -> Result<String> {
        let keys = self.keys.iter().map(serde_json::to_value);
        let wire = Wire {
            q: fingerprint(module, query),
            k: keys.collect::<Result<_, _>>().map_err(Error::internal)?,
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
        let order = query.order();
        if wire.q != fingerprint(module, query) || wire.k.len() != order.keys.len() {
            return Err(refuse());
        }
        let keys = order.keys.iter().zip(&wire.k);
        let keys = keys.map(|(key, json)| from_json_filter(&key.field.kind(module), json));
        Ok(Self {
            keys: keys.collect::<Result<_, _>>().map_err(|_| refuse())?,
            id: wire.i,
        })
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
    let mut hash = Sha256::new_with_prefix(text);
    // The positions of a tenant's own fields change when they come and go.
    for number in module.numbers() {
        hash.update(number.to_be_bytes());
    }
    let hash = hash.finalize();
    std::array::from_fn(|index| hash[index])
}
