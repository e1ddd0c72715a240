//! The `crm` program as a script sees it: exit codes, lines, and what it leaves on disk.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// The secret of an [`Installation`].
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Where commands run: in a folder, on the SQLite file there unless a database is named.
pub(crate) trait Place {
    fn folder(&self) -> &Path;

    fn database(&self) -> Option<&str> {
        None
    }
}

impl Place for TempDir {
    fn folder(&self) -> &Path {
        self.path()
    }
}

/// A folder and a database of either kind.
pub(crate) struct Installation {
    folder: TempDir,
    pub(crate) url: String,
    _database: Option<crm_core::testing::postgres::Database>,
}

impl Installation {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            url: format!("sqlite://{}", folder.path().join("crm.db").display()),
            folder,
            _database: None,
        }
    }

    pub(crate) fn postgres() -> Self {
        let database = block_on(crm_core::testing::postgres::Database::new());
        Self {
            url: database.url().to_owned(),
            folder: tempfile::tempdir().unwrap(),
            _database: Some(database),
        }
    }
}

impl Place for Installation {
    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn database(&self) -> Option<&str> {
        Some(&self.url)
    }
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(work)
}

/// Runs each scenario once per database, as `sqlite::…` and `postgres::…`.
macro_rules! commands_on_both_databases {
    ($($scenario:ident)*) => {
        mod sqlite {
            $(#[test]
            fn $scenario() {
                super::$scenario(crate::command::Installation::sqlite());
            })*
        }

        mod postgres {
            $(#[test]
            fn $scenario() {
                super::$scenario(crate::command::Installation::postgres());
            })*
        }
    };
}
pub(crate) use commands_on_both_databases;

commands_on_both_databases! {
    migrations_with_data_are_reverted_with_consent_only_and_come_back
    an_operator_sets_up_a_tenant_and_gets_a_token
    a_folder_of_declarations_adds_to_the_built_in_modules
    a_file_is_imported_and_exported
    an_old_trash_is_purged_by_its_age
}

pub(crate) fn crm(place: &impl Place, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crm"));
    command
        .args(arguments)
        .current_dir(place.folder())
        .env_clear()
        .stdin(Stdio::null());
    if let Some(url) = place.database() {
        command
            .env("CRM_DATABASE_URL", url)
            .env("CRM_SECRET_KEY", SECRET);
    }
    command
}

pub(crate) fn done(place: &impl Place, arguments: &[&str]) -> String {
    let output = crm(place, arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Makes the database, and the tenant acme in it.
pub(crate) fn with_tenant(place: &impl Place) {
    done(place, &["migrate", "up"]);
    done(place, &["tenant", "create", "acme"]);
}

/// The one line of a command that is refused.
pub(crate) fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    let line = text(&output.stderr);
    assert!(
        line.starts_with("crm: ") && line.matches('\n').count() == 1,
        "{line}"
    );
    line
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) fn with_stdin(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

#[cfg(unix)]
#[test]
fn after_a_command_the_database_file_holds_everything_and_is_the_owners() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    with_tenant(&folder);
    let file = folder.path().join("crm.db");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let copy = tempfile::tempdir().unwrap();
    for name in ["crm.db", "crm.db.key"] {
        std::fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
    }
    assert!(done(&copy, &["tenant", "list"]).contains(" acme active"));
}

fn migrations_with_data_are_reverted_with_consent_only_and_come_back(folder: Installation) {
    with_tenant(&folder);
    let output = crm(&folder, &["migrate", "down"]).output().unwrap();
    assert!(refused(&output).contains("--destroy-data"));
    assert!(done(&folder, &["tenant", "list"]).contains("acme"));
    while !done(&folder, &["migrate", "down", "--destroy-data"]).contains("nothing to revert") {}
    assert!(done(&folder, &["migrate", "up"]).contains("contacts"));
    assert_eq!(done(&folder, &["tenant", "list"]), "");
}

#[cfg(target_os = "linux")]
#[test]
fn standard_output_that_takes_nothing_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut command = crm(&folder, &["migrate", "plan"]);
    let output = command
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(refused(&output).contains("standard output cannot be written"));
}

#[test]
fn settings_that_mean_nothing_are_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    for odd in ["mysql://x", "sqlite://", "crm.db"] {
        let output = crm(&folder, &["--database", odd, "tenant", "list"]).output();
        assert!(refused(&output.unwrap()).contains("sqlite://FILE"), "{odd}");
    }
    let output = crm(&folder, &["serve", "--public-url", "not a url"]).output();
    assert_eq!(output.unwrap().status.code(), Some(2));
    let mut loud = crm(&folder, &["tenant", "list"]);
    let output = loud.env("LOG_LEVEL", "loud").output().unwrap();
    assert!(refused(&output).contains("no log level"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    done(&folder, &["migrate", "up"]);
    let output = crm(&folder, &["plugin", "list", "--tenant", "nobody"]).output();
    assert!(refused(&output.unwrap()).contains("there is no tenant"));
}

#[test]
fn a_tenant_is_named_in_any_case_of_its_letters_as_at_a_login() {
    let folder = tempfile::tempdir().unwrap();
    with_tenant(&folder);
    assert!(done(&folder, &["tenant", "suspend", "ACME"]).contains("suspended"));
    assert!(done(&folder, &["tenant", "list"]).ends_with(" acme suspended\n"));
    done(&folder, &["role", "list", "--tenant", "Acme"]);
    done(&folder, &["plugin", "list", "--tenant", "Acme"]);
    let output = crm(&folder, &["role", "list", "--tenant", "acm"]).output();
    assert!(refused(&output.unwrap()).contains("there is no tenant \"acm\""));
}

#[test]
fn a_database_that_is_not_there_is_named_and_neither_made_nor_given_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["tenant", "list"][..],
        &["tenant", "create", "acme"],
        &["plugin", "list"],
        &["purge", "--older-than", "30d"],
        &["key", "list"],
    ] {
        let typo = [&["--database", "sqlite://cmr.db"], arguments].concat();
        let line = refused(&crm(&folder, &typo).output().unwrap());
        assert!(
            line.contains("there is no database sqlite://cmr.db")
                && line.contains("crm --database sqlite://cmr.db migrate up"),
            "{line}"
        );
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_variable_that_is_set_and_empty_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "CRM_DATABASE_URL",
        "CRM_SECRET_KEY",
        "CRM_LISTEN",
        "CRM_STRICT_AUTHENTICATION",
        "CRM_TRUSTED_PROXIES",
        "CRM_PUBLIC_URL",
        "CRM_LOG_FORMAT",
        "LOG_LEVEL",
    ] {
        let mut command = crm(&folder, &["serve"]);
        let line = refused(&command.env(name, "").output().unwrap());
        assert!(line.contains(&format!("{name} is set and empty")), "{line}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_origin_that_is_none_is_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    for odd in ["not a url", "https://app.example/", "app.example"] {
        let output = crm(&folder, &["serve", "--cors-origin", odd]).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2), "{odd}");
        assert!(
            text(&output.stderr).contains("https://app.example"),
            "{odd}"
        );
    }
}

fn an_operator_sets_up_a_tenant_and_gets_a_token(folder: Installation) {
    done(&folder, &["migrate", "up"]);
    assert!(done(&folder, &["tenant", "create", "acme"]).ends_with(" acme\n"));
    let create = [
        "user",
        "create",
        "--tenant",
        "acme",
        "--email",
        "ada@acme.example",
        "--role",
        "admin",
    ];
    let output = with_stdin(crm(&folder, &create), "correct horse battery staple\n");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let token = done(
        &folder,
        &["token", "--tenant", "acme", "--email", "ada@acme.example"],
    );
    assert_eq!(token.trim().split('.').count(), 3);

    let line = refused(
        &crm(&folder, &["tenant", "create", "acme"])
            .output()
            .unwrap(),
    );
    assert!(line.contains("already"), "{line}");
    let token = ["token", "--tenant", "acme", "--email", "eve@acme.example"];
    assert!(refused(&crm(&folder, &token).output().unwrap()).contains("no active member"));
    let weak = with_stdin(crm(&folder, &create), "short\n");
    assert!(refused(&weak).contains("password"));
    let none = with_stdin(crm(&folder, &create), "");
    assert!(refused(&none).contains("standard input"));
}

#[cfg(unix)]
#[test]
fn the_secret_is_kept_beside_the_database_for_its_owner() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    with_tenant(&folder);
    let key = std::fs::metadata(folder.path().join("crm.db.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
}

#[test]
fn weak_or_missing_configuration_refuses_with_one_line() {
    let folder = tempfile::tempdir().unwrap();
    done(&folder, &["migrate", "up"]);
    let run = |change: &dyn Fn(&mut Command)| {
        let mut command = crm(&folder, &["tenant", "list"]);
        change(&mut command);
        refused(&command.output().unwrap())
    };
    let short = run(&|command| {
        command.env("CRM_SECRET_KEY", "short");
    });
    assert!(
        short.contains("secret key") && short.contains("32"),
        "{short}"
    );
    let postgres = "postgres://crm:planted-secret@127.0.0.1:1/crm";
    let missing = run(&|command| {
        command.env("CRM_DATABASE_URL", postgres);
    });
    assert!(missing.contains("CRM_SECRET_KEY"), "{missing}");
    let unreachable = run(&|command| {
        command
            .env("CRM_DATABASE_URL", postgres)
            .env("CRM_SECRET_KEY", "x".repeat(32));
    });
    assert!(!unreachable.contains("planted-secret"), "{unreachable}");
    let odd = run(&|command| {
        command
            .env("CRM_DATABASE_URL", "mysql://x")
            .env("CRM_SECRET_KEY", "x".repeat(32));
    });
    assert!(odd.contains("sqlite") && odd.contains("postgres"), "{odd}");
    let no_folder = run(&|command| {
        command.args(["--modules", "nowhere"]);
    });
    assert!(no_folder.contains("nowhere"), "{no_folder}");
}

#[test]
fn wrong_usage_exits_with_2_and_help_with_0() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["serv"][..],
        &[],
        &["user", "create"],
        &["serve", "--listen", "nowhere"],
    ] {
        assert_eq!(
            crm(&folder, arguments).output().unwrap().status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
    for arguments in [
        &["--help"][..],
        &["serve", "--help"],
        &["plugin", "build", "--help"],
    ] {
        let help = done(&folder, arguments);
        assert!(help.contains("Example") || help.contains("Usage"), "{help}");
    }
}

#[test]
fn migrations_are_planned_applied_and_told() {
    let folder = tempfile::tempdir().unwrap();
    assert!(done(&folder, &["migrate", "status"]).contains("pending"));
    let plan = done(&folder, &["migrate", "plan"]);
    assert!(
        plan.starts_with("apply library") && plan.contains("contacts: new table"),
        "{plan}"
    );
    assert_eq!(done(&folder, &["migrate", "down"]), "nothing to revert\n");
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "looking makes neither a database nor a key");
    assert!(done(&folder, &["migrate", "up"]).contains("applied"));
    assert_eq!(done(&folder, &["migrate", "up"]), "nothing to do\n");
    assert_eq!(done(&folder, &["migrate", "plan"]), "nothing to do\n");
    assert!(!done(&folder, &["migrate", "status"]).contains("pending"));
}

fn a_folder_of_declarations_adds_to_the_built_in_modules(folder: Installation) {
    let modules = folder.folder().join("modules");
    std::fs::create_dir(&modules).unwrap();
    let moons = "name = 'moons'\nsingular = 'moon'\n[[fields]]\nname = 'title'\ntype = 'text'\n";
    std::fs::write(modules.join("moons.toml"), moons).unwrap();
    let plan = done(&folder, &["migrate", "plan", "--modules", "modules"]);
    assert!(
        plan.contains("moons") && plan.contains("contacts"),
        "{plan}"
    );
    std::fs::write(modules.join("broken.toml"), "name = 7").unwrap();
    let broken = crm(&folder, &["migrate", "plan", "--modules", "modules"])
        .output()
        .unwrap();
    assert!(refused(&broken).contains("broken.toml"));
}

#[test]
fn a_plugin_is_checked_tried_installed_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    let event = serde_json::json!({
        "id": id, "sequence": 1, "tenant_id": id, "module": "contacts", "kind": "contact.created",
        "record_id": id, "before": null, "after": {"id": id, "version": 1, "name": "Grace"},
        "actor": "operator", "request_id": "r", "root_id": id, "depth": 0,
        "occurred_at": "2026-01-31T09:30:00Z",
    });
    std::fs::write(folder.path().join("event.json"), event.to_string()).unwrap();
    std::fs::write(folder.path().join("idle.wasm"), crate::plugin::idle()).unwrap();
    let receipt = done(&folder, &["plugin", "check", "idle.wasm"]);
    assert_eq!(
        receipt,
        "idle 1.0.0\n  may run on contact.created\n  may touch no records\n"
    );
    let run = done(
        &folder,
        &["plugin", "run", "idle.wasm", "--event", "event.json"],
    );
    assert!(run.starts_with("succeeded with "), "{run}");
    with_tenant(&folder);
    let rehearse = [
        "plugin",
        "rehearse",
        "idle.wasm",
        "--tenant",
        "acme",
        "--last",
        "10",
    ];
    assert_eq!(done(&folder, &rehearse), "0 events, 0 runs, 0 changes\n");
    done(
        &folder,
        &["plugin", "install", "idle.wasm", "--tenant", "acme"],
    );
    let list = done(&folder, &["plugin", "list"]);
    assert!(
        list.starts_with("acme ") && list.ends_with(" idle 1.0.0 enabled\n"),
        "{list}"
    );
}

#[test]
fn a_plugin_that_is_none_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.wasm"), b"not wasm").unwrap();
    let line = refused(
        &crm(&folder, &["plugin", "check", "x.wasm"])
            .output()
            .unwrap(),
    );
    assert!(line.contains("component"), "{line}");
    let line = refused(
        &crm(&folder, &["plugin", "check", "y.wasm"])
            .output()
            .unwrap(),
    );
    assert!(line.contains("y.wasm"), "{line}");
}

#[cfg(unix)]
#[test]
fn the_server_says_where_it_is_and_stops_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = crm(&folder, &["serve", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let address = lines.next().unwrap().unwrap();
    assert!(
        address.starts_with("listening on http://127.0.0.1:"),
        "{address}"
    );
    let token = lines
        .find(|line| line.as_ref().unwrap().starts_with("setup token"))
        .unwrap()
        .unwrap();
    assert!(token.contains("crm_setup_"), "{token}");
    let pid = server.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(server.wait().unwrap().code(), Some(0));
    let mut log = String::new();
    server
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut log)
        .unwrap();
    assert!(
        log.contains("stopped") && !log.contains("crm_setup_"),
        "{log}"
    );
    assert!(Path::exists(&folder.path().join("crm.db")));
}

fn a_file_is_imported_and_exported(folder: Installation) {
    with_tenant(&folder);
    let to = ["--tenant", "acme", "--module", "contacts"];
    let run = |arguments: &[&str]| {
        let arguments: Vec<&str> = arguments.iter().chain(&to).copied().collect();
        crm(&folder, &arguments).output().unwrap()
    };
    std::fs::write(
        folder.folder().join("people.csv"),
        "Name,email\nAda,a@example.com\n",
    )
    .unwrap();
    let dry = run(&["import", "people.csv", "--dry-run"]);
    assert_eq!(text(&dry.stdout), "1 record would be imported\n");
    let output = run(&["import", "people.csv"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "1 record imported\n");
    assert_eq!(text(&output.stderr), "", "no terminal, no progress");
    let output = run(&["import", "people.csv"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "line 2: email another record has this value already\n\
         crm: 1 of 1 entry was refused, the others imported\n"
    );
    let output = run(&["import", "people.csv", "--upsert-key", "email"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(refused(&run(&["import", "people.odd"])).contains("--format"));
    assert!(refused(&run(&["import", "gone.csv"])).contains("cannot be read"));

    let output = run(&["export", "--where", "name[starts]=Ad", "--format", "ndjson"]);
    let record: serde_json::Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert_eq!(record["name"], "Ada");
    let output = run(&["export", "--where", "colour=red"]);
    assert!(refused(&output).contains("colour"));
}

fn an_old_trash_is_purged_by_its_age(folder: Installation) {
    let modules = folder.folder().join("modules");
    std::fs::create_dir(&modules).unwrap();
    let declaration = "name = 'papers'\nsingular = 'paper'\nsoft_delete = true\n\
                       [[fields]]\nname = 'title'\ntype = 'text'\n";
    std::fs::write(modules.join("papers.toml"), declaration).unwrap();
    let modules = modules.to_str().unwrap();
    done(&folder, &["--modules", modules, "migrate", "up"]);
    with_tenant(&folder);
    for more in [&["--tenant", "acme"][..], &[]] {
        let arguments = [
            &["--modules", modules, "purge", "--older-than", "30d"],
            more,
        ]
        .concat();
        assert_eq!(
            done(&folder, &arguments),
            "0 removed, 0 still referred to\n"
        );
    }
    let absent = ["purge", "--older-than", "30d", "--tenant", "globex"];
    refused(&crm(&folder, &absent).output().unwrap());
    let odd = crm(&folder, &["purge", "--older-than", "soon"])
        .output()
        .unwrap();
    assert_eq!(odd.status.code(), Some(2));
}
