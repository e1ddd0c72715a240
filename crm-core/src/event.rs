//! What happened to a record, as kept in the outbox and handed to subscribers.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::{ApiKeyId, EventId, RecordId, TenantId, UserId};
use crate::identity::Impersonator;
use crate::platform::PLATFORM;
use crate::scope::Actor;

/// What a write did to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// A new record.
    Created,
    /// New values.
    Updated,
    /// The record is gone, or in the trash of its module.
    Deleted,
    /// The record is back from the trash.
    Restored,
    /// The record is gone from the trash, for good.
    Purged,
    /// Others became part of the record.
    Merged,
}

impl ChangeKind {
    /// The last segment of the event's kind: `created`, `updated`, `deleted`, `restored`, `purged`,
    /// `merged`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
            Self::Restored => "restored",
            Self::Purged => "purged",
            Self::Merged => "merged",
        }
    }
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A committed change. Its field names are those of the JSON that subscribers receive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Unique for ever; a subscriber that sees it twice may drop the second.
    pub id: EventId,
    /// Position in the outbox; grows along the changes of one record.
    pub sequence: i64,
    /// The tenant it belongs to.
    pub tenant_id: TenantId,
    /// The module's plural name; `plugin:` and its name where a plugin told an event of its own.
    pub module: String,
    /// `contact.created`: the module's singular name and what happened.
    pub kind: String,
    /// The changed record.
    pub record_id: RecordId,
    /// The record before, as on the wire; absent for a new one.
    pub before: Option<serde_json::Value>,
    /// The record after, as on the wire; absent for a deleted one. What a plugin told with an event
    /// of its own.
    pub after: Option<serde_json::Value>,
    /// Who did it: `user:<id>`, `api_key:<id>`, `plugin:<id>` or `operator`.
    pub actor: String,
    /// Who acted in the actor's name, where somebody else did: `user:<id>` or `operator:<id>`.
    #[serde(default)]
    pub impersonator: Option<String>,
    /// The request that caused it.
    pub request_id: String,
    /// The first event of the chain of causes this one belongs to.
    pub root_id: EventId,
    /// How many events lie between the root and this one; 0 for the root.
    pub depth: u16,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// Whose rights bound what plugins do about it, where that is not the actor alone: of what a
    /// plugin did because of somebody's act, of what was done in a user's name, and of what a
    /// service account did by one of its keys.
    #[serde(skip)]
    pub principal: Option<Principal>,
}

/// What stands before a plugin's name in the module of an event that it told itself.
pub(crate) const TOLD: &str = "plugin:";

impl Event {
    /// The plugin that told it with an event of its own; none for the change of a record.
    pub fn told_by(&self) -> Option<&str> {
        self.module.strip_prefix(TOLD)
    }

    /// Whose act caused it: a user's or an API key's, where one did.
    pub(crate) fn caused_by(&self) -> Option<Principal> {
        let of_actor = || Principal::of_actor(&self.actor);
        self.principal.or_else(of_actor)
    }
}

/// Whose act caused something: what follows from it has no more rights than they have now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Principal(pub(crate) Party);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Party {
    /// A user.
    User(UserId),
    /// A user, in whose name somebody else acted.
    Impersonated(UserId, Impersonator),
    /// An API key, with the service account that it acts as.
    Key(ApiKeyId, Option<UserId>),
}

impl Principal {
    /// Who acted.
    pub(crate) fn actor(self) -> Actor {
        match self.0 {
            Party::User(user) | Party::Impersonated(user, _) | Party::Key(_, Some(user)) => {
                Actor::User(user)
            }
            Party::Key(key, None) => Actor::ApiKey(key),
        }
    }

    /// The user whose rows are own ones.
    pub(crate) fn user(self) -> Option<UserId> {
        match self.0 {
            Party::User(user) | Party::Impersonated(user, _) => Some(user),
            Party::Key(_, account) => account,
        }
    }

    /// Who acted in the user's name, where somebody did.
    pub(crate) fn impersonator(self) -> Option<Impersonator> {
        match self.0 {
            Party::Impersonated(_, by) => Some(by),
            Party::User(_) | Party::Key(..) => None,
        }
    }

    /// The one that an actor alone stands for. A service account that acted before its keys were
    /// noted is bounded by its own rights.
    pub(crate) fn of_actor(actor: &str) -> Option<Self> {
        let (kind, id) = actor.split_once(':')?;
        match kind {
            "user" => Some(Self(Party::User(id.parse().ok()?))),
            "api_key" => Some(Self(Party::Key(id.parse().ok()?, None))),
            _ => None,
        }
    }

    /// Reads the stored form; what cannot be read would give more rights than there were.
    pub(crate) fn parse(text: &str, tenant: TenantId) -> Result<Self> {
        let read = || {
            let Some((user, by)) = text.split_once('/') else {
                return Self::of_actor(text);
            };
            let user = user.strip_prefix("user:")?.parse().ok()?;
            let (kind, id) = by.split_once(':')?;
            let home = match kind {
                "api_key" => return Some(Self(Party::Key(id.parse().ok()?, Some(user)))),
                "user" => tenant,
                "operator" => PLATFORM,
                _ => return None,
            };
            let by = Impersonator {
                user: id.parse().ok()?,
                home,
            };
            Some(Self(Party::Impersonated(user, by)))
        };
        read().ok_or(Error::Inconsistent {
            table: "outbox".into(),
            column: "principal".into(),
        })
    }
}

/// The stored form: `user:<id>`, `user:<id>/operator:<id>`, `api_key:<id>`, or
/// `user:<id>/api_key:<id>` for the key of a service account.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Party::User(user) => write!(f, "user:{user}"),
            Party::Impersonated(user, by) => write!(f, "user:{user}/{}", by.actor()),
            Party::Key(key, Some(account)) => write!(f, "user:{account}/api_key:{key}"),
            Party::Key(key, None) => write!(f, "api_key:{key}"),
        }
    }
}
