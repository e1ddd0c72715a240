//! Which fields of its rows a permit reaches, where its rules name some. Owns who may use which
//! field in which row; the lists themselves are `policy::Fields`, their effect on what is shown is
//! the masked module's.
//!
//! A rule gives its fields in its rows. Of a record are shown the fields of all rules that cover
//! it. A request that names fields, to write them or to find records by them, is served by the
//! rules that allow all of these: it reaches the rows of those rules only.

use std::borrow::Cow;
use std::sync::Arc;

use quick_cache::sync::Cache;

use crate::error::{Error, FieldError, Result};
use crate::module::CompiledModule;
use crate::policy::{Fields, RowRule, Rows};
use crate::reach::Reach;
use crate::record::{Field, Filter};
use crate::scope::{Action, Permit, Read, Scope};

/// Most masked modules that are kept.
const VIEWS: usize = 4_096;

/// Modules as readers of some fields see them.
pub(crate) struct Views(Cache<(usize, Fields), Arc<CompiledModule>>);

impl Views {
    pub(crate) fn new() -> Self {
        Self(Cache::new(VIEWS))
    }

    /// The module for a reader of these fields.
    pub(crate) fn of(&self, module: &Arc<CompiledModule>, fields: &Fields) -> Arc<CompiledModule> {
        let base = module.base();
        if fields.is_all() {
            return base.clone();
        }
        // A masked module holds its base: no other one gets that address while it is here.
        let key = (Arc::as_ptr(base) as usize, fields.clone());
        if let Some(known) = self.0.get(&key) {
            return known;
        }
        let masked = base.masked(fields);
        self.0.insert(key, masked.clone());
        masked
    }
}

/// The rules of a permit, of which some are about some fields only.
#[derive(Debug)]
pub(crate) struct FieldLists {
    rules: Vec<Listed>,
    /// The fields that are reached in every row.
    everywhere: Fields,
    /// The fields that are reached in any row.
    anywhere: Fields,
}

/// A rule, and its rows.
#[derive(Debug)]
struct Listed {
    rule: RowRule,
    reach: Reach,
}

impl FieldLists {
    /// The lists of these rows' rules, if they have any.
    pub(crate) fn new(
        scope: &Scope,
        module: Option<&Arc<CompiledModule>>,
        rows: &Rows,
    ) -> Option<Arc<Self>> {
        let Rows::Of(rules) = rows else { return None };
        if !rows.have_lists() {
            return None;
        }
        let listed = rules.iter().map(|rule| Listed {
            reach: Reach::new(scope, module, &Rows::Of(vec![rule.clone()])),
            rule: rule.clone(),
        });
        let fields = || rules.iter().map(RowRule::fields);
        Some(Arc::new(Self {
            rules: listed.collect(),
            everywhere: fields().fold(Fields::ALL, |all, one| all.and(one)),
            anywhere: fields().fold(Fields::only([""; 0]), |any, one| any.or(one)),
        }))
    }

    pub(crate) fn everywhere(&self) -> &Fields {
        &self.everywhere
    }

    pub(crate) fn anywhere(&self) -> &Fields {
        &self.anywhere
    }

    /// The rules that reach more fields of their rows than every rule does.
    pub(crate) fn wider(&self) -> impl Iterator<Item = (&Reach, &Fields)> {
        let rules = self.rules.iter();
        let wider = rules.filter(|one| *one.rule.fields() != self.everywhere);
        wider.map(|one| (&one.reach, one.rule.fields()))
    }

    /// The rules that reach all of these fields; `None` for all rules.
    ///
    /// # Errors
    /// The fields that no rule reaches, or else all of them.
    fn reaching(&self, names: &[&str]) -> Result<Option<Rows>, Vec<String>> {
        let reaches = |one: &&Listed| names.iter().all(|name| one.rule.fields().include(name));
        let rules = self.rules.iter().filter(reaches);
        let rules: Vec<_> = rules.map(|one| one.rule.clone()).collect();
        if rules.len() == self.rules.len() {
            return Ok(None);
        }
        if !rules.is_empty() {
            return Ok(Some(Rows::Of(rules)));
        }
        let lost = names.iter().filter(|name| !self.anywhere.include(name));
        let lost: Vec<String> = lost.map(ToString::to_string).collect();
        Err(match lost.is_empty() {
            true => names.iter().map(ToString::to_string).collect(),
            false => lost,
        })
    }
}

impl<A: Action> Permit<A> {
    /// This permit for the rows in which it reaches all of these fields.
    fn reaching(&self, names: &[&str]) -> Result<Cow<'_, Self>, Vec<String>> {
        match self.lists().map(|lists| lists.reaching(names)) {
            None | Some(Ok(None)) => Ok(Cow::Borrowed(self)),
            Some(Ok(Some(rows))) => Ok(Cow::Owned(self.over(rows))),
            Some(Err(names)) => Err(names),
        }
    }

    /// This permit for the rows in which it may write these fields.
    ///
    /// # Errors
    /// [`Error::Invalid`] `not_allowed` at each field that it may not write, or not with the others.
    pub(crate) fn to_write(&self, fields: &[Field]) -> Result<Cow<'_, Self>> {
        if self.lists().is_none() {
            return Ok(Cow::Borrowed(self));
        }
        let module = self.module()?.clone();
        let names: Vec<&str> = fields.iter().map(|field| field.name(&module)).collect();
        self.reaching(&names).map_err(|names| {
            let together = names.len() == fields.len() && names.len() > 1;
            let message = match together {
                false => "is not for you to write; leave it out",
                true => "is not for you to write together with the others; leave some out",
            };
            let refused = names.iter();
            let refused = refused.map(|name| FieldError::new(name, "not_allowed", message));
            Error::Invalid(refused.collect())
        })
    }

    /// Whether it may write the field called `name` in every row that it covers.
    pub(crate) fn writes_everywhere(&self, name: &str) -> bool {
        let lists = self.lists();
        lists.is_none_or(|lists| lists.everywhere.include(name))
    }
}

impl Permit<Read> {
    /// This permit for the rows in which it may read what a request compares, orders or sums by.
    ///
    /// # Errors
    /// [`Error::Invalid`] `unknown_field` for a field that it may not read, or not with the others.
    pub(crate) fn to_ask(&self, fields: impl IntoIterator<Item = Field>) -> Result<Cow<'_, Self>> {
        if self.lists().is_none() {
            return Ok(Cow::Borrowed(self));
        }
        let module = self.module()?.base().clone();
        let fields: Vec<Field> = fields.into_iter().collect();
        let listed = fields.iter().filter(|field| field.is_listed());
        let names: Vec<&str> = listed.map(|field| field.name(&module)).collect();
        self.reaching(&names).map_err(|refused| {
            let refused = refused.iter().map(|name| {
                let message = format!("{} has no field {name}", module.name());
                FieldError::new(name, "unknown_field", message)
            });
            Error::Invalid(refused.collect())
        })
    }

    /// As [`to_ask`](Self::to_ask), of a request that also searches the module's texts.
    ///
    /// # Errors
    /// Those of [`to_ask`](Self::to_ask); on `search` when not all of the texts may be read.
    pub(crate) fn to_search(
        &self,
        fields: impl IntoIterator<Item = Field>,
        search: Option<&str>,
    ) -> Result<Cow<'_, Self>> {
        if self.lists().is_none() {
            return Ok(Cow::Borrowed(self));
        }
        let fields: Vec<Field> = fields.into_iter().collect();
        let asked = self.to_ask(fields.iter().copied())?;
        if search.is_none() {
            return Ok(asked);
        }
        let searched = self.module()?.searchable().iter();
        let searched = searched.map(|position| Field::Declared(*position));
        self.to_ask(fields.into_iter().chain(searched))
            .map_err(|_| {
                let message = "the search looks at fields that you may not read; filter by others";
                Error::invalid("search", "not_allowed", message)
            })
    }
}

impl Scope {
    /// The module called `name` with the fields that the scope may read in any row: what its
    /// requests may name. All of them without the right to read, which is then refused by name.
    pub fn readable(&self, name: &str) -> Option<Arc<CompiledModule>> {
        match self.permit::<Read>(name) {
            Ok(permit) => permit.asked().ok(),
            Err(_) => self.module(name).cloned(),
        }
    }
}

impl Field {
    /// Whether lists may leave it out.
    fn is_listed(self) -> bool {
        match self {
            Self::OwnerId | Self::Declared(_) => true,
            Self::Id | Self::CreatedAt | Self::UpdatedAt => false,
        }
    }
}

impl Filter {
    /// The fields of the record itself that it compares.
    pub(crate) fn fields(&self) -> Vec<Field> {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().flat_map(Self::fields).collect(),
            Self::Not(part) => part.fields(),
            Self::Compare(field, _) => vec![*field],
            Self::Through(through) => vec![Field::Declared(through.field())],
        }
    }
}
