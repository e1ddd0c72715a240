//! Roles, members, groups and explanations from the command line.

use crate::command::{Installation, crm, done, refused, with_tenant};

crate::command::commands_on_both_databases! {
    roles_groups_members_and_explanations_are_there_for_the_operator
}

fn roles_groups_members_and_explanations_are_there_for_the_operator(folder: Installation) {
    let run = |arguments: &str| done(&folder, &words(arguments));
    with_tenant(&folder);
    let create = "user create --tenant acme --email ada@acme.example --role viewer";
    let user = with_password(&folder, create);
    let made = run("role create seller --tenant acme --permission deals.*:team");
    assert!(made.contains("seller\n  deals.*:team"), "{made}");
    let conditional = r#"{"permission": "deals.read", "where": {"title": "x"}}"#;
    let update = [
        "role",
        "update",
        "seller",
        "--tenant",
        "acme",
        "--permission",
        conditional,
    ];
    let changed = done(&folder, &update);
    assert!(
        changed.contains(r#"deals.read where {"title":"x"}"#),
        "{changed}"
    );
    run("role update seller --tenant acme --permission deals.*:team");
    let group = "group create field --tenant acme --role seller \
                 --member ada@acme.example=2999-01-01T00:00:00Z";
    assert!(run(group).contains("field: 1 member, 0 records; roles seller"));
    assert!(run("group list --tenant acme").contains("field"));
    let explain = format!("access explain --tenant acme --subject user:{user} --action");
    assert_eq!(
        run(&format!("{explain} deals.update")),
        "allowed, on the rows that these rules reach\n  deals.*:team, role seller < group field until \
         2999-01-01T00:00:00Z < role seller\n"
    );
    assert_eq!(run(&format!("{explain} roles.read")), "denied (no_rule)\n");
    let by_email = "access explain --tenant acme --subject ada@acme.example --action roles.read";
    assert_eq!(run(by_email), "denied (no_rule)\n");
    let permissions = run("access permissions --tenant acme");
    let all = "read,create,update,delete,purge";
    assert!(
        permissions.contains(&format!("members {all} (all)\n")),
        "{permissions}"
    );
    let deals = format!("deals {all} (all,team,parent,own)\n");
    assert!(permissions.contains(&deals), "{permissions}");
    let roles = "member roles ada@acme.example --tenant acme --role manager=2999-01-01T00:00:00Z";
    assert!(run(roles).contains("manager=2999-01-01T00:00:00Z"));
    assert!(run("member list --tenant acme").contains("ada@acme.example manager="));
    for (wrong, part) in [
        ("role delete seller --tenant acme", "held by"),
        (
            "role delete nothing --tenant acme",
            "no role called nothing",
        ),
        ("member remove bo@acme.example --tenant acme", "no member"),
        (
            "access explain --tenant acme --action roles.read --subject \
             user:018f4e2a-0000-7000-8000-000000000000",
            "the tenant has no user:018f4e2a",
        ),
        (
            "member roles ada@acme.example --tenant acme --role viewer=soon",
            "instant",
        ),
    ] {
        let line = refused(&crm(&folder, &words(wrong)).output().unwrap());
        assert!(line.contains(part), "{line}");
    }
    for _ in 0..2 {
        assert!(run("user suspend --email ada@acme.example").ends_with("is suspended\n"));
    }
    let told = run(&format!("{explain} deals.update"));
    assert!(told.starts_with("denied (inactive)"), "{told}");
    assert!(run("user activate --email ada@acme.example").ends_with("is active\n"));
    run("group delete field --tenant acme");
    run("role delete seller --tenant acme");
    run("member remove ada@acme.example --tenant acme");
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// Makes a user and answers their id.
fn with_password(folder: &Installation, arguments: &str) -> String {
    let output = crate::command::with_stdin(
        crm(folder, &words(arguments)),
        "correct horse battery staple\n",
    );
    let line = String::from_utf8(output.stdout).unwrap();
    line.split(' ').next().unwrap().to_owned()
}
