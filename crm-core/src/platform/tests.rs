//! What requests do not reach: the bounds of queues, and configuration.

use chrono::{DateTime, TimeDelta};

use super::PLATFORM;
use crate::clock::Clock;
use crate::crm::{Builder, Crm};
use crate::error::{Error, Result};
use crate::mail::{self, Letter, MailKind};
use crate::scope::RequestContext;
use crate::testing::Backend;

crate::on_both_databases!(
    a_tenant_with_too_many_waiting_mails_is_refused_more_and_others_are_not,
    nobody_acts_in_anothers_name_for_longer_than_a_quarter_of_an_hour,
    what_stands_for_the_platform_is_not_reached_as_a_tenant,
);

fn request() -> RequestContext {
    RequestContext {
        id: "test".into(),
        address: None,
    }
}

fn builder(backend: &Backend) -> Builder {
    let (clock, _) = Clock::fixed(DateTime::UNIX_EPOCH + TimeDelta::days(20_000), 1);
    Crm::builder()
        .database(backend.url())
        .database_options(crate::testing::database_options())
        .secret("0123456789abcdef0123456789abcdef".into())
        .clock(clock)
}

async fn fill(crm: &Crm, tenant: crate::id::TenantId, mails: usize) -> Result<()> {
    let core = crm.core.clone();
    let write = crm.core.db.write(move |tx| {
        Box::pin(async move {
            for _ in 0..mails {
                let letter = Letter {
                    kind: MailKind::Invitation,
                    to: "new@acme.example",
                    name: "New",
                    tenant: Some("acme"),
                    by: None,
                    link: None,
                };
                let until = core.clock.now() + TimeDelta::days(1);
                mail::enqueue_of(tx, &core, tenant, letter, until).await?;
            }
            Ok(())
        })
    });
    write.await
}

async fn a_tenant_with_too_many_waiting_mails_is_refused_more_and_others_are_not(
    backend: Backend,
) -> anyhow::Result<()> {
    let crm = builder(&backend).build().await?;
    let full = crm.tenants().create("full", request()).await?.id;
    let other = crm.tenants().create("other", request()).await?.id;
    fill(&crm, full, 1_000).await?;
    let refused = fill(&crm, full, 1).await;
    assert!(
        matches!(refused, Err(Error::Unavailable { .. })),
        "{refused:?}"
    );
    fill(&crm, other, 1).await?;
    crm.close().await;
    Ok(())
}

async fn nobody_acts_in_anothers_name_for_longer_than_a_quarter_of_an_hour(
    backend: Backend,
) -> anyhow::Result<()> {
    for lifetime in [TimeDelta::zero(), TimeDelta::seconds(901)] {
        let refused = builder(&backend)
            .impersonation_lifetime(lifetime)
            .build()
            .await;
        assert!(matches!(refused, Err(Error::Configuration(_))));
    }
    Ok(())
}

async fn what_stands_for_the_platform_is_not_reached_as_a_tenant(
    backend: Backend,
) -> anyhow::Result<()> {
    let crm = builder(&backend).build().await?;
    let tenants = crm.tenants();
    assert_eq!(tenants.list().await?, []);
    assert_eq!(tenants.page(None, 10).await?.data, []);
    assert!(matches!(tenants.get(PLATFORM).await, Err(Error::NotFound)));
    for refused in [
        tenants.suspend(PLATFORM, request()).await.err(),
        tenants.resume(PLATFORM, request()).await.err(),
        tenants.erase(PLATFORM, "platform", request()).await.err(),
    ] {
        assert!(matches!(refused, Some(Error::NotFound)));
    }
    for name in [" platform", "platform", ""] {
        assert_eq!(tenants.find_by_name(name).await?, None, "{name:?}");
    }
    // A tenant of that name is one like others.
    let named = tenants.create(" platform", request()).await?;
    assert_eq!(named.name, "platform");
    crm.close().await;
    Ok(())
}
