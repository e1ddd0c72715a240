//! `crm serve`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono::TimeDelta;
use clap::{Args, ValueEnum};
use crm_core::egress::Egress;
use crm_core::identity::RegistrationPolicy;
use crm_core::{Builder, Crm, DatabaseOptions, Retention};
use crm_http::{HttpOptions, ServerLimits, TrustedProxies, routes, serve_endpoint, termination};
use poem::{Endpoint, Response};
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Outcome;
use crate::mail::Mail;
use crate::purge::age;
use crate::settings::Settings;
use crate::stdout::say;
use crate::token::AccessTokens;

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

    /// The proxies whose X-Forwarded-For is believed: networks or addresses, separated by commas;
    /// without any the header is ignored
    #[arg(
        long,
        env = "CRM_TRUSTED_PROXIES",
        value_delimiter = ',',
        value_name = "CIDR"
    )]
    trusted_proxies: Vec<String>,

    /// How many proxies of unknown addresses every request comes through: the client is the address at
    /// this place from the right of X-Forwarded-For. Only where nobody reaches the server past them
    #[arg(
        long,
        env = "CRM_TRUSTED_HOPS",
        conflicts_with = "trusted_proxies",
        value_name = "NUMBER"
    )]
    trusted_hops: Option<usize>,

    /// A folder for the compiled code of plugins, this program's alone; without it every start
    /// compiles them anew, and so does what memory let go (beyond 256 MiB)
    #[cfg(feature = "plugins")]
    #[arg(long, env = "CRM_PLUGIN_CACHE", value_name = "DIR")]
    plugin_cache: Option<std::path::PathBuf>,

    /// The fuel that the plugins of a tenant use together on one day, in UTC, whatever the tenant
    /// settles; without it they use as much as they like
    #[cfg(feature = "plugins")]
    #[arg(
        long,
        env = "CRM_PLUGIN_DAILY_FUEL",
        value_name = "UNITS",
        value_parser = clap::value_parser!(i64).range(0..)
    )]
    plugin_daily_fuel: Option<i64>,

    /// How many requests a minute an address may send to open or refresh sessions; 0 for no limit
    #[arg(
        long,
        env = "CRM_SIGN_IN_LIMIT",
        default_value_t = 300,
        value_name = "REQUESTS"
    )]
    sign_in_limit: u32,

    /// How many requests a minute a user or API key may send; 0 for no limit
    #[arg(
        long,
        env = "CRM_RATE_LIMIT",
        default_value_t = 0,
        value_name = "REQUESTS"
    )]
    rate_limit: u32,

    /// How many logins a minute an address may try for one e-mail; 0 for no limit
    #[arg(
        long,
        env = "CRM_LOGIN_LIMIT",
        default_value_t = 5,
        value_name = "LOGINS"
    )]
    login_limit: u32,

    /// How long a login with a wrong password takes at least, in milliseconds: longer than the check of
    /// any imported hash, so that its time tells nothing
    #[arg(
        long,
        env = "CRM_FAILED_LOGIN_TIME",
        default_value_t = 300,
        value_name = "MILLISECONDS",
        value_parser = clap::value_parser!(u64).range(..=10_000)
    )]
    failed_login_time: u64,

    /// Most connections to the database: readers on SQLite (4 when left out), all on PostgreSQL (16)
    #[arg(
        long,
        env = "CRM_MAX_CONNECTIONS",
        value_name = "CONNECTIONS",
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    max_connections: Option<u32>,

    /// Connections that are kept open to PostgreSQL
    #[arg(
        long,
        env = "CRM_MIN_CONNECTIONS",
        default_value_t = 0,
        value_name = "CONNECTIONS"
    )]
    min_connections: u32,

    /// Who may make an account and a tenant without being asked to
    #[arg(
        long,
        env = "CRM_REGISTRATION",
        default_value = "closed",
        value_name = "WHO"
    )]
    registration: Registration,

    /// Ask everybody for a second factor, take a time-based code of its own 30 seconds alone, have first
    /// passwords that somebody else set replaced at the first login, and end other sessions only soon
    /// after a login: the rows of OWASP ASVS 5 that are met by this alone
    #[arg(long, env = "CRM_STRICT_AUTHENTICATION")]
    strict_authentication: bool,

    /// The most bytes of the file of an import
    #[arg(
        long,
        env = "CRM_IMPORT_LIMIT",
        default_value_t = HttpOptions::default().import_limit,
        value_name = "BYTES",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    import_limit: u64,

    #[command(flatten)]
    tokens: AccessTokens,

    /// How long a session lasts at most, however often it is refreshed
    #[arg(long, env = "CRM_SESSION_LIFETIME", default_value = "30d", value_parser = age, value_name = "TIME")]
    session_lifetime: TimeDelta,

    /// How long a session lasts without being refreshed
    #[arg(long, env = "CRM_SESSION_IDLE", default_value = "14d", value_parser = age, value_name = "TIME")]
    session_idle: TimeDelta,

    /// How long audit entries are kept, a day at least; when left out, for ever
    #[arg(long, env = "CRM_AUDIT_RETENTION", value_parser = retention, value_name = "TIME")]
    audit_retention: Option<TimeDelta>,

    /// Networks that are not public and that requests of this server may reach all the same, also by
    /// plain HTTP, those of plugins excepted: identity providers and the like inside; networks or
    /// addresses, separated by commas
    #[arg(
        long,
        env = "CRM_EGRESS_ALLOW",
        value_delimiter = ',',
        value_name = "CIDR"
    )]
    egress_allow: Vec<String>,

    /// The same for the requests of plugins, of every tenant: what is named here is open to whoever
    /// installs a plugin
    #[cfg(feature = "plugins")]
    #[arg(
        long,
        env = "CRM_PLUGIN_EGRESS_ALLOW",
        value_delimiter = ',',
        value_name = "CIDR"
    )]
    plugin_egress_allow: Vec<String>,

    /// A file in PEM with the certificates of authorities of one's own, which identity providers and the
    /// like inside are believed by
    #[arg(long, env = "CRM_EGRESS_CA", value_name = "FILE")]
    egress_ca: Option<PathBuf>,

    #[command(flatten)]
    mail: Mail,

    #[cfg(feature = "passkeys")]
    #[command(flatten)]
    passkeys: crate::passkeys::Passkeys,
}

/// Who registers by themselves.
#[derive(Clone, Copy, ValueEnum)]
enum Registration {
    /// Nobody but the first user, with the setup token
    Closed,
    /// Whoever reads the mail sent to the address they give; needs --mail
    Verified,
    /// Everybody, at once; the answer tells who has an account
    Open,
}

impl From<Registration> for RegistrationPolicy {
    fn from(registration: Registration) -> Self {
        match registration {
            Registration::Closed => Self::Closed,
            Registration::Verified => Self::Verified,
            Registration::Open => Self::Open,
        }
    }
}

/// How long to keep entries: a slip of the unit takes no log away.
fn retention(text: &str) -> Result<TimeDelta, String> {
    let kept = age(text)?;
    if kept < TimeDelta::days(1) {
        return Err("keep audit entries for a day at least, such as 365d".to_owned());
    }
    Ok(kept)
}

/// An absolute URL of HTTP, or nothing.
pub(crate) fn public_url(text: &str) -> Result<String, String> {
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
pub(crate) fn origin(text: &str) -> Result<String, String> {
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
        let options = self.http_options()?;
        let crm = self.builder(&settings)?.build().await?;
        let endpoint = routes(&crm, options)?;
        crm.start();
        let asked = termination()?;
        announce(&crm, listener.local_addr()?).await?;
        serve_until(asked, listener, endpoint).await?;
        crm.close().await;
        tracing::info!("stopped");
        Ok(())
    }

    fn http_options(&self) -> Outcome<HttpOptions> {
        let counted = self.trusted_hops.map(TrustedProxies::hops).transpose()?;
        let mut proxies = self.trusted_proxies.iter();
        let trusted_proxies =
            proxies.try_fold(counted.unwrap_or_default(), |all, one| all.with(one.trim()))?;
        Ok(HttpOptions {
            trusted_proxies,
            sign_in_limit: self.sign_in_limit,
            rate_limit: self.rate_limit,
            import_limit: self.import_limit,
            cors_origins: self.cors_origins.clone(),
            hsts: self.hsts,
            public_url: self.public_url.trim_end_matches('/').to_owned(),
            ..HttpOptions::default()
        })
    }

    /// The library as these arguments have it.
    fn builder(self, settings: &Settings) -> Outcome<Builder> {
        let builder = settings
            .builder()?
            .database_options(DatabaseOptions {
                max_connections: self.max_connections,
                min_connections: self.min_connections,
                ..DatabaseOptions::default()
            })
            .egress(self.egress()?)
            .mail(self.mail.options(&self.public_url)?)
            .login_limit(self.login_limit)
            .failed_login_time(Duration::from_millis(self.failed_login_time))
            .registration(self.registration.into())
            .access_lifetime(self.tokens.access_lifetime)
            .session_lifetime(self.session_lifetime)
            .session_idle(self.session_idle)
            .retention(Retention {
                audit: self.audit_retention,
                ..Retention::default()
            });
        let builder = match self.strict_authentication {
            true => builder.strict_authentication(),
            false => builder,
        };
        #[cfg(feature = "passkeys")]
        let app_url = self.mail.app_url(&self.public_url);
        #[cfg(feature = "passkeys")]
        let builder = match self.passkeys.relying_party(app_url)? {
            Some(party) => builder.passkeys(party),
            None => builder,
        };
        #[cfg(feature = "plugins")]
        let builder = {
            let host = crate::plugin::host(settings, self.plugin_cache)?;
            let limits = crm_core::plugin::PluginLimits {
                daily_fuel: self.plugin_daily_fuel,
            };
            let builder = builder.plugins(std::sync::Arc::new(host));
            builder.plugin_limits(limits)
        };
        Ok(builder)
    }

    /// What the server's own requests may reach, and whom they believe.
    fn egress(&self) -> Outcome<Egress> {
        let mut networks = self.egress_allow.iter();
        let mut egress = networks.try_fold(Egress::builder(), |all, one| all.allow(one.trim()))?;
        #[cfg(feature = "plugins")]
        for network in &self.plugin_egress_allow {
            egress = egress.allow_plugins(network.trim())?;
        }
        if let Some(file) = &self.egress_ca {
            let refuse = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
            let pem = std::fs::read(file).map_err(|error| refuse(&error))?;
            egress = egress.trust(&pem).map_err(|error| refuse(&error))?;
        }
        Ok(egress.build()?)
    }
}

/// Serves until asked to stop, and the running requests to their end; asked again, it ends at once.
async fn serve_until(
    asked: impl Future<Output = ()>,
    listener: TcpListener,
    endpoint: impl Endpoint<Output = Response> + 'static,
) -> Outcome {
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
    Ok(())
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
        say!(
            "             good once, for 24 hours and while there is no user; the next start prints a new one"
        );
    }
    Ok(())
}
