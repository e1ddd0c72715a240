//! Modules as one tenant has them: with fields of its own behind the declared ones, or wholly its
//! own. Such a module carries its own statements; everybody else shares the declared one.

use std::sync::Arc;

use super::{CompiledModule, Computed};
use crate::clock::Clock;
use crate::custom::CustomField;
use crate::db::Dialect;
use crate::db::record::Statements;
use crate::module::{FieldSpec, Ident, ModuleSpec};

/// The table of the records of modules that tenants declared.
const RECORDS: Ident = Ident::from_static("custom_records");

/// What makes a module a tenant's.
#[derive(Debug, Clone)]
pub(super) struct Custom {
    /// Stored fields from this position on are the tenant's.
    declared: usize,
    /// Computed fields from this place on are the tenant's.
    computed: usize,
    /// What the values of the tenant's fields are kept under, ascending.
    numbers: Box<[u64]>,
    /// The shared table, when the whole module is the tenant's.
    table: Option<Ident>,
    statements: Option<Arc<Statements>>,
}

impl CompiledModule {
    /// This module with these fields behind the declared ones.
    pub(crate) fn extended(&self, fields: &[CustomField], dialect: Dialect) -> Arc<Self> {
        let mut spec = self.spec.clone();
        spec.fields.truncate(self.declared());
        let computed = &self.computed[..self.declared_computed()];
        Self::customised(spec, self.index, fields, dialect, (computed, &self.clock))
    }

    /// A tenant's own module with these fields; `spec` has none.
    pub(crate) fn of_tenant(
        spec: ModuleSpec,
        fields: &[CustomField],
        dialect: Dialect,
        clock: &Clock,
    ) -> Arc<Self> {
        // Nothing is found by its index: it has statements of its own, and no search index.
        Self::customised(spec, u16::MAX, fields, dialect, (&[], clock))
    }

    fn customised(
        mut spec: ModuleSpec,
        index: u16,
        fields: &[CustomField],
        dialect: Dialect,
        (computed, clock): (&[Computed], &Clock),
    ) -> Arc<Self> {
        let declared = spec.fields.len();
        spec.fields
            .extend(fields.iter().map(|field| field.spec.clone()));
        let stored = fields.iter().filter(|field| field.spec.computed.is_none());
        let custom = |statements| Custom {
            declared,
            computed: computed.len(),
            numbers: stored.clone().map(|field| field.number).collect(),
            table: (declared == 0).then_some(RECORDS),
            statements,
        };
        let mut module = Self::compile(spec.clone(), index).told_by(clock);
        module.custom = Some(custom(None));
        let statements = Statements::new(&Arc::new(module), dialect);
        let mut module = Self::compile(spec, index).told_by(clock);
        module.custom = Some(custom(Some(Arc::new(statements))));
        module.computed = [computed, module.computed.as_slice()].concat();
        Arc::new(module)
    }

    /// How many of the fields the application declared; they come first.
    fn declared(&self) -> usize {
        match &self.custom {
            Some(custom) => custom.declared,
            None => self.spec.fields.len(),
        }
    }

    /// How many of the computed fields the application declared; they come first.
    pub(crate) fn declared_computed(&self) -> usize {
        match &self.custom {
            Some(custom) => custom.computed,
            None => self.computed.len(),
        }
    }

    /// The fields that the application declared.
    pub fn declared_fields(&self) -> &[FieldSpec] {
        &self.spec.fields[..self.declared()]
    }

    /// The stored fields that the tenant declared, behind the application's.
    pub fn custom_fields(&self) -> &[FieldSpec] {
        &self.spec.fields[self.declared()..]
    }

    /// Whether the field at `position` is one of the tenant's.
    pub fn is_custom(&self, position: usize) -> bool {
        position >= self.declared()
    }

    /// Whether the whole module is the tenant's.
    pub fn is_tenants(&self) -> bool {
        self.custom
            .as_ref()
            .is_some_and(|custom| custom.table.is_some())
    }

    /// Whether every record has a value of the field at `position`. A tenant may require a field of
    /// its own only of records to come.
    pub fn is_always_present(&self, position: usize) -> bool {
        self.spec.fields[position].required && !self.is_custom(position)
    }

    /// Whether foreign keys of the database hold what the field at `position` refers to. None does
    /// so of a tenant's own fields, which are no columns.
    pub(crate) fn is_keyed(&self, position: usize) -> bool {
        self.spec.fields[position].kind.has_key() && !self.is_custom(position)
    }

    /// The tenant's references, each with its position.
    pub(crate) fn custom_references(&self) -> impl Iterator<Item = (usize, &FieldSpec)> {
        let fields = self.spec.fields.iter().enumerate().skip(self.declared());
        fields.filter(|(_, field)| field.kind.is_reference())
    }

    pub(crate) fn has_custom(&self) -> bool {
        self.custom.is_some()
    }

    /// What the values of the field at `position` are kept under, when it is the tenant's.
    pub(crate) fn number(&self, position: usize) -> Option<u64> {
        let custom = self.custom.as_ref()?;
        let at = position.checked_sub(custom.declared)?;
        custom.numbers.get(at).copied()
    }

    /// What the values of the tenant's fields are kept under, in their order.
    pub(crate) fn numbers(&self) -> &[u64] {
        match &self.custom {
            Some(custom) => &custom.numbers,
            None => &[],
        }
    }

    /// The table of its records.
    pub(crate) fn table(&self) -> &Ident {
        let shared = self
            .custom
            .as_ref()
            .and_then(|custom| custom.table.as_ref());
        shared.unwrap_or(&self.spec.name)
    }

    /// The statements of a tenant's variant; those of the others are kept elsewhere.
    pub(crate) fn statements(&self) -> Option<&Statements> {
        self.custom.as_ref()?.statements.as_deref()
    }
}
