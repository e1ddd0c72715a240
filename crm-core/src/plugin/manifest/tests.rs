use super::*;
use crate::plugin::Schedule;

const WHOLE: &str = r#"
    name = "lead_scoring"
    version = "1.2.0"
    description = "Scores new contacts."
    triggers = ["contact.created"]
    [[grants]]
    module = "contacts"
    actions = ["read", "update"]
"#;

/// Every kind of trigger and grant.
const ALL: &str = r#"
    name = "all"
    version = "1.0.0"
    hosts = ["api.example.com", "api.example.com:8443"]
    secrets = ["token"]
    kv = true
    emits = ["scored"]
    jobs = ["follow_up"]

    [[triggers]]
    on = "contact.updated"
    fields = ["email"]
    filter = { score = { gt = 10 } }
    [[triggers]]
    on = "lead_scoring.scored"
    [[triggers]]
    before = ["contact.create", "contact.update"]
    fields = ["email"]
    filter = { score = { gt = 10 } }
    [[triggers]]
    cron = "nightly"
    schedule = "0 3 * * *"
    timezone = "Europe/Berlin"
    [[triggers]]
    webhook = "payments"
    [[triggers]]
    action = "rescore"
    module = "contacts"
    label = "Score again"
    input = { type = "object" }

    [[grants]]
    module = "contacts"
    actions = ["read", "create", "update", "delete"]
    fields = ["email", "score"]
"#;

fn refusal(text: &str) -> String {
    match Manifest::parse(text) {
        Err(Error::Invalid(fields)) => {
            assert_eq!(fields[0].code, "invalid_manifest");
            fields[0].message.clone()
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// The refusal of a manifest with this one trigger.
fn trigger(table: &str) -> String {
    refusal(&format!(
        "name = 'p'\nversion = '1.0.0'\n[[triggers]]\n{table}"
    ))
}

#[test]
fn a_whole_manifest_is_read() {
    let manifest = Manifest::parse(WHOLE).unwrap();
    assert_eq!(manifest.name.as_str(), "lead_scoring");
    assert_eq!(manifest.triggers[0].to_string(), "contact.created");
    assert!(manifest.may_import("records", "update"), "one function");
    assert!(!manifest.may_import("records", "create"));
    assert!(manifest.may_import("log", "log"), "a whole interface");
}

#[test]
fn every_kind_of_trigger_has_its_table() {
    let manifest = Manifest::parse(ALL).unwrap();
    let triggers: Vec<_> = manifest.triggers.iter().map(ToString::to_string).collect();
    assert_eq!(
        triggers,
        [
            "contact.updated of email where {\"score\":{\"gt\":10}}",
            "lead_scoring.scored",
            "before contact.create, contact.update of email where {\"score\":{\"gt\":10}}",
            "cron nightly: 0 3 * * * Europe/Berlin",
            "webhook payments",
            "action rescore on contacts",
        ]
    );
    let schedule = Schedule::parse("0 3 * * *", "Europe/Berlin").unwrap();
    assert_eq!(manifest.crons().next().unwrap().schedule, schedule);
    assert_eq!(manifest.actions().next().unwrap().label, "Score again");
}

#[test]
fn json_and_toml_carry_the_same_manifest() {
    for text in [WHOLE, ALL] {
        let manifest = Manifest::parse(text).unwrap();
        let json = serde_json::to_string(&manifest).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
    }
}

#[test]
fn imports_and_exports_follow_from_what_is_asked() {
    let manifest = Manifest::parse(WHOLE).unwrap();
    let imports = [
        "clock",
        "log",
        "random",
        "records.aggregate",
        "records.get",
        "records.list",
        "records.to-json",
        "records.update",
    ];
    assert_eq!(manifest.imports(), BTreeSet::from(imports));
    assert_eq!(manifest.exports(), BTreeSet::from(["handle"]));
    let all = Manifest::parse(ALL).unwrap();
    for name in ["events", "http", "jobs", "kv", "secrets", "records.delete"] {
        assert!(all.imports().contains(name), "{name}");
    }
    let exports = ["before", "cron", "handle", "inbound", "run"];
    assert_eq!(all.exports(), BTreeSet::from(exports));
}

#[test]
fn an_unknown_field_is_named() {
    assert!(refusal(&format!("colour = \"red\"\n{WHOLE}")).contains("colour"));
    assert!(refusal(&format!("{WHOLE}\nrows = \"own\"")).contains("rows"));
    assert!(trigger("on = 'contact.created'\nwhen = 'now'").contains("when"));
}

#[test]
fn a_manifest_that_could_never_run_is_refused() {
    assert!(refusal(&WHOLE.replace("[\"contact.created\"]", "[]")).contains("never run"));
    assert!(refusal(&WHOLE.replace("contact.created", "contact")).contains("not a trigger"));
    assert!(trigger("cron = 'x'\nschedule = '0 0 30 2 *'").contains("never comes"));
}

#[test]
fn a_trigger_that_contradicts_itself_is_refused() {
    for (table, part) in [
        ("label = 'x'", "one of `on`"),
        (
            "on = 'contact.created'\ncron = 'x'",
            "`cron` does not belong",
        ),
        (
            "on = 'contact.created'\nfields = ['a']",
            "contact.created is none",
        ),
        ("on = 'contact.updated'\nfields = []", "names no field"),
        ("on = 'other.told'\nfields = ['a']", "tells of none"),
        ("before = []", "names no change"),
        (
            "before = ['contact.created']",
            "no change to be asked about",
        ),
        ("before = ['contact.create', 'contact.create']", "twice"),
        ("before = ['contact.create']\nfields = []", "names no field"),
        (
            "before = ['contact.update', 'contact.delete']\nfields = ['a']",
            "contact.delete sets none",
        ),
        (
            "before = ['contact.create']\nlabel = 'x'",
            "`label` does not belong",
        ),
        ("cron = 'x'", "needs a `schedule`"),
        ("cron = 'x'\nschedule = '* * *'", "no schedule"),
        (
            "cron = 'x'\nschedule = '* * * * *'\ntimezone = 'Mars'",
            "no zone",
        ),
        (
            "webhook = 'x'\nmodule = 'contacts'",
            "`module` does not belong",
        ),
        ("action = 'x'\nlabel = ''", "1 to 100 characters"),
        ("webhook = 'x'\n[[triggers]]\nwebhook = 'x'", "twice"),
        (
            "action = 'x'\n[[triggers]]\naction = 'x'\nmodule = 'm'",
            "twice",
        ),
    ] {
        let message = trigger(table);
        assert!(message.contains(part), "{table}: {message}");
    }
    let job = "name = 'p'\nversion = '1.0.0'\njobs = ['x']\n[[triggers]]\ncron = 'x'\n\
               schedule = '* * * * *'";
    assert!(refusal(job).contains("cron trigger and of a job"));
}

#[test]
fn wild_and_doubled_grants_are_refused() {
    assert!(refusal(&WHOLE.replace("\"contacts\"", "\"*\"")).contains("not a name"));
    assert!(refusal(&WHOLE.replace("\"update\"]", "\"purge\"]")).contains("purge"));
    assert!(refusal(&WHOLE.replace("\"update\"]", "\"read\"]")).contains("contacts.read"));
    assert!(refusal(&WHOLE.replace("[\"read\", \"update\"]", "[]")).contains("no action"));
    let twice = format!("{WHOLE}\n[[grants]]\nmodule = \"contacts\"\nactions = [\"create\"]");
    assert!(refusal(&twice).contains("two grants"));
    assert!(refusal(&format!("{WHOLE}\nfields = []")).contains("names no field"));
    assert!(refusal(&format!("{WHOLE}\nfields = ['a', 'a']")).contains("names a twice"));
    let delete = WHOLE.replace("\"read\", \"update\"", "\"delete\"");
    assert!(refusal(&format!("{delete}\nfields = ['a']")).contains("as a whole"));
}

#[test]
fn hosts_and_names_have_one_form() {
    let with = |line: &str| refusal(&format!("{line}\n{WHOLE}"));
    for host in [
        "",
        "*.example.com",
        "https://example.com",
        "example.com/path",
        "example.com:443",
        "EXAMPLE.com",
        "user@example.com",
        "example.com?x",
    ] {
        assert!(
            with(&format!("hosts = ['{host}']")).contains("no host"),
            "{host}"
        );
    }
    assert!(with("hosts = ['a.example', 'a.example']").contains("twice"));
    assert!(with("secrets = ['a', 'a']").contains("the secret a"));
    assert!(with("emits = ['created']").contains("cannot be called created"));
    assert!(with("jobs = ['a', 'a']").contains("the job a"));
}

#[test]
fn a_version_is_a_semantic_version() {
    assert!(refusal(&WHOLE.replace("1.2.0", "v1")).contains("\"v1\""));
    assert!(Manifest::parse(&WHOLE.replace("1.2.0", "1.2.0-rc.1")).is_ok());
}

#[test]
fn an_oversized_manifest_is_refused_unread() {
    let text = format!("#{}\n{WHOLE}", "x".repeat(Manifest::MAX_BYTES));
    assert!(refusal(&text).contains("65536"));
}
