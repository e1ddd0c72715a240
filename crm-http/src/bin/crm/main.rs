//! The `crm` program: serves the API, and lets the operator look after tenants, users and plugins.
//!
//! Exit codes: 0 done, 1 refused with one clear line on standard error, 2 wrong usage, 3 an audit log
//! is not as it was sealed. A reader that closes the output, as `head` does, ends a command as done.

mod access;
mod audit;
mod field;
mod group;
mod key;
mod logging;
mod mail;
mod member;
mod migrate;
mod module;
mod operator;
#[cfg(feature = "passkeys")]
mod passkeys;
#[cfg(feature = "plugins")]
mod plugin;
mod purge;
mod role;
mod secret;
mod serve;
mod settings;
mod stdin;
mod stdout;
mod tenant;
mod token;
mod transfer;
mod user;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use settings::Settings;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a command answers: nothing, or the one line that says why not.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A multi-tenant CRM back end in one program.
#[derive(Parser)]
#[command(
    name = "crm",
    version,
    max_term_width = 100,
    after_long_help = "\
Examples:
  crm serve                                  everything on SQLite, in the file crm.db
  crm tenant create acme
  echo \"$PASSWORD\" | crm user create --tenant acme --email ada@acme.example --role admin
  crm token --tenant acme --email ada@acme.example

Environment:
  CRM_DATABASE_URL   the database, as --database
  CRM_SECRET_KEY     the secret that all keys are derived from, at least 32 bytes; or a file of it
                     named by CRM_SECRET_KEY_FILE. On SQLite one is made when neither is given,
                     and kept beside the database as <database>.key. CRM_PREVIOUS_SECRET_KEY is
                     the one used before, while it is replaced: see crm key reseal --help.
  CRM_MODULES        a folder of module declarations, as --modules
  LOG_LEVEL, CRM_LOG error, warn, info, debug or trace; or a filter such as info,crm::access=off
  CRM_LOG_FORMAT     json or text; text when standard error is a terminal, else json

Options of `crm serve` have variables too, see its help. One that is set and empty is refused."
)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(Box<serve::Serve>),
    #[command(subcommand)]
    Migrate(migrate::Migrate),
    #[command(subcommand)]
    Module(module::Module),
    #[command(subcommand)]
    Field(field::Field),
    #[command(subcommand)]
    Tenant(tenant::Tenant),
    #[command(subcommand)]
    Operator(operator::Operator),
    #[command(subcommand)]
    User(user::User),
    #[command(subcommand)]
    Member(member::Member),
    #[command(subcommand)]
    Role(role::Role),
    #[command(subcommand)]
    Group(group::Group),
    #[command(subcommand)]
    Access(access::Access),
    Token(token::Token),
    #[command(subcommand)]
    Key(key::Key),
    Import(transfer::Import),
    Export(transfer::Export),
    Purge(purge::Purge),
    #[command(subcommand)]
    Audit(audit::Audit),
    #[cfg(feature = "plugins")]
    #[command(subcommand)]
    Plugin(plugin::Plugin),
}

fn main() -> ExitCode {
    #[cfg(feature = "plugins")]
    if plugin::is_compile_worker() {
        return crm_plugins::compile_worker();
    }
    if let Some(name) = empty_variable() {
        stdout::note!("crm: {name} is set and empty; give it a value, or unset it");
        return ExitCode::FAILURE;
    }
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if stdout::is_closed(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            let line = error.to_string().replace('\n', " ");
            stdout::note!("crm: {line}");
            match error.is::<audit::Altered>() {
                true => ExitCode::from(3),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// A variable of this program that is set and empty: it may be meant as nothing, or a script's own
/// variable was missing, and a protection would be missing with it.
fn empty_variable() -> Option<String> {
    std::env::vars_os().find_map(|(name, value)| {
        let name = name.into_string().ok()?;
        let ours = name.starts_with("CRM_") || name == "LOG_LEVEL";
        (ours && value.is_empty()).then_some(name)
    })
}

fn run(cli: Cli) -> Outcome {
    logging::start(&cli.command)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let settings = cli.settings;
    runtime.block_on(async move {
        match cli.command {
            Command::Serve(command) => command.run(settings).await,
            Command::Migrate(command) => command.run(settings).await,
            Command::Module(command) => command.run(settings).await,
            Command::Field(command) => command.run(settings).await,
            Command::Tenant(command) => command.run(settings).await,
            Command::Operator(command) => command.run(settings).await,
            Command::User(command) => command.run(settings).await,
            Command::Member(command) => command.run(settings).await,
            Command::Role(command) => command.run(settings).await,
            Command::Group(command) => command.run(settings).await,
            Command::Access(command) => command.run(settings).await,
            Command::Token(command) => command.run(settings).await,
            Command::Key(command) => command.run(settings).await,
            Command::Import(command) => command.run(settings).await,
            Command::Export(command) => command.run(settings).await,
            Command::Purge(command) => command.run(settings).await,
            Command::Audit(command) => command.run(settings).await,
            #[cfg(feature = "plugins")]
            Command::Plugin(command) => command.run(settings).await,
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
