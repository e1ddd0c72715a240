//! `crm user`

use clap::Subcommand;
use crm_core::Create;
use crm_core::identity::NewUser;

use crate::Outcome;
use crate::settings::{Settings, request, tenant};
use crate::stdin;
use crate::stdout::say;

/// Make users
#[derive(Subcommand)]
pub(crate) enum User {
    /// Make a user, or an existing one a member of one more tenant
    ///
    /// The password is the first line of standard input. A user who exists already keeps theirs.
    #[command(after_long_help = "\
Examples:
  crm user create --tenant acme --email ada@acme.example --role admin
  printf '%s\\n' \"$PASSWORD\" | crm user create --tenant acme --email bo@acme.example --role member")]
    Create {
        /// The tenant's name
        #[arg(long)]
        tenant: String,
        /// The e-mail address to log in with
        #[arg(long)]
        email: String,
        /// A role of the tenant: admin, manager, member, viewer or one of its own; repeatable
        #[arg(long = "role", required = true)]
        roles: Vec<String>,
        /// The user's name; when left out, the part of the address before the @
        #[arg(long)]
        name: Option<String>,
    },
}

impl User {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let Self::Create {
            tenant: name_of_tenant,
            email,
            roles,
            name,
        } = self;
        let password = stdin::password()?;
        let crm = settings.open().await?;
        let tenant = tenant(&crm, &name_of_tenant).await?;
        let permit = crm
            .operator(tenant, request(&crm))
            .permit::<Create>("members")?;
        let name = name.unwrap_or_else(|| email.split('@').next().unwrap_or(&email).to_owned());
        let user = NewUser {
            email: email.clone(),
            name,
            password,
            roles,
        };
        let joined = crm.accounts().create_user(&permit, user).await?;
        let known = if joined.existed {
            " (existed already; the password stays)"
        } else {
            ""
        };
        say!("{} {email}{known}", joined.user_id);
        crm.close().await;
        Ok(())
    }
}
