//! The promises of suspended accounts, on both databases.

use anyhow::Result;
use secrecy::ExposeSecret;

use crate::identity::fixture::*;
use crate::on_both_databases;
use crate::testing::Backend;

const BOB: &str = "bob@example.com";

on_both_databases!(
    a_suspended_user_is_out_at_once_everywhere_and_comes_back,
    the_last_admin_of_a_tenant_is_not_suspended,
    of_two_admins_suspended_at_once_one_stays,
    suspending_is_repeatable_and_of_nobody_refused,
);

async fn a_suspended_user_is_out_at_once_everywhere_and_comes_back(backend: Backend) -> Result<()> {
    let (world, first) = World::new(backend).await?;
    world.member(first.tenant_id, BOB, &["admin"]).await?;
    let session = world.accounts().login(login_of(BOB), request()).await?;
    let other = world.other_process().await?;
    let token = session.access_token.expose_secret();
    other.authenticate(token, request()).await?;
    world.scope(&session.access_token).await?;

    world.accounts().suspend_user(BOB, request()).await?;
    assert_eq!(
        code(world.scope(&session.access_token).await),
        "token_invalid"
    );
    other.follow_once().await?;
    assert_eq!(
        code(other.authenticate(token, request()).await),
        "token_invalid"
    );
    let login = world.accounts().login(login_of(BOB), request()).await;
    assert_eq!(code(login), "invalid_credentials");
    let refreshed = world
        .accounts()
        .refresh(session.refresh_token.clone(), request())
        .await;
    assert_eq!(code(refreshed), "token_invalid");
    world.scope(&first.access_token).await?;

    world.wait_a_minute();
    world.accounts().activate_user(BOB, request()).await?;
    let again = world.accounts().login(login_of(BOB), request()).await?;
    world.scope(&again.access_token).await?;
    assert_eq!(
        code(world.scope(&session.access_token).await),
        "token_invalid"
    );
    let refreshed = world
        .accounts()
        .refresh(session.refresh_token, request())
        .await;
    assert_eq!(code(refreshed), "token_invalid", "what ended stays so");
    let audited = world.audited(first.tenant_id).await?;
    for action in ["users.suspend", "users.activate"] {
        assert_eq!(
            audited.iter().filter(|one| *one == action).count(),
            1,
            "{action}"
        );
    }
    other.close().await;
    Ok(())
}

async fn the_last_admin_of_a_tenant_is_not_suspended(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let refused = world.accounts().suspend_user(ANN, request()).await;
    assert_eq!(code(refused), "last_admin");
    world.scope(&session.access_token).await?;
    let audited = world.audited(session.tenant_id).await?;
    assert!(!audited.iter().any(|action| action == "users.suspend"));
    // Of another tenant neither.
    let globex = world.other_tenant("Globex").await?;
    world.member(session.tenant_id, BOB, &["viewer"]).await?;
    world.member(globex, BOB, &["admin"]).await?;
    let refused = world.accounts().suspend_user(BOB, request()).await;
    assert_eq!(code(refused), "last_admin");
    Ok(())
}

async fn of_two_admins_suspended_at_once_one_stays(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    world.member(session.tenant_id, BOB, &["admin"]).await?;
    let accounts = world.accounts();
    let both = tokio::join!(
        accounts.suspend_user(ANN, request()),
        accounts.suspend_user(BOB, request()),
    );
    let mut codes = [code(both.0), code(both.1)];
    codes.sort_unstable();
    assert_eq!(codes, ["last_admin", "no error"]);
    Ok(())
}

async fn suspending_is_repeatable_and_of_nobody_refused(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    world.member(session.tenant_id, BOB, &["viewer"]).await?;
    let accounts = world.accounts();
    for _ in 0..2 {
        accounts
            .suspend_user(&BOB.to_uppercase(), request())
            .await?;
    }
    let audited = world.audited(session.tenant_id).await?;
    assert_eq!(
        audited.iter().filter(|one| *one == "users.suspend").count(),
        1
    );
    for email in ["nobody@example.com", "bob"] {
        assert!(
            accounts.suspend_user(email, request()).await.is_err(),
            "{email}"
        );
        assert!(
            accounts.activate_user(email, request()).await.is_err(),
            "{email}"
        );
    }
    Ok(())
}
