//! The rows that a permit covers. Owns the form in memory, as far as a record itself tells; large
//! groups and parents are known to the database only, see `db/record/reach.rs` for its form.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::id::{RecordId, UserId};
use crate::module::CompiledModule;
use crate::policy::{Circle, RowRule, Rows};
use crate::record::{Comparison, Filter, Record};
use crate::scope::Scope;
use crate::value::Value;

/// Most modules above each other that make a record somebody's; references never run in a circle.
const MAX_LINE: usize = 16;

/// Which rows of one module are covered.
#[derive(Debug, Clone)]
pub(crate) enum Reach {
    /// Every row of the tenant.
    All,
    /// The rows of this owner.
    Own(UserId),
    /// The rows of any of some rules.
    Some(Arc<Limits>),
    /// The rows of both.
    Both(Arc<(Reach, Reach)>),
}

/// Rules, and what they are relative to.
#[derive(Debug)]
pub(crate) struct Limits {
    /// The acting user; nobody's rows are theirs who is none.
    pub(crate) user: Option<UserId>,
    /// What the groups of the user give them, where it is known.
    pub(crate) circle: Option<Arc<Circle>>,
    /// When it was asked: memberships of groups may end.
    pub(crate) now: DateTime<Utc>,
    /// The module, its parent's, and so on.
    pub(crate) line: Vec<Arc<CompiledModule>>,
    pub(crate) rules: Vec<Rule>,
}

/// What a row must meet, all of it.
#[derive(Debug)]
pub(crate) struct Rule {
    /// The user owns it.
    pub(crate) own: bool,
    /// The user or a group of theirs has it, or its parent.
    pub(crate) parent: bool,
    /// The user or somebody of their groups owns it.
    pub(crate) team: bool,
    pub(crate) filters: Vec<Filter>,
}

impl Reach {
    /// The reach of these rows for the scope's actor.
    pub(crate) fn new(scope: &Scope, module: Option<&Arc<CompiledModule>>, rows: &Rows) -> Self {
        Self::of(scope, scope.user(), module, rows)
    }

    /// The reach of these rows for a user of the scope's tenant.
    pub(crate) fn of(
        scope: &Scope,
        user: Option<UserId>,
        module: Option<&Arc<CompiledModule>>,
        rows: &Rows,
    ) -> Self {
        let circle = scope.circle().filter(|circle| circle.is_of(user)).cloned();
        let alone = || owner_alone_has(&line(scope, module), circle.as_deref());
        let rules = match (rows, user) {
            (Rows::All, _) => return Self::All,
            (Rows::Of(rules), _) if rules.iter().any(RowRule::is_for_all_rows) => return Self::All,
            (Rows::Of(rules), Some(user)) if only_own(rules, alone) => return Self::Own(user),
            (Rows::Of(rules), _) => rules,
        };
        let mut merged: Vec<Rule> = Vec::new();
        for rule in rules
            .iter()
            .filter_map(|rule| Rule::new(rule, user, module))
        {
            if !merged.iter_mut().any(|other| other.takes_in(&rule)) {
                merged.push(rule);
            }
        }
        Self::Some(Arc::new(Limits {
            user,
            circle,
            now: scope.clock().now(),
            line: line(scope, module),
            rules: merged,
        }))
    }

    /// The reach of no rows at all.
    pub(crate) fn none(scope: &Scope) -> Self {
        Self::Some(Arc::new(Limits {
            user: None,
            circle: None,
            now: scope.clock().now(),
            line: Vec::new(),
            rules: Vec::new(),
        }))
    }

    pub(crate) fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    /// Whether it is the rows of an owner and nothing else.
    pub(crate) fn is_simple(&self) -> bool {
        matches!(self, Self::All | Self::Own(_))
    }

    /// The owners whose rows these are, all of them, where that alone decides and they are few.
    pub(crate) fn owners(&self) -> Option<&[UserId]> {
        let Self::Some(limits) = self else {
            return None;
        };
        match limits.rules.as_slice() {
            [rule] if rule.is_of_team() => limits.team(),
            _ => None,
        }
    }

    /// The rows of both.
    pub(crate) fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::All, one) | (one, Self::All) => one.clone(),
            (Self::Own(one), Self::Own(other)) if one == other => Self::Own(*one),
            (one, other) => Self::Both(Arc::new((one.clone(), other.clone()))),
        }
    }

    /// Whether it covers the record; `None` when the database has to say.
    pub(crate) fn covers(&self, record: &Record) -> Option<bool> {
        match self {
            Self::All => Some(true),
            Self::Own(user) => Some(record.owner_id == Some(*user)),
            Self::Some(limits) => {
                let rules = limits.rules.iter();
                any(rules.map(|rule| rule.covers(limits, record)))
            }
            Self::Both(both) => {
                let parts = [both.0.covers(record), both.1.covers(record)];
                any(parts.into_iter().map(|part| part.map(|part| !part))).map(|none| !none)
            }
        }
    }
}

impl Limits {
    /// The user and those who share a group with them, where they are few.
    pub(crate) fn team(&self) -> Option<&[UserId]> {
        self.circle.as_deref()?.team()
    }

    /// The records of a module that a group of the user's is in charge of, where they are few.
    pub(crate) fn charge(&self, module: &CompiledModule) -> Option<Vec<RecordId>> {
        let charge = self.circle.as_deref()?.charge(module.name().as_str());
        charge.map(Iterator::collect)
    }

    /// Whether a record that is not the user's is one of their groups', itself or by its parent;
    /// `None` when the database has to say.
    fn has_in_charge(&self, record: &Record) -> Option<bool> {
        let (module, above) = self.line.split_first()?;
        match self.charge(module)?.contains(&record.id) {
            true => Some(true),
            false => above.is_empty().then_some(false),
        }
    }
}

impl PartialEq for Reach {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, Self::All) => true,
            (Self::Own(one), Self::Own(other)) => one == other,
            (Self::Some(one), Self::Some(other)) => Arc::ptr_eq(one, other),
            (Self::Both(one), Self::Both(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// Whether one holds, where some are unknown.
fn any(parts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut answer = Some(false);
    for part in parts {
        match part {
            Some(true) => return Some(true),
            Some(false) => {}
            None => answer = None,
        }
    }
    answer
}

/// Whether a record is its owner's alone: nothing stands above it, and no group of theirs is in
/// charge of any.
fn owner_alone_has(line: &[Arc<CompiledModule>], circle: Option<&Circle>) -> bool {
    let ([module], Some(circle)) = (line, circle) else {
        return false;
    };
    let charge = circle.charge(module.name().as_str());
    charge.is_some_and(|mut charge| charge.next().is_none())
}

/// Whether the rules ask for the user's own rows and nothing else.
fn only_own(rules: &[RowRule], alone: impl Fn() -> bool) -> bool {
    rules.iter().all(|rule| {
        let own = rule.needs_own() || rule.needs_parent() && alone();
        own && rule.conditions().len() == 0
    })
}

/// The module, the one its parent is of, and so on.
fn line(scope: &Scope, module: Option<&Arc<CompiledModule>>) -> Vec<Arc<CompiledModule>> {
    let above = |module: &Arc<CompiledModule>| {
        let field = &module.fields()[module.parent()?];
        let target = field.kind.targets().first()?;
        scope.module(target.as_str()).cloned()
    };
    std::iter::successors(module.cloned(), above)
        .take(MAX_LINE)
        .collect()
}

/// The values that a field has to have one of.
fn listed(comparison: &Comparison) -> Option<Vec<Value>> {
    match comparison {
        Comparison::Eq(value) => Some(vec![value.clone()]),
        Comparison::In(values) => Some(values.clone()),
        _ => None,
    }
}

impl Rule {
    /// `None` for a rule that covers nothing: one for a user where there is none, and one whose
    /// condition names a field that is gone.
    fn new(
        rule: &RowRule,
        user: Option<UserId>,
        module: Option<&Arc<CompiledModule>>,
    ) -> Option<Self> {
        let personal = rule.needs_own() || rule.needs_parent() || rule.needs_team();
        if personal && user.is_none() {
            return None;
        }
        let filters = rule.conditions().map(|condition| {
            let condition = serde_json::from_str(condition).ok()?;
            Filter::from_json(module?, &condition).ok()
        });
        Some(Self {
            own: rule.needs_own(),
            parent: rule.needs_parent(),
            team: rule.needs_team(),
            filters: filters.collect::<Option<_>>()?,
        })
    }

    /// Becomes both rules in one where they differ in the values of one field alone: a row is held
    /// against one list of values instead of against many conditions.
    fn takes_in(&mut self, other: &Self) -> bool {
        let alike = (self.own, self.parent, self.team) == (other.own, other.parent, other.team);
        match (self.filters.as_mut_slice(), other.filters.as_slice()) {
            ([Filter::Compare(field, mine)], [Filter::Compare(other, theirs)])
                if alike && field == other =>
            {
                let Some(more) = listed(theirs) else {
                    return false;
                };
                let Some(mut values) = listed(mine) else {
                    return false;
                };
                values.extend(more);
                *mine = Comparison::In(values);
                true
            }
            _ => false,
        }
    }

    /// Whether the owner's sharing a group with the user is all that it asks.
    fn is_of_team(&self) -> bool {
        self.team && !self.own && !self.parent && self.filters.is_empty()
    }

    fn covers(&self, limits: &Limits, record: &Record) -> Option<bool> {
        let owned = record.owner_id.is_some() && record.owner_id == limits.user;
        if self.own && !owned || !self.filters.iter().all(|filter| filter.matches(record)) {
            return Some(false);
        }
        if owned {
            return Some(true);
        }
        if self.team {
            let owner = record.owner_id;
            let shares = |team: &[UserId]| owner.is_some_and(|owner| team.contains(&owner));
            match limits.team().map(shares) {
                Some(true) => {}
                told => return told,
            }
        }
        match self.parent {
            true => limits.has_in_charge(record),
            false => Some(true),
        }
    }
}
