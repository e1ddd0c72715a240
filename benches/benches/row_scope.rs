//! A page of 100,000 contacts for a member whose role reaches the rows of a team, those that match a
//! condition, or some fields, in a tenant of 10,000 rules; beside the same page without such limits.
//!
//! Target: 1.3 times the page of all rows, or less.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot run has nobody to answer"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::Criterion;
use crm_benches::{Fixture, contact, request};
use crm_core::group::{GroupMember, NewGroup};
use crm_core::id::UserId;
use crm_core::identity::NewUser;
use crm_core::policy::PermissionInput;
use crm_core::record::Query;
use crm_core::role::NewRole;
use crm_core::{Create, DatabaseOptions, Durability, Permit, Read, testing};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use tokio::runtime::Runtime;

const CONTACTS: usize = 100_000;
const OWNERS: usize = 10;
/// Roles of 130 rules each.
const ROLES: usize = 80;

/// A member with a role of this one permission, amid the rules of the tenant.
async fn member(fixture: &Fixture, name: &str, permission: PermissionInput) -> UserId {
    let role = NewRole {
        name: name.to_owned(),
        permissions: vec![permission],
        ..NewRole::default()
    };
    let permit = fixture.scope.permit::<Create>("roles").unwrap();
    fixture.crm.roles().create(&permit, role).await.unwrap();
    user(fixture, name, name).await
}

async fn user(fixture: &Fixture, name: &str, role: &str) -> UserId {
    let user = NewUser {
        email: format!("{name}@example.com"),
        name: name.to_owned(),
        password: "correct horse battery staple".into(),
        roles: vec![role.to_owned()],
    };
    let permit = fixture.scope.permit::<Create>("members").unwrap();
    let joined = fixture.crm.accounts().create_user(&permit, user).await;
    joined.unwrap().user_id
}

/// Rules that differ in what they ask of a row, so that none makes another needless.
async fn rules(fixture: &Fixture) {
    let permit = fixture.scope.permit::<Create>("roles").unwrap();
    let actions = ["read", "create", "update", "delete", "purge"];
    for role in 0..ROLES {
        let rule = |number: usize| -> PermissionInput {
            let action = actions[number % actions.len()];
            let module = ["contacts", "companies", "deals", "records"][number % 4];
            let rows = ["", ":own", ":team", ":parent"][number / 20 % 4];
            format!("{module}.{action}{rows}").into()
        };
        let mut permissions: Vec<_> = (0..80).map(rule).collect();
        permissions.extend((0..50).map(|number| {
            PermissionInput {
                permission: "contacts.read".to_owned(),
                condition: json!({"company": format!("Works{role}-{number}")})
                    .as_object()
                    .cloned(),
                ..PermissionInput::default()
            }
        }));
        let new = NewRole {
            name: format!("role {role}"),
            permissions,
            ..NewRole::default()
        };
        let role = fixture.crm.roles().create(&permit, new).await.unwrap();
        assert!(role.permissions.len() * ROLES >= 10_000);
    }
}

fn main() {
    let runtime = Runtime::new().unwrap();
    let options = DatabaseOptions {
        durability: Durability::Off,
        ..DatabaseOptions::default()
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let fixture = runtime.block_on(Fixture::open(folder, options, 0)).unwrap();
    let permits: Vec<(&str, Permit<Read>)> = runtime.block_on(async {
        rules(&fixture).await;
        let mut owners = Vec::new();
        for number in 0..OWNERS {
            owners.push(user(&fixture, &format!("owner{number}"), "viewer").await);
        }
        let permit = fixture.create_permit().unwrap();
        let records = fixture.crm.records();
        let made = stream::iter(0..CONTACTS).map(|serial| {
            let mut contact = contact(serial);
            contact.insert("owner_id".to_owned(), json!(owners[serial % OWNERS]));
            records.create(&permit, contact)
        });
        let made: Vec<_> = made.buffered(64).try_collect().await.unwrap();
        assert_eq!(made.len(), CONTACTS);
        let active = PermissionInput {
            permission: "contacts.read".to_owned(),
            condition: json!({"status": "active"}).as_object().cloned(),
            ..PermissionInput::default()
        };
        let some_fields = |permission: &str| PermissionInput {
            permission: permission.to_owned(),
            fields: Some(vec!["name".to_owned(), "status".to_owned()]),
            ..PermissionInput::default()
        };
        let users = [
            (
                "all rows",
                member(&fixture, "all", "contacts.read".into()).await,
            ),
            (
                "a team",
                member(&fixture, "team", "contacts.read:team".into()).await,
            ),
            ("a condition", member(&fixture, "condition", active).await),
            (
                "some fields",
                member(&fixture, "fields", some_fields("contacts.read")).await,
            ),
            (
                "a team, some fields",
                member(&fixture, "team-fields", some_fields("contacts.read:team")).await,
            ),
        ];
        let members = owners.iter().chain(users.iter().map(|(_, user)| user));
        let group = NewGroup {
            name: "team".to_owned(),
            members: members
                .map(|user_id| GroupMember {
                    user_id: *user_id,
                    until: None,
                })
                .collect(),
            ..NewGroup::default()
        };
        let permit = fixture.scope.permit::<Create>("groups").unwrap();
        fixture.crm.groups().create(&permit, group).await.unwrap();
        let mut permits = Vec::new();
        for (name, user) in users {
            let tenant = fixture.scope.tenant();
            let scope = testing::scope(&fixture.crm, tenant, user, request()).await;
            permits.push((name, scope.unwrap().unwrap().permit("contacts").unwrap()));
        }
        permits
    });

    let records = fixture.crm.records();
    let query = Query::default();
    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(5))
        .configure_from_args();
    let mut group = criterion.benchmark_group("a page of 100,000 contacts, 10,000 rules");
    for (name, permit) in &permits {
        group.bench_function(*name, |b| {
            b.iter(|| runtime.block_on(records.list(permit, &query)).unwrap());
        });
    }
    group.finish();
    let mut unlimited = Duration::ZERO;
    for (name, permit) in &permits {
        let mut times: Vec<Duration> = (0..501)
            .map(|_| {
                let start = Instant::now();
                runtime.block_on(records.list(permit, &query)).unwrap();
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        let median = times[times.len() / 2];
        if unlimited.is_zero() {
            unlimited = median;
        }
        let ratio = median.as_secs_f64() / unlimited.as_secs_f64();
        println!("{name}: {median:?}, {ratio:.2} times all rows (target: 1.3 or less)");
    }
    criterion.final_summary();
}
