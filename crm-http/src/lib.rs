//! The HTTP front end of the library: every declared module and the administration of a tenant,
//! behind one OpenAPI document.
//!
//! [`routes`] mounts it in an application's own server; [`serve`] is the short way. It owns no rule:
//! what a caller may do and what a record may hold is decided in `crm-core`, and a request that skips
//! the library's scope has no way to a row.

mod cors;
mod credential;
mod cursor;
mod docs;
mod edge;
mod guard;
mod json;
mod modules;
mod openapi;
mod payload;
mod problem;
mod proxy;
mod request_id;
mod resource;
mod security_headers;
mod server;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;

use crm_core::{Crm, Error, Result};
use poem::{Endpoint, Response};
use poem_openapi::{OpenApi, OpenApiService};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use edge::HttpOptions;
pub use problem::Problem;
pub use proxy::TrustedProxies;
pub use server::{ServerLimits, serve_endpoint, termination};

/// The whole front end as an endpoint, to mount at the root of a server or below a prefix.
///
/// Below a prefix, name it in [`HttpOptions::public_url`], so that the document and `Location`
/// headers carry it.
///
/// # Errors
/// [`Error::Configuration`] for an operation without a permission, [`Error::Internal`] when the
/// reference document cannot be made; both are bugs.
pub fn routes(crm: &Crm, options: HttpOptions) -> Result<impl Endpoint<Output = Response> + use<>> {
    match crm.plugins() {
        Some(plugins) => assemble(crm, options, || resource::api_with_plugins(crm, plugins)),
        None => assemble(crm, options, || resource::api(crm)),
    }
}

fn assemble<T: OpenApi>(
    crm: &Crm,
    options: HttpOptions,
    api: impl Fn() -> T,
) -> Result<edge::Edge> {
    let service = OpenApiService::new(api(), "CRM", env!("CARGO_PKG_VERSION"));
    Ok(edge::Edge {
        app: Arc::new(edge::App {
            crm: crm.clone(),
            openapi: openapi::OpenApi::new(&service.spec(), &options.public_url)?,
            fixed: resource::routes(api(), crm.catalogue())?,
            cors: cors::Cors::new(options.cors_origins.clone()),
            guard: guard::Guard::new(options.sign_in_limit, options.rate_limit, crm.clock()),
            options,
        }),
    })
}

/// Serves the front end on `address` until the process is asked to end, then lets running requests
/// finish and closes the library.
///
/// # Errors
/// [`Error::Configuration`] when the address cannot be listened on.
pub async fn serve(crm: Crm, address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Error::Configuration(format!("{address} cannot be listened on: {error}").into())
    })?;
    let (stop, ended) = (
        CancellationToken::new(),
        termination().map_err(Error::internal)?,
    );
    let asked = stop.clone();
    tokio::spawn(async move {
        ended.await;
        asked.cancel();
    });
    let endpoint = routes(&crm, HttpOptions::default())?;
    crm.start();
    serve_endpoint(listener, endpoint, ServerLimits::default(), stop)
        .await
        .map_err(Error::internal)?;
    crm.close().await;
    Ok(())
}
