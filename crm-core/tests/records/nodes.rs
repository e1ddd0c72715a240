//! Two processes on one database: a change of rights, and the end of a session, a key or a tenant's
//! time hold on both.

use std::time::{Duration, Instant};

use crm_core::identity::NewApiKey;
use secrecy::ExposeSecret;

use super::*;

on_both_databases!(
    pl_23_a_change_holds_here_at_once_and_on_every_other_node_within_a_second,
    what_ends_here_is_refused_on_every_other_node_within_a_second,
);

/// Another process, with the same clock.
async fn other_node(it: &Fixture) -> anyhow::Result<Crm> {
    let modules = it.crm.registry().iter().map(|module| module.spec().clone());
    let other = Crm::builder()
        .database(it._backend.url())
        .database_options(crm_core::testing::database_options())
        .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
        .clock(it.crm.clock().clone())
        .password_cost(PasswordCost::LOWEST)
        .modules(modules.collect::<Vec<_>>())
        .build()
        .await?;
    other.start();
    Ok(other)
}

async fn pl_23_a_change_holds_here_at_once_and_on_every_other_node_within_a_second(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let (_, user) = it.member("viewer").await?;
    let other = other_node(&it).await?;
    let may = async |crm: &Crm| -> anyhow::Result<bool> {
        let scope = crm_core::testing::scope(crm, it.tenant, user, request()).await?;
        let scope = scope.context("an active member")?;
        Ok(scope.permit::<Create>("contacts").is_ok())
    };
    for (role, expected) in [("manager", true), ("viewer", false), ("manager", true)] {
        assert_eq!(may(&other).await?, !expected);
        let permit = it.operator().permit::<Update>("members")?;
        let members = it.crm.members();
        members
            .set_roles(&permit, user, vec![role.to_owned()])
            .await?;
        let changed = Instant::now();
        assert_eq!(may(&it.crm).await?, expected);
        while may(&other).await? != expected {
            assert!(changed.elapsed() < Duration::from_secs(1), "{role}");
            tokio::task::yield_now().await;
        }
    }
    other.close().await;
    Ok(())
}

async fn what_ends_here_is_refused_on_every_other_node_within_a_second(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let other = other_node(&it).await?;
    let (_, user) = it.member("viewer").await?;
    let operator = it.operator();
    let read = operator.permit::<Read>("members")?;
    let email = it.crm.members().get(&read, user).await?.email;
    let accounts = it.crm.accounts();
    let ended = accounts.operator_token("Acme", &email, request()).await?;
    let suspended = accounts.operator_token("Acme", &email, request()).await?;
    let key = NewApiKey {
        name: "key".into(),
        role: "viewer".into(),
        permissions: None,
        service_account: None,
        expires_at: None,
    };
    let keys = it.crm.api_keys();
    let (key, revoked) = keys
        .create(&operator.permit::<Create>("api_keys")?, key)
        .await?;
    for credential in [&ended, &suspended, &revoked] {
        other
            .authenticate(credential.expose_secret(), request())
            .await?;
    }
    let refused = async |credential: &SecretString| {
        let changed = Instant::now();
        let credential = credential.expose_secret();
        while other.authenticate(credential, request()).await.is_ok() {
            assert!(changed.elapsed() < Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
    };

    let scope = it
        .crm
        .authenticate(ended.expose_secret(), request())
        .await?;
    let sessions = it.crm.sessions();
    let open = sessions.list(&scope).await?;
    let present = open.iter().find(|session| session.current);
    let present = present.context("the present session")?.id;
    let permit = operator.permit::<Update>("members")?;
    sessions.end_of(&permit, user, present).await?;
    refused(&ended).await;
    other
        .authenticate(suspended.expose_secret(), request())
        .await?;

    keys.revoke(&operator.permit::<Delete>("api_keys")?, key.id)
        .await?;
    refused(&revoked).await;

    it.crm.tenants().suspend(it.tenant, request()).await?;
    refused(&suspended).await;
    other.close().await;
    Ok(())
}
