//! Plugins that the clock wakes.

use super::*;
use crate::plugin::timer::Timer;
use tokio_util::sync::CancellationToken;

on_both_databases! {
    a_cron_trigger_runs_once_for_each_tick_over_all_processes
    a_tick_without_a_place_is_due_still
    a_tick_whose_process_was_killed_is_told_and_not_run_again
    a_plugin_that_is_switched_off_is_not_woken
    a_job_waits_for_the_fuel_of_another_day
    a_job_whose_process_was_killed_behind_its_run_is_not_run_again
    a_job_that_a_plugin_scheduled_runs_once_with_what_it_was_given
    jobs_are_those_of_the_manifest
}

const NIGHTLY: &str = "[[triggers]]\ncron = 'nightly'\nschedule = '0 3 * * *'\n\
    timezone = 'Europe/Berlin'\n[[grants]]\nmodule = 'deals'\nactions = ['create']\n";

/// Runs what is due by the clock.
pub(super) async fn run_due(plugins: &Plugins) -> Result<usize> {
    turns::run_all(Timer(plugins.clone()), &CancellationToken::new()).await
}

impl Theatre {
    /// Has something be due: the clock of these tests stands.
    pub(super) async fn wind(&self, table: &str) {
        // Another time for each run: the same one is run once.
        let runs = self.stage.runs.load(Ordering::SeqCst);
        let ago = chrono::TimeDelta::seconds(1 + i64::try_from(runs).unwrap());
        let due = self.world.crm.clock().now() - ago;
        let sql = match table {
            "ticks" => Sql::new("UPDATE plugin_ticks SET due_at = $1"),
            _ => Sql::new("UPDATE plugin_jobs SET due_at = $1"),
        };
        self.world.execute(sql.bind(due, ColumnType::Instant)).await;
    }
}

async fn a_cron_trigger_runs_once_for_each_tick_over_all_processes(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("make", NIGHTLY).await;
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 0, "not yet");
    theatre.wind("ticks").await;
    let core = theatre.world.crm.core.clone();
    let other = Plugins::new(core, theatre.stage.clone(), PluginLimits::default());
    let (one, two) = tokio::join!(run_due(&theatre.plugins), run_due(&other));
    assert_eq!(one.unwrap() + two.unwrap(), 1);
    let runs = theatre.runs(&plugin).await;
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].trigger, "cron nightly");
    assert_eq!(runs[0].logs[0].message, "nightly None", "{runs:?}");

    let next = Sql::new("SELECT due_at FROM plugin_ticks").returns(&[ColumnType::Instant]);
    let db = &theatre.world.crm.core.db;
    let mut row = db.fetch_optional(next).await.unwrap().unwrap();
    let next: DateTime<Utc> = row.instant().unwrap();
    // The clock stands at 2025-06-15T15:06:40Z: three in the morning in Berlin is one in UTC.
    assert_eq!(next.to_rfc3339(), "2025-06-16T01:00:00+00:00");
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let replay = theatre
        .plugins
        .replay(&permit, plugin.id, runs[0].id)
        .await
        .unwrap();
    assert!(replay.identical, "{replay:?}");
}

async fn a_tick_without_a_place_is_due_still(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("make", NIGHTLY).await;
    theatre.settle_fuel(3_000).await;
    theatre.wind("ticks").await;
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 1);
    let other_runs = Sql::new("UPDATE plugin_usage SET reserved = 2000");
    theatre.world.execute(other_runs).await;
    theatre.wind("ticks").await;
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 0);
    assert_eq!(
        theatre.runs(&plugin).await.len(),
        1,
        "nothing is kept of it"
    );
    let ended = Sql::new("UPDATE plugin_usage SET reserved = 0");
    theatre.world.execute(ended).await;
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 1);
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(run.outcome, Outcome::Succeeded, "{run:?}");
}

async fn a_tick_whose_process_was_killed_is_told_and_not_run_again(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("wait", NIGHTLY).await;
    theatre.wind("ticks").await;
    let timer = Timer(theatre.plugins.clone());
    let due = turns::Source::waiting(&timer).await.unwrap().remove(0);
    tokio::select! {
        _ = turns::Source::handle(timer, due) => panic!("it runs for ever"),
        () = theatre.stage.waiting.notified() => {}
    }
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 0, "it may run");
    assert!(theatre.runs(&plugin).await.is_empty());
    let now = theatre.world.crm.clock().now();
    let later = Sql::new("UPDATE plugin_ticks SET lost_at = $1 WHERE lost_at IS NOT NULL");
    theatre
        .world
        .execute(later.bind(now, ColumnType::Instant))
        .await;
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 1);
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 0);
    let [run] = &theatre.runs(&plugin).await[..] else {
        panic!("one run");
    };
    assert_eq!(
        (&*run.trigger, run.outcome),
        ("cron nightly", Outcome::Cancelled)
    );
    assert!(run.error.as_deref().unwrap().contains("was killed"));
    assert_eq!(theatre.stage.runs.load(Ordering::SeqCst), 1);
}

async fn a_job_waits_for_the_fuel_of_another_day(world: World) {
    let theatre = Theatre::new(world);
    let rest = "jobs = ['later']\ntriggers = ['contact.created']\n";
    let plugin = theatre.install_manifest("defer", rest).await;
    theatre.settle_fuel(1_000).await;
    theatre.contact("one").await;
    theatre.dispatch().await;
    theatre.wind("jobs").await;
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 0);
    assert_eq!(theatre.runs(&plugin).await.len(), 1, "its fuel is used up");
    theatre.settle_fuel(5_000).await;
    theatre.wind("jobs").await;
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 1);
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(
        (&*run.trigger, run.outcome),
        ("job later", Outcome::Succeeded)
    );
}

async fn a_job_whose_process_was_killed_behind_its_run_is_not_run_again(world: World) {
    let theatre = Theatre::new(world);
    let rest = "jobs = ['later']\ntriggers = ['contact.created']\n";
    let plugin = theatre.install_manifest("defer", rest).await;
    theatre.contact("one").await;
    theatre.dispatch().await;
    theatre.wind("jobs").await;
    let keep = "CREATE TABLE left_behind AS SELECT * FROM plugin_jobs";
    theatre.world.execute(Sql::new(keep)).await;
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 1);
    let left = "INSERT INTO plugin_jobs SELECT * FROM left_behind";
    theatre.world.execute(Sql::new(left)).await;
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 0);
    assert_eq!(
        theatre.runs(&plugin).await.len(),
        2,
        "its event, and once the job"
    );
    let jobs = theatre.count("SELECT count(*) FROM plugin_jobs").await;
    assert_eq!(jobs, 0);
}

async fn a_plugin_that_is_switched_off_is_not_woken(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("make", NIGHTLY).await;
    theatre.wind("ticks").await;
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    theatre.plugins.disable(&permit, plugin.id).await.unwrap();
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 0);
    theatre.enable(theatre.world.admin, &plugin).await;
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 0, "from now on");
    theatre.wind("ticks").await;
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 1);
}

async fn a_job_that_a_plugin_scheduled_runs_once_with_what_it_was_given(world: World) {
    let theatre = Theatre::new(world);
    let rest = "jobs = ['later']\ntriggers = ['contact.created']\n";
    let plugin = theatre.install_manifest("defer", rest).await;
    let contact = theatre.contact("one").await;
    theatre.dispatch().await;
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 0, "not yet");
    theatre.wind("jobs").await;
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 1);
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(run.logs[0].message, format!("later Some(\"{contact}\")"));
    theatre.wind("jobs").await;
    assert_eq!(run_due(&theatre.plugins).await.unwrap(), 0, "it is done");

    // Who caused it bounds it still.
    let rest = "jobs = ['later']\ntriggers = ['contact.created']\n\
                [[grants]]\nmodule = 'deals'\nactions = ['create']\n";
    let again = theatre.install_manifest("defer", rest).await;
    let user = theatre.member_with(&["contacts.create"]).await;
    let permit = theatre.world.permit(user, "contacts").await;
    let body = Map::from_iter([("title".to_owned(), json!("two"))]);
    let records = theatre.world.crm.records();
    records.create(&permit, body).await.unwrap();
    theatre.dispatch().await;
    let members = theatre.world.permit(theatre.world.admin, "members").await;
    theatre
        .world
        .crm
        .members()
        .remove(&members, user)
        .await
        .unwrap();
    theatre.wind("jobs").await;
    run_due(&theatre.plugins).await.unwrap();
    let run = theatre.runs(&again).await.remove(0);
    assert_eq!(run.outcome, Outcome::Refused, "{run:?}");
}

async fn jobs_are_those_of_the_manifest(world: World) {
    let theatre = Theatre::new(world);
    for (script, error) in [
        ("defer other", "you lack the permission jobs.other"),
        ("defer nothing", "the input is not valid: delay_seconds"),
    ] {
        let rest = "jobs = ['later']\ntriggers = ['contact.created']\n";
        let plugin = theatre.install_manifest(script, rest).await;
        theatre.contact("one").await;
        theatre.dispatch().await;
        let run = theatre.runs(&plugin).await.remove(0);
        assert!(run.error.as_deref().unwrap().starts_with(error), "{run:?}");
    }
}
