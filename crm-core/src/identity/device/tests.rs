//! The promises of open sessions: they are seen, they end, and what has ended stays so.

use anyhow::Result;
use chrono::TimeDelta;
use secrecy::{ExposeSecret, SecretString};

use super::*;
use crate::crm::Crm;
use crate::error::Result as CrmResult;
use crate::id::TenantId;
use crate::identity::Session;
use crate::identity::fixture::*;
use crate::on_both_databases;
use crate::testing::Backend;

on_both_databases!(
    sessions_are_listed_with_their_device_and_the_present_one_flagged,
    an_ended_session_is_refused_at_once_with_both_its_tokens,
    all_others_end_and_the_present_one_goes_on,
    everything_ends_everywhere,
    an_admin_ends_the_sessions_of_members_of_their_tenant_only,
    the_end_of_a_session_reaches_other_processes_with_their_next_look,
    the_end_of_a_session_survives_a_killed_process,
    the_end_of_a_session_survives_clocks_that_jump,
    a_member_removed_and_added_again_does_not_revive_a_session,
    a_session_that_is_not_used_for_14_days_is_over,
    a_session_stays_within_its_configured_lifetime,
    a_token_of_the_operator_is_a_session_too,
    a_session_moves_to_another_tenant_and_its_older_tokens_hold_no_more,
    one_token_of_a_roaming_session_opens_each_tenant_that_is_named,
    the_active_tenant_of_a_roaming_session_moves_under_its_unchanged_token,
    a_token_that_names_a_tenant_opens_no_other,
    a_suspended_tenant_is_refused_at_once_whoever_names_it,
);

async fn scope_in(crm: &Crm, token: &SecretString) -> CrmResult<Scope> {
    crm.authenticate(token.expose_secret(), request()).await
}

async fn sessions_are_listed_with_their_device_and_the_present_one_flagged(
    backend: Backend,
) -> Result<()> {
    let (world, first) = World::new(backend).await?;
    world.clock.advance(TimeDelta::minutes(1));
    let phone = world.accounts().on_device(Some("Phone/1.0"));
    let second = phone.login(login_of(ANN), request()).await?;
    let scope = world.scope(&first.access_token).await?;
    let list = world.crm.sessions().list(&scope).await?;
    let seen: Vec<_> = list
        .iter()
        .map(|one| (one.user_agent.as_deref(), one.current))
        .collect();
    assert_eq!(seen, [(Some("Phone/1.0"), false), (None, true)]);
    assert_eq!(list[0].address.as_deref(), Some("192.0.2.1"));
    let tenant = list[0].tenant.as_ref().map(|tenant| tenant.id);
    assert_eq!(tenant, Some(first.tenant_id));

    world.clock.advance(TimeDelta::minutes(1));
    let laptop = world.accounts().on_device(Some(&"x".repeat(1_000)));
    laptop.refresh(second.refresh_token, request()).await?;
    let list = world.crm.sessions().list(&scope).await?;
    assert_eq!(list[0].last_used_at, world.crm.clock().now());
    assert_eq!(list[0].user_agent.as_ref().map(String::len), Some(200));
    Ok(())
}

async fn an_ended_session_is_refused_at_once_with_both_its_tokens(backend: Backend) -> Result<()> {
    let (world, first) = World::new(backend).await?;
    let second = world.accounts().login(login_of(ANN), request()).await?;
    let scope = world.scope(&first.access_token).await?;
    let other = world.scope(&second.access_token).await?;
    let id = other.session().unwrap();
    world.crm.sessions().end(&scope, id).await?;
    assert_eq!(
        code(world.scope(&second.access_token).await),
        "token_invalid"
    );
    let refreshed = world
        .accounts()
        .refresh(second.refresh_token, request())
        .await;
    assert_eq!(code(refreshed), "token_invalid");
    world.scope(&first.access_token).await?;
    assert_eq!(
        code(world.crm.sessions().end(&scope, id).await),
        "not_found"
    );
    assert_eq!(
        world.audited(first.tenant_id).await?,
        ["auth.register", "auth.login", "auth.session_end"]
    );
    Ok(())
}

async fn all_others_end_and_the_present_one_goes_on(backend: Backend) -> Result<()> {
    let (world, first) = World::new(backend).await?;
    let second = world.accounts().login(login_of(ANN), request()).await?;
    let scope = world.scope(&first.access_token).await?;
    world.scope(&second.access_token).await?;
    assert_eq!(world.crm.sessions().end_others(&scope).await?, 1);
    world.scope(&first.access_token).await?;
    assert_eq!(
        code(world.scope(&second.access_token).await),
        "token_invalid"
    );
    assert_eq!(world.crm.sessions().end_others(&scope).await?, 0);
    Ok(())
}

async fn everything_ends_everywhere(backend: Backend) -> Result<()> {
    let (world, first) = World::new(backend).await?;
    let globex = world.other_tenant("Globex").await?;
    world.member(globex, ANN, &["viewer"]).await?;
    let login = crate::identity::Login {
        tenant: Some("Globex".into()),
        ..login_of(ANN)
    };
    let second = world.accounts().login(login, request()).await?;
    let scope = world.scope(&first.access_token).await?;
    world.scope(&second.access_token).await?;
    assert_eq!(world.crm.sessions().list(&scope).await?.len(), 2);
    assert_eq!(world.crm.sessions().end_all(&scope).await?, 2);
    for session in [first, second] {
        assert_eq!(
            code(world.scope(&session.access_token).await),
            "token_invalid"
        );
        let refreshed = world
            .accounts()
            .refresh(session.refresh_token, request())
            .await;
        assert_eq!(code(refreshed), "token_invalid");
    }
    Ok(())
}

async fn an_admin_ends_the_sessions_of_members_of_their_tenant_only(
    backend: Backend,
) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let globex = world.other_tenant("Globex").await?;
    let bob = world
        .member(ann.tenant_id, "bob@example.com", &["viewer"])
        .await?;
    world.member(globex, "bob@example.com", &["viewer"]).await?;
    let eve = world.member(globex, "eve@example.com", &["admin"]).await?;
    let login = |tenant: &str| crate::identity::Login {
        tenant: Some(tenant.into()),
        ..login_of("bob@example.com")
    };
    let here = world.accounts().login(login(ACME), request()).await?;
    let there = world.accounts().login(login("Globex"), request()).await?;
    let admin = world.scope(&ann.access_token).await?;
    let sessions = world.crm.sessions();
    let read = admin.permit::<Read>("members")?;
    let listed = sessions.list_of(&read, bob).await?;
    assert_eq!(listed.len(), 1, "not those elsewhere");
    assert_eq!(code(sessions.list_of(&read, eve).await), "not_found");
    let update = admin.permit::<Update>("members")?;
    let foreign = world.scope(&there.access_token).await?.session().unwrap();
    assert_eq!(
        code(sessions.end_of(&update, bob, foreign).await),
        "not_found"
    );
    sessions.end_of(&update, bob, listed[0].id).await?;
    assert_eq!(code(world.scope(&here.access_token).await), "token_invalid");
    world.scope(&there.access_token).await?;
    assert_eq!(sessions.end_all_of(&update, bob).await?, 0);
    assert_eq!(code(sessions.end_all_of(&update, eve).await), "not_found");
    Ok(())
}

async fn the_end_of_a_session_reaches_other_processes_with_their_next_look(
    backend: Backend,
) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let other = world.other_process().await?;
    scope_in(&other, &session.access_token).await?;
    let refresh = session.refresh_token.clone();
    world.accounts().logout(refresh, request()).await?;
    other.follow_once().await?;
    let refused = scope_in(&other, &session.access_token).await;
    assert_eq!(code(refused), "token_invalid");
    other.close().await;
    Ok(())
}

async fn the_end_of_a_session_survives_a_killed_process(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    world.scope(&session.access_token).await?;
    let refresh = session.refresh_token.clone();
    world.accounts().logout(refresh, request()).await?;
    // The first process is not closed: it could as well be gone.
    let next = world.other_process().await?;
    let refused = scope_in(&next, &session.access_token).await;
    assert_eq!(code(refused), "token_invalid");
    next.close().await;
    Ok(())
}

async fn the_end_of_a_session_survives_clocks_that_jump(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let other = world.other_process().await?;
    scope_in(&other, &session.access_token).await?;
    world.clock.step_back(TimeDelta::seconds(3));
    world
        .accounts()
        .logout(session.refresh_token.clone(), request())
        .await?;
    other.follow_once().await?;
    for step in [0, 4, 300, -306, -2] {
        match step {
            0.. => world.clock.advance(TimeDelta::seconds(step)),
            back => world.clock.step_back(TimeDelta::seconds(-back)),
        }
        for crm in [&world.crm, &other] {
            let refused = scope_in(crm, &session.access_token).await;
            assert_eq!(code(refused), "token_invalid", "after {step} s");
        }
        let refresh = session.refresh_token.clone();
        let refused = world.accounts().refresh(refresh, request()).await;
        assert_eq!(code(refused), "token_invalid");
    }
    other.close().await;
    Ok(())
}

async fn a_member_removed_and_added_again_does_not_revive_a_session(
    backend: Backend,
) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let bob = world
        .member(ann.tenant_id, "bob@example.com", &["viewer"])
        .await?;
    let login = login_of("bob@example.com");
    let session = world.accounts().login(login, request()).await?;
    let other = world.other_process().await?;
    world.scope(&session.access_token).await?;
    scope_in(&other, &session.access_token).await?;
    let permit = world.scope(&ann.access_token).await?.permit("members")?;
    world.crm.members().remove(&permit, bob).await?;
    world
        .member(ann.tenant_id, "bob@example.com", &["viewer"])
        .await?;
    other.follow_once().await?;
    for crm in [&world.crm, &other] {
        assert_eq!(
            code(scope_in(crm, &session.access_token).await),
            "token_invalid"
        );
    }
    other.close().await;
    Ok(())
}

async fn a_session_that_is_not_used_for_14_days_is_over(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    world
        .clock
        .advance(TimeDelta::days(14) - TimeDelta::microseconds(1));
    let used = world
        .accounts()
        .refresh(session.refresh_token, request())
        .await?;
    world.clock.advance(TimeDelta::days(14));
    let late = world
        .accounts()
        .refresh(used.refresh_token, request())
        .await;
    assert_eq!(code(late), "token_expired");
    let fresh = world.accounts().login(login_of(ANN), request()).await?;
    let scope = world.scope(&fresh.access_token).await?;
    assert_eq!(world.crm.sessions().list(&scope).await?.len(), 1);
    Ok(())
}

async fn a_session_stays_within_its_configured_lifetime(backend: Backend) -> Result<()> {
    let (clock, hands) = crate::clock::Clock::fixed(DateTime::UNIX_EPOCH, 1);
    let crm = Crm::builder()
        .database(backend.url())
        .database_options(crate::testing::database_options())
        .secret("0123456789abcdef0123456789abcdef".into())
        .clock(clock)
        .password_cost(crate::identity::PasswordCost::LOWEST)
        .access_lifetime(TimeDelta::minutes(10))
        .session_lifetime(TimeDelta::minutes(15))
        .build()
        .await?;
    let setup = crm.ensure_setup_token().await?.unwrap();
    let session = crm
        .accounts()
        .register(registration(setup), request())
        .await?;
    hands.advance(TimeDelta::minutes(10));
    let last = crm
        .accounts()
        .refresh(session.refresh_token, request())
        .await?;
    assert_eq!(last.expires_in, 300, "the access token does not outlive it");
    hands.advance(TimeDelta::minutes(5));
    assert_eq!(
        code(scope_in(&crm, &last.access_token).await),
        "token_invalid"
    );
    crm.close().await;
    Ok(())
}

async fn a_token_of_the_operator_is_a_session_too(backend: Backend) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let token = world
        .accounts()
        .operator_token(ACME, ANN, request())
        .await?;
    let own = world.scope(&token).await?;
    let admin = world.scope(&ann.access_token).await?;
    let id = own.session().unwrap();
    world.crm.sessions().end(&admin, id).await?;
    assert_eq!(code(world.scope(&token).await), "token_invalid");
    Ok(())
}

/// Ann, a member of a second tenant too; answers that one.
async fn in_two_tenants(backend: Backend) -> Result<(World, Session, TenantId)> {
    let (world, session) = World::new(backend).await?;
    let globex = world.other_tenant("Globex").await?;
    world.member(globex, ANN, &["viewer"]).await?;
    Ok((world, session, globex))
}

async fn opens(world: &World, token: &SecretString, tenant: TenantId) -> CrmResult<TenantId> {
    let named = tenant.to_string();
    let scope = world
        .crm
        .authenticate_in(token.expose_secret(), Some(&named), request())
        .await?;
    Ok(scope.tenant())
}

async fn a_session_moves_to_another_tenant_and_its_older_tokens_hold_no_more(
    backend: Backend,
) -> Result<()> {
    let (world, session, globex) = in_two_tenants(backend).await?;
    let other = world.other_process().await?;
    let scope = scope_in(&other, &session.access_token).await?;
    world.scope(&session.access_token).await?;
    let sessions = world.crm.sessions();
    assert_eq!(
        refused_field(sessions.switch(&scope, "Nowhere", None).await),
        ("/tenant".into(), "unknown")
    );
    let (moved, seconds) = sessions.switch(&scope, "Globex", None).await?;
    assert_eq!(seconds, 600);
    other.follow_once().await?;
    for crm in [&world.crm, &other] {
        assert_eq!(scope_in(crm, &moved).await?.tenant(), globex);
        let old = scope_in(crm, &session.access_token).await;
        assert_eq!(code(old), "token_invalid");
    }
    let next = world
        .accounts()
        .refresh(session.refresh_token, request())
        .await?;
    assert_eq!(next.tenant_id, globex);
    assert_eq!(world.scope(&next.access_token).await?.tenant(), globex);
    let audited = world.audited(globex).await?;
    assert_eq!(
        audited.last().map(String::as_str),
        Some("auth.switch_tenant")
    );
    other.close().await;
    Ok(())
}

async fn one_token_of_a_roaming_session_opens_each_tenant_that_is_named(
    backend: Backend,
) -> Result<()> {
    let (world, first, globex) = in_two_tenants(backend).await?;
    let initech = world.other_tenant("Initech").await?;
    let roaming = world.accounts().roaming();
    let session = roaming.login(login_of(ANN), request()).await?;
    let token = &session.access_token;
    assert_eq!(world.scope(token).await?.tenant(), first.tenant_id);
    assert_eq!(opens(&world, token, globex).await?, globex);
    assert_eq!(
        opens(&world, token, first.tenant_id).await?,
        first.tenant_id
    );
    let foreign = opens(&world, token, initech).await;
    let absent = opens(&world, token, TenantId(uuid::Uuid::nil())).await;
    assert_eq!(code(foreign), "token_invalid", "not a member");
    assert_eq!(code(absent), "token_invalid", "the same answer");
    let id = world.scope(token).await?.session().unwrap();
    let scope = world.scope(&first.access_token).await?;
    world.crm.sessions().end(&scope, id).await?;
    assert_eq!(code(opens(&world, token, globex).await), "token_invalid");
    Ok(())
}

async fn the_active_tenant_of_a_roaming_session_moves_under_its_unchanged_token(
    backend: Backend,
) -> Result<()> {
    let (world, first, globex) = in_two_tenants(backend).await?;
    let roaming = world.accounts().roaming();
    let session = roaming.login(login_of(ANN), request()).await?;
    let token = &session.access_token;
    let other = world.other_process().await?;
    for crm in [&world.crm, &other] {
        assert_eq!(scope_in(crm, token).await?.tenant(), first.tenant_id);
    }
    for (name, tenant) in [
        ("Globex", globex),
        (ACME, first.tenant_id),
        ("Globex", globex),
    ] {
        let scope = world.scope(token).await?;
        let (moved, _) = world.crm.sessions().switch(&scope, name, None).await?;
        other.follow_once().await?;
        for crm in [&world.crm, &other] {
            assert_eq!(scope_in(crm, token).await?.tenant(), tenant, "{name}");
            assert_eq!(scope_in(crm, &moved).await?.tenant(), tenant, "{name}");
        }
    }
    // The tenant stays with the session, not with the token.
    let next = roaming.refresh(session.refresh_token, request()).await?;
    assert_eq!(next.tenant_id, globex);
    assert_eq!(world.scope(&next.access_token).await?.tenant(), globex);
    assert_eq!(world.scope(token).await?.tenant(), globex);
    other.close().await;
    Ok(())
}

async fn a_token_that_names_a_tenant_opens_no_other(backend: Backend) -> Result<()> {
    let (world, session, globex) = in_two_tenants(backend).await?;
    let token = &session.access_token;
    assert_eq!(
        opens(&world, token, session.tenant_id).await?,
        session.tenant_id
    );
    assert_eq!(code(opens(&world, token, globex).await), "token_invalid");
    for odd in ["", "Acme", "*", "' OR 1=1 --"] {
        let refused = world
            .crm
            .authenticate_in(token.expose_secret(), Some(odd), request())
            .await;
        assert_eq!(code(refused), "token_invalid", "{odd}");
    }
    Ok(())
}

async fn a_suspended_tenant_is_refused_at_once_whoever_names_it(backend: Backend) -> Result<()> {
    let (world, first, globex) = in_two_tenants(backend).await?;
    let roaming = world.accounts().roaming();
    let session = roaming.login(login_of(ANN), request()).await?;
    let token = &session.access_token;
    opens(&world, token, globex).await?;
    let suspend = Sql::new("UPDATE tenants SET status = 'suspended' WHERE id = $1")
        .bind(globex, ColumnType::Uuid);
    world.execute(suspend).await?;
    world.crm.core.policy.invalidate(globex);
    assert_eq!(code(opens(&world, token, globex).await), "token_invalid");
    let scope = world.scope(&first.access_token).await?;
    let moved = world.crm.sessions().switch(&scope, "Globex", None).await;
    assert_eq!(refused_field(moved), ("/tenant".into(), "unknown"));
    Ok(())
}
