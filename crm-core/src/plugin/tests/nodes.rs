//! Several processes on one database: what one of them is told, the others do within a second.

use tokio::time::Instant;

use super::*;

on_both_databases! {
    what_one_process_activates_the_others_run_within_a_second
    what_one_process_switches_off_the_others_run_no_more_within_a_second
    a_run_of_another_process_is_stopped_within_a_second
    an_event_wakes_what_another_process_had_just_enabled
    what_is_forgotten_while_it_is_read_is_not_remembered
}

const SOON: Duration = Duration::from_secs(1);

impl Theatre {
    /// The plugins in another process, which knows of them what the database says.
    fn another_process(&self) -> Plugins {
        let core = self.world.crm.core.clone();
        Plugins::new(core, self.stage.clone(), PluginLimits::default())
    }

    /// The version that runs elsewhere about a new contact; none where the plugin does not run.
    async fn version_elsewhere(&self, other: &Plugins, plugin: &Plugin) -> Option<[u8; 32]> {
        let contact = self.contact("one").await;
        self.dispatch_by(other).await;
        let mut runs = self.runs(plugin).await.into_iter();
        let run = runs.find(|run| run.record_id == Some(contact))?;
        run.sha256
    }

    /// Waits for another version to run elsewhere: what comes a second after the change meets no
    /// other.
    async fn soon(&self, other: &Plugins, plugin: &Plugin, version: Option<[u8; 32]>) {
        let changed = Instant::now();
        loop {
            let asked = changed.elapsed();
            if self.version_elsewhere(other, plugin).await == version {
                return;
            }
            assert!(asked < SOON, "it still runs what it ran before");
        }
    }
}

async fn what_one_process_activates_the_others_run_within_a_second(world: World) {
    let theatre = Theatre::new(world);
    let first = theatre.install("read", "contacts.read").await;
    let other = theatre.another_process();
    let ran = theatre.version_elsewhere(&other, &first).await;
    assert_eq!(ran, Some(first.sha256));

    let second = theatre.upload("list", "contacts.read").await;
    let update = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let (here, sha256) = (&theatre.plugins, sha256(&second));
    here.activate(&update, first.id, &sha256).await.unwrap();
    theatre.soon(&other, &first, Some(second.sha256)).await;
    here.roll_back(&update, first.id).await.unwrap();
    theatre.soon(&other, &first, Some(first.sha256)).await;
    here.canary(&update, first.id, &sha256, 100).await.unwrap();
    theatre.soon(&other, &first, Some(second.sha256)).await;
}

async fn what_one_process_switches_off_the_others_run_no_more_within_a_second(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("read", "contacts.read").await;
    let other = theatre.another_process();
    let ran = theatre.version_elsewhere(&other, &plugin).await;
    assert_eq!(ran, Some(plugin.sha256));
    let update = theatre.world.permit(theatre.world.admin, OBJECT).await;
    theatre.plugins.disable(&update, plugin.id).await.unwrap();
    theatre.soon(&other, &plugin, None).await;
}

async fn a_run_of_another_process_is_stopped_within_a_second(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("wait", "contacts.read").await;
    let other = theatre.another_process();
    let update = theatre.world.permit(theatre.world.admin, OBJECT).await;
    theatre.contact("one").await;
    let disable = async {
        theatre.stage.waiting.notified().await;
        theatre.plugins.disable(&update, plugin.id).await.unwrap();
        Instant::now()
    };
    let (disabled, ()) = tokio::join!(disable, theatre.dispatch_by(&other));
    assert!(disabled.elapsed() < SOON, "{:?}", disabled.elapsed());
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(run.outcome, Outcome::Cancelled, "{run:?}");
}

/// Also where that process had just looked, and found nobody who listens.
async fn an_event_wakes_what_another_process_had_just_enabled(world: World) {
    let theatre = Theatre::new(world);
    let other = theatre.another_process();
    let plugin = theatre.upload("read", "contacts.read").await;
    for _ in 0..5 {
        let update = theatre.world.permit(theatre.world.admin, OBJECT).await;
        theatre.plugins.disable(&update, plugin.id).await.unwrap();
        assert_eq!(theatre.version_elsewhere(&other, &plugin).await, None);
        theatre.enable(theatre.world.admin, &plugin).await;
        let ran = theatre.version_elsewhere(&other, &plugin).await;
        assert_eq!(ran, Some(plugin.sha256));
    }
}

async fn what_is_forgotten_while_it_is_read_is_not_remembered(world: World) {
    let theatre = Theatre::new(world);
    let (plugins, tenant) = (&theatre.plugins, theatre.world.tenant);
    let plugin = theatre.upload("read", "contacts.read").await;
    let runs = async || plugins.enabled(tenant).await.unwrap().runs(&plugin);
    for _ in 0..20 {
        let look = async {
            for _ in 0..20 {
                plugins.enabled_behind(tenant, i64::MAX).await.unwrap();
            }
        };
        tokio::join!(look, theatre.enable(theatre.world.admin, &plugin));
        assert!(runs().await);
        let update = theatre.world.permit(theatre.world.admin, OBJECT).await;
        let look = async {
            for _ in 0..20 {
                plugins.enabled_behind(tenant, i64::MAX).await.unwrap();
            }
        };
        let (_, disabled) = tokio::join!(look, plugins.disable(&update, plugin.id));
        disabled.unwrap();
        assert!(!runs().await);
    }
}
