//! The compiled policy against Casbin itself, over random policies, and the promises that no
//! random policy is likely to hit.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::id::{ApiKeyId, RoleId, TenantId, UserId};

const USERS: u128 = 2;
/// Of a record; no rule names the last.
const FIELDS: [&str; 3] = ["name", "salary", "city"];

fn role(number: usize) -> RoleId {
    RoleId(Uuid::from_u128(0x100 + number as u128))
}

fn catalogue() -> Catalogue {
    Catalogue::new(["contacts", "deals"]).unwrap()
}

/// A tenant by numbers: the parent of each role, the rules of roles, the roles of subjects.
type Draft = (
    Vec<Option<usize>>,
    Vec<(usize, Permission)>,
    Vec<(u128, usize)>,
);

/// Roles by number; the same ids in every tenant, so that a leak between domains would show.
fn drafts(roles: std::ops::Range<usize>) -> impl Strategy<Value = Draft> {
    let module = prop::sample::select(vec!["*", "records", "contacts", "deals", "members", "gone"]);
    let action = prop::sample::select(vec!["*", "read", "update", "delete", "gone"]);
    let form = prop::sample::select(vec![
        ("", ""),
        ("", ""),
        ("", ":own"),
        ("", ":team"),
        ("", ":parent"),
        ("!", ""),
    ]);
    let condition = prop::sample::select(vec![None, None, Some("a"), Some("b")]);
    let names = prop::sample::subsequence(FIELDS[..2].to_vec(), 1..=2);
    let fields = prop_oneof![
        Just(Fields::ALL),
        names.clone().prop_map(Fields::only),
        names.prop_map(Fields::except),
    ];
    let permission = (form, module, action, condition, fields);
    let permission = permission.prop_map(|((deny, rows), module, action, condition, fields)| {
        let permission: Permission = format!("{deny}{module}.{action}{rows}").parse().unwrap();
        if !deny.is_empty() {
            return permission;
        }
        let permission = permission.limited(fields);
        match condition {
            None => permission,
            Some(name) => permission.under(&condition_on(name)),
        }
    });
    roles.prop_flat_map(move |count| {
        let any_role = 0..count.max(1);
        (
            vec(prop::option::of(any_role.clone()), count),
            vec((any_role.clone(), permission.clone()), 0..10),
            vec((0..=USERS, any_role), 0..6),
        )
    })
}

/// A condition that is about one field.
fn condition_on(name: &str) -> serde_json::Map<String, serde_json::Value> {
    [(name.to_owned(), 1.into())].into_iter().collect()
}

fn tenant(number: usize, (parents, rules, held): Draft) -> TenantRules {
    let count = parents.len();
    TenantRules {
        tenant: TenantId(Uuid::from_u128(0x1 + number as u128)),
        roles: (0..count)
            .map(|n| RoleNode {
                id: role(n),
                parent: parents[n].map(role),
            })
            .collect(),
        rules: rules
            .into_iter()
            .filter(|(n, _)| *n < count)
            .map(|(n, permission)| Rule {
                role: role(n),
                permission,
            })
            .collect(),
        assignments: held
            .into_iter()
            .filter(|(_, n)| *n < count)
            .map(|(user, n)| {
                let id = Uuid::from_u128(0x200 + user);
                // The last subject is an API key.
                let subject = if user == USERS {
                    key(id)
                } else {
                    Subject::User(UserId(id))
                };
                (subject, role(n))
            })
            .collect(),
    }
}

fn key(id: Uuid) -> Subject {
    Subject::ApiKey(ApiKeyId(id))
}

fn subjects(tenant: &TenantRules) -> Vec<Subject> {
    let user = |n: u128| Subject::User(UserId(Uuid::from_u128(0x200 + n)));
    let mut all: Vec<_> = (0..USERS).map(user).collect();
    all.push(key(Uuid::from_u128(0x200 + USERS)));
    all.extend(
        tenant
            .roles
            .iter()
            .take(2)
            .map(|node| Subject::Role(node.id)),
    );
    all
}

fn compiled(catalogue: &Catalogue, tenant: &TenantRules, subject: Subject) -> Grants {
    let held: Vec<RoleId> = match subject {
        Subject::Role(id) => vec![id],
        _ => tenant
            .assignments
            .iter()
            .filter(|(s, _)| *s == subject)
            .map(|(_, r)| *r)
            .collect(),
    };
    let grants = CompiledPolicy::new(catalogue, tenant).grants(&held);
    match subject {
        Subject::ApiKey(_) => grants.without_own(),
        _ => (*grants).clone(),
    }
}

/// Rows by their relation to the subject, `All` being none, and the condition that they meet.
fn kinds_of_rows(subject: Subject) -> Vec<RowRule> {
    let relations = match subject {
        // It owns no rows and is in no group.
        Subject::ApiKey(_) => vec![RowScope::All],
        Subject::User(_) | Subject::Role(_) => {
            vec![
                RowScope::All,
                RowScope::Team,
                RowScope::Parent,
                RowScope::Own,
            ]
        }
    };
    let conditions = [None, Some(r#"{"a":1}"#), Some(r#"{"b":1}"#)];
    let rows = relations.into_iter().flat_map(|relation| {
        let rows = conditions.into_iter();
        rows.map(move |condition| RowRule::new(relation, condition))
    });
    rows.collect()
}

/// Every subject × object × action of every tenant, both ways.
fn assert_same_decisions(tenants: &[TenantRules]) {
    let catalogue = catalogue();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let oracle = runtime.block_on(Oracle::new(&catalogue, tenants)).unwrap();
    for tenant in tenants {
        for subject in subjects(tenant) {
            let grants = compiled(&catalogue, tenant, subject);
            let kinds = kinds_of_rows(subject);
            for (count, (operation, object, action)) in catalogue.operations().enumerate() {
                // Casbin is slow: each operation with some kinds of rows, all of them in turn.
                for row in [count, count + kinds.len() / 2].map(|at| &kinds[at % kinds.len()]) {
                    let (relation, condition) = (row.scope(), row.conditions().next());
                    let asked = (object, action);
                    // And one of the fields, or none: all of them in turn.
                    let field = FIELDS.get(count % (FIELDS.len() + 1)).copied();
                    let row = row.clone().limited(Fields::only(field));
                    let rows = (relation, condition);
                    let answer = oracle.allows(tenant.tenant, subject, asked, rows, field);
                    assert_eq!(
                        grants.rows(operation).is_some_and(|rows| rows.cover(&row)),
                        answer.unwrap(),
                        "{subject} {object}.{action}{row} in {tenant:#?}",
                    );
                }
                if count % 4 != 0 {
                    continue;
                }
                assert_eq!(
                    grants.decide(operation),
                    oracle
                        .decide(tenant.tenant, subject, object, action)
                        .unwrap(),
                    "{subject} {object}.{action} in {tenant:#?}",
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn compiled_decisions_equal_casbins(policies in vec(drafts(0..6), 1..4)) {
        let tenants: Vec<_> =
            policies.into_iter().enumerate().map(|(n, policy)| tenant(n, policy)).collect();
        assert_same_decisions(&tenants);
    }
}

/// A chain of `depth` roles under a root that states `permissions`; the user holds the last.
fn chain(depth: usize, permissions: &[(usize, &str)]) -> TenantRules {
    let parents = (0..depth).map(|n| n.checked_sub(1)).collect();
    let rules = permissions
        .iter()
        .map(|(n, text)| (*n, text.parse().unwrap()))
        .collect();
    tenant(0, (parents, rules, vec![(0, depth - 1)]))
}

#[test]
fn a_denial_is_inherited_over_more_levels_than_casbin_follows_by_itself() {
    let tenant = chain(25, &[(0, "!contacts.delete"), (24, "*.*")]);
    let grants = compiled(&catalogue(), &tenant, subjects(&tenant)[0]);
    let decide = |action| grants.decide(catalogue().operation("contacts", action).unwrap());
    assert_eq!(decide("delete"), None);
    assert_eq!(decide("update"), Some(RowScope::All));
    assert_same_decisions(&[tenant]);
}

#[test]
fn a_cycle_of_roles_ends_and_shares_its_permissions() {
    let mut tenant = chain(4, &[(0, "contacts.read"), (3, "deals.update:own")]);
    tenant.roles[0].parent = Some(role(3));
    let first = compiled(&catalogue(), &tenant, Subject::Role(role(0)));
    let last = compiled(&catalogue(), &tenant, Subject::Role(role(3)));
    assert_eq!(first, last);
    let own = catalogue().operation("deals", "update").unwrap();
    assert_eq!(first.decide(own), Some(RowScope::Own));
    assert_same_decisions(&[tenant]);
}

#[test]
fn a_tail_into_a_cycle_inherits_all_of_it() {
    // 4 → 3 → 2 → 1 → 3
    let mut tenant = chain(
        5,
        &[(1, "contacts.read"), (3, "!deals.read"), (2, "deals.*")],
    );
    tenant.roles[1].parent = Some(role(3));
    assert_same_decisions(&[tenant]);
}

#[test]
fn a_compiled_tenant_of_280_rules_fits_four_kibibytes() {
    let catalogue = Catalogue::new((0..10).map(|n| format!("module_{n}"))).unwrap();
    let rules = (0..10).flat_map(|n| catalogue.operations().take(28).map(move |p| (n, p)));
    let tenant = TenantRules {
        tenant: TenantId(Uuid::from_u128(1)),
        roles: (0..10)
            .map(|n| RoleNode {
                id: role(n),
                parent: None,
            })
            .collect(),
        rules: rules
            .map(|(n, (_, object, action))| Rule {
                role: role(n),
                permission: format!("{object}.{action}").parse().unwrap(),
            })
            .collect(),
        assignments: Vec::new(),
    };
    assert_eq!(tenant.rules.len(), 280);
    let bytes = CompiledPolicy::new(&catalogue, &tenant).bytes();
    assert!(bytes <= 4096, "{bytes}");
}

#[test]
fn no_code_touches_casbins_enforcement_switch() {
    fn search(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                search(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                // Spelled in two parts, so that this file does not find itself.
                if text.contains(concat!("enable_", "enforce")) {
                    found.push(path.display().to_string());
                }
            }
        }
    }
    let (core, mut found) = (Path::new(env!("CARGO_MANIFEST_DIR")), Vec::new());
    search(&core.join("src"), &mut found);
    for sibling in ["crm-http/src", "crm-plugins/src"] {
        let folder = core.with_file_name(sibling);
        if folder.is_dir() {
            search(&folder, &mut found);
        }
    }
    assert_eq!(found, Vec::<String>::new());
}
