//! `crm serve`

use std::net::SocketAddr;

use clap::Args;
use crm_core::Crm;
use crm_http::{HttpOptions, ServerLimits, routes, serve_endpoint, termination};
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Outcome;
use crate::settings::Settings;
use crate::stdout::say;

/// Serve the API until told to stop
///
/// Prints its address and, as long as there is no user, the setup token that lets the first one
/// register. An interrupt or SIGTERM stops it after the running requests have finished, a second one
/// at once.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  crm serve
  crm serve --database sqlite:///var/lib/crm/crm.db --listen 0.0.0.0:8080 --modules modules/
  CRM_SECRET_KEY=\"$(openssl rand -base64 48)\" crm serve --database postgres://crm:secret@db/crm

The reference of the API is at /docs (Swagger UI) and /redoc, the document at /openapi.json, health
at /health and /health/ready.")]
pub(crate) struct Serve {
    /// The address to listen on; port 0 takes a free one
    #[arg(
        long,
        env = "CRM_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,

    /// An origin whose pages may call the API from a browser; repeatable, * allows all
    #[arg(
        long = "cors-origin",
        env = "CRM_CORS_ORIGINS",
        value_delimiter = ',',
        value_parser = origin,
        value_name = "ORIGIN"
    )]
    cors_origins: Vec<String>,

    /// Tell browsers to insist on HTTPS; for a server behind a TLS proxy
    #[arg(long, env = "CRM_HSTS")]
    hsts: bool,

    /// The URL that clients see, where a proxy serves the API under another address or a prefix
    #[arg(
        long,
        env = "CRM_PUBLIC_URL",
        default_value = "",
        hide_default_value = true,
        value_parser = public_url,
        value_name = "URL"
    )]
    public_url: String,
}

/// An absolute URL of HTTP, or nothing.
fn public_url(text: &str) -> Result<String, String> {
    let uri: Option<http::Uri> = text.parse().ok();
    let absolute = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.query().is_none()
    });
    if text.is_empty() || absolute {
        return Ok(text.to_owned());
    }
    Err("write it as https://crm.example or https://example.org/crm".to_owned())
}

/// An origin as browsers send it (RFC 6454 §6.2), or `*`.
fn origin(text: &str) -> Result<String, String> {
    let is_origin = |uri: http::Uri| {
        let bare = format!("{}://{}", uri.scheme_str()?, uri.authority()?);
        (bare == text).then_some(())
    };
    if text == "*" || text.parse().ok().and_then(is_origin).is_some() {
        return Ok(text.to_owned());
    }
    Err("write it as https://app.example, without a path or a slash at the end".to_owned())
}

impl Serve {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        // First, so that an address in use leaves no new database behind.
        let listener = TcpListener::bind(self.listen)
            .await
            .map_err(|error| format!("{} cannot be listened on: {error}", self.listen))?;
        let crm = build(&settings).await?;
        let options = HttpOptions {
            cors_origins: self.cors_origins,
            hsts: self.hsts,
            public_url: self.public_url.trim_end_matches('/').to_owned(),
            ..HttpOptions::default()
        };
        let endpoint = routes(&crm, options)?;
        crm.start();
        let asked = termination()?;
        announce(&crm, listener.local_addr()?).await?;

        let stop = CancellationToken::new();
        let server = serve_endpoint(listener, endpoint, ServerLimits::default(), stop.clone());
        let server = tokio::spawn(server);
        asked.await;
        tracing::info!("stopping; running requests may finish");
        stop.cancel();
        let asked_again = termination()?;
        tokio::select! {
            ended = server => ended??,
            () = asked_again => return Err("stopped at once, with requests still running".into()),
        }
        crm.close().await;
        tracing::info!("stopped");
        Ok(())
    }
}

#[cfg(feature = "plugins")]
async fn build(settings: &Settings) -> Result<Crm, Box<dyn std::error::Error + Send + Sync>> {
    let host = crm_plugins::Host::new(crm_plugins::Limits::default())?;
    Ok(settings
        .builder()?
        .plugins(std::sync::Arc::new(host))
        .build()
        .await?)
}

#[cfg(not(feature = "plugins"))]
async fn build(settings: &Settings) -> Result<Crm, Box<dyn std::error::Error + Send + Sync>> {
    Ok(settings.open().await?)
}

/// Says on standard output where the server is, and how the first user gets in.
async fn announce(crm: &Crm, address: SocketAddr) -> Outcome {
    say!("listening on http://{address}");
    say!("reference    http://{address}/docs");
    if let Some(token) = crm.ensure_setup_token().await? {
        say!("setup token  {}", token.expose_secret());
        say!(
            "             with it, POST /api/v1/auth/register makes the first tenant and its admin"
        );
        say!("             good once, for 24 hours; a start without any user prints a new one");
    }
    Ok(())
}
