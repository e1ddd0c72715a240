//! The audit log and the life of a tenant from the command line.

use std::io::Write as _;
use std::process::Stdio;

use tempfile::TempDir;

use crate::command::{crm, done, refused};

fn with_user(folder: &TempDir) {
    done(folder, &["tenant", "create", "acme"]);
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

#[test]
fn a_log_is_verified_exported_and_pruned() {
    let folder = tempfile::tempdir().unwrap();
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
    assert!(refused(&output).contains("other_head"));
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
    let pruned = run(&["prune", "--before", "2200-01-01"]);
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

#[test]
fn a_tenant_is_suspended_exported_and_erased() {
    let folder = tempfile::tempdir().unwrap();
    with_user(&folder);
    assert!(done(&folder, &["tenant", "suspend", "acme"]).contains("acme suspended"));
    assert!(done(&folder, &["tenant", "list"]).contains("acme suspended"));
    assert!(done(&folder, &["tenant", "resume", "acme"]).contains("acme active"));
    done(&folder, &["tenant", "export", "acme", "out"]);
    let members = std::fs::read_to_string(folder.path().join("out/members.ndjson")).unwrap();
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

#[test]
fn a_reader_that_closes_the_output_ends_a_command_in_silence() {
    let folder = tempfile::tempdir().unwrap();
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
