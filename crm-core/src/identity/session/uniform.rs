//! Known and unknown accounts make this process do the same work.

use std::time::Duration;

use anyhow::Result;

use super::*;
use crate::identity::IdentityOptions;
use crate::identity::fixture::*;
use crate::on_both_databases;
use crate::testing::Backend;

on_both_databases!(
    asvs_6_3_8_a_login_hashes_once_whoever_is_asked_for,
    asvs_6_3_8_a_failed_login_takes_its_time_whoever_is_asked_for,
    asvs_6_3_8_a_forgotten_password_hashes_nothing_whoever_is_asked_for,
    a_token_that_opens_nothing_makes_nobody_hash,
);

const MEGABYTE: usize = 1_000_000;

/// A world with Ann, Bob, who is not active, and a user without a password.
async fn world(backend: Backend) -> Result<(World, TenantId)> {
    let (world, session) = World::new(backend).await?;
    let tenant = session.tenant_id;
    for (email, change) in [
        (
            "bob@example.com",
            "UPDATE users SET status = 'inactive' WHERE email = $1",
        ),
        (
            "eve@example.com",
            "UPDATE users SET password_hash = NULL WHERE email = $1",
        ),
    ] {
        world.member(tenant, email, &["viewer"]).await?;
        world
            .execute(Sql::new(change).bind(email, ColumnType::Text))
            .await?;
    }
    Ok((world, tenant))
}

const PEOPLE: [&str; 5] = [
    ANN,
    "bob@example.com",
    "eve@example.com",
    "nobody@example.com",
    "no_such_name",
];

async fn asvs_6_3_8_a_login_hashes_once_whoever_is_asked_for(backend: Backend) -> Result<()> {
    let (world, _) = world(backend).await?;
    let passwords = &world.crm.core.identity.passwords;
    for password in ["wrong horse".to_owned(), "x".repeat(10 * MEGABYTE)] {
        for email in PEOPLE {
            let before = passwords.hashes();
            let login = Login {
                password: password.as_str().into(),
                ..login_of(email)
            };
            let refused = world.accounts().login(login, request()).await;
            assert_eq!(code(refused), "invalid_credentials", "{email}");
            assert_eq!(passwords.hashes() - before, 1, "{email}");
        }
    }
    // One that is locked is refused before the work, known or not.
    for email in PEOPLE {
        while code(
            world
                .accounts()
                .login(login_of_wrong(email), request())
                .await,
        ) != "rate_limited"
        {
            world.clock.advance(chrono::TimeDelta::seconds(20));
        }
        let before = passwords.hashes();
        let refused = world.accounts().login(login_of(email), request()).await;
        assert_eq!(code(refused), "rate_limited", "{email}");
        assert_eq!(passwords.hashes(), before, "{email}");
    }
    Ok(())
}

async fn asvs_6_3_8_a_failed_login_takes_its_time_whoever_is_asked_for(
    backend: Backend,
) -> Result<()> {
    const TIME: Duration = Duration::from_millis(300);
    assert_eq!(IdentityOptions::default().failed_login_time, TIME);
    let world = World::with(backend, |builder| builder.failed_login_time(TIME)).await?;
    let input = registration(world.setup().await?);
    let ann = world.accounts().register(input, request()).await?;
    let old = "old@example.com";
    world.member(ann.tenant_id, old, &["viewer"]).await?;
    let hash = bcrypt::hash_with_salt(PASSWORD, 4, [7; 16]).map_err(anyhow::Error::msg)?;
    let hash = hash.format_for_version(bcrypt::Version::TwoB);
    let import = Sql::new("UPDATE users SET password_hash = $1 WHERE email = $2")
        .bind(hash, ColumnType::Text)
        .bind(old, ColumnType::Text);
    world.execute(import).await?;
    let accounts = world.accounts();
    for email in [ANN, old, "nobody@example.com"] {
        let begun = Instant::now();
        let refused = accounts.login(login_of_wrong(email), request()).await;
        assert_eq!(code(refused), "invalid_credentials", "{email}");
        assert!(begun.elapsed() >= TIME, "{email}");
    }
    // Whoever waits for a turn is answered at a multiple of it.
    let turns = world.crm.core.identity.passwords.busy().await?;
    let begun = Instant::now();
    let login = accounts.login(login_of_wrong(ANN), request());
    let (refused, ()) = tokio::join!(login, async {
        tokio::time::sleep(TIME + TIME / 10).await;
        drop(turns);
    });
    assert_eq!(code(refused), "invalid_credentials");
    assert!(begun.elapsed() >= TIME * 2);
    Ok(())
}

fn login_of_wrong(email: &str) -> Login {
    Login {
        password: "wrong horse".into(),
        ..login_of(email)
    }
}

async fn asvs_6_3_8_a_forgotten_password_hashes_nothing_whoever_is_asked_for(
    backend: Backend,
) -> Result<()> {
    let (world, _) = world(backend).await?;
    let passwords = &world.crm.core.identity.passwords;
    let before = passwords.hashes();
    for email in PEOPLE.iter().filter(|email| email.contains('@')) {
        world.accounts().forgot_password(email, request())?;
        world.crm.core.identity.settle().await;
    }
    assert_eq!(passwords.hashes(), before);
    Ok(())
}

async fn a_token_that_opens_nothing_makes_nobody_hash(backend: Backend) -> Result<()> {
    let (world, _) = world(backend).await?;
    let (accounts, passwords) = (world.accounts(), &world.crm.core.identity.passwords);
    let before = passwords.hashes();
    let reset = accounts.reset_password("crm_pr_x".into(), "a new harpsichord".into(), request());
    assert_eq!(
        refused_field(reset.await),
        ("/token".into(), "invalid_token")
    );
    let register = accounts.register(registration("crm_st_x".into()), request());
    assert_eq!(code(register.await), "setup_token_invalid");
    assert_eq!(passwords.hashes(), before);
    Ok(())
}
