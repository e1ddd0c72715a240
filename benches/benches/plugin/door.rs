//! Doors of the bench: one contact, which every update leaves as it is.

use crm_core::Result;
use crm_core::hook::{Door, Fields};
use crm_core::id::RecordId;
use crm_core::value::Value;
use futures::FutureExt as _;
use futures::future::{BoxFuture, pending, ready};
use tokio::sync::Semaphore;

pub(crate) const CONTACT: &str = "0195f3a0-0000-7000-8000-000000000001";

pub(crate) struct OneContact(Fields);

impl OneContact {
    pub(crate) fn new() -> Self {
        let text = |text: &str| Value::Text(text.into());
        let contact = [
            ("id", Value::Uuid(CONTACT.parse().unwrap())),
            ("version", Value::Int(1)),
            ("owner_id", Value::Null),
            ("name", text("Ada")),
            ("email", text("ada@engines.example")),
            ("company", text("Engines")),
            ("job_title", text("Owner")),
            ("tags", Value::Tags(vec!["vip".into()])),
            ("score", Value::Null),
            ("status", text("lead")),
        ];
        Self(
            contact
                .map(|(name, value)| (name.to_owned(), value))
                .to_vec(),
        )
    }
}

impl Door for OneContact {
    fn get<'a>(&'a self, _: &'a str, _: RecordId) -> BoxFuture<'a, Result<Fields>> {
        ready(Ok(self.0.clone())).boxed()
    }

    fn update<'a>(
        &'a self,
        _: &'a str,
        _: RecordId,
        _: Option<i64>,
        _: Fields,
    ) -> BoxFuture<'a, Result<Fields>> {
        ready(Ok(self.0.clone())).boxed()
    }
}

/// Counts those who wait behind it, for ever.
pub(crate) struct Waiting(pub(crate) Semaphore);

impl Door for Waiting {
    fn get<'a>(&'a self, _: &'a str, _: RecordId) -> BoxFuture<'a, Result<Fields>> {
        self.0.add_permits(1);
        pending().boxed()
    }
}
