//! What authors of plugins do at the command line, without a tenant.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

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
fn a_new_plugin_comes_with_an_event_to_try_it_on() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("idle.wasm"), idle()).unwrap();
    for lang in ["rust", "js", "ts", "python"] {
        let said = done(
            &folder,
            &["plugin", "new", "--lang", lang, "--dir", lang, "deal_watch"],
        );
        let event = format!("{lang}/event.json");
        assert!(said.ends_with(&format!(" --event {event}\n")), "{said}");
        let run = done(&folder, &["plugin", "run", "idle.wasm", "--event", &event]);
        assert!(run.starts_with("succeeded with "), "{run}");
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

/// A harness that is asked one thing after another.
struct Tenant {
    orders: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    harness: Child,
}

impl Tenant {
    /// One that the example in this folder is installed in, built from its source.
    fn of(folder: &TempDir, example: &str, arguments: &[&str]) -> Self {
        let component = crm_plugins::build(&examples().join(example)).unwrap();
        std::fs::write(folder.path().join("plugin.wasm"), component).unwrap();
        let mut harness = crm(folder, &[&["plugin", "harness"], arguments].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(harness.stdout.take().unwrap()).lines();
        let mut tenant = Self {
            orders: harness.stdin.take(),
            answers,
            harness,
        };
        tenant.ask(json!({"do": "install", "file": "plugin.wasm"}));
        tenant
    }

    fn ask(&mut self, order: Value) -> Value {
        writeln!(self.orders.as_ref().unwrap(), "{order}").unwrap();
        let answer = self.answers.next().unwrap().unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["error"], Value::Null, "{order}");
        answer["ok"].clone()
    }

    /// Moves the deal to another stage, and answers the plugin's runs by then.
    fn move_deal(&mut self, deal: &Value, stage: &str) -> Value {
        let values = json!({"stage": stage});
        self.ask(json!({"do": "update", "module": "deals", "id": deal["id"], "values": values}));
        self.ask(json!({"do": "runs"}))
    }

    fn end(mut self) {
        self.orders = None;
        assert!(self.harness.wait().unwrap().success());
    }
}

#[test]
fn the_example_in_javascript_wakes_for_won_deals_alone_and_takes_in_replies() {
    if !guests_wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut tenant = Tenant::of(&folder, "deal-notifier", &[]);
    let token = "0123456789abcdef";
    tenant.ask(json!({"do": "secret", "name": "webhook_token", "value": token}));
    let mill = json!({"title": "Mill"});
    let deal = tenant.ask(json!({"do": "create", "module": "deals", "values": mill}));
    assert_eq!(tenant.move_deal(&deal, "proposal"), json!([]));
    let runs = tenant.move_deal(&deal, "won");
    assert_eq!(runs[0]["trigger"], "deal.updated", "{runs}");
    // Nobody is reached from here: it asked, and says so.
    assert_eq!(
        (&runs[0]["outcome"], &runs[0]["requests"], &runs[1]),
        (&json!("failed"), &json!(1), &Value::Null),
        "{runs}"
    );
    let reply = json!({"deal": deal["id"], "stage": "negotiation"});
    tenant.ask(json!({"do": "receive", "webhook": "replies", "body": reply}));
    let moved = tenant.ask(json!({"do": "get", "module": "deals", "id": deal["id"]}));
    assert_eq!(moved["stage"], "negotiation");
    tenant.end();
}

#[test]
fn the_example_in_python_makes_a_task_at_night_and_only_one() {
    if !guests_wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let modules = folder.path().join("modules");
    std::fs::create_dir(&modules).unwrap();
    let tasks = examples().join("follow-ups/tasks.toml");
    std::fs::copy(tasks, modules.join("tasks.toml")).unwrap();
    let mut tenant = Tenant::of(&folder, "follow-ups", &["--modules", "modules"]);
    // The harness begins on 2030-01-31.
    for (title, stage, close) in [
        ("Mill", "proposal", "2030-01-15"),
        ("Loom", "won", "2030-01-15"),
        ("Press", "proposal", "2030-06-15"),
    ] {
        let deal = json!({"title": title, "stage": stage, "expected_close": close});
        tenant.ask(json!({"do": "create", "module": "deals", "values": deal}));
    }
    for _ in 0..2 {
        tenant.ask(json!({"do": "advance", "seconds": 86_400}));
    }
    let runs = tenant.ask(json!({"do": "runs"}));
    let outcomes: Vec<_> = runs.as_array().unwrap().iter().collect();
    assert_eq!(outcomes.len(), 2, "{runs}");
    assert!(
        outcomes.iter().all(|run| run["outcome"] == "succeeded"),
        "{runs}"
    );
    let tasks = tenant.ask(json!({"do": "list", "module": "tasks"}));
    assert_eq!(tasks[0]["title"], "Follow up: Mill");
    assert_eq!(
        (&tasks[0]["due"], &tasks[1]),
        (&json!("2030-02-01"), &Value::Null)
    );
    tenant.end();
}
#[test]
fn a_check_refuses_what_a_tenant_would() {
    let folder = tempfile::tempdir().unwrap();
    let handle = r#"(func (export "handle") (param i32) (result i32) (i32.const 0))"#;
    let run = r#"(func (export "run") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)
        (result i32) (i32.const 0))"#;
    let check = |rest: &str, functions: &str| {
        let manifest = format!("name = 'odd'\nversion = '1.0.0'\n{rest}");
        let component = crate::guest::component(&manifest, functions);
        std::fs::write(folder.path().join("odd.wasm"), component).unwrap();
        ["plugin", "check", "odd.wasm"]
    };
    let moons = "triggers = ['moon.created']\n[[grants]]\nmodule = 'moons'\nactions = ['read']\n";
    for (rest, functions, why) in [
        (
            "[[triggers]]\naction = 'rescore'\n",
            run,
            "the action rescore names no `module`",
        ),
        (
            "triggers = ['unicorn.created']\n",
            handle,
            "records are called unicorn",
        ),
        (moons, handle, "there is no module moons here"),
        (
            "triggers = ['contact.created']\n[[grants]]\nmodule = 'contacts'\n\
             actions = ['read']\nfields = ['colour']\n",
            handle,
            "there is no field colour of contacts here",
        ),
        (
            "[[triggers]]\non = 'contact.created'\nfilter = { score = { gt = 1 } }\n",
            handle,
            "takes a grant to read contacts",
        ),
    ] {
        let line = refused(&crm(&folder, &check(rest, functions)).output().unwrap());
        assert!(line.contains(why), "{line}");
    }
    let modules = folder.path().join("modules");
    std::fs::create_dir(&modules).unwrap();
    let declared = "name = 'moons'\nsingular = 'moon'\n[[fields]]\nname = 'title'\ntype = 'text'\n";
    std::fs::write(modules.join("moons.toml"), declared).unwrap();
    let known = [&check(moons, handle)[..], &["--modules", "modules"]].concat();
    assert!(done(&folder, &known).contains("may read moons"));
}

#[test]
fn a_plugin_is_tried_on_what_somebody_sends_and_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("listener.wasm", &crate::guest::listener());
    write("nurse.wasm", &crate::actions::nurse());
    let payment = serde_json::json!({"webhook": "payments", "id": "msg_1", "body": {"paid": 7}});
    write("payment.json", payment.to_string().as_bytes());
    let speak = serde_json::json!({
        "action": "speak", "module": "contacts", "input": {"tone": "low"},
        "records": [{"id": "01890a5d-ac96-774b-bcce-b302099a8057", "name": "Grace"}],
    });
    write("speak.json", speak.to_string().as_bytes());
    let run = |plugin, event| ["plugin", "run", plugin, "--event", event];
    let received = done(&folder, &run("listener.wasm", "payment.json"));
    assert!(received.starts_with("succeeded with "), "{received}");
    let spoken = done(&folder, &run("nurse.wasm", "speak.json"));
    assert!(
        spoken.starts_with("answers {\"said\":\"hello\"}\n"),
        "{spoken}"
    );
    write("odd.json", b"{\"webhook\": \"payments\", \"when\": 1}");
    let odd = crm(&folder, &run("listener.wasm", "odd.json")).output();
    let line = refused(&odd.unwrap());
    assert!(line.contains("`when`"), "{line}");
}

#[test]
fn a_plugin_is_not_tried_on_what_its_manifest_does_not_ask_for() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("listener.wasm", &crate::guest::listener());
    write("nurse.wasm", &crate::actions::nurse());
    for (plugin, event, told) in [
        (
            "nurse.wasm",
            r#"{"action": "sing"}"#,
            "no action \"sing\"; it has nod, speak, refuse, collapse",
        ),
        (
            "nurse.wasm",
            r#"{"action": "speak", "module": "contacts", "input": {"tune": "low"}}"#,
            "The action takes no such input.",
        ),
        (
            "listener.wasm",
            r#"{"webhook": "refunds"}"#,
            "no webhook \"refunds\"; it has payments, orders",
        ),
        (
            "listener.wasm",
            r#"{"cron": "nightly"}"#,
            "no cron trigger or job \"nightly\"",
        ),
        (
            "nurse.wasm",
            r#"{"before": "contact.merge", "module": "contacts"}"#,
            "contact.create",
        ),
    ] {
        write("event.json", event.as_bytes());
        let run = crm(&folder, &["plugin", "run", plugin, "--event", "event.json"]).output();
        let line = refused(&run.unwrap());
        assert!(line.contains(told), "{line}");
    }
}
