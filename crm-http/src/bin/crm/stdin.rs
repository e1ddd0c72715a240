//! Secrets that a person types or a script pipes in.

use std::io::{BufRead as _, IsTerminal as _};
use std::process::{Command, Stdio};

use secrecy::SecretString;

use crate::stdout::note;

/// Reads a password from standard input: its first line, without the line's end.
///
/// # Errors
/// When there is none.
pub(crate) fn password() -> Result<SecretString, String> {
    let stdin = std::io::stdin();
    let terminal = stdin.is_terminal();
    if terminal {
        eprint!("Password: ");
        echo("-echo");
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if terminal {
        echo("echo");
        note!("");
    }
    read.map_err(|error| format!("the password cannot be read from standard input: {error}"))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err("give the password on standard input".to_owned());
    }
    Ok(password.into())
}

/// Switches the terminal's echo; where that cannot be done, the password shows as it is typed.
fn echo(mode: &str) {
    let switched = Command::new("stty")
        .arg(mode)
        .stdin(Stdio::inherit())
        .status();
    if !switched.is_ok_and(|status| status.success()) {
        tracing::debug!("the terminal's echo could not be switched");
    }
}
