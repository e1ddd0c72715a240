//! Where the operator's secret comes from. It is never an argument, which every user of the machine
//! could read.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use crm_core::clock::Clock;
use secrecy::SecretString;

/// Whether a secret is made where a database has none yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// For a new database only: that of one that is there was lost.
    Refused,
    /// Also for a database that is there, to replace its secret.
    Made,
}

/// The secret for this database: from the environment, from the file that the environment names,
/// or, on SQLite, from the file beside the database, which is made when missing.
///
/// # Errors
/// One line that says what to set.
pub(crate) fn find(database: &str, missing: Missing) -> Result<SecretString, String> {
    if let Some(secret) = given("CRM_SECRET_KEY")? {
        return Ok(secret);
    }
    match beside(database) {
        Some(database) => kept(&database, missing),
        None => Err(
            "set CRM_SECRET_KEY to at least 32 random bytes, for example from: \
             openssl rand -base64 48"
                .to_owned(),
        ),
    }
}

/// The secret used before, when there is one.
///
/// # Errors
/// One line that says what is wrong with it.
pub(crate) fn previous() -> Result<Option<SecretString>, String> {
    given("CRM_PREVIOUS_SECRET_KEY")
}

/// What the environment holds under this name, or the file that it names under the name with `_FILE`.
fn given(name: &str) -> Result<Option<SecretString>, String> {
    let file = format!("{name}_FILE");
    match (std::env::var(name), std::env::var(&file)) {
        (Ok(_), Ok(_)) => Err(format!("set either {name} or {file}, not both")),
        (Ok(secret), Err(_)) => Ok(Some(secret.into())),
        (Err(_), Ok(file)) => read(Path::new(&file)).map(Some),
        (Err(_), Err(_)) => Ok(None),
    }
}

/// The file of an SQLite database that is one.
fn beside(database: &str) -> Option<PathBuf> {
    let path = database.strip_prefix("sqlite:")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    let path = path.split('?').next().unwrap_or(path);
    (!path.is_empty() && !path.contains(":memory:")).then(|| PathBuf::from(path))
}

/// The secret in the key file of this database.
fn kept(database: &Path, missing: Missing) -> Result<SecretString, String> {
    let file = PathBuf::from(format!("{}.key", database.display()));
    // Asked for first: who makes a database has made its key before.
    let begun = fs::metadata(database).is_ok_and(|database| database.len() > 0);
    if !file.exists() {
        if holds_something_else(database) {
            return Err(format!("{} is no SQLite database", database.display()));
        }
        if begun && missing == Missing::Refused {
            let (file, database) = (file.display(), database.display());
            return Err(format!(
                "{file} is missing, the secret of {database}: put it back, or set CRM_SECRET_KEY; \
                 if it is lost, see: crm key reseal --help"
            ));
        }
        make(&file).map_err(|error| format!("{} cannot be made: {error}", file.display()))?;
    }
    only_the_owner_reads(&file)?;
    read(&file)
}

/// Whether the file begins otherwise than SQLite's do (<https://sqlite.org/fileformat.html>, §1.3).
fn holds_something_else(file: &Path) -> bool {
    let mut start = Vec::new();
    let read = fs::File::open(file).and_then(|file| file.take(16).read_to_end(&mut start));
    read.is_ok() && !start.is_empty() && start != b"SQLite format 3\0"
}

fn read(file: &Path) -> Result<SecretString, String> {
    let secret = fs::read_to_string(file)
        .map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    Ok(secret.trim().into())
}

/// Writes a new secret aside and links it into place, so that two processes starting together agree
/// on one and neither reads half of it.
fn make(file: &Path) -> std::io::Result<()> {
    let clock = Clock::system();
    let secret = STANDARD_NO_PAD.encode(clock.random::<48>());
    let aside = PathBuf::from(format!("{}.{}", file.display(), clock.new_id().simple()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut handle = options.open(&aside)?;
    let written = handle
        .write_all(secret.as_bytes())
        .and_then(|()| handle.sync_all());
    let linked = written.and_then(|()| fs::hard_link(&aside, file));
    fs::remove_file(&aside)?;
    match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}

#[cfg(unix)]
fn only_the_owner_reads(file: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;

    let metadata = fs::metadata(file)
        .map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    if metadata.permissions().mode() & 0o077 == 0 {
        Ok(())
    } else {
        let name = file.display();
        Err(format!(
            "{name} holds the secret and others may read it; run: chmod 600 {name}"
        ))
    }
}

#[cfg(not(unix))]
fn only_the_owner_reads(_file: &Path) -> Result<(), String> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_database_that_is_a_file_is_known_by_its_url() {
        let key = |database: &str| beside(database).map(|path| path.display().to_string());
        assert_eq!(key("sqlite://crm.db").as_deref(), Some("crm.db"));
        assert_eq!(
            key("sqlite:///var/lib/crm.db?mode=rwc").as_deref(),
            Some("/var/lib/crm.db")
        );
        assert_eq!(key("sqlite::memory:"), None);
        assert_eq!(key("postgres://localhost/crm"), None);
    }

    #[test]
    fn a_secret_is_made_once_and_kept_for_the_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("crm.db");
        let made = kept(&database, Missing::Refused).unwrap();
        assert!(made.expose_secret().len() >= 64);
        let again = kept(&database, Missing::Refused).unwrap();
        assert_eq!(again.expose_secret(), made.expose_secret());
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing is left aside"
        );
    }

    #[test]
    fn the_lost_key_of_a_database_is_replaced_by_none_but_on_purpose() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("crm.db");
        fs::write(&database, "SQLite format 3\0 and so on").unwrap();
        let refused = kept(&database, Missing::Refused).unwrap_err();
        assert!(refused.contains("crm.db.key is missing"), "{refused}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        kept(&database, Missing::Made).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn no_key_is_laid_beside_a_file_that_is_no_database() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("notes.txt");
        fs::write(&file, "not a database").unwrap();
        assert!(
            kept(&file, Missing::Made)
                .unwrap_err()
                .contains("is no SQLite database")
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("crm.db");
        kept(&database, Missing::Refused).unwrap();
        let file = folder.path().join("crm.db.key");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(
            kept(&database, Missing::Refused)
                .unwrap_err()
                .contains("chmod 600")
        );
    }
}
