//! The judgement on a declaration: everything that is wrong with it, at once, with places.
//!
//! What passes here has a table on both databases. References to other modules are the registry's
//! to resolve, since they need all modules at hand.

mod flags;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use super::{FieldSpec, FieldType, Ident, ModuleSpec, SearchMode, email, rule};
use crate::error::{Error, FieldError, Result};
use crate::record::MaxAge;
use crate::value::Value;

/// Most fields of a module.
pub const MAX_FIELDS: usize = 200;
/// Most declared indexes of a module, beside those of its fields.
pub const MAX_INDEXES: usize = 32;

const MAX_INDEX_FIELDS: usize = 8;
const MAX_DUPLICATE_KEYS: usize = 8;
const MAX_TEXT: u32 = 100_000;
const MAX_ENUM_VALUES: usize = 250;
/// Most bytes of one index entry: PostgreSQL's B-tree takes 2,704, the rest is for tenant and id.
const MAX_INDEX_BYTES: usize = 2_500;

/// Tables of the library itself.
const TABLES: [&str; 64] = [
    "tenants",
    "users",
    "memberships",
    "roles",
    "role_assignments",
    "policy_rules",
    "policy_epochs",
    "refresh_families",
    "refresh_tokens",
    "api_keys",
    "setup_tokens",
    "modules",
    "audit_log",
    "audit_unsealed",
    "audit_seals",
    "erased_tenants",
    "outbox",
    "leases",
    "plugins",
    "plugin_components",
    "plugin_runs",
    "plugin_versions",
    "plugin_keys",
    "plugin_settings",
    "plugin_run_details",
    "plugin_usage",
    "plugin_kv",
    "plugin_secrets",
    "plugin_ticks",
    "plugin_jobs",
    "plugin_hook_secrets",
    "plugin_messages",
    "jobs",
    "job_chunks",
    "job_errors",
    "idempotency_keys",
    "custom_modules",
    "custom_fields",
    "custom_records",
    "record_counts",
    "serials",
    "session_epochs",
    "signing_keys",
    "login_failures",
    "user_groups",
    "user_group_members",
    "user_group_roles",
    "user_group_records",
    "user_tokens",
    "invitations",
    "mails",
    "totp_factors",
    "recovery_codes",
    "login_challenges",
    "operators",
    "tenant_settings",
    "passkey_handles",
    "passkeys",
    "passkey_ceremonies",
    "identity_providers",
    "user_identities",
    "spent_logins",
    "pending_registrations",
    "crm_migrations",
];

/// Path segments and permission prefixes of the library itself, present and foreseen.
const SEGMENTS: [&str; 17] = [
    "auth",
    "me",
    "members",
    "audit",
    "health",
    "docs",
    "openapi",
    "events",
    "access",
    "hooks",
    "jobs",
    "files",
    "search",
    "groups",
    "service_accounts",
    "platform",
    "impersonations",
];

/// Prefixes that the databases keep for themselves.
const PREFIXES: [&str; 2] = ["sqlite_", "pg_"];

/// Columns that every module's table has.
pub const SYSTEM_FIELDS: [&str; 6] = [
    "id",
    "tenant_id",
    "version",
    "owner_id",
    "created_at",
    "updated_at",
];

/// The column of every module's table that holds the values of tenants' own fields.
pub(crate) const CUSTOM: &str = "custom";
/// The column of modules with a trash.
pub(crate) const DELETED_AT: &str = "deleted_at";

/// Words of filters, and of the query strings in which conditions on fields stand beside them.
pub const QUERY_WORDS: [&str; 21] = [
    "limit", "cursor", "sort", "fields", "expand", "search", "q", "count", "filter", "and", "or",
    "not", "page", "per_page", "max_age", "format", "metrics", "group_by", "field", "without",
    "sum",
];

/// Whether a module may be called so.
pub fn is_module_name(name: &str) -> bool {
    let reserved = TABLES.contains(&name) || SEGMENTS.contains(&name) || name == "records";
    name.parse::<Ident>().is_ok()
        && !reserved
        && !PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Checks a declaration by itself.
///
/// # Errors
/// [`Error::Invalid`] with every problem, each pointing into the declaration (`/fields/3/max`).
pub fn check(spec: &ModuleSpec) -> Result<()> {
    let mut problems = Problems(vec![]);
    module_name(spec, &mut problems);
    fields(spec, &mut problems);
    // Nothing is stored of what is computed: for indexes and states it is not there.
    let mut stored = spec.clone();
    stored.fields.retain(|field| field.computed.is_none());
    indexes(&stored, &mut problems);
    problems.0.extend(super::money::check(spec));
    duplicates(&stored, &mut problems);
    problems.0.extend(super::machine::check(&stored));
    flags::machines(spec, &mut problems);
    flags::key(spec, &mut problems);
    parent(spec, &mut problems);
    problems.0.extend(super::computed::check(spec));
    problems.0.extend(super::copied::check(spec));
    if problems.0.is_empty() {
        problems.0.extend(super::computed::check_conditions(spec));
    }
    indexed_search(spec, &mut problems);
    aggregate_ttl(spec, &mut problems);
    if problems.0.is_empty() {
        Ok(())
    } else {
        Err(Error::Invalid(problems.0))
    }
}

/// Every field, by itself and beside the others.
fn fields(spec: &ModuleSpec, problems: &mut Problems) {
    if spec.fields.is_empty() {
        problems.add(
            "/fields",
            "required",
            "a module declares at least one field",
        );
    }
    if spec.fields.len() > MAX_FIELDS {
        let message = format!("a module declares at most {MAX_FIELDS} fields");
        problems.add("/fields", "too_many", message);
    }
    let mut seen = HashSet::new();
    for (position, field) in spec.fields.iter().enumerate() {
        let place = format!("/fields/{position}");
        field_name(field, &place, problems);
        if spec.soft_delete && field.name.as_str() == DELETED_AT {
            let message = format!("`{DELETED_AT}` is reserved: the trash needs it");
            problems.add(&format!("{place}/name"), "reserved", message);
        }
        if !seen.insert(&field.name) {
            let message = format!("the name `{}` is taken by an earlier field", field.name);
            problems.add(&format!("{place}/name"), "duplicate", message);
        }
        rules(field, &place, problems);
        abilities(field, &place, problems);
        flags::check(field, &place, problems);
        default(field, &place, problems);
        if let Some(message) = super::on_delete::problem(field) {
            problems.add(&format!("{place}/on_delete"), "not_supported", message);
        }
        if field.required && field.kind.has_key() && field.kind.targets().contains(&spec.name) {
            let message = format!(
                "`{}` refers to its own module: the first record could never be \
                                   made; make it optional",
                field.name
            );
            problems.add(&format!("{place}/required"), "not_supported", message);
        }
    }
}

/// How many seconds figures may be kept.
fn aggregate_ttl(spec: &ModuleSpec, problems: &mut Problems) {
    if let Some(seconds) = spec
        .aggregate_ttl
        .filter(|ttl| !(1..=MaxAge::MOST).contains(ttl))
    {
        let message = format!(
            "{seconds} seconds: give a number from 1 to {}",
            MaxAge::MOST
        );
        problems.add("/aggregate_ttl", "out_of_range", message);
    }
}

/// A parent is one record of another module.
fn parent(spec: &ModuleSpec, problems: &mut Problems) {
    let Some(parent) = &spec.parent else { return };
    let field = spec.fields.iter().find(|field| field.name == *parent);
    match field.map(|field| &field.kind) {
        Some(FieldType::Reference { module, .. }) if *module != spec.name => {}
        Some(_) => {
            let message = format!("`{parent}` is no reference to one record of another module");
            problems.add("/parent", "not_supported", message);
        }
        None => {
            let message = format!("`{parent}` is no field of this module");
            problems.add("/parent", "unknown_field", message);
        }
    }
}

struct Problems(Vec<FieldError>);

impl Problems {
    fn add(&mut self, pointer: &str, code: &'static str, message: impl Into<String>) {
        let pointer = pointer.to_owned();
        self.0.push(FieldError {
            pointer,
            code,
            message: message.into(),
        });
    }
}

fn module_name(spec: &ModuleSpec, problems: &mut Problems) {
    let name = spec.name.as_str();
    if TABLES.contains(&name) || SEGMENTS.contains(&name) {
        let message = format!("`{name}` is taken by the library; choose another name");
        problems.add("/name", "reserved", message);
    }
    if let Some(prefix) = PREFIXES.into_iter().find(|prefix| name.starts_with(prefix)) {
        let message = format!("names that begin with `{prefix}` belong to the database");
        problems.add("/name", "reserved", message);
    }
}

fn field_name(field: &FieldSpec, place: &str, problems: &mut Problems) {
    let name = field.name.as_str();
    let reason = if SYSTEM_FIELDS.contains(&name) {
        "every record has it already; leave it out"
    } else if name == CUSTOM {
        "tenants' own fields are kept under it; choose another name"
    } else if QUERY_WORDS.contains(&name) {
        "it is a word of the query string; choose another name"
    } else {
        return;
    };
    problems.add(
        &format!("{place}/name"),
        "reserved",
        format!("`{name}` is reserved: {reason}"),
    );
}

/// The bounds that a type's own rules must keep.
fn rules(field: &FieldSpec, place: &str, problems: &mut Problems) {
    let name = &field.name;
    let mut bounds = |key: &str, value: u32, min: u32, max: u32| {
        if !(min..=max).contains(&value) {
            let message = format!("`{key}` of `{name}` must be between {min} and {max}");
            problems.add(&format!("{place}/{key}"), "out_of_range", message);
        }
    };
    match &field.kind {
        FieldType::Text { min, max } | FieldType::LongText { min, max } => {
            bounds("max", *max, 1, MAX_TEXT);
            bounds("min", *min, 1, MAX_TEXT);
        }
        FieldType::Decimal {
            precision, scale, ..
        }
        | FieldType::Money {
            precision, scale, ..
        } => {
            bounds("precision", *precision, 1, rule::MAX_PRECISION);
            bounds("scale", *scale, 0, (*precision).min(rule::MAX_PRECISION));
        }
        FieldType::Tags {
            max_items,
            max_length,
        } => {
            bounds("max_items", *max_items, 1, 1_000);
            bounds("max_length", *max_length, 1, 255);
        }
        FieldType::Json { max_bytes } => bounds("max_bytes", *max_bytes, 2, 1_048_576),
        FieldType::Vector { dimensions } => {
            bounds("dimensions", *dimensions, 1, super::vector::MAX_DIMENSIONS);
        }
        FieldType::Enum { values } => enum_values(values, place, problems),
        FieldType::Email
        | FieldType::Phone
        | FieldType::Url
        | FieldType::Currency
        | FieldType::Integer { .. }
        | FieldType::Bool
        | FieldType::Instant(_)
        | FieldType::Date(_)
        | FieldType::Time(_)
        | FieldType::Zoned
        | FieldType::Uuid
        | FieldType::Reference { .. } => {}
        FieldType::References { max_items, .. } => bounds("max_items", *max_items, 1, 1_000),
        FieldType::AnyReference { modules, .. } => {
            if let Some((code, message)) = super::on_delete::refused_targets(name, modules) {
                problems.add(&format!("{place}/modules"), code, message);
            }
        }
    }
    if let Err((key, message)) = field.kind.check_bounds() {
        let message = format!("`{key}` of `{name}` {message}");
        problems.add(&format!("{place}/{key}"), "out_of_range", message);
    }
}

fn enum_values(values: &[String], place: &str, problems: &mut Problems) {
    let pointer = format!("{place}/values");
    if values.is_empty() || values.len() > MAX_ENUM_VALUES {
        let message = format!("an enum lists 1 to {MAX_ENUM_VALUES} values");
        problems.add(&pointer, "out_of_range", message);
    }
    let mut seen = HashSet::new();
    for (position, value) in values.iter().enumerate() {
        let pointer = format!("{pointer}/{position}");
        let plain = value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b" _.-".contains(&b));
        if !plain || value.trim() != value || !(1..=64).contains(&value.len()) {
            let message = format!(
                "{value:?} is not an enum value: use 1 to 64 of A-Z, a-z, 0-9, `_`, `.`, `-` and \
                 inner spaces"
            );
            problems.add(&pointer, "invalid", message);
        }
        if !seen.insert(value) {
            problems.add(&pointer, "duplicate", format!("{value:?} is listed twice"));
        }
    }
}

/// What a field of some type may be used for.
fn abilities(field: &FieldSpec, place: &str, problems: &mut Problems) {
    let (name, kind) = (&field.name, &field.kind);
    let mut refuse = |key: &str, types: &str| {
        let message = format!(
            "`{name}` is of type {}; only {types} can be `{key}`",
            kind.name()
        );
        problems.add(&format!("{place}/{key}"), "not_supported", message);
    };
    let keyed = matches!(
        kind,
        FieldType::Integer { .. } | FieldType::Uuid | FieldType::Reference { .. }
    );
    if field.unique && !(kind.is_text() && kind.is_ordered()) && !keyed {
        refuse(
            "unique",
            "text, email, phone, url, integer, uuid and reference",
        );
    }
    if field.search && !kind.is_text() && !matches!(kind, FieldType::Tags { .. }) {
        refuse("search", "text, long_text, email, phone, url and tags");
    }
    if field.sort && (!kind.is_ordered() || matches!(kind, FieldType::AnyReference { .. })) {
        refuse(
            "sort",
            "types other than long_text, zoned, tags, json, vector, references and any_reference",
        );
    }
    let key = if field.unique { "unique" } else { "sort" };
    if (field.unique || field.sort) && index_bytes(kind) > MAX_INDEX_BYTES {
        let message = format!(
            "`{name}` is too long for `{key}`: a text in an index has a `max` of \
                               at most {}",
            MAX_INDEX_BYTES / 4
        );
        problems.add(&format!("{place}/{key}"), "out_of_range", message);
    }
}

/// Most bytes that a value takes in an index entry.
fn index_bytes(kind: &FieldType) -> usize {
    match kind {
        // UTF-8 takes up to four bytes for a character.
        FieldType::Text { max, .. } => usize::try_from(*max)
            .unwrap_or(usize::MAX)
            .saturating_mul(4),
        FieldType::Email => email::MAX_LEN,
        FieldType::Url => rule::URL_MAX,
        FieldType::Phone | FieldType::Enum { .. } => 64,
        FieldType::AnyReference { .. } => rule::MAX_SUBJECT,
        _ => 16,
    }
}

fn default(field: &FieldSpec, place: &str, problems: &mut Problems) {
    let Some(json) = &field.default else { return };
    let problem = match rule::from_json(&field.kind, json.clone()) {
        _ if field.kind.is_reference() => {
            ("not_supported", "a reference has no default".to_owned())
        }
        _ if matches!(field.kind, FieldType::Vector { .. }) => {
            ("not_supported", "a vector has no default".to_owned())
        }
        Ok(Value::Null) => (
            "invalid",
            "a default is a value; leave it out instead".to_owned(),
        ),
        Ok(_) => return,
        Err(refusal) => (
            refusal.code,
            format!("the default of `{}` {}", field.name, refusal.message),
        ),
    };
    problems.add(&format!("{place}/default"), problem.0, problem.1);
}

fn indexed_search(spec: &ModuleSpec, problems: &mut Problems) {
    if spec.search != SearchMode::Indexed {
        return;
    }
    let mut searched = spec.fields.iter().filter(|field| field.search).peekable();
    if searched.peek().is_none() {
        let message = "an indexed search needs a field that is searched: give one `search = true`";
        problems.add("/search", "required", message);
    }
    if let Some(tags) = searched.find(|field| matches!(field.kind, FieldType::Tags { .. })) {
        let message = format!(
            "`{}` is of type tags, which an indexed search cannot read; leave out its `search`, or \
             the module's",
            tags.name
        );
        problems.add("/search", "not_supported", message);
    }
}

fn indexes(spec: &ModuleSpec, problems: &mut Problems) {
    if spec.indexes.len() > MAX_INDEXES {
        let message = format!("a module declares at most {MAX_INDEXES} indexes");
        problems.add("/indexes", "too_many", message);
    }
    let mut seen = HashSet::new();
    for (position, index) in spec.indexes.iter().enumerate() {
        let place = format!("/indexes/{position}");
        if index.is_empty() || index.len() > MAX_INDEX_FIELDS {
            let message = format!("an index lists 1 to {MAX_INDEX_FIELDS} fields");
            problems.add(&place, "out_of_range", message);
        }
        if !seen.insert(index) {
            problems.add(&place, "duplicate", "the same index is declared above");
        }
        index_fields(spec, index, &place, problems);
    }
}

fn duplicates(spec: &ModuleSpec, problems: &mut Problems) {
    if spec.duplicates.len() > MAX_DUPLICATE_KEYS {
        let message = format!("a module declares at most {MAX_DUPLICATE_KEYS} keys of duplicates");
        problems.add("/duplicates", "too_many", message);
    }
    for (position, key) in spec.duplicates.iter().enumerate() {
        let place = format!("/duplicates/{position}");
        if key.is_empty() || key.len() > MAX_INDEX_FIELDS {
            let message = format!("a key lists 1 to {MAX_INDEX_FIELDS} fields");
            problems.add(&place, "out_of_range", message);
        }
        if spec.duplicates[..position].contains(key) {
            problems.add(&place, "duplicate", "the same key is declared above");
        }
        index_fields(spec, key, &place, problems);
    }
}

fn index_fields(spec: &ModuleSpec, index: &[Ident], place: &str, problems: &mut Problems) {
    let mut bytes = 0_usize;
    for (position, name) in index.iter().enumerate() {
        let pointer = format!("{place}/{position}");
        if index[..position].contains(name) {
            problems.add(
                &pointer,
                "duplicate",
                format!("`{name}` stands in the index twice"),
            );
        }
        match spec.fields.iter().find(|field| field.name == *name) {
            None => {
                let message = format!("`{name}` is not a declared field of {}", spec.name);
                problems.add(&pointer, "unknown_field", message);
            }
            Some(field) if !field.kind.is_ordered() => {
                let message = format!(
                    "`{name}` is of type {}, which has no order",
                    field.kind.name()
                );
                problems.add(&pointer, "not_supported", message);
            }
            Some(field) => bytes = bytes.saturating_add(index_bytes(&field.kind)),
        }
    }
    if bytes > MAX_INDEX_BYTES {
        let message = format!(
            "the texts of one index add up to a `max` of at most {}",
            MAX_INDEX_BYTES / 4
        );
        problems.add(place, "out_of_range", message);
    }
}
