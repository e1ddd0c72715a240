//! Exchanging refresh tokens, and logging out.

use super::*;

on_both_databases!(
    a_refresh_token_is_good_for_one_exchange,
    sa_39_reuse_of_a_spent_token_ends_the_session_for_good,
    of_many_who_bring_a_spent_token_back_at_once_one_is_audited,
    within_ten_seconds_a_spent_token_gets_its_unused_successor_again,
    the_grace_holds_on_both_sides_of_a_clock_that_jumps,
    within_ten_seconds_a_used_successor_betrays_the_thief,
    of_50_parallel_exchanges_all_get_the_one_living_successor,
    a_session_ends_after_30_days_however_often_it_is_exchanged,
    logout_ends_the_session_and_is_repeatable,
    a_refresh_that_is_refused_for_a_while_spends_no_token,
);

async fn a_refresh_token_is_good_for_one_exchange(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let mut token = session.refresh_token;
    for _ in 0..3 {
        world.clock.advance(TimeDelta::minutes(10));
        let next = world.accounts().refresh(token.clone(), request()).await?;
        assert_eq!(
            (next.user_id, next.tenant_id),
            (session.user_id, session.tenant_id)
        );
        assert_ne!(next.refresh_token.expose_secret(), token.expose_secret());
        world.scope(&next.access_token).await?;
        token = next.refresh_token;
    }
    let access = world
        .accounts()
        .refresh(session.access_token, request())
        .await;
    assert_eq!(
        code(access),
        "token_invalid",
        "an access token is no refresh token"
    );
    assert_eq!(
        code(world.scope(&token).await),
        "token_invalid",
        "nor the reverse"
    );
    Ok(())
}

async fn sa_39_reuse_of_a_spent_token_ends_the_session_for_good(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let accounts = world.accounts();
    let next = accounts
        .refresh(session.refresh_token.clone(), request())
        .await?;
    world.clock.advance(TimeDelta::seconds(10));
    let reused = accounts
        .refresh(session.refresh_token.clone(), request())
        .await;
    assert_eq!(code(reused), "token_reused");

    let dead = "SELECT count(*) FROM refresh_families WHERE revoked_at IS NOT NULL";
    assert_eq!(
        world.count(dead).await?,
        1,
        "the end is committed though the answer is an error"
    );
    let world = world.restarted(PasswordCost::LOWEST).await?;
    let accounts = world.accounts();
    for token in [next.refresh_token, session.refresh_token] {
        assert_eq!(
            code(accounts.refresh(token, request()).await),
            "token_invalid"
        );
    }
    assert_eq!(
        world.audited(session.tenant_id).await?,
        ["auth.register", "auth.refresh_reuse"]
    );
    Ok(())
}

async fn of_many_who_bring_a_spent_token_back_at_once_one_is_audited(
    backend: Backend,
) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let accounts = world.accounts();
    let spent = session.refresh_token.clone();
    accounts.refresh(spent.clone(), request()).await?;
    world.clock.advance(TimeDelta::seconds(10));
    let again = (0..16).map(|_| accounts.refresh(spent.clone(), request()));
    let codes: Vec<_> = futures::future::join_all(again).await;
    let codes: Vec<_> = codes.into_iter().map(code).collect();
    let reused = codes.iter().filter(|code| **code == "token_reused");
    assert_eq!(reused.count(), 1, "{codes:?}");
    assert_eq!(
        world.audited(session.tenant_id).await?,
        ["auth.register", "auth.refresh_reuse"]
    );
    Ok(())
}

async fn within_ten_seconds_a_spent_token_gets_its_unused_successor_again(
    backend: Backend,
) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let accounts = world.accounts();
    let next = accounts
        .refresh(session.refresh_token.clone(), request())
        .await?;
    world
        .clock
        .advance(TimeDelta::seconds(10) - TimeDelta::microseconds(1));
    let late = accounts.refresh(session.refresh_token, request()).await?;
    assert_eq!(
        late.refresh_token.expose_secret(),
        next.refresh_token.expose_secret()
    );
    world.scope(&late.access_token).await?;
    accounts.refresh(next.refresh_token, request()).await?;
    Ok(())
}

async fn the_grace_holds_on_both_sides_of_a_clock_that_jumps(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let accounts = world.accounts();
    accounts
        .refresh(session.refresh_token.clone(), request())
        .await?;
    world
        .clock
        .step_back(TimeDelta::seconds(10) - TimeDelta::microseconds(1));
    accounts
        .refresh(session.refresh_token.clone(), request())
        .await?;
    world.clock.step_back(TimeDelta::microseconds(1));
    let reused = accounts.refresh(session.refresh_token, request()).await;
    assert_eq!(
        code(reused),
        "token_reused",
        "a clock put back opens no long grace"
    );
    Ok(())
}

async fn within_ten_seconds_a_used_successor_betrays_the_thief(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let accounts = world.accounts();
    let second = accounts
        .refresh(session.refresh_token.clone(), request())
        .await?;
    let third = accounts.refresh(second.refresh_token, request()).await?;
    let reused = accounts.refresh(session.refresh_token, request()).await;
    assert_eq!(code(reused), "token_reused");
    let dead = accounts.refresh(third.refresh_token, request()).await;
    assert_eq!(code(dead), "token_invalid");
    Ok(())
}

async fn of_50_parallel_exchanges_all_get_the_one_living_successor(backend: Backend) -> Result<()> {
    const ROUNDS: i64 = 200;
    let (world, session) = World::new(backend).await?;
    let mut token = session.refresh_token;
    for round in 1..=ROUNDS {
        let attempts: Vec<_> = (0..50)
            .map(|_| {
                let (accounts, token) = (world.accounts(), token.clone());
                tokio::spawn(async move { accounts.refresh(token, request()).await })
            })
            .collect();
        let mut children = Vec::new();
        for attempt in attempts {
            let session = attempt.await??;
            children.push(session.refresh_token.expose_secret().to_owned());
        }
        children.dedup();
        assert_eq!(children.len(), 1, "round {round}");
        let living = world.count("SELECT count(*) FROM refresh_tokens WHERE used_at IS NULL");
        assert_eq!(living.await?, 1, "round {round}");
        let made = world.count("SELECT count(*) FROM refresh_tokens");
        assert_eq!(made.await?, round + 1);
        token = children.remove(0).into();
    }
    Ok(())
}

async fn a_session_ends_after_30_days_however_often_it_is_exchanged(
    backend: Backend,
) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let mut token = session.refresh_token;
    for _ in 0..29 {
        world.clock.advance(TimeDelta::days(1));
        token = world
            .accounts()
            .refresh(token, request())
            .await?
            .refresh_token;
    }
    world.clock.advance(TimeDelta::days(1));
    let late = world.accounts().refresh(token, request()).await;
    assert_eq!(code(late), "token_expired");
    world.clock.advance(TimeDelta::days(2));
    world.accounts().login(login_of(ANN), request()).await?;
    let families = world.count("SELECT count(*) FROM refresh_families").await?;
    let tokens = world.count("SELECT count(*) FROM refresh_tokens").await?;
    assert_eq!(
        (families, tokens),
        (1, 1),
        "the next login clears what is over"
    );
    Ok(())
}

async fn logout_ends_the_session_and_is_repeatable(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let accounts = world.accounts();
    let other = accounts.login(login_of(ANN), request()).await?;
    let next = accounts
        .refresh(session.refresh_token.clone(), request())
        .await?;
    // A spent token of the session is as good to end it.
    accounts.logout(session.refresh_token, request()).await?;
    accounts
        .logout(next.refresh_token.clone(), request())
        .await?;
    accounts.logout("crm_rt_unknown".into(), request()).await?;
    let ended = accounts.refresh(next.refresh_token, request()).await;
    assert_eq!(code(ended), "token_invalid");
    accounts.refresh(other.refresh_token, request()).await?;
    assert_eq!(
        world.audited(session.tenant_id).await?,
        ["auth.register", "auth.login", "auth.logout"]
    );
    Ok(())
}

async fn a_refresh_that_is_refused_for_a_while_spends_no_token(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let refresh = async |token: &secrecy::SecretString| {
        let accounts = world.accounts();
        accounts.refresh(token.clone(), request()).await
    };
    let token = session.refresh_token;
    let tenants = world.crm.tenants();
    tenants.suspend(session.tenant_id, request()).await?;
    for _ in 0..2 {
        assert_eq!(code(refresh(&token).await), "token_invalid");
    }
    // Longer than two exchanges of one token count as a race.
    world.clock.advance(TimeDelta::seconds(11));
    tenants.resume(session.tenant_id, request()).await?;
    let next = refresh(&token).await?;

    world.clock.advance(TimeDelta::days(40));
    assert_eq!(code(refresh(&next.refresh_token).await), "token_expired");
    world.clock.step_back(TimeDelta::days(40));
    let next = refresh(&next.refresh_token).await?;

    world.clock.advance(TimeDelta::days(15));
    assert_eq!(code(refresh(&next.refresh_token).await), "token_expired");
    world.clock.step_back(TimeDelta::days(15));
    let last = refresh(&next.refresh_token).await?;
    world.scope(&last.access_token).await?;
    // Spent it is now, and betrays whoever comes with it later.
    world.clock.advance(TimeDelta::seconds(11));
    assert_eq!(code(refresh(&next.refresh_token).await), "token_reused");
    Ok(())
}
