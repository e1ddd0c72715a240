//! A checked module in the form the request path reads: fields by position, no search, no parsing.

mod custom;
mod flags;
mod masked;

use std::collections::HashMap;

use super::computed::{self, Computed};
use super::copied::{self, Copied};
use super::machine::{self, Machine};
use super::money;
use super::{FieldSpec, FieldType, Ident, ModuleSpec, check};
use crate::clock::Clock;
use crate::db::ColumnType;
use crate::error::Result;
use crate::value::Value;

use custom::Custom;
use masked::FieldMask;

/// A module that passed [`check`](check()), with what its records need worked out once.
#[derive(Debug, Clone)]
pub struct CompiledModule {
    spec: ModuleSpec,
    index: u16,
    positions: HashMap<Ident, usize>,
    columns: Vec<ColumnType>,
    defaults: Vec<Value>,
    searchable: Vec<usize>,
    sortable: Vec<usize>,
    serials: Vec<usize>,
    linked: Vec<usize>,
    machines: Vec<Machine>,
    pub(super) amounts: Vec<money::Amount>,
    pub(super) computed: Vec<Computed>,
    clock: Clock,
    pub(super) copies: Vec<Copied>,
    duplicates: Vec<Vec<usize>>,
    custom: Option<Custom>,
    mask: Option<FieldMask>,
}

impl CompiledModule {
    /// Checks and compiles a declaration; `index` is its place in the registry.
    ///
    /// # Errors
    /// Those of [`check`](check()).
    pub fn new(spec: ModuleSpec, index: u16) -> Result<Self> {
        check(&spec)?;
        Ok(Self::compile(spec, index))
    }

    pub(super) fn compile(mut spec: ModuleSpec, index: u16) -> Self {
        let computed = computed::take(&mut spec);
        Self::stored(spec, index).computing(computed)
    }

    /// The module of a declaration without computed fields.
    fn stored(spec: ModuleSpec, index: u16) -> Self {
        let positions_where = |wanted: fn(&FieldSpec) -> bool| {
            let fields = spec.fields.iter().enumerate();
            fields
                .filter(|(_, field)| wanted(field))
                .map(|(position, _)| position)
                .collect()
        };
        Self {
            index,
            positions: spec
                .fields
                .iter()
                .enumerate()
                .map(|(at, f)| (f.name.clone(), at))
                .collect(),
            columns: spec
                .fields
                .iter()
                .map(|field| column_type(&field.kind))
                .collect(),
            defaults: spec.fields.iter().map(FieldSpec::default_value).collect(),
            searchable: positions_where(|field| field.search),
            sortable: positions_where(|field| field.sort),
            serials: positions_where(|field| field.serial),
            linked: positions_where(|field| field.kind.is_linked()),
            machines: machine::compile(&spec),
            amounts: money::compile(&spec),
            computed: Vec::new(),
            clock: Clock::system(),
            copies: copied::compile(&spec),
            duplicates: spec
                .duplicates
                .iter()
                .map(|key| positions_where_named(&spec, key))
                .collect(),
            custom: None,
            mask: None,
            spec,
        }
    }

    /// The declaration, but for its [computed](Self::computed) fields.
    pub fn spec(&self) -> &ModuleSpec {
        &self.spec
    }

    /// The module with this clock, which tells `now` and `today` in conditions.
    #[must_use]
    pub(crate) fn told_by(self, clock: &Clock) -> Self {
        Self {
            clock: clock.clone(),
            ..self
        }
    }

    /// What tells `now` and `today`.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The plural name: table, path segment and permission prefix.
    pub fn name(&self) -> &Ident {
        &self.spec.name
    }

    /// The singular name: the prefix of its events.
    pub fn singular(&self) -> &Ident {
        &self.spec.singular
    }

    /// Its place in the registry, dense from 0.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// The declared fields that are stored; every other list of this type is aligned with it or
    /// holds positions.
    pub fn fields(&self) -> &[FieldSpec] {
        &self.spec.fields
    }

    /// The position of the reference to the record that one of this module is part of.
    pub fn parent(&self) -> Option<usize> {
        self.position(self.spec.parent.as_ref()?.as_str())
    }

    /// The position of the declared field called `name`.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.positions.get(name).copied()
    }

    /// The declared field called `name`.
    pub fn field(&self, name: &str) -> Option<&FieldSpec> {
        self.position(name)
            .map(|position| &self.spec.fields[position])
    }

    /// What a create stores in the field at `position` when the body leaves it out.
    pub fn default_of(&self, position: usize) -> &Value {
        &self.defaults[position]
    }

    /// Positions of the fields the substring search looks at.
    pub fn searchable(&self) -> &[usize] {
        &self.searchable
    }

    /// Positions of the fields lists may be ordered by.
    pub fn sortable(&self) -> &[usize] {
        &self.sortable
    }

    /// Positions of the fields whose values stand in tables of their own.
    pub(crate) fn linked(&self) -> &[usize] {
        &self.linked
    }

    /// Positions of the fields that number the records.
    pub(crate) fn serials(&self) -> &[usize] {
        &self.serials
    }

    /// The state machines of its fields.
    pub(crate) fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// The keys of duplicates, each the positions of its fields.
    pub(crate) fn duplicates(&self) -> &[Vec<usize>] {
        &self.duplicates
    }

    /// Column types, aligned with the fields.
    pub(crate) fn columns(&self) -> &[ColumnType] {
        &self.columns
    }
}

fn positions_where_named(spec: &ModuleSpec, names: &[Ident]) -> Vec<usize> {
    let position = |name: &Ident| spec.fields.iter().position(|field| field.name == *name);
    names.iter().filter_map(position).collect()
}

impl FieldType {
    /// The column type that holds its values.
    pub(crate) fn column(&self) -> ColumnType {
        column_type(self)
    }
}

/// The column type that holds values of `kind`.
fn column_type(kind: &FieldType) -> ColumnType {
    match kind {
        FieldType::Text { .. }
        | FieldType::LongText { .. }
        | FieldType::Email
        | FieldType::Phone
        | FieldType::Url
        | FieldType::Currency
        | FieldType::Zoned
        | FieldType::Enum { .. } => ColumnType::Text,
        FieldType::Integer { .. } => ColumnType::Int,
        FieldType::Decimal { scale, .. } | FieldType::Money { scale, .. } => {
            ColumnType::Decimal { scale: *scale }
        }
        FieldType::Bool => ColumnType::Bool,
        FieldType::Instant(_) => ColumnType::Instant,
        FieldType::Date(_) => ColumnType::Date,
        FieldType::Time(_) => ColumnType::Time,
        FieldType::Uuid => ColumnType::Uuid,
        FieldType::Tags { .. } => ColumnType::Tags,
        FieldType::Json { .. } => ColumnType::Json,
        FieldType::Vector { .. } => ColumnType::Vector,
        FieldType::Reference { .. } => ColumnType::Uuid,
        FieldType::References { .. } => ColumnType::Tags,
        FieldType::AnyReference { .. } => ColumnType::Text,
    }
}
