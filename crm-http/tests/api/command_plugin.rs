//! What operators do about plugins at the command line.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crm_core::plugin::RunQuery;
use crm_core::{Crm, Read, RequestContext};
use serde_json::Value;

use crate::app::plugin_host;
use crate::command::{Installation, Place as _, SECRET, block_on, crm, done, refused, with_tenant};

crate::command::commands_on_both_databases! {
    a_rehearsal_prints_each_field_that_would_change
    a_rehearsal_prints_what_a_judge_would_have_said
    a_run_is_played_again_at_the_command_line
    an_operator_looks_after_a_plugin_as_its_admin_does
    runs_are_listed_and_followed_at_the_command_line
}

const SCORER: &str = "name = 'scorer'\nversion = '1.0.0'\ntriggers = ['contact.created']\n\
    [[grants]]\nmodule = 'contacts'\nactions = ['read', 'update']\n";

const UPDATE: &str = r#"(import "crm:automation/records@1.0.0" "update"
    (func $update (param i32 i32 i32 i32 i32 i64 i32 i32 i32)))"#;

/// Sets the integer 7 as `score` of the event's record, whatever comes of that.
const SCORE: &str = r#"
    (data (i32.const 64) "score")
    (func (export "handle") (param $event i32) (result i32)
        (i32.store (i32.const 128) (i32.const 64))
        (i32.store (i32.const 132) (i32.const 5))
        (i32.store8 (i32.const 136) (i32.const 2))
        (i64.store (i32.const 144) (i64.const 7))
        (call $update
            (i32.load offset=24 (local.get $event)) (i32.load offset=28 (local.get $event))
            (i32.load offset=40 (local.get $event)) (i32.load offset=44 (local.get $event))
            (i32.const 0) (i64.const 0) (i32.const 128) (i32.const 1) (i32.const 1024))
        (i32.const 0))"#;

/// A tenant, a file with a contact for it, and one with a plugin that gives contacts a score.
fn with_scorer(place: &Installation) {
    let scorer = crate::guest::component_that_calls(SCORER, UPDATE, SCORE);
    std::fs::write(place.folder().join("scorer.wasm"), scorer).unwrap();
    std::fs::write(place.folder().join("people.csv"), "name\nAda\n").unwrap();
    with_tenant(place);
}

fn install(place: &Installation, file: &str) {
    done(place, &["plugin", "install", file, "--tenant", "acme"]);
}

fn import(place: &Installation) {
    let to = ["--tenant", "acme", "--module", "contacts"];
    done(place, &[&["import", "people.csv"][..], &to].concat());
}

fn a_rehearsal_prints_each_field_that_would_change(folder: Installation) {
    with_scorer(&folder);
    import(&folder);
    // As at a login, a tenant is found in any case of its letters.
    let rehearse = ["plugin", "rehearse", "scorer.wasm", "--tenant", "Acme"];
    let said = done(&folder, &rehearse);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("contact.created "), "{said}");
    assert!(lines[0].contains(": succeeded"), "{said}");
    assert!(lines[1].contains(" contacts/"), "{said}");
    assert_eq!(
        lines[2..4],
        ["    score: null -> 7", "    version: 1 -> 2"],
        "{said}"
    );
    assert!(lines[4].ends_with(", 1 run, 1 change"), "{said}");
    assert_eq!(done(&folder, &rehearse), said, "nothing of it stayed");
}

const JUDGE: &str = "name = 'judge'\nversion = '1.0.0'\n\
    triggers = [{ before = ['contact.create'] }]\n\
    [[grants]]\nmodule = 'contacts'\nactions = ['read', 'update']\n";

/// The function that judges; its answer is at 512: none of its own means that it accepts.
fn judge(answer: &str) -> Vec<u8> {
    let before = format!(
        r#"(func (export "before")
            (param $module i32) (param $module_len i32) (param i32 i32 i32 i32 i32 i32 i32)
            (param i32 i32 i32 i32 i32 i32 i32) (result i32)
            {answer} (i32.const 512))"#
    );
    crate::guest::component(JUDGE, &before)
}

/// Rejects, with the name of the module as code and as message.
const REJECT: &str = "(i32.store8 (i32.const 516) (i32.const 2))
    (i32.store (i32.const 520) (local.get $module))
    (i32.store (i32.const 524) (local.get $module_len))
    (i32.store (i32.const 528) (local.get $module))
    (i32.store (i32.const 532) (local.get $module_len))";

fn a_rehearsal_prints_what_a_judge_would_have_said(place: Installation) {
    with_scorer(&place);
    import(&place);
    for (answer, verdict) in [("", "  accept"), (REJECT, "  reject contacts (contacts)")] {
        std::fs::write(place.folder().join("judge.wasm"), judge(answer)).unwrap();
        let rehearse = ["plugin", "rehearse", "judge.wasm", "--tenant", "acme"];
        let said = done(&place, &rehearse);
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines[0].starts_with("before contact.create "), "{said}");
        assert!(lines[0].contains(": succeeded"), "{said}");
        assert_eq!(lines[1].trim_end(), verdict, "{said}");
        assert!(lines[2].ends_with(", 1 run, 0 changes"), "{said}");
    }
}

/// The only run of the plugin, which a process that delivers events has had.
async fn only_run(place: &Installation) -> String {
    let crm = Crm::builder()
        .database(&place.url)
        .secret(SECRET.into())
        .modules(crm_core::module::default_modules())
        .plugins(plugin_host());
    let crm = crm.build().await.unwrap();
    while crm.dispatch_once().await.unwrap() > 0 {}
    let request = RequestContext {
        id: "test".into(),
        address: None,
    };
    let acme = crm.tenants().find_by_name("acme").await.unwrap().unwrap();
    let scope = crm.operator_in(acme.id, request).await.unwrap();
    let permit = scope.permit::<Read>("plugins").unwrap();
    let plugins = crm.plugins().unwrap();
    let plugin = plugins.list(&permit).await.unwrap().remove(0);
    let every = RunQuery::default();
    let runs = plugins.runs(&permit, plugin.id, &every);
    let runs = runs.await.unwrap().data;
    assert_eq!(runs.len(), 1, "{runs:?}");
    crm.close().await;
    runs[0].id.to_string()
}

fn a_run_is_played_again_at_the_command_line(folder: Installation) {
    with_scorer(&folder);
    install(&folder, "scorer.wasm");
    import(&folder);
    let run = block_on(only_run(&folder));
    let run = run.as_str();
    let replay = |plugin, run| {
        [
            "plugin", "replay", run, "--plugin", plugin, "--tenant", "acme",
        ]
    };
    let said = done(&folder, &replay("scorer", run));
    assert!(
        said.starts_with("succeeded with ")
            && said.ends_with(" fuel\nidentical to what is kept of the run\n"),
        "{said}"
    );
    assert_eq!(done(&folder, &replay("scorer", run)), said);
    let absent = "01890a5d-ac96-774b-bcce-b302099a8057";
    for (arguments, why) in [
        (replay("scorer", absent), "there is no such resource"),
        (replay("unicorn", run), "there is no plugin \"unicorn\""),
    ] {
        let line = refused(&crm(&folder, &arguments).output().unwrap());
        assert!(line.contains(why), "{line}");
    }
}

/// What a command about the plugin `scorer` of `acme` is called with.
fn of_scorer<'a>(verb: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["plugin", verb, "scorer", "--tenant", "acme"], more].concat()
}

fn an_operator_looks_after_a_plugin_as_its_admin_does(place: Installation) {
    with_scorer(&place);
    install(&place, "scorer.wasm");
    let newer = SCORER.replace("1.0.0", "1.1.0");
    let newer = crate::guest::component_that_calls(&newer, UPDATE, SCORE);
    std::fs::write(place.folder().join("newer.wasm"), newer).unwrap();
    install(&place, "newer.wasm");
    let run = |verb: &str, more: &[&str]| done(&place, &of_scorer(verb, more));
    let fails =
        |verb: &str, more: &[&str]| refused(&crm(&place, &of_scorer(verb, more)).output().unwrap());

    let versions = run("versions", &[]);
    let lines: Vec<_> = versions
        .lines()
        .filter(|line| !line.starts_with(' '))
        .collect();
    let [new, old] = lines[..] else {
        panic!("{versions}");
    };
    assert!(new.contains(" 1.1.0 uploaded "), "{versions}");
    assert!(new.ends_with(", enabled, consented to"), "{versions}");
    assert!(old.contains(" 1.0.0 uploaded "), "{versions}");
    assert!(
        old.ends_with(", consented to") && !old.contains("enabled"),
        "{versions}"
    );
    assert_eq!(
        versions.matches("\n  may run on contact.created\n").count(),
        2,
        "{versions}"
    );
    let (old, _) = old.split_once(' ').unwrap();

    let trial = |percent| ["--sha256", old, "--percent", percent];
    let tried = run("canary", &trial("10"));
    let of_old = tried.lines().find(|line| line.starts_with(old)).unwrap();
    assert!(of_old.contains(", tried on 10 of 100 events,"), "{tried}");
    assert!(!run("canary", &trial("0")).contains("tried on"));
    let beyond = crm(&place, &of_scorer("canary", &trial("101")));
    assert_eq!({ beyond }.output().unwrap().status.code(), Some(2));
    assert_eq!(run("rollback", &[]), "scorer 1.0.0 enabled\n");
    assert_eq!(run("rollback", &[]), "scorer 1.1.0 enabled\n");

    assert_eq!(
        run("activate", &["--sha256", old]),
        "scorer 1.0.0 enabled\n"
    );
    assert_eq!(run("disable", &[]), "scorer 1.0.0 disabled\n");
    assert!(!run("versions", &[]).contains("consented to"));
    let taken_back = fails("activate", &["--sha256", old]);
    assert!(taken_back.contains("consent"), "{taken_back}");
    let unknown = fails("enable", &["--sha256", &"0".repeat(64)]);
    assert!(unknown.contains("no such version"), "{unknown}");
    let enabled = run("enable", &["--sha256", old]);
    assert!(
        enabled.starts_with("scorer 1.0.0\n  may run on contact.created\n"),
        "{enabled}"
    );
    let consent = format!("  consented to {old}\nscorer 1.0.0 enabled\n");
    assert!(enabled.ends_with(&consent), "{enabled}");

    for action in ["plugins.activate", "plugins.disable"] {
        let export = ["audit", "export", "--tenant", "acme", "--action", action];
        let entries = done(&place, &export);
        assert_eq!(entries.lines().count(), 1, "{entries}");
        let entry: Value = serde_json::from_str(&entries).unwrap();
        assert_eq!(entry["actor"], "operator", "{entry}");
    }
    for verb in ["versions", "disable", "rollback", "runs", "follow"] {
        let absent = ["plugin", verb, "unicorn", "--tenant", "acme"];
        let line = refused(&crm(&place, &absent).output().unwrap());
        assert!(line.contains("there is no plugin \"unicorn\""), "{line}");
    }
}

fn runs_are_listed_and_followed_at_the_command_line(place: Installation) {
    with_scorer(&place);
    install(&place, "scorer.wasm");
    import(&place);
    let id = block_on(only_run(&place));
    let id = id.as_str();
    let runs = |more: &[&str]| done(&place, &of_scorer("runs", more));
    let listed = runs(&[]);
    assert!(listed.starts_with(&format!("{id} ")), "{listed}");
    assert!(
        listed.contains(" contact.created succeeded with "),
        "{listed}"
    );
    assert_eq!(listed.lines().count(), 1, "{listed}");
    for same in [
        &["--outcome", "succeeded"][..],
        &["--trigger", "contact.created", "--module", "contacts"],
        &["--since", "2020-01-01", "--last", "1"],
    ] {
        assert_eq!(runs(same), listed, "{same:?}");
    }
    for none in [
        &["--outcome", "failed"][..],
        &["--before", id],
        &["--since", "2999-01-01"],
    ] {
        assert_eq!(runs(none), "", "{none:?}");
    }
    let odd = crm(&place, &of_scorer("runs", &["--outcome", "lost"])).output();
    assert_eq!(odd.unwrap().status.code(), Some(2));
    let many = crm(&place, &of_scorer("runs", &["--last", "101"])).output();
    assert!(refused(&many.unwrap()).contains("between 1 and 100"));

    let first = "00000000-0000-0000-0000-000000000000";
    let mut follower = crm(&place, &of_scorer("follow", &["--after", first]))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let heard = lines.next().unwrap().unwrap();
    follower.kill().unwrap();
    follower.wait().unwrap();
    assert_eq!(heard, listed.trim_end());
}
