//! Typed identifiers: UUIDs of version 7 (RFC 9562) made by the library, never mixed up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::from_str(text).map(Self)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
    };
}

id! {
    /// A tenant: the unit of isolation.
    TenantId
}
id! {
    /// A person with a login, member of any number of tenants.
    UserId
}
id! {
    /// A role of one tenant.
    RoleId
}
id! {
    /// A group of users of one tenant.
    GroupId
}
id! {
    /// A record of a module.
    RecordId
}
id! {
    /// An event of the outbox.
    EventId
}
id! {
    /// An API key of one tenant.
    ApiKeyId
}
id! {
    /// A plugin installed in one tenant.
    PluginId
}
id! {
    /// One run of a plugin.
    RunId
}
id! {
    /// A key whose signatures of plugins a tenant trusts.
    TrustedKeyId
}
id! {
    /// A background job of one tenant.
    JobId
}
id! {
    /// An invitation into one tenant.
    InvitationId
}
id! {
    /// An identity provider of one tenant.
    ProviderId
}
id! {
    /// The link between a member and a provider's subject.
    IdentityId
}
id! {
    /// A login: the family of refresh tokens that descend from it.
    FamilyId
}
id! {
    /// A passkey of a user.
    PasskeyId
}
