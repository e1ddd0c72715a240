//! The library's own tables: numbered SQL for SQLite and PostgreSQL, embedded in the program.
//!
//! Only text lives here; `crm-core` runs it. A migration that has been released is never edited:
//! its checksum is recorded beside its version, and a program that carries another text refuses to
//! start. A change of the tables is a new number, with the same number and name for both databases.

use sha2::{Digest, Sha256};

/// The one list of migrations, read from the folder of a database.
macro_rules! migrations {
    ($folder:literal) => {
        &[
            migration!($folder, 1, "0001", "library_tables"),
            migration!($folder, 2, "0002", "jobs"),
            migration!($folder, 3, "0003", "idempotency_keys"),
            migration!($folder, 4, "0004", "custom_fields"),
            migration!($folder, 5, "0005", "record_counts"),
            migration!($folder, 6, "0006", "serials"),
            migration!($folder, 7, "0007", "groups"),
            migration!($folder, 8, "0008", "audit_seals"),
            migration!($folder, 9, "0009", "erased_tenants"),
            migration!($folder, 10, "0010", "sessions"),
            migration!($folder, 11, "0011", "account_flows"),
            migration!($folder, 12, "0012", "second_factor"),
            migration!($folder, 13, "0013", "service_accounts"),
            migration!($folder, 14, "0014", "passkeys"),
            migration!($folder, 15, "0015", "identity_providers"),
            migration!($folder, 16, "0016", "field_lists"),
            migration!($folder, 17, "0017", "platform"),
            migration!($folder, 18, "0018", "automation"),
            migration!($folder, 19, "0019", "plugin_hooks"),
            migration!($folder, 20, "0020", "causes"),
            migration!($folder, 21, "0021", "fairness"),
            migration!($folder, 22, "0022", "waits_and_counts"),
            migration!($folder, 23, "0023", "custom_references"),
            migration!($folder, 24, "0024", "occasions"),
            migration!($folder, 25, "0025", "registrations"),
            migration!($folder, 26, "0026", "first_passwords"),
            migration!($folder, 27, "0027", "custom_trash"),
            migration!($folder, 28, "0028", "custom_machines"),
            migration!($folder, 29, "0029", "secret_proofs"),
            migration!($folder, 30, "0030", "plugin_bounds"),
            migration!($folder, 31, "0031", "shared_passwords"),
            migration!($folder, 32, "0032", "folded_tenant_names"),
        ]
    };
}

/// Embeds `<folder>/<number>_<name>.up.sql` and its `.down.sql`.
macro_rules! migration {
    ($folder:literal, $version:literal, $number:literal, $name:literal) => {
        Migration {
            version: $version,
            name: $name,
            up: include_str!(concat!("../", $folder, "/", $number, "_", $name, ".up.sql")),
            down: include_str!(concat!(
                "../",
                $folder,
                "/",
                $number,
                "_",
                $name,
                ".down.sql"
            )),
        }
    };
}

/// One step of the schema, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// The number it is ordered and recorded by, counted from 1 without gaps.
    pub version: i64,
    /// What it brings, in snake_case; the middle of its file names.
    pub name: &'static str,
    /// SQL that applies it; several statements, for one transaction.
    pub up: &'static str,
    /// SQL that takes it back, data included; several statements, for one transaction.
    pub down: &'static str,
}

impl Migration {
    /// SHA-256 over both texts, each preceded by its length in bytes as a big-endian `u64`.
    pub fn checksum(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for text in [self.up, self.down] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        hash.finalize().into()
    }
}

/// The migrations of an SQLite database, by ascending version.
pub fn sqlite() -> &'static [Migration] {
    const { migrations!("sqlite") }
}

/// The migrations of a PostgreSQL database, by ascending version.
pub fn postgres() -> &'static [Migration] {
    const { migrations!("postgres") }
}

#[cfg(test)]
mod tests;
