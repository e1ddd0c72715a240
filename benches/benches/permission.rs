//! A permission check among 10,000 tenants, each with a member whose rights are cached.
//!
//! Target: 1 µs or less for tenant lookup and decision together.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot run has nobody to answer"
)]

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{BatchSize, Criterion};
use crm_benches::{Fixture, request};
use crm_core::id::{TenantId, UserId};
use crm_core::identity::NewUser;
use crm_core::{Create, Crm, DatabaseOptions, Durability, Read, testing};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Runtime;

const TENANTS: usize = 10_000;
/// Tenants whose members have an access token.
const TOKENS: usize = 100;

fn email(number: usize) -> String {
    format!("member{number}@example.com")
}

async fn member(crm: &Crm, number: usize) -> crm_core::Result<(TenantId, UserId)> {
    let tenant = crm
        .tenants()
        .create(&format!("tenant {number}"), request())
        .await?
        .id;
    let permit = crm
        .operator(tenant, request())
        .permit::<Create>("members")?;
    let user = NewUser {
        email: email(number),
        name: "Member".to_owned(),
        password: "correct horse battery staple".into(),
        roles: vec!["manager".to_owned()],
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

fn main() {
    let runtime = Runtime::new().unwrap();
    let options = DatabaseOptions {
        durability: Durability::Off,
        ..DatabaseOptions::default()
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let fixture = runtime.block_on(Fixture::open(folder, options, 0)).unwrap();
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
            BatchSize::SmallInput,
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
                BatchSize::SmallInput,
            );
        },
    );
    group.finish();
    criterion.final_summary();
}
