//! Modules declared as Rust types.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ModuleSpec;

/// A record of a module as a Rust type; `#[derive(Module)]` writes the declaration.
///
/// Serde's view of the type is its wire form: it must carry the declared field names.
pub trait Module: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The declaration.
    fn spec() -> ModuleSpec;
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
    use rust_decimal::Decimal;
    use serde::{Deserialize, Serialize};

    use crate::Module;
    use crate::id::RecordId;
    use crate::module::{Ident, ModuleSpec};

    /// One of everything,
    /// on one line.
    ///
    /// Not this.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Module)]
    #[module(
        name = "things",
        singular = "thing",
        indexes = [["title", "due"]],
        soft_delete,
        require_version,
        duplicates = [["email"], ["title", "due"]],
        aggregate_ttl = 30,
    )]
    struct Thing {
        /// First.
        #[field(max = 40, unique, search, sort)]
        title: String,
        #[field(read_only, ignore_case)]
        note: Option<String>,
        #[field(email, unique)]
        email: Option<String>,
        #[field(phone, immutable)]
        phone: std::option::Option<std::string::String>,
        #[field(default = -1)]
        points: i64,
        #[field(min = 0)]
        level: Option<u8>,
        #[field(precision = 12, scale = 2, default = "1.50")]
        amount: Decimal,
        #[field(required, default = false)]
        done: bool,
        #[field(sort)]
        seen_at: Option<DateTime<Utc>>,
        due: Option<NaiveDate>,
        #[field(values = ["new", "closed won"], default = "new")]
        stage: String,
        #[field(max_items = 3, max_length = 20, default = ["a", "b"])]
        tags: Vec<String>,
        #[field(max_bytes = 100, write_only, description = "Said.")]
        extra: Option<serde_json::Value>,
        #[field(references = "things")]
        parent_id: Option<RecordId>,
        r#type: Option<bool>,
        #[field(computed = "{title} {points}")]
        label: Option<String>,
        #[field(computed = r#"{"done": false, "due": {"lt": "today"}}"#)]
        late: Option<bool>,
        #[field(max = 40, copied = "parent_id.title")]
        parent: Option<String>,
        #[field(long_text, search, min = 2)]
        story: Option<String>,
        #[field(url, unique)]
        site: Option<String>,
        key: Option<uuid::Uuid>,
        #[field(min = "08:00", max = "17:30", sort)]
        opens: Option<NaiveTime>,
        #[field(min = "2020-01-01")]
        since: Option<NaiveDate>,
        #[field(precision = 5, scale = 2, min = "0.01", max = 100)]
        rate: Option<Decimal>,
        #[field(max = "2030-01-01T00:00:00Z")]
        until: Option<DateTime<Utc>>,
        #[field(zoned)]
        meets: Option<String>,
        #[field(dimensions = 3)]
        shape: Option<Vec<f32>>,
        #[field(currency, default = "EUR")]
        currency: Option<String>,
        #[field(currency_field = "currency")]
        price: Option<Decimal>,
        #[field(currency = "JPY", scale = 0, min = 0)]
        fee: Option<Decimal>,
        #[field(references = "things", on_delete = "set_null")]
        next_id: Option<RecordId>,
        #[field(references = "firms", on_delete = "cascade")]
        firm_id: Option<uuid::Uuid>,
        #[field(references = "things", max_items = 4)]
        friend_ids: Vec<RecordId>,
        #[field(references = "firms", required)]
        firm_ids: Vec<uuid::Uuid>,
        #[field(references = "firms", on_delete = "cascade")]
        rival_ids: Vec<RecordId>,
        #[field(references_any = ["things", "firms"])]
        subject: Option<String>,
        #[field(references_any = ["firms"], on_delete = "cascade")]
        source: String,
    }

    const ID: &str = "018f4e2a-7b6c-7d3e-9a1b-2c3d4e5f6071";

    const TOML: &str = r#"
        name = "things"
        singular = "thing"
        description = "One of everything, on one line."
        indexes = [["title", "due"]]
        soft_delete = true
        require_version = true
        duplicates = [["email"], ["title", "due"]]
        aggregate_ttl = 30
        fields = [
            { name = "title", type = "text", max = 40, required = true, unique = true, search = true, sort = true, description = "First." },
            { name = "note", type = "text", read_only = true, ignore_case = true },
            { name = "email", type = "email", unique = true },
            { name = "phone", type = "phone", immutable = true },
            { name = "points", type = "integer", required = true, default = -1 },
            { name = "level", type = "integer", min = 0, max = 255 },
            { name = "amount", type = "decimal", precision = 12, scale = 2, required = true, default = "1.50" },
            { name = "done", type = "bool", required = true, default = false },
            { name = "seen_at", type = "instant", sort = true },
            { name = "due", type = "date" },
            { name = "stage", type = "enum", values = ["new", "closed won"], required = true, default = "new" },
            { name = "tags", type = "tags", max_items = 3, max_length = 20, required = true, default = ["a", "b"] },
            { name = "extra", type = "json", max_bytes = 100, write_only = true, description = "Said." },
            { name = "parent_id", type = "reference", module = "things" },
            { name = "type", type = "bool" },
            { name = "label", type = "text", computed = "{title} {points}" },
            { name = "late", type = "bool", computed = { done = false, due = { lt = "today" } } },
            { name = "parent", type = "text", max = 40, copied = "parent_id.title" },
            { name = "story", type = "long_text", search = true, min = 2, max = 20_000 },
            { name = "site", type = "url", unique = true },
            { name = "key", type = "uuid" },
            { name = "opens", type = "time", min = "08:00:00", max = "17:30:00", sort = true },
            { name = "since", type = "date", min = "2020-01-01" },
            { name = "rate", type = "decimal", precision = 5, scale = 2, min = "0.01", max = "100.00" },
            { name = "until", type = "instant", max = "2030-01-01T00:00:00Z" },
            { name = "meets", type = "zoned" },
            { name = "shape", type = "vector", dimensions = 3 },
            { name = "currency", type = "currency", default = "EUR" },
            { name = "price", type = "money", currency_field = "currency" },
            { name = "fee", type = "money", precision = 18, scale = 0, currency = "JPY", min = "0" },
            { name = "next_id", type = "reference", module = "things", on_delete = "set_null" },
            { name = "firm_id", type = "reference", module = "firms", on_delete = "cascade" },
            { name = "friend_ids", type = "references", module = "things", max_items = 4 },
            { name = "firm_ids", type = "references", module = "firms", required = true },
            { name = "rival_ids", type = "references", module = "firms", on_delete = "cascade" },
            { name = "subject", type = "any_reference", modules = ["things", "firms"] },
            { name = "source", type = "any_reference", modules = ["firms"], on_delete = "cascade", required = true },
        ]
    "#;

    #[test]
    fn a_struct_a_toml_file_and_json_declare_the_same_module() {
        let toml = ModuleSpec::from_toml(TOML).unwrap();
        assert_eq!(Thing::spec(), toml);
        let json = serde_json::to_value(Thing::spec()).unwrap();
        assert_eq!(serde_json::from_value::<ModuleSpec>(json).unwrap(), toml);
        crate::module::check(&toml).unwrap();
    }

    #[test]
    fn what_a_create_stores_is_a_value_of_the_struct() {
        let module = crate::module::CompiledModule::new(Thing::spec(), 0).unwrap();
        let body = serde_json::json!({
            "title": "x", "seen_at": "2026-03-01T09:30:00+01:00", "opens": "09:30:00.25",
            "key": "C232AB00-9414-11EC-B3C8-9F6BDECED846",
            "shape": [0.1, 2, -0.5], "price": "12.5", "firm_ids": [ID], "friend_ids": [ID],
            "rival_ids": [ID], "firm_id": ID, "source": format!("firms/{ID}"),
        });
        let tenant = crate::id::TenantId(uuid::Uuid::nil());
        let body = body.as_object().cloned().unwrap();
        let input = crate::module::input::create(&module, tenant, body).unwrap();
        let names = module.fields().iter().map(|field| field.name.to_string());
        let wire = names.zip(input.values.iter().map(|value| serde_json::json!(value)));
        let thing: Thing =
            serde_json::from_value(serde_json::Value::Object(wire.collect())).unwrap();
        assert_eq!(
            (thing.points, thing.done, thing.stage.as_str()),
            (-1, false, "new")
        );
        assert_eq!(thing.amount, Decimal::new(150, 2));
        assert_eq!(thing.opens, NaiveTime::from_hms_milli_opt(9, 30, 0, 250));
        assert!(thing.key.is_some());
        assert_eq!(thing.shape, Some(vec![0.1, 2.0, -0.5]));
        assert_eq!(thing.price, Some(Decimal::new(1_250, 2)));
        assert_eq!(thing.currency.as_deref(), Some("EUR"));
        assert_eq!(thing.tags, ["a", "b"]);
        let id: uuid::Uuid = ID.parse().unwrap();
        assert_eq!((thing.firm_id, thing.next_id), (Some(id), None));
        assert_eq!(
            (thing.firm_ids, thing.friend_ids),
            (vec![id], vec![RecordId(id)])
        );
        assert_eq!((thing.source, thing.subject), (format!("firms/{ID}"), None));
        assert_eq!(thing.rival_ids, [RecordId(id)]);
        assert_eq!(
            thing.seen_at.unwrap().to_rfc3339(),
            "2026-03-01T08:30:00+00:00"
        );
    }

    #[test]
    #[should_panic(expected = "start with a letter")]
    fn a_name_in_the_program_is_checked() {
        let _ = Ident::from_static("1st");
    }
}
