//! What hooks promise: one chain inside the transaction, run by every door.

use super::*;
use crm_core::event::ChangeKind;
use crm_core::record::{Expected, Once, Reply, When, Work, Write};
use crm_core::transfer::{Format, ImportMode, ImportOptions};
use crm_core::{Module, Refusal};
use serde::{Deserialize, Serialize};

on_both_databases!(
    before_hooks_change_the_record_in_the_order_of_their_registration,
    what_a_hook_sets_obeys_the_rules_of_the_field_and_of_the_machine,
    a_refusal_carries_code_and_field_and_nothing_is_written,
    after_hooks_write_other_records_in_the_same_transaction,
    an_error_after_the_write_takes_everything_back,
    hooks_that_cause_each_other_without_an_end_are_stopped,
    a_hook_around_the_write_sees_both_sides_and_must_call_the_next,
    a_hook_may_go_on_without_what_failed_but_not_without_the_write,
    a_panic_in_a_hook_is_an_internal_error_and_the_database_goes_on,
    an_update_that_changes_nothing_runs_no_hooks,
    a_delete_is_refused_or_followed_by_hooks,
    every_door_runs_the_hooks,
    a_hook_writes_with_the_rights_of_the_caller_unless_it_says_otherwise,
    a_hook_on_a_module_that_is_not_declared_is_refused,
);

#[derive(Debug, Serialize, Deserialize, Module)]
#[module(name = "offers", singular = "offer", with = machines)]
struct Offer {
    title: String,
    #[field(unique)]
    code: Option<String>,
    #[field(min = 0)]
    amount: Option<i64>,
    #[field(values = ["open", "sent", "closed"], default = "open")]
    state: String,
    #[field(default = [])]
    trail: Vec<String>,
}

fn machines(spec: ModuleSpec) -> ModuleSpec {
    let toml = r#"
        field = "state"
        edges = { open = ["sent"], sent = ["closed"] }
    "#;
    ModuleSpec {
        machines: vec![toml::from_str(toml).unwrap_or_else(|error| panic!("{error}"))],
        ..spec
    }
}

async fn open(
    backend: Backend,
    hooks: impl FnOnce(crm_core::Builder) -> crm_core::Builder,
) -> anyhow::Result<Fixture> {
    Fixture::built(backend, |builder| hooks(builder.module::<Offer>())).await
}

fn text(record: &Record, field: &str) -> String {
    serde_json::to_value(record.get(field))
        .unwrap_or_default()
        .to_string()
}

/// How many records, audit rows and events there are.
async fn counts(it: &Fixture, module: &str) -> anyhow::Result<(u64, usize)> {
    let permit = it.operator().permit::<Read>(module)?;
    let total = it.crm.records().count(&permit, &Query::default()).await?;
    Ok((total.count, it.audit().await?.len()))
}

async fn before_hooks_change_the_record_in_the_order_of_their_registration(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend, |builder| {
        builder
            .after_create::<Offer, _>(|cx, offer| {
                Box::pin(async move {
                    // After all of them, wherever it was registered.
                    let version = cx.record().map(|record| record.version);
                    assert_eq!(
                        (offer.trail.join(","), version),
                        ("a,first,second".into(), Some(1))
                    );
                    Ok(())
                })
            })
            .before_create::<Offer, _>(|_, offer| {
                Box::pin(async move {
                    offer.trail.push("first".into());
                    Ok(())
                })
            })
            .hook("offers", When::Before, ChangeKind::Created, |cx| {
                Box::pin(async move {
                    let mut offer: Offer = cx.record_as()?.ok_or(Error::NotFound)?;
                    offer.trail.push("second".into());
                    cx.set("trail", json!(offer.trail))?;
                    assert!(cx.old().is_none() && cx.changes("title"));
                    cx.set("title", "  set by a hook ")
                })
            })
    })
    .await?;
    let made = it
        .create(
            &it.operator(),
            "offers",
            json!({"title": "x", "trail": ["a"]}),
        )
        .await?;
    let stored = it.get(&it.operator(), "offers", made.id).await?;
    assert_eq!(stored.to_json(), made.to_json());
    assert_eq!(text(&made, "trail"), r#"["a","first","second"]"#);
    assert_eq!(text(&made, "title"), r#""set by a hook""#);
    let entry = it.audit().await?.into_iter().next().context("an entry")?;
    let after = entry.after.context("the record")?;
    assert_eq!(after["title"], "set by a hook");
    Ok(())
}

async fn what_a_hook_sets_obeys_the_rules_of_the_field_and_of_the_machine(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend, |builder| {
        builder.before_update::<Offer, _>(|cx, offer| {
            Box::pin(async move {
                match offer.title.as_str() {
                    "negative" => offer.amount = Some(-1),
                    "closes" => offer.state = "closed".into(),
                    "sends" => offer.state = "sent".into(),
                    "nameless" => return cx.set("title", Json::Null),
                    _ => {}
                }
                Ok(())
            })
        })
    })
    .await?;
    let scope = it.operator();
    let made = it.create(&scope, "offers", json!({"title": "x"})).await?;
    let code_of = async |title: &str| {
        let changed = it
            .update(&scope, &made, None, json!({"title": title}))
            .await;
        match changed {
            Err(Error::Invalid(fields)) => format!("{} {}", fields[0].pointer, fields[0].code),
            other => code(other).to_owned(),
        }
    };
    assert_eq!(code_of("negative").await, "/amount out_of_range");
    assert_eq!(code_of("closes").await, "invalid_transition");
    assert_eq!(code_of("nameless").await, "/title required");
    assert_eq!(it.get(&scope, "offers", made.id).await?.version, 1);
    assert_eq!(code_of("sends").await, "ok");
    let stored = it.get(&scope, "offers", made.id).await?;
    assert_eq!(
        (text(&stored, "state"), stored.version),
        ("\"sent\"".into(), 2)
    );
    Ok(())
}

async fn a_refusal_carries_code_and_field_and_nothing_is_written(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend, |builder| {
        builder.before_create::<Offer, _>(|_, offer| {
            Box::pin(async move {
                match offer.amount {
                    Some(13) => Err(Refusal::conflict("unlucky", "choose another").on("amount"))?,
                    _ => Ok(()),
                }
            })
        })
    })
    .await?;
    let before = counts(&it, "offers").await?;
    let refused = it
        .create(
            &it.operator(),
            "offers",
            json!({"title": "x", "amount": 13}),
        )
        .await;
    let Err(Error::Refused(refusal)) = refused else {
        anyhow::bail!("{refused:?}");
    };
    let field = refusal.field().context("the field")?;
    assert_eq!(
        (refusal.code(), field.pointer.as_str()),
        ("unlucky", "/amount")
    );
    assert_eq!(counts(&it, "offers").await?, before);
    Ok(())
}

/// Every offer leaves a note about itself.
fn noted(builder: crm_core::Builder) -> crm_core::Builder {
    builder.after_create::<Offer, _>(|cx, offer| {
        Box::pin(async move {
            let permit = cx.scope().permit::<Create>("things")?;
            let thing = cx
                .create(&permit, body(json!({"title": offer.title})))
                .await?;
            // The transaction sees what it wrote.
            let read = cx.scope().permit::<Read>("things")?;
            assert_eq!(cx.get(&read, thing.id).await?.to_json(), thing.to_json());
            let module = cx
                .scope()
                .module("things")
                .cloned()
                .ok_or(Error::NotFound)?;
            let filter = Filter::from_json(&module, &body(json!({"title": {"eq": offer.title}})));
            let filter = filter.map_err(Error::Invalid)?;
            assert_eq!(cx.matching(&read, &filter).await?.len(), 1);
            if offer.amount == Some(500) {
                return Err(Error::internal("too late"));
            }
            Ok(())
        })
    })
}

async fn after_hooks_write_other_records_in_the_same_transaction(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend, noted).await?;
    let (user, _) = it.member("admin").await?;
    it.create(&user, "offers", json!({"title": "One"})).await?;
    assert_eq!(counts(&it, "things").await?.0, 1);
    let audit = it.audit().await?;
    let told = |at: usize| (audit[at].action.clone(), audit[at].actor.clone());
    let actor = user.actor().to_string();
    assert_eq!(told(0), ("things.create".into(), actor.clone()));
    assert_eq!(told(1), ("offers.create".into(), actor));
    Ok(())
}

async fn an_error_after_the_write_takes_everything_back(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend, noted).await?;
    let (offers, things) = (counts(&it, "offers").await?, counts(&it, "things").await?);
    let input = json!({"title": "One", "amount": 500});
    assert_eq!(
        code(it.create(&it.operator(), "offers", input).await),
        "internal"
    );
    assert_eq!(
        (counts(&it, "offers").await?, counts(&it, "things").await?),
        (offers, things)
    );
    Ok(())
}

async fn hooks_that_cause_each_other_without_an_end_are_stopped(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend, |builder| {
        builder.after_create::<Offer, _>(|cx, _| {
            Box::pin(async move {
                let permit = cx.scope().permit::<Create>("offers")?;
                cx.create(&permit, body(json!({"title": "again"}))).await?;
                Ok(())
            })
        })
    })
    .await?;
    let before = counts(&it, "offers").await?;
    let stopped = it
        .create(&it.operator(), "offers", json!({"title": "x"}))
        .await;
    assert_eq!(code(stopped), "hooks_too_deep");
    assert_eq!(counts(&it, "offers").await?, before);
    Ok(())
}

async fn a_hook_around_the_write_sees_both_sides_and_must_call_the_next(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend, |builder| {
        builder.around("offers", ChangeKind::Updated, |cx, next| {
            Box::pin(async move {
                if cx
                    .record_as::<Offer>()?
                    .is_some_and(|offer| offer.title == "forgets")
                {
                    return Ok(());
                }
                let old = cx.old().map(|old| old.version);
                next.run(cx).await?;
                assert_eq!(
                    (old, cx.record().map(|new| new.version)),
                    (Some(1), Some(2))
                );
                assert_eq!(
                    cx.set("title", "late").map_err(|error| error.code()),
                    Err("internal")
                );
                Ok(())
            })
        })
    })
    .await?;
    let scope = it.operator();
    let made = it.create(&scope, "offers", json!({"title": "x"})).await?;
    let forgot = it
        .update(&scope, &made, None, json!({"title": "forgets"}))
        .await;
    assert_eq!(code(forgot), "internal");
    it.update(&scope, &made, None, json!({"title": "y"}))
        .await?;
    Ok(())
}

async fn a_panic_in_a_hook_is_an_internal_error_and_the_database_goes_on(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend, |builder| {
        builder.before_create::<Offer, _>(|_, offer| {
            Box::pin(async move {
                assert_ne!(offer.title, "panics");
                Ok(())
            })
        })
    })
    .await?;
    let scope = it.operator();
    let before = counts(&it, "offers").await?;
    let panicked = it
        .create(&scope, "offers", json!({"title": "panics"}))
        .await;
    assert_eq!(code(panicked), "internal");
    assert_eq!(counts(&it, "offers").await?, before);
    it.create(&scope, "offers", json!({"title": "goes on"}))
        .await?;
    Ok(())
}

async fn an_update_that_changes_nothing_runs_no_hooks(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend, |builder| {
        builder
            .before_update::<Offer, _>(|_, offer| {
                Box::pin(async move {
                    // Takes back what was asked for.
                    offer.amount = None;
                    match offer.title.as_str() {
                        "same" => Ok(()),
                        _ => Err(Refusal::invalid("called", "it was called").into()),
                    }
                })
            })
            .after_update::<Offer, _>(|_, _| {
                Box::pin(async { Err(Refusal::invalid("after", "nothing was written").into()) })
            })
    })
    .await?;
    let scope = it.operator();
    let made = it
        .create(&scope, "offers", json!({"title": "same"}))
        .await?;
    let entries = it.audit().await?.len();
    it.update(&scope, &made, None, json!({"title": "same"}))
        .await?;
    let same = it.update(&scope, &made, None, json!({"amount": 7})).await?;
    assert_eq!((same.version, it.audit().await?.len()), (1, entries));
    let called = it
        .update(&scope, &made, None, json!({"title": "other"}))
        .await;
    assert_eq!(code(called), "called");
    Ok(())
}

async fn a_delete_is_refused_or_followed_by_hooks(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend, |builder| {
        builder
            .before_delete::<Offer, _>(|_, offer| {
                Box::pin(async move {
                    match offer.state.as_str() {
                        "sent" => Err(Refusal::forbidden("is_sent", "it is out").into()),
                        _ => Ok(()),
                    }
                })
            })
            .after_delete::<Offer, _>(|cx, offer| {
                Box::pin(async move {
                    let permit = cx.system().permit::<Create>("things")?;
                    cx.create(&permit, body(json!({"title": offer.title})))
                        .await?;
                    Ok(())
                })
            })
    })
    .await?;
    let scope = it.operator();
    let made = it
        .create(&scope, "offers", json!({"title": "x", "state": "sent"}))
        .await?;
    assert_eq!(code(it.delete(&scope, &made).await), "is_sent");
    let made = it
        .create(&scope, "offers", json!({"title": "gone"}))
        .await?;
    it.delete(&scope, &made).await?;
    assert_eq!(code(it.get(&scope, "offers", made.id).await), "not_found");
    assert_eq!(counts(&it, "things").await?.0, 1);
    Ok(())
}

async fn every_door_runs_the_hooks(backend: Backend) -> anyhow::Result<()> {
    let mark =
        |offer: &mut Offer, mark: &str| offer.trail.push(format!("{mark} {}", offer.trail.len()));
    let it = open(backend, |builder| {
        builder
            .before_create::<Offer, _>(move |_, offer| {
                Box::pin(async move {
                    if offer.amount == Some(13) {
                        return Err(Refusal::invalid("unlucky", "not this").on("amount").into());
                    }
                    mark(offer, "created");
                    Ok(())
                })
            })
            .before_update::<Offer, _>(move |_, offer| {
                Box::pin(async move {
                    mark(offer, "updated");
                    Ok(())
                })
            })
    })
    .await?;
    let (scope, records) = (it.operator(), it.crm.records());
    let (create, update) = (
        scope.permit::<Create>("offers")?,
        scope.permit::<Update>("offers")?,
    );
    for title in ["a", "b"] {
        let sent = body(json!({"title": title, "code": "upsert"}));
        records.upsert(&create, &update, "code", sent).await?;
    }
    let writes = vec![
        Write::create(&create, body(json!({"title": "c", "code": "batch"}))),
        Write::create(&create, body(json!({"title": "d", "amount": 13}))),
    ];
    let reply = |outcomes: Vec<crm_core::Result<_>>| {
        let codes: Vec<_> = outcomes.into_iter().map(code).collect();
        assert_eq!(codes, ["ok", "unlucky"]);
        Ok(Reply {
            status: 200,
            record: None,
            body: None,
        })
    };
    records
        .perform(&scope, Work::Each(writes), None::<Once>, reply)
        .await?;

    let lines = "title,code,amount\ne,upsert,\nf,import,\ng,no,13\nh,last,-1\n";
    let options = |dry_run| ImportOptions {
        mode: ImportMode::Upsert,
        key: Some("code".into()),
        dry_run,
        ..ImportOptions::new(Format::Csv)
    };
    for dry_run in [true, false] {
        let transfer = it.crm.transfer();
        let mut upload = transfer.import(&scope, "offers", options(dry_run)).await?;
        upload.push(lines.as_bytes()).await?;
        let id = upload.finish().await?;
        it.crm.run_jobs_once().await?;
        let errors = it.crm.jobs().errors(&scope, id, 0, 10).await?;
        let told = errors
            .iter()
            .map(|one| format!("{} {}{}", one.line, one.pointer, one.code));
        let told: Vec<_> = told.collect();
        assert_eq!(
            told,
            ["4 /amountunlucky", "5 /amountout_of_range"],
            "dry run: {dry_run}"
        );
    }

    let query = Query {
        sort: vec![Sort {
            field: Field::Id,
            direction: Direction::Ascending,
        }],
        ..Query::default()
    };
    let page = records
        .list(&scope.permit::<Read>("offers")?, &query)
        .await?;
    let told = page
        .data
        .iter()
        .map(|one| format!("{} {}", text(one, "code"), text(one, "trail")));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            r#""upsert" ["created 0","updated 1","updated 2"]"#,
            r#""batch" ["created 0"]"#,
            r#""import" ["created 0"]"#,
        ]
    );
    Ok(())
}

async fn a_hook_writes_with_the_rights_of_the_caller_unless_it_says_otherwise(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend, |builder| {
        builder.after_update::<Offer, _>(|cx, offer| {
            Box::pin(async move {
                let scope = match offer.title.as_str() {
                    "system" => cx.system(),
                    _ => cx.scope().clone(),
                };
                let id = cx.record().map(|record| record.id).ok_or(Error::NotFound)?;
                let permit = scope.permit::<Delete>("offers")?;
                cx.delete(&permit, id, Expected::Any).await
            })
        })
    })
    .await?;
    let permit = it.operator().permit::<Create>("roles")?;
    let role = crm_core::role::NewRole {
        name: "changer".into(),
        permissions: vec!["offers.read".into(), "offers.update".into()],
        ..Default::default()
    };
    it.crm.roles().create(&permit, role).await?;
    let (changer, _) = it.member("changer").await?;
    let made = it
        .create(&it.operator(), "offers", json!({"title": "x"}))
        .await?;
    let refused = it
        .update(&changer, &made, None, json!({"title": "own"}))
        .await;
    assert_eq!(code(refused), "forbidden");
    it.update(&changer, &made, None, json!({"title": "system"}))
        .await?;
    let gone = it.get(&it.operator(), "offers", made.id).await;
    assert_eq!(code(gone), "not_found");
    Ok(())
}

async fn a_hook_on_a_module_that_is_not_declared_is_refused(
    backend: Backend,
) -> anyhow::Result<()> {
    let refused = Fixture::built(backend, |builder| {
        builder.hook("ofers", When::After, ChangeKind::Created, |_| {
            Box::pin(async { Ok(()) })
        })
    })
    .await;
    let message = refused.err().context("a refusal")?.to_string();
    assert!(message.contains("\"ofers\""), "{message}");
    Ok(())
}

async fn a_hook_may_go_on_without_what_failed_but_not_without_the_write(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend, |builder| {
        builder
            .after_create::<Offer, _>(|cx, offer| {
                Box::pin(async move {
                    if offer.title != "first" {
                        return Ok(());
                    }
                    // The code is taken by the offer itself.
                    let permit = cx.scope().permit::<Create>("offers")?;
                    let twice = body(json!({"title": "second", "code": offer.code}));
                    assert!(cx.create(&permit, twice).await.is_err());
                    let permit = cx.scope().permit::<Create>("things")?;
                    cx.create(&permit, body(json!({"title": "goes on"})))
                        .await?;
                    Ok(())
                })
            })
            .around("offers", ChangeKind::Created, |cx, next| {
                Box::pin(async move {
                    // Hides every failure.
                    let _ = next.run(cx).await;
                    Ok(())
                })
            })
    })
    .await?;
    let scope = it.operator();
    let sent = || json!({"title": "first", "code": "A"});
    it.create(&scope, "offers", sent()).await?;
    let before = counts(&it, "offers").await?;
    assert_eq!((before.0, counts(&it, "things").await?.0), (1, 1));
    assert_eq!(code(it.create(&scope, "offers", sent()).await), "internal");
    assert_eq!(counts(&it, "offers").await?, before);
    Ok(())
}
