//! Rehearsals: what a plugin would have done, and that nothing of it stays.

use super::*;
use crate::db::twin::{Detail, Image};
use crate::event::ChangeKind;

on_both_databases! {
    a_rehearsal_tells_what_would_change_and_changes_nothing
    a_rehearsal_has_the_rights_that_its_plugin_would_have
    a_rehearsal_is_of_events_that_the_plugin_wakes_on
    a_rehearsal_refuses_what_a_run_is_refused
    a_rehearsal_goes_on_with_the_values_of_its_plugin_and_keeps_none
    a_rehearsal_is_told_no_secret
    a_rehearsal_hides_the_secrets_that_its_plugin_kept
    a_rehearsal_shows_nobody_what_a_plugin_with_wider_rights_kept_or_told
    a_rehearsal_tells_the_verdicts_on_what_was_done
    a_rehearsed_judge_meets_the_record_as_it_was
    a_rehearsed_amendment_shows_no_record_that_is_not_to_be_read
    a_rehearsal_names_what_it_cannot_rehearse
}

impl Theatre {
    async fn rehearse(&self, user: UserId, text: &str, last: u32) -> Result<Rehearsal> {
        let permit = self.world.permit(user, OBJECT).await;
        let component = text.to_owned().into();
        self.plugins.rehearse(&permit, component, last).await
    }

    /// Every row of the tenant.
    async fn everything(&self) -> Image {
        let db = &self.world.crm.core.db;
        let layout = db.layout().await.unwrap();
        db.image(&layout, self.world.tenant, Detail::All)
            .await
            .unwrap()
    }
}

async fn a_rehearsal_tells_what_would_change_and_changes_nothing(world: World) {
    let theatre = Theatre::new(world);
    let contact = theatre.contact("one").await;
    theatre.contact("two").await;
    theatre.dispatch().await;
    let before = theatre.everything().await;

    let text = component("write", "contacts.read contacts.update", "contact.created");
    let rehearsal = theatre.rehearse(theatre.world.admin, &text, 100).await;
    let rehearsal = rehearsal.unwrap();
    assert_eq!((rehearsal.events, rehearsal.runs.len()), (2, 2));
    assert!(!rehearsal.cut_off);
    let first = &rehearsal.runs[0];
    assert_eq!(
        (first.record_id, first.outcome),
        (contact, Outcome::Succeeded)
    );
    let change = &first.changes[0];
    assert_eq!(
        (change.kind, change.record_id),
        (ChangeKind::Updated, contact)
    );
    assert_eq!(change.before.as_ref().unwrap()["title"], json!("one"));
    assert_eq!(change.after.as_ref().unwrap()["title"], json!("changed"));

    let text = component("create", "deals.create", "contact.created");
    let made = theatre
        .rehearse(theatre.world.admin, &text, 1)
        .await
        .unwrap();
    assert_eq!(made.runs.len(), 1);
    let change = &made.runs[0].changes[0];
    assert_eq!(
        (change.kind, change.module.as_str()),
        (ChangeKind::Created, "deals")
    );
    assert_eq!(before, theatre.everything().await);
}

async fn a_rehearsal_has_the_rights_that_its_plugin_would_have(world: World) {
    let theatre = Theatre::new(world);
    theatre.contact("one").await;
    let user = theatre
        .member_with(&["plugins.create", "contacts.read"])
        .await;
    let text = component("write", "contacts.update", "contact.created");
    let rehearsal = theatre.rehearse(user, &text, 10).await.unwrap();
    assert_eq!(rehearsal.runs[0].outcome, Outcome::Refused);
    assert!(rehearsal.runs[0].changes.is_empty());
    let text = "name = 'actor'\nversion = '1.0.0'\ndescription = 'guard'\n\
        [[triggers]]\nbefore = ['contact.create']\n\
        [[grants]]\nmodule = 'contacts'\nactions = ['update']\n";
    let rehearsal = theatre.rehearse(user, text, 10).await.unwrap();
    assert_eq!(rehearsal.runs[0].outcome, Outcome::Refused);
    assert_eq!(rehearsal.runs[0].trigger, "before contact.create");
    let nobody = theatre.member_with(&["contacts.read"]).await;
    assert!(
        theatre
            .world
            .scope(nobody)
            .await
            .permit::<Create>(OBJECT)
            .is_err()
    );
}

async fn a_rehearsal_is_of_events_that_the_plugin_wakes_on(world: World) {
    let theatre = Theatre::new(world);
    theatre.contact("one").await;
    let text = component("read", "contacts.read", "contact.deleted");
    let rehearsal = theatre
        .rehearse(theatre.world.admin, &text, 10)
        .await
        .unwrap();
    assert_eq!((rehearsal.events, rehearsal.runs.len()), (1, 0));
    for last in [0, 1_001] {
        let refused = theatre.rehearse(theatre.world.admin, &text, last).await;
        assert_eq!(refused.unwrap_err().code(), "validation_failed");
    }
}

async fn a_rehearsal_refuses_what_a_run_is_refused(world: World) {
    let theatre = Theatre::new(world);
    theatre.contact("one").await;
    let admin = theatre.world.admin;
    for (script, asked) in [
        ("tell other", "emits = ['told']"),
        ("tell list", "emits = ['told']"),
        ("keep much", "kv = true"),
        ("defer other", "jobs = ['later']"),
        ("defer nothing", "jobs = ['later']"),
        (
            "fetch https://other.example/",
            "hosts = ['api.example.com']",
        ),
    ] {
        let text = format!(
            "name = 'actor'\nversion = '1.0.0'\ndescription = '{script}'\n{asked}\n\
             triggers = ['contact.created']\n"
        );
        let rehearsal = theatre.rehearse(admin, &text, 1).await.unwrap();
        let run = &rehearsal.runs[0];
        assert_eq!(run.outcome, Outcome::Failed, "{script}: {run:?}");
        assert!(run.withheld.is_empty(), "{script}: {run:?}");
    }
}

/// What a manifest asks for to keep values and to be told a secret.
const KEEPS: &str = "kv = true\nsecrets = ['token']\ntriggers = ['contact.created']\n";

fn keeper(script: &str) -> String {
    format!("name = 'actor'\nversion = '1.1.0'\ndescription = '{script}'\n{KEEPS}")
}

async fn a_rehearsal_goes_on_with_the_values_of_its_plugin_and_keeps_none(world: World) {
    let theatre = Theatre::new(world);
    theatre.contact("one").await;
    theatre.contact("two").await;
    let (admin, text) = (theatre.world.admin, keeper("keep"));
    let told = |run: &RehearsedRun| run.logs[0].message.clone();
    let runs = theatre.rehearse(admin, &text, 2).await.unwrap().runs;
    assert!(told(&runs[0]).starts_with("None Some("), "{runs:?}");
    assert!(told(&runs[1]).starts_with("Some("), "{runs:?}");

    theatre.install_manifest("keep", KEEPS).await;
    theatre.contact("three").await;
    theatre.dispatch().await;
    let before = theatre.everything().await;
    let runs = theatre.rehearse(admin, &text, 1).await.unwrap().runs;
    assert!(told(&runs[0]).starts_with("Some("), "{runs:?}");
    assert_eq!(before, theatre.everything().await);
}

async fn a_rehearsal_is_told_no_secret(world: World) {
    let theatre = Theatre::new(world);
    theatre.contact("one").await;
    let text = keeper("confide");
    let rehearsal = theatre.rehearse(theatre.world.admin, &text, 1).await;
    let runs = rehearsal.unwrap().runs;
    assert_eq!(runs[0].logs[0].message, "it is rehearsal");
}

async fn a_rehearsal_tells_the_verdicts_on_what_was_done(world: World) {
    let theatre = Theatre::new(world);
    for title in ["one", "a loud one", "bad"] {
        theatre.contact(title).await;
    }
    theatre.dispatch().await;
    let before = theatre.everything().await;
    let admin = theatre.world.admin;
    let text = |actions: &str| {
        format!(
            "name = 'guard'\nversion = '1.0.0'\ndescription = 'guard'\n\
             [[triggers]]\nbefore = ['contact.create']\n\
             [[grants]]\nmodule = 'contacts'\nactions = [{actions}]\n"
        )
    };
    let all = text("'read', 'create', 'update'");
    let rehearsal = theatre.rehearse(admin, &all, 10).await.unwrap();
    assert_eq!((rehearsal.events, rehearsal.runs.len()), (3, 3));
    let told = |run: &RehearsedRun| (run.outcome, run.verdict, run.changes.len());
    let runs = &rehearsal.runs;
    let all_well = Outcome::Succeeded;
    assert_eq!(
        runs.iter().map(told).collect::<Vec<_>>(),
        [
            (all_well, Some(RehearsedVerdict::Accept), 0),
            (all_well, Some(RehearsedVerdict::Amend), 1),
            (all_well, Some(RehearsedVerdict::Reject), 0),
        ],
        "{runs:?}"
    );
    assert_eq!(runs[0].trigger, "before contact.create");
    let amended = &runs[1].changes[0];
    assert_eq!(amended.before.as_ref().unwrap()["title"], "a loud one");
    assert_eq!(amended.after.as_ref().unwrap()["title"], "a soft one");
    let reason = "there are bad ones enough (bad)";
    assert_eq!(runs[2].reason.as_deref(), Some(reason));

    // The record was not there yet when it was asked.
    let looks = all.replace("'guard'\nversion", "'looker'\nversion");
    let looks = looks.replace("description = 'guard'", "description = 'write'");
    let looking = theatre.rehearse(admin, &looks, 1).await.unwrap();
    let amended = looking.runs[0].changes[0].after.as_ref().unwrap();
    assert_eq!(amended["title"], "2 before", "{looking:?}");

    // What it may not write it does not amend, here as there.
    let reading = theatre.rehearse(admin, &text("'read'"), 10).await.unwrap();
    let run = &reading.runs[1];
    assert_eq!(told(run), (Outcome::Failed, None, 0), "{run:?}");
    let refused = run.error.as_deref().unwrap();
    assert!(refused.contains("contacts.create"), "{refused}");
    assert_eq!(before, theatre.everything().await);
}

/// A judge of contacts with these actions.
fn judge(script: &str, actions: &str) -> String {
    format!(
        "name = 'judge'\nversion = '1.0.0'\ndescription = '{script}'\n\
         [[triggers]]\nbefore = ['contact.create', 'contact.update', 'contact.delete']\n\
         [[grants]]\nmodule = 'contacts'\nactions = [{actions}]\n"
    )
}

async fn a_rehearsed_judge_meets_the_record_as_it_was(world: World) {
    let theatre = Theatre::new(world);
    let (admin, text) = (theatre.world.admin, judge("look around", "'read'"));
    let contact = theatre.contact("one").await;
    let reasons = async |last| {
        let runs = theatre.rehearse(admin, &text, last).await.unwrap().runs;
        let reasons = runs.into_iter().map(|run| (run.trigger, run.reason));
        reasons.collect::<Vec<_>>()
    };
    // Before it is made, no record is there.
    let [(trigger, Some(seen))] = &reasons(10).await[..] else {
        panic!("one run with a reason");
    };
    assert_eq!(trigger, "before contact.create");
    assert!(seen.starts_with("0 listed, "), "{seen}");
    assert!(seen.contains(r#""count":0"#), "{seen}");

    theatre.retitle(contact, "two").await.unwrap();
    theatre.remove(contact).await.unwrap();
    let reasons = reasons(2).await;
    for ((trigger, seen), (planned, title)) in
        reasons.iter().zip([("update", "one"), ("delete", "two")])
    {
        assert_eq!(*trigger, format!("before contact.{planned}"));
        let seen = seen.as_deref().unwrap();
        assert!(seen.contains(&format!("Text({title:?})")), "{seen}");
    }
    assert_eq!(reasons.len(), 2);
}

async fn a_rehearsed_amendment_shows_no_record_that_is_not_to_be_read(world: World) {
    let theatre = Theatre::new(world);
    theatre.contact("planted").await;
    theatre.contact("open").await;
    let open = crate::policy::PermissionInput {
        permission: "contacts.read".to_owned(),
        condition: json!({ "title": { "in": ["open", "amended"] } })
            .as_object()
            .cloned(),
        ..Default::default()
    };
    let role = NewRole {
        name: "half_blind".to_owned(),
        description: String::new(),
        parent_id: None,
        permissions: vec![open, "contacts.create".into(), "plugins.*".into()],
    };
    let permit = theatre.world.permit(theatre.world.admin, "roles").await;
    theatre
        .world
        .crm
        .roles()
        .create(&permit, role)
        .await
        .unwrap();
    let user = theatre.world.new_member(&["half_blind"]).await;
    let text = judge("amend all", "'read', 'create'");
    let text = text.replace(", 'contact.update', 'contact.delete'", "");
    let runs = theatre.rehearse(user, &text, 10).await.unwrap().runs;
    let [hidden, open] = &runs[..] else {
        panic!("{runs:?}");
    };
    assert_eq!(hidden.verdict, Some(RehearsedVerdict::Amend), "{hidden:?}");
    let told = serde_json::to_string(hidden).unwrap();
    assert!(!told.contains("planted"), "{told}");
    let open = &open.changes[0];
    assert_eq!(open.before.as_ref().unwrap()["title"], "open");
    assert_eq!(open.after.as_ref().unwrap()["title"], "amended");
}

async fn a_rehearsal_hides_the_secrets_that_its_plugin_kept(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("confide", KEEPS).await;
    let update = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let secret = "a planted secret".to_owned().into();
    let set = theatre
        .plugins
        .set_secret(&update, plugin.id, "token", &secret);
    set.await.unwrap();
    theatre.contact("one").await;
    theatre.dispatch().await;
    let text = keeper("recall");
    let rehearsal = theatre.rehearse(theatre.world.admin, &text, 1).await;
    let rehearsal = rehearsal.unwrap();
    assert_eq!(rehearsal.runs[0].logs[0].message, "[secret:token]");
}

async fn a_rehearsal_shows_nobody_what_a_plugin_with_wider_rights_kept_or_told(world: World) {
    let theatre = Theatre::new(world);
    theatre.teller_and_listener().await;
    theatre.contact("one").await;
    theatre.dispatch().await;
    let hears = "name = 'hearer'\nversion = '1.0.0'\ndescription = 'hear'\n\
        triggers = ['actor.told']\n";
    let grants = "[[grants]]\nmodule = 'contacts'\nactions = ['read']\n";
    let keeps = format!("{KEEPS}{grants}");
    let keeps = theatre.install_manifest("keep", &keeps).await;
    assert_eq!(keeps.manifest.name.as_str(), "actor");
    theatre.contact("two").await;
    theatre.dispatch().await;

    for (permissions, kept, told) in [
        (&["plugins.*", "contacts.read", "deals.read"][..], true, 1),
        (&["plugins.*", "contacts.read"], true, 0),
        (&["plugins.*", "contacts.read:own"], false, 0),
        (&["plugins.*"], false, 0),
    ] {
        let member = theatre.member_with(permissions).await;
        let heard = theatre.rehearse(member, hears, 10).await.unwrap();
        assert_eq!(heard.runs.len(), told, "{permissions:?}: {heard:?}");
        assert_eq!(heard.withheld, told == 0);
        let found = theatre.rehearse(member, &keeper("keep"), 1).await.unwrap();
        let message = &found.runs[0].logs[0].message;
        let seen = message.starts_with("Some(");
        assert_eq!(seen, kept, "{permissions:?}: {message}");
        assert_eq!(found.withheld, !kept);
    }
}

async fn a_rehearsal_names_what_it_cannot_rehearse(world: World) {
    let theatre = Theatre::new(world);
    theatre.contact("one").await;
    let text = "name = 'actor'\nversion = '1.0.0'\ndescription = 'read'\n\
        [[triggers]]\ncron = 'nightly'\nschedule = '0 3 * * *'\n\
        [[triggers]]\nwebhook = 'payments'\n\
        [[triggers]]\naction = 'rescore'\nmodule = 'contacts'\nlabel = 'Score again'\n";
    let text = &text.replacen("description", "jobs = ['later']\ndescription", 1);
    let rehearsal = theatre.rehearse(theatre.world.admin, text, 10).await;
    let rehearsal = rehearsal.unwrap();
    assert_eq!((rehearsal.events, rehearsal.runs.len()), (1, 0));
    let named = [
        "cron nightly",
        "webhook payments",
        "action rescore",
        "job later",
    ];
    assert_eq!(rehearsal.not_rehearsed, named);
}
