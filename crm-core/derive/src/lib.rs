//! `#[derive(Module)]`: a struct's fields as the declaration of a module.
//!
//! It translates and judges nothing but its own syntax: the declaration it writes is checked with
//! all others when the registry is built. The words and their meaning are those of the TOML form.

mod attribute;
mod expand;
mod kind;

/// Declares a module by a struct with named fields.
///
/// ```text
/// /// A person you deal with.
/// #[derive(Serialize, Deserialize, Module)]
/// #[module(name = "contacts", singular = "contact", search = "indexed",
///     indexes = [["status", "name"]])]
/// struct Contact {
///     #[field(search, sort)]
///     name: String,
///     #[field(email, unique)]
///     email: Option<String>,
///     #[field(values = ["lead", "active"], default = "lead")]
///     status: String,
///     #[field(references = "companies")]
///     company_id: Option<RecordId>,
///     #[field(precision = 12, scale = 2)]
///     budget: Option<Decimal>,
/// }
/// ```
///
/// | Rust type | field type | words of `#[field(…)]` |
/// |---|---|---|
/// | `String` | text | `max` |
/// | `String` | email, phone | `email`, `phone` |
/// | any with `values` | enum | `values = ["a", "b"]` |
/// | `i64` and narrower integers | integer, bounded as the Rust type is | `min`, `max` |
/// | `Decimal` | decimal | `precision`, `scale` (both needed) |
/// | `bool` | bool | |
/// | `DateTime<Utc>` | instant | |
/// | `NaiveDate` | date | |
/// | `Vec<String>` | tags | `max_items`, `max_length` |
/// | `Value` (of serde_json) | json | `max_bytes` |
/// | `RecordId`, `Uuid` | reference | `references = "companies"` (needed), `on_delete = "cascade"` |
/// | `Vec<RecordId>`, `Vec<Uuid>` | references | as a reference, `max_items`, `required` |
/// | `String` | any_reference | `references_any = ["contacts", "deals"]`, `on_delete` |
///
/// Every type takes `unique`, `search`, `sort`, `default = …` and `description = "…"`. A field is
/// required unless its type is an `Option`. Documentation comments become descriptions.
///
/// What has no word here, such as state machines, is added by a function:
/// `#[module(…, with = finish)]` calls `fn finish(spec: ModuleSpec) -> ModuleSpec`.
#[proc_macro_derive(Module, attributes(module, field))]
pub fn derive_module(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let expanded = syn::parse(input).and_then(|input| expand::module(&input));
    expanded
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}
