//! Compiled code in a private folder, for the next start of the host and for what memory lets go.
//!
//! A file is named after the component's SHA-256 and the engine's compatibility, and ends with a
//! MAC of its name and its code (HMAC-SHA-256, RFC 2104) under the host's own key. A file that does
//! not verify is no file. One that was verified, and is the same file unchanged since, is not read
//! again: its code is mapped as it lies there.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::hash::{Hash as _, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crm_core::{Error, Result};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretBox};
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::Hash;
use crate::worker::CacheFolder;

const MAC_BYTES: usize = 32;
const ENDING: &str = "code";
/// How a file ends that is being written.
const UNFINISHED: &str = "new";
/// Most files that are remembered as verified.
const MOST_NOTED: usize = 100_000;
/// How long a file is used before it says so again.
const MOMENT: Duration = Duration::from_secs(60 * 60);
/// Nobody writes a file for longer than this.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// The folder, as one engine sees it.
pub(crate) struct CodeCache {
    folder: PathBuf,
    key: SecretBox<[u8; 32]>,
    /// What the engine's machine code depends on.
    compatibility: Hash,
    bytes: u64,
    /// The files that were verified, as they were then.
    verified: Mutex<HashMap<String, Mark>>,
}

impl CodeCache {
    /// Opens the folder, makes it where it is missing, and removes what processes that were killed
    /// left unfinished there.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] when it cannot be used, or is open to others.
    pub(crate) fn open(engine: &Engine, folder: &CacheFolder) -> Result<Self> {
        make_private(&folder.path).map_err(|error| {
            let path = folder.path.display();
            Error::Configuration(format!("plugin code cannot be kept in {path}: {error}").into())
        })?;
        remove_abandoned(&folder.path);
        let mut compatibility = Sha256Hasher(Sha256::new());
        engine
            .precompile_compatibility_hash()
            .hash(&mut compatibility);
        Ok(Self {
            folder: folder.path.clone(),
            key: SecretBox::new(Box::new(*folder.key.expose_secret())),
            compatibility: compatibility.0.finalize().into(),
            bytes: folder.bytes,
            verified: Mutex::default(),
        })
    }

    /// The component, when the folder has it and its file was verified before: quick enough to be
    /// waited for.
    pub(crate) fn map(&self, engine: &Engine, component: &Hash) -> Option<Component> {
        let name = self.name(component);
        let path = self.path(&name);
        let file = File::open(&path).ok()?;
        if is_long_ago(self.verified(&name, &file)?) {
            self.touch(name, &file);
        }
        mapped(engine, &file, &path)
    }

    /// The component, when the folder has it: reads the whole file.
    pub(crate) fn load(&self, engine: &Engine, component: &Hash) -> Option<Component> {
        let name = self.name(component);
        let path = self.path(&name);
        let mut file = File::open(&path).ok()?;
        if !self.verifies(&name, &mut file)? {
            tracing::error!(path = %path.display(), "a file of plugin code is not ours; ignoring it");
            return None;
        }
        self.touch(name, &file);
        mapped(engine, &file, &path)
    }

    /// Keeps the code of a component and loads it from there. A folder that takes nothing, or gives
    /// nothing back, costs only the next compilation.
    pub(crate) fn store(
        &self,
        engine: &Engine,
        component: &Hash,
        code: &[u8],
    ) -> wasmtime::Result<Component> {
        let name = self.name(component);
        let kept = self.write(&name, code).and_then(|file| {
            self.make_room()?;
            Ok(file)
        });
        let folder = self.folder.display();
        match kept {
            Ok(file) => {
                let path = self.path(&name);
                self.touch(name, &file);
                mapped(engine, &file, &path).map_or_else(|| super::load(engine, code), Ok)
            }
            Err(error) => {
                tracing::warn!(%error, %folder, "plugin code is not kept");
                super::load(engine, code)
            }
        }
    }

    /// When the file was last used, if it is the one that was verified before.
    fn verified(&self, name: &str, file: &File) -> Option<SystemTime> {
        let meta = file.metadata().ok()?;
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = *verified.get(name)? == Mark::of(&meta)?;
        is_same.then(|| meta.modified().ok())?
    }

    /// Remembers a verified file, and says that it is used, to whoever makes room: not each time,
    /// or other processes with this folder would have to read the file anew.
    fn touch(&self, name: String, file: &File) {
        let used = file.metadata().and_then(|meta| meta.modified());
        if used.is_ok_and(is_long_ago) {
            // A file that is not touched goes sooner, and is compiled anew.
            let _ = file.set_modified(now());
        }
        let Some(mark) = file.metadata().ok().as_ref().and_then(Mark::of) else {
            return;
        };
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= MOST_NOTED {
            verified.clear();
        }
        verified.insert(name, mark);
    }

    /// Whether a file ends with our mark; nothing when it cannot be read.
    fn verifies(&self, name: &str, file: &mut File) -> Option<bool> {
        let mut whole = Vec::new();
        file.read_to_end(&mut whole).ok()?;
        let (code, mac) = whole.split_at_checked(whole.len().checked_sub(MAC_BYTES)?)?;
        Some(self.mac(name, code).verify_slice(mac).is_ok())
    }

    fn write(&self, name: &str, code: &[u8]) -> io::Result<File> {
        // Another process may write the same code at this moment: each its own file, to its end.
        let mut unfinished = tempfile::Builder::new()
            .prefix(name)
            .suffix(&format!(".{UNFINISHED}"))
            .tempfile_in(&self.folder)?;
        unfinished.write_all(code)?;
        unfinished.write_all(&self.mac(name, code).finalize().into_bytes())?;
        Ok(unfinished.persist(self.path(name))?)
    }

    /// Removes the files used longest ago until the rest fits; the newest one stays.
    fn make_room(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            // What is not ours stays.
            if !ends_with(&path, ENDING) {
                continue;
            }
            // Another process makes room in the same folder.
            let Some(meta) = unless_gone(fs::symlink_metadata(&path))? else {
                continue;
            };
            files.push((meta.modified()?, meta.len(), path));
        }
        files.sort_unstable_by(|left, right| right.cmp(left));
        let mut bytes = 0;
        for (at, (_, size, path)) in files.iter().enumerate() {
            bytes += size;
            if bytes > self.bytes && at > 0 {
                unless_gone(fs::remove_file(path))?;
            }
        }
        Ok(())
    }

    fn name(&self, component: &Hash) -> String {
        let name = Sha256::new()
            .chain_update(component)
            .chain_update(self.compatibility);
        hex::encode(name.finalize())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name).with_extension(ENDING)
    }

    fn mac(&self, name: &str, code: &[u8]) -> Hmac<Sha256> {
        hmac(self.key.expose_secret())
            .chain_update(name)
            .chain_update(code)
    }
}

/// What changes whenever a file does.
#[derive(PartialEq, Eq)]
struct Mark {
    size: u64,
    /// Its number, and when it was last changed.
    #[cfg(unix)]
    inode: (u64, i64, i64),
}

impl Mark {
    #[cfg(unix)]
    fn of(meta: &Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        Some(Self {
            size: meta.len(),
            inode: (meta.ino(), meta.ctime(), meta.ctime_nsec()),
        })
    }

    /// Every file is read.
    #[cfg(not(unix))]
    fn of(_: &Metadata) -> Option<Self> {
        None
    }
}

fn is_long_ago(used: SystemTime) -> bool {
    now()
        .duration_since(used)
        .is_ok_and(|unused| unused > MOMENT)
}

#[expect(
    clippy::disallowed_methods,
    reason = "compared with what the file system itself wrote, never with the library's clock"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

fn ends_with(path: &Path, ending: &str) -> bool {
    path.extension()
        .is_some_and(|extension| extension == ending)
}

/// Nothing for a file that is not there any more.
fn unless_gone<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes unfinished files that nobody writes any more. One that stays costs only its place.
fn remove_abandoned(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let written = fs::symlink_metadata(&path).and_then(|meta| meta.modified());
        let age = written.map(|written| now().duration_since(written));
        if ends_with(&path, UNFINISHED) && matches!(age, Ok(Ok(age)) if age > ABANDONED) {
            let _ = fs::remove_file(path);
        }
    }
}

/// HMAC-SHA-256 under a key, which is shorter than a block and so filled up with zeros.
pub(crate) fn hmac(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    Hmac::new((&block).into())
}

/// Maps a file that was verified or written by us.
#[expect(
    unsafe_code,
    reason = "the file carries our own key's mark, and lies in a folder that is ours alone"
)]
fn mapped(engine: &Engine, file: &File, path: &Path) -> Option<Component> {
    let path = opened(file, path);
    let mapped = unsafe { Component::deserialize_file(engine, path) };
    mapped
        .inspect_err(|reason| {
            tracing::warn!(%reason, "a file of plugin code does not load");
        })
        .ok()
}

/// A path to the very file that is open, whatever its own path leads to by now.
#[cfg(target_os = "linux")]
fn opened<'p>(file: &File, path: &'p Path) -> Cow<'p, Path> {
    use std::os::fd::AsRawFd;
    let opened = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    match opened.exists() {
        true => opened.into(),
        false => path.into(),
    }
}

/// The file's path: its folder is ours alone.
#[cfg(not(target_os = "linux"))]
fn opened<'p>(_: &File, path: &'p Path) -> Cow<'p, Path> {
    path.into()
}

#[cfg(unix)]
fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    // A link would be somebody's to lead elsewhere.
    let meta = fs::symlink_metadata(folder)?;
    if !meta.is_dir() {
        return Err(io::Error::other("it is a link; name the folder itself"));
    }
    if meta.permissions().mode() & 0o077 != 0 {
        let message = "others may enter the folder; run chmod 700 on it";
        return Err(io::Error::other(message));
    }
    // Whose files it makes is who this process is.
    let ours = tempfile::tempfile_in(folder)?.metadata()?.uid();
    if meta.uid() != ours {
        let message = "the folder belongs to another user; run chown on it, or name another one";
        return Err(io::Error::other(message));
    }
    Ok(())
}

#[cfg(not(unix))]
fn make_private(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

/// Hashes with SHA-256 what the standard library's trait feeds it.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Unused: the digest is taken whole.
    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component without anything in it.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn processes_that_share_a_folder_read_a_file_anew_only_after_it_was_unused_for_long() {
        let (engine, folder) = (Engine::default(), tempfile::tempdir().unwrap());
        let folder = CacheFolder::new(folder.path().join("code"), &"a secret".to_owned().into());
        let [one, other] = [(); 2].map(|()| CodeCache::open(&engine, &folder).unwrap());
        let code = engine.precompile_component(EMPTY).unwrap();
        let hash = Sha256::digest(EMPTY).into();
        one.store(&engine, &hash, &code).unwrap();
        assert!(one.map(&engine, &hash).is_some());
        assert!(other.map(&engine, &hash).is_none(), "it has not read it");
        assert!(other.load(&engine, &hash).is_some());
        let maps = |cache: &CodeCache| cache.map(&engine, &hash).is_some();
        assert!(maps(&one) && maps(&other));

        // As it will be: whoever uses it next says so, and the other one reads it once more.
        let path = one.path(&one.name(&hash));
        let unused = now() - 2 * MOMENT;
        File::options()
            .write(true)
            .open(path)
            .and_then(|file| file.set_modified(unused))
            .unwrap();
        assert!(!maps(&one), "it is not the file that it was");
        assert!(one.load(&engine, &hash).is_some());
        assert!(!maps(&other));
        assert!(other.load(&engine, &hash).is_some());
        assert!(maps(&one) && maps(&other));
    }

    #[test]
    #[cfg(unix)]
    fn a_folder_that_is_not_ours_alone_keeps_no_code() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let parent = tempfile::tempdir().unwrap();
        let [open, real, link] = ["open", "real", "link"].map(|name| parent.path().join(name));
        make_private(&real).unwrap();
        make_private(&real).unwrap();
        symlink(&real, &link).unwrap();
        assert!(
            make_private(&link)
                .unwrap_err()
                .to_string()
                .contains("link")
        );
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(
            make_private(&open)
                .unwrap_err()
                .to_string()
                .contains("chmod")
        );
        // Whoever may give folders away, which takes the rights of root.
        if std::os::unix::fs::chown(&real, Some(65_534), None).is_ok() {
            assert!(
                make_private(&real)
                    .unwrap_err()
                    .to_string()
                    .contains("chown")
            );
        }
    }

    /// What was verified is what is mapped, whatever lies under its name by then.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_that_was_verified_is_the_one_that_is_mapped() {
        let (engine, folder) = (Engine::default(), tempfile::tempdir().unwrap());
        let path = folder.path().join("code");
        fs::write(&path, engine.precompile_component(EMPTY).unwrap()).unwrap();
        let file = File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "something else").unwrap();
        assert!(mapped(&engine, &file, &path).is_some());
    }

    #[test]
    fn files_that_another_process_removed_are_no_failure() {
        let folder = tempfile::tempdir().unwrap();
        let gone = unless_gone(fs::remove_file(folder.path().join("gone")));
        assert!(matches!(gone, Ok(None)));
        assert!(unless_gone(fs::remove_file(folder.path())).is_err());
    }
}
