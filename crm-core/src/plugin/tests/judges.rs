//! Plugins that judge changes before they are made.

use super::*;
use crate::hook::{Change, Door, Outcome, Output, Report, Verdict};
use crate::record::{Record, Write};
use crate::scope::{Create, Update};
use crate::value::Value;

on_both_databases! {
    a_plugin_accepts_amends_and_rejects_what_is_about_to_be_made
    a_plugin_that_fails_refuses_the_change_and_says_so_in_its_run
    a_plugin_that_judges_reads_records_and_writes_none
    an_amendment_keeps_to_what_the_plugin_may_write
    judges_speak_in_the_order_of_their_names
    what_a_judge_answered_is_kept_with_its_run_and_replayed
    a_replay_tells_that_the_amendment_was_refused
    a_judge_is_asked_only_about_records_that_match_its_filter
    a_judge_of_fields_is_asked_only_where_they_are_set
    a_judge_is_asked_where_it_cannot_see_what_its_trigger_looks_at
    a_parked_judge_stops_only_what_it_judges
    a_judge_looks_at_no_field_that_the_manifest_does_not_read
}

/// What a plugin says to a change.
pub(super) async fn report(script: &str, door: &dyn Door, change: &Change) -> Report {
    let mut report = Report::refused("");
    match verdict(script, door, change).await {
        Ok(verdict) => {
            (report.outcome, report.error) = (Outcome::Succeeded, None);
            report.output = Some(Output::Verdict(verdict));
        }
        Err(error) => {
            (report.outcome, report.error) = (Outcome::Failed, Some(error.to_string()));
        }
    }
    report
}

fn title_of(change: &Change) -> String {
    let mut fields = change.after.iter().chain(&change.before).flatten();
    let title = fields.find(|(name, _)| name == "title");
    let title = title.and_then(|(_, value)| value.as_text());
    title.unwrap_or_default().to_owned()
}

async fn verdict(script: &str, door: &dyn Door, change: &Change) -> Result<Verdict> {
    let title = |value: &str| vec![("title".to_owned(), Value::Text(value.to_owned()))];
    let was = title_of(change);
    Ok(match script {
        "guard" if was.contains("bad") => Verdict::Reject {
            code: "bad".to_owned(),
            message: "there are bad ones enough".to_owned(),
            field: Some("title".to_owned()),
        },
        "guard" if was.contains("loud") => Verdict::Amend(title(&was.replace("loud", "soft"))),
        "guard" => Verdict::Accept,
        "keep" => {
            door.kv_set("title", was.as_bytes().to_vec()).await?;
            match was.as_str() {
                "bad" => return Err(Error::conflict("fails", "it fails")),
                _ => Verdict::Accept,
            }
        }
        "leak" => {
            let secret = door.secret("token").await?;
            let secret = secrecy::ExposeSecret::expose_secret(&secret);
            Verdict::Reject {
                code: "leak".to_owned(),
                message: base64::Engine::encode(
                    &base64::engine::general_purpose::STANDARD,
                    format!("it is {secret}"),
                ),
                field: None,
            }
        }
        "enlarge" => Verdict::Amend(title(&format!("big {was}"))),
        "append" => Verdict::Amend(title(&format!("{was}+"))),
        "write" => {
            let made = door.create("deals", title("made")).await;
            assert!(matches!(made, Err(Error::Forbidden { .. })), "{made:?}");
            let query = crate::hook::DoorQuery {
                limit: 10,
                ..Default::default()
            };
            let page = door.list("contacts", query).await?;
            Verdict::Amend(title(&format!("{} before", page.records.len())))
        }
        "look around" => Verdict::Reject {
            code: "seen".to_owned(),
            message: look_around(door, change).await?,
            field: None,
        },
        "amend owner" => Verdict::Amend(vec![("owner_id".to_owned(), Value::Null)]),
        "amend all" => Verdict::Amend(title("amended")),
        _ => return Err(Error::conflict("fails", "it fails")),
    })
}

/// The title of the record as it stands, and how many others a list and a count find.
async fn look_around(door: &dyn Door, change: &Change) -> Result<String> {
    let query = crate::hook::DoorQuery {
        filter: Some(r#"{"title": {"is_null": false}}"#.to_owned()),
        limit: 1,
        ..Default::default()
    };
    let listed = door.list("contacts", query).await?.records.len();
    let counted = door.aggregate("contacts", r#"{"metrics": ["count"]}"#);
    let counted = counted.await?;
    let stands = match change.record_id {
        Some(id) => format!("{:?}", door.get("contacts", id).await?),
        None => "nothing".to_owned(),
    };
    Ok(format!("{listed} listed, {counted}, {stands}"))
}

impl Theatre {
    /// Installs a judge, and has the library ask it.
    pub(super) async fn judge(&self, name: &str, script: &str, grants: &str) -> Plugin {
        let text = component(script, grants, "contact.created").replace("actor", name);
        let before =
            "\n[[triggers]]\nbefore = ['contact.create', 'contact.update', 'contact.delete']\n";
        let text = text.replace("triggers = ['contact.created']\n", "") + before;
        let plugin = self.try_upload(self.world.admin, &text).await.unwrap();
        let plugin = self.enable(self.world.admin, &plugin).await;
        let _ = self.world.crm.core.judge.set(self.plugins.judge());
        plugin
    }

    /// Installs a judge with these lines of a manifest, and has the library ask it.
    async fn judge_of(&self, script: &str, rest: &str) -> Plugin {
        let plugin = self.install_manifest(script, rest).await;
        let _ = self.world.crm.core.judge.set(self.plugins.judge());
        plugin
    }

    pub(super) async fn retitle(&self, contact: RecordId, title: &str) -> Result<Record> {
        let update = self.world.permit::<Update>(self.world.admin, "contacts");
        let body = Map::from_iter([("title".to_owned(), json!(title))]);
        let records = self.world.crm.records();
        records.update(&update.await, contact, None, body).await
    }

    pub(super) async fn remove(&self, contact: RecordId) -> Result<()> {
        let delete = self.world.permit(self.world.admin, "contacts").await;
        let records = self.world.crm.records();
        records.delete(&delete, contact, None).await
    }

    pub(super) async fn make(&self, title: &str) -> Result<Record> {
        let permit = self
            .world
            .permit::<Create>(self.world.admin, "contacts")
            .await;
        let body = Map::from_iter([("title".to_owned(), json!(title))]);
        self.world.crm.records().create(&permit, body).await
    }
}

fn title(record: &Record) -> &str {
    record.get("title").and_then(Value::as_text).unwrap_or("")
}

async fn a_plugin_accepts_amends_and_rejects_what_is_about_to_be_made(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre
        .judge(
            "guard",
            "guard",
            "contacts.read contacts.create contacts.update",
        )
        .await;
    let one = theatre.make("one").await.unwrap();
    let soft = theatre.make("a loud one").await.unwrap();
    assert_eq!((title(&one), title(&soft)), ("one", "a soft one"));

    let refused = theatre.make("bad").await.unwrap_err();
    let Error::Refused(refusal) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refusal.code(), "rejected_by_plugin");
    assert_eq!(refusal.field().unwrap().pointer, "/title");
    assert!(refusal.to_string().contains("bad ones enough (guard: "));

    let admin = theatre.world.admin;
    let update = theatre.world.permit::<Update>(admin, "contacts").await;
    let body = |title: &str| Map::from_iter([("title".to_owned(), json!(title))]);
    let records = theatre.world.crm.records();
    let changed = records.update(&update, one.id, None, body("loud")).await;
    assert_eq!(title(&changed.unwrap()), "soft");
    let kept = records.update(&update, one.id, None, body("bad")).await;
    assert!(kept.is_err());

    let runs = theatre.runs(&plugin).await;
    assert_eq!(runs.len(), 5);
    assert!(runs.iter().all(|run| run.outcome == Outcome::Succeeded));
    assert_eq!(runs[0].trigger, "before contact.update");
    assert_eq!(runs[4].trigger, "before contact.create");
    let audit = theatre.world.audit().await;
    let made = audit.iter().filter(|action| *action == "contacts.create");
    assert_eq!(made.count(), 2, "nothing of what was refused");
}

async fn a_plugin_that_fails_refuses_the_change_and_says_so_in_its_run(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.judge("guard", "fails", "contacts.read").await;
    let refused = theatre.make("one").await.unwrap_err();
    assert_eq!(refused.code(), "plugin_failed");
    let runs = theatre.runs(&plugin).await;
    assert_eq!((runs.len(), runs[0].outcome), (1, Outcome::Failed));
    assert_eq!(runs[0].error.as_deref(), Some("it fails"));

    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    theatre.plugins.disable(&permit, plugin.id).await.unwrap();
    assert!(theatre.make("one").await.is_ok(), "it is switched off");
}

async fn a_plugin_that_judges_reads_records_and_writes_none(world: World) {
    let theatre = Theatre::new(world);
    theatre.contact("there").await;
    theatre
        .judge(
            "guard",
            "write",
            "contacts.read contacts.create deals.create",
        )
        .await;
    let made = theatre.make("one").await;
    assert_eq!(title(&made.unwrap()), "1 before");
}

async fn an_amendment_keeps_to_what_the_plugin_may_write(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.judge("guard", "amend all", "contacts.read").await;
    let refused = theatre.make("one").await.unwrap_err();
    assert_eq!(refused.code(), "plugin_failed");
    let run = theatre.runs(&plugin).await.remove(0);
    assert!(run.error.unwrap().contains("contacts.create"));

    let theatre = Theatre::new(World::sqlite().await);
    theatre
        .judge("guard", "amend owner", "contacts.read contacts.create")
        .await;
    let refused = theatre.make("one").await.unwrap_err();
    assert_eq!(refused.code(), "plugin_failed");

    // Nobody amends by the plugin's rights what they may not write themselves.
    let theatre = Theatre::new(World::sqlite().await);
    theatre
        .judge("guard", "amend all", "contacts.read contacts.update")
        .await;
    let one = theatre.make("one").await;
    assert_eq!(
        one.unwrap_err().code(),
        "plugin_failed",
        "it may update, not create"
    );
}

async fn judges_speak_in_the_order_of_their_names(world: World) {
    let theatre = Theatre::new(world);
    let grants = "contacts.read contacts.create contacts.delete";
    theatre.judge("b_guard", "guard", grants).await;
    theatre.judge("a_append", "append", grants).await;
    theatre.judge("c_append", "append", grants).await;
    let made = theatre.make("loud").await.unwrap();
    assert_eq!(title(&made), "soft++");
    assert!(theatre.make("bad").await.is_err());
    let delete = theatre.world.permit(theatre.world.admin, "contacts").await;
    let write = Write::delete(&delete, made.id, None).unwrap();
    let gone = theatre
        .world
        .crm
        .records()
        .delete(&delete, made.id, None)
        .await;
    // There is nothing to append to what goes.
    assert_eq!(gone.unwrap_err().code(), "plugin_failed");
    drop(write);
}

async fn a_replay_tells_that_the_amendment_was_refused(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.judge("guard", "guard", "contacts.read").await;
    assert!(theatre.make("loud").await.is_err());
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(run.outcome, Outcome::Failed, "{run:?}");
    let update = theatre.world.permit::<Update>(theatre.world.admin, OBJECT);
    let update = update.await;
    let replay = theatre.plugins.replay(&update, plugin.id, run.id);
    let replay = replay.await.unwrap();
    assert!(replay.identical, "{replay:?}");
    assert_eq!((replay.outcome, replay.error), (run.outcome, run.error));
}

async fn what_a_judge_answered_is_kept_with_its_run_and_replayed(world: World) {
    let theatre = Theatre::new(world);
    let grants = "contacts.read contacts.create";
    let plugin = theatre.judge("guard", "guard", grants).await;
    let admin = theatre.world.admin;
    let answered = async |title: &str| {
        let made = theatre.make(title).await;
        let run = theatre.runs(&plugin).await.remove(0);
        let update = theatre.world.permit::<Update>(admin, OBJECT).await;
        let replay = theatre.plugins.replay(&update, plugin.id, run.id).await;
        let replay = replay.unwrap();
        assert!(replay.identical, "{title}: {replay:?}");
        let read = theatre.world.permit(admin, OBJECT).await;
        let answer = theatre.plugins.run_answer(&read, plugin.id, run.id).await;
        let answer = answer.unwrap();
        assert_eq!(answer, replay.answer);
        (made.is_ok(), run.outcome, answer.unwrap())
    };
    let succeeded = Outcome::Succeeded;
    let accept = json!({"kind": "accept"});
    assert_eq!(answered("one").await, (true, succeeded, accept));
    let amend = json!({"kind": "amend", "fields": {"title": "a soft one"}});
    assert_eq!(answered("a loud one").await, (true, succeeded, amend));
    let reject = json!({
        "kind": "reject", "code": "bad", "message": "there are bad ones enough", "field": "title",
    });
    assert_eq!(answered("bad").await, (false, succeeded, reject));

    // Its run failed by what came of its answer.
    let again = theatre.judge("guard", "amend owner", grants).await;
    assert_eq!(again.id, plugin.id);
    let amend = json!({"kind": "amend", "fields": {"owner_id": null}});
    assert_eq!(answered("two").await, (false, Outcome::Failed, amend));
}

const READS: &str = "[[grants]]\nmodule = 'contacts'\nactions = ['read']\n";

/// A judge of each change of records whose title holds `big`.
fn of_big_ones() -> String {
    let changes = "['contact.create', 'contact.update', 'contact.delete']";
    let filter = "{ title = { contains = 'big' } }";
    format!("[[triggers]]\nbefore = {changes}\nfilter = {filter}\n{READS}")
}

async fn a_judge_is_asked_only_about_records_that_match_its_filter(world: World) {
    let theatre = Theatre::new(world);
    let small = theatre.contact("small").await;
    let big = theatre.contact("big").await;
    let plugin = theatre.judge_of("fails", &of_big_ones()).await;
    assert_eq!(
        theatre.make("a big one").await.unwrap_err().code(),
        "plugin_failed"
    );
    theatre.make("a small one").await.unwrap();
    // As it would be after an update, and is before a deletion.
    assert!(theatre.retitle(small, "now big").await.is_err());
    assert!(theatre.remove(big).await.is_err());
    theatre.retitle(big, "shrunk").await.unwrap();
    theatre.remove(small).await.unwrap();
    theatre.remove(big).await.unwrap();
    let runs = theatre.runs(&plugin).await;
    assert_eq!(runs.len(), 3, "no run of what it does not judge: {runs:?}");
    assert_eq!(theatre.stage.runs.load(Ordering::SeqCst), 3);
}

async fn a_judge_of_fields_is_asked_only_where_they_are_set(world: World) {
    let theatre = Theatre::new(world);
    let changes = "before = ['contact.create', 'contact.update']\nfields = ['owner_id']\n";
    let rest = format!("[[triggers]]\n{changes}{READS}");
    theatre.judge_of("fails", &rest).await;
    let admin = theatre.world.admin;
    let make = theatre.world.permit::<Create>(admin, "contacts").await;
    let records = theatre.world.crm.records();
    let one = |owner| {
        Map::from_iter([
            ("title".to_owned(), json!("one")),
            ("owner_id".to_owned(), owner),
        ])
    };
    let unowned = records.create(&make, one(json!(null))).await.unwrap();
    assert!(records.create(&make, one(json!(admin))).await.is_err());

    theatre.retitle(unowned.id, "two").await.unwrap();
    let update = theatre.world.permit::<Update>(admin, "contacts").await;
    let given = records.update(&update, unowned.id, None, one(json!(admin)));
    assert!(given.await.is_err());
    let same = records.update(&update, unowned.id, None, one(json!(null)));
    assert!(same.await.is_ok(), "it is nobody's still");
}

async fn a_judge_is_asked_where_it_cannot_see_what_its_trigger_looks_at(world: World) {
    let theatre = Theatre::new(world);
    theatre.judge_of("fails", &of_big_ones()).await;
    theatre.make("small").await.unwrap();
    // Whoever may not read contacts does not get around what judges them.
    let blind = theatre.member_with(&["contacts.create"]).await;
    let permit = theatre.world.permit::<Create>(blind, "contacts").await;
    let body = Map::from_iter([("title".to_owned(), json!("small"))]);
    let made = theatre.world.crm.records().create(&permit, body).await;
    assert_eq!(made.unwrap_err().code(), "plugin_failed");
}

async fn a_parked_judge_stops_only_what_it_judges(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.judge_of("guard", &of_big_ones()).await;
    let parked =
        Sql::new("UPDATE plugins SET status = 'disabled', parked = 'it failed' WHERE id = $1");
    theatre
        .world
        .execute(parked.bind(plugin.id, ColumnType::Uuid))
        .await;
    theatre.plugins.forget(theatre.world.tenant).await;
    let stopped = theatre.make("big").await.unwrap_err().to_string();
    assert!(stopped.contains("is parked"), "{stopped}");
    theatre.make("small").await.unwrap();

    // Nor does another one amend a record past it.
    let rest = "[[triggers]]\nbefore = ['contact.create']\n[[grants]]\nmodule = 'contacts'\n\
                actions = ['read', 'create']\n";
    let text = format!("name = 'another'\nversion = '1.0.0'\ndescription = 'enlarge'\n{rest}");
    let admin = theatre.world.admin;
    let another = theatre.try_upload(admin, &text).await.unwrap();
    theatre.enable(admin, &another).await;
    let stopped = theatre.make("small").await.unwrap_err().to_string();
    assert!(stopped.contains("is parked"), "{stopped}");
}

async fn a_judge_looks_at_no_field_that_the_manifest_does_not_read(world: World) {
    let theatre = Theatre::new(world);
    let on = "[[triggers]]\nbefore = ['contact.update', 'contact.create']\n";
    for (rest, part) in [
        (format!("{on}fields = ['title']\n"), "takes a grant to read"),
        (
            format!("{on}filter = {{ title = 'x' }}\n{READS}fields = ['owner_id']\n"),
            "before contact.update looks at title, which the grant on contacts leaves out",
        ),
        (
            format!("{on}fields = ['colour']\n{READS}"),
            "no field colour",
        ),
        (
            format!("{on}filter = {{ colour = 'x' }}\n{READS}"),
            "does not hold",
        ),
        (
            format!("{on}filter = {{ created_at = {{ gt = '2026-01-01T00:00:00Z' }} }}\n{READS}"),
            "before contact.create looks at created_at, which a new record has not yet",
        ),
    ] {
        let text = format!("name = 'actor'\nversion = '1.0.0'\n{rest}");
        match theatre.try_upload(theatre.world.admin, &text).await {
            Err(Error::Invalid(fields)) => {
                assert!(fields[0].message.contains(part), "{rest}: {fields:?}");
            }
            other => panic!("{rest}: {other:?}"),
        }
    }
}
