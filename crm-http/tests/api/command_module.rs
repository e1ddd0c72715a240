//! Modules and fields from the command line: begun, checked, planned, changed.

use crate::command::{crm, done, refused};

/// The command with the declarations of this folder.
fn with<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &["--modules", "."]].concat()
}

#[test]
fn a_module_is_begun_checked_and_changed_with_the_records_told_that_lose_something() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        done(&folder, &["module", "new", "tickets"]),
        "tickets.toml\n"
    );
    let again = crm(&folder, &["module", "new", "tickets"])
        .output()
        .unwrap();
    assert!(refused(&again).contains("tickets.toml"));
    for name in ["roles", "Tickets", "1st", "../x"] {
        let odd = crm(&folder, &["module", "new", name]).output().unwrap();
        assert!(refused(&odd).contains("cannot name a module"), "{name}");
    }
    let checked = done(&folder, &["module", "check", "tickets.toml"]);
    assert!(checked.contains("tickets: 3 fields"), "{checked}");
    done(&folder, &with(&["migrate", "up"]));
    done(&folder, &with(&["tenant", "create", "acme"]));
    let file = folder.path().join("tickets.csv");
    std::fs::write(&file, "title,due\na,2026-01-01\nb,\nc,2026-01-02\n").unwrap();
    let import = [
        "import",
        "tickets.csv",
        "--tenant",
        "acme",
        "--module",
        "tickets",
    ];
    done(&folder, &with(&import));

    let path = folder.path().join("tickets.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (kept, _) = text.split_once("[[fields]]\nname = \"due\"").unwrap();
    std::fs::write(&path, kept).unwrap();
    let plan = done(&folder, &with(&["migrate", "plan"]));
    assert!(
        plan.contains("DESTROYS DATA of 2 records: tickets: drop field due"),
        "{plan}"
    );
    let output = crm(&folder, &with(&["migrate", "up"])).output().unwrap();
    assert!(refused(&output).contains("--destroy-data"));
    let told = done(&folder, &with(&["migrate", "up", "--destroy-data"]));
    assert!(told.contains("DESTROYS DATA of 2 records"), "{told}");
    assert_eq!(
        done(&folder, &with(&["migrate", "plan"])),
        "nothing to do\n"
    );

    std::fs::write(&path, text.replace("type = \"date\"", "type = \"json\"")).unwrap();
    let output = crm(&folder, &["module", "check", "tickets.toml"])
        .output()
        .unwrap();
    assert!(refused(&output).contains("1 problems"));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("/tickets/fields/2/sort: "), "{said}");
}

#[test]
fn an_operator_looks_after_a_tenants_fields() {
    let folder = tempfile::tempdir().unwrap();
    done(&folder, &["tenant", "create", "acme"]);
    let field = |words: &[&str]| {
        let (verb, rest) = words.split_first().unwrap();
        let of = ["field", verb, "--tenant", "acme", "contacts"];
        crm(&folder, &[&of, rest].concat()).output().unwrap()
    };
    let plan = r#"{"name": "plan", "type": "text", "sort": true}"#;
    let added = String::from_utf8(field(&["add", plan]).stdout).unwrap();
    assert!(
        added.contains("\"plan\"") && added.ends_with(" indexed\n"),
        "{added}"
    );
    assert!(refused(&field(&["add", plan])).contains("already"));
    assert!(refused(&field(&["add", r#"{"name": "x", "type": "moon"}"#])).contains("moon"));
    std::fs::write(
        folder.path().join("people.csv"),
        "name,plan\nAda,gold\nEve,\n",
    )
    .unwrap();
    let files = ["--tenant", "acme", "--module", "contacts"];
    done(&folder, &[&["import", "people.csv"][..], &files].concat());
    let gold = ["export", "--where", "plan=gold", "--format", "ndjson"];
    assert!(done(&folder, &[&gold[..], &files].concat()).contains("\"Ada\""));
    assert!(refused(&field(&["purge", "plan"])).contains("remove it first"));
    field(&["remove", "plan"]);
    let listed = String::from_utf8(field(&["list"]).stdout).unwrap();
    assert!(listed.contains(" removed "), "{listed}");
    let purged = String::from_utf8(field(&["purge", "plan"]).stdout).unwrap();
    assert_eq!(purged, "1 records had a value\n");
}
