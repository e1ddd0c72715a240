//! What holds of the rows of passkeys, whatever devices do; the ceremonies are tested over HTTP.

use anyhow::Result;
use chrono::TimeDelta;
use secrecy::SecretString;

use super::*;
use crate::identity::fixture::*;
use crate::on_both_databases;
use crate::testing::Backend;

on_both_databases!(
    the_last_way_to_log_in_stays,
    of_two_removals_at_once_one_leaves_the_last_way_to_log_in,
    whoever_has_no_password_has_just_logged_in,
    an_erased_tenants_users_leave_no_passkey,
);

/// A passkey that no device has.
async fn plant(world: &World, user: UserId, number: u8) -> Result<PasskeyId> {
    let id = PasskeyId(world.crm.clock().new_id());
    let insert = Sql::new(
        "INSERT INTO passkeys (id, user_id, credential_hash, credential, name, created_at) \
         VALUES ($1, $2, $3, '{}', 'Phone', $4)",
    )
    .bind(id, ColumnType::Uuid)
    .bind(user, ColumnType::Uuid)
    .bind(vec![number; 32], ColumnType::Bytes)
    .bind(world.crm.clock().now(), ColumnType::Instant);
    world.execute(insert).await?;
    Ok(id)
}

/// Ann without a password, with two passkeys.
async fn without_password(backend: Backend) -> Result<(World, Scope, [PasskeyId; 2])> {
    let (world, session) = World::new(backend).await?;
    let scope = world.scope(&session.access_token).await?;
    let ids = [
        plant(&world, session.user_id, 1).await?,
        plant(&world, session.user_id, 2).await?,
    ];
    let forget = Sql::new("UPDATE users SET password_hash = NULL WHERE id = $1")
        .bind(session.user_id, ColumnType::Uuid);
    world.execute(forget).await?;
    Ok((world, scope, ids))
}

async fn the_last_way_to_log_in_stays(backend: Backend) -> Result<()> {
    let (world, scope, [first, last]) = without_password(backend).await?;
    let accounts = world.accounts();
    accounts
        .remove_passkey(&scope, first, StepUp::default())
        .await?;
    let refused = accounts.remove_passkey(&scope, last, StepUp::default());
    assert_eq!(code(refused.await), "last_way_to_log_in");
    assert_eq!(accounts.passkeys(&scope).await?.len(), 1);

    let other = world.other_tenant("Other").await?;
    world.member(other, "bob@example.com", &["viewer"]).await?;
    let bob = accounts
        .login(login_of("bob@example.com"), request())
        .await?;
    let only = plant(&world, bob.user_id, 3).await?;
    let bob = world.scope(&bob.access_token).await?;
    let proof = StepUp {
        password: Some(SecretString::from(PASSWORD)),
        code: None,
    };
    accounts.remove_passkey(&bob, only, proof).await?;
    assert!(accounts.passkeys(&bob).await?.is_empty());
    Ok(())
}

async fn of_two_removals_at_once_one_leaves_the_last_way_to_log_in(backend: Backend) -> Result<()> {
    let (world, scope, ids) = without_password(backend).await?;
    let both = ids.map(|id| {
        let (accounts, scope) = (world.accounts(), scope.clone());
        tokio::spawn(async move { accounts.remove_passkey(&scope, id, StepUp::default()).await })
    });
    let mut outcomes = Vec::new();
    for one in both {
        outcomes.push(code(one.await?));
    }
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["last_way_to_log_in", "no error"]);
    Ok(())
}

async fn whoever_has_no_password_has_just_logged_in(backend: Backend) -> Result<()> {
    let (world, scope, [first, _]) = without_password(backend).await?;
    let accounts = world.accounts();
    world.clock.advance(TimeDelta::minutes(10));
    let late = accounts.remove_passkey(&scope, first, StepUp::default());
    assert_eq!(code(late.await), "login_too_old");
    world.clock.step_back(TimeDelta::minutes(11));
    let early = accounts.remove_passkey(&scope, first, StepUp::default());
    assert_eq!(code(early.await), "login_too_old");
    Ok(())
}

async fn an_erased_tenants_users_leave_no_passkey(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    plant(&world, session.user_id, 1).await?;
    let handle = Sql::new("INSERT INTO passkey_handles (user_id, handle) VALUES ($1, $2)")
        .bind(session.user_id, ColumnType::Uuid)
        .bind(vec![7; 16], ColumnType::Bytes);
    world.execute(handle).await?;
    let tenants = world.crm.tenants();
    tenants.erase(session.tenant_id, ACME, request()).await?;
    let left = "SELECT (SELECT count(*) FROM passkeys) + (SELECT count(*) FROM passkey_handles)";
    assert_eq!(world.count(left).await?, 0);
    Ok(())
}
