//! Logs on standard error: JSON lines for machines, text for a person at a terminal.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::Command;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Starts logging. Commands that do one thing and end say only what goes wrong.
///
/// # Errors
/// For a level or format that is none.
pub(crate) fn start(command: &Command) -> Result<(), String> {
    let quiet = !matches!(command, Command::Serve(_));
    let filter = level().unwrap_or_else(|| if quiet { "warn" } else { "info" }.to_owned());
    let word = filter.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if word && !LEVELS.contains(&filter.as_str()) {
        let levels = LEVELS.join(", ");
        return Err(format!("{filter:?} is no log level; they are {levels}"));
    }
    let filter = EnvFilter::try_new(&filter)
        .map_err(|error| format!("{filter:?} is not a log level or filter: {error}"))?;
    let json = match std::env::var("CRM_LOG_FORMAT").as_deref() {
        Ok("json") => true,
        Ok("text") => false,
        Err(_) => !std::io::stderr().is_terminal(),
        Ok(other) => {
            return Err(format!(
                "CRM_LOG_FORMAT is {other:?}; it can be json or text"
            ));
        }
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if json {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .init();
    } else {
        builder.init();
    }
    Ok(())
}

fn level() -> Option<String> {
    ["CRM_LOG", "LOG_LEVEL"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .map(|level| level.to_lowercase())
}
