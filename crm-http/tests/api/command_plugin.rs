//! What authors of plugins do at the command line.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::command::{crm, done, refused, with_stdin};
use crate::plugin::idle;

#[test]
fn the_records_of_a_module_have_a_type_in_each_language() {
    let folder = tempfile::tempdir().unwrap();
    let rust = done(&folder, &["plugin", "types", "contacts"]);
    assert!(rust.contains("pub struct Contact in contacts {"), "{rust}");
    done(&folder, &["module", "new", "tickets"]);
    let own = ["plugin", "types", "tickets.toml", "--lang"];
    for (lang, line) in [
        ("ts", "  due: string | null;"),
        ("js", " * @property {string | null} due"),
        ("python", "    due: str | None"),
        ("rust", "        due: String,"),
    ] {
        let types = done(&folder, &[&own[..], &[lang]].concat());
        assert!(types.lines().any(|found| found == line), "{types}");
    }
    let odd = crm(&folder, &["plugin", "types", "unicorns"]).output();
    assert!(refused(&odd.unwrap()).contains("there is no module \"unicorns\""));
}

#[test]
fn a_harness_answers_each_order_with_a_line_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("idle.wasm"), idle()).unwrap();
    let orders = [
        r#"{"do": "runs"}"#,
        r#"{"do": "install", "file": "idle.wasm"}"#,
        r#"{"do": "create", "module": "contacts", "values": {"name": "Ada"}}"#,
        r#"{"do": "create", "module": "contacts", "values": {"score": "high"}}"#,
        r#"{"do": "list", "module": "contacts"}"#,
        r#"{"do": "list", "module": "unicorns"}"#,
        r#"{"do": "runs"}"#,
        r#"{"do": "advance", "seconds": 60}"#,
        r#"{"do": "secret", "name": "token", "value": "0123456789abcdef"}"#,
        r#"{"do": "receive", "webhook": "payments", "body": {"paid": true}}"#,
        r#"{"do": "act", "action": "rescore", "module": "contacts", "records": []}"#,
        r#"{"do": "dance"}"#,
        "nonsense",
    ];
    let command = crm(&folder, &["plugin", "harness"]);
    let output = with_stdin(command, &orders.join("\n"));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers = answers
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let answers: Vec<Value> = answers.collect();
    assert_eq!(answers.len(), orders.len(), "{answers:?}");
    assert_eq!(answers[0]["error"]["code"], "no_plugin");
    assert_eq!(answers[2]["ok"]["name"], "Ada");
    let both = answers[3]["error"]["message"].as_str().unwrap();
    assert!(both.contains("/name") && both.contains("/score"), "{both}");
    assert_eq!(answers[4]["ok"][0]["name"], "Ada");
    assert_eq!(answers[5]["error"]["code"], "not_found");
    assert_eq!(answers[6]["ok"][0]["outcome"], "succeeded");
    assert_eq!(answers[7]["ok"], Value::Null);
    assert_eq!(answers[8]["error"], Value::Null, "set for a later version");
    for unknown in &answers[9..11] {
        assert_eq!(unknown["error"]["code"], "not_found", "the plugin has none");
    }
    for odd in &answers[11..] {
        assert_eq!(odd["error"]["code"], "not_an_order");
    }
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 1, "the component alone");
}

/// Where the examples are, and what they share of what is compiled.
fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/plugins")
}

/// Whether the compilers of plugins are installed; see the tests of the host.
fn guests_wanted() -> bool {
    std::env::var("CRM_TEST_GUESTS").as_deref() == Ok("1")
}

/// The tests of the Rust plugin in this folder, as its author runs them.
fn cargo_test(folder: &Path) {
    let output = Command::new(env!("CARGO"))
        .arg("test")
        .current_dir(folder)
        .env("CRM", env!("CARGO_BIN_EXE_crm"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let warned = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{warned}");
}

#[test]
fn the_tests_of_the_examples_pass_in_a_whole_crm() {
    if guests_wanted() {
        for example in ["lead-scoring", "duplicate-guard"] {
            cargo_test(&examples().join(example));
        }
    }
}

#[test]
fn the_test_of_a_new_plugin_passes_as_it_is() {
    if !guests_wanted() {
        return;
    }
    let target = examples().join("target-guest");
    std::fs::create_dir_all(&target).unwrap();
    let folder = tempfile::tempdir_in(target).unwrap();
    done(&folder, &["plugin", "new", "deal_watch"]);
    cargo_test(&folder.path().join("deal-watch"));
}
