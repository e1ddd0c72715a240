//! How many uploads are judged at once, and which are not judged at all.

use super::*;

on_both_databases! {
    the_uploads_of_a_tenant_are_judged_one_by_one_and_keep_no_other_tenant_waiting
    one_plugin_too_many_is_refused_before_it_is_judged
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
