//! The compile worker as the host sees it: a process of its own that is given a component and hands
//! back machine code, or is stopped.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use crm_core::{Error, Result};
use hmac::Mac;
use secrecy::{ExposeSecret, SecretBox, SecretString};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::compile::{OUT_OF_MEMORY, Order, REFUSED, hmac};
use crate::inspect::refused;
use crate::limits::Limits;

/// How to start a compile worker: a program that does nothing but
/// [`compile_worker`](crate::compile_worker()), such as `crm plugin-compile-worker`.
#[derive(Debug)]
pub struct Worker {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where compiled code is kept from one start of the host to the next; nowhere when left out.
    pub cache: Option<CacheFolder>,
}

/// A folder of compiled code. It must be this program's alone: whoever writes into it and knows the
/// key decides what runs in this process.
#[derive(Debug)]
pub struct CacheFolder {
    /// The folder; made when it is missing.
    pub path: PathBuf,
    /// What marks our own files; another key makes every file of the folder a stranger.
    pub key: SecretBox<[u8; 32]>,
    /// The most bytes in the folder; the files used longest ago go first.
    pub bytes: u64,
}

impl CacheFolder {
    /// A folder of at most 1 GiB, with a key derived from the application's secret.
    pub fn new(path: impl Into<PathBuf>, secret: &SecretString) -> Self {
        let secret = Sha256::digest(secret.expose_secret()).into();
        let key = hmac(&secret).chain_update(PURPOSE).finalize();
        Self {
            path: path.into(),
            key: SecretBox::new(Box::new(key.into_bytes().into())),
            bytes: 1 << 30,
        }
    }
}

impl Worker {
    /// A worker without a cache.
    pub fn new(
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            cache: None,
        }
    }
}

/// What a key derived from the application's secret is for.
const PURPOSE: &str = "crm-plugins: compiled code";
/// The most processor time for any component.
pub(crate) const MOST_TIME: Duration = Duration::from_secs(120);
/// How much longer than its processor time a worker may take on a busy machine.
const PATIENCE: u32 = 5;
/// The exit code of a Rust program that panicked.
const PANICKED: i32 = 101;
/// The most of a worker's words that are kept.
const MAX_REASON: u64 = 4 << 10;

/// Compiles a component in a worker and answers the machine code.
///
/// # Errors
///
/// What the component is at fault for: [`Error::LimitExceeded`] `component_too_complex` when the
/// worker runs out of processor time or memory or makes too much code, [`Error::Invalid`]
/// `unsupported_component` when it refuses the component. [`Error::Unavailable`] for all that
/// passes: it does not start, somebody else ends it, or the machine is too busy for it.
pub(crate) async fn compile_apart(
    worker: &Worker,
    limits: &Limits,
    component: Bytes,
) -> Result<Vec<u8>> {
    let further = u32::try_from(component.len() >> 20).unwrap_or(u32::MAX);
    let time = limits
        .compile_time
        .saturating_mul(further.saturating_add(1))
        .min(MOST_TIME);
    let order = Order {
        component: component.len() as u64,
        seconds: time.as_secs().max(1),
        memory: limits.compile_memory,
    };
    let answered = converse(worker, limits, &order, &component);
    let patience = time.saturating_mul(PATIENCE);
    let (status, code, reason) = tokio::time::timeout(patience, answered)
        .await
        .map_err(|_| {
            Error::unavailable(format!(
                "compiling the component took longer than {patience:?} on this machine; try again \
                 later"
            ))
        })?
        .map_err(|error| Error::Unavailable {
            message: "the compiler of plugins does not answer".into(),
            source: Some(error.into()),
        })?;
    if code.len() as u64 > limits.code_bytes {
        let most = limits.code_bytes;
        return Err(too_complex(format!(
            "{most} bytes of machine code (limit code_bytes)"
        )));
    }
    if status.success() {
        return Ok(code);
    }
    Err(failure(status, &reason, limits, time))
}

/// Starts the worker, gives it the component and takes what it answers: its status, the code and
/// its words. Dropped, it stops the worker.
async fn converse(
    worker: &Worker,
    limits: &Limits,
    order: &Order,
    component: &[u8],
) -> std::io::Result<(ExitStatus, Vec<u8>, String)> {
    let mut child = Command::new(&worker.program)
        .args(&worker.arguments)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(std::io::Error::other("the worker has no pipes"));
    };
    let mut line = serde_json::to_vec(order)?;
    line.push(b'\n');
    let tell = async move {
        // A worker that ends before it has read everything says why in other ways.
        let _ = stdin.write_all(&line).await;
        let _ = stdin.write_all(component).await;
        let _ = stdin.shutdown().await;
    };
    let ((), code, reason) = tokio::join!(
        tell,
        read(stdout, limits.code_bytes.saturating_add(1)),
        read(stderr, MAX_REASON),
    );
    let (code, reason) = (code?, String::from_utf8_lossy(&reason?).trim().to_owned());
    if code.len() as u64 > limits.code_bytes {
        child.start_kill()?;
    }
    Ok((child.wait().await?, code, reason))
}

/// Reads at most so many bytes.
async fn read(pipe: impl AsyncRead + Unpin, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    pipe.take(most).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

fn failure(status: ExitStatus, reason: &str, limits: &Limits, time: Duration) -> Error {
    if status.code() == Some(i32::from(REFUSED)) {
        return refused(
            "unsupported_component",
            format!("This host cannot run the component: {reason}."),
        );
    }
    // Some of the compiler's own containers panic for want of memory.
    let out_of_memory = status.code() == Some(i32::from(OUT_OF_MEMORY))
        || status.code() == Some(PANICKED) && reason.contains("out of memory");
    match out_of_memory
        .then_some(Ended::Memory)
        .or_else(|| ended_by(status))
    {
        Some(Ended::Time) => too_complex(format!(
            "{} s of processor time to compile (limit compile_time)",
            time.as_secs()
        )),
        Some(Ended::Memory) => too_complex(format!(
            "{} bytes of memory to compile (limit compile_memory)",
            limits.compile_memory
        )),
        None => Error::Unavailable {
            message: "the compiler of plugins failed; try again later".into(),
            source: Some(format!("{status}: {reason}").into()),
        },
    }
}

fn too_complex(bound: String) -> Error {
    Error::LimitExceeded {
        code: "component_too_complex",
        message: format!("The component takes more than {bound}.").into(),
    }
}

enum Ended {
    Time,
    Memory,
}

/// Which of our bounds ended the worker: the kernel stops one out of time, and one out of memory
/// aborts or crashes. SIGKILL is none of them: it is what a kernel without memory sends, or an
/// operator.
#[cfg(unix)]
fn ended_by(status: ExitStatus) -> Option<Ended> {
    use std::os::unix::process::ExitStatusExt;
    // SIGABRT, SIGSEGV and SIGXCPU; the last has no other number on the systems we know.
    match status.signal()? {
        24 => Some(Ended::Time),
        6 | 11 => Some(Ended::Memory),
        _ => None,
    }
}

#[cfg(not(unix))]
fn ended_by(_: ExitStatus) -> Option<Ended> {
    None
}
