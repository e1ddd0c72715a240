//! `crm role`

use clap::Subcommand;
use crm_core::policy::PermissionInput;
use crm_core::role::{NewRole, Role as Found, RoleChange};
use crm_core::{Create, Crm, Delete, Read, Scope, Update};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Outcome;
use crate::settings::{Settings, request, tenant};
use crate::stdout::say;

/// A permission with a condition on the rows, or a list of fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    permission: String,
    #[serde(rename = "where")]
    condition: Option<Map<String, Value>>,
    fields: Option<Vec<String>>,
    except: Option<Vec<String>>,
}

/// Look after the roles of a tenant
#[derive(Subcommand)]
pub(crate) enum Role {
    /// List the roles with their permissions
    List {
        /// The tenant's name
        #[arg(long)]
        tenant: String,
    },
    /// Make a role
    #[command(after_long_help = "\
Examples:
  crm role create seller --tenant acme --permission deals.*:team --permission contacts.read
  crm role create closer --tenant acme --permission '{\"permission\": \"deals.update\", \"where\": {\"stage\": \"won\"}}'
  crm role create caller --tenant acme --permission '{\"permission\": \"contacts.read\", \"fields\": [\"name\", \"phone\"]}'")]
    Create {
        /// Its name
        name: String,
        /// The tenant's name
        #[arg(long)]
        tenant: String,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
        /// The role whose permissions it includes
        #[arg(long)]
        parent: Option<String>,
        /// A permission, as text or as a JSON object with a condition or a list of fields; repeatable
        #[arg(long = "permission")]
        permissions: Vec<String>,
    },
    /// Replace the permissions of a role
    Update {
        /// Its name
        name: String,
        /// The tenant's name
        #[arg(long)]
        tenant: String,
        /// A permission of the complete new list; repeatable
        #[arg(long = "permission")]
        permissions: Vec<String>,
    },
    /// Delete a role that nobody holds
    Delete {
        /// Its name
        name: String,
        /// The tenant's name
        #[arg(long)]
        tenant: String,
    },
}

impl Role {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let crm = settings.open().await?;
        let (Self::List { tenant: name }
        | Self::Create { tenant: name, .. }
        | Self::Update { tenant: name, .. }
        | Self::Delete { tenant: name, .. }) = &self;
        let scope = crm
            .operator_in(tenant(&crm, name).await?, request(&crm))
            .await?;
        self.run_in(&crm, &scope).await?;
        crm.close().await;
        Ok(())
    }

    async fn run_in(self, crm: &Crm, scope: &Scope) -> Outcome {
        let roles = crm.roles();
        match self {
            Self::List { .. } => {
                for role in roles.list(&scope.permit::<Read>("roles")?).await? {
                    print(&role)?;
                }
            }
            Self::Create {
                name,
                description,
                parent,
                permissions,
                ..
            } => {
                let parent_id = match parent {
                    Some(parent) => Some(named(crm, scope, &parent).await?.id),
                    None => None,
                };
                let new = NewRole {
                    name,
                    description,
                    parent_id,
                    permissions: inputs(permissions)?,
                };
                print(&roles.create(&scope.permit::<Create>("roles")?, new).await?)?;
            }
            Self::Update {
                name, permissions, ..
            } => {
                let role = named(crm, scope, &name).await?;
                let change = RoleChange {
                    permissions: Some(inputs(permissions)?),
                    ..RoleChange::default()
                };
                let permit = scope.permit::<Update>("roles")?;
                print(&roles.update(&permit, role.id, change).await?)?;
            }
            Self::Delete { name, .. } => {
                let role = named(crm, scope, &name).await?;
                let permit = scope.permit::<Delete>("roles")?;
                roles.delete(&permit, role.id).await?;
                say!("deleted {name}");
            }
        }
        Ok(())
    }
}

fn print(role: &Found) -> Outcome {
    say!("{} {}", role.id, role.name);
    for permission in &role.permissions {
        let fields = permission.fields();
        match permission.condition() {
            None => say!("  {permission}{fields}"),
            Some(condition) => say!("  {permission} where {condition}{fields}"),
        }
    }
    Ok(())
}

/// The role of this name.
async fn named(
    crm: &Crm,
    scope: &Scope,
    name: &str,
) -> Result<Found, Box<dyn std::error::Error + Send + Sync>> {
    let all = crm.roles().list(&scope.permit::<Read>("roles")?).await?;
    let found = all.into_iter().find(|role| role.name == name);
    found.ok_or_else(|| format!("there is no role called {name}; see crm role list").into())
}

/// Each a text, or an object with a condition or a list of fields.
fn inputs(
    texts: Vec<String>,
) -> Result<Vec<PermissionInput>, Box<dyn std::error::Error + Send + Sync>> {
    let input = |text: String| {
        if !text.starts_with('{') {
            return Ok(text.into());
        }
        let wrong = || {
            format!(
                "{text}: write {{\"permission\": …}} with \"where\": {{…}}, \"fields\": […] or \
                 \"except\": […]"
            )
        };
        let object: Object = serde_json::from_str(&text).map_err(|_| wrong())?;
        Ok(PermissionInput {
            permission: object.permission,
            condition: object.condition,
            fields: object.fields,
            except: object.except,
        })
    };
    texts.into_iter().map(input).collect()
}
