//! What plugins do when somebody asks for it: for whom, on which records, and what it answers.

use super::*;
use crate::record::{Answered, Filter, Once};

on_both_databases! {
    an_action_runs_at_once_and_answers_with_its_run
    a_replay_that_answers_something_else_is_not_identical
    an_action_with_a_key_is_run_once
    an_action_that_could_not_be_run_leaves_its_key_free
    an_action_does_no_more_than_its_caller_may
    an_action_is_not_asked_for_on_what_one_may_not_see
    what_an_action_brings_on_stops_the_plugin_for_nobody
    an_action_takes_what_its_manifest_says
    actions_that_cannot_be_offered_are_refused_at_the_upload
}

pub(super) const GREET: &str = "[[triggers]]\naction = 'greet'\nmodule = 'contacts'\nlabel = 'Greet'\n\
    [[grants]]\nmodule = 'deals'\nactions = ['create']\n";

impl Theatre {
    pub(super) async fn ask(&self, user: UserId, on: Targets) -> Result<Acted> {
        self.ask_with(user, on, json!({})).await
    }

    async fn ask_with(&self, user: UserId, on: Targets, input: serde_json::Value) -> Result<Acted> {
        match self.ask_once(user, on, input, None).await? {
            Answered::Now(acted) => Ok(acted),
            answered => panic!("there was no key, but {answered:?}"),
        }
    }

    async fn ask_once(
        &self,
        user: UserId,
        on: Targets,
        input: serde_json::Value,
        key: Option<(&str, &str)>,
    ) -> Result<Answered<Acted>> {
        let scope = self.world.scope(user).await;
        let ask = Ask {
            plugin: "actor".to_owned(),
            action: "greet".to_owned(),
            on,
            input: input.as_object().unwrap().clone(),
            once: key.map(|(key, body)| {
                Once::new(&scope, key, [b"", b"", b"", body.as_bytes()]).unwrap()
            }),
        };
        let (run, read) = (scope.permit("plugin_runs")?, scope.permit("contacts")?);
        self.plugins.act(&run, &read, ask).await
    }

    fn titled(&self, title: &str) -> Targets {
        let registry = self.world.crm.registry();
        let filter = Map::from_iter([("title".to_owned(), json!(title))]);
        let contacts = registry.get("contacts").unwrap();
        Targets::Matching(Filter::from_json(contacts, &filter).unwrap())
    }
}

async fn an_action_runs_at_once_and_answers_with_its_run(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("make", GREET).await;
    let admin = theatre.world.admin;
    let contact = theatre.contact("one").await;
    let acted = theatre.ask(admin, Targets::One(contact)).await.unwrap();
    assert_eq!(acted.outcome, Outcome::Succeeded, "{acted:?}");
    let answer = acted.answer.unwrap();
    for part in [
        "greet",
        "contacts",
        &contact.to_string(),
        &format!("user:{admin}"),
    ] {
        assert!(answer["said"].as_str().unwrap().contains(part), "{answer}");
    }
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!((run.id, &*run.trigger), (acted.run, "action greet"));
    let permit = theatre.world.permit(admin, OBJECT).await;
    let replay = theatre.plugins.replay(&permit, plugin.id, run.id).await;
    assert!(replay.unwrap().identical);

    let other = theatre.contact("two").await;
    let some = Targets::Some(vec![contact, other]);
    let answer = theatre.ask(admin, some).await.unwrap().answer.unwrap();
    assert!(
        answer["said"]
            .as_str()
            .unwrap()
            .contains(&other.to_string())
    );
    let matching = theatre.titled("two");
    let answer = theatre.ask(admin, matching).await.unwrap().answer.unwrap();
    assert!(
        !answer["said"]
            .as_str()
            .unwrap()
            .contains(&contact.to_string())
    );

    theatre.plugins.disable(&permit, plugin.id).await.unwrap();
    let off = theatre.ask(admin, Targets::One(contact)).await;
    assert_eq!(refusal(off), "plugin_disabled");
}

async fn a_replay_that_answers_something_else_is_not_identical(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("sway", GREET).await;
    let admin = theatre.world.admin;
    let contact = theatre.contact("one").await;
    let acted = theatre.ask(admin, Targets::One(contact)).await.unwrap();
    let answer = json!({"kind": "action", "answer": acted.answer});
    for moody in [false, true] {
        theatre.stage.moody.store(moody, Ordering::SeqCst);
        let permit = theatre.world.permit(admin, OBJECT).await;
        let replay = theatre.plugins.replay(&permit, plugin.id, acted.run).await;
        let replay = replay.unwrap();
        assert_eq!(replay.identical, !moody, "{replay:?}");
        assert_eq!(replay.answer.as_ref() == Some(&answer), !moody);
    }
}

async fn an_action_with_a_key_is_run_once(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("make", GREET).await;
    let admin = theatre.world.admin;
    let contact = theatre.contact("one").await;
    let ask = async |user, body| {
        let key = Some(("k", body));
        let answered = theatre.ask_once(user, Targets::One(contact), json!({}), key);
        answered.await.unwrap()
    };
    let Answered::Now(acted) = ask(admin, "").await else {
        panic!("it was asked for before");
    };
    assert_eq!(ask(admin, "").await, Answered::Before(acted));
    assert_eq!(ask(admin, "other").await, Answered::KeyReused);
    assert_eq!(theatre.runs(&plugin).await.len(), 1);
    let deals = theatre.count("SELECT count(*) FROM deals").await;
    assert_eq!(deals, 1, "and wrote once");
    let other = theatre
        .member_with(&["contacts.read", "plugin_runs.create", "deals.create"])
        .await;
    assert!(
        matches!(ask(other, "").await, Answered::Now(_)),
        "a key of one's own"
    );

    // As a process that was killed leaves it.
    let open = Sql::new("UPDATE idempotency_keys SET status = NULL");
    theatre.world.execute(open).await;
    assert_eq!(ask(admin, "").await, Answered::UnderWay);
    let age = Sql::new("UPDATE idempotency_keys SET created_at = $1")
        .bind(DateTime::UNIX_EPOCH, ColumnType::Instant);
    theatre.world.execute(age).await;
    assert!(matches!(ask(admin, "").await, Answered::Now(_)));
}

async fn an_action_that_could_not_be_run_leaves_its_key_free(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("make", GREET).await;
    let admin = theatre.world.admin;
    let contact = theatre.contact("one").await;
    let installer = theatre.member_with(&["plugins.*", "contacts.read"]).await;
    theatre.enable(installer, &plugin).await;
    let ask = async || {
        let key = Some(("k", ""));
        let answered = theatre.ask_once(admin, Targets::One(contact), json!({}), key);
        match answered.await.unwrap() {
            Answered::Now(acted) => acted.outcome,
            answered => panic!("{answered:?}"),
        }
    };
    assert_eq!(ask().await, Outcome::Refused);
    theatre.enable(admin, &plugin).await;
    assert_eq!(ask().await, Outcome::Succeeded);
}

async fn an_action_does_no_more_than_its_caller_may(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("make", GREET).await;
    let contact = theatre.contact("one").await;
    let reader = theatre.member_with(&["contacts.read"]).await;
    let refused = theatre.ask(reader, Targets::One(contact)).await;
    assert_eq!(missing(refused), "plugin_runs.create");
    let runner = theatre.member_with(&["plugin_runs.create"]).await;
    let refused = theatre.ask(runner, Targets::One(contact)).await;
    assert_eq!(missing(refused), "contacts.read");
    let caller = theatre
        .member_with(&["contacts.read", "plugin_runs.create"])
        .await;
    let acted = theatre.ask(caller, Targets::One(contact)).await.unwrap();
    assert_eq!(
        acted.error.as_deref(),
        Some("you lack the permission deals.create")
    );
    let able = theatre
        .member_with(&["contacts.read", "plugin_runs.create", "deals.create"])
        .await;
    let acted = theatre.ask(able, Targets::One(contact)).await.unwrap();
    assert_eq!(acted.outcome, Outcome::Succeeded, "{acted:?}");

    // Nor more than whoever enabled it may.
    let installer = theatre.member_with(&["plugins.*", "contacts.read"]).await;
    theatre.enable(installer, &plugin).await;
    let acted = theatre.ask(able, Targets::One(contact)).await.unwrap();
    assert_eq!(acted.outcome, Outcome::Refused, "{acted:?}");
}

async fn an_action_is_not_asked_for_on_what_one_may_not_see(world: World) {
    let theatre = Theatre::new(world);
    theatre.install_manifest("show", GREET).await;
    let foreign = theatre.contact("one").await;
    let user = theatre
        .member_with(&["contacts.create", "contacts.read:own", "plugin_runs.create"])
        .await;
    let permit = theatre.world.permit(user, "contacts").await;
    let body = Map::from_iter([("title".to_owned(), json!("one"))]);
    let records = theatre.world.crm.records();
    let own = records.create(&permit, body).await.unwrap().id;
    theatre.ask(user, Targets::One(own)).await.unwrap();
    let refused = theatre.ask(user, Targets::One(foreign)).await;
    assert_eq!(refusal(refused), "not_found");
    let Err(Error::Invalid(refused)) = theatre.ask(user, Targets::Some(vec![own, foreign])).await
    else {
        panic!("it is seen");
    };
    assert_eq!(
        (&*refused[0].pointer, refused[0].code),
        ("/ids/1", "not_found")
    );
    let matching = theatre.titled("one");
    let acted = theatre.ask(user, matching).await.unwrap();
    let said = acted.answer.unwrap()["said"].to_string();
    assert!(said.contains(&own.to_string()) && !said.contains(&foreign.to_string()));
    let none = theatre.ask(user, theatre.titled("nobody")).await;
    assert_eq!(refusal(none), "no_match");
    for ids in [Vec::new(), vec![own; 101]] {
        let refused = theatre.ask(user, Targets::Some(ids)).await;
        assert_eq!(refusal(refused), "validation_failed");
    }
    for _ in 0..101 {
        theatre.contact("many").await;
    }
    let many = theatre.titled("many");
    let refused = theatre.ask(theatre.world.admin, many).await;
    assert_eq!(refusal(refused), "too_many_matches");
}

async fn what_an_action_brings_on_stops_the_plugin_for_nobody(world: World) {
    let theatre = Theatre::new(world);
    let admin = theatre.world.admin;
    let plugin = theatre.install_manifest("refuse", GREET).await;
    let contact = theatre.contact("one").await;
    let status = async || {
        let permit = theatre.world.permit(admin, OBJECT).await;
        theatre
            .plugins
            .get(&permit, plugin.id)
            .await
            .unwrap()
            .status
    };
    for _ in 0..21 {
        let acted = theatre.ask(admin, Targets::One(contact)).await.unwrap();
        assert_eq!(acted.outcome, Outcome::Failed);
        assert_eq!(acted.error.as_deref(), Some("not today"));
    }
    assert_eq!(status().await, PluginStatus::Enabled);
    theatre.install_manifest("crash", GREET).await;
    for _ in 0..20 {
        let acted = theatre.ask(admin, Targets::One(contact)).await.unwrap();
        assert_eq!(acted.outcome, Outcome::Trapped);
    }
    let status = status().await;
    assert_eq!(
        status,
        PluginStatus::Enabled,
        "who asks stops it for nobody"
    );
}

async fn an_action_takes_what_its_manifest_says(world: World) {
    let theatre = Theatre::new(world);
    let admin = theatre.world.admin;
    let rest = "[[triggers]]\naction = 'greet'\nmodule = 'contacts'\n\
        input = { required = ['words'], properties = { words = { type = 'string' } } }\n";
    theatre.install_manifest("show", rest).await;
    let on = Targets::One(theatre.contact("one").await);
    let input = json!({"words": "hello"});
    let acted = theatre.ask_with(admin, on.clone(), input).await.unwrap();
    assert!(acted.answer.unwrap()["said"].to_string().contains("hello"));
    for input in [
        json!({}),
        json!({"words": 1}),
        json!({"words": "x", "colour": "red"}),
    ] {
        let refused = theatre.ask_with(admin, on.clone(), input).await;
        assert_eq!(refusal(refused), "validation_failed");
    }
    let huge = json!({"words": "x".repeat(32 * 1024)});
    let refused = theatre.ask_with(admin, on, huge).await;
    assert_eq!(refusal(refused), "validation_failed");
}

async fn actions_that_cannot_be_offered_are_refused_at_the_upload(world: World) {
    let theatre = Theatre::new(world);
    for (table, part) in [
        ("action = 'greet'", "names no `module`"),
        ("action = 'greet'\nmodule = 'moons'", "no module moons"),
        (
            "action = 'greet'\nmodule = 'contacts'\ninput = { oneOf = [] }",
            "`oneOf`",
        ),
    ] {
        let text = component("show", "", "contact.created").replace(
            "triggers = ['contact.created']\n",
            &format!("[[triggers]]\n{table}\n"),
        );
        let refused = theatre.try_upload(theatre.world.admin, &text).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(part), "{refused}");
    }
}
