//! Service accounts: members that are programs.

use crm_core::identity::NewServiceAccount;
use crm_core::{Create, Crm};
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use crate::credential::Caller;
use crate::payload::Strict;
use crate::problem::Problem;
use crate::wire::{Created, Tag};

/// The operations on service accounts.
pub(crate) struct ServiceAccounts {
    pub(crate) crm: Crm,
}

/// A program to become a member.
#[derive(Object)]
#[oai(rename = "ServiceAccountCreate", deny_unknown_fields)]
struct CreateBody {
    /// What it is.
    #[oai(validator(max_length = 100))]
    name: String,
    /// The roles it gets, by name or id.
    #[oai(validator(max_items = 50))]
    roles: Vec<String>,
}

/// A new service account.
#[derive(Object)]
#[oai(rename = "ServiceAccountCreated")]
struct Reply {
    /// Its id among the members.
    user_id: Uuid,
}

#[OpenApi(prefix_path = "/api/v1/service_accounts", tag = "Tag::Members")]
impl ServiceAccounts {
    /// Create a service account
    ///
    /// A member that is a program: it owns what it makes, has no password, and acts by API keys that
    /// name it as `service_account_id`. It is listed, given roles and removed as a member. Nobody gives
    /// away a permission they do not hold. Permission: `members.create`.
    #[oai(path = "/", method = "post", operation_id = "create_service_account")]
    async fn create(
        &self,
        caller: Caller,
        body: Strict<CreateBody>,
    ) -> Result<Created<Reply>, Problem> {
        let permit = caller.permit::<Create>("members")?;
        let input = NewServiceAccount {
            name: body.0.name,
            roles: body.0.roles,
        };
        let accounts = self.crm.accounts();
        let id = accounts.create_service_account(&permit, input).await?;
        Ok(Created(Reply { user_id: id.0 }))
    }
}
