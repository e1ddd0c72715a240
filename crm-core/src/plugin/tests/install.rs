//! Uploading, consenting, removing.

use super::*;

on_both_databases! {
    an_uploaded_plugin_runs_only_once_enabled
    the_same_bytes_again_change_nothing
    replacing_needs_the_right_to_update
    a_manifest_on_modules_that_are_not_declared_is_refused
    an_api_key_uploads_and_never_enables
    another_tenants_plugins_do_not_exist_and_do_not_run
    a_permit_of_another_object_opens_nothing
    a_deleted_plugin_leaves_neither_runs_nor_component
    every_administrative_act_is_audited
}

async fn an_uploaded_plugin_runs_only_once_enabled(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.upload("write", "contacts.update").await;
    assert_eq!(plugin.status, PluginStatus::Uploaded);
    let contact = theatre.contact("one").await;
    theatre.dispatch().await;
    assert_eq!(theatre.title(contact).await, json!("one"));

    let enabled = theatre.enable(theatre.world.admin, &plugin).await;
    assert_eq!(enabled.status, PluginStatus::Enabled);
    let contact = theatre.contact("two").await;
    theatre.dispatch().await;
    assert_eq!(theatre.title(contact).await, json!("changed"));
    let runs = theatre.runs(&plugin).await;
    assert_eq!(runs.len(), 1);
    assert_eq!(
        (runs[0].outcome, runs[0].trigger.as_str()),
        (Outcome::Succeeded, "contact.created")
    );

    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    theatre.plugins.disable(&permit, plugin.id).await.unwrap();
    let contact = theatre.contact("three").await;
    theatre.dispatch().await;
    assert_eq!(theatre.title(contact).await, json!("three"));
}

async fn the_same_bytes_again_change_nothing(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("read", "contacts.read").await;
    assert_eq!(theatre.upload("read", "contacts.read").await, plugin);
    assert_eq!(theatre.components().await, 1);
}

async fn replacing_needs_the_right_to_update(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("read", "contacts.read").await;
    let creator = theatre
        .member_with(&["plugins.create", "plugins.read"])
        .await;
    let other = component("write", "contacts.update", "contact.created");
    assert_eq!(
        missing(theatre.try_upload(creator, &other).await),
        "plugins.update"
    );
    let named = other.replace("actor", "extra");
    assert_eq!(
        theatre
            .try_upload(creator, &named)
            .await
            .unwrap()
            .installed_by,
        Some(creator)
    );
    let permit = theatre.world.permit(creator, OBJECT).await;
    assert_eq!(
        theatre.plugins.get(&permit, plugin.id).await.unwrap(),
        plugin
    );
}

async fn a_manifest_on_modules_that_are_not_declared_is_refused(world: World) {
    let theatre = Theatre::new(world);
    for (grants, trigger) in [
        ("", "invoice.created"),
        ("", "contacts.created"),
        ("invoices.read", "contact.created"),
        ("members.read", "contact.created"),
        ("records.read", "contact.created"),
    ] {
        let text = component("read", grants, trigger);
        match theatre.try_upload(theatre.world.admin, &text).await {
            Err(Error::Invalid(fields)) => assert_eq!(fields[0].code, "invalid_manifest"),
            other => panic!("{text}: {other:?}"),
        }
    }
    assert_eq!(theatre.components().await, 0);
}

async fn an_api_key_uploads_and_never_enables(world: World) {
    let theatre = Theatre::new(world);
    let grants = theatre
        .world
        .scope(theatre.world.admin)
        .await
        .grants()
        .clone();
    let key = Actor::ApiKey(crate::id::ApiKeyId(theatre.world.crm.clock().new_id()));
    let scope = Scope::new(
        theatre.world.crm.core.clone(),
        key,
        theatre.world.tenant,
        grants,
        theatre
            .world
            .operator(theatre.world.tenant)
            .request()
            .clone(),
    );
    let text = component("read", "contacts.read", "contact.created");
    let permit = scope.permit(OBJECT).unwrap();
    let upload = theatre.plugins.upload(&permit, text.into(), None);
    let plugin = upload.await.unwrap().plugin;
    assert_eq!(
        (plugin.status, plugin.installed_by),
        (PluginStatus::Uploaded, None)
    );
    let enable = theatre
        .plugins
        .enable(&scope.permit(OBJECT).unwrap(), plugin.id, &sha256(&plugin))
        .await;
    assert_eq!(refusal(enable), "user_required");
}

async fn another_tenants_plugins_do_not_exist_and_do_not_run(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("read", "contacts.read").await;
    let other = theatre.world.new_tenant("other").await;
    let scope = theatre.world.operator(other);
    let plugins = &theatre.plugins;
    let read = scope.permit(OBJECT).unwrap();
    let update = scope.permit(OBJECT).unwrap();
    assert!(plugins.list(&read).await.unwrap().is_empty());
    assert_eq!(refusal(plugins.get(&read, plugin.id).await), "not_found");
    let runs = plugins.runs(&read, plugin.id, &RunQuery::default()).await;
    assert_eq!(refusal(runs), "not_found");
    assert_eq!(
        refusal(plugins.enable(&update, plugin.id, &sha256(&plugin)).await),
        "not_found"
    );
    assert_eq!(
        refusal(plugins.disable(&update, plugin.id).await),
        "not_found"
    );
    let delete = scope.permit(OBJECT).unwrap();
    assert_eq!(
        refusal(plugins.delete(&delete, plugin.id).await),
        "not_found"
    );

    let body = Map::from_iter([("title".to_owned(), json!("theirs"))]);
    let create = scope.permit("contacts").unwrap();
    theatre
        .world
        .crm
        .records()
        .create(&create, body)
        .await
        .unwrap();
    theatre.dispatch().await;
    assert_eq!(theatre.stage.runs.load(Ordering::SeqCst), 0);

    // The same bytes serve both tenants, and stay while one of them has them installed.
    let text = component("read", "contacts.read", "contact.created");
    let theirs = plugins
        .upload(&scope.permit(OBJECT).unwrap(), text.into(), None)
        .await
        .unwrap()
        .plugin;
    assert_eq!(theatre.components().await, 1);
    plugins.delete(&delete, theirs.id).await.unwrap();
    assert_eq!(theatre.components().await, 1);
}

async fn a_permit_of_another_object_opens_nothing(world: World) {
    let theatre = Theatre::new(world);
    let admin = theatre.world.admin;
    let read = theatre.world.permit(admin, "contacts").await;
    assert_eq!(missing(theatre.plugins.list(&read).await), "plugins.read");
    let create = theatre.world.permit(admin, "members").await;
    assert_eq!(
        missing(theatre.plugins.upload(&create, Bytes::new(), None).await),
        "plugins.create"
    );
}

async fn a_deleted_plugin_leaves_neither_runs_nor_component(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("read", "contacts.read").await;
    theatre.run_of_contact(&plugin).await;
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    theatre.plugins.delete(&permit, plugin.id).await.unwrap();
    assert_eq!(theatre.components().await, 0);
    let runs = Sql::new("SELECT 1 FROM plugin_runs");
    assert!(
        theatre
            .world
            .crm
            .core
            .db
            .fetch_all(runs)
            .await
            .unwrap()
            .is_empty()
    );
    theatre.contact("two").await;
    theatre.dispatch().await;
    assert_eq!(theatre.stage.runs.load(Ordering::SeqCst), 1);
}

async fn every_administrative_act_is_audited(world: World) {
    let theatre = Theatre::new(world);
    let before = theatre.world.audit().await.len();
    let plugin = theatre.install("read", "contacts.read").await;
    let other = theatre.upload("list", "contacts.read").await;
    let (plugins, id) = (&theatre.plugins, plugin.id);
    let (first, second) = (sha256(&plugin), sha256(&other));
    let update = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let secret = "a secret of it".to_owned().into();
    plugins.canary(&update, id, &second, 10).await.unwrap();
    plugins.activate(&update, id, &second).await.unwrap();
    plugins.roll_back(&update, id).await.unwrap();
    let set = plugins.set_secret(&update, id, "token", &secret);
    set.await.unwrap();
    plugins.delete_secret(&update, id, "token").await.unwrap();
    plugins.disable(&update, id).await.unwrap();
    let delete = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let deleted = plugins.delete_version(&delete, id, &second);
    deleted.await.unwrap();
    plugins.delete(&delete, id).await.unwrap();
    assert_eq!(
        theatre.world.audit().await[before..],
        [
            "plugins.upload",
            "plugins.enable",
            "plugins.upload",
            "plugins.canary",
            "plugins.activate",
            "plugins.roll_back",
            "plugins.set_secret",
            "plugins.delete_secret",
            "plugins.disable",
            "plugins.delete_version",
            "plugins.delete"
        ]
    );

    // Each names the plugin, the version and its hash.
    let read: Permit<Read> = theatre.world.permit(theatre.world.admin, "audit").await;
    let query = crate::audit::AuditQuery {
        entity: Some(OBJECT.to_owned()),
        ..Default::default()
    };
    let page = theatre.world.crm.audit().list(&read, &query).await.unwrap();
    for entry in page.data {
        let states = format!("{:?} {:?}", entry.before, entry.after);
        let told = [&*first, &*second]
            .iter()
            .any(|sha256| states.contains(sha256));
        assert!(
            told && states.contains("actor"),
            "{}: {states}",
            entry.action
        );
        assert!(states.contains("1.0.0"), "{}: {states}", entry.action);
        let both = states.contains(&first) && states.contains(&second);
        if ["plugins.delete_version", "plugins.canary"].contains(&&*entry.action) {
            assert!(both, "{}: {states}", entry.action);
        }
    }
}
