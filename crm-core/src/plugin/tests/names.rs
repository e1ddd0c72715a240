//! Grants on modules and fields of the tenant's own that are gone.

use super::*;
use crate::module::FieldSpec;
use crate::schema::DataLoss;

on_both_databases! {
    a_name_that_an_enabled_plugin_still_has_is_no_new_modules
    a_name_that_any_version_of_an_enabled_plugin_has_is_no_new_modules
    a_name_that_an_enabled_plugin_still_has_is_no_new_fields
    a_name_that_only_a_trigger_still_has_is_nothing_new
    a_plugin_that_nobody_consented_to_keeps_no_name
}

impl Theatre {
    async fn found_visits(&self) -> Result<()> {
        let visits = json!({
            "name": "visits", "singular": "visit",
            "fields": [{"name": "place", "type": "text"}],
        });
        let spec = serde_json::from_value(visits).unwrap();
        let permit = self.world.permit(self.world.admin, "modules").await;
        self.world.crm.custom_modules().create(&permit, spec).await
    }

    async fn end_visits(&self) {
        let permit = self.world.permit(self.world.admin, "modules").await;
        let modules = self.world.crm.custom_modules();
        let ended = modules.delete(&permit, "visits", DataLoss::Refused);
        ended.await.unwrap();
    }

    async fn delete_whole(&self, plugin: &Plugin) {
        let permit = self.world.permit(self.world.admin, OBJECT).await;
        self.plugins.delete(&permit, plugin.id).await.unwrap();
    }

    async fn declare_plan(&self) -> Result<()> {
        let plan = json!({"name": "plan", "type": "text"});
        let spec: FieldSpec = serde_json::from_value(plan).unwrap();
        let permit = self.world.permit(self.world.admin, "modules").await;
        let fields = self.world.crm.custom_fields();
        fields.declare(&permit, "contacts", spec).await.map(drop)
    }
}

/// That the name is refused because of the plugin.
fn refused_for_actor(answer: Result<()>) {
    match answer {
        Err(Error::Conflict { code, message }) => {
            assert_eq!(code, "still_named", "{message}");
            assert!(
                message.contains("disable the plugin actor first"),
                "{message}"
            );
        }
        other => panic!("{other:?}"),
    }
}

async fn a_name_that_an_enabled_plugin_still_has_is_no_new_modules(world: World) {
    let theatre = Theatre::new(world);
    theatre.found_visits().await.unwrap();
    let first = theatre.install("read", "visits.read").await;
    theatre.end_visits().await;
    refused_for_actor(theatre.found_visits().await);

    theatre.disable(&first).await;
    theatre.found_visits().await.unwrap();
    // Nothing is left of what was consented to before.
    let second = theatre.upload("list", "contacts.read").await;
    theatre.enable(theatre.world.admin, &second).await;
    let update = theatre.update().await;
    let hash = sha256(&first);
    let back = theatre.plugins.activate(&update, first.id, &hash);
    assert_eq!(refusal(back.await), "consent_required");
    theatre.enable(theatre.world.admin, &first).await;
}

async fn a_name_that_any_version_of_an_enabled_plugin_has_is_no_new_modules(world: World) {
    let theatre = Theatre::new(world);
    theatre.found_visits().await.unwrap();
    let first = theatre.install("read", "visits.read").await;
    let second = theatre.upload("list", "contacts.read").await;
    theatre.enable(theatre.world.admin, &second).await;
    theatre.end_visits().await;
    // It could be rolled back.
    refused_for_actor(theatre.found_visits().await);
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let hash = sha256(&first);
    let deleted = theatre.plugins.delete_version(&permit, first.id, &hash);
    deleted.await.unwrap();
    theatre.found_visits().await.unwrap();
}

async fn a_name_that_an_enabled_plugin_still_has_is_no_new_fields(world: World) {
    let theatre = Theatre::new(world);
    let admin = theatre.world.admin;
    theatre.declare_plan().await.unwrap();
    let text = component("read", "contacts.read", "contact.created") + "fields = ['plan']\n";
    let plugin = theatre.try_upload(admin, &text).await.unwrap();
    theatre.enable(admin, &plugin).await;
    let fields = theatre.world.crm.custom_fields();
    let update = theatre.world.permit(admin, "modules").await;
    fields.remove(&update, "contacts", "plan").await.unwrap();
    // The very field that the grant is about.
    theatre.declare_plan().await.unwrap();
    let update = theatre.world.permit(admin, "modules").await;
    fields.remove(&update, "contacts", "plan").await.unwrap();
    let delete = theatre.world.permit(admin, "modules").await;
    fields.purge(&delete, "contacts", "plan").await.unwrap();
    refused_for_actor(theatre.declare_plan().await);
    theatre.disable(&plugin).await;
    theatre.declare_plan().await.unwrap();
}

async fn a_name_that_only_a_trigger_still_has_is_nothing_new(world: World) {
    let theatre = Theatre::new(world);
    let admin = theatre.world.admin;
    let manifest =
        |trigger: &str| format!("name = 'actor'\nversion = '1.0.0'\n[[triggers]]\n{trigger}\n");
    for trigger in [
        "on = 'visit.created'",
        "before = ['visit.create']",
        "action = 'greet'\nmodule = 'visits'\nlabel = 'Greet'",
    ] {
        theatre.found_visits().await.unwrap();
        let plugin = theatre.try_upload(admin, &manifest(trigger)).await.unwrap();
        theatre.enable(admin, &plugin).await;
        theatre.end_visits().await;
        refused_for_actor(theatre.found_visits().await);
        theatre.delete_whole(&plugin).await;
        theatre.found_visits().await.unwrap();
        theatre.end_visits().await;
    }

    let fields = theatre.world.crm.custom_fields();
    let grant = "\n[[grants]]\nmodule = 'contacts'\nactions = ['read']";
    for trigger in [
        "on = 'contact.updated'\nfields = ['plan']",
        "on = 'contact.created'\nfilter = { not = { or = [{ plan = 'a' }] } }",
    ] {
        theatre.declare_plan().await.unwrap();
        let text = manifest(trigger) + grant;
        let plugin = theatre.try_upload(admin, &text).await.unwrap();
        theatre.enable(admin, &plugin).await;
        let update = theatre.world.permit(admin, "modules").await;
        fields.remove(&update, "contacts", "plan").await.unwrap();
        let delete = theatre.world.permit(admin, "modules").await;
        fields.purge(&delete, "contacts", "plan").await.unwrap();
        refused_for_actor(theatre.declare_plan().await);
        theatre.delete_whole(&plugin).await;
        theatre.declare_plan().await.unwrap();
        let update = theatre.world.permit(admin, "modules").await;
        fields.remove(&update, "contacts", "plan").await.unwrap();
        let delete = theatre.world.permit(admin, "modules").await;
        fields.purge(&delete, "contacts", "plan").await.unwrap();
    }
}

async fn a_plugin_that_nobody_consented_to_keeps_no_name(world: World) {
    let theatre = Theatre::new(world);
    theatre.found_visits().await.unwrap();
    theatre.upload("read", "visits.read").await;
    theatre.end_visits().await;
    theatre.found_visits().await.unwrap();
}
