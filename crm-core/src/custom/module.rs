//! Modules that a tenant declares for itself.
//!
//! Their records share one table of the library, and all their fields are custom fields, so that
//! neither a new module nor a new field makes a table. Permissions, audit, events, endpoints and
//! everything else follow from the declaration as for any module, and a trash and state machines
//! where it says so. Lists of references, logs of state machines, indexes over several fields and
//! an indexed search belong to modules that the application declares.

mod change;

use std::sync::Arc;

use serde_json::json;

use super::index::drop_all;
use super::{CustomField, OBJECT, Write, check, machine, named, rows};
use crate::count::told;
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, FieldError, Result};
use crate::id::TenantId;
use crate::journal;
use crate::module::{CompiledModule, FieldSpec, Ident, ModuleSpec};
use crate::role;
use crate::schema::DataLoss;
use crate::scope::{Create, Delete, Permit, Scope};

pub use change::ModuleChange;
pub(super) use change::with;

/// Most modules that one tenant declares.
pub const MAX_MODULES: usize = 50;
/// Records deleted in one transaction.
const BATCH: u64 = 1_000;
/// What a tenant declares of a module.
const KNOWN: [&str; 6] = [
    "name",
    "singular",
    "description",
    "soft_delete",
    "fields",
    "machines",
];

/// The modules that the tenant of a permit declared.
#[derive(Clone)]
pub struct CustomModules {
    core: Arc<Core>,
}

impl CustomModules {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Declares a module; its permissions can be given to roles from then on.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a declaration that breaks a rule, or that only the application can
    /// make, such as the log of a state machine; [`Error::Conflict`] `already_exists` for a name in
    /// use, `still_named` for that of a module that is gone and that roles, API keys or plugins still
    /// name, and `too_many_modules`, `too_many_fields`, `too_many_indexes`.
    pub async fn create(&self, permit: &Permit<Create>, spec: ModuleSpec) -> Result<()> {
        let scope = permit.on(OBJECT)?.clone();
        let mut empty = spec.clone();
        let fields = std::mem::take(&mut empty.fields);
        let module =
            CompiledModule::of_tenant(empty, &[], self.core.db.dialect(), &self.core.clock);
        judge(&scope, &spec, &module)?;
        let write = Write { scope, module };
        self.core
            .policy
            .write(write.tenant(), |tx| Box::pin(write.create(tx, fields)))
            .await
    }

    /// Ends a module with its fields and records, and what roles allow on it; answers how many
    /// records there were.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the tenant declared no such module; [`Error::Conflict`]
    /// `module_in_use` while a field of another module refers to it, `still_named` while a role
    /// denies something on it, and `module_not_empty` while it has records, without consent to their
    /// loss.
    pub async fn delete(&self, permit: &Permit<Delete>, name: &str, loss: DataLoss) -> Result<u64> {
        let write = Self::ending(permit, name)?;
        let tenant = write.tenant();
        let destroyed = match loss {
            DataLoss::Accepted => self.destroy(&write).await?,
            DataLoss::Refused => 0,
        };
        self.core
            .policy
            .write(tenant, move |tx| Box::pin(write.delete(tx, destroyed)))
            .await?;
        Ok(destroyed)
    }

    /// How many records a [`delete`](Self::delete) would destroy; it destroys none.
    ///
    /// # Errors
    /// Those of the delete, but for `module_not_empty`.
    pub async fn destroyable(&self, permit: &Permit<Delete>, name: &str) -> Result<u64> {
        let write = Self::ending(permit, name)?;
        let left = self
            .core
            .db
            .write(move |tx| Box::pin(write.destroyable(tx)));
        left.await
    }

    /// The end of a module that the tenant declared.
    pub(super) fn ending(permit: &Permit<Delete>, name: &str) -> Result<Write> {
        let scope = permit.on(OBJECT)?.clone();
        let module = own(&scope, name)?;
        Ok(Write { scope, module })
    }

    /// Deletes all records, some at a time; answers how many.
    async fn destroy(&self, write: &Write) -> Result<u64> {
        let (tenant, module, mut destroyed) = (write.tenant(), &write.module, 0);
        let cut = write.clone();
        self.core
            .policy
            .write(tenant, |tx| Box::pin(cut.cut(tx)))
            .await?;
        loop {
            let module = module.clone();
            let batch = self.core.db.write(move |tx| {
                Box::pin(async move {
                    // A module of this name that is declared again has figures of its own.
                    tx.touch(tenant, module.name());
                    let count = tx.execute(some(tenant, &module)).await?;
                    // Behind the delete, which waited for whoever referred to one of these.
                    refuse_referred(tx, tenant, module.name()).await?;
                    Ok(count)
                })
            });
            let count = batch.await?;
            destroyed += count;
            if count < BATCH {
                return Ok(destroyed);
            }
        }
    }
}

/// The module called `name`, where the tenant declared it.
fn own(scope: &Scope, name: &str) -> Result<Arc<CompiledModule>> {
    let module = scope.module(name).filter(|module| module.is_tenants());
    module.cloned().ok_or(Error::NotFound)
}

/// Refuses the end of a module that a field of another one refers to.
async fn refuse_referred(tx: &mut Tx<'_>, tenant: TenantId, module: &Ident) -> Result<()> {
    let Some(mut row) = tx.fetch_optional(rows::referring(tenant, module)).await? else {
        return Ok(());
    };
    let (by, field): (String, String) = (row.text()?, row.text()?);
    let message = format!("{by} ({field}) refers to records of {module}; remove that field first");
    Err(Error::conflict("module_in_use", message))
}

/// Holds a declaration against the rules of modules, and those of tenants' modules.
fn judge(scope: &Scope, spec: &ModuleSpec, module: &CompiledModule) -> Result<()> {
    let mut problems = match crate::module::check(spec) {
        Err(Error::Invalid(problems)) => problems,
        checked => {
            checked?;
            Vec::new()
        }
    };
    for (position, field) in spec.fields.iter().enumerate() {
        let place = format!("/fields/{position}");
        let checked = check::declaration(module, &spec.fields, field);
        let checked = checked.and_then(|()| check::target(scope, spec, field));
        match checked.map_err(|error| error.under(&place)) {
            Err(Error::Invalid(found)) => {
                let known: Vec<String> = problems.iter().map(|one| one.pointer.clone()).collect();
                problems.extend(
                    found
                        .into_iter()
                        .filter(|one| !known.contains(&one.pointer)),
                );
            }
            checked => checked?,
        }
    }
    problems.extend(check::description(&spec.description));
    problems.extend(machine::problems(spec));
    let mut refuse = |name: &str, code, message: &str| {
        problems.push(FieldError::new(name, code, message));
    };
    if spec.name.as_str() == "records" {
        refuse(
            "name",
            "reserved",
            "permissions call all modules so; choose another name",
        );
    }
    // What is not said is not written.
    let said = serde_json::to_value(spec).map_err(Error::internal)?;
    for name in said
        .as_object()
        .into_iter()
        .flat_map(|members| members.keys())
    {
        if !KNOWN.contains(&name.as_str()) {
            let message = "belongs to modules that the application declares; leave it out";
            refuse(name, "not_supported", message);
        }
    }
    if !problems.is_empty() {
        return Err(Error::Invalid(problems));
    }
    let taken = scope
        .modules()
        .any(|other| *other.name() == spec.name || *other.singular() == spec.singular);
    if taken
        || scope
            .catalogue()
            .operation(spec.name.as_str(), "read")
            .is_some()
    {
        let message = format!(
            "a module is called {} or {} already",
            spec.name, spec.singular
        );
        return Err(Error::conflict("already_exists", message));
    }
    Ok(())
}

impl Write {
    async fn create(self, tx: &mut Tx<'_>, specs: Vec<FieldSpec>) -> Result<()> {
        let (tenant, now) = (self.tenant(), self.scope.clock().now());
        let count = tx.fetch_all(rows::modules(tenant)).await?.len();
        if count >= MAX_MODULES {
            let message =
                format!("a tenant declares at most {MAX_MODULES} modules; delete one first");
            return Err(Error::conflict("too_many_modules", message));
        }
        named::refuse_module(tx, &self.scope, &self.module).await?;
        let spec = self.module.spec();
        let insert = Sql::new(
            "INSERT INTO custom_modules \
             (tenant_id, name, singular, description, soft_delete, created_at, machines) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(tenant, ColumnType::Uuid)
        .bind(spec.name.as_str(), ColumnType::Text)
        .bind(spec.singular.as_str(), ColumnType::Text)
        .bind(spec.description.as_str(), ColumnType::Text)
        .bind(spec.soft_delete, ColumnType::Bool)
        .bind(now, ColumnType::Instant)
        .bind(rows::machines(&spec.machines)?, ColumnType::Text);
        tx.execute(insert).await?;
        let mut fields: Vec<CustomField> = Vec::with_capacity(specs.len());
        for (position, spec) in (0..).zip(specs.clone()) {
            check::room(fields.len(), rows::count(tx, tenant).await?)?;
            let place = format!("/fields/{position}");
            let known = self.check_target(tx, &spec).await;
            known.map_err(|error| error.under(&place))?;
            let copied = self.check_copy(tx, &specs, &spec).await;
            copied.map_err(|error| error.under(&place))?;
            let mut field = CustomField {
                number: rows::new_number(tx, tenant, position).await?,
                spec,
                indexed: false,
                created_at: now,
                removed_at: None,
            };
            field.indexed = self.index(tx, &fields, &field).await?;
            rows::put(tx, tenant, self.name(), &field).await?;
            fields.push(field);
        }
        let declared: Vec<&FieldSpec> = fields.iter().map(|field| &field.spec).collect();
        let after = json!({
            "name": spec.name, "singular": spec.singular, "description": spec.description,
            "soft_delete": spec.soft_delete, "fields": declared, "machines": spec.machines,
        });
        let entity = (OBJECT, Some(self.name().to_string()));
        journal::audit(tx, &self.scope, "modules.create", entity, None, Some(after)).await
    }

    /// Takes the module's references to itself out of use, so that none is left to a record that is
    /// destroyed, whatever keeps the module from its end; and with them the fields that are made of
    /// them and the state machines that name one, which could not go on without.
    pub(super) async fn cut(self, tx: &mut Tx<'_>) -> Result<()> {
        refuse_referred(tx, self.tenant(), self.name()).await?;
        named::refuse_denied(tx, self.tenant(), self.name()).await?;
        let fields = self.cut_off(tx).await?;
        let before = self.declared(tx).await?;
        let mut after = before.clone();
        after.machines.retain(|one| {
            let mut fields = fields.iter();
            !fields.any(|field| machine::part(one, &field.spec.name).is_some())
        });
        self.replace(tx, &before, &after).await?;
        for field in fields {
            self.clone().take_out(tx, field).await?;
        }
        Ok(())
    }

    async fn delete(self, tx: &mut Tx<'_>, destroyed: u64) -> Result<()> {
        refuse_referred(tx, self.tenant(), self.name()).await?;
        named::refuse_denied(tx, self.tenant(), self.name()).await?;
        let machines = self.declared(tx).await?.machines;
        let fields = self.fields(tx).await?;
        let left = self.left(tx).await?;
        if left > 0 {
            let message = format!(
                "{} has {}, those in the trash counted; delete them first, or say that they are to be \
                 destroyed (destroy_data=true)",
                self.name(),
                told(left, "record", "records")
            );
            return Err(Error::conflict("module_not_empty", message));
        }
        drop_all(tx, &self.module, &fields).await?;
        for statement in [
            "DELETE FROM custom_fields WHERE tenant_id = $1 AND module = $2",
            "DELETE FROM custom_modules WHERE tenant_id = $1 AND name = $2",
        ] {
            tx.execute(self.bound(Sql::new(statement))).await?;
        }
        role::forget_module(tx, &self.scope, self.name()).await?;
        let fields: Vec<&FieldSpec> = fields.iter().map(|field| &field.spec).collect();
        let before = json!({"fields": fields, "machines": machines});
        let after = json!({"destroyed_records": destroyed});
        let entity = (OBJECT, Some(self.name().to_string()));
        let (before, after) = (Some(before), Some(after));
        journal::audit(tx, &self.scope, "modules.delete", entity, before, after).await
    }

    async fn destroyable(self, tx: &mut Tx<'_>) -> Result<u64> {
        refuse_referred(tx, self.tenant(), self.name()).await?;
        named::refuse_denied(tx, self.tenant(), self.name()).await?;
        self.left(tx).await
    }

    /// How many records there are.
    async fn left(&self, tx: &mut Tx<'_>) -> Result<u64> {
        let left = "SELECT COUNT(*) FROM custom_records WHERE tenant_id = $1 AND module = $2";
        let left = self.bound(Sql::new(left)).returns(&[ColumnType::Int]);
        match tx.fetch_optional(left).await? {
            Some(mut row) => Ok(row.int::<i64>()?.unsigned_abs()),
            None => Ok(0),
        }
    }

    fn bound(&self, sql: Sql) -> Sql {
        sql.bind(self.tenant(), ColumnType::Uuid)
            .bind(self.name().as_str(), ColumnType::Text)
    }
}

/// Deletes some of the module's records.
fn some(tenant: TenantId, module: &CompiledModule) -> Sql {
    let mut sql = Sql::new("DELETE FROM custom_records WHERE tenant_id = ");
    sql.arg(tenant, ColumnType::Uuid).push(" AND module = ");
    sql.arg(module.name().as_str(), ColumnType::Text);
    sql.push(" AND id IN (SELECT id FROM custom_records WHERE tenant_id = ");
    sql.arg(tenant, ColumnType::Uuid).push(" AND module = ");
    sql.arg(module.name().as_str(), ColumnType::Text);
    sql.push(" LIMIT ").number(BATCH).push(")");
    sql
}
