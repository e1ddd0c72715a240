//! What is kept of a tenant's plugins and what is told of their secrets, and what trials leave.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret as _;

use super::*;
use crate::plugin::trim;
use crate::transfer::{Format, ImportOptions};

on_both_databases! {
    the_values_of_all_plugins_of_a_tenant_are_bounded
    the_oldest_transcripts_make_room_and_their_runs_stay
    the_usage_of_days_long_ago_is_forgotten
    what_plugins_log_tell_and_put_off_on_a_day_is_bounded
    a_judge_tells_nobody_a_secret_in_another_form
    a_value_with_a_secret_is_not_written_down_before_it_is_asked_for
    a_dry_run_asks_judges_and_leaves_nothing_of_it
    a_process_without_a_host_makes_no_change_that_a_plugin_judges
}

impl Theatre {
    pub(super) async fn count(&self, sql: &'static str) -> i64 {
        let sql = Sql::new(sql).returns(&[ColumnType::Int]);
        let row = self.world.crm.core.db.fetch_optional(sql).await.unwrap();
        row.unwrap().int().unwrap()
    }

    /// Installs a judge that keeps values and knows a secret, and has the library ask it.
    async fn confidant(&self, script: &str) -> Plugin {
        let rest = "kv = true\nsecrets = ['token']\n[[triggers]]\nbefore = ['contact.create']\n\
                    [[grants]]\nmodule = 'contacts'\nactions = ['read', 'create']\n";
        let plugin = self.install_manifest(script, rest).await;
        let permit = self.world.permit(self.world.admin, OBJECT).await;
        let secret = "a planted secret".to_owned().into();
        let set = self
            .plugins
            .set_secret(&permit, plugin.id, "token", &secret);
        set.await.unwrap();
        let _ = self.world.crm.core.judge.set(self.plugins.judge());
        plugin
    }
}

async fn the_values_of_all_plugins_of_a_tenant_are_bounded(world: World) {
    let theatre = Theatre::new(world);
    let rest = "kv = true\ntriggers = ['contact.created']\n";
    let plugin = theatre.install_manifest("keep", rest).await;
    let run = theatre.run_of_contact(&plugin).await;
    assert_eq!(run.outcome, Outcome::Succeeded, "{run:?}");
    let bytes = "SELECT kv_bytes FROM plugins";
    assert_eq!(theatre.count(bytes).await, 6, "two of three bytes are left");

    let full = "UPDATE plugins SET kv_bytes = 16777216";
    theatre.world.execute(Sql::new(full)).await;
    theatre
        .world
        .execute(Sql::new("DELETE FROM plugin_kv"))
        .await;
    theatre.contact("two").await;
    theatre.dispatch().await;
    let run = theatre.runs(&plugin).await.remove(0);
    assert!(run.error.unwrap().contains("at most 16777216 bytes"));
    assert_eq!(theatre.count("SELECT count(*) FROM plugin_kv").await, 0);
}

async fn the_oldest_transcripts_make_room_and_their_runs_stay(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("read", "contacts.read").await;
    for _ in 0..4 {
        theatre.contact("one").await;
        theatre.dispatch().await;
    }
    let sizes = "SELECT CAST(sum(length(input) + length(transcript)) AS BIGINT) \
                 FROM plugin_run_details";
    let (db, tenant) = (&theatre.world.crm.core.db, theatre.world.tenant);
    let half = theatre.count(sizes).await / 2;
    trim::trim_to(db, tenant, half).await.unwrap();
    assert!(theatre.count(sizes).await <= half);
    let runs = theatre.runs(&plugin).await;
    assert_eq!(runs.len(), 4);
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let replay = |run: &Run| theatre.plugins.replay(&permit, plugin.id, run.id);
    assert!(replay(&runs[0]).await.unwrap().identical);
    assert_eq!(refusal(replay(&runs[3]).await), "not_replayable");
}

async fn the_usage_of_days_long_ago_is_forgotten(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("read", "contacts.read").await;
    theatre.run_of_contact(&plugin).await;
    let (db, now) = (&theatre.world.crm.core.db, theatre.world.crm.clock().now());
    let days = "SELECT count(*) FROM plugin_usage";
    for (later, left) in [(400, 1), (401, 0)] {
        let then = now + chrono::TimeDelta::days(later);
        crate::plugin::forget_usage(db, then).await.unwrap();
        assert_eq!(theatre.count(days).await, left);
    }
}

async fn what_plugins_log_tell_and_put_off_on_a_day_is_bounded(world: World) {
    let theatre = Theatre::new(world);
    let rest = "emits = ['told']\njobs = ['later']\ntriggers = ['contact.created']\n\
        [[grants]]\nmodule = 'contacts'\nactions = ['read']\n";
    let last = async |script: &str| {
        let plugin = theatre.install_manifest(script, rest).await;
        theatre.contact("one").await;
        theatre.dispatch().await;
        theatre.runs(&plugin).await.remove(0)
    };
    let logged = last("read").await;
    let bytes: usize = logged.logs.iter().map(|line| line.message.len()).sum();
    assert!(bytes > 0);
    let kept = "SELECT kept_bytes FROM plugin_usage";
    assert_eq!(theatre.count(kept).await, i64::try_from(bytes).unwrap());
    assert_eq!(last("tell").await.outcome, Outcome::Succeeded);
    assert_eq!(last("defer").await.outcome, Outcome::Succeeded);
    assert!(theatre.count(kept).await > 2 * 1024);

    let full = "UPDATE plugin_usage SET kept_bytes = 256 * 1024 * 1024";
    theatre.world.execute(Sql::new(full)).await;
    let told = "SELECT count(*) FROM outbox WHERE kind = 'actor.told'";
    let before = theatre.count(told).await;
    for script in ["tell", "defer"] {
        let refused = last(script).await;
        assert_eq!(refused.outcome, Outcome::Failed, "{script}: {refused:?}");
        let error = refused.error.unwrap();
        assert!(error.contains("268435456 bytes"), "{script}: {error}");
    }
    assert_eq!(theatre.count(told).await, before);
    let unlogged = last("read").await;
    assert_eq!(unlogged.outcome, Outcome::Succeeded);
    assert!(
        unlogged.logs[0].message.contains("not kept"),
        "{unlogged:?}"
    );
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let replay = theatre
        .plugins
        .replay(&permit, unlogged.plugin_id, unlogged.id);
    let replay = replay.await.unwrap();
    assert!(replay.identical, "{replay:?}");
}

async fn a_judge_tells_nobody_a_secret_in_another_form(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.confidant("leak").await;
    let refused = theatre.make("one").await.unwrap_err().to_string();
    let run = theatre.runs(&plugin).await.remove(0);
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let kept = theatre.plugins.run_answer(&permit, plugin.id, run.id).await;
    let kept = kept.unwrap().unwrap().to_string();
    let encoded = STANDARD.encode("a planted secret");
    for told in [refused, kept] {
        assert!(told.contains("[secret:token]"), "{told}");
        assert!(!told.contains(&encoded[..8]), "{told}");
    }
}

async fn a_value_with_a_secret_is_not_written_down_before_it_is_asked_for(world: World) {
    let theatre = Theatre::new(world);
    let rest = "kv = true\nsecrets = ['token']\ntriggers = ['contact.created']\n";
    let plugin = theatre.install_manifest("recall", rest).await;
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let secret = "a planted secret".to_owned().into();
    let set = theatre
        .plugins
        .set_secret(&permit, plugin.id, "token", &secret);
    set.await.unwrap();
    let insert = Sql::new(
        "INSERT INTO plugin_kv (tenant_id, plugin_id, key, value) VALUES ($1, $2, 'copy', $3)",
    )
    .bind(theatre.world.tenant, ColumnType::Uuid)
    .bind(plugin.id, ColumnType::Uuid)
    .bind(
        secret.expose_secret().as_bytes().to_vec(),
        ColumnType::Bytes,
    );
    theatre.world.execute(insert).await;
    let run = theatre.run_of_contact(&plugin).await;
    assert_eq!(run.logs[0].message, "[secret:token]");
    let kept = Sql::new("SELECT transcript FROM plugin_run_details").returns(&[ColumnType::Bytes]);
    let row = theatre.world.crm.core.db.fetch_optional(kept).await;
    let kept: Vec<u8> = row.unwrap().unwrap().bytes().unwrap();
    let kept = String::from_utf8(kept).unwrap();
    assert!(!kept.contains(&STANDARD.encode("a planted")), "{kept}");
}

async fn a_dry_run_asks_judges_and_leaves_nothing_of_it(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.confidant("keep").await;
    let scope = theatre.world.operator(theatre.world.tenant);
    let transfer = theatre.world.crm.transfer();
    for (dry_run, kept) in [(true, 0), (false, 1)] {
        let options = ImportOptions {
            dry_run,
            ..ImportOptions::new(Format::Ndjson)
        };
        let mut import = transfer.import(&scope, "contacts", options).await.unwrap();
        let lines = b"{\"title\": \"one\"}\n{\"title\": \"bad\"}\n";
        import.push(lines).await.unwrap();
        let job = import.finish().await.unwrap();
        let before = theatre.stage.runs.load(Ordering::SeqCst);
        assert!(theatre.world.crm.run_job(&scope, job).await.unwrap());
        let asked = theatre.stage.runs.load(Ordering::SeqCst) - before;
        assert_eq!(asked, 2, "dry: {dry_run}");
        let job = theatre.world.crm.jobs().get(&scope, job).await.unwrap();
        assert_eq!((job.progress.done, job.progress.failed), (1, 1), "{job:?}");
        assert_eq!(theatre.count("SELECT count(*) FROM plugin_kv").await, kept);
        let runs = theatre.runs(&plugin).await.len();
        assert_eq!(runs, if dry_run { 0 } else { 2 });
    }
}

async fn a_process_without_a_host_makes_no_change_that_a_plugin_judges(world: World) {
    let theatre = Theatre::new(world);
    let rest = "[[triggers]]\nbefore = ['contact.create']\n";
    let plugin = theatre.install_manifest("guard", rest).await;
    let refused = theatre.make("one").await.unwrap_err();
    assert_eq!(refused.code(), "no_plugin_host");
    // What nobody judges is made.
    let permit = theatre.world.permit::<Create>(theatre.world.admin, "deals");
    let body = Map::from_iter([("title".to_owned(), json!("one"))]);
    let records = theatre.world.crm.records();
    records.create(&permit.await, body).await.unwrap();
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    theatre.plugins.delete(&permit, plugin.id).await.unwrap();
}
