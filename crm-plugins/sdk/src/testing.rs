//! Tests of a plugin in a whole CRM of their own, without a server: the program `crm` compiles the
//! plugin, makes a tenant in a temporary database, and gives the plugin what its manifest asks for.
//!
//! ```ignore
//! use crm_plugin_sdk::testing::Crm;
//! use crm_plugin_sdk::{Result, json};
//!
//! #[test]
//! fn a_new_contact_is_scored() -> Result {
//!     let crm = Crm::with_plugin(env!("CARGO_MANIFEST_DIR"))?;
//!     let contact = crm.create("contacts", json!({ "name": "Ada" }))?;
//!     assert_eq!(crm.get("contacts", &contact)?["score"], 7);
//!     assert_eq!(crm.runs()?[0]["outcome"], "succeeded");
//!     Ok(())
//! }
//! ```
//!
//! Every call comes back when the plugins that it woke have run. Time stands still until it is
//! [advanced](Crm::advance). Requests to other hosts reach nobody. `cargo test` finds `crm` in the
//! PATH, or where the variable `CRM` says it is.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

/// A CRM with the built-in modules and one tenant, gone with this value.
pub struct Crm(Mutex<Harness>);

struct Harness {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// Why a call did nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// A stable machine code, such as `validation_failed`, or one that a plugin gave.
    pub code: String,
    /// A sentence.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for Failure {}

impl Crm {
    /// One without plugins; with the modules that a folder declares, where it is given one.
    ///
    /// # Errors
    ///
    /// When the program `crm` does not start.
    pub fn new(modules: Option<&Path>) -> Result<Self, Failure> {
        let mut command = program();
        if let Some(modules) = modules {
            command.arg("--modules").arg(modules);
        }
        let mut child = command
            .args(["plugin", "harness"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(missing)?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(broken("the program crm has no input and output"));
        };
        let harness = Harness {
            child,
            orders: Some(orders),
            answers: BufReader::new(answers),
        };
        Ok(Self(Mutex::new(harness)))
    }

    /// One where the plugin in this folder is compiled and enabled; with the modules that its
    /// folder `modules` declares, where it has one.
    ///
    /// # Errors
    ///
    /// When the program `crm` does not start, or the plugin does not compile or is refused.
    pub fn with_plugin(folder: impl AsRef<Path>) -> Result<Self, Failure> {
        let folder = folder.as_ref();
        let component = build(folder)?;
        let modules = folder.join("modules");
        let crm = Self::new(modules.is_dir().then_some(modules.as_path()))?;
        crm.install(&component)?;
        Ok(crm)
    }

    /// Enables the plugin in this file.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub fn install(&self, component: &Path) -> Result<(), Failure> {
        let order = json!({ "do": "install", "file": component.display().to_string() });
        self.order(&order).map(drop)
    }

    /// Entrusts a secret to the plugin that was installed last, which is told it where its manifest
    /// names it.
    ///
    /// # Errors
    ///
    /// For a name that is none, a secret that has not 8 bytes to 8 KiB, and when no plugin was
    /// installed.
    pub fn secret(&self, name: &str, value: &str) -> Result<(), Failure> {
        self.order(&json!({ "do": "secret", "name": name, "value": value }))
            .map(drop)
    }

    /// Makes a record, and answers its id.
    ///
    /// # Errors
    ///
    /// When it is refused, by a rule or by a plugin.
    pub fn create(&self, module: &str, values: Value) -> Result<String, Failure> {
        let made = self.order(&json!({ "do": "create", "module": module, "values": values }))?;
        Ok(made["id"].as_str().unwrap_or_default().to_owned())
    }

    /// Changes fields of a record.
    ///
    /// # Errors
    ///
    /// When it is refused, by a rule or by a plugin.
    pub fn update(&self, module: &str, id: &str, values: Value) -> Result<(), Failure> {
        let order = json!({ "do": "update", "module": module, "id": id, "values": values });
        self.order(&order).map(drop)
    }

    /// Deletes a record.
    ///
    /// # Errors
    ///
    /// When it is refused, by a rule or by a plugin.
    pub fn delete(&self, module: &str, id: &str) -> Result<(), Failure> {
        self.order(&json!({ "do": "delete", "module": module, "id": id }))
            .map(drop)
    }

    /// A record as it is now.
    ///
    /// # Errors
    ///
    /// `not_found`.
    pub fn get(&self, module: &str, id: &str) -> Result<Value, Failure> {
        self.order(&json!({ "do": "get", "module": module, "id": id }))
    }

    /// The records of a module, the latest 100.
    ///
    /// # Errors
    ///
    /// For a module that there is not.
    pub fn list(&self, module: &str) -> Result<Vec<Value>, Failure> {
        let records = self.order(&json!({ "do": "list", "module": module }))?;
        Ok(records.as_array().cloned().unwrap_or_default())
    }

    /// Sends a message to a webhook of the plugin that was installed last, signed where it wants
    /// that: a JSON value, or a text as it is.
    ///
    /// # Errors
    ///
    /// For a webhook that there is not, and a body of more than 256 KiB. What becomes of the
    /// message [`runs`](Self::runs) tell.
    pub fn receive(&self, webhook: &str, body: Value) -> Result<(), Failure> {
        self.order(&json!({ "do": "receive", "webhook": webhook, "body": body }))
            .map(drop)
    }

    /// Asks for an action of the plugin that was installed last on these records, and answers what
    /// it says.
    ///
    /// # Errors
    ///
    /// `action_refused` when the plugin refuses, with its words; `action_failed` when it does not
    /// come to its end; for an action, record or input that there is not.
    pub fn act(
        &self,
        action: &str,
        module: &str,
        records: &[&str],
        input: Value,
    ) -> Result<Value, Failure> {
        self.order(&json!({
            "do": "act", "action": action, "module": module, "records": records, "input": input,
        }))
    }

    /// Moves time forward and runs what is due then.
    ///
    /// # Errors
    ///
    /// When the CRM fails.
    pub fn advance(&self, by: Duration) -> Result<(), Failure> {
        self.order(&json!({ "do": "advance", "seconds": by.as_secs() }))
            .map(drop)
    }

    /// The runs of the plugin that was installed last, the latest first: each with its trigger,
    /// outcome, error, logs, fuel and what it read and wrote.
    ///
    /// # Errors
    ///
    /// When no plugin was installed.
    pub fn runs(&self) -> Result<Vec<Value>, Failure> {
        let runs = self.order(&json!({ "do": "runs" }))?;
        Ok(runs.as_array().cloned().unwrap_or_default())
    }

    fn order(&self, order: &Value) -> Result<Value, Failure> {
        let mut harness = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut line = String::new();
        let told = match &mut harness.orders {
            Some(orders) => writeln!(orders, "{order}"),
            None => Ok(()),
        };
        told.and_then(|()| harness.answers.read_line(&mut line))
            .map_err(|error| broken(&format!("the program crm does not answer: {error}")))?;
        let answer: Value = serde_json::from_str(&line)
            .map_err(|_| broken("the program crm ended; see what it says above"))?;
        match &answer["error"] {
            Value::Null => Ok(answer["ok"].clone()),
            error => Err(Failure {
                code: error["code"].as_str().unwrap_or_default().to_owned(),
                message: error["message"].as_str().unwrap_or_default().to_owned(),
            }),
        }
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        // The end of its orders is the end of the program; what it leaves then is its own business.
        self.orders = None;
        let _ = self.child.wait();
    }
}

/// The plugins that were compiled for the tests of this process.
static BUILT: Mutex<BTreeMap<PathBuf, PathBuf>> = Mutex::new(BTreeMap::new());

fn build(folder: &Path) -> Result<PathBuf, Failure> {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(component) = built.get(folder) {
        return Ok(component.clone());
    }
    let target = folder.join("target-guest");
    std::fs::create_dir_all(&target)
        .map_err(|error| broken(&format!("{} cannot be made: {error}", target.display())))?;
    let component = target.join("tested.wasm");
    let status = program()
        .args(["plugin", "build"])
        .arg(folder)
        .arg("--out")
        .arg(&component)
        .stdout(Stdio::null())
        .status()
        .map_err(missing)?;
    if !status.success() {
        return Err(broken("the plugin does not compile; see above"));
    }
    built.insert(folder.to_owned(), component.clone());
    Ok(component)
}

fn program() -> Command {
    Command::new(std::env::var_os("CRM").unwrap_or_else(|| "crm".into()))
}

fn missing(error: std::io::Error) -> Failure {
    broken(&format!(
        "the program crm does not start ({error}): put it into the PATH, or its path into the \
         variable CRM"
    ))
}

fn broken(message: &str) -> Failure {
    Failure {
        code: "harness".to_owned(),
        message: message.to_owned(),
    }
}
