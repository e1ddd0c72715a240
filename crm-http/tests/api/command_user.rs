//! `crm user import`: the users of another system, as an operator takes them over.

use crm_core::identity::Login;
use crm_core::{Crm, RequestContext};
use serde_json::json;

use crate::command::{Installation, SECRET, block_on, crm, with_stdin, with_tenant};

crate::command::commands_on_both_databases! {
    xc_09_imported_users_log_in_with_their_passwords_and_bad_lines_are_named
    a_line_without_end_stops_the_import_and_names_itself
}

/// The hash of "abc", a test vector of jBCrypt.
const BCRYPT: &str = "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";

fn xc_09_imported_users_log_in_with_their_passwords_and_bad_lines_are_named(folder: Installation) {
    with_tenant(&folder);
    let user = |email: &str, hash: &str| {
        json!({"email": email, "name": "Old", "password_hash": hash}).to_string()
    };
    let lines = [
        user("ann@acme.example", BCRYPT),
        json!({"email": "bob@acme.example", "name": "Bob", "username": "bob.old",
            "password_hash": BCRYPT, "roles": ["viewer"]})
        .to_string(),
        String::new(),
        // Refused, each by itself.
        "{\"email\": ".to_owned(),
        user("no address", BCRYPT),
        user("eve@acme.example", "5f4dcc3b5aa765d61d8327deb882cf99"),
        user("eve@acme.example", &BCRYPT.replace("$06$", "$31$")),
        user("ann@acme.example", BCRYPT),
        json!({"email": "max@acme.example", "name": "Max", "password_hash": BCRYPT,
            "roles": ["emperor"]})
        .to_string(),
        json!({"email": "max@acme.example", "name": "Max", "password_hash": BCRYPT,
            "admin": true})
        .to_string(),
        json!({"email": "max@acme.example", "name": "Max", "username": "bob.old",
            "password_hash": BCRYPT})
        .to_string(),
        user("zoe@acme.example", BCRYPT),
    ];
    let arguments = ["user", "import", "--tenant", "acme", "--role", "member"];
    let mut command = crm(&folder, &arguments);
    command.env("LOG_LEVEL", "error");
    let output = with_stdin(command, &lines.join("\n"));
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "3 users taken over\n");
    let told = String::from_utf8(output.stderr).unwrap();
    let named: Vec<&str> = told
        .lines()
        .map(|line| line.split(": ").nth(1).unwrap())
        .collect();
    let refused: Vec<String> = [4, 5, 6, 7, 8, 9, 10, 11]
        .iter()
        .map(|number| format!("line {number}"))
        .collect();
    assert_eq!(named[..8], refused, "{told}");
    assert!(told.ends_with("crm: 8 lines were refused\n"), "{told}");
    assert!(!told.contains("$2a$") && !told.contains("5f4dcc"), "{told}");

    block_on(imported(&folder.url));
}

/// Who was taken over logs in, and nobody else.
async fn imported(url: &str) {
    let opened = Crm::builder()
        .database(url)
        .secret(SECRET.into())
        .modules(crm_core::module::default_modules());
    let opened = opened.build().await.unwrap();
    let login = async |name: &str, password: &str| {
        let login = Login {
            email: name.into(),
            password: password.into(),
            tenant: None,
            new_password: None,
        };
        let request = RequestContext {
            id: "test".into(),
            address: None,
        };
        opened.accounts().login(login, request).await
    };
    for name in ["ann@acme.example", "bob.old", "zoe@acme.example"] {
        assert!(login(name, "abd").await.is_err(), "{name}");
        login(name, "abc").await.unwrap();
    }
    for name in ["eve@acme.example", "max@acme.example"] {
        assert!(login(name, "abc").await.is_err(), "{name}");
    }
    opened.close().await;
}

fn a_line_without_end_stops_the_import_and_names_itself(folder: Installation) {
    with_tenant(&folder);
    let first = json!({"email": "ann@acme.example", "name": "Ann", "password_hash": BCRYPT,
        "roles": ["viewer"]});
    let endless = format!("{first}\n{}", "x".repeat(20_000));
    let command = crm(&folder, &["user", "import", "--tenant", "acme"]);
    let output = with_stdin(command, &endless);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("crm: line 2 has more than 16384 bytes"),
        "{told}"
    );
    let nobody = crm(&folder, &["user", "import", "--tenant", "globex"]);
    let output = with_stdin(nobody, &format!("{first}\n"));
    assert_eq!(output.status.code(), Some(1));
}
