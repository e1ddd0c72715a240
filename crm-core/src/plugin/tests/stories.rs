//! What a run tells of who caused it and what it was about, and to whom it tells what it was given.

use super::timers::run_due;
use super::*;
use crate::plugin::story::Withheld;

on_both_databases! {
    a_run_tells_who_caused_it_and_which_record_it_is_about
    runs_are_found_by_the_record_they_are_about
    a_story_is_for_those_who_read_all_that_the_run_could_have_met
    values_in_an_answer_are_for_those_who_read_all_that_the_run_could_have_met
    what_another_plugin_told_is_for_those_who_read_every_module
    what_another_plugin_told_is_so_also_where_it_was_handed_on
    a_story_that_is_not_kept_or_not_to_be_judged_is_withheld
}

const MANY: &str = "triggers = ['contact.created', 'deal.created', \
    { cron = 'nightly', schedule = '0 3 * * *' }, { webhook = 'orders', auth = 'api_key' }, \
    { action = 'greet', module = 'contacts', label = 'Greet' }]\njobs = ['later']\n\
    [[grants]]\nmodule = 'contacts'\nactions = ['read']\n\
    [[grants]]\nmodule = 'deals'\nactions = ['create', 'read']\n";

/// What a run tells of its occasion.
fn told(run: &Run) -> (&str, Option<&str>, Option<&str>, Option<RecordId>) {
    let (caused_by, module) = (run.caused_by.as_deref(), run.module.as_deref());
    (&run.trigger, caused_by, module, run.record_id)
}

async fn a_run_tells_who_caused_it_and_which_record_it_is_about(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("make", MANY).await;
    let admin = theatre.world.admin;
    let (user, itself) = (format!("user:{admin}"), format!("plugin:{}", plugin.id));
    let contact = theatre.contact("one").await;
    theatre.dispatch().await;
    let run = theatre.runs(&plugin).await.remove(0);
    let (contacts, deals) = (Some("contacts"), Some("deals"));
    let created = ("contact.created", Some(&*user), contacts, Some(contact));
    assert_eq!(told(&run), created);
    assert!(run.event_id.is_some());

    theatre.ask(admin, Targets::One(contact)).await.unwrap();
    let run = theatre.runs(&plugin).await.remove(0);
    let asked = ("action greet", Some(&*user), contacts, Some(contact));
    assert_eq!(told(&run), asked);
    // The deal that it made wakes it, too.
    theatre.dispatch().await;
    let run = theatre.runs(&plugin).await.remove(0);
    let (trigger, caused_by, module, deal) = told(&run);
    let made = ("deal.created", Some(&*itself), deals);
    assert_eq!((trigger, caused_by, module), made);
    assert!(deal.is_some_and(|deal| deal != contact));

    theatre.order(admin, None).await.unwrap();
    theatre.handle().await;
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(told(&run), ("webhook orders", Some(&*user), None, None));
    theatre.wind("ticks").await;
    timers::run_due(&theatre.plugins).await.unwrap();
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(told(&run), ("cron nightly", Some("clock"), None, None));
    theatre.schedule(&plugin).await;
    timers::run_due(&theatre.plugins).await.unwrap();
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(told(&run), ("job later", Some(&*itself), None, None));

    let guard = theatre.judge("guard", "guard", "contacts.read").await;
    theatre.make("two").await.unwrap();
    let run = theatre.runs(&guard).await.remove(0);
    let judged = ("before contact.create", Some(&*user), contacts, None);
    assert_eq!(told(&run), judged);
}

async fn runs_are_found_by_the_record_they_are_about(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("read", MANY).await;
    let contact = theatre.contact("one").await;
    theatre.contact("two").await;
    theatre.dispatch().await;
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let found = async |module: Option<&str>, record_id| {
        let query = RunQuery {
            module: module.map(str::to_owned),
            record_id,
            ..RunQuery::default()
        };
        let page = theatre.plugins.runs(&permit, plugin.id, &query).await;
        page.unwrap().data.len()
    };
    assert_eq!(found(Some("contacts"), None).await, 2);
    assert_eq!(found(Some("deals"), None).await, 0);
    assert_eq!(found(None, Some(contact)).await, 1);
    assert_eq!(found(Some("contacts"), Some(contact)).await, 1);
    assert_eq!(found(Some("deals"), Some(contact)).await, 0);
}

impl Theatre {
    async fn story(&self, user: UserId, run: &Run) -> Result<RunStory, Withheld> {
        let permit = self.world.permit(user, OBJECT).await;
        let story = self.plugins.run_story(&permit, run.plugin_id, run.id);
        story.await.unwrap()
    }
}

async fn a_story_is_for_those_who_read_all_that_the_run_could_have_met(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("look", "contacts.read deals.read").await;
    let run = theatre.run_of_contact(&plugin).await;
    let admin = theatre.world.admin;
    let story = theatre.story(admin, &run).await.unwrap();
    assert_eq!(story.input["kind"], "event");
    assert_eq!(story.input["event"]["kind"], "contact.created");
    assert_eq!(story.input["after"]["title"], "one", "{story:?}");
    let [call] = &*story.calls else {
        panic!("{story:?}");
    };
    assert_eq!(call.call["get"]["module"], "contacts");
    assert!(call.answer.to_string().contains("one"), "{call:?}");

    for (permissions, seen) in [
        (&["plugins.*", "contacts.read", "deals.read"][..], true),
        (&["plugins.read", "contacts.read", "deals.read"], false),
        (&["plugins.*", "contacts.read"], false),
        (&["plugins.*", "deals.read"], false),
        (&["plugins.*", "contacts.read:own", "deals.read"], false),
    ] {
        let member = theatre.member_with(permissions).await;
        let story = theatre.story(member, &run).await;
        assert_eq!(story.is_ok(), seen, "{permissions:?}");
        assert!(seen || story == Err(Withheld::Rights));
    }
}

async fn values_in_an_answer_are_for_those_who_read_all_that_the_run_could_have_met(world: World) {
    let theatre = Theatre::new(world);
    let guard = theatre.judge("guard", "guard", "contacts.read contacts.create");
    let guard = guard.await;
    theatre.make("a loud one").await.unwrap();
    let amended = theatre.runs(&guard).await.remove(0);
    theatre.make("bad").await.unwrap_err();
    let rejected = theatre.runs(&guard).await.remove(0);
    for (permissions, seen) in [
        (&["plugins.*", "contacts.read"][..], true),
        (&["plugins.read", "contacts.read"], false),
        (&["plugins.*", "contacts.read:own"], false),
    ] {
        let member = theatre.member_with(permissions).await;
        let permit = theatre.world.permit(member, OBJECT).await;
        let answer = async |run: &Run| {
            let answer = theatre.plugins.run_answer(&permit, guard.id, run.id).await;
            answer.unwrap().unwrap()
        };
        let amend = answer(&amended).await;
        assert_eq!(amend["kind"], "amend");
        assert_eq!(amend.get("fields").is_some(), seen, "{permissions:?}");
        // Why it rejects, its caller was told.
        assert_eq!(answer(&rejected).await["code"], "bad");
    }
}

async fn what_another_plugin_told_is_for_those_who_read_every_module(world: World) {
    let theatre = Theatre::new(world);
    let (_, listener) = theatre.teller_and_listener().await;
    theatre.contact("one").await;
    theatre.dispatch().await;
    let run = theatre.runs(&listener).await.remove(0);
    for (permissions, seen) in [
        (&["plugins.*", "contacts.read", "deals.read"][..], true),
        (&["plugins.*", "contacts.read"], false),
        (&["plugins.*", "deals.read"], false),
        (&["plugins.*"], false),
    ] {
        let member = theatre.member_with(permissions).await;
        let story = theatre.story(member, &run).await;
        assert_eq!(story.is_ok(), seen, "{permissions:?}");
        assert!(seen || story == Err(Withheld::Rights));
    }
}

/// The next run knows of it by the payload of a job.
async fn what_another_plugin_told_is_so_also_where_it_was_handed_on(world: World) {
    let theatre = Theatre::new(world);
    theatre.teller_and_listener().await;
    let text = "name = 'listener'\nversion = '1.1.0'\ndescription = 'pass on'\n\
        triggers = ['actor.told']\njobs = ['later']\n";
    let admin = theatre.world.admin;
    let listener = theatre.try_upload(admin, text).await.unwrap();
    theatre.enable(admin, &listener).await;
    theatre.contact("one").await;
    theatre.dispatch().await;
    theatre.wind("jobs").await;
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 1);
    let run = theatre.runs(&listener).await.remove(0);
    assert_eq!(run.trigger, "job later");
    for (permissions, seen) in [
        (&["plugins.*", "contacts.read", "deals.read"][..], true),
        (&["plugins.*"], false),
    ] {
        let member = theatre.member_with(permissions).await;
        let story = theatre.story(member, &run).await;
        assert_eq!(story.is_ok(), seen, "{permissions:?}");
    }
}

async fn a_story_that_is_not_kept_or_not_to_be_judged_is_withheld(world: World) {
    let theatre = Theatre::new(world);
    let first = theatre.install("read", "contacts.read").await;
    let run = theatre.run_of_contact(&first).await;
    let admin = theatre.world.admin;
    let forget = Sql::new("DELETE FROM plugin_run_details");
    theatre.world.execute(forget).await;
    let withheld = theatre.story(admin, &run).await;
    assert_eq!(withheld, Err(Withheld::NotKept));

    let second = theatre.upload("list", "contacts.read").await;
    theatre.enable(admin, &second).await;
    let delete = theatre.world.permit(admin, OBJECT).await;
    let sha256 = sha256(&first);
    let deleted = theatre.plugins.delete_version(&delete, first.id, &sha256);
    deleted.await.unwrap();
    let withheld = theatre.story(admin, &run).await;
    assert_eq!(withheld, Err(Withheld::VersionGone));
}
