//! How many uploads are judged at once, and which are not judged at all.

use super::*;

on_both_databases! {
    the_uploads_of_a_tenant_are_judged_one_by_one_and_keep_no_other_tenant_waiting
    one_plugin_too_many_is_refused_before_it_is_judged
    first_uploads_of_one_plugin_at_once_are_versions_of_one
    the_same_bytes_at_once_are_one_version
}

impl Theatre {
    /// Uploads these components at once, each in another process.
    async fn race(&self, components: Vec<String>) -> Vec<Result<Uploaded>> {
        let permit = self.world.permit(self.world.admin, OBJECT).await;
        let uploads = components.into_iter().map(|component| {
            let (core, stage) = (self.world.crm.core.clone(), self.stage.clone());
            let (permit, limits) = (permit.clone(), PluginLimits::default());
            tokio::spawn(async move {
                let process = Plugins::new(core, stage, limits);
                process.upload(&permit, component.into(), None).await
            })
        });
        let uploads = futures::future::join_all(uploads).await;
        uploads.into_iter().map(Result::unwrap).collect()
    }
}

async fn first_uploads_of_one_plugin_at_once_are_versions_of_one(world: World) {
    let theatre = Theatre::new(world);
    let scripts = ["read", "list", "look", "show", "count", "delete", "write"];
    for name in ["first", "second", "third"] {
        let component = |script| component(script, "contacts.read", "contact.created");
        let components = scripts.map(|script| component(script).replace("actor", name));
        let uploaded = theatre.race(components.into()).await;
        let ids = uploaded.into_iter().map(|one| one.unwrap().plugin.id);
        let ids: HashSet<_> = ids.collect();
        assert_eq!(ids.len(), 1, "one plugin");
        let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
        for id in ids {
            let versions = theatre.plugins.versions(&permit, id).await.unwrap();
            assert_eq!(versions.len(), scripts.len());
        }
    }
}

async fn the_same_bytes_at_once_are_one_version(world: World) {
    let theatre = Theatre::new(world);
    let text = component("read", "contacts.read", "contact.created");
    let uploaded = theatre.race(vec![text; 5]).await;
    let ids = uploaded.into_iter().map(|one| one.unwrap().plugin.id);
    let ids: HashSet<_> = ids.collect();
    assert_eq!(ids.len(), 1, "one plugin");
    let versions = "SELECT count(*) FROM plugin_versions";
    assert_eq!(theatre.count(versions).await, 1);
}

async fn the_uploads_of_a_tenant_are_judged_one_by_one_and_keep_no_other_tenant_waiting(
    world: World,
) {
    let theatre = Theatre::new(world);
    let admin = theatre.world.admin;
    let upload = async |name: &str| {
        let slow = component("ponder", "contacts.read", "contact.created");
        let slow = slow.replace("actor", name);
        theatre.try_upload(admin, &slow).await
    };
    let (stage, lane) = (&theatre.stage, &theatre.plugins.0.lanes.judging);
    let meanwhile = async {
        stage.waiting.notified().await;
        while lane.waiting(theatre.world.tenant) < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(stage.judged.load(Ordering::SeqCst), 1, "one at a time");
        let fourth = upload("fourth").await;
        assert!(
            matches!(fourth, Err(Error::Unavailable { .. })),
            "{fourth:?}"
        );
        theatre.elsewhere("read", "contacts.read").await;
        for _ in 0..2 {
            stage.proceed.notify_one();
            stage.waiting.notified().await;
        }
        stage.proceed.notify_one();
    };
    let (one, two, three, ()) = tokio::join!(
        upload("first"),
        upload("second"),
        upload("third"),
        meanwhile
    );
    for uploaded in [one, two, three] {
        uploaded.unwrap();
    }
}

async fn one_plugin_too_many_is_refused_before_it_is_judged(world: World) {
    let theatre = Theatre::new(world);
    theatre.upload("read", "contacts.read").await;
    for number in 1..100 {
        let sql = Sql::new(
            "INSERT INTO plugins (tenant_id, id, name, version, manifest, sha256, created_at) \
             SELECT tenant_id, $1, $2, version, manifest, sha256, created_at FROM plugins \
             WHERE name = 'actor'",
        )
        .bind(theatre.world.crm.clock().new_id(), ColumnType::Uuid)
        .bind(format!("other_{number}"), ColumnType::Text);
        theatre.world.execute(sql).await;
    }
    let judged = || theatre.stage.judged.load(Ordering::SeqCst);
    assert_eq!(judged(), 1);
    let text = component("read", "contacts.read", "contact.created");
    let admin = theatre.world.admin;
    let further = text.replace("actor", "further");
    let refused = theatre.try_upload(admin, &further).await;
    assert_eq!(refusal(refused), "too_many_plugins");
    assert_eq!(judged(), 1);
    theatre.upload("list", "contacts.read").await;
    assert_eq!(judged(), 2, "a version of one that there is");
}
