//! What holds of the rows of passkeys, whatever devices do; the ceremonies are tested over HTTP.

use anyhow::Result;
use secrecy::SecretString;

use super::*;
use crate::identity::fixture::*;
use crate::on_both_databases;
use crate::testing::Backend;

on_both_databases!(
    the_last_way_to_log_in_stays,
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

async fn the_last_way_to_log_in_stays(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let (accounts, ann) = (world.accounts(), world.scope(&session.access_token).await?);
    let proof = StepUp {
        password: SecretString::from(PASSWORD),
        code: None,
    };
    let first = plant(&world, session.user_id, 1).await?;
    let refused = accounts.remove_passkey(&ann, first, proof.clone()).await;
    assert_eq!(code(refused), "second_factor_required");
    let passed = Sql::new("UPDATE refresh_families SET two_factors = $1");
    world.execute(passed.bind(true, ColumnType::Bool)).await?;
    accounts.remove_passkey(&ann, first, proof.clone()).await?;
    let only = plant(&world, session.user_id, 2).await?;
    let forget = Sql::new("UPDATE users SET password_hash = NULL WHERE id = $1")
        .bind(session.user_id, ColumnType::Uuid);
    world.execute(forget).await?;
    let refused = accounts.remove_passkey(&ann, only, proof).await;
    assert_eq!(code(refused), "no_password");
    assert_eq!(accounts.passkeys(&ann).await?.len(), 1);
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
