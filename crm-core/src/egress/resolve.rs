//! From a host's name to its addresses.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::Semaphore;

/// Look-ups of the system's resolver at a time: each holds a thread until it answers.
const LOOKUPS: usize = 16;

/// Finds the addresses of hosts.
pub trait Resolve: Send + Sync + 'static {
    /// All addresses of `host`, in the order to try them in.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The resolver of the operating system.
pub(super) struct System {
    slots: Arc<Semaphore>,
}

impl System {
    pub(super) fn new() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(LOOKUPS)),
        }
    }
}

impl Resolve for System {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let slot = self.slots.clone().acquire_owned().await;
            let slot = slot.map_err(io::Error::other)?;
            let host = host.to_owned();
            // A task of its own: who stops waiting does not end the look-up, nor free its place.
            let lookup = tokio::spawn(async move {
                let found = tokio::net::lookup_host((host.as_str(), 0)).await;
                drop(slot);
                found.map(|found| found.map(|socket| socket.ip()).collect())
            });
            lookup.await.map_err(io::Error::other)?
        })
    }
}
