//! API keys: credentials for programs, each with the rights of one role.

use crm_core::id::{ApiKeyId, UserId};
use crm_core::identity::{ApiKey, NewApiKey};
use crm_core::{Create, Crm, Delete, Read};
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use crate::credential::Caller;
use crate::payload::Strict;
use crate::problem::Problem;
use crate::wire::{Created, Instant, NoContent, Tag};

/// The operations on API keys.
pub(crate) struct ApiKeys {
    pub(crate) crm: Crm,
}

/// An API key, without the key.
#[derive(Object)]
#[oai(rename = "ApiKey")]
struct Reply {
    id: Uuid,
    /// What it is for.
    name: String,
    /// Its first characters, to recognise it by.
    prefix: String,
    /// The role whose permissions it has.
    role_id: Uuid,
    /// What it may do of that; null for all of it.
    #[oai(nullable)]
    permissions: Option<Vec<String>>,
    /// The service account that it acts as.
    #[oai(nullable)]
    service_account_id: Option<Uuid>,
    /// Who made it: `user:<id>`, `api_key:<id>` or `operator`.
    created_by: String,
    created_at: Instant,
    /// When it ends by itself.
    #[oai(nullable)]
    expires_at: Option<Instant>,
    /// Its latest use, to the minute.
    #[oai(nullable)]
    last_used_at: Option<Instant>,
    #[oai(nullable)]
    revoked_at: Option<Instant>,
}

/// The API keys of the tenant.
#[derive(Object)]
#[oai(rename = "ApiKeyList")]
struct List {
    /// All of them, the oldest first, also those that have ended.
    data: Vec<Reply>,
}

/// A new API key.
#[derive(Object)]
#[oai(rename = "ApiKeyCreate", deny_unknown_fields)]
struct CreateBody {
    /// What it is for.
    #[oai(validator(max_length = 100))]
    name: String,
    /// The role whose permissions it gets, by name or id.
    role: String,
    /// What it may do of what the role may, such as `contacts.read` or `deals.*`; all of it when left
    /// out.
    #[oai(validator(max_items = 200))]
    permissions: Option<Vec<String>>,
    /// A service account of the tenant to act as; the key has no permission that the account lacks.
    service_account_id: Option<Uuid>,
    /// When it ends by itself.
    expires_at: Option<Instant>,
}

/// A new API key, with the key.
#[derive(Object)]
#[oai(rename = "ApiKeyCreated")]
struct NewReply {
    /// The key itself, shown this once: send it as `Authorization: Bearer …`.
    key: String,
    api_key: Reply,
}

#[OpenApi(prefix_path = "/api/v1/api_keys", tag = "Tag::ApiKeys")]
impl ApiKeys {
    /// List API keys
    ///
    /// Permission: `api_keys.read`.
    #[oai(path = "/", method = "get", operation_id = "list_api_keys")]
    async fn list(&self, caller: Caller) -> Result<Json<List>, Problem> {
        let keys = self
            .crm
            .api_keys()
            .list(&caller.permit::<Read>("api_keys")?)
            .await?;
        Ok(Json(List {
            data: keys.into_iter().map(Reply::from).collect(),
        }))
    }

    /// Create an API key
    ///
    /// Nobody gives away a permission they do not hold. Also needs `members.update` when
    /// `service_account_id` is given. Of 1,000 keys, the oldest that is revoked or has expired makes
    /// room for one more. Permission: `api_keys.create`.
    #[oai(path = "/", method = "post", operation_id = "create_api_key")]
    async fn create(
        &self,
        caller: Caller,
        body: Strict<CreateBody>,
    ) -> Result<Created<NewReply>, Problem> {
        let permit = caller.permit::<Create>("api_keys")?;
        let body = body.0;
        let expires_at = body.expires_at.map(|instant| instant.0);
        let new = NewApiKey {
            name: body.name,
            role: body.role,
            permissions: body.permissions,
            service_account: body.service_account_id.map(UserId),
            expires_at,
        };
        let (api_key, key) = self.crm.api_keys().create(&permit, new).await?;
        Ok(Created(NewReply {
            key: key.expose_secret().to_owned(),
            api_key: api_key.into(),
        }))
    }

    /// Revoke an API key
    ///
    /// The next request with it is refused. Permission: `api_keys.delete`.
    #[oai(path = "/:id", method = "delete", operation_id = "delete_api_key")]
    async fn delete(&self, caller: Caller, id: Path<Uuid>) -> Result<NoContent, Problem> {
        let permit = caller.permit::<Delete>("api_keys")?;
        self.crm.api_keys().revoke(&permit, ApiKeyId(id.0)).await?;
        Ok(NoContent)
    }
}

impl From<ApiKey> for Reply {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id.0,
            name: key.name,
            prefix: key.prefix,
            role_id: key.role_id.0,
            permissions: key.permissions,
            service_account_id: key.service_account_id.map(|id| id.0),
            created_by: key.created_by,
            created_at: key.created_at.into(),
            expires_at: key.expires_at.map(Instant),
            last_used_at: key.last_used_at.map(Instant),
            revoked_at: key.revoked_at.map(Instant),
        }
    }
}
