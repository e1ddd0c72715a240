//! A permission check among 10,000 tenants of 280 rules, each with a member whose rights are
//! cached; and the memory that a cached tenant takes.
//!
//! Target: 1 µs or less for tenant lookup and decision together, 10 µs or less with the access
//! token; 4 KiB or less for a tenant with its member. On SQLite, or on the empty database that
//! `BENCH_DATABASE` names.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot run has nobody to answer"
)]

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use criterion::{BatchSize, Criterion};
use crm_benches::{Fixture, library, request};
use crm_core::id::{TenantId, UserId};
use crm_core::identity::NewUser;
use crm_core::role::NewRole;
use crm_core::{Create, Crm, DatabaseOptions, Durability, Read, testing};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Runtime;

/// As in `crm`, and counting.
#[global_allocator]
static ALLOCATOR: Counting = Counting(mimalloc::MiMalloc);

/// Bytes in use. What the allocator keeps for later, and SQLite has of its own, is not the cache's.
static IN_USE: AtomicUsize = AtomicUsize::new(0);

struct Counting(mimalloc::MiMalloc);

#[expect(
    unsafe_code,
    reason = "an allocator is asked so; every call is passed on as it is"
)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { self.0.dealloc(pointer, layout) }
    }
}

const TENANTS: usize = 10_000;
/// Tenants whose members have an access token.
const TOKENS: usize = 100;

/// Roles of one rule for each action on each object: 280 rules in all.
const ROLES: usize = 4;
const MODULES: [&str; 3] = ["contacts", "companies", "deals"];
const ADMINISTRATION: [&str; 11] = [
    "members",
    "roles",
    "groups",
    "access",
    "api_keys",
    "plugins",
    "audit",
    "jobs",
    "modules",
    "impersonations",
    "identity_providers",
];
const ACTIONS: [&str; 5] = ["read", "create", "update", "delete", "purge"];

fn email(number: usize) -> String {
    format!("member{number}@example.com")
}

/// A role of 70 rules; every other one reaches own records only.
fn role(number: usize) -> NewRole {
    let rows = if number % 2 == 1 { ":own" } else { "" };
    let modules = MODULES.iter().map(|module| (module, rows));
    let objects = modules.chain(ADMINISTRATION.iter().map(|object| (object, "")));
    let permissions = objects
        .flat_map(|(object, rows)| ACTIONS.map(|action| format!("{object}.{action}{rows}").into()));
    NewRole {
        name: format!("role {number}"),
        permissions: permissions.collect(),
        ..NewRole::default()
    }
}

async fn member(crm: &Crm, number: usize) -> crm_core::Result<(TenantId, UserId)> {
    let tenant = crm
        .tenants()
        .create(&format!("tenant {number}"), request())
        .await?
        .id;
    let operator = crm.operator(tenant, request());
    let permit = operator.permit::<Create>("roles")?;
    let mut rules = 0;
    for number in 0..ROLES {
        let made = crm.roles().create(&permit, role(number)).await?;
        rules += made.permissions.len();
    }
    assert_eq!(rules, 280);
    let permit = operator.permit::<Create>("members")?;
    let user = NewUser {
        email: email(number),
        name: "Member".to_owned(),
        password: "correct horse battery staple".into(),
        roles: vec!["role 1".to_owned(), "role 2".to_owned()],
    };
    let user = crm.accounts().create_user(&permit, user).await?.user_id;
    Ok((tenant, user))
}

async fn tokens(crm: &Crm) -> crm_core::Result<Vec<SecretString>> {
    stream::iter(0..TOKENS)
        .then(|number| async move {
            let (tenant, email) = (format!("tenant {number}"), email(number));
            crm.accounts()
                .operator_token(&tenant, &email, request())
                .await
        })
        .try_collect()
        .await
}

/// Fills the cache of another library on the same database: the first half makes what there is
/// once, the second half is measured.
async fn print_memory(url: &str, members: &[(TenantId, UserId)]) {
    let crm = library(url, DatabaseOptions::default()).await.unwrap();
    let (first, second) = members.split_at(members.len() / 2);
    let mut before = 0;
    for half in [first, second] {
        before = IN_USE.load(Ordering::Relaxed);
        for &(tenant, user) in half {
            let scope = testing::scope(&crm, tenant, user, request()).await;
            assert!(scope.unwrap().is_some());
        }
    }
    let bytes = IN_USE.load(Ordering::Relaxed).saturating_sub(before) / second.len();
    println!("memory of a cached tenant with its member: {bytes} bytes (target: 4,096 or less)");
    crm.close().await;
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
    let crm = &fixture.crm;
    let (members, tokens) = runtime.block_on(async {
        let members = stream::iter(0..TENANTS)
            .map(|number| member(crm, number))
            .buffered(64);
        let members: Vec<_> = members.try_collect().await.unwrap();
        // Fills the cache, from which each new member's policy change took some.
        for &(tenant, user) in &members {
            testing::scope(crm, tenant, user, request()).await.unwrap();
        }
        let tokens = tokens(crm).await.unwrap();
        for token in &tokens {
            let token = token.expose_secret();
            crm.authenticate(token, request()).await.unwrap();
        }
        (members, tokens)
    });

    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(5))
        .configure_from_args();
    let mut group = criterion.benchmark_group("permission among 10,000 tenants");
    let mut turn = 0;
    let mut next = || {
        // A prime step: tenants in an order without pattern.
        turn = (turn + 7_919) % TENANTS;
        (turn, request())
    };
    group.bench_function("tenant lookup and check (target: 1 µs or less)", |b| {
        b.iter_batched(
            &mut next,
            |(turn, request)| {
                let (tenant, user) = members[turn];
                // What is cached is ready at the first poll.
                let scope = testing::scope(crm, tenant, user, request).now_or_never();
                let scope = scope.unwrap().unwrap().unwrap();
                black_box(scope.permit::<Read>("contacts").unwrap())
            },
            BatchSize::NumIterations(256),
        );
    });
    let scope = runtime.block_on(testing::scope(crm, members[0].0, members[0].1, request()));
    let scope = scope.unwrap().unwrap();
    group.bench_function("check alone", |b| {
        b.iter(|| black_box(scope.permit::<Read>(black_box("contacts")).unwrap()));
    });
    group.bench_function(
        "with the access token, its session and the scope (target: 10 µs or less)",
        |b| {
            b.iter_batched(
                &mut next,
                |(turn, request)| {
                    let token = tokens[turn % TOKENS].expose_secret();
                    let scope = crm
                        .authenticate(token, request)
                        .now_or_never()
                        .unwrap()
                        .unwrap();
                    black_box(scope.permit::<Read>("contacts").unwrap())
                },
                BatchSize::NumIterations(256),
            );
        },
    );
    group.finish();
    runtime.block_on(print_memory(&fixture.url, &members));
    criterion.final_summary();
}
