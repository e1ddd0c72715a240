//! From a host's name to its addresses.
//!
//! Whose name server is asked is the URL's word, and one that never answers keeps its look-up
//! waiting long after the request has been given up. So look-ups are counted until they end, not
//! until the request does, and no tenant has more than a few of them: its slow names hold up its
//! own requests.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::id::TenantId;

/// Look-ups at a time: each of the system's resolver holds a thread until it answers.
pub(super) const LOOKUPS: usize = 64;
/// Those of one tenant.
pub(super) const LOOKUPS_OF_TENANT: usize = 2;
/// Tenants whose look-ups are counted.
const MOST_TENANTS: u64 = 10_000;

/// Finds the addresses of hosts.
///
/// A look-up is never ended from outside: one that does not answer keeps its place among those
/// under way, so that a resolver bounds its own time.
pub trait Resolve: Send + Sync + 'static {
    /// All addresses of `host`, in the order to try them in.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The resolver of the operating system.
pub(super) struct System;

impl Resolve for System {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|socket| socket.ip()).collect())
        })
    }
}

/// The look-ups under way.
pub(super) struct Lookups {
    resolver: Arc<dyn Resolve>,
    slots: Arc<Semaphore>,
    tenants: Cache<TenantId, Arc<Semaphore>>,
}

impl Lookups {
    pub(super) fn new(resolver: Arc<dyn Resolve>) -> Self {
        Self {
            resolver,
            slots: Arc::new(Semaphore::new(LOOKUPS)),
            tenants: Cache::new(MOST_TENANTS),
        }
    }

    /// The addresses of a host, once there is a place among the tenant's look-ups and among all.
    pub(super) async fn find(
        &self,
        host: &str,
        tenant: Option<TenantId>,
    ) -> io::Result<Vec<IpAddr>> {
        // The tenant's first: whoever waits there takes no place from others.
        let own = match tenant {
            Some(tenant) => {
                let make = || Arc::new(Semaphore::new(LOOKUPS_OF_TENANT));
                Some(place(self.tenants.get_with(tenant, make)).await?)
            }
            None => None,
        };
        let slot = place(self.slots.clone()).await?;
        let (resolver, host) = (self.resolver.clone(), host.to_owned());
        // A task of its own: who stops waiting does not end the look-up, nor free its places.
        let lookup = tokio::spawn(async move {
            let found = resolver.resolve(&host).await;
            drop((own, slot));
            found
        });
        lookup.await.map_err(io::Error::other)?
    }
}

async fn place(places: Arc<Semaphore>) -> io::Result<OwnedSemaphorePermit> {
    places.acquire_owned().await.map_err(io::Error::other)
}
