//! The audit log and the life of a tenant from the command line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use chrono::DateTime;
use crm_core::clock::Clock;
use crm_core::module::default_modules;
use crm_core::{Crm, RequestContext};
use serde_json::Value;
use sqlx::Connection as _;

use crate::command::{Installation, Place, SECRET, block_on, crm, done, refused, with_tenant};

crate::command::commands_on_both_databases! {
    a_log_is_verified_exported_and_pruned
    the_first_altered_entry_is_named
    a_server_prunes_what_is_older_than_its_retention
    a_tenant_is_suspended_exported_and_erased
    a_reader_that_closes_the_output_ends_a_command_in_silence
}

fn with_user(folder: &impl Place) {
    with_tenant(folder);
    let email = "ada@acme.example";
    let arguments = [
        "user", "create", "--tenant", "acme", "--email", email, "--role", "admin",
    ];
    let mut child = crm(folder, &arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"correct horse battery staple\n").unwrap();
    drop(input);
    assert!(child.wait_with_output().unwrap().status.success());
}

/// What a verification says that found the log altered.
fn altered(output: &std::process::Output) -> String {
    assert_eq!(output.status.code(), Some(3));
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn a_log_is_verified_exported_and_pruned(folder: Installation) {
    with_user(&folder);
    let of = ["--tenant", "acme"];
    let run = |arguments: &[&str]| done(&folder, &[&["audit"], arguments, &of].concat());
    let head = run(&["head"]);
    let [number, hash, _] = head.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("{head}");
    };
    assert_eq!((number, hash.len()), ("2", 64));
    let verified = run(&["verify", "--expect-head", hash]);
    assert!(
        verified.contains("2 entries are as they were sealed"),
        "{verified}"
    );
    assert!(verified.contains(&format!("head 2 {hash}")), "{verified}");
    let other = "0".repeat(64);
    let arguments = [
        "audit",
        "verify",
        "--tenant",
        "acme",
        "--expect-head",
        &other,
    ];
    let output = crm(&folder, &arguments).output().unwrap();
    assert!(altered(&output).contains("other_head"));
    let arguments = [
        "audit",
        "verify",
        "--tenant",
        "acme",
        "--expect-head",
        "xyz",
    ];
    let output = crm(&folder, &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(2));

    let file = run(&["export", "--action", "members.create"]);
    assert_eq!(file.lines().count(), 1);
    assert!(file.contains("ada@acme.example"));
    assert!(run(&["prune", "--before", "2020-01-01"]).contains("no sealed entry is that old"));
    let prune = |before: &str| {
        let arguments = ["audit", "prune", "--tenant", "acme", "--before", before];
        crm(&folder, &arguments).output().unwrap()
    };
    let slip = refused(&prune("2200-01-01"));
    assert!(
        slip.contains("2200-01-01") && slip.contains("in the future"),
        "{slip}"
    );
    assert!(
        run(&["verify"]).contains("2 entries are as they were sealed"),
        "nothing was removed"
    );
    // What is sealed is from before this moment.
    let now = Clock::system().now().to_rfc3339();
    let pruned = run(&["prune", "--before", &now]);
    assert!(
        pruned.contains(&format!("2 entries removed, up to number 2 {hash}")),
        "{pruned}"
    );
    let verified = run(&["verify", "--expect-head", hash]);
    assert!(
        verified.contains("2 before them have been pruned"),
        "{verified}"
    );
}

/// Runs a statement on the database while no command does.
async fn execute(url: &str, statement: &'static str) {
    macro_rules! run {
        ($connection:ty) => {{
            let mut connection = <$connection>::connect(url).await.unwrap();
            sqlx::query(statement)
                .execute(&mut connection)
                .await
                .unwrap();
            connection.close().await.unwrap();
        }};
    }
    match url.starts_with("sqlite") {
        true => run!(sqlx::SqliteConnection),
        false => run!(sqlx::PgConnection),
    }
}

fn the_first_altered_entry_is_named(place: Installation) {
    with_user(&place);
    let of = ["--tenant", "acme"];
    let entries = done(&place, &[&["audit", "export"][..], &of].concat());
    // The newest come first.
    let first = entries.lines().next_back().unwrap();
    let first: Value = serde_json::from_str(first).unwrap();
    let id = first["id"].as_str().unwrap();
    let verify = ["audit", "verify", "--tenant", "acme"];
    assert!(done(&place, &verify).contains("2 entries are as they were sealed"));
    block_on(execute(
        &place.url,
        "UPDATE audit_log SET actor = 'user:eve'",
    ));
    let line = altered(&crm(&place, &verify).output().unwrap());
    assert!(line.contains(&format!("altered entry {id}")), "{line}");
    let mistyped = ["audit", "verify", "--tenant", "acne"];
    refused(&crm(&place, &mistyped).output().unwrap());
    let nothing = crm(&place, &["audit", "verify"]).output().unwrap();
    let usage = String::from_utf8(nothing.stderr).unwrap();
    assert!(usage.contains("--platform"), "{usage}");
    let erase = "audit erase --tenant acme --entity contact --id 7";
    let erase: Vec<_> = erase.split(' ').collect();
    let line = refused(&crm(&place, &erase).output().unwrap());
    assert!(line.contains("nothing was erased"), "{line}");
}

fn a_server_prunes_what_is_older_than_its_retention(place: Installation) {
    let request = RequestContext {
        id: "test".into(),
        address: None,
    };
    block_on(async {
        let start = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let builder = Crm::builder()
            .database(&place.url)
            .secret(SECRET.into())
            .clock(Clock::fixed(start, 1).0)
            .modules(default_modules());
        let crm = builder.build().await.unwrap();
        crm.tenants().create("acme", request).await.unwrap();
        crm.close().await;
    });
    let verify = ["audit", "verify", "--tenant", "acme"];
    assert!(done(&place, &verify).contains("1 entry is as it was sealed"));
    let slip = ["serve", "--audit-retention", "12m"];
    assert_eq!(crm(&place, &slip).output().unwrap().status.code(), Some(2));

    let serve = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--audit-retention",
        "30d",
    ];
    let mut server = crm(&place, &serve)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    // The first round begins with the server; nothing but the log tells of its end.
    let pruned = (0..200).any(|_| {
        let output = crm(&place, &verify).output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("1 before them has been pruned")
    });
    let pid = server.id().to_string();
    let told = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(told.unwrap().success());
    assert_eq!(server.wait().unwrap().code(), Some(0));
    assert!(pruned);
}

fn a_tenant_is_suspended_exported_and_erased(folder: Installation) {
    with_user(&folder);
    assert!(done(&folder, &["tenant", "suspend", "acme"]).contains("acme suspended"));
    assert!(done(&folder, &["tenant", "list"]).contains("acme suspended"));
    assert!(done(&folder, &["tenant", "resume", "acme"]).contains("acme active"));
    done(&folder, &["tenant", "export", "acme", "out"]);
    let members = std::fs::read_to_string(folder.folder().join("out/members.ndjson")).unwrap();
    assert!(members.contains("ada@acme.example"));
    let again = crm(&folder, &["tenant", "export", "acme", "out"]).output();
    assert!(refused(&again.unwrap()).contains("not empty"));
    let wrong = ["tenant", "erase", "acme", "--confirm", "acne"];
    let output = crm(&folder, &wrong).output().unwrap();
    assert!(refused(&output).contains("nothing was erased"));
    let erased = done(&folder, &["tenant", "erase", "acme", "--confirm", "acme"]);
    assert!(erased.contains("its audit chain ended with"), "{erased}");
    assert_eq!(done(&folder, &["tenant", "list"]), "");
    assert!(done(&folder, &["tenant", "list", "--erased"]).contains("erased"));
}

fn a_reader_that_closes_the_output_ends_a_command_in_silence(folder: Installation) {
    with_user(&folder);
    for arguments in [
        &["audit", "verify", "--tenant", "acme"][..],
        &["audit", "export", "--tenant", "acme"],
        &["role", "list", "--tenant", "acme"],
        &["export", "--tenant", "acme", "--module", "contacts"],
    ] {
        // A pipe whose other end is closed before the command writes.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = crm(&folder, arguments)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        assert!(
            !said.contains("crm:") && !said.contains("panicked"),
            "{said}"
        );
    }
}
