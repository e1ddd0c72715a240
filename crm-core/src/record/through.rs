//! Conditions on the records that a reference points to: `company_id.name`, over one reference.
//!
//! They are made from a scope, because they see of the other module what that scope may read: its
//! rows and its fields, in its tenant, without the trash. A referred record that the scope does not
//! see meets no condition, so that a filter tells nothing that a read would not.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::filter_json::Reader;
use super::{Field, Filter};
use crate::error::FieldError;
use crate::id::{TenantId, UserId};
use crate::module::{CompiledModule, FieldType, Ident};
use crate::reach::Reach;
use crate::scope::{Permit, Read, Scope};

/// Most conditions on other records in one filter; those in one member of a JSON filter are one.
pub const MAX_THROUGH: usize = 5;

/// A condition that one of the records meets to which a field refers, as far as a scope sees them.
#[derive(Clone)]
pub struct Through {
    field: usize,
    target: Arc<CompiledModule>,
    tenant: TenantId,
    reach: Reach,
    filter: Filter,
}

impl Through {
    /// The condition on all of a tenant's records there.
    #[cfg(test)]
    pub(crate) fn of(
        field: usize,
        target: &Arc<CompiledModule>,
        tenant: TenantId,
        filter: Filter,
    ) -> Filter {
        Filter::Through(Box::new(Self {
            field,
            target: target.clone(),
            tenant,
            reach: Reach::All,
            filter,
        }))
    }

    /// The position of the reference.
    pub(crate) fn field(&self) -> usize {
        self.field
    }

    /// The module of the records there.
    pub(crate) fn target(&self) -> &Arc<CompiledModule> {
        &self.target
    }

    /// The tenant whose records are seen, and which of them.
    pub(crate) fn rows(&self) -> (TenantId, &Reach) {
        (self.tenant, &self.reach)
    }

    /// The owner they must have, where only own rows are seen.
    fn owner(&self) -> Option<UserId> {
        match &self.reach {
            Reach::Own(user) => Some(*user),
            Reach::All | Reach::Some(_) | Reach::Both(_) => None,
        }
    }

    /// What they must meet.
    pub(crate) fn filter(&self) -> &Filter {
        &self.filter
    }
}

impl fmt::Debug for Through {
    /// The question: cursors and kept figures are known by this text. Of the rows that are seen it
    /// tells owners only, since figures over others are not kept.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Through")
            .field("field", &self.field)
            .field("target", &self.target.name())
            .field("fields", &self.target.numbers())
            .field("owner", &self.owner())
            .field("filter", &self.filter)
            .finish()
    }
}

impl PartialEq for Through {
    fn eq(&self, other: &Self) -> bool {
        self.field == other.field
            && self.target.name() == other.target.name()
            && self.rows() == other.rows()
            && self.filter == other.filter
    }
}

/// Why a path leads nowhere.
pub(super) type Refused = (&'static str, String);

/// A reference that a scope may follow, and the field behind it.
pub(super) struct Way<'n> {
    through: Through,
    permit: Permit<Read>,
    /// The field of the record there.
    pub(super) name: &'n str,
}

/// The reference that `reference.field` begins with, the module it is to, and the field there.
fn read<'m, 'n>(
    module: &'m CompiledModule,
    path: &'n str,
) -> Result<(usize, &'m Ident, &'n str), Refused> {
    let (reference, name) = path.split_once('.').unwrap_or((path, ""));
    let Some(Field::Declared(field)) = Field::named(module, reference) else {
        return Err(("unknown_field", module.lacks(reference)));
    };
    let target = match &module.fields()[field].kind {
        FieldType::Reference { module, .. } | FieldType::References { module, .. } => module,
        FieldType::AnyReference { .. } => {
            let message = format!(
                "{reference} refers to records of several modules: compare {reference} itself"
            );
            return Err(("not_allowed", message));
        }
        _ => {
            let message = format!("{reference} is no reference: there is nothing behind it");
            return Err(("unknown_field", message));
        }
    };
    if name.contains('.') {
        let message = format!("{path} leads over several references; one is the most");
        return Err(("too_deep", message));
    }
    Ok((field, target, name))
}

/// Why a condition that one record decides alone cannot be on what `path` leads to.
pub(super) fn alone(module: &CompiledModule, path: &str) -> Refused {
    let message = "this condition is decided by one record alone and cannot ask about others";
    match read(module, path) {
        Ok(_) => ("not_allowed", message.to_owned()),
        Err(refused) => refused,
    }
}

impl<'n> Way<'n> {
    /// The way that `reference.field` leads.
    pub(super) fn find(
        scope: &Scope,
        module: &CompiledModule,
        path: &'n str,
    ) -> Result<Self, Refused> {
        let (field, target, name) = read(module, path)?;
        let unknown = || {
            let message = format!("{} has no field {path} that you may read", module.name());
            ("unknown_field", message)
        };
        let permit = scope.permit::<Read>(target.as_str());
        let permit = permit.map_err(|_| unknown())?;
        let target = permit.asked().map_err(|_| unknown())?;
        if Field::named(&target, name).is_none() && target.condition(name).is_none() {
            return Err(unknown());
        }
        let through = Through {
            field,
            target,
            tenant: permit.tenant(),
            reach: permit.reach().clone(),
            filter: Filter::And(Vec::new()),
        };
        Ok(Self {
            through,
            permit,
            name,
        })
    }

    /// The module that it leads to.
    pub(super) fn target(&self) -> Arc<CompiledModule> {
        self.through.target.clone()
    }

    /// The condition that a record at its end meets this one.
    pub(super) fn to(mut self, filter: Filter) -> Filter {
        // Where no rule reaches all of the fields, no record there is seen to meet it.
        self.through.reach = match self.permit.to_ask(filter.fields()) {
            Ok(permit) => permit.reach().clone(),
            Err(_) => Reach::none(self.permit.scope()),
        };
        self.through.filter = filter;
        Filter::Through(Box::new(self.through))
    }
}

impl Filter {
    /// The condition that a JSON object stands for, as [`from_json`](Self::from_json) reads it,
    /// with conditions on the records that references point to: `{"company_id.name": {"contains":
    /// "acme"}}`.
    ///
    /// # Errors
    /// Every [`FieldError`] found, each pointing into the object.
    pub fn from_json_for(
        scope: &Scope,
        module: &CompiledModule,
        object: &Map<String, Json>,
    ) -> Result<Self, Vec<FieldError>> {
        Reader::new(module, Some(scope)).filter(object)
    }

    /// The condition in the member `filter` of a larger object, as
    /// [`from_json_for`](Self::from_json_for) reads it.
    ///
    /// # Errors
    /// Every [`FieldError`] found, each pointing into the larger object (`/filter/score/gt`).
    pub fn from_member_for(
        scope: &Scope,
        module: &CompiledModule,
        filter: &Map<String, Json>,
    ) -> Result<Self, Vec<FieldError>> {
        Self::from_json_for(scope, module, filter).map_err(|refused| {
            let refused = refused.into_iter();
            refused.map(|field| field.under("/filter")).collect()
        })
    }

    /// The condition `name[op]=text` of a query string, as [`parse`](Self::parse) reads it, or one
    /// on the record that a reference points to: `company_id.name[contains]=acme`.
    ///
    /// # Errors
    /// A [`FieldError`] naming what is not declared, not for this scope to read, or does not fit.
    pub fn parse_for(
        scope: &Scope,
        module: &CompiledModule,
        name: &str,
        op: &str,
        text: &str,
    ) -> Result<Self, FieldError> {
        if !name.contains('.') {
            return Self::parse(module, name, op, text);
        }
        let parameter = match op {
            "eq" => name.to_owned(),
            _ => format!("{name}[{op}]"),
        };
        let way = Way::find(scope, module, name)
            .map_err(|(code, message)| FieldError::new(&parameter, code, message))?;
        let filter = Self::parse(&way.target(), way.name, op, text)
            .map_err(|error| FieldError::new(&parameter, error.code, error.message))?;
        Ok(way.to(filter))
    }

    /// The conditions of a query string, joined by and; none for none.
    ///
    /// # Errors
    /// A [`FieldError`] on `filter` when more than [`MAX_THROUGH`] of them are on other records.
    pub fn all(conditions: Vec<Self>) -> Result<Option<Self>, FieldError> {
        let filter = (!conditions.is_empty()).then_some(Self::And(conditions));
        let mut count = 0;
        if let Some(filter) = &filter {
            filter.each_through(&mut |_| count += 1);
        }
        match count > MAX_THROUGH {
            true => Err(FieldError::new("filter", "too_many", too_many())),
            false => Ok(filter),
        }
    }

    /// The modules whose records the condition asks beside the own ones.
    pub(super) fn others(&self) -> Vec<Ident> {
        let mut others = Vec::new();
        self.each_through(&mut |through| others.push(through.target.name().clone()));
        others
    }

    /// Whether what it sees of other modules changes by writes to their records alone.
    pub(super) fn hears_of_writes(&self) -> bool {
        let mut hears = true;
        self.each_through(&mut |through| hears &= through.reach.is_simple());
        hears
    }

    fn each_through<'f>(&'f self, see: &mut impl FnMut(&'f Through)) {
        match self {
            Self::And(parts) | Self::Or(parts) => {
                parts.iter().for_each(|part| part.each_through(see));
            }
            Self::Not(part) => part.each_through(see),
            Self::Through(through) => see(through),
            Self::Compare(..) => {}
        }
    }
}

pub(super) fn too_many() -> String {
    format!("a filter has at most {MAX_THROUGH} conditions on other records")
}
