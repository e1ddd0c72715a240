//! Where the rights of a subject stem from: the roles it holds, with what each allows. Owns the
//! words that audit entries name a rule by; decides nothing.

use std::sync::Arc;

use super::catalogue::{Catalogue, Operation};
use super::grants::Grants;
use super::rows::Rows;

/// Most characters of a rule in words.
const MOST: usize = 500;

/// A role that a subject holds, itself or through a group, and what the role allows.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    role: Box<str>,
    group: Option<Box<str>>,
    grants: Arc<Grants>,
}

impl Source {
    pub(super) fn new(role: &str, group: Option<&str>, grants: Arc<Grants>) -> Self {
        Self {
            role: role.into(),
            group: group.map(Into::into),
            grants,
        }
    }

    /// `group support, role seller: deals.update:team fields stage`.
    fn words(&self, permission: &str, rows: &Rows) -> String {
        let group = self.group.as_ref();
        let group = group.map_or(String::new(), |name| format!("group {name}, "));
        let rows = match rows {
            Rows::All => permission.to_owned(),
            Rows::Of(rules) => {
                let rules = rules.iter().map(|rule| format!("{permission}{rule}"));
                rules.collect::<Vec<_>>().join(" or ")
            }
        };
        format!("{group}role {}: {rows}", self.role)
    }
}

/// The rule of one of these roles that allows the operation: one for all rows and fields if there
/// is any, else those that may have allowed it, one behind the other. `None` when there is none.
pub(crate) fn rule_of(
    sources: &[Source],
    catalogue: &Catalogue,
    operation: Operation,
) -> Option<String> {
    let permission = catalogue.name(operation);
    let rules = sources
        .iter()
        .filter_map(|source| Some((source, source.grants.rows(operation)?)));
    let rules: Vec<_> = rules.collect();
    let whole = rules.iter().find(|(_, rows)| rows.is_all());
    if let Some((source, rows)) = whole {
        return Some(cut(source.words(&permission, rows)));
    }
    let words = rules
        .iter()
        .map(|(source, rows)| source.words(&permission, rows));
    let words: Vec<_> = words.collect();
    (!words.is_empty()).then(|| cut(words.join("; ")))
}

fn cut(words: String) -> String {
    match words.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RoleId;
    use crate::policy::{CompiledPolicy, RoleNode, Rule, TenantRules};

    fn source(catalogue: &Catalogue, role: &str, group: Option<&str>, rules: &[&str]) -> Source {
        let id = RoleId(uuid::Uuid::from_u128(1));
        let permissions = rules.iter().map(|text| text.parse().unwrap());
        let rules = TenantRules {
            tenant: crate::id::TenantId(uuid::Uuid::from_u128(2)),
            roles: vec![RoleNode { id, parent: None }],
            rules: permissions
                .map(|permission| Rule {
                    role: id,
                    permission,
                })
                .collect(),
            assignments: Vec::new(),
        };
        Source::new(
            role,
            group,
            CompiledPolicy::new(catalogue, &rules).grants(&[id]),
        )
    }

    #[test]
    fn the_rule_for_all_rows_is_named_before_those_for_some() {
        let catalogue = Catalogue::new(["deals"]).unwrap();
        let update = catalogue.operation("deals", "update").unwrap();
        let seller = source(&catalogue, "seller", None, &["deals.*:team"]);
        let clerk = source(&catalogue, "clerk", Some("office"), &["deals.update:own"]);
        let chief = source(&catalogue, "chief", Some("office"), &["*.*"]);
        let rule = |sources: &[Source]| rule_of(sources, &catalogue, update);
        assert_eq!(
            rule(&[seller.clone(), clerk.clone()]).unwrap(),
            "role seller: deals.update:team; group office, role clerk: deals.update:own"
        );
        assert_eq!(
            rule(&[seller, clerk, chief]).unwrap(),
            "group office, role chief: deals.update"
        );
        assert_eq!(rule(&[]), None);
    }
}
