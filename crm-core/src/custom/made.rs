//! Fields that a tenant makes of others: computed ones, and copies. What they are made of stays,
//! and a copy takes every value of its source, until they are removed.
//!
//! A copy shows what it copies to whoever reads it: only who reads the source in every record there
//! declares one.

use std::sync::Arc;

use super::{CustomField, TenantModules, Write};
use crate::db::Tx;
use crate::error::{Error, Result};
use crate::module::{
    CompiledModule, FieldSpec, Formula, Ident, condition_problems, copied_from, misfit,
};
use crate::reach::Reach;
use crate::scope::{Read, Scope};

/// Refuses a field that tells a condition which is none on the stored fields of this module.
pub(super) fn condition(module: &CompiledModule, spec: &FieldSpec) -> Result<()> {
    let Some(Formula::Condition(condition)) = &spec.computed else {
        return Ok(());
    };
    let problems = condition_problems(module, condition);
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Error::Invalid(problems)),
    }
}

/// Whether the scope knows of this field there; refused where it does not read all records.
fn sees(scope: &Scope, target: &Ident, source: &str) -> Result<bool> {
    let message = || format!("only who reads all records of {target} has a field of theirs copied");
    let refused = || Error::invalid("copied", "not_allowed", message());
    let permit = scope.permit::<Read>(target.as_str());
    let permit = permit.map_err(|_| refused())?;
    match permit.reach() {
        Reach::All => Ok(!permit.module()?.masks(source)),
        _ => Err(refused()),
    }
}

impl Write {
    /// Refuses a copy of what is not there for the scope, or does not fit. The fields of the module
    /// are `fields`.
    pub(super) async fn check_copy(
        &self,
        tx: &mut Tx<'_>,
        fields: &[FieldSpec],
        spec: &FieldSpec,
    ) -> Result<()> {
        let Some((target, source)) = copied_from(fields, spec) else {
            return Ok(());
        };
        let is_itself = target == self.name();
        // Nobody has rights on a module before it is there.
        let is_new = is_itself && self.scope.module(target.as_str()).is_none();
        let is_seen = is_new || sees(&self.scope, target, source)?;
        let found = match is_itself {
            true => fields.iter().find(|field| field.name == *source).cloned(),
            false => {
                let modules = self.modules(tx).await?;
                let declared = self.scope.core().registry.get(target.as_str());
                let module = modules.get(target.as_str()).or(declared);
                module.and_then(|module| module.field(source).cloned())
            }
        };
        let found = found.filter(|_| is_seen);
        match misfit(spec, (target, source), found.as_ref()) {
            Some(message) => Err(Error::invalid("copied", "invalid", message)),
            None => Ok(()),
        }
    }

    /// Refuses the removal of a field that another one of the tenant's is made of.
    pub(super) async fn refuse_made_of(&self, tx: &mut Tx<'_>, field: &Ident) -> Result<()> {
        let modules = self.modules(tx).await?;
        let of_module = modules.get(self.name().as_str());
        let made =
            of_module.and_then(|module| Some((module, module.made_of(field.as_str()).next()?)));
        let copy = || self.copies(&modules, field).into_iter().next();
        let Some((module, by)) = made.or_else(copy) else {
            return Ok(());
        };
        let message = format!(
            "{}.{} is made of {}.{field}; remove it first",
            module.name(),
            by.name,
            self.name()
        );
        Err(Error::conflict("named_by_field", message))
    }

    /// The fields in use by which the module refers to itself, and those that are made of them.
    pub(super) async fn cut_off(&self, tx: &mut Tx<'_>) -> Result<Vec<CustomField>> {
        let modules = self.modules(tx).await?;
        let module = modules.get(self.name().as_str()).ok_or(Error::NotFound)?;
        let fields = module.fields().iter();
        let own = fields.filter(|field| field.kind.targets().contains(self.name()));
        let mut names: Vec<&Ident> = own.map(|field| &field.name).collect();
        let mut at = 0;
        while let Some(name) = names.get(at).copied() {
            for made in module.made_of(name.as_str()) {
                if !names.contains(&&made.name) {
                    names.push(&made.name);
                }
            }
            at += 1;
        }
        let mut fields = self.fields(tx).await?;
        fields.retain(|field| field.removed_at.is_none() && names.contains(&&field.spec.name));
        Ok(fields)
    }

    /// Refuses a change of a field behind which a copy could not take all its values.
    pub(super) async fn keep_copies(&self, tx: &mut Tx<'_>, changed: &FieldSpec) -> Result<()> {
        let modules = self.modules(tx).await?;
        let from = (self.name(), changed.name.as_str());
        for (module, copy) in self.copies(&modules, &changed.name) {
            if misfit(copy, from, Some(changed)).is_some() {
                let message = format!(
                    "{}.{} is copied from it and could not take every value; change that field \
                     first",
                    module.name(),
                    copy.name
                );
                return Err(Error::conflict("named_by_field", message));
            }
        }
        Ok(())
    }

    /// The other fields of the tenant's that are copies of this field of the module.
    fn copies<'m>(
        &self,
        modules: &'m TenantModules,
        field: &Ident,
    ) -> Vec<(&'m Arc<CompiledModule>, &'m FieldSpec)> {
        let mut copies = Vec::new();
        for module in modules.iter() {
            let of_it = module.copies_of(self.name().as_str(), field.as_str());
            copies.extend(of_it.map(|copy| (module, copy)));
        }
        copies.retain(|(module, copy)| module.name() != self.name() || copy.name != *field);
        copies
    }

    /// The tenant's modules as the transaction finds them.
    async fn modules(&self, tx: &mut Tx<'_>) -> Result<Arc<TenantModules>> {
        TenantModules::now(tx, self.scope.core(), self.tenant()).await
    }
}
