//! The server under load: the `crm` program on a database of its own, and its other commands.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::Options;

const START: Duration = Duration::from_secs(60);
/// Of a database that is empty before and worthless afterwards.
const SECRET: &str = "a secret of a database that exists for a measurement only";

/// A running server; killed when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) setup_token: String,
    pub(crate) process: u32,
    program: PathBuf,
    database: String,
    _child: Child,
    // Kept open: a server whose standard output is closed would fail at its next line.
    _output: Lines<BufReader<ChildStdout>>,
    _folder: Option<TempDir>,
}

impl Server {
    /// Starts it and waits for its address and its setup token.
    pub(crate) async fn start(options: &Options) -> Result<Self> {
        let folder = match &options.database {
            Some(_) => None,
            None => {
                std::fs::create_dir_all(&options.folder)?;
                Some(
                    tempfile::Builder::new()
                        .prefix("load-")
                        .tempdir_in(&options.folder)?,
                )
            }
        };
        let database = match (&options.database, &folder) {
            (Some(url), _) => url.clone(),
            (None, Some(folder)) => format!("sqlite://{}", folder.path().join("crm.db").display()),
            (None, None) => bail!("there is no database"),
        };
        let log = match &options.log {
            Some(path) => std::fs::File::create(path)
                .with_context(|| format!("{} cannot be written", path.display()))?
                .into(),
            None => Stdio::null(),
        };
        let mut child = command(&options.server, &database)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(["--login-limit", "0", "--sign-in-limit", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| {
                format!(
                    "{} does not start; build it first, with --release",
                    options.server.display()
                )
            })?;
        let process = child.id().context("the server ended at once")?;
        let output = child
            .stdout
            .take()
            .context("the server has no standard output")?;
        let mut output = BufReader::new(output).lines();
        let (address, setup_token) = tokio::time::timeout(START, announcement(&mut output))
            .await
            .context("no setup token: give an empty database, and see --log")??;
        Ok(Self {
            address,
            setup_token,
            process,
            program: options.server.clone(),
            database,
            _child: child,
            _output: output,
            _folder: folder,
        })
    }

    /// What the database is, without its password.
    pub(crate) fn database_kind(&self) -> &str {
        self.database.split(':').next().unwrap_or_default()
    }

    /// Runs another command of the program on the same database and answers what it prints.
    pub(crate) async fn command(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut child = command(&self.program, &self.database)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that wants no input may have ended already.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            bail!("crm {} failed: {}", arguments.join(" "), output.status);
        }
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }
}

/// The program without the settings of the surroundings.
fn command(program: &std::path::Path, database: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"CRM_") {
            command.env_remove(&name);
        }
    }
    command
        .env("CRM_SECRET_KEY", SECRET)
        .env("CRM_DATABASE_URL", database)
        .kill_on_drop(true);
    command
}

/// Reads what the server prints until both address and setup token are known.
async fn announcement(output: &mut Lines<BufReader<ChildStdout>>) -> Result<(SocketAddr, String)> {
    let (mut address, mut token) = (None, None);
    while let Some(line) = output.next_line().await? {
        if let Some(found) = line.strip_prefix("listening on http://") {
            address = Some(found.parse()?);
        }
        if let Some(found) = line.strip_prefix("setup token") {
            token = Some(found.trim_start_matches([':', ' ']).to_owned());
        }
        if let (Some(address), Some(token)) = (address, &token) {
            return Ok((address, token.clone()));
        }
    }
    bail!("the server ended at its start; see --log")
}
