//! Which rows a right reaches: all of them, or those that one of several rules covers. Owns when
//! one such rule holds whenever another does; knows nothing of records and SQL.

use std::fmt;
use std::sync::Arc;

use super::fields::Fields;
use super::permission::{Permission, RowScope};

/// The relations to the acting user that a row must stand in, all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
struct Needs(u8);

const OWN: u8 = 1;
const PARENT: u8 = 2;
const TEAM: u8 = 4;

impl From<RowScope> for Needs {
    fn from(scope: RowScope) -> Self {
        Self(match scope {
            RowScope::Own => OWN,
            RowScope::Parent => PARENT,
            RowScope::Team => TEAM,
            RowScope::All => 0,
        })
    }
}

impl Needs {
    /// Both needs; an own row stands in every relation.
    fn and(self, other: Self) -> Self {
        match (self.0 | other.0) & OWN {
            0 => Self(self.0 | other.0),
            _ => Self(OWN),
        }
    }

    /// Whether a row that meets these needs meets the others, too.
    fn imply(self, other: Self) -> bool {
        self.0 == OWN || other.0 & !self.0 == 0
    }
}

/// Rows that stand in certain relations to the acting user and meet certain conditions, and the
/// fields of these that are reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowRule {
    needs: Needs,
    /// JSON filters in one spelling each, ordered and distinct.
    conditions: Arc<[Arc<str>]>,
    fields: Fields,
}

impl RowRule {
    /// The rows of a scope, under a condition as JSON, if any, with all fields.
    pub fn new(scope: RowScope, condition: Option<&str>) -> Self {
        Self {
            needs: scope.into(),
            conditions: condition.into_iter().map(Arc::from).collect(),
            fields: Fields::ALL,
        }
    }

    /// The same rows with these fields.
    #[must_use]
    pub fn limited(self, fields: Fields) -> Self {
        Self { fields, ..self }
    }

    /// The fields that it reaches of its rows.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Whether the acting user must own the row.
    pub fn needs_own(&self) -> bool {
        self.needs.0 & OWN != 0
    }

    /// Whether the row, or one that it is part of, must be the acting user's or their groups'.
    pub fn needs_parent(&self) -> bool {
        self.needs.0 & PARENT != 0
    }

    /// Whether the owner must share a group with the acting user.
    pub fn needs_team(&self) -> bool {
        self.needs.0 & TEAM != 0
    }

    /// The filters that the row must match, as JSON.
    pub fn conditions(&self) -> impl ExactSizeIterator<Item = &str> {
        self.conditions.iter().map(AsRef::as_ref)
    }

    /// The scope, where the rule is about one alone, whatever its conditions.
    pub fn scope(&self) -> RowScope {
        match self.needs.0 {
            0 => RowScope::All,
            PARENT => RowScope::Parent,
            TEAM => RowScope::Team,
            _ => RowScope::Own,
        }
    }

    /// Whether every row of this rule is one of the other, with all its fields.
    pub(super) fn within(&self, other: &Self) -> bool {
        self.fields.within(&other.fields) && self.has_rows_of(other)
    }

    /// Whether every row of this rule is one of the other.
    pub(super) fn has_rows_of(&self, other: &Self) -> bool {
        self.needs.imply(other.needs)
            && other
                .conditions
                .iter()
                .all(|condition| self.conditions.contains(condition))
    }

    /// Whether it is for every row, with whichever fields.
    pub(crate) fn is_for_all_rows(&self) -> bool {
        self.needs.0 == 0 && self.conditions.is_empty()
    }

    /// Whether it is for every field of every row.
    pub(super) fn is_for_all(&self) -> bool {
        self.is_for_all_rows() && self.fields.is_all()
    }

    /// Whether own rows are among its rows, whatever they hold, with all fields.
    pub(super) fn includes_own(&self) -> bool {
        self.conditions.is_empty() && self.fields.is_all()
    }

    /// Whether it asks for no relation to a user.
    pub(super) fn is_impersonal(&self) -> bool {
        self.needs.0 == 0
    }

    /// The rows of both, with the fields of both.
    pub(super) fn and(&self, other: &Self) -> Self {
        let mut conditions: Vec<_> = self.conditions.iter().cloned().collect();
        conditions.extend(other.conditions.iter().cloned());
        conditions.sort_unstable();
        conditions.dedup();
        Self {
            needs: self.needs.and(other.needs),
            conditions: conditions.into(),
            fields: self.fields.and(&other.fields),
        }
    }

    /// The rows it would reach if the user shared their groups with everybody.
    pub(super) fn beyond_groups(&self) -> Self {
        Self {
            needs: Needs(self.needs.0 & OWN),
            conditions: self.conditions.clone(),
            fields: self.fields.clone(),
        }
    }
}

/// As it stands behind a permission: `:team`, ` where {"state":"open"}` for a condition, and
/// ` fields email,name` or ` except owner_id`.
impl fmt::Display for RowRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, scope) in [
            (OWN, RowScope::Own),
            (PARENT, RowScope::Parent),
            (TEAM, RowScope::Team),
        ] {
            if self.needs.0 & bit != 0 {
                write!(f, ":{}", scope.as_str())?;
            }
        }
        for (count, condition) in self.conditions.iter().enumerate() {
            let word = if count == 0 { "where" } else { "and" };
            write!(f, " {word} {condition}")?;
        }
        self.fields.fmt(f)
    }
}

/// The rows that an operation may touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// Every row of the tenant, with all fields.
    All,
    /// The rows of any of these rules; of each the fields of all rules that it falls under.
    Of(Vec<RowRule>),
}

impl Rows {
    /// The rows of a permission alone.
    pub(crate) fn of(permission: &Permission) -> Self {
        let rule = RowRule::new(permission.rows(), permission.condition());
        let rule = rule.limited(permission.fields().clone());
        match rule.is_for_all() {
            true => Self::All,
            false => Self::Of(vec![rule]),
        }
    }

    /// Whether these are all rows, with all fields.
    pub fn is_all(&self) -> bool {
        *self == Self::All
    }

    /// The widest scope of its rules; those under a condition count as the narrowest.
    pub fn scope(&self) -> RowScope {
        match self {
            Self::All => RowScope::All,
            Self::Of(rules) => {
                let plain = rules.iter().filter(|rule| rule.conditions.is_empty());
                plain.map(RowRule::scope).max().unwrap_or(RowScope::Own)
            }
        }
    }

    /// Whether the rows of a rule are among these.
    #[cfg(test)]
    pub(super) fn cover(&self, row: &RowRule) -> bool {
        match self {
            Self::All => true,
            Self::Of(rules) => rules.iter().any(|rule| row.within(rule)),
        }
    }

    /// Whether any rule is about some fields only.
    pub(crate) fn have_lists(&self) -> bool {
        match self {
            Self::All => false,
            Self::Of(rules) => rules.iter().any(|rule| !rule.fields.is_all()),
        }
    }

    /// Whether the other rows are among these, with whichever fields.
    pub(crate) fn include(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Of(rules), Self::All) => rules.iter().any(RowRule::is_for_all_rows),
            (Self::Of(rules), Self::Of(others)) => others
                .iter()
                .all(|other| rules.iter().any(|rule| other.has_rows_of(rule))),
        }
    }
}

/// The rules without those that another one makes needless, each with the fields of all rules that
/// its rows fall under.
pub(super) fn reduced(mut rules: Vec<RowRule>) -> Vec<RowRule> {
    if rules.iter().any(|rule| !rule.fields.is_all()) {
        let stated = rules.clone();
        for rule in &mut rules {
            rule.fields = reached(rule, &stated);
        }
    }
    rules.sort_unstable();
    rules.dedup();
    let all = rules.clone();
    rules.retain(|rule| !all.iter().any(|other| other != rule && rule.within(other)));
    rules
}

/// The fields that rules reach of the rows of one rule.
pub(super) fn reached(rule: &RowRule, rules: &[RowRule]) -> Fields {
    let wider = rules.iter().filter(|other| rule.has_rows_of(other));
    wider.fold(Fields::only([""; 0]), |fields, other| {
        fields.or(&other.fields)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPES: [RowScope; 4] = [
        RowScope::Own,
        RowScope::Parent,
        RowScope::Team,
        RowScope::All,
    ];

    #[test]
    fn own_is_within_every_scope_and_all_within_none_other() {
        for scope in SCOPES {
            let rule = RowRule::new(scope, None);
            assert!(RowRule::new(RowScope::Own, None).within(&rule));
            assert!(rule.within(&RowRule::new(RowScope::All, None)));
            assert_eq!(rule.scope(), scope);
        }
        let [own, parent, team, all] = SCOPES.map(|scope| RowRule::new(scope, None));
        assert!(!parent.within(&team) && !team.within(&parent));
        assert!(!all.within(&team) && !team.within(&own));
    }

    #[test]
    fn a_condition_narrows_and_is_met_by_itself_only() {
        let open = RowRule::new(RowScope::All, Some(r#"{"state":"open"}"#));
        let won = RowRule::new(RowScope::All, Some(r#"{"state":"won"}"#));
        let all = RowRule::new(RowScope::All, None);
        assert!(open.within(&all) && !all.within(&open) && !open.within(&won));
        let both = open.and(&won);
        assert!(both.within(&open) && both.within(&won) && !open.within(&both));
    }

    #[test]
    fn the_fields_of_wider_rules_come_with_the_rows_of_narrower_ones() {
        let rule = |scope, names: &[&str]| RowRule::new(scope, None).limited(Fields::only(names));
        let (all, own) = (RowScope::All, RowScope::Own);
        let rules = reduced(vec![rule(all, &["name"]), rule(own, &["salary"])]);
        let fields: Vec<_> = rules.iter().map(|rule| rule.to_string()).collect();
        assert_eq!(fields, [" fields name", ":own fields name,salary"]);
        let same = reduced(vec![rule(all, &["name"]), rule(all, &["email"])]);
        assert_eq!(same, [rule(all, &["email", "name"])]);
        let needless = reduced(vec![rule(all, &["name", "email"]), rule(own, &["name"])]);
        assert_eq!(needless, [rule(all, &["email", "name"])]);
    }

    #[test]
    fn both_of_two_rules_are_within_each_and_needless_rules_go() {
        for a in SCOPES {
            for b in SCOPES {
                let (a, b) = (RowRule::new(a, None), RowRule::new(b, None));
                let both = a.and(&b);
                assert!(both.within(&a) && both.within(&b));
                assert!(!reduced(vec![a.clone(), both]).is_empty());
            }
        }
        let rules = SCOPES.map(|scope| RowRule::new(scope, None)).to_vec();
        assert_eq!(reduced(rules), [RowRule::new(RowScope::All, None)]);
    }
}
