//! Modules and fields from the command line: begun, checked, planned, changed.

use crate::command::{Installation, Place as _, crm, done, refused, with_tenant};

crate::command::commands_on_both_databases! {
    a_module_is_begun_checked_and_changed_with_the_records_told_that_lose_something
    an_operator_looks_after_a_tenants_fields
    a_change_that_records_break_is_told_with_their_number_before_and_when_it_is_made
    a_tenants_field_that_a_declaration_hides_is_told_with_the_tenant
    a_purge_looks_at_every_module_of_the_database
}

/// The command with the declarations of this folder.
fn with<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &["--modules", "."]].concat()
}

fn a_module_is_begun_checked_and_changed_with_the_records_told_that_lose_something(
    folder: Installation,
) {
    assert_eq!(
        done(&folder, &["module", "new", "tickets"]),
        "tickets.toml\n"
    );
    let again = crm(&folder, &["module", "new", "tickets"])
        .output()
        .unwrap();
    assert!(refused(&again).contains("tickets.toml is there already"));
    for name in ["roles", "Tickets", "1st", "../x"] {
        let odd = crm(&folder, &["module", "new", name]).output().unwrap();
        assert!(refused(&odd).contains("cannot name a module"), "{name}");
    }
    let checked = done(&folder, &["module", "check", "tickets.toml"]);
    assert!(checked.contains("tickets: 3 fields"), "{checked}");
    let path = folder.folder().join("tickets.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let label = "[[fields]]\nname = \"label\"\ntype = \"text\"\ncomputed = \"{title}\"\n";
    std::fs::write(&path, format!("{text}\n{label}")).unwrap();
    let checked = done(&folder, &["module", "check", "tickets.toml"]);
    assert!(checked.contains("tickets: 4 fields"), "{checked}");
    std::fs::write(&path, &text).unwrap();
    done(&folder, &with(&["migrate", "up"]));
    done(&folder, &with(&["tenant", "create", "acme"]));
    let file = folder.folder().join("tickets.csv");
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
    assert!(refused(&output).contains("1 problem\n"));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("/tickets/fields/2/sort: "), "{said}");
}

fn an_operator_looks_after_a_tenants_fields(folder: Installation) {
    with_tenant(&folder);
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
        folder.folder().join("people.csv"),
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
    assert_eq!(purged, "1 record had a value\n");
}

const PAPERS: &str = "name = 'papers'\nsingular = 'paper'\nsoft_delete = true\n\
                      [[fields]]\nname = 'title'\ntype = 'text'\n";

fn a_change_that_records_break_is_told_with_their_number_before_and_when_it_is_made(
    folder: Installation,
) {
    let path = folder.folder().join("papers.toml");
    std::fs::write(&path, PAPERS).unwrap();
    done(&folder, &with(&["migrate", "up"]));
    done(&folder, &with(&["tenant", "create", "acme"]));
    std::fs::write(folder.folder().join("papers.csv"), "title\na\na\nbcd\n\n").unwrap();
    let to = ["--tenant", "acme", "--module", "papers"];
    let import = [&["import", "papers.csv"][..], &to].concat();
    done(&folder, &with(&import));
    let declared = PAPERS.replace("'text'", "'text'\nmax = 2\nunique = true")
        + "[[fields]]\nname = 'day'\ntype = 'date'\nrequired = true\n";
    std::fs::write(&path, declared).unwrap();
    let plan = crm(&folder, &with(&["migrate", "plan"])).output().unwrap();
    refused(&plan);
    let said = String::from_utf8(plan.stdout).unwrap();
    for line in [
        "IN THE WAY: 1 record of papers has a value of `title` that its new rules refuse",
        "IN THE WAY: 2 records of papers have a value of `title` that another record",
        "IN THE WAY: 3 records of papers have no value of `day`",
    ] {
        assert!(said.contains(line), "{said}");
    }
    let up = crm(&folder, &with(&["migrate", "up"])).output().unwrap();
    let line = refused(&up);
    assert!(line.contains("papers/day: 3 records"), "{line}");
}

fn a_tenants_field_that_a_declaration_hides_is_told_with_the_tenant(folder: Installation) {
    let path = folder.folder().join("papers.toml");
    std::fs::write(&path, PAPERS).unwrap();
    done(&folder, &with(&["migrate", "up"]));
    done(&folder, &with(&["tenant", "create", "acme"]));
    let plan = r#"{"name": "colour", "type": "text"}"#;
    done(
        &folder,
        &with(&["field", "add", "--tenant", "acme", "papers", plan]),
    );
    assert_eq!(
        done(&folder, &with(&["migrate", "plan"])),
        "nothing to do\n"
    );
    let declared = format!("{PAPERS}[[fields]]\nname = 'colour'\ntype = 'text'\n");
    std::fs::write(&path, declared).unwrap();
    let plan = done(&folder, &with(&["migrate", "plan"]));
    assert!(
        plan.contains("HIDES the own field colour of papers of tenants") && plan.contains("acme"),
        "{plan}"
    );
}

fn a_purge_looks_at_every_module_of_the_database(folder: Installation) {
    std::fs::write(folder.folder().join("papers.toml"), PAPERS).unwrap();
    done(&folder, &with(&["migrate", "up"]));
    done(&folder, &["purge", "--older-than", "30d"]);
    // Nothing was made of what is declared without the folder.
    assert_eq!(
        done(&folder, &with(&["migrate", "plan"])),
        "nothing to do\n"
    );
}
