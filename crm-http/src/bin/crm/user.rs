//! `crm user`

use std::io::{BufRead as _, Read as _};

use clap::Subcommand;
use crm_core::count::told;
use crm_core::identity::{ImportedUser, NewUser};
use crm_core::{Create, Error};

use crate::Outcome;
use crate::settings::{Settings, request, tenant};
use crate::stdin;
use crate::stdout::{note, say};

/// Longest line of users to import.
const MAX_LINE_BYTES: u64 = 16 * 1024;

/// Make users, take them over, and help them back in
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

    /// Take over users of another system, with the hashes of their passwords
    ///
    /// Standard input has one JSON object to a line: {"email", "name", "password_hash"} and, where
    /// there are any, "username" and "roles". A hash is bcrypt or argon2id; it is replaced at the
    /// user's first login. A line that is refused is named, and the others are taken.
    #[command(after_long_help = "\
Examples:
  crm user import --tenant acme < users.jsonl
  crm user import --tenant acme --role member < users.jsonl")]
    Import {
        /// The tenant's name
        #[arg(long)]
        tenant: String,
        /// A role for those whose line names none; repeatable
        #[arg(long = "role")]
        roles: Vec<String>,
    },

    /// Take away the second factor of a user who has lost it, and their passkeys
    ///
    /// Make sure that it is the user who asks. Their next login needs the password alone, unless the
    /// tenant requires a second factor or the server authenticates strictly; then they set one up anew.
    ResetSecondFactor {
        /// The e-mail address of the user
        #[arg(long)]
        email: String,
    },

    /// Let a user in nowhere until they are activated
    ///
    /// Their sessions end at once, in every tenant; memberships and records stay. The last admin of a
    /// tenant is not suspended.
    Suspend {
        /// The e-mail address of the user
        #[arg(long)]
        email: String,
    },

    /// Let a suspended user in again
    Activate {
        /// The e-mail address of the user
        #[arg(long)]
        email: String,
    },
}

impl User {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        match self {
            Self::Create {
                tenant,
                email,
                roles,
                name,
            } => create(settings, tenant, email, roles, name).await,
            Self::Import { tenant, roles } => import(settings, tenant, roles).await,
            Self::ResetSecondFactor { email } => {
                let crm = settings.open().await?;
                let accounts = crm.accounts();
                accounts.reset_second_factor(&email, request(&crm)).await?;
                say!("{email} has no second factor any more");
                crm.close().await;
                Ok(())
            }
            Self::Suspend { email } => {
                let crm = settings.open().await?;
                crm.accounts().suspend_user(&email, request(&crm)).await?;
                say!("{email} is suspended");
                crm.close().await;
                Ok(())
            }
            Self::Activate { email } => {
                let crm = settings.open().await?;
                crm.accounts().activate_user(&email, request(&crm)).await?;
                say!("{email} is active");
                crm.close().await;
                Ok(())
            }
        }
    }
}

async fn create(
    settings: Settings,
    name_of_tenant: String,
    email: String,
    roles: Vec<String>,
    name: Option<String>,
) -> Outcome {
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

/// Takes the lines of standard input over, one user each.
async fn import(settings: Settings, name_of_tenant: String, roles: Vec<String>) -> Outcome {
    let crm = settings.open().await?;
    let tenant = tenant(&crm, &name_of_tenant).await?;
    let permit = crm
        .operator(tenant, request(&crm))
        .permit::<Create>("members")?;
    let (mut made, mut refused) = (0_u64, 0_u64);
    let mut reader = std::io::stdin().lock();
    for number in 1_u64.. {
        let mut line = String::new();
        // One byte more than a line may have, to know when it has more.
        let read = reader
            .by_ref()
            .take(MAX_LINE_BYTES + 1)
            .read_line(&mut line);
        if read.map_err(|error| format!("standard input cannot be read: {error}"))? == 0 {
            break;
        }
        if line.len() as u64 > MAX_LINE_BYTES {
            return Err(format!("line {number} has more than {MAX_LINE_BYTES} bytes").into());
        }
        if line.trim().is_empty() {
            continue;
        }
        let user = serde_json::from_str(&line).map(|user: ImportedUser| match user.roles {
            ref named if named.is_empty() => ImportedUser {
                roles: roles.clone(),
                ..user
            },
            _ => user,
        });
        let outcome = match user {
            Ok(user) => crm.accounts().import_user(&permit, user).await.map(drop),
            // Without the text, which holds the hash.
            Err(error) => Err(Error::invalid(
                "",
                "malformed",
                format!("Not a user as JSON, at column {}.", error.column()),
            )),
        };
        match outcome {
            Ok(()) => made += 1,
            Err(error) => {
                refused += 1;
                note!("crm: line {number}: {error}");
            }
        }
    }
    crm.close().await;
    say!("{} taken over", told(made, "user", "users"));
    if refused > 0 {
        return Err(told(refused, "line was refused", "lines were refused").into());
    }
    Ok(())
}
