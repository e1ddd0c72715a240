//! Fields that a tenant adds to the modules, and modules of its own.
//!
//! A custom field is declared as any field is and behaves like one: rules, filters, orders, search,
//! aggregates, import and export, events and plugins see no difference. Its values lie in the
//! record's column `custom`. Since records of before have no value, `required` holds for records to
//! come only; and no search index knows it, so that a tenant that has a custom field searched has
//! its records read one by one.
//!
//! It may be a reference to one record of any module of the tenant's. No foreign key holds what it
//! refers to: the write that names a record locks it, and a removal asks in its transaction which
//! references there are by then, so that whoever removes does not have to know of them.
//!
//! It may be computed of other fields, the application's and the tenant's, and then nothing is kept
//! of it; or copied from what a reference names. What it is made of stays until it is removed.
//!
//! A state machine of a tenant's own module may name any of its fields: such a field stays, and
//! stays what the machine needs it to be, until the machine is changed.
//!
//! A rule of a role is about the field that its author meant, never about a later one of the same
//! name: a field that a condition asks of stays until the role is changed, and no field is declared
//! by a name that a role still has of one that is gone. So it is with modules and denials. What API
//! keys and plugins are allowed ends with what it names, and nothing new is called so until those
//! keys are revoked or have ended, and those plugins are disabled.
//!
//! A removed field is gone at once, its values stay: declared again, it has them again. Purging
//! them is a step of its own. A removed reference is purged before its name is declared again, for
//! nobody watched over what it refers to meanwhile.

mod check;
mod index;
mod machine;
mod made;
mod module;
mod named;
mod purge;
mod rows;
mod tenant;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::crm::Core;
use crate::db::Tx;
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::journal;
use crate::module::{CompiledModule, FieldSpec, FieldType, Ident};
use crate::scope::{Permit, Read, Scope, Update};

#[cfg(test)]
pub(crate) use check::declaration as check_declaration;
pub(crate) use index::create_indexes;
pub use module::{CustomModules, MAX_MODULES, ModuleChange};
pub(crate) use tenant::TenantModules;

/// Most custom fields of one module and tenant, removed ones counted until they are purged.
pub const MAX_FIELDS: usize = 100;
/// Most custom fields of one tenant in all.
pub const MAX_FIELDS_OF_TENANT: usize = 1_000;
/// Most custom fields of one module and tenant that lists may be ordered by or that are unique.
pub const MAX_INDEXED: usize = 32;

/// The object of the permissions asked for here, and the entity of the audit rows.
const OBJECT: &str = "modules";

/// A field that a tenant declared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CustomField {
    /// What its values are kept under.
    pub(crate) number: u64,
    /// The declaration.
    pub spec: FieldSpec,
    /// Whether an index serves its order; without one a list sorts the tenant's records.
    pub indexed: bool,
    /// When it was declared first.
    pub created_at: DateTime<Utc>,
    /// When it was removed, with values that are not purged yet.
    pub removed_at: Option<DateTime<Utc>>,
}

/// The changes of a custom field; `None` leaves a value as it is.
#[derive(Debug, Clone, Default)]
pub struct FieldChange {
    /// One sentence for the documentation.
    pub description: Option<String>,
    /// Whether records to come must have a value.
    pub required: Option<bool>,
    /// The value of records that leave the field out, or `Some(None)` for none.
    pub default: Option<Option<Json>>,
    /// The values of an enum: those of before, and further ones.
    pub values: Option<Vec<String>>,
}

/// The custom fields of the tenant that a permit is for.
#[derive(Clone)]
pub struct CustomFields {
    core: Arc<Core>,
}

impl CustomFields {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// The custom fields of a module in the order of their declaration, removed ones too.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such module.
    pub async fn list(&self, permit: &Permit<Read>, module: &str) -> Result<Vec<CustomField>> {
        let scope = permit.on(OBJECT)?;
        let module = scope.module(module).ok_or(Error::NotFound)?;
        let rows = rows::of_module(scope.tenant(), module.name());
        let rows = self.core.db.fetch_all(rows).await?;
        rows.into_iter()
            .map(|row| rows::parse(row).map(|(_, field)| field))
            .collect()
    }

    /// Adds a field to a module, or brings back a removed one with its values.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a declaration that breaks a rule; [`Error::Conflict`]
    /// `already_exists`, `too_many_fields`, `too_many_indexes`, `field_not_purged` for a name whose
    /// removed field had other values, and `still_named` for one that roles or plugins have of a field
    /// that is gone.
    pub async fn declare(
        &self,
        permit: &Permit<Update>,
        module: &str,
        spec: FieldSpec,
    ) -> Result<CustomField> {
        let write = self.write(permit, module)?;
        check::target(&write.scope, write.module.spec(), &spec)?;
        let tenant = write.tenant();
        self.core
            .policy
            .write(tenant, |tx| Box::pin(write.declare(tx, spec)))
            .await
    }

    /// Changes what a field says of records to come.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the module has no such custom field; [`Error::Invalid`] for what
    /// breaks a rule, such as an enum that loses a value; [`Error::Conflict`] `named_by_machine` for
    /// what a state machine of the module cannot go on with, such as states that are not required,
    /// and `named_by_field` for values that a copy of it cannot take.
    pub async fn change(
        &self,
        permit: &Permit<Update>,
        module: &str,
        name: &str,
        change: FieldChange,
    ) -> Result<CustomField> {
        let write = self.write(permit, module)?;
        let (tenant, name) = (write.tenant(), name.to_owned());
        self.core
            .policy
            .write(tenant, |tx| Box::pin(write.change(tx, name, change)))
            .await
    }

    /// Takes a field out of use; its values stay until they are purged.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the module has no such custom field; [`Error::Conflict`]
    /// `still_named` while a condition of a role is about it, `named_by_machine` while a state
    /// machine of the module names it, and `named_by_field` while another field is made of it.
    pub async fn remove(&self, permit: &Permit<Update>, module: &str, name: &str) -> Result<()> {
        let write = self.write(permit, module)?;
        let (tenant, name) = (write.tenant(), name.to_owned());
        self.core
            .policy
            .write(tenant, |tx| Box::pin(write.remove(tx, name)))
            .await
    }

    fn write(&self, permit: &Permit<Update>, module: &str) -> Result<Write> {
        let scope = permit.on(OBJECT)?.clone();
        let module = scope.module(module).ok_or(Error::NotFound)?.clone();
        Ok(Write { scope, module })
    }
}

/// The inside of a transaction that holds the lock on the tenant's policy.
#[derive(Clone)]
struct Write {
    scope: Scope,
    module: Arc<CompiledModule>,
}

impl Write {
    fn tenant(&self) -> TenantId {
        self.scope.tenant()
    }

    fn name(&self) -> &Ident {
        self.module.name()
    }

    async fn declare(self, tx: &mut Tx<'_>, spec: FieldSpec) -> Result<CustomField> {
        let fields = self.fields(tx).await?;
        let module = self.check(tx, &fields, &spec).await?;
        self.check_copy(tx, module.fields(), &spec).await?;
        let before = fields.iter().find(|field| field.spec.name == spec.name);
        let mut field = match before {
            Some(field) if field.removed_at.is_none() => {
                return Err(Error::conflict(
                    "already_exists",
                    format!("{} has a custom field {} already", self.name(), spec.name),
                ));
            }
            Some(field) => {
                check::returns(&field.spec, &spec)?;
                // Nothing is kept of it, so that it may come back as another one under its name.
                if field.spec.computed.is_some() && field.spec.computed != spec.computed {
                    named::refuse_field(tx, &self.scope, self.name(), &spec.name).await?;
                }
                field.clone()
            }
            None => {
                check::room(fields.len(), rows::count(tx, self.tenant()).await?)?;
                named::refuse_field(tx, &self.scope, self.name(), &spec.name).await?;
                CustomField {
                    number: rows::new_number(tx, self.tenant(), 0).await?,
                    spec: spec.clone(),
                    indexed: false,
                    created_at: self.scope.clock().now(),
                    removed_at: None,
                }
            }
        };
        field.spec = spec;
        field.removed_at = None;
        field.indexed = self.index(tx, &fields, &field).await?;
        rows::put(tx, self.tenant(), self.name(), &field).await?;
        self.audit(tx, "modules.update", before, Some(&field))
            .await?;
        Ok(field)
    }

    /// Holds a declaration against the rules, beside the fields of the module as they are now.
    /// Answers the module without it.
    async fn check(
        &self,
        tx: &mut Tx<'_>,
        fields: &[CustomField],
        spec: &FieldSpec,
    ) -> Result<Arc<CompiledModule>> {
        let others = fields
            .iter()
            .filter(|field| field.removed_at.is_none() && field.spec.name != spec.name);
        let others: Vec<_> = others.cloned().collect();
        let module = self.module.extended(&others, tx.dialect());
        let others: Vec<_> = others.into_iter().map(|field| field.spec).collect();
        let checked = check::declaration(&module, &others, spec);
        let is_known =
            |field: &CustomField| field.removed_at.is_none() && field.spec.name == spec.name;
        match fields.iter().any(is_known) {
            true => check::beside_name(checked)?,
            false => checked?,
        }
        made::condition(&module, spec)?;
        self.check_target(tx, spec).await?;
        Ok(module)
    }

    /// Refuses a reference to a module that is gone since the scope was made.
    async fn check_target(&self, tx: &mut Tx<'_>, spec: &FieldSpec) -> Result<()> {
        let registry = &self.scope.core().registry;
        let mut targets = spec.kind.targets().iter();
        let Some(target) = targets.find(|target| registry.get(target.as_str()).is_none()) else {
            return Ok(());
        };
        for row in tx.fetch_all(rows::modules(self.tenant())).await? {
            if rows::parse_module(row)?.name == *target {
                return Ok(());
            }
        }
        Err(check::unknown_module(target))
    }

    async fn change(
        self,
        tx: &mut Tx<'_>,
        name: String,
        change: FieldChange,
    ) -> Result<CustomField> {
        let before = self.in_use(tx, &name).await?;
        let mut after = before.clone();
        if let Some(description) = change.description {
            after.spec.description = description;
        }
        if let Some(required) = change.required {
            after.spec.required = required;
        }
        if let Some(default) = change.default {
            after.spec.default = default;
        }
        if let Some(new) = change.values {
            let FieldType::Enum { values } = &mut after.spec.kind else {
                let message = "only a field of type enum has values";
                return Err(Error::invalid("values", "not_supported", message));
            };
            check::extends(values, &new)?;
            *values = new;
        }
        let fields = self.fields(tx).await?;
        self.check(tx, &fields, &after.spec).await?;
        if after == before {
            return Ok(before);
        }
        self.keep_machines(tx, &fields, &after.spec).await?;
        self.keep_copies(tx, &after.spec).await?;
        rows::put(tx, self.tenant(), self.name(), &after).await?;
        self.audit(tx, "modules.update", Some(&before), Some(&after))
            .await?;
        Ok(after)
    }

    /// Refuses a change of a field that a state machine of the module could not go on with.
    async fn keep_machines(
        &self,
        tx: &mut Tx<'_>,
        fields: &[CustomField],
        changed: &FieldSpec,
    ) -> Result<()> {
        if !self.module.is_tenants() {
            return Ok(());
        }
        let in_use = fields.iter().filter(|field| field.removed_at.is_none());
        let before: Vec<_> = in_use.map(|field| field.spec.clone()).collect();
        let after = before.iter().map(|field| match field.name == changed.name {
            true => changed.clone(),
            false => field.clone(),
        });
        let after = after.collect();
        let declared = self.declared(tx).await?;
        machine::refuse_broken(
            &module::with(&declared, before),
            &module::with(&declared, after),
        )
    }

    async fn remove(self, tx: &mut Tx<'_>, name: String) -> Result<()> {
        let field = self.in_use(tx, &name).await?;
        if self.module.is_tenants() {
            machine::refuse_named(&self.declared(tx).await?, &field.spec.name)?;
        }
        self.refuse_made_of(tx, &field.spec.name).await?;
        self.take_out(tx, field).await
    }

    async fn take_out(self, tx: &mut Tx<'_>, before: CustomField) -> Result<()> {
        named::refuse_asked(tx, self.tenant(), self.name(), &before.spec.name).await?;
        let after = CustomField {
            indexed: false,
            removed_at: Some(self.scope.clock().now()),
            ..before.clone()
        };
        self.unindex(tx, &before).await?;
        rows::put(tx, self.tenant(), self.name(), &after).await?;
        self.audit(tx, "modules.update", Some(&before), Some(&after))
            .await
    }

    async fn fields(&self, tx: &mut Tx<'_>) -> Result<Vec<CustomField>> {
        let rows = tx
            .fetch_all(rows::of_module(self.tenant(), self.name()))
            .await?;
        rows.into_iter()
            .map(|row| rows::parse(row).map(|(_, field)| field))
            .collect()
    }

    async fn in_use(&self, tx: &mut Tx<'_>, name: &str) -> Result<CustomField> {
        let fields = self.fields(tx).await?.into_iter();
        let mut in_use = fields.filter(|field| field.removed_at.is_none());
        in_use
            .find(|field| field.spec.name.as_str() == name)
            .ok_or(Error::NotFound)
    }

    async fn audit(
        &self,
        tx: &mut Tx<'_>,
        action: &str,
        before: Option<&CustomField>,
        after: Option<&CustomField>,
    ) -> Result<()> {
        let name = after.or(before).map(|field| &field.spec.name);
        let id = name.map(|name| format!("{}.{name}", self.name()));
        let (before, after) = (before.map(state), after.map(state));
        journal::audit(tx, &self.scope, action, (OBJECT, id), before, after).await
    }
}

/// A field as the audit log keeps it.
fn state(field: &CustomField) -> Json {
    json!({"declaration": field.spec, "removed": field.removed_at.is_some()})
}

#[cfg(test)]
mod tests;
