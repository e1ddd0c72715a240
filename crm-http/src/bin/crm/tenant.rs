//! `crm tenant`

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use crm_core::Crm;
use crm_core::id::TenantId;

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
    /// Write everything that a tenant has into a folder, one JSON object on each line of its files
    ///
    /// Records, also those in the trash, its own fields and modules, members, roles, keys without
    /// their secrets, plugins without their components, jobs, and the audit log with its seals.
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

impl Tenant {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let crm = settings.open().await?;
        match self {
            Self::Create { name } => {
                let tenant = crm.tenants().create(&name, request(&crm)).await?;
                say!("{} {}", tenant.id, tenant.name);
            }
            Self::List { erased: true } => {
                for tomb in crm.tenants().erased().await? {
                    let state = match tomb.erased_at {
                        Some(at) => format!("erased {}", at.to_rfc3339()),
                        None => "being erased".to_owned(),
                    };
                    say!("{} {state} {} {}", tomb.id, tomb.sequence, tomb.hash);
                }
            }
            Self::Suspend { name } => {
                let id = tenant(&crm, &name).await?;
                crm.tenants().suspend(id, request(&crm)).await?;
                say!("{id} {name} suspended");
            }
            Self::Resume { name } => {
                let id = tenant(&crm, &name).await?;
                crm.tenants().resume(id, request(&crm)).await?;
                say!("{id} {name} active");
            }
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
                for tenant in crm.tenants().list().await? {
                    let state = if tenant.is_active {
                        "active"
                    } else {
                        "suspended"
                    };
                    say!("{} {} {state}", tenant.id, tenant.name);
                }
            }
        }
        crm.close().await;
        Ok(())
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
    say!("{files} files written to {}", folder.display());
    Ok(())
}
