//! The promises of signing keys, on both databases.

use anyhow::{Context, Result};
use secrecy::ExposeSecret;

use super::*;
use crate::identity::fixture::*;
use crate::on_both_databases;
use crate::testing::Backend;

on_both_databases!(
    a_new_installation_has_one_key_whoever_starts_it,
    a_rotation_overlaps_and_reaches_other_processes,
    a_rotation_overtakes_one_that_has_not_begun,
    a_revoked_key_dies_at_once_and_is_replaced,
    a_rotation_that_would_kill_living_tokens_is_refused,
    unknown_kids_at_volume_cost_no_query,
    no_key_is_stored,
);

fn rotation(algorithm: TokenAlgorithm) -> Rotation {
    Rotation {
        algorithm,
        lead: TimeDelta::seconds(10),
        overlap: TimeDelta::minutes(10),
    }
}

fn kid_of(token: &secrecy::SecretString) -> Option<String> {
    let header = jsonwebtoken::decode_header(token.expose_secret()).ok()?;
    header.kid
}

async fn a_new_installation_has_one_key_whoever_starts_it(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let other = world.other_process().await?;
    let keys = other.token_keys().list().await?;
    assert_eq!(keys.len(), 1);
    assert_eq!(Some(&keys[0].kid), kid_of(&session.access_token).as_ref());
    assert_eq!(keys[0].algorithm, TokenAlgorithm::Hs256);
    other.close().await;
    Ok(())
}

async fn a_rotation_overlaps_and_reaches_other_processes(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let operator = world.other_process().await?;
    let keys = operator.token_keys();
    let new = keys
        .rotate(rotation(TokenAlgorithm::EdDsa), request())
        .await?;
    world.crm.follow_once().await?;
    let accounts = world.accounts();
    let login = || accounts.login(login_of(ANN), request());
    assert_ne!(kid_of(&login().await?.access_token), Some(new.kid.clone()));
    world.clock.advance(TimeDelta::seconds(10));
    let next = login().await?;
    assert_eq!(kid_of(&next.access_token), Some(new.kid.clone()));
    world.scope(&session.access_token).await?;
    let scope = operator.authenticate(next.access_token.expose_secret(), request());
    scope.await?;
    let published = world.crm.token_keys().published();
    assert_eq!(published["keys"][0]["kid"], json!(new.kid));
    assert_eq!(published["keys"][0]["crv"], "Ed25519");
    let listed = keys.list().await?;
    let ends: Vec<_> = listed.iter().map(|key| key.ends_at).collect();
    assert_eq!(ends, [Some(new.starts_at + TimeDelta::minutes(10)), None]);
    operator.close().await;
    Ok(())
}

async fn a_rotation_overtakes_one_that_has_not_begun(backend: Backend) -> Result<()> {
    let (world, _) = World::new(backend).await?;
    let keys = world.crm.token_keys();
    let late = Rotation {
        lead: TimeDelta::seconds(30),
        ..rotation(TokenAlgorithm::EdDsa)
    };
    keys.rotate(late, request()).await?;
    let soon = rotation(TokenAlgorithm::EdDsa);
    let last = keys.rotate(soon, request()).await?;
    // The last one begins; the one before it would; that one is at its end.
    for seconds in [10, 20, 1_200] {
        world.clock.advance(TimeDelta::seconds(seconds));
        let session = world.accounts().login(login_of(ANN), request()).await?;
        assert_eq!(kid_of(&session.access_token), Some(last.kid.clone()));
        world.scope(&session.access_token).await?;
    }
    Ok(())
}

async fn a_revoked_key_dies_at_once_and_is_replaced(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    world.scope(&session.access_token).await?;
    let operator = world.other_process().await?;
    let kid = kid_of(&session.access_token).context("a kid")?;
    operator.token_keys().revoke(&kid, request()).await?;
    operator.token_keys().revoke(&kid, request()).await?;
    world.crm.follow_once().await?;
    assert_eq!(
        code(world.scope(&session.access_token).await),
        "token_invalid"
    );
    // The session lives: only what the key signed is worthless.
    let next = world
        .accounts()
        .refresh(session.refresh_token, request())
        .await?;
    world.scope(&next.access_token).await?;
    let keys = operator.token_keys().list().await?;
    let revoked: Vec<_> = keys.iter().map(|key| key.revoked_at.is_some()).collect();
    assert_eq!(revoked, [true, false]);
    let unknown = operator
        .token_keys()
        .revoke("AAAAAAAAAAAA", request())
        .await;
    assert_eq!(code(unknown), "not_found");
    let audited = world.audited(INSTALLATION).await?;
    assert_eq!(audited, ["keys.revoke"]);
    operator.close().await;
    Ok(())
}

async fn a_rotation_that_would_kill_living_tokens_is_refused(backend: Backend) -> Result<()> {
    let (world, _) = World::new(backend).await?;
    let short = Rotation {
        overlap: TimeDelta::minutes(9),
        ..rotation(TokenAlgorithm::Es256)
    };
    let refused = world.crm.token_keys().rotate(short, request()).await;
    assert_eq!(refused_field(refused), ("/overlap".into(), "out_of_range"));
    Ok(())
}

async fn unknown_kids_at_volume_cost_no_query(backend: Backend) -> Result<()> {
    let (world, _) = World::new(backend).await?;
    // Whatever asked the database now would be answered `unavailable`.
    world.crm.close().await;
    for n in 0..10_000 {
        use base64::Engine as _;
        let header = format!(r#"{{"typ":"at+jwt","alg":"HS256","kid":"{n}"}}"#);
        let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header);
        let token = format!("{header}.e30.AAAA").into();
        assert_eq!(code(world.scope(&token).await), "token_invalid");
    }
    Ok(())
}

async fn no_key_is_stored(backend: Backend) -> Result<()> {
    let (world, _) = World::new(backend).await?;
    let columns = world.crm.core.db.fetch_all(select()).await?;
    // Id, algorithm and times are all there is.
    assert_eq!(columns.len(), 1);
    let keys = SigningKeys::from_secret(&"b".repeat(32).into())?;
    let rows = read(&world.crm.core.db).await?;
    let elsewhere = rows[0].listed(&keys).kid;
    assert_ne!(world.crm.token_keys().list().await?[0].kid, elsewhere);
    Ok(())
}
