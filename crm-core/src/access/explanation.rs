//! What an explanation says, and what the rules of a subject come to.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::id::{RoleId, UserId};
use crate::policy::{Effect, Permission, RowScope};

/// Why somebody may do something, or may not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Whether they may do it to the record; where none was asked about, to some at least.
    pub allowed: bool,
    /// What decided it.
    pub reason: Reason,
    /// All rules of the subject that speak of the action: denials first, then what allows it.
    pub rules: Vec<ExplainedRule>,
}

/// What decides whether somebody may do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A rule allows it.
    Allowed,
    /// A rule denies it, whatever others allow.
    Denied,
    /// No rule allows it.
    NoRule,
    /// Rules allow it, but not on these rows.
    OtherRows,
    /// Rules allow it on rows that fields tell which the asking one may not read in this record.
    Undisclosed,
    /// The role of the API key allows it; the service account that the key acts as may not do it,
    /// or not on these rows.
    Account,
    /// The API key was made with a list of permissions, and this is not one of them.
    Unlisted,
    /// The API key has expired.
    Expired,
    /// The user may not log in, the API key is revoked or its service account is none any more, or
    /// the tenant is suspended.
    Inactive,
}

impl Reason {
    /// The form on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::NoRule => "no_rule",
            Self::OtherRows => "other_rows",
            Self::Undisclosed => "undisclosed",
            Self::Account => "account",
            Self::Unlisted => "unlisted",
            Self::Expired => "expired",
            Self::Inactive => "inactive",
        }
    }
}

/// A rule, and how the subject comes by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedRule {
    /// The permission as the role states it.
    pub permission: Permission,
    /// The role that states it.
    pub role_id: RoleId,
    /// The role's name.
    pub role: String,
    /// How the subject holds the role, from the subject on; empty for a role asked about itself.
    pub through: Vec<Step>,
    /// Whether the record is one of the rule's rows, such as the subject's own; a role by itself
    /// owns nothing. Absent when no record was asked about, and when fields decide that the asking
    /// one may not read in it.
    pub covers: Option<bool>,
    /// Why it gives nothing to anybody: its condition is not one of the module as it is now, such
    /// as one about a field that is gone. Absent for every other rule, whether it covers the
    /// record.
    pub void: Option<String>,
}

/// One step from a subject to the role that states a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What kind of step it is.
    pub kind: StepKind,
    /// The group, or the role.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// The instant at which the step ends, if it does.
    pub until: Option<DateTime<Utc>>,
}

/// What kind of step leads to a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// The API key acts as this service account, and may do what both the account and the key's own
    /// role may.
    Account,
    /// The subject is in this group.
    Group,
    /// The subject, or the account or the group before, holds this role.
    Role,
    /// The role before includes this one.
    Parent,
}

impl StepKind {
    /// The form on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Group => "group",
            Self::Role => "role",
            Self::Parent => "parent",
        }
    }
}

impl ExplainedRule {
    /// The same rule, of the service account that a key acts as.
    pub(super) fn of(mut self, account: UserId, name: &str) -> Self {
        let step = Step {
            kind: StepKind::Account,
            id: account.0,
            name: name.to_owned(),
            until: None,
        };
        self.through.insert(0, step);
        self
    }

    fn is_of_account(&self) -> bool {
        let first = self.through.first();
        first.is_some_and(|step| step.kind == StepKind::Account)
    }
}

/// What rules are held against.
pub(super) struct Case {
    /// Whether a record was asked about.
    pub(super) record: bool,
    /// Whether rows can be the subject's own: a key by itself owns none and is in no group.
    pub(super) personal: bool,
    /// Whether the subject is a key that acts as a service account.
    pub(super) acts_as: bool,
    /// Whether the rights have the operation, on whichever rows.
    pub(super) holds: bool,
}

/// What the rules come to.
pub(super) fn decide(rules: &[ExplainedRule], case: &Case) -> Reason {
    let (of_account, own): (Vec<_>, Vec<_>) = rules.iter().partition(|rule| rule.is_of_account());
    let reason = decide_one(&own, case);
    if reason != Reason::Allowed {
        return reason;
    }
    let of_account = match case.acts_as {
        true => decide_one(&of_account, case),
        false => Reason::Allowed,
    };
    match of_account {
        Reason::Allowed if case.holds => Reason::Allowed,
        Reason::Allowed => Reason::Unlisted,
        Reason::Undisclosed => Reason::Undisclosed,
        _ => Reason::Account,
    }
}

/// What the rules of one side come to: of the subject, or of the account that a key acts as.
fn decide_one(rules: &[&ExplainedRule], case: &Case) -> Reason {
    let of = |effect: Effect| {
        let rules = rules.iter().copied();
        rules.filter(move |rule| rule.permission.effect() == effect)
    };
    if of(Effect::Deny).next().is_some() {
        return Reason::Denied;
    }
    let reaches = |rule: &ExplainedRule| case.personal || rule.permission.rows() == RowScope::All;
    let allows = |rule: &ExplainedRule| {
        let may = || !case.record && reaches(rule);
        rule.void.is_none() && rule.covers.unwrap_or_else(may)
    };
    if of(Effect::Allow).next().is_none() {
        Reason::NoRule
    } else if of(Effect::Allow).any(allows) {
        Reason::Allowed
    } else if case.record && of(Effect::Allow).any(|rule| rule.covers.is_none()) {
        Reason::Undisclosed
    } else {
        Reason::OtherRows
    }
}
