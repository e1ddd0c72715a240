//! What changes of a module that a tenant declared: what it says of itself, and its state machines.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::{CustomModules, own};
use crate::custom::{OBJECT, Write, check, machine, rows};
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::journal;
use crate::module::{CompiledModule, FieldSpec, MachineSpec, ModuleSpec};
use crate::scope::{Permit, Update};

/// The changes of a tenant's own module; `None` leaves a value as it is.
#[derive(Debug, Clone, Default)]
pub struct ModuleChange {
    /// One sentence for the documentation.
    pub description: Option<String>,
    /// All its state machines, in the place of those of before.
    pub machines: Option<Vec<MachineSpec>>,
}

impl CustomModules {
    /// Changes what a module says of itself, and its state machines; answers the module as it is
    /// now.
    ///
    /// New machines hold for writes to come, and no record is touched: one keeps a state that none
    /// begins in any more and leaves it by the new edges, and what its state needs by now is asked
    /// of its next change.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the tenant declared no such module; [`Error::Invalid`] for a machine
    /// that breaks a rule, with its place (`/machines/0/edges`), and for a description of more than
    /// 1,000 characters.
    pub async fn change(
        &self,
        permit: &Permit<Update>,
        name: &str,
        change: ModuleChange,
    ) -> Result<Arc<CompiledModule>> {
        let scope = permit.on(OBJECT)?.clone();
        let module = own(&scope, name)?;
        let write = Write { scope, module };
        self.core
            .policy
            .write(write.tenant(), |tx| {
                Box::pin(write.change_module(tx, change))
            })
            .await
    }
}

impl Write {
    async fn change_module(
        self,
        tx: &mut Tx<'_>,
        change: ModuleChange,
    ) -> Result<Arc<CompiledModule>> {
        let before = self.declared(tx).await?;
        let mut fields = self.fields(tx).await?;
        fields.retain(|field| field.removed_at.is_none());
        let mut after = before.clone();
        if let Some(description) = change.description {
            if let Some(problem) = check::description(&description) {
                return Err(Error::Invalid(vec![problem]));
            }
            after.description = description;
        }
        if let Some(machines) = change.machines {
            after.machines = machines;
            let fields = fields.iter().map(|field| field.spec.clone());
            machine::hold(&with(&after, fields.collect()))?;
        }
        self.replace(tx, &before, &after).await?;
        let clock = self.scope.clock();
        Ok(CompiledModule::of_tenant(
            after,
            &fields,
            tx.dialect(),
            clock,
        ))
    }

    /// Writes a changed module with its audit row; the same is no change.
    pub(super) async fn replace(
        &self,
        tx: &mut Tx<'_>,
        before: &ModuleSpec,
        after: &ModuleSpec,
    ) -> Result<()> {
        if after == before {
            return Ok(());
        }
        let update = Sql::new(
            "UPDATE custom_modules SET description = $1, machines = $2 \
             WHERE tenant_id = $3 AND name = $4",
        )
        .bind(after.description.as_str(), ColumnType::Text)
        .bind(rows::machines(&after.machines)?, ColumnType::Text)
        .bind(self.tenant(), ColumnType::Uuid)
        .bind(self.name().as_str(), ColumnType::Text);
        tx.execute(update).await?;
        let entity = (OBJECT, Some(self.name().to_string()));
        let (before, after) = (Some(state(before)), Some(state(after)));
        journal::audit(tx, &self.scope, "modules.update", entity, before, after).await
    }

    /// The module as the tenant has it now, without its fields.
    pub(in crate::custom) async fn declared(&self, tx: &mut Tx<'_>) -> Result<ModuleSpec> {
        for row in tx.fetch_all(rows::modules(self.tenant())).await? {
            let spec = rows::parse_module(row)?;
            if spec.name == *self.name() {
                return Ok(spec);
            }
        }
        Err(Error::NotFound)
    }
}

/// The module with these fields.
pub(in crate::custom) fn with(spec: &ModuleSpec, fields: Vec<FieldSpec>) -> ModuleSpec {
    ModuleSpec {
        fields,
        ..spec.clone()
    }
}

/// A module as the audit log keeps it when it is changed.
fn state(spec: &ModuleSpec) -> Json {
    json!({"description": spec.description, "machines": spec.machines})
}
