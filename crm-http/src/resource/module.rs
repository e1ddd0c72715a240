//! The modules as the tenant has them: fields of its own, and modules of its own.

use crm_core::custom::{CustomField, FieldChange, ModuleChange};
use crm_core::module::{CompiledModule, FIELD_FLAGS, FIELD_TYPES, FieldSpec, Ident, ModuleSpec};
use crm_core::{Create, Crm, DataLoss, Delete, Error, FieldError, Read, Update};
use poem::Request;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::types::{Any, MaybeUndefined, ToJSON as _, Type as _};
use poem_openapi::{Object, OpenApi};
use serde_json::{Value, json};

use crate::credential::Caller;
use crate::edge::Exchange;
use crate::payload::Strict;
use crate::problem::Problem;
use crate::wire::{Created, Instant, NoContent, Tag};

use super::module_machine::{MachineBody, machine_specs, other_machines};

/// The operations on modules.
pub(crate) struct Modules {
    pub(crate) crm: Crm,
}

/// A module as the tenant has it.
#[derive(Object)]
#[oai(rename = "Module")]
struct ModuleReply {
    /// Its name: path segment and permission prefix.
    name: String,
    /// The name of one record.
    singular: String,
    /// What it is about.
    description: String,
    /// Whether the tenant declared it.
    is_custom: bool,
    /// Whether deleted records go to its trash, from where they can be restored.
    soft_delete: bool,
    /// The declarations of its fields.
    fields: Vec<Any<Value>>,
    /// The declarations of its state machines.
    machines: Vec<Any<Value>>,
}

/// The modules of the tenant.
#[derive(Object)]
#[oai(rename = "ModuleList")]
struct ModuleList {
    /// All of them, those of the application first.
    data: Vec<ModuleReply>,
}

/// A new module.
#[derive(Object)]
#[oai(rename = "ModuleCreate", deny_unknown_fields)]
struct ModuleBody {
    /// Its name in the plural: path segment and permission prefix, such as `visits`.
    #[oai(validator(max_length = 48))]
    name: String,
    /// The name of one record, such as `visit`.
    #[oai(validator(max_length = 48))]
    singular: String,
    /// What it is about.
    #[oai(default, validator(max_length = 1000))]
    description: String,
    /// Whether deleted records go to a trash, from where they can be restored.
    #[oai(default)]
    soft_delete: bool,
    /// Its fields.
    #[oai(validator(max_items = 100))]
    fields: Vec<FieldBody>,
    /// The state machines of its enum fields.
    #[oai(validator(max_items = 100))]
    machines: Option<Vec<MachineBody>>,
}

/// Changes of a module; absent members stay.
#[derive(Object)]
#[oai(rename = "ModuleUpdate", deny_unknown_fields)]
struct ModuleChangeBody {
    /// What it is about.
    #[oai(validator(max_length = 1000))]
    description: Option<String>,
    /// All its state machines: they take the place of those of before, and `[]` of all of them. Null is
    /// refused.
    #[oai(validator(max_items = 100))]
    machines: MaybeUndefined<Vec<MachineBody>>,
}

/// A new field. Which rules it takes depends on its type.
#[derive(Object)]
#[oai(rename = "ModuleFieldCreate", deny_unknown_fields)]
struct FieldBody {
    /// Its name in records.
    #[oai(validator(max_length = 48))]
    name: String,
    /// `text`, `long_text`, `email`, `phone`, `url`, `integer`, `decimal`, `money`, `currency`,
    /// `bool`, `instant`, `date`, `time`, `zoned`, `uuid`, `enum`, `tags`, `json` or `reference`, as in
    /// the declaration of a module.
    #[oai(rename = "type", validator(max_length = 48))]
    kind: String,
    /// One sentence for the documentation.
    #[oai(validator(max_length = 1000))]
    description: Option<String>,
    /// Whether records to come must have a value.
    required: Option<bool>,
    /// Whether its values are unique in the tenant.
    unique: Option<bool>,
    /// Whether the search looks at it.
    search: Option<bool>,
    /// Whether lists may be ordered by it.
    sort: Option<bool>,
    /// Whether only the application sets it.
    read_only: Option<bool>,
    /// Whether it is given when a record is made, and never changed.
    immutable: Option<bool>,
    /// Whether it is stored and never shown.
    write_only: Option<bool>,
    /// Of a text: whether it compares without ASCII case.
    ignore_case: Option<bool>,
    /// Of a text: how it is made of other fields whenever a record is read, such as
    /// `{first_name} {last_name}`. Of a bool: a condition on them, such as
    /// `{"done": false, "due": {"lt": "today"}}`. Nothing is kept of it.
    computed: Option<Any<Value>>,
    /// The reference and the field there that it is copied from whenever the reference gets another
    /// value, such as `company_id.region`. You need to read that field of every record there.
    #[oai(validator(max_length = 97))]
    copied: Option<String>,
    /// The value of records that leave it out.
    default: Option<Any<Value>>,
    /// The smallest value; of a text: fewest characters.
    min: Option<Any<Value>>,
    /// The largest value; of a text: most characters.
    max: Option<Any<Value>>,
    /// Of a decimal or money: digits in all.
    precision: Option<u32>,
    /// Of a decimal or money: digits after the point.
    scale: Option<u32>,
    /// Of money: its currency.
    #[oai(validator(max_length = 3))]
    currency: Option<String>,
    /// Of money: the declared field that holds its currency.
    #[oai(validator(max_length = 48))]
    currency_field: Option<String>,
    /// Of an enum: the values.
    #[oai(validator(max_items = 250))]
    values: Option<Vec<String>>,
    /// Of tags: most entries.
    max_items: Option<u32>,
    /// Of tags: most characters of an entry.
    max_length: Option<u32>,
    /// Of JSON: most bytes.
    max_bytes: Option<u32>,
    /// Of a reference: the module referred to, one of the application's or of the tenant's own.
    #[oai(validator(max_length = 48))]
    module: Option<String>,
    /// Of a reference: what becomes of the record when the other one is deleted: `restrict`, which
    /// is that it cannot be, `cascade` or `set_null`.
    #[oai(validator(max_length = 8))]
    on_delete: Option<String>,
}

/// Whether this is the schema of a field's change.
pub(crate) fn is_field_change(schema: &str) -> bool {
    FieldChangeBody::name() == schema
}

/// Whether the declaration of a field may have this member.
pub(crate) fn is_declared(member: &str) -> bool {
    let mut keys = FIELD_TYPES.iter().flat_map(|word| word.keys);
    let mut flags = FIELD_FLAGS.iter().map(|(flag, _)| flag);
    ["name", "type"].contains(&member)
        || keys.any(|key| *key == member)
        || flags.any(|flag| *flag == member)
}

/// Changes of a field; absent members stay.
#[derive(Object)]
#[oai(rename = "ModuleFieldUpdate", deny_unknown_fields)]
struct FieldChangeBody {
    /// One sentence for the documentation.
    #[oai(validator(max_length = 1000))]
    description: Option<String>,
    /// Whether records to come must have a value.
    required: Option<bool>,
    /// The value of records that leave it out; null for none.
    #[oai(nullable)]
    default: MaybeUndefined<Any<Value>>,
    /// Of an enum: its values and further ones.
    #[oai(validator(max_items = 250))]
    values: Option<Vec<String>>,
}

/// A field that the tenant added to a module.
#[derive(Object)]
#[oai(rename = "ModuleField")]
struct FieldReply {
    /// Its name in records.
    name: String,
    /// The declaration, as it was made.
    declaration: Any<Value>,
    /// Whether an index serves its order; without one lists by it read all records.
    indexed: bool,
    created_at: Instant,
    /// When it was removed, with values that can still be purged or brought back.
    #[oai(nullable)]
    removed_at: Option<Instant>,
}

/// The fields that the tenant added to a module.
#[derive(Object)]
#[oai(rename = "ModuleFieldList")]
struct FieldList {
    /// All of them in the order of their declaration, removed ones too.
    data: Vec<FieldReply>,
}

/// What a purge did, or would do.
#[derive(Object)]
#[oai(rename = "ModuleFieldPurge")]
struct Purged {
    /// How many records had a value.
    purged_records: u64,
}

/// What the end of a module did, or would do.
#[derive(Object)]
#[oai(rename = "ModuleDestroyed")]
struct Destroyed {
    /// How many records were destroyed.
    destroyed_records: u64,
}

#[OpenApi(prefix_path = "/api/v1/modules", tag = "Tag::Modules")]
impl Modules {
    /// List modules
    ///
    /// Permission: `modules.read`.
    #[oai(path = "/", method = "get", operation_id = "list_modules")]
    async fn list(&self, caller: Caller) -> Result<Json<ModuleList>, Problem> {
        caller.permit::<Read>("modules")?;
        Ok(Json(ModuleList {
            data: caller
                .modules()
                .map(|module| module.as_ref().into())
                .collect(),
        }))
    }

    /// Get a module
    ///
    /// Permission: `modules.read`.
    #[oai(path = "/:module", method = "get", operation_id = "get_module")]
    async fn get(
        &self,
        caller: Caller,
        module: Path<String>,
    ) -> Result<Json<ModuleReply>, Problem> {
        caller.permit::<Read>("modules")?;
        let module = caller.module(&module.0).ok_or(Error::NotFound)?;
        Ok(Json(module.as_ref().into()))
    }

    /// Declare a module
    ///
    /// Its operations are there at once, for whoever gets its permissions, and in the document that
    /// callers of the tenant are answered at `/openapi.json`. Its state machines log to no other module,
    /// and it has no further indexes. Refused as `still_named` while roles, API keys or enabled plugins
    /// name a module of this name that is gone. Permission: `modules.create`.
    #[oai(path = "/", method = "post", operation_id = "create_module")]
    async fn create(
        &self,
        caller: Caller,
        request: &Request,
        body: Strict<ModuleBody>,
    ) -> Result<Created<ModuleReply>, Problem> {
        let permit = caller.permit::<Create>("modules")?;
        let spec = module_spec(body.0)?;
        let candidate = CompiledModule::new(spec.clone(), 0)?;
        Exchange::of(request)?
            .app
            .openapi
            .refuse_taken(&caller, &candidate)?;
        let reply = ModuleReply {
            is_custom: true,
            ..ModuleReply::from(&candidate)
        };
        self.crm.custom_modules().create(&permit, spec).await?;
        Ok(Created(reply))
    }

    /// Change a module
    ///
    /// Only modules that the tenant declared. New state machines hold for every write from then on; no
    /// record is touched: one keeps a state that none begins in any more, leaves it by the new edges, and
    /// what its state needs by now is asked of its next change. Permission: `modules.update`.
    #[oai(path = "/:module", method = "patch", operation_id = "update_module")]
    async fn update(
        &self,
        caller: Caller,
        module: Path<String>,
        body: Strict<ModuleChangeBody>,
    ) -> Result<Json<ModuleReply>, Problem> {
        let permit = caller.permit::<Update>("modules")?;
        let body = body.0;
        let change = ModuleChange {
            description: body.description,
            machines: other_machines(body.machines)?,
        };
        let modules = self.crm.custom_modules();
        let changed = modules.change(&permit, &module.0, change).await?;
        Ok(Json(changed.as_ref().into()))
    }

    /// Delete a module
    ///
    /// Only modules that the tenant declared. Refused as `module_in_use` while a field of another
    /// module refers to it, as `still_named` while a role denies something on it, and as
    /// `module_not_empty` while there are records, unless `destroy_data=true` says that they go with
    /// it. `dry_run=true` only tells how many they are. Permission: `modules.delete`.
    #[oai(path = "/:module", method = "delete", operation_id = "delete_module")]
    async fn delete(
        &self,
        caller: Caller,
        module: Path<String>,
        /// Whether the module's records are destroyed.
        destroy_data: Query<Option<bool>>,
        /// Whether the records are counted and everything stays.
        dry_run: Query<Option<bool>>,
    ) -> Result<Json<Destroyed>, Problem> {
        let permit = caller.permit::<Delete>("modules")?;
        let loss = match destroy_data.0 {
            Some(true) => DataLoss::Accepted,
            _ => DataLoss::Refused,
        };
        let modules = self.crm.custom_modules();
        let destroyed_records = match dry_run.0 {
            Some(true) => modules.destroyable(&permit, &module.0).await?,
            _ => modules.delete(&permit, &module.0, loss).await?,
        };
        Ok(Json(Destroyed { destroyed_records }))
    }

    /// List a module's custom fields
    ///
    /// Permission: `modules.read`.
    #[oai(
        path = "/:module/fields",
        method = "get",
        operation_id = "list_module_fields"
    )]
    async fn fields(
        &self,
        caller: Caller,
        module: Path<String>,
    ) -> Result<Json<FieldList>, Problem> {
        let permit = caller.permit::<Read>("modules")?;
        let fields = self.crm.custom_fields().list(&permit, &module.0).await?;
        Ok(Json(FieldList {
            data: fields.into_iter().map(FieldReply::from).collect(),
        }))
    }

    /// Add a field to a module
    ///
    /// A removed field of the same name comes back with its values; a removed reference is purged first,
    /// and so are values in the place of which others are to be computed or copied.
    /// Permission: `modules.update`.
    #[oai(
        path = "/:module/fields",
        method = "post",
        operation_id = "create_module_field"
    )]
    async fn declare(
        &self,
        caller: Caller,
        module: Path<String>,
        request: &Request,
        body: Strict<FieldBody>,
    ) -> Result<Created<FieldReply>, Problem> {
        let permit = caller.permit::<Update>("modules")?;
        let known = caller.module(&module.0).ok_or(Error::NotFound)?;
        let spec = field_spec(body.0)?;
        Exchange::of(request)?
            .app
            .openapi
            .refuse_taken_values(&caller, known, &spec)?;
        let fields = self.crm.custom_fields();
        let field = fields.declare(&permit, &module.0, spec).await?;
        Ok(Created(field.into()))
    }

    /// Change a custom field
    ///
    /// Refused as `named_by_machine` where a state machine of the module could not go on, and as
    /// `named_by_field` where a copy of it could not take its values. Permission: `modules.update`.
    #[oai(
        path = "/:module/fields/:name",
        method = "patch",
        operation_id = "update_module_field"
    )]
    async fn change(
        &self,
        caller: Caller,
        module: Path<String>,
        name: Path<String>,
        body: Strict<FieldChangeBody>,
    ) -> Result<Json<FieldReply>, Problem> {
        let permit = caller.permit::<Update>("modules")?;
        let body = body.0;
        let change = FieldChange {
            description: body.description,
            required: body.required,
            default: match body.default {
                MaybeUndefined::Undefined => None,
                MaybeUndefined::Null => Some(None),
                MaybeUndefined::Value(Any(default)) => Some(Some(default)),
            },
            values: body.values,
        };
        let fields = self.crm.custom_fields();
        let field = fields.change(&permit, &module.0, &name.0, change).await?;
        Ok(Json(field.into()))
    }

    /// Remove a custom field
    ///
    /// It is gone at once; its values stay until they are purged. Refused as `still_named` while a
    /// condition of a role is about it, as `named_by_machine` while a state machine of the module names
    /// it, and as `named_by_field` while another field is computed or copied of it.
    /// Permission: `modules.update`.
    #[oai(
        path = "/:module/fields/:name",
        method = "delete",
        operation_id = "delete_module_field"
    )]
    async fn remove(
        &self,
        caller: Caller,
        module: Path<String>,
        name: Path<String>,
    ) -> Result<NoContent, Problem> {
        let permit = caller.permit::<Update>("modules")?;
        let fields = self.crm.custom_fields();
        fields.remove(&permit, &module.0, &name.0).await?;
        Ok(NoContent)
    }

    /// Purge a removed field's values
    ///
    /// They are gone for good; `dry_run=true` only tells of how many records. Permission: `modules.delete`.
    #[oai(
        path = "/:module/fields/:name/purge",
        method = "post",
        operation_id = "purge_module_field"
    )]
    async fn purge(
        &self,
        caller: Caller,
        module: Path<String>,
        name: Path<String>,
        /// Whether the values are counted and stay.
        dry_run: Query<Option<bool>>,
    ) -> Result<Json<Purged>, Problem> {
        let permit = caller.permit::<Delete>("modules")?;
        let fields = self.crm.custom_fields();
        let purged_records = match dry_run.0 {
            Some(true) => fields.purgeable(&permit, &module.0, &name.0).await?,
            _ => fields.purge(&permit, &module.0, &name.0).await?,
        };
        Ok(Json(Purged { purged_records }))
    }
}

/// The body as the declaration it is.
///
/// # Errors
/// Those of [`FieldSpec::of_tenant`].
fn field_spec(body: FieldBody) -> Result<FieldSpec, Error> {
    let Some(Value::Object(mut members)) = body.to_json() else {
        return Err(Error::internal("a field's declaration is an object"));
    };
    members.retain(|_, value| !value.is_null());
    FieldSpec::of_tenant(members)
}

fn module_spec(body: ModuleBody) -> Result<ModuleSpec, Problem> {
    let mut refused = Vec::new();
    for (member, name) in [("name", &body.name), ("singular", &body.singular)] {
        if let Err(error) = name.parse::<Ident>() {
            refused.push(FieldError::new(member, "invalid", error.to_string()));
        }
    }
    let mut fields = Vec::with_capacity(body.fields.len());
    for (position, field) in body.fields.into_iter().enumerate() {
        match field_spec(field).map_err(|error| error.under(&format!("/fields/{position}"))) {
            Ok(field) => fields.push(field),
            Err(Error::Invalid(errors)) => refused.extend(errors),
            Err(error) => return Err(error.into()),
        }
    }
    let machines = match machine_specs(body.machines.unwrap_or_default()) {
        Err(Error::Invalid(errors)) => {
            refused.extend(errors);
            Vec::new()
        }
        machines => machines?,
    };
    if !refused.is_empty() {
        return Err(Error::Invalid(refused).into());
    }
    let json = json!({
        "name": body.name, "singular": body.singular, "description": body.description,
        "soft_delete": body.soft_delete, "fields": fields, "machines": machines,
    });
    Ok(serde_json::from_value(json).map_err(Error::internal)?)
}

impl From<&CompiledModule> for ModuleReply {
    fn from(module: &CompiledModule) -> Self {
        let declarations = module
            .fields()
            .iter()
            .chain(module.computed())
            .map(|field| Any(json!(field)));
        let machines = module.spec().machines.iter();
        Self {
            name: module.name().to_string(),
            singular: module.singular().to_string(),
            description: module.spec().description.clone(),
            is_custom: module.is_tenants(),
            soft_delete: module.spec().soft_delete,
            fields: declarations.collect(),
            machines: machines.map(|machine| Any(json!(machine))).collect(),
        }
    }
}

impl From<CustomField> for FieldReply {
    fn from(field: CustomField) -> Self {
        Self {
            name: field.spec.name.to_string(),
            declaration: Any(json!(field.spec)),
            indexed: field.indexed,
            created_at: field.created_at.into(),
            removed_at: field.removed_at.map(Instant::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use poem_openapi::registry::Registry;
    use poem_openapi::types::Type as _;

    use super::*;

    #[test]
    fn a_body_takes_every_key_of_a_declaration_that_a_tenants_field_can_have() {
        // Tenants' fields refer to records of one module, and are no vectors.
        const NOT_TAKEN: [&str; 2] = ["modules", "dimensions"];
        // Serde lists what it knows.
        let refused = serde_json::from_value::<FieldSpec>(json!({"?": 1})).unwrap_err();
        let text = refused.to_string();
        let known = text.split('`').skip(3).step_by(2);
        let mut registry = Registry::new();
        FieldBody::register(&mut registry);
        let schema = &registry.schemas["ModuleFieldCreate"];
        let taken: Vec<&str> = schema.properties.iter().map(|(name, _)| *name).collect();
        let missing: Vec<&str> = known
            .filter(|key| !NOT_TAKEN.contains(key) && !taken.contains(key))
            .collect();
        assert_eq!(missing, [""; 0], "{text}");
    }
}
