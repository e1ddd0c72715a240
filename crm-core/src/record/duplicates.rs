//! Duplicates: groups of records that agree in all fields of a key that the module declares.
//!
//! Texts agree without regard to the case of ASCII letters; they are stored without surrounding
//! spaces. Records without a value in one of the fields are nobody's duplicate.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};

use super::reach;
use super::{Field, Record, Records};
use crate::db::record::ignores_case;
use crate::error::{Error, Result};
use crate::id::RecordId;
use crate::module::CompiledModule;
use crate::module::input::from_json_filter;
use crate::scope::{Permit, Read};
use crate::value::Value;

/// Most groups of a page.
const MOST_GROUPS: u32 = 100;
/// Records that are shown of a group.
const SHOWN: u32 = 20;

/// Records that share the values of a key.
#[derive(Debug, Clone, Serialize)]
pub struct Duplicates {
    /// The shared values, as they compare.
    pub key: SharedKey,
    /// How many share them.
    pub count: u64,
    /// The oldest of them, at most 20.
    pub records: Vec<Record>,
}

/// Fields with the values that several records have in them.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedKey(Vec<(String, Value)>);

impl SharedKey {
    /// Name and value of each field.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl Serialize for SharedKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// A page of groups.
#[derive(Debug, Clone, Serialize)]
pub struct DuplicatesPage {
    /// The groups, key by key as they are declared, in the order of the values.
    pub data: Vec<Duplicates>,
    /// Where the next page begins; `None` at the end.
    pub next_cursor: Option<String>,
}

/// The place behind a group.
#[derive(Serialize, Deserialize)]
struct Place {
    /// The declared keys, which it is bound to.
    d: Vec<Vec<String>>,
    /// Which of them.
    k: usize,
    v: Vec<serde_json::Value>,
}

impl Records {
    /// Groups of records that the permit covers and that are duplicates by a declared key.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a module that declares none, [`Error::Invalid`] for a limit that is
    /// not 1 to 100 and for the cursor of another list.
    pub async fn duplicates(
        &self,
        permit: &Permit<Read>,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<DuplicatesPage> {
        let module = permit.module()?;
        if module.duplicates().is_empty() {
            return Err(Error::NotFound);
        }
        if !(1..=MOST_GROUPS).contains(&limit) {
            let message = format!("must be between 1 and {MOST_GROUPS}");
            return Err(Error::invalid("limit", "out_of_range", message));
        }
        let tenant = permit.tenant();
        let statements = self.core.statements(module);
        let (first, mut behind) = match cursor {
            Some(cursor) => decode(module, cursor)?,
            None => (0, None),
        };
        let mut found: Vec<(usize, Vec<Value>, u64)> = Vec::new();
        let wanted = limit as usize + 1;
        for (number, key) in module.duplicates().iter().enumerate().skip(first) {
            let missing = (wanted - found.len()) as u32;
            let behind = behind.take();
            // Keys that the caller may not read make no groups.
            let Ok(permit) = permit.to_ask(key.iter().map(|at| Field::Declared(*at))) else {
                continue;
            };
            let reach = permit.reach();
            let sql = statements.shared_values(tenant, reach, key, behind.as_deref(), missing);
            for mut row in self.core.db.fetch_all(sql).await? {
                let values = key.iter().map(|_| row.next()).collect();
                found.push((number, values, row.int::<i64>()?.unsigned_abs()));
            }
            if found.len() == wanted {
                break;
            }
        }
        let more = found.len() == wanted;
        found.truncate(limit as usize);
        let next_cursor = match found.last() {
            Some((number, values, _)) if more => Some(encode(module, *number, values)?),
            _ => None,
        };
        let mut data = Vec::with_capacity(found.len());
        for (number, values, count) in found {
            let shared = (module.duplicates()[number].as_slice(), values.as_slice());
            let permit = permit.to_ask(shared.0.iter().map(|at| Field::Declared(*at)))?;
            data.push(Duplicates {
                key: named(module, shared),
                count,
                records: self.sharing(&permit, shared, None).await?,
            });
        }
        Ok(DuplicatesPage { data, next_cursor })
    }

    /// The duplicates of one record that the permit covers: a group for each key by which it has
    /// some, without itself.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a module that declares no keys, and for a record that is absent or not
    /// covered.
    pub async fn duplicates_of(
        &self,
        permit: &Permit<Read>,
        id: RecordId,
    ) -> Result<Vec<Duplicates>> {
        let module = permit.module()?;
        if module.duplicates().is_empty() {
            return Err(Error::NotFound);
        }
        let record = self.get(permit, id).await?;
        let tenant = permit.tenant();
        let statements = self.core.statements(module);
        let mut groups = Vec::new();
        for key in module.duplicates() {
            let values: Vec<Value> = key.iter().map(|at| compared(&record, *at)).collect();
            if values.iter().any(Value::is_null) {
                continue;
            }
            let shared = (key.as_slice(), values.as_slice());
            let Ok(permit) = permit.to_ask(key.iter().map(|at| Field::Declared(*at))) else {
                continue;
            };
            // The record itself is none of those in which the key may be read.
            if !reach::covers(&self.core, &permit, &record).await? {
                continue;
            }
            let sql = statements.count_sharing(tenant, permit.reach(), shared, Some(id));
            let row = self.core.db.fetch_optional(sql).await?;
            let count = row
                .map_or(Ok(0), |mut row| row.int::<i64>())?
                .unsigned_abs();
            if count == 0 {
                continue;
            }
            groups.push(Duplicates {
                key: named(module, shared),
                count,
                records: self.sharing(&permit, shared, Some(id)).await?,
            });
        }
        Ok(groups)
    }

    /// Some of the records that the permit covers and that share these values.
    async fn sharing(
        &self,
        permit: &Permit<Read>,
        shared: (&[usize], &[Value]),
        but: Option<RecordId>,
    ) -> Result<Vec<Record>> {
        let module = permit.module()?;
        let statements = self.core.statements(module);
        let sql = statements.sharing(permit.tenant(), permit.reach(), shared, but, SHOWN);
        let rows = self.core.db.fetch_all(sql).await?;
        let records = rows.into_iter().map(|row| Record::from_row(module, row));
        let records = records.collect::<Result<_>>()?;
        self.seen(statements, permit, records).await
    }
}

/// The record's value as duplicates compare it.
fn compared(record: &Record, position: usize) -> Value {
    match &record.values[position] {
        Value::Text(text) if ignores_case(&record.module.fields()[position].kind) => {
            Value::Text(text.to_ascii_lowercase())
        }
        value => value.clone(),
    }
}

fn named(module: &CompiledModule, (key, values): (&[usize], &[Value])) -> SharedKey {
    let names = key.iter().map(|at| module.fields()[*at].name.to_string());
    SharedKey(names.zip(values.iter().cloned()).collect())
}

fn declared(module: &CompiledModule) -> Vec<Vec<String>> {
    let keys = module.spec().duplicates.iter();
    keys.map(|key| key.iter().map(ToString::to_string).collect())
        .collect()
}

fn encode(module: &CompiledModule, number: usize, values: &[Value]) -> Result<String> {
    let values = values.iter().map(serde_json::to_value);
    let place = Place {
        d: declared(module),
        k: number,
        v: values.collect::<Result<_, _>>().map_err(Error::internal)?,
    };
    let bytes = serde_json::to_vec(&place).map_err(Error::internal)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn decode(module: &CompiledModule, text: &str) -> Result<(usize, Option<Vec<Value>>)> {
    let refuse = || {
        Error::invalid(
            "cursor",
            "invalid_cursor",
            "this cursor belongs to another list; begin again without one",
        )
    };
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| refuse())?;
    let place: Place = serde_json::from_slice(&bytes).map_err(|_| refuse())?;
    let key = module.duplicates().get(place.k).ok_or_else(refuse)?;
    if place.d != declared(module) || place.v.len() != key.len() {
        return Err(refuse());
    }
    let values = key.iter().zip(&place.v);
    let values = values.map(|(at, json)| from_json_filter(&module.fields()[*at].kind, json));
    let values: Vec<Value> = values.collect::<Result<_, _>>().map_err(|_| refuse())?;
    match values.iter().any(Value::is_null) {
        true => Err(refuse()),
        false => Ok((place.k, Some(values))),
    }
}
