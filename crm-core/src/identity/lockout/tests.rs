//! The promises of lockout, on both databases.

use std::time::Duration;

use anyhow::Result;

use super::*;
use crate::identity::fixture::*;
use crate::identity::{Login, PasswordCost};
use crate::on_both_databases;
use crate::testing::Backend;

on_both_databases!(
    failures_in_a_row_wait_longer_and_longer_and_the_tenth_locks,
    a_lock_ends_by_time_and_by_a_login,
    a_lock_never_touches_an_open_session,
    known_and_unknown_accounts_do_the_same_work_and_lock_alike,
    an_admin_unlocks_members_of_their_tenant_only,
    a_lock_survives_a_restart_and_holds_in_every_process,
    a_right_password_that_was_guessed_among_failures_opens_nothing,
    a_clock_put_back_locks_nobody_for_longer,
);

/// Tries a wrong password, and answers for how many seconds the next attempt is refused.
async fn wrong(world: &World, email: &str) -> u64 {
    let login = Login {
        password: "wrong horse".into(),
        ..login_of(email)
    };
    let refused = world.accounts().login(login, request()).await;
    assert_eq!(code(refused), "invalid_credentials");
    match check(&world.crm.core.db, world.crm.clock(), email).await {
        Err(Error::TooMany { retry_after, .. }) => retry_after.as_secs(),
        other => {
            assert!(other.is_ok());
            0
        }
    }
}

/// Fails until the account is locked; a minute or more passes between the attempts.
async fn lock(world: &World, email: &str) -> Vec<u64> {
    let mut waits = Vec::new();
    for _ in 0..10 {
        world.wait_a_minute();
        waits.push(wrong(world, email).await);
    }
    waits
}

async fn failures_in_a_row_wait_longer_and_longer_and_the_tenth_locks(
    backend: Backend,
) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    assert_eq!(lock(&world, ANN).await, [0, 0, 0, 0, 1, 2, 4, 8, 16, 900]);
    let right = world.accounts().login(login_of(ANN), request()).await;
    assert_eq!(code(right), "rate_limited");
    let audited = world.audited(session.tenant_id).await?;
    assert_eq!(
        audited
            .iter()
            .filter(|action| *action == "auth.locked")
            .count(),
        1
    );
    Ok(())
}

async fn a_lock_ends_by_time_and_by_a_login(backend: Backend) -> Result<()> {
    let (world, _) = World::new(backend).await?;
    lock(&world, ANN).await;
    world.clock.advance(LOCK - TimeDelta::microseconds(1));
    let early = world.accounts().login(login_of(ANN), request()).await;
    assert_eq!(code(early), "rate_limited");
    world.clock.advance(TimeDelta::microseconds(1));
    world.accounts().login(login_of(ANN), request()).await?;
    assert_eq!(world.count("SELECT count(*) FROM login_failures").await?, 0);
    assert_eq!(wrong(&world, ANN).await, 0, "it begins anew");
    Ok(())
}

async fn a_lock_never_touches_an_open_session(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    lock(&world, ANN).await;
    let next = world
        .accounts()
        .refresh(session.refresh_token, request())
        .await?;
    world.scope(&next.access_token).await?;
    Ok(())
}

async fn known_and_unknown_accounts_do_the_same_work_and_lock_alike(
    backend: Backend,
) -> Result<()> {
    let (world, _) = World::new(backend).await?;
    const NOBODY: &str = "nobody@example.com";
    assert_eq!(lock(&world, ANN).await, lock(&world, NOBODY).await);
    let rows = "SELECT count(*) FROM login_failures WHERE failures = 10 AND locked_until > 0";
    let rows = match world.crm.core.db.dialect() {
        crate::db::Dialect::Sqlite => rows,
        crate::db::Dialect::Postgres => {
            "SELECT count(*) FROM login_failures WHERE failures = 10 AND locked_until IS NOT NULL"
        }
    };
    assert_eq!(world.count(rows).await?, 2);
    let answer = async |email: &str| {
        let refused = world.accounts().login(login_of(email), request()).await;
        refused.unwrap_err().code()
    };
    assert_eq!(answer(ANN).await, "rate_limited");
    assert_eq!(answer(NOBODY).await, "rate_limited");
    Ok(())
}

async fn an_admin_unlocks_members_of_their_tenant_only(backend: Backend) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let bob = world
        .member(ann.tenant_id, "bob@example.com", &["viewer"])
        .await?;
    let globex = world.other_tenant("Globex").await?;
    let eve = world.member(globex, "eve@example.com", &["viewer"]).await?;
    lock(&world, "bob@example.com").await;
    let next = world
        .accounts()
        .refresh(ann.refresh_token, request())
        .await?;
    let permit = world.scope(&next.access_token).await?.permit("members")?;
    world.accounts().unlock(&permit, bob).await?;
    world.accounts().unlock(&permit, bob).await?;
    world
        .accounts()
        .login(login_of("bob@example.com"), request())
        .await?;
    assert_eq!(
        code(world.accounts().unlock(&permit, eve).await),
        "not_found"
    );
    let audited = world.audited(ann.tenant_id).await?;
    let unlocks = audited.iter().filter(|action| *action == "members.unlock");
    assert_eq!(unlocks.count(), 1);
    Ok(())
}

async fn a_lock_survives_a_restart_and_holds_in_every_process(backend: Backend) -> Result<()> {
    let (world, _) = World::new(backend).await?;
    lock(&world, ANN).await;
    let other = world.other_process().await?;
    let refused = other.accounts().login(login_of(ANN), request()).await;
    assert_eq!(code(refused), "rate_limited");
    other.close().await;
    let world = world.restarted(PasswordCost::LOWEST).await?;
    let refused = world.accounts().login(login_of(ANN), request()).await;
    assert_eq!(code(refused), "rate_limited");
    Ok(())
}

async fn a_right_password_that_was_guessed_among_failures_opens_nothing(
    backend: Backend,
) -> Result<()> {
    let (world, _) = World::new(backend).await?;
    world.wait_a_minute();
    for _ in 0..9 {
        fail(&world.crm.core.db, world.crm.clock(), ANN).await?;
    }
    world.wait_a_minute();
    // The right one is let in and waits for its hash while the tenth wrong one is noted.
    let busy = world.crm.core.identity.passwords.busy().await?;
    let accounts = world.accounts();
    let mut right = std::pin::pin!(accounts.login(login_of(ANN), request()));
    let early = tokio::time::timeout(Duration::from_millis(300), right.as_mut());
    assert!(early.await.is_err(), "it waits for its turn");
    for _ in 0..10 {
        fail(&world.crm.core.db, world.crm.clock(), ANN).await?;
    }
    drop(busy);
    // As a wrong one of the same moment is told.
    assert_eq!(code(right.await), "invalid_credentials");
    Ok(())
}

async fn a_clock_put_back_locks_nobody_for_longer(backend: Backend) -> Result<()> {
    let (world, _) = World::new(backend).await?;
    lock(&world, ANN).await;
    world.clock.step_back(TimeDelta::days(1));
    world.accounts().login(login_of(ANN), request()).await?;
    Ok(())
}
