//! `crm member`

use chrono::{DateTime, Utc};
use clap::Subcommand;
use crm_core::id::UserId;
use crm_core::member::{Member as Found, RoleGrant};
use crm_core::{Crm, Delete, Read, Scope, Update};

use crate::Outcome;
use crate::settings::{Settings, request, tenant};
use crate::stdout::say;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Look after the members of a tenant
#[derive(Subcommand)]
pub(crate) enum Member {
    /// List the members with their roles
    List {
        /// The tenant's name
        #[arg(long)]
        tenant: String,
    },
    /// Replace the roles of a member
    #[command(after_long_help = "\
Example:
  crm member roles ada@acme.example --tenant acme --role viewer --role admin=2030-01-01T00:00:00Z")]
    Roles {
        /// The e-mail address
        email: String,
        /// The tenant's name
        #[arg(long)]
        tenant: String,
        /// A role of the complete new list, with =INSTANT behind it for one that ends; repeatable
        #[arg(long = "role")]
        roles: Vec<String>,
    },
    /// Take a user out of the tenant
    Remove {
        /// The e-mail address
        email: String,
        /// The tenant's name
        #[arg(long)]
        tenant: String,
    },
}

impl Member {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let crm = settings.open().await?;
        let (Self::List { tenant: name }
        | Self::Roles { tenant: name, .. }
        | Self::Remove { tenant: name, .. }) = &self;
        let scope = crm
            .operator_in(tenant(&crm, name).await?, request(&crm))
            .await?;
        match self {
            Self::List { .. } => {
                for member in all(&crm, &scope).await? {
                    print(&member)?;
                }
            }
            Self::Roles { email, roles, .. } => {
                let user = by_email(&crm, &scope, &email).await?;
                let grants = roles.iter().map(|text| grant(text));
                let grants = grants.collect::<Result<Vec<_>, _>>()?;
                let permit = scope.permit::<Update>("members")?;
                print(&crm.members().set_roles(&permit, user, grants).await?)?;
            }
            Self::Remove { email, .. } => {
                let user = by_email(&crm, &scope, &email).await?;
                let permit = scope.permit::<Delete>("members")?;
                crm.members().remove(&permit, user).await?;
                say!("removed {email}");
            }
        }
        crm.close().await;
        Ok(())
    }
}

fn print(member: &Found) -> Outcome {
    let roles = member.roles.iter().map(|role| match role.until {
        None => role.name.clone(),
        Some(until) => format!("{}={}", role.name, crm_core::value::instant(&until)),
    });
    let roles: Vec<_> = roles.collect();
    say!("{} {} {}", member.user_id, member.email, roles.join(" "));
    Ok(())
}

async fn all(crm: &Crm, scope: &Scope) -> Result<Vec<Found>, Failure> {
    let permit = scope.permit::<Read>("members")?;
    let (mut members, mut after) = (Vec::new(), None);
    loop {
        let page = crm.members().list(&permit, after, 100).await?;
        members.extend(page.data);
        after = page.next;
        if after.is_none() {
            return Ok(members);
        }
    }
}

/// The user with this address.
pub(crate) async fn by_email(crm: &Crm, scope: &Scope, email: &str) -> Result<UserId, Failure> {
    let mut all = all(crm, scope).await?.into_iter();
    let found = all.find(|member| member.email.eq_ignore_ascii_case(email));
    let found = found.map(|member| member.user_id);
    found.ok_or_else(|| format!("the tenant has no member {email}; see crm member list").into())
}

/// A name, and behind `=` the instant at which it ends.
pub(crate) fn ending(text: &str) -> Result<(&str, Option<DateTime<Utc>>), Failure> {
    let Some((name, until)) = text.split_once('=') else {
        return Ok((text, None));
    };
    let until = DateTime::parse_from_rfc3339(until)
        .map_err(|_| format!("{until}: write an instant such as 2030-01-01T00:00:00Z"))?;
    Ok((name, Some(until.to_utc())))
}

fn grant(text: &str) -> Result<RoleGrant, Failure> {
    let (role, until) = ending(text)?;
    let role = role.to_owned();
    Ok(RoleGrant { role, until })
}
