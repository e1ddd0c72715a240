//! Records as types of their own: a struct for each module, with its fields, which knows what was
//! changed since it was read.
//!
//! `crm plugin types contacts --lang rust` writes the [`record!`](crate::record!) of a module from
//! its declaration:
//!
//! ```ignore
//! use crm_plugin_sdk::{Event, Record, Result, plugin, record};
//!
//! record! {
//!     /// A person you deal with.
//!     pub struct Contact in contacts {
//!         name: String,
//!         score: i64,
//!     }
//! }
//!
//! fn score(event: Event) -> Result {
//!     let mut contact = Contact::get(&event.record_id)?;
//!     contact.score = Some(7);
//!     contact.save()?; // writes the score, unless somebody has written to the contact since
//!     Ok(())
//! }
//!
//! plugin!(handle = score);
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::records::{Page, Query};
use crate::{Error, Field, fields, records};

/// A record of one module, as [`record!`](crate::record!) declares it.
///
/// Each field is absent where the record has no value, and where the plugin may not read it.
pub trait Record: Serialize + DeserializeOwned {
    /// The module's plural name.
    const MODULE: &'static str;

    #[doc(hidden)]
    fn known(&self) -> (&str, i64, &Stored);

    #[doc(hidden)]
    fn stored_mut(&mut self) -> &mut Stored;

    /// The record in what an event or a change carries; without any, an empty one.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] when the fields are those of another module.
    fn of(fields: Option<&[Field]>) -> Result<Self, Error> {
        let mut record: Self = fields::read(fields.unwrap_or_default())?;
        record.stored_mut().0 = fields::object(&record)?;
        Ok(record)
    }

    /// The record with this id.
    ///
    /// # Errors
    ///
    /// As [`records::get`].
    fn get(id: &str) -> Result<Self, Error> {
        Self::of(Some(&records::get_fields(Self::MODULE, id)?))
    }

    /// A page of records.
    ///
    /// # Errors
    ///
    /// As [`records::list`].
    fn list(query: &Query) -> Result<Page<Self>, Error> {
        let page = records::list_fields(Self::MODULE, query)?;
        let records = page.records.iter().map(|record| Self::of(Some(record)));
        Ok(Page {
            records: records.collect::<Result<_, _>>()?,
            next_cursor: page.next_cursor,
        })
    }

    /// What was set since it was read, as an object: for [`verdict::amend`](crate::verdict::amend).
    ///
    /// # Errors
    ///
    /// [`Error::Json`].
    fn changes(&self) -> Result<Value, Error> {
        let mut values = fields::object(self)?;
        let (_, _, Stored(stored)) = self.known();
        values.retain(|name, value| stored.get(name).unwrap_or(&Value::Null) != value);
        Ok(Value::Object(values))
    }

    /// Makes a record of these values, and answers it as stored.
    ///
    /// # Errors
    ///
    /// As [`records::create`].
    fn create(&self) -> Result<Self, Error> {
        let values = fields::write(&self.changes()?)?;
        Self::of(Some(&records::create_fields(Self::MODULE, &values)?))
    }

    /// Writes what was set since it was read, and is the record as stored then. Nothing set,
    /// nothing written.
    ///
    /// # Errors
    ///
    /// As [`records::update_version`]: [`Error::Conflict`] when somebody has written to the record
    /// since.
    fn save(&mut self) -> Result<(), Error> {
        let changes = fields::write(&self.changes()?)?;
        if changes.is_empty() {
            return Ok(());
        }
        let (id, version, _) = self.known();
        let stored = records::update_fields(Self::MODULE, id, Some(version), &changes)?;
        *self = Self::of(Some(&stored))?;
        Ok(())
    }

    /// Deletes the record, unless somebody has written to it since it was read.
    ///
    /// # Errors
    ///
    /// As [`records::delete`].
    fn delete(self) -> Result<(), Error> {
        let (id, version, _) = self.known();
        records::delete(Self::MODULE, id, Some(version))
    }
}

/// What a record was when it was read.
#[doc(hidden)]
#[derive(Debug, Clone, Default)]
pub struct Stored(Map<String, Value>);

/// Two records are the same that have the same values, whatever they had before.
impl PartialEq for Stored {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Declares the struct of a module's records, which is a [`Record`]: its id, version, owner and
/// times, and an `Option` for each field.
#[macro_export]
macro_rules! record {
    (
        $(#[$about:meta])*
        $visible:vis struct $name:ident in $module:ident {
            $( $(#[$field_about:meta])* $field:ident: $type:ty ),* $(,)?
        }
    ) => {
        $(#[$about])*
        #[derive(
            Debug, Clone, Default, PartialEq, $crate::serde::Serialize, $crate::serde::Deserialize
        )]
        #[serde(crate = "::crm_plugin_sdk::serde", default)]
        $visible struct $name {
            /// Empty before the record is made.
            #[serde(skip_serializing)]
            pub id: ::std::string::String,
            /// Grows with every change.
            #[serde(skip_serializing)]
            pub version: i64,
            /// RFC 3339 in UTC.
            #[serde(skip_serializing)]
            pub created_at: ::std::string::String,
            /// RFC 3339 in UTC.
            #[serde(skip_serializing)]
            pub updated_at: ::std::string::String,
            /// The user whose record it is.
            pub owner_id: ::core::option::Option<::std::string::String>,
            $( $(#[$field_about])* pub $field: ::core::option::Option<$type>, )*
            #[doc(hidden)]
            #[serde(skip)]
            pub __stored: $crate::record::Stored,
        }

        impl $crate::Record for $name {
            const MODULE: &'static str = ::core::stringify!($module);

            fn known(&self) -> (&str, i64, &$crate::record::Stored) {
                (&self.id, self.version, &self.__stored)
            }

            fn stored_mut(&mut self) -> &mut $crate::record::Stored {
                &mut self.__stored
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    crate::record! {
        /// Somebody.
        struct Contact in contacts {
            name: String,
            score: i64,
            tags: Vec<String>,
            r#type: String,
        }
    }

    fn ada() -> Contact {
        let values = json!({
            "id": "7", "version": 3, "name": "Ada", "score": null, "tags": ["vip"],
            "type": "lead", "field_of_a_later_day": 1,
        });
        Contact::of(Some(&fields::write(&values).unwrap())).unwrap()
    }

    #[test]
    fn a_record_knows_what_was_set_since_it_was_read() {
        let mut ada = ada();
        assert_eq!((ada.id.as_str(), ada.version), ("7", 3));
        assert_eq!(ada.changes().unwrap(), json!({}));
        ada.score = Some(7);
        ada.name = None;
        assert_eq!(ada.changes().unwrap(), json!({ "score": 7, "name": null }));
        assert_eq!(ada.r#type.as_deref(), Some("lead"));
    }

    #[test]
    fn a_new_record_has_what_was_given() {
        let contact = Contact {
            name: Some("Ada".to_owned()),
            ..Contact::default()
        };
        assert_eq!(contact.changes().unwrap(), json!({ "name": "Ada" }));
        assert_eq!(Contact::MODULE, "contacts");
        assert_eq!(Contact::of(None).unwrap(), Contact::default());
    }
}
