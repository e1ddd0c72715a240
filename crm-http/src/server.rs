//! The accept loop: how many connections, how long a client may take, and how the server stops.
//!
//! It speaks HTTP/1.1 and leaves TLS and HTTP/2 to the proxy in front. It knows nothing of what the
//! endpoint answers.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use poem::endpoint::{DynEndpoint, EndpointExt, ToDynEndpoint};
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Addr, Endpoint as _, IntoEndpoint, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The limits of the accept loop.
#[derive(Debug, Clone)]
pub struct ServerLimits {
    /// Connections held open at a time; further clients wait in the kernel's queue.
    pub connections: usize,
    /// How long a client may take to send a request's head, and how long a connection may idle.
    pub header_timeout: Duration,
    /// Most bytes of a request's head.
    pub header_bytes: usize,
    /// How long running requests may take to finish once the server stops.
    pub drain: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            header_timeout: Duration::from_secs(10),
            header_bytes: 32 * 1024,
            drain: Duration::from_secs(30),
        }
    }
}

type SharedEndpoint = Arc<dyn DynEndpoint<Output = Response>>;

/// Serves `endpoint` on `listener` until `stop` is cancelled, then lets running requests finish.
///
/// # Errors
/// When the listener has no local address, which means that it is not bound.
pub async fn serve_endpoint(
    listener: TcpListener,
    endpoint: impl IntoEndpoint<Endpoint: 'static>,
    limits: ServerLimits,
    stop: CancellationToken,
) -> io::Result<()> {
    let local = listener.local_addr()?;
    let endpoint: SharedEndpoint =
        Arc::new(ToDynEndpoint(endpoint.into_endpoint().map_to_response()));
    let slots = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();

    while let Some((stream, peer, slot)) = next_connection(&listener, &slots, &stop).await {
        let endpoint = endpoint.clone();
        let (limits, stop) = (limits.clone(), stop.clone());
        connections.spawn(async move {
            serve_connection(stream, (local, peer), endpoint, &limits, &stop).await;
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.drain, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            open = connections.len(),
            "stopped with requests still running"
        );
    }
    Ok(())
}

/// The next client with its slot, or nothing once the server stops.
async fn next_connection(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let accept = async {
        let slot = slots.clone().acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => return Some((stream, peer, slot)),
                // Out of file descriptors, mostly: wait for connections to close.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accept).await.flatten()
}

async fn serve_connection(
    stream: TcpStream,
    (local, peer): (SocketAddr, SocketAddr),
    endpoint: SharedEndpoint,
    limits: &ServerLimits,
    stop: &CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY is not available");
    }
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let endpoint = endpoint.clone();
        async move {
            let request = Request::from((
                request,
                LocalAddr(Addr::from(local)),
                RemoteAddr(Addr::from(peer)),
                Scheme::HTTP,
            ));
            Ok::<_, Infallible>(hyper::Response::from(endpoint.get_response(request).await))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_header_size(limits.header_bytes)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "a connection ended early");
    }
}

/// Listens for the request to end the process, from now on: SIGTERM, or an interrupt from the
/// terminal. The future completes with the first one that comes.
///
/// # Errors
/// When the operating system refuses to install the handlers.
pub fn termination() -> io::Result<impl Future<Output = ()> + Send> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};

        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "interrupts cannot be received");
            std::future::pending::<()>().await;
        }
    })
}
