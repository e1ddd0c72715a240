//! What a tenant settles for itself: rules for passwords, and whether operators may act in its
//! members' names.

use crm_core::identity::{CharacterClass, PasswordPolicy, TenantSecurity, TenantSecurityChange};
use crm_core::{Crm, Read, Update};
use poem_openapi::payload::Json;
use poem_openapi::types::MaybeUndefined;
use poem_openapi::{Enum, Object, OpenApi};

use crate::credential::Caller;
use crate::payload::Strict;
use crate::problem::Problem;
use crate::wire::Tag;

/// The operations on what a tenant settles for itself.
pub(crate) struct Security {
    pub(crate) crm: Crm,
}

/// What the tenant settles for itself.
#[derive(Object)]
#[oai(rename = "TenantSecurity")]
struct Reply {
    /// Whether operators of the platform may act in the name of members.
    operator_impersonation: bool,
    /// What new passwords of members must be, beyond the installation's rules; null for no more.
    #[oai(nullable)]
    password_policy: Option<Policy>,
}

/// What of it is to change; absent members stay.
#[derive(Object)]
#[oai(rename = "TenantSecurityChange", deny_unknown_fields)]
struct Body {
    /// Whether operators of the platform may act in the name of members.
    operator_impersonation: Option<bool>,
    /// What new passwords of members must be, beyond the installation's rules; null for no more.
    #[oai(nullable)]
    password_policy: MaybeUndefined<Policy>,
}

/// Rules for new passwords.
#[derive(Object)]
#[oai(rename = "PasswordPolicy", deny_unknown_fields)]
struct Policy {
    /// Fewest characters.
    #[oai(
        default = "least",
        validator(minimum(value = "8"), maximum(value = "64"))
    )]
    min_chars: u8,
    /// Kinds of characters that must occur.
    #[oai(default, validator(max_items = 4))]
    classes: Vec<Class>,
    /// Lowest strength as zxcvbn estimates it.
    #[oai(default, validator(minimum(value = "0"), maximum(value = "4")))]
    min_score: u8,
}

/// A kind of character.
#[derive(Enum, Clone, Copy)]
#[oai(rename = "CharacterClass", rename_all = "snake_case")]
enum Class {
    Upper,
    Lower,
    Digit,
    Symbol,
}

fn least() -> u8 {
    8
}

#[OpenApi(prefix_path = "/api/v1/auth/security", tag = "Tag::Auth")]
impl Security {
    /// Get what the tenant settles for itself
    ///
    /// Permission: `members.read`.
    #[oai(path = "/", method = "get", operation_id = "get_tenant_security")]
    async fn get(&self, caller: Caller) -> Result<Json<Reply>, Problem> {
        let permit = caller.permit::<Read>("members")?;
        let security = self.crm.accounts().tenant_security(&permit).await?;
        Ok(Json(security.into()))
    }

    /// Change what the tenant settles for itself
    ///
    /// Passwords that there are stay. Where operators are let in no more, those who act in a member's
    /// name are out at once. Permission: `members.update`.
    #[oai(path = "/", method = "patch", operation_id = "update_tenant_security")]
    async fn update(&self, caller: Caller, body: Strict<Body>) -> Result<Json<Reply>, Problem> {
        let permit = caller.permit::<Update>("members")?;
        let change = TenantSecurityChange {
            operator_impersonation: body.0.operator_impersonation,
            password_policy: match body.0.password_policy {
                MaybeUndefined::Undefined => None,
                MaybeUndefined::Null => Some(None),
                MaybeUndefined::Value(policy) => Some(Some(policy.into())),
            },
        };
        let accounts = self.crm.accounts();
        let security = accounts.update_tenant_security(&permit, change).await?;
        Ok(Json(security.into()))
    }
}

impl From<TenantSecurity> for Reply {
    fn from(security: TenantSecurity) -> Self {
        Self {
            operator_impersonation: security.operator_impersonation,
            password_policy: security.password_policy.map(Policy::from),
        }
    }
}

impl From<Policy> for PasswordPolicy {
    fn from(policy: Policy) -> Self {
        let classes = policy.classes.into_iter().map(|class| match class {
            Class::Upper => CharacterClass::Upper,
            Class::Lower => CharacterClass::Lower,
            Class::Digit => CharacterClass::Digit,
            Class::Symbol => CharacterClass::Symbol,
        });
        Self {
            min_chars: policy.min_chars.into(),
            classes: classes.collect(),
            min_score: policy.min_score,
        }
    }
}

impl From<PasswordPolicy> for Policy {
    fn from(policy: PasswordPolicy) -> Self {
        let classes = policy.classes.into_iter().map(|class| match class {
            CharacterClass::Upper => Class::Upper,
            CharacterClass::Lower => Class::Lower,
            CharacterClass::Digit => Class::Digit,
            CharacterClass::Symbol => Class::Symbol,
        });
        Self {
            // A policy asks for 64 at most.
            min_chars: u8::try_from(policy.min_chars).unwrap_or(u8::MAX),
            classes: classes.collect(),
            min_score: policy.min_score,
        }
    }
}
