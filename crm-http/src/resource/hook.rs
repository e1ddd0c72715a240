//! Webhooks: what other systems send to plugins, and the secrets that they sign it with.

use std::sync::Arc;

use bytes::Bytes;
use chrono::TimeDelta;
use crm_core::id::{PluginId, TenantId};
use crm_core::plugin::{self, Message, NewHookSecret, Signed, WebhookAuth};
use crm_core::{Create, Error, Read, RequestContext, Update};
use poem::http::header::CONTENT_TYPE;
use poem::{Request, RequestBody};
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::registry::MetaRequest;
use poem_openapi::{ApiExtractor, ApiExtractorType, Enum, ExtractParamOptions, Object, OpenApi};
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use crate::credential::{self, Caller, Sender};
use crate::edge::Exchange;
use crate::json;
use crate::payload::binary;
use crate::problem::Problem;
use crate::wire::{Accepted, Created, Instant, Tag};

/// Where messages are sent to.
const BASE: &str = "/api/v1/hooks";

/// The operations on the webhooks of plugins.
pub(crate) struct Hooks {
    pub(crate) plugins: plugin::Plugins,
}

/// What other systems do.
pub(crate) struct Inbound {
    pub(crate) plugins: plugin::Plugins,
}

/// A webhook of a plugin.
#[derive(Object)]
#[oai(rename = "PluginHook")]
struct Reply {
    name: String,
    auth: Auth,
    /// Where messages are sent to.
    path: String,
    /// The secrets that are good now, the newest first; not what they are.
    secrets: Vec<HookSecret>,
}

/// How senders say who they are.
#[derive(Enum)]
#[oai(rename = "PluginHookAuth", rename_all = "snake_case")]
enum Auth {
    /// They sign each message.
    Signature,
    /// They send a credential of the tenant, such as an API key.
    ApiKey,
}

/// That there is a secret; what it is, nobody is shown again.
#[derive(Object)]
#[oai(rename = "PluginHookSecret")]
struct HookSecret {
    /// Who had it made: `user:<id>`, `api_key:<id>` or `operator`.
    created_by: String,
    created_at: Instant,
    /// When it ends; null for the newest.
    #[oai(nullable)]
    expires_at: Option<Instant>,
}

/// The webhooks of a plugin.
#[derive(Object)]
#[oai(rename = "PluginHookList")]
struct List {
    /// Those of the active version.
    data: Vec<Reply>,
}

/// A new secret.
#[derive(Object)]
#[oai(rename = "PluginHookSecretCreated")]
struct NewSecret {
    /// `whsec_` and Base64, which decoded is the key of the signatures (HMAC-SHA-256 of
    /// `{webhook-id}.{webhook-timestamp}.{body}`, as `v1,` and Base64); nobody is shown it again.
    secret: String,
    /// Where signed messages are sent to.
    path: String,
    /// Until when the secret before is good too; null where there was none.
    #[oai(nullable)]
    previous_until: Option<Instant>,
}

/// That a message was taken in.
#[derive(Object)]
#[oai(rename = "PluginMessage")]
struct Received {
    /// The `event_id` of the run that it causes; the same one each time that the message is sent.
    id: Uuid,
}

#[OpenApi(prefix_path = "/api/v1/plugins", tag = "Tag::Plugins")]
impl Hooks {
    /// List the webhooks of a plugin
    ///
    /// Permission: `plugins.read`.
    #[oai(
        path = "/:id/hooks",
        method = "get",
        operation_id = "list_plugin_hooks"
    )]
    async fn list(&self, caller: Caller, id: Path<Uuid>) -> Result<Json<List>, Problem> {
        let permit = caller.permit::<Read>("plugins")?;
        let hooks = self.plugins.hooks(&permit, PluginId(id.0)).await?;
        let tenant = caller.tenant();
        Ok(Json(List {
            data: hooks.into_iter().map(|hook| of(hook, tenant)).collect(),
        }))
    }

    /// Renew the secret of a webhook
    ///
    /// Makes the secret that senders sign with, and shows it this once. The one before stays good for a
    /// while, so that senders can be told. Permission: `plugins.update`.
    #[oai(
        path = "/:id/hooks/:name/secret",
        method = "post",
        operation_id = "renew_plugin_hook_secret"
    )]
    async fn renew(
        &self,
        caller: Caller,
        id: Path<Uuid>,
        /// Its name in the manifest.
        name: Path<String>,
        /// So many seconds the one before stays good.
        #[oai(default = "overlap", validator(maximum(value = "604800")))]
        overlap: Query<u32>,
    ) -> Result<Created<NewSecret>, Problem> {
        let permit = caller.permit::<Update>("plugins")?;
        let overlap = TimeDelta::seconds(overlap.0.into());
        let renewed = self
            .plugins
            .renew_hook_secret(&permit, PluginId(id.0), &name.0, overlap);
        let NewHookSecret {
            plugin,
            secret,
            previous_until,
        } = renewed.await?;
        Ok(Created(NewSecret {
            path: path(plugin.as_str(), &name.0, Some(caller.tenant())),
            secret: secret.expose_secret().to_owned(),
            previous_until: previous_until.map(Instant),
        }))
    }
}

#[OpenApi(prefix_path = "/api/v1/hooks", tag = "Tag::Plugins")]
impl Inbound {
    /// Send a message to a plugin
    ///
    /// For other systems: the plugin's webhook `name` is given the body as it stands, soon, by a run of
    /// its own. The message is stored when this answers, and taken once for its id, within 24 hours. How
    /// senders say who they are is the webhook's choice: by a signature after Standard Webhooks, with
    /// the three `webhook-` headers, the tenant in the URL and no other credential; or by a credential
    /// such as an API key, whose rights then bound the run. Whoever is not known is answered alike,
    /// whatever there is. Permission: `plugin_runs.create`.
    #[oai(
        path = "/:plugin/:name",
        method = "post",
        operation_id = "send_plugin_message"
    )]
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a parameter of the request"
    )]
    async fn send(
        &self,
        sender: Sender,
        arrival: Arrival,
        /// The plugin's name.
        plugin: Path<String>,
        /// The webhook's name in its manifest.
        name: Path<String>,
        /// The id of the tenant, for signed messages.
        tenant: Query<Option<Uuid>>,
        /// The message's id: the same each time that it is sent.
        #[oai(name = "webhook-id")]
        webhook_id: Header<Option<String>>,
        /// Seconds since 1970; at most five minutes from now.
        #[oai(name = "webhook-timestamp")]
        webhook_timestamp: Header<Option<String>>,
        /// A key of the caller's choice, for messages with a credential; without one `webhook-id` is it.
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<String>>,
        body: Body,
    ) -> Result<Accepted<Received>, Problem> {
        let message = Message {
            plugin: plugin.0,
            hook: name.0,
            content_type: body.content_type,
            body: body.bytes,
        };
        let id = match sender.0 {
            Some(scope) => {
                let permit = scope.permit::<Create>("plugin_runs")?;
                let key = key.0.as_deref().or(webhook_id.0.as_deref());
                self.plugins.receive(&permit, key, message).await?
            }
            None => {
                let id = given(
                    &webhook_id.0,
                    "the header webhook-id is missing: send the message's id",
                );
                let timestamp = given(
                    &webhook_timestamp.0,
                    "the header webhook-timestamp is missing: send the seconds since 1970",
                );
                let signed = Signed {
                    id: arrival.judge(id)?,
                    timestamp: arrival.judge(timestamp)?,
                    signatures: &arrival.signatures,
                };
                let tenant = tenant.0.map(TenantId);
                let received =
                    self.plugins
                        .receive_signed(tenant, signed, message, &arrival.context);
                arrival.judge(received.await)?
            }
        };
        Ok(Accepted(Received { id: id.0 }))
    }
}

/// A header that a signed message has.
fn given<'a>(header: &'a Option<String>, missing: &'static str) -> Result<&'a str, Error> {
    let missing = || Error::unauthenticated("signature_invalid", missing);
    header.as_deref().ok_or_else(missing)
}

/// A signed message's signatures, and where it comes from.
struct Arrival {
    exchange: Arc<Exchange>,
    context: RequestContext,
    signatures: String,
}

impl Arrival {
    /// The outcome; those whose signatures do not hold are counted.
    fn judge<T>(&self, outcome: Result<T, Error>) -> Result<T, Problem> {
        if let Err(Error::Unauthenticated { .. }) = &outcome {
            let guard = &self.exchange.app.guard;
            self.exchange.pass(guard.stranger(self.context.address))?;
        }
        Ok(outcome?)
    }
}

impl<'a> poem::FromRequest<'a> for Arrival {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        let exchange = Exchange::of(request)?.clone();
        let context = credential::context(&exchange, request);
        let signatures = request.headers().get(credential::SIGNATURE);
        let signatures = signatures.and_then(|value| value.to_str().ok());
        Ok(Self {
            exchange,
            context,
            signatures: signatures.unwrap_or_default().to_owned(),
        })
    }
}

/// A message's bytes, whatever they are.
struct Body {
    content_type: Option<String>,
    bytes: Bytes,
}

impl<'a> ApiExtractor<'a> for Body {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn request_meta() -> Option<MetaRequest> {
        Some(binary("The message, at most 256 KiB, of any media type."))
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let headers = request.headers();
        let content_type = headers.get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let limit = plugin::Plugins::MAX_MESSAGE;
        Ok(Self {
            content_type: content_type.map(str::to_owned),
            bytes: json::read_bytes(headers, body.take()?, limit).await?,
        })
    }
}

fn overlap() -> u32 {
    24 * 60 * 60
}

/// Where messages are sent to; signed ones name the tenant.
fn path(plugin: &str, hook: &str, tenant: Option<TenantId>) -> String {
    match tenant {
        Some(tenant) => format!("{BASE}/{plugin}/{hook}?tenant={tenant}"),
        None => format!("{BASE}/{plugin}/{hook}"),
    }
}

fn of(hook: plugin::PluginHook, tenant: TenantId) -> Reply {
    let (auth, tenant) = match hook.auth {
        WebhookAuth::Signature => (Auth::Signature, Some(tenant)),
        WebhookAuth::ApiKey => (Auth::ApiKey, None),
    };
    Reply {
        path: path(hook.plugin.as_str(), hook.name.as_str(), tenant),
        name: hook.name.into(),
        auth,
        secrets: hook.secrets.into_iter().map(HookSecret::from).collect(),
    }
}

impl From<plugin::HookSecret> for HookSecret {
    fn from(secret: plugin::HookSecret) -> Self {
        Self {
            created_by: secret.created_by,
            created_at: secret.created_at.into(),
            expires_at: secret.expires_at.map(Instant),
        }
    }
}
