//! What an event costs that wakes no plugin.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use crm_core::{Crm, RequestContext, Subscriber as _};
use crm_plugins::{Host, Limits};
use secrecy::SecretString;

use crate::contact_created;
use crate::seen::{print, samples, shown};

/// Looks per round: one is shorter than the clock's own tick.
const LOOKS: u32 = 1_000;

pub(crate) async fn without_plugin(component: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("crm.db");
    let crm = Crm::builder()
        .database(format!("sqlite://{}", file.display()))
        .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
        .modules(crm_core::module::default_modules())
        .plugins(Arc::new(Host::in_process(Limits::default()).unwrap()))
        .build()
        .await
        .unwrap();
    let request = || RequestContext {
        id: "bench".into(),
        address: None,
    };
    let plugins = crm.plugins().unwrap();

    let none = crm.tenants().create("none", request()).await.unwrap();
    let mut times = samples(1_000, async || {
        for _ in 0..LOOKS {
            black_box(plugins.listens(none.id, 0).await.unwrap());
        }
    })
    .await;
    times.iter_mut().for_each(|time| *time /= LOOKS);
    print(
        "an event of a tenant without plugins",
        &shown(&mut times),
        "1 µs",
    );

    let other = crm.tenants().create("other", request()).await.unwrap();
    let scope = crm.operator(other.id, request());
    let component = Bytes::copy_from_slice(component);
    let uploaded = plugins
        .upload(&scope.permit("plugins").unwrap(), component, None)
        .await
        .unwrap();
    let sha256 = hex::encode(uploaded.version.sha256);
    plugins
        .enable(
            &scope.permit("plugins").unwrap(),
            uploaded.plugin.id,
            &sha256,
        )
        .await
        .unwrap();
    let mut event = contact_created();
    (event.tenant_id, event.kind) = (other.id, "contact.updated".into());
    let event = Arc::new(event);
    let mut times = samples(1_000, async || {
        for _ in 0..LOOKS {
            plugins.deliver(event.clone()).await.unwrap();
        }
    })
    .await;
    times.iter_mut().for_each(|time| *time /= LOOKS);
    print(
        "an event that no plugin of its tenant waits for",
        &shown(&mut times),
        "1 µs",
    );
    crm.close().await;
}
