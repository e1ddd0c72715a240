//! Runs that were made on one host and are played again on another: with the same component, input,
//! clock, randomness and answers of the library, they log, answer and use the very same.

use std::time::Duration;

use anyhow::Result;
use crm_core::hook::Outcome;
use crm_core::id::RecordId;
use crm_core::on_both_databases;
use crm_core::plugin::{Acted, Ask, Targets};
use crm_core::record::Answered;
use crm_core::testing::Backend;
use crm_plugins::Limits;
use serde_json::{Map, json};

use super::end_to_end::Office;
use super::guest::{GET_AND_LOG, Guest, LOOP};

on_both_databases! {
    pl_runs_of_one_host_are_the_same_on_another,
    a_replay_has_the_fuel_that_its_run_had,
    a_run_that_the_clock_stopped_ends_there_in_its_replay,
}

/// Makes a word of random letters and one that the clock decides, logs the word that it kept last
/// time, and keeps and logs the new one.
const WORD: &str = "
    (call $bytes (i32.const 16) (i32.const 1024))
    (loop $on
        (i32.store8 (i32.add (i32.const 64) (local.get $n))
            (i32.add (i32.const 97) (i32.and
                (i32.load8_u (i32.add (i32.load (i32.const 1024)) (local.get $n))) (i32.const 15))))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $on (i32.lt_u (local.get $n) (i32.const 16))))
    (i32.store8 (i32.const 80) (i32.add (i32.const 97)
        (i32.wrap_i64 (i64.rem_u (call $now_millis) (i64.const 26)))))
    (call $kv_get (i32.const 2000) (i32.const 4) (i32.const 1024))
    (local.set $n (i32.load8_u (i32.const 1028)))
    (if (local.get $n) (then
        (call $log (i32.const 1) (i32.load (i32.const 1032)) (i32.load (i32.const 1036)))))
    (call $kv_set (i32.const 2000) (i32.const 4) (i32.const 64) (i32.const 17) (i32.const 1024))
    (if (i32.load8_u (i32.const 1024)) (then (unreachable)))
    (call $log (i32.const 1) (i32.const 64) (i32.const 17))";

/// Counts the records of the module; rejects with the word where none was kept before.
const JUDGE: &str = "
    (call $aggregate (local.get $module) (local.get $module_len)
        (i32.const 2010) (i32.const 22) (i32.const 1040))
    (call $log (i32.const 1) (i32.load (i32.const 1044)) (i32.load (i32.const 1048)))
    (if (result i32) (local.get $n)
        (then (i32.const 0))
        (else
            (i32.store8 (i32.const 516) (i32.const 2))
            (i32.store (i32.const 520) (local.get $module))
            (i32.store (i32.const 524) (local.get $module_len))
            (i32.store (i32.const 528) (i32.const 64))
            (i32.store (i32.const 532) (i32.const 17))
            (i32.const 512)))";

/// Answers with the first record that it was asked for on.
const SHOW: &str = "
    (call $get (local.get $module) (local.get $module_len)
        (i32.load (local.get $records)) (i32.load offset=4 (local.get $records))
        (i32.const 1024))
    (if (i32.load8_u (i32.const 1024)) (then (unreachable)))
    (call $to_json (i32.load (i32.const 1028)) (i32.load (i32.const 1032)) (i32.const 1040))
    (i32.store8 (i32.const 516) (i32.const 1))
    (i32.store (i32.const 520) (i32.load (i32.const 1040)))
    (i32.store (i32.const 524) (i32.load (i32.const 1044)))
    (i32.const 512)";

async fn act(office: &Office, id: RecordId) -> Result<Acted> {
    let ask = Ask {
        plugin: "probe".to_owned(),
        action: "rescore".to_owned(),
        on: Targets::One(id),
        input: Map::new(),
        once: None,
    };
    let (run, read) = (
        office.scope.permit("plugin_runs")?,
        office.scope.permit("contacts")?,
    );
    match office.plugins().act(&run, &read, ask).await? {
        Answered::Now(acted) => Ok(acted),
        before => panic!("it was asked for before: {before:?}"),
    }
}

async fn pl_runs_of_one_host_are_the_same_on_another(backend: Backend) -> Result<()> {
    let guest = Guest::new("handle", &format!("{WORD} {GET_AND_LOG}"))
        .and("before", &format!("{WORD} {JUDGE}"))
        .and("run", &format!("{WORD} {SHOW}"))
        .more(r#"(data (i32.const 2000) "seen") (data (i32.const 2010) "{\"metrics\": [\"count\"]}")"#);
    let office = Office::open(backend, Limits::default()).await?;
    let plugin = office.install(guest.component()).await?;
    let rejected = office.create(json!({ "name": "Ada" })).await;
    let rejected = rejected.unwrap_err().to_string();
    let id = office.create(json!({ "name": "Ada" })).await?;
    office.crm.dispatch_once().await?;
    let acted = act(&office, id).await?;
    let runs = office.runs(plugin).await?;
    let triggers: Vec<&str> = runs.iter().map(|run| run.trigger.as_str()).collect();
    let before = "before contact.create";
    assert_eq!(
        triggers,
        ["action rescore", "contact.created", before, before]
    );

    let office = office.on_another_host(Limits::default()).await?;
    let mut answers = Vec::new();
    for run in &runs {
        assert_eq!(run.outcome, Outcome::Succeeded, "{run:?}");
        let replay = office
            .plugins()
            .replay(&office.scope.permit("plugins")?, plugin, run.id)
            .await?;
        assert!(replay.identical, "{run:?} {replay:?}");
        assert_eq!(i64::try_from(replay.fuel)?, run.fuel);
        assert_eq!((&replay.outcome, &replay.logs), (&run.outcome, &run.logs));
        let permit = office.scope.permit("plugins")?;
        let answer = office.plugins().run_answer(&permit, plugin, run.id).await?;
        assert_eq!(replay.answer, answer);
        answers.push(answer);
    }
    let word = &runs[3].logs[0].message;
    assert!(word.len() == 17 && rejected.contains(word), "{rejected}");
    assert_eq!(&runs[2].logs[0].message, word, "it was kept");
    let reject = json!({"kind": "reject", "code": "contacts", "message": word, "field": null});
    let shown = json!({"kind": "action", "answer": acted.answer});
    let accept = json!({"kind": "accept"});
    assert_eq!(answers, [Some(shown), None, Some(accept), Some(reject)]);
    assert_eq!(
        acted.answer.map(|shown| shown["id"].clone()),
        Some(json!(id))
    );
    office.crm.close().await;
    Ok(())
}

/// Logs, looks into its store and computes some milliseconds, again and again.
const RESTLESS: &str = "
    (loop $on
        (call $log (i32.const 1) (i32.const 2000) (i32.const 4))
        (call $kv_get (i32.const 2000) (i32.const 4) (i32.const 1024))
        (local.set $n (i32.const 10000000))
        (loop $compute
            (local.set $n (i32.sub (local.get $n) (i32.const 1)))
            (br_if $compute (local.get $n)))
        (br $on))
    (i32.const 0)";

async fn a_run_that_the_clock_stopped_ends_there_in_its_replay(backend: Backend) -> Result<()> {
    let within = |deadline| Limits {
        fuel: u64::MAX,
        deadline,
        host_calls: 100_000,
        log_lines: 10_000,
        ..Limits::default()
    };
    let guest = Guest::new("handle", RESTLESS).more(r#"(data (i32.const 2000) "seen")"#);
    let office = Office::open(backend, within(Duration::from_millis(500))).await?;
    let plugin = office.install(guest.component()).await?;
    office.create(json!({ "name": "Ada" })).await?;
    office.crm.dispatch_once().await?;
    let run = office.runs(plugin).await?.remove(0);
    assert_eq!(run.outcome, Outcome::TimedOut, "{run:?}");
    assert!(run.logs.len() > 2, "it came to its third round: {run:?}");

    // Whatever time there is, it ends with the fuel of then.
    let office = office
        .on_another_host(within(Duration::from_secs(60)))
        .await?;
    let permit = office.scope.permit("plugins")?;
    let replay = office.plugins().replay(&permit, plugin, run.id).await?;
    assert!(replay.identical, "{run:?} {replay:?}");
    assert_eq!((replay.outcome, &replay.error), (run.outcome, &run.error));
    assert_eq!(replay.logs, run.logs);
    assert_eq!(i64::try_from(replay.fuel)?, run.fuel);

    let office = office
        .on_another_host(within(Duration::from_millis(1)))
        .await?;
    let permit = office.scope.permit("plugins")?;
    let replay = office.plugins().replay(&permit, plugin, run.id).await?;
    assert!(!replay.identical, "{replay:?}");
    assert_eq!(replay.outcome, Outcome::TimedOut);
    assert_eq!(replay.divergence, None, "it asked nothing else");
    let error = replay.error.unwrap_or_default();
    assert!(error.contains("time was up"), "{error}");
    assert!(
        error.contains(&format!("of the {} units", run.fuel)),
        "{error}"
    );
    office.crm.close().await;
    Ok(())
}

async fn a_replay_has_the_fuel_that_its_run_had(backend: Backend) -> Result<()> {
    let with_fuel = |fuel| Limits {
        fuel,
        ..Limits::default()
    };
    let guest = Guest::new("handle", LOOP).and("run", "(unreachable)");
    let office = Office::open(backend, with_fuel(200_000)).await?;
    let plugin = office.install(guest.component()).await?;
    let id = office.create(json!({ "name": "Ada" })).await?;
    office.crm.dispatch_once().await?;
    assert_eq!(act(&office, id).await?.outcome, Outcome::Trapped);
    let runs = office.runs(plugin).await?;
    let outcomes: Vec<_> = runs.iter().map(|run| run.outcome).collect();
    assert_eq!(outcomes, [Outcome::Trapped, Outcome::OutOfFuel]);

    let office = office.on_another_host(Limits::default()).await?;
    let permit = office.scope.permit("plugins")?;
    for run in &runs {
        let replay = office.plugins().replay(&permit, plugin, run.id).await?;
        assert!(replay.identical, "{run:?} {replay:?}");
        assert_eq!(replay.outcome, run.outcome);
        assert_eq!(i64::try_from(replay.fuel)?, run.fuel);
    }
    let office = office.on_another_host(with_fuel(100_000)).await?;
    let permit = office.scope.permit("plugins")?;
    let trapped = office.plugins().replay(&permit, plugin, runs[0].id).await?;
    assert!(trapped.identical, "it never needed so much: {trapped:?}");
    let refused = office.plugins().replay(&permit, plugin, runs[1].id).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), "not_replayable");
    assert!(refused.to_string().contains("more fuel"), "{refused}");
    office.crm.close().await;
    Ok(())
}
