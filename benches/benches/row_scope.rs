//! A page of 100,000 contacts for members whose roles reach the rows of a team, their own, those
//! that match conditions, or some fields, in a tenant of 10,000 rules; beside the same page without
//! such limits, measured in turns.
//!
//! Target: 1.3 times the page of all rows, or less. Conditions that few rows meet are held against
//! the same conditions as a filter of the client's, too: no index answers either. On SQLite, or on
//! the empty database that `BENCH_DATABASE` names.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot run has nobody to answer"
)]

use std::path::Path;
use std::time::Duration;

use criterion::Criterion;
use crm_benches::{Fixture, contact, request, speed_ratio};
use crm_core::group::{GroupMember, NewGroup};
use crm_core::id::UserId;
use crm_core::identity::NewUser;
use crm_core::policy::PermissionInput;
use crm_core::record::{Filter, Query};
use crm_core::role::NewRole;
use crm_core::{Create, DatabaseOptions, Durability, Permit, Read, testing};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use tokio::runtime::Runtime;

const CONTACTS: usize = 100_000;
/// Users who own one contact in ten each.
const OWNERS: usize = 10;
/// Roles of 130 rules each.
const ROLES: usize = 80;

/// The lister under conditions that few rows meet.
const CONDITIONS: &str = "50 conditions, an eighth";
/// The lister whose team owns no row at all.
const NOTHING: &str = "a team that owns nothing";

/// Rounds of a comparison, and pages of each kind in a round.
const ROUNDS: usize = 51;
const PAGES: usize = 10;

/// A member with a role of these permissions, amid the rules of the tenant.
async fn member(fixture: &Fixture, name: &str, permissions: Vec<PermissionInput>) -> UserId {
    let role = NewRole {
        name: name.to_owned(),
        permissions,
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
        let company = |number| read_where("company", &format!("Works{role}-{number}"));
        permissions.extend((0..50).map(company));
        let new = NewRole {
            name: format!("role {role}"),
            permissions,
            ..NewRole::default()
        };
        let role = fixture.crm.roles().create(&permit, new).await.unwrap();
        assert!(role.permissions.len() * ROLES >= 10_000);
    }
}

/// Reading the contacts for which a field has this value.
fn read_where(field: &str, value: &str) -> PermissionInput {
    PermissionInput {
        permission: "contacts.read".to_owned(),
        condition: json!({field: value}).as_object().cloned(),
        ..PermissionInput::default()
    }
}

/// Reading two fields of the contacts that a permission reaches.
fn some_fields(permission: &str) -> PermissionInput {
    PermissionInput {
        permission: permission.to_owned(),
        fields: Some(vec!["name".to_owned(), "status".to_owned()]),
        ..PermissionInput::default()
    }
}

/// A team of these members.
async fn team(fixture: &Fixture, name: &str, members: &[UserId]) {
    let members = members.iter().map(|user_id| GroupMember {
        user_id: *user_id,
        until: None,
    });
    let group = NewGroup {
        name: name.to_owned(),
        members: members.collect(),
        ..NewGroup::default()
    };
    let permit = fixture.scope.permit::<Create>("groups").unwrap();
    fixture.crm.groups().create(&permit, group).await.unwrap();
}

/// As many as one role may have conditions; one contact in eight is of one of them.
fn companies() -> impl Iterator<Item = String> {
    (0..50).map(|number| format!("Works{:03}", number * 8))
}

/// The filter that asks for the same contacts.
fn of_companies(fixture: &Fixture) -> Filter {
    let filter = json!({"company": {"in": companies().collect::<Vec<_>>()}});
    let module = fixture.scope.module("contacts").unwrap();
    Filter::from_json(module, filter.as_object().unwrap()).unwrap()
}

/// Those who list, all rows first.
async fn listers(fixture: &Fixture) -> Vec<(&'static str, UserId)> {
    let companies = companies().map(|company| read_where("company", &company));
    let listers = [
        ("all rows", vec!["contacts.read".into()]),
        ("a team that owns all", vec!["contacts.read:team".into()]),
        (
            "a team that owns a tenth",
            vec!["contacts.read:team".into()],
        ),
        ("own rows, a tenth", vec!["contacts.read:own".into()]),
        (
            "own rows and those of their groups, a tenth",
            vec!["contacts.read:parent".into()],
        ),
        (
            "a condition that all meet",
            vec![read_where("status", "active")],
        ),
        (CONDITIONS, companies.collect()),
        (NOTHING, vec!["contacts.read:team".into()]),
        ("some fields", vec![some_fields("contacts.read")]),
        (
            "a team that owns all, some fields",
            vec![some_fields("contacts.read:team")],
        ),
    ];
    let mut users = Vec::new();
    for (number, (name, permissions)) in listers.into_iter().enumerate() {
        let role = format!("lister{number}");
        users.push((name, member(fixture, &role, permissions).await));
    }
    users
}

/// The tenant with its rules, users and contacts; answers the permits to compare, all rows first.
async fn prepare(fixture: &Fixture) -> Vec<(&'static str, Permit<Read>)> {
    rules(fixture).await;
    let listers = listers(fixture).await;
    let user_of = |wanted: &str| {
        let mut listers = listers.iter();
        listers.find(|(name, _)| *name == wanted).unwrap().1
    };
    let mut owners = vec![
        user_of("own rows, a tenth"),
        user_of("own rows and those of their groups, a tenth"),
    ];
    for number in owners.len()..OWNERS {
        owners.push(user(fixture, &format!("owner{number}"), "viewer").await);
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
    let mut large = owners.clone();
    large.push(user_of("a team that owns all"));
    large.push(user_of("a team that owns all, some fields"));
    team(fixture, "large", &large).await;
    let small = [owners[2], user_of("a team that owns a tenth")];
    team(fixture, "small", &small).await;

    let tenant = fixture.scope.tenant();
    let mut permits = Vec::new();
    for (name, user) in listers {
        let scope = testing::scope(&fixture.crm, tenant, user, request()).await;
        permits.push((name, scope.unwrap().unwrap().permit("contacts").unwrap()));
    }
    permits
}

fn main() {
    let runtime = Runtime::new().unwrap();
    let options = DatabaseOptions {
        durability: Durability::Off,
        ..DatabaseOptions::default()
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let fixture = runtime.block_on(Fixture::open_on_any(folder, options));
    let fixture = fixture.unwrap();
    let permits = runtime.block_on(prepare(&fixture));

    let records = fixture.crm.records();
    let query = Query::default();
    for (name, permit) in &permits {
        let page = runtime.block_on(records.list(permit, &query)).unwrap();
        let expected = if *name == NOTHING { 0 } else { query.limit };
        assert_eq!(page.data.len(), expected as usize, "{name}");
    }
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
    let page = async |permit: &Permit<Read>| drop(records.list(permit, &query).await.unwrap());
    let filtered = Query {
        filter: Some(of_companies(&fixture)),
        ..Query::default()
    };
    let (_, all) = &permits[0];
    for (name, permit) in &permits {
        let speed = speed_ratio(
            ROUNDS,
            PAGES,
            async || page(permit).await,
            async || page(all).await,
        );
        let cost = 1.0 / runtime.block_on(speed);
        println!("{name}: {cost:.2} times all rows (target: 1.3 or less)");
        if *name == CONDITIONS {
            let speed = speed_ratio(
                ROUNDS,
                PAGES,
                async || page(permit).await,
                async || drop(records.list(all, &filtered).await.unwrap()),
            );
            let cost = 1.0 / runtime.block_on(speed);
            println!("{name}: {cost:.2} times the same as a filter (target: 1.3 or less)");
        }
    }
    criterion.final_summary();
}
