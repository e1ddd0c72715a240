//! Operators, and what a tenant settles for itself, from the command line.

use std::process::Output;

use crate::command::{Installation, crm, done, refused, with_stdin, with_tenant};

crate::command::commands_on_both_databases! {
    operators_are_made_listed_and_taken_away
    a_tenants_security_is_shown_and_changed
}

fn with_password(folder: &Installation, arguments: &[&str]) -> Output {
    let password = "correct horse battery staple\n";
    with_stdin(crm(folder, arguments), password)
}

fn operators_are_made_listed_and_taken_away(folder: Installation) {
    done(&folder, &["migrate", "up"]);
    let create = ["operator", "create", "--email", "ops@crm.example"];
    assert!(with_password(&folder, &create).status.success());
    let few = [
        "operator",
        "create",
        "--email",
        "support@crm.example",
        "--permission",
        "tenants.read",
    ];
    assert!(with_password(&folder, &few).status.success());
    let list = done(&folder, &["operator", "list"]);
    let lines: Vec<_> = list.lines().collect();
    assert_eq!(lines.len(), 2, "{list}");
    assert!(lines[0].contains("ops@crm.example") && lines[0].contains("tenants.erase"));
    assert!(lines[1].ends_with("support@crm.example tenants.read"));
    assert!(refused(&with_password(&folder, &few)).contains("an operator already"));
    let unknown = [
        "operator",
        "create",
        "--email",
        "x@crm.example",
        "--permission",
        "*.*",
    ];
    assert!(refused(&with_password(&folder, &unknown)).contains("tenants.read"));
    let optional = done(&folder, &["operator", "second-factor", "optional"]);
    assert!(optional.contains("optional"));
    done(&folder, &["operator", "revoke", "support@crm.example"]);
    let output = crm(&folder, &["operator", "revoke", "support@crm.example"]).output();
    assert!(refused(&output.unwrap()).contains("there is no operator"));
    assert_eq!(
        done(&folder, &["tenant", "list"]),
        "",
        "the platform is no tenant"
    );
    let log = done(&folder, &["audit", "export", "--platform"]);
    assert!(log.contains("operators.delete"), "{log}");
    let verified = done(&folder, &["audit", "verify", "--platform"]);
    assert!(verified.contains("are as they were sealed"), "{verified}");
}

fn a_tenants_security_is_shown_and_changed(folder: Installation) {
    with_tenant(&folder);
    let run = |more: &[&str]| done(&folder, &[&["tenant", "security", "acme"], more].concat());
    assert!(run(&[]).contains(r#""password_policy":null"#));
    let set = run(&["--min-chars", "12", "--class", "digit"]);
    assert!(
        set.contains(r#""min_chars":12,"classes":["digit"],"min_score":0"#),
        "{set}"
    );
    let set = run(&["--min-score", "3", "--operator-impersonation", "false"]);
    assert!(set.contains(r#""operator_impersonation":false"#), "{set}");
    assert!(
        set.contains(r#""min_chars":12,"classes":["digit"],"min_score":3"#),
        "{set}"
    );
    assert_eq!(run(&[]), set);
    assert!(run(&["--no-password-policy"]).contains(r#""password_policy":null"#));
    let weak = ["tenant", "security", "acme", "--min-chars", "7"];
    assert!(refused(&crm(&folder, &weak).output().unwrap()).contains("8 to 64"));
    let email = "ada@acme.example";
    run(&["--min-chars", "60"]);
    let short = [
        "user", "create", "--tenant", "acme", "--email", email, "--role", "admin",
    ];
    assert!(refused(&with_password(&folder, &short)).contains("60 characters"));
}
