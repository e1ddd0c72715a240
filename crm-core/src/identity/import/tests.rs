//! Imported hashes: what a first login makes of them.

use anyhow::{Context as _, Result};

use super::*;
use crate::identity::fixture::*;
use crate::identity::session::Login;
use crate::on_both_databases;
use crate::testing::Backend;

on_both_databases!(
    xc_09_a_bcrypt_hash_is_replaced_by_argon2id_at_the_first_login,
    asvs_6_2_8_a_bcrypt_hash_is_not_replaced_by_what_it_did_not_look_at,
);

const OLD: &str = "old@example.com";

/// A world with a user whose password was hashed elsewhere; the hash.
async fn world(backend: Backend, password: &str) -> Result<(World, String)> {
    let (world, ann) = World::new(backend).await?;
    let hash = bcrypt::hash_with_salt(password, 4, [7; 16]).map_err(anyhow::Error::msg)?;
    let hash = hash.format_for_version(bcrypt::Version::TwoB);
    let user = ImportedUser {
        email: OLD.into(),
        name: "Old".into(),
        username: None,
        password_hash: hash.clone(),
        roles: vec!["viewer".into()],
    };
    let operator = world.crm.operator(ann.tenant_id, request());
    let permit = operator.permit::<Create>("members")?;
    world.accounts().import_user(&permit, user).await?;
    Ok((world, hash))
}

async fn stored(world: &World) -> Result<String> {
    let hash = Sql::new("SELECT password_hash FROM users WHERE email = $1")
        .bind(OLD, ColumnType::Text)
        .returns(&[ColumnType::Text]);
    let row = world.crm.core.db.fetch_optional(hash).await?;
    Ok(row.context("a user")?.text()?)
}

fn login(password: &str) -> Login {
    Login {
        password: password.into(),
        ..login_of(OLD)
    }
}

async fn xc_09_a_bcrypt_hash_is_replaced_by_argon2id_at_the_first_login(
    backend: Backend,
) -> Result<()> {
    let (world, hash) = world(backend, "correct horse").await?;
    let accounts = world.accounts();
    let wrong = accounts.login(login("correct house"), request()).await;
    assert_eq!(code(wrong), "invalid_credentials");
    assert_eq!(stored(&world).await?, hash);
    accounts.login(login("correct horse"), request()).await?;
    let made = stored(&world).await?;
    assert!(made.starts_with("$argon2id$v=19$"), "{made}");
    accounts.login(login("correct horse"), request()).await?;
    assert_eq!(stored(&world).await?, made, "once is enough");
    let wrong = accounts.login(login("correct house"), request()).await;
    assert_eq!(code(wrong), "invalid_credentials");
    Ok(())
}

async fn asvs_6_2_8_a_bcrypt_hash_is_not_replaced_by_what_it_did_not_look_at(
    backend: Backend,
) -> Result<()> {
    let start = "seven harpsichords, ".repeat(4)[..72].to_owned();
    let long = format!("{start} in tune");
    let (world, hash) = world(backend, &long).await?;
    let accounts = world.accounts();
    // bcrypt takes all of these for the password: none of them may become it.
    for typed in [&format!("{start} in tuna"), &start, &long] {
        accounts.login(login(typed), request()).await?;
        assert_eq!(stored(&world).await?, hash, "{typed}");
    }
    let wrong = accounts.login(login(&start[..71]), request()).await;
    assert_eq!(code(wrong), "invalid_credentials");
    Ok(())
}
