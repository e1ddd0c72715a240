//! `crm group`

use clap::{Args, Subcommand};
use crm_core::count::told;
use crm_core::group::{Group as Found, GroupChange, GroupMember, GroupRecord, NewGroup};
use crm_core::{Create, Crm, Delete, Read, Scope, Update};

use crate::Outcome;
use crate::member::{by_email, ending};
use crate::settings::{Settings, request, tenant};
use crate::stdout::say;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Look after the groups of a tenant
#[derive(Subcommand)]
pub(crate) enum Group {
    /// List the groups
    List {
        /// The tenant's name
        #[arg(long)]
        tenant: String,
    },
    /// Make a group
    #[command(after_long_help = "\
Example:
  crm group create field --tenant acme --role seller --member ada@acme.example \\
    --member bo@acme.example=2030-01-01T00:00:00Z")]
    Create(Lists),
    /// Replace the roles, members and records of a group
    Update(Lists),
    /// Delete a group; its members lose what they held through it
    Delete {
        /// Its name
        name: String,
        /// The tenant's name
        #[arg(long)]
        tenant: String,
    },
}

/// A group and what it has.
#[derive(Args)]
pub(crate) struct Lists {
    /// Its name
    name: String,
    /// The tenant's name
    #[arg(long)]
    tenant: String,
    /// A role that its members hold, by name or id; repeatable
    #[arg(long = "role")]
    roles: Vec<String>,
    /// The e-mail address of a member, with =INSTANT behind it for one that ends; repeatable
    #[arg(long = "member")]
    members: Vec<String>,
    /// A record that it is in charge of, as module/id; repeatable
    #[arg(long = "record")]
    records: Vec<String>,
}

impl Group {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let crm = settings.open().await?;
        let (Self::List { tenant: name }
        | Self::Create(Lists { tenant: name, .. })
        | Self::Update(Lists { tenant: name, .. })
        | Self::Delete { tenant: name, .. }) = &self;
        let scope = crm
            .operator_in(tenant(&crm, name).await?, request(&crm))
            .await?;
        let groups = crm.groups();
        match self {
            Self::List { .. } => {
                for group in all(&crm, &scope).await? {
                    print(&group)?;
                }
            }
            Self::Create(lists) => {
                let new = NewGroup {
                    members: members(&crm, &scope, &lists.members).await?,
                    records: records(&lists.records)?,
                    name: lists.name,
                    roles: lists.roles,
                    ..NewGroup::default()
                };
                let permit = scope.permit::<Create>("groups")?;
                print(&groups.create(&permit, new).await?)?;
            }
            Self::Update(lists) => {
                let group = named(&crm, &scope, &lists.name).await?;
                let change = GroupChange {
                    members: Some(members(&crm, &scope, &lists.members).await?),
                    records: Some(records(&lists.records)?),
                    roles: Some(lists.roles),
                    ..GroupChange::default()
                };
                let permit = scope.permit::<Update>("groups")?;
                print(&groups.update(&permit, group.id, change).await?)?;
            }
            Self::Delete { name, .. } => {
                let group = named(&crm, &scope, &name).await?;
                let permit = scope.permit::<Delete>("groups")?;
                groups.delete(&permit, group.id).await?;
                say!("deleted {name}");
            }
        }
        crm.close().await;
        Ok(())
    }
}

fn print(group: &Found) -> Outcome {
    let roles: Vec<_> = group.roles.iter().map(|role| role.name.as_str()).collect();
    let members = told(group.members.len(), "member", "members");
    let records = told(group.records.len(), "record", "records");
    say!(
        "{} {}: {members}, {records}; roles {}",
        group.id,
        group.name,
        roles.join(" ")
    );
    Ok(())
}

async fn all(crm: &Crm, scope: &Scope) -> Result<Vec<Found>, Failure> {
    let permit = scope.permit::<Read>("groups")?;
    let (mut groups, mut after) = (Vec::new(), None);
    loop {
        let page = crm.groups().list(&permit, after, 100).await?;
        groups.extend(page.data);
        after = page.next;
        if after.is_none() {
            return Ok(groups);
        }
    }
}

async fn named(crm: &Crm, scope: &Scope, name: &str) -> Result<Found, Failure> {
    let mut all = all(crm, scope).await?.into_iter();
    let found = all.find(|group| group.name == name);
    found.ok_or_else(|| format!("there is no group called {name}; see crm group list").into())
}

async fn members(crm: &Crm, scope: &Scope, texts: &[String]) -> Result<Vec<GroupMember>, Failure> {
    let mut members = Vec::new();
    for text in texts {
        let (email, until) = ending(text)?;
        let user_id = by_email(crm, scope, email).await?;
        members.push(GroupMember { user_id, until });
    }
    Ok(members)
}

fn records(texts: &[String]) -> Result<Vec<GroupRecord>, Failure> {
    let record = |text: &String| {
        let record = text.split_once('/').and_then(|(module, id)| {
            Some(GroupRecord {
                module: module.to_owned(),
                id: id.parse().ok()?,
            })
        });
        record.ok_or_else(|| format!("{text}: write module/id").into())
    };
    texts.iter().map(record).collect()
}
