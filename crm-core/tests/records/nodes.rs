//! Two processes on one database: a change of rights holds on both.

use std::time::{Duration, Instant};

use super::*;

on_both_databases!(pl_23_a_change_holds_here_at_once_and_on_every_other_node_within_a_second);

async fn pl_23_a_change_holds_here_at_once_and_on_every_other_node_within_a_second(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let (_, user) = it.member("viewer").await?;
    let modules = it.crm.registry().iter().map(|module| module.spec().clone());
    let other = Crm::builder()
        .database(it._backend.url())
        .database_options(crm_core::testing::database_options())
        .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
        .password_cost(PasswordCost::LOWEST)
        .modules(modules.collect::<Vec<_>>())
        .build()
        .await?;
    other.start();
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
