//! The keys that sign access tokens, from the command line.

use crate::command::{Installation, SECRET, crm, done, refused, with_tenant};

crate::command::commands_on_both_databases! {
    keys_are_rotated_listed_and_revoked
    a_rotation_that_makes_no_sense_is_refused
    the_secret_is_that_of_the_database_until_it_is_replaced
}

fn keys_are_rotated_listed_and_revoked(place: Installation) {
    with_tenant(&place);
    let run = |arguments: &[&str]| done(&place, &[&["key"], arguments].concat());
    let made = run(&["rotate", "--algorithm", "EdDSA", "--lead", "0s"]);
    let (kid, rest) = made.split_once(' ').unwrap();
    assert!(rest.starts_with("EdDSA signs from "), "{made}");
    assert!(run(&["list"]).contains(&made), "{made}");
    let line_of = |kid: &str| {
        let list = run(&["list"]);
        let line = list.lines().find(|line| line.starts_with(kid));
        line.unwrap().to_owned()
    };

    let signers = || {
        let list = run(&["list"]);
        let lines = list.lines().filter(|line| line.ends_with(" (signs now)"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(signers(), [made.trim_end()]);

    // The algorithm stays unless another one is named.
    let next = run(&["rotate", "--lead", "0s", "--overlap", "2h"]);
    assert!(next.contains(" EdDSA signs from "), "{next}");
    assert!(line_of(kid).contains(" verifies until "));
    let (next, _) = next.split_once(' ').unwrap();
    assert!(!line_of(next).contains(" verifies until "));
    assert_eq!(signers(), [line_of(next)]);

    assert_eq!(run(&["revoke", kid]), "");
    assert!(line_of(kid).contains(" revoked "));
    assert!(!line_of(next).contains(" revoked "));
    assert_eq!(signers(), [line_of(next)]);
    let early = run(&["rotate", "--lead", "1h"]);
    assert!(!early.contains("signs now"), "{early}");
    assert_eq!(
        signers(),
        [line_of(next)],
        "until then the one before signs"
    );
    // A name may begin with a hyphen.
    for nothing in ["nothing", "-T3cZ5xQ0h2K"] {
        let unknown = crm(&place, &["key", "revoke", nothing]).output().unwrap();
        assert!(refused(&unknown).contains("crm key list"));
    }
}

fn the_secret_is_that_of_the_database_until_it_is_replaced(place: Installation) {
    with_tenant(&place);
    let with = |secrets: &[(&str, &str)], arguments: &[&str]| {
        let mut command = crm(&place, arguments);
        command.envs(secrets.iter().copied());
        command.output().unwrap()
    };
    let other = "another secret of thirty-two bytes or more";
    let (new, both) = (
        [("CRM_SECRET_KEY", other)],
        [
            ("CRM_SECRET_KEY", other),
            ("CRM_PREVIOUS_SECRET_KEY", SECRET),
        ],
    );
    let line = refused(&with(&new, &["tenant", "list"]));
    assert!(line.contains("not the one of the database"), "{line}");
    assert!(with(&both, &["tenant", "list"]).status.success());
    let replaced = with(&both, &["key", "reseal"]);
    let line = String::from_utf8(replaced.stdout).unwrap();
    assert!(line.contains("0 values sealed anew"), "{line}");
    assert!(with(&new, &["tenant", "list"]).status.success());
    refused(&crm(&place, &["tenant", "list"]).output().unwrap());
}

#[test]
fn a_key_file_that_was_lost_is_not_made_anew_unasked() {
    let folder = tempfile::tempdir().unwrap();
    with_tenant(&folder);
    let key = folder.path().join("crm.db.key");
    std::fs::remove_file(&key).unwrap();
    let line = refused(&crm(&folder, &["tenant", "list"]).output().unwrap());
    assert!(line.contains("crm.db.key is missing"), "{line}");
    assert!(!key.exists());
    done(&folder, &["key", "reseal"]);
    assert_eq!(done(&folder, &["tenant", "list"]).lines().count(), 1);
}

fn a_rotation_that_makes_no_sense_is_refused(place: Installation) {
    done(&place, &["migrate", "up"]);
    let before = done(&place, &["key", "list"]);
    let short = crm(&place, &["key", "rotate", "--overlap", "1s"]).output();
    assert!(refused(&short.unwrap()).contains("overlap"));
    let long = ["key", "rotate", "--access-lifetime", "2h"];
    let line = refused(&crm(&place, &long).output().unwrap());
    assert!(line.contains("lifetime of a token"), "{line}");
    let unknown = crm(&place, &["key", "rotate", "--algorithm", "RS256"]).output();
    assert_eq!(unknown.unwrap().status.code(), Some(2));
    assert_eq!(done(&place, &["key", "list"]), before);
}
