//! `crm tenant`

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use crm_core::count::told;
use crm_core::id::TenantId;
use crm_core::identity::{CharacterClass, PasswordPolicy, TenantSecurityChange};
use crm_core::{Crm, Read, Update};

use crate::Outcome;
use crate::settings::{Settings, request, tenant};
use crate::stdout::say;

/// Make and list tenants
#[derive(Subcommand)]
pub(crate) enum Tenant {
    /// Make a tenant with the built-in roles admin, manager, member and viewer
    #[command(after_long_help = "Example:\n  crm tenant create acme")]
    Create {
        /// The tenant's name, unique in this installation
        name: String,
    },
    /// List the tenants
    List {
        /// Those that were erased: id, when, and the end of their audit chain
        #[arg(long)]
        erased: bool,
    },
    /// Let nobody of a tenant in until it is resumed; its data stays
    Suspend {
        /// The tenant's name
        name: String,
    },
    /// Let a suspended tenant's members and keys in again
    Resume {
        /// The tenant's name
        name: String,
    },
    Security(Security),
    /// Write everything that a tenant has into a folder, one JSON object on each line of its files
    ///
    /// Records, also those in the trash, its own fields and modules, members, groups, roles,
    /// invitations, keys and identity providers without their secrets, identities, open sessions, what
    /// it settled for itself, plugins without their components, with their versions, settings and trusted
    /// keys, jobs, and the audit log with its seals.
    #[command(after_long_help = "Example:\n  crm tenant export acme acme-2025/")]
    Export {
        /// The tenant's name
        name: String,
        /// The folder, made when missing; it must be empty
        folder: PathBuf,
    },
    /// Erase a tenant for good, with the users who belong to no other tenant
    ///
    /// What stays is its id, and the number and hash that its audit chain ended with. Export it first:
    /// nothing comes back. An erasure that was interrupted is finished by the same command.
    #[command(after_long_help = "Example:\n  crm tenant erase acme --confirm acme")]
    Erase {
        /// The tenant's name
        name: String,
        /// The tenant's name once more
        #[arg(long, value_name = "NAME")]
        confirm: String,
    },
}

/// Show what a tenant settles for itself, or change what is given
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  crm tenant security acme
  crm tenant security acme --min-chars 12 --class upper --class digit --min-score 3
  crm tenant security acme --no-password-policy --operator-impersonation false")]
pub(crate) struct Security {
    /// The tenant's name
    name: String,
    /// Whether operators may act in the name of members
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
    operator_impersonation: Option<bool>,
    /// Fewest characters of a new password, 8 to 64
    #[arg(long, value_name = "N")]
    min_chars: Option<usize>,
    /// A kind of character of a new password: upper, lower, digit or symbol; repeatable
    #[arg(long = "class", value_name = "KIND", value_parser = class)]
    classes: Vec<CharacterClass>,
    /// Lowest strength of a new password, 0 to 4
    #[arg(long, value_name = "N")]
    min_score: Option<u8>,
    /// Ask no more of passwords than the installation does
    #[arg(long, conflicts_with_all = ["min_chars", "classes", "min_score"])]
    no_password_policy: bool,
}

impl Tenant {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let crm = settings.open().await?;
        match self {
            Self::Create { name } => {
                let tenant = crm.tenants().create(&name, request(&crm)).await?;
                say!("{} {}", tenant.id, tenant.name);
            }
            Self::List { erased: true } => {
                list_erased(&crm).await?;
            }
            Self::Suspend { name } => {
                let id = tenant(&crm, &name).await?;
                crm.tenants().suspend(id, request(&crm)).await?;
                say!("{id} {} suspended", crm.tenants().get(id).await?.name);
            }
            Self::Resume { name } => {
                let id = tenant(&crm, &name).await?;
                crm.tenants().resume(id, request(&crm)).await?;
                say!("{id} {} active", crm.tenants().get(id).await?.name);
            }
            Self::Security(security) => security.run(&crm).await?,
            Self::Export { name, folder } => {
                let id = tenant(&crm, &name).await?;
                export(&crm, id, &folder).await?;
            }
            Self::Erase { name, confirm } => {
                let id = tenant(&crm, &name).await?;
                let tomb = crm.tenants().erase(id, &confirm, request(&crm)).await?;
                say!(
                    "{id} erased; its audit chain ended with {} {}",
                    tomb.sequence,
                    tomb.hash
                );
            }
            Self::List { erased: false } => {
                list(&crm).await?;
            }
        }
        crm.close().await;
        Ok(())
    }
}

impl Security {
    async fn run(self, crm: &Crm) -> Outcome {
        let scope = crm.operator(tenant(crm, &self.name).await?, request(crm));
        let accounts = crm.accounts();
        let read = scope.permit::<Read>("members")?;
        let security = accounts.tenant_security(&read).await?;
        let mut change = TenantSecurityChange {
            operator_impersonation: self.operator_impersonation,
            password_policy: self.no_password_policy.then_some(None),
        };
        if self.min_chars.is_some() || !self.classes.is_empty() || self.min_score.is_some() {
            let policy = security.password_policy.unwrap_or_default();
            change.password_policy = Some(Some(self.changed(policy)));
        }
        let permit = scope.permit::<Update>("members")?;
        let security = accounts.update_tenant_security(&permit, change).await?;
        say!("{}", serde_json::to_string(&security)?);
        Ok(())
    }

    /// The policy with what was asked for.
    fn changed(self, mut policy: PasswordPolicy) -> PasswordPolicy {
        policy.min_chars = self.min_chars.unwrap_or(policy.min_chars);
        policy.min_score = self.min_score.unwrap_or(policy.min_score);
        if !self.classes.is_empty() {
            policy.classes = self.classes;
        }
        policy
    }
}

async fn list(crm: &Crm) -> Outcome {
    for tenant in crm.tenants().list().await? {
        let state = if tenant.is_active {
            "active"
        } else {
            "suspended"
        };
        say!("{} {} {state}", tenant.id, tenant.name);
    }
    Ok(())
}

async fn list_erased(crm: &Crm) -> Outcome {
    for tomb in crm.tenants().erased().await? {
        let state = match tomb.erased_at {
            Some(at) => format!("erased {}", at.to_rfc3339()),
            None => "being erased".to_owned(),
        };
        say!("{} {state} {} {}", tomb.id, tomb.sequence, tomb.hash);
    }
    Ok(())
}

fn class(text: &str) -> Result<CharacterClass, String> {
    match text {
        "upper" => Ok(CharacterClass::Upper),
        "lower" => Ok(CharacterClass::Lower),
        "digit" => Ok(CharacterClass::Digit),
        "symbol" => Ok(CharacterClass::Symbol),
        _ => Err("choose upper, lower, digit or symbol".to_owned()),
    }
}

/// Writes the files of an export, each to its end before the next.
async fn export(crm: &Crm, id: TenantId, folder: &Path) -> Outcome {
    let refuse = |error: std::io::Error| format!("{} cannot be written: {error}", folder.display());
    std::fs::create_dir_all(folder).map_err(refuse)?;
    if std::fs::read_dir(folder).map_err(refuse)?.next().is_some() {
        return Err(format!("{} is not empty; name another folder", folder.display()).into());
    }
    let mut export = crm.export_tenant(id, request(crm)).await?;
    let mut open: Option<(String, std::fs::File)> = None;
    let mut files = 0;
    while let Some(piece) = export.next().await? {
        let file = match &mut open {
            Some((name, file)) if *name == piece.file => file,
            _ => {
                let file = std::fs::File::create_new(folder.join(&piece.file)).map_err(refuse)?;
                files += 1;
                &mut open.insert((piece.file, file)).1
            }
        };
        file.write_all(piece.text.as_bytes()).map_err(refuse)?;
    }
    say!(
        "{} written to {}",
        told(files, "file", "files"),
        folder.display()
    );
    Ok(())
}
