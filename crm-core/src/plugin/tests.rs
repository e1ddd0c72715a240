//! Installed plugins on both databases, with a host that plays them in Rust: its "components" are
//! manifests, and what a plugin does stands in its description.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Map, json};

use super::*;
use crate::db::{ColumnType, Sql};
use crate::dispatch::{Dispatcher, Round, Subscriber};
use crate::event::Event;
use crate::hook::{Call, DoorQuery, LogLevel, LogLine, Outcome, Report};
use crate::id::RecordId;
use crate::policy::fixture::{World, missing, on_both_databases, refusal};
use crate::role::NewRole;

on_both_databases! {
    an_uploaded_plugin_runs_only_once_enabled
    a_new_version_needs_consent_again
    the_same_bytes_again_change_nothing
    replacing_needs_the_right_to_update
    a_manifest_on_modules_that_are_not_declared_is_refused
    a_plugin_has_no_more_rights_than_its_manifest_asks
    a_plugin_has_no_more_rights_than_whoever_enabled_it
    a_plugin_loses_the_rights_that_its_user_loses
    rights_on_own_rows_give_a_plugin_nothing
    a_plugin_reaches_no_field_beyond_those_of_its_user
    a_plugin_that_may_not_read_learns_nothing_by_writing
    a_plugin_reads_lists_and_creates_within_its_grants
    an_event_delivered_again_does_not_run_again
    a_chain_of_causes_ends
    a_failing_plugin_holds_nobody_up
    a_plugin_may_log_what_no_column_holds
    an_api_key_uploads_and_never_enables
    another_tenants_plugins_do_not_exist_and_do_not_run
    a_permit_of_another_object_opens_nothing
    paging_visits_each_run_once
    a_deleted_plugin_leaves_neither_runs_nor_component
    every_administrative_act_is_audited
}

/// Plays plugins in Rust.
#[derive(Default)]
struct Stage {
    runs: AtomicUsize,
}

impl PluginHost for Stage {
    fn inspect(&self, component: Bytes) -> BoxFuture<'_, Result<Manifest>> {
        async move { Manifest::parse(std::str::from_utf8(&component).map_err(Error::internal)?) }
            .boxed()
    }

    fn handle(&self, call: Call) -> BoxFuture<'_, Result<Report>> {
        async move {
            self.runs.fetch_add(1, Ordering::SeqCst);
            let component = (call.component)().await.unwrap();
            assert_eq!(
                <[u8; 32]>::from(Sha256::digest(&component)),
                call.plugin.sha256
            );
            let mut report = Report::refused("");
            match play(&call.plugin.manifest.description, &*call.door, &call.event).await {
                Ok(message) => {
                    (report.outcome, report.error) = (Outcome::Succeeded, None);
                    report.logs.push(LogLine {
                        level: LogLevel::Info,
                        message,
                    });
                }
                Err(error) => {
                    (report.outcome, report.error) = (Outcome::Failed, Some(error.to_string()));
                }
            }
            Ok(report)
        }
        .boxed()
    }
}

async fn play(script: &str, door: &dyn crate::hook::Door, event: &Event) -> Result<String> {
    let (module, id) = (event.module.as_str(), event.record_id);
    match script {
        "read" => door.get(module, id).await,
        "look" => Ok(format!("{} {:?}", door.get(module, id).await?, event.after)),
        "list" => {
            let filter = Some(r#"{"title": "one"}"#.to_owned());
            let page = door
                .list(
                    module,
                    DoorQuery {
                        filter,
                        limit: 10,
                        cursor: None,
                    },
                )
                .await?;
            Ok(page.records.join("\n"))
        }
        "create" => door.create("deals", r#"{"title": "made"}"#).await,
        "write" => {
            door.update(module, id, None, r#"{"title": "changed"}"#)
                .await
        }
        "write sequence" => {
            let values = json!({ "title": event.sequence.to_string() }).to_string();
            door.update(module, id, None, &values).await
        }
        "write nothing" => door.update(module, id, None, "{}").await,
        "write nonsense" => door.update(module, id, None, "[1]").await,
        "members" => door.get("members", id).await,
        "nul" => Ok("a\0b".to_owned()),
        _ => Err(Error::conflict("fails", "it\0fails")),
    }
}

/// A tenant's plugins on that stage.
struct Theatre {
    world: World,
    stage: Arc<Stage>,
    plugins: Plugins,
}

impl Theatre {
    fn new(world: World) -> Self {
        let stage = Arc::new(Stage::default());
        let plugins = Plugins::new(world.crm.core.clone(), stage.clone());
        Self {
            world,
            stage,
            plugins,
        }
    }

    async fn upload(&self, script: &str, grants: &str) -> Plugin {
        self.try_upload(
            self.world.admin,
            &component(script, grants, "contact.created"),
        )
        .await
        .unwrap()
    }

    async fn try_upload(&self, user: UserId, component: &str) -> Result<Plugin> {
        let permit = self.world.permit(user, OBJECT).await;
        self.plugins
            .upload(&permit, component.to_owned().into())
            .await
    }

    async fn enable(&self, user: UserId, plugin: &Plugin) -> Plugin {
        let permit = self.world.permit(user, OBJECT).await;
        self.plugins.enable(&permit, plugin.id, None).await.unwrap()
    }

    /// Uploads and enables as the administrator.
    async fn install(&self, script: &str, grants: &str) -> Plugin {
        let plugin = self.upload(script, grants).await;
        self.enable(self.world.admin, &plugin).await
    }

    /// A new contact, as the administrator makes it.
    async fn contact(&self, title: &str) -> RecordId {
        let permit = self.world.permit(self.world.admin, "contacts").await;
        let body = Map::from_iter([("title".to_owned(), json!(title))]);
        self.world
            .crm
            .records()
            .create(&permit, body)
            .await
            .unwrap()
            .id
    }

    async fn title(&self, contact: RecordId) -> serde_json::Value {
        let permit = self.world.permit(self.world.admin, "contacts").await;
        let record = self
            .world
            .crm
            .records()
            .get(&permit, contact)
            .await
            .unwrap();
        serde_json::to_value(record.get("title").unwrap()).unwrap()
    }

    /// Delivers what is pending until nothing is.
    async fn dispatch(&self) {
        let core = &self.world.crm.core;
        let subscribers: Vec<Arc<dyn Subscriber>> = vec![Arc::new(self.plugins.clone())];
        let mut dispatcher = Dispatcher::new(core.db.clone(), core.clock.clone(), subscribers);
        let stop = tokio_util::sync::CancellationToken::new();
        while dispatcher.round(&stop).await.unwrap() != Round::Delivered(0) {}
        dispatcher.release().await.unwrap();
    }

    async fn runs(&self, plugin: &Plugin) -> Vec<Run> {
        let permit = self.world.permit(self.world.admin, OBJECT).await;
        self.plugins
            .runs(&permit, plugin.id, None, 100)
            .await
            .unwrap()
            .data
    }

    /// The only run of a plugin after the creation of a contact.
    async fn run_of_contact(&self, plugin: &Plugin) -> Run {
        self.contact("one").await;
        self.dispatch().await;
        let mut runs = self.runs(plugin).await;
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs.remove(0)
    }

    async fn components(&self) -> i64 {
        let sql = Sql::new("SELECT count(*) FROM plugin_components").returns(&[ColumnType::Int]);
        let mut row = self
            .world
            .crm
            .core
            .db
            .fetch_optional(sql)
            .await
            .unwrap()
            .unwrap();
        row.int().unwrap()
    }

    /// A member with a role of just these permissions.
    async fn member_with(&self, permissions: &[&str]) -> UserId {
        let name = format!("role_{}", self.world.crm.clock().new_id().simple());
        let role = NewRole {
            name: name.clone(),
            description: String::new(),
            parent_id: None,
            permissions: permissions.iter().map(|text| (*text).into()).collect(),
        };
        let permit = self.world.permit(self.world.admin, "roles").await;
        self.world.crm.roles().create(&permit, role).await.unwrap();
        self.world.new_member(&[&name]).await
    }
}

/// The component of a plugin called `actor` that plays a script.
fn component(script: &str, grants: &str, trigger: &str) -> String {
    let mut text = format!(
        "name = 'actor'\nversion = '1.0.0'\ndescription = '{script}'\ntriggers = ['{trigger}']\n"
    );
    for grant in grants.split_whitespace() {
        let (module, action) = grant.split_once('.').unwrap();
        text.push_str(&format!(
            "[[grants]]\nmodule = '{module}'\nactions = ['{action}']\n"
        ));
    }
    text
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

async fn a_new_version_needs_consent_again(world: World) {
    let theatre = Theatre::new(world);
    let first = theatre.install("write", "contacts.update").await;
    let second = theatre.upload("read", "contacts.read").await;
    assert_eq!(
        (second.id, second.status),
        (first.id, PluginStatus::Uploaded)
    );
    assert_eq!(second.enabled_at, None);
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let seen = Hex(&first.sha256).to_string();
    let unseen = theatre
        .plugins
        .enable(&permit, second.id, Some(&seen))
        .await;
    assert_eq!(unseen.unwrap_err().code(), "component_changed");
    assert_eq!(
        theatre.components().await,
        1,
        "nobody uses the first version any more"
    );
    theatre.contact("one").await;
    theatre.dispatch().await;
    assert!(theatre.runs(&first).await.is_empty());
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

async fn a_plugin_has_no_more_rights_than_its_manifest_asks(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("write", "contacts.read").await;
    let run = theatre.run_of_contact(&plugin).await;
    assert_eq!(run.outcome, Outcome::Failed);
    assert_eq!(
        run.error.as_deref(),
        Some("you lack the permission contacts.update")
    );
}

async fn a_plugin_has_no_more_rights_than_whoever_enabled_it(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.upload("write", "contacts.update").await;
    let reader = theatre.member_with(&["plugins.*", "contacts.read"]).await;
    assert_eq!(
        theatre.enable(reader, &plugin).await.installed_by,
        Some(reader)
    );
    let run = theatre.run_of_contact(&plugin).await;
    assert_eq!(
        run.error.as_deref(),
        Some("you lack the permission contacts.update")
    );
}

async fn a_plugin_loses_the_rights_that_its_user_loses(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.upload("write", "contacts.update").await;
    let user = theatre.member_with(&["plugins.*", "contacts.*"]).await;
    theatre.enable(user, &plugin).await;
    let contact = theatre.contact("one").await;
    theatre.dispatch().await;
    assert_eq!(theatre.title(contact).await, json!("changed"));

    let (members, admin) = (theatre.world.crm.members(), theatre.world.admin);
    let permit = theatre.world.permit(admin, "members").await;
    members
        .set_roles(&permit, user, vec!["viewer".to_owned()])
        .await
        .unwrap();
    theatre.contact("two").await;
    theatre.dispatch().await;
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(
        run.error.as_deref(),
        Some("you lack the permission contacts.update")
    );

    members
        .remove(&theatre.world.permit(admin, "members").await, user)
        .await
        .unwrap();
    theatre.contact("three").await;
    theatre.dispatch().await;
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(run.outcome, Outcome::Refused);
    assert!(run.error.unwrap().contains("no active member"));
}

async fn rights_on_own_rows_give_a_plugin_nothing(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.upload("read", "contacts.read").await;
    let user = theatre
        .member_with(&["plugins.*", "contacts.read:own"])
        .await;
    theatre.enable(user, &plugin).await;
    let run = theatre.run_of_contact(&plugin).await;
    assert_eq!(
        run.error.as_deref(),
        Some("you lack the permission contacts.read")
    );
}

async fn a_plugin_reaches_no_field_beyond_those_of_its_user(world: World) {
    let theatre = Theatre::new(world);
    let untitled = |permission: &str| crate::policy::PermissionInput {
        permission: permission.to_owned(),
        except: Some(vec!["title".to_owned()]),
        ..Default::default()
    };
    let role = NewRole {
        name: "untitled".to_owned(),
        permissions: vec![
            "plugins.*".into(),
            untitled("contacts.read"),
            untitled("contacts.update"),
        ],
        ..NewRole::default()
    };
    let admin = theatre.world.admin;
    let permit = theatre.world.permit(admin, "roles").await;
    theatre
        .world
        .crm
        .roles()
        .create(&permit, role)
        .await
        .unwrap();
    let user = theatre.world.new_member(&["untitled"]).await;
    let looks = theatre.upload("look", "contacts.read").await;
    theatre.enable(user, &looks).await;
    let run = theatre.run_of_contact(&looks).await;
    let seen = &run.logs[0].message;
    assert!(seen.contains("owner_id") && !seen.contains("one"), "{seen}");

    let writes = theatre.upload("write", "contacts.update").await;
    theatre.enable(user, &writes).await;
    let contact = theatre.contact("two").await;
    theatre.dispatch().await;
    let runs = theatre.runs(&writes).await;
    assert_eq!(runs[0].outcome, Outcome::Failed, "{runs:?}");
    assert_eq!(theatre.title(contact).await, json!("two"));
}

async fn a_plugin_that_may_not_read_learns_nothing_by_writing(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("write nothing", "contacts.update").await;
    let run = theatre.run_of_contact(&plugin).await;
    assert_eq!(run.outcome, Outcome::Succeeded, "{run:?}");
    let shown: Map<String, serde_json::Value> = serde_json::from_str(&run.logs[0].message).unwrap();
    assert_eq!(shown.keys().collect::<Vec<_>>(), ["id", "version"]);
}

async fn a_plugin_reads_lists_and_creates_within_its_grants(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("list", "contacts.read").await;
    theatre.contact("other").await;
    theatre.dispatch().await;
    theatre.contact("one").await;
    theatre.dispatch().await;
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(run.logs[0].message.lines().count(), 1, "{run:?}");
    assert!(run.logs[0].message.contains(r#""title":"one""#), "{run:?}");

    for (script, grants, error) in [
        ("create", "deals.create", None),
        (
            "create",
            "deals.read",
            Some("you lack the permission deals.create"),
        ),
        (
            "write nonsense",
            "contacts.update",
            Some("the input is not valid"),
        ),
        (
            "members",
            "contacts.read",
            Some("you lack the permission members.read"),
        ),
    ] {
        let plugin = theatre.install(script, grants).await;
        theatre.contact("one").await;
        theatre.dispatch().await;
        let run = theatre.runs(&plugin).await.remove(0);
        assert!(
            match (&run.error, error) {
                (Some(found), Some(wanted)) => found.starts_with(wanted),
                (found, wanted) => found.is_none() && wanted.is_none(),
            },
            "{script}: {run:?}"
        );
    }
}

async fn an_event_delivered_again_does_not_run_again(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("read", "contacts.read").await;
    theatre.contact("one").await;
    theatre.dispatch().await;
    theatre
        .world
        .execute(Sql::new("UPDATE outbox SET dispatched_at = NULL"))
        .await;
    theatre.dispatch().await;
    assert_eq!(theatre.runs(&plugin).await.len(), 1);
    assert_eq!(theatre.stage.runs.load(Ordering::SeqCst), 1);
}

async fn a_chain_of_causes_ends(world: World) {
    let theatre = Theatre::new(world);
    let text = component("write sequence", "contacts.update", "contact.updated");
    let plugin = theatre
        .try_upload(theatre.world.admin, &text)
        .await
        .unwrap();
    theatre.enable(theatre.world.admin, &plugin).await;
    let contact = theatre.contact("one").await;
    let permit = theatre.world.permit(theatre.world.admin, "contacts").await;
    let body = Map::from_iter([("title".to_owned(), json!("begin"))]);
    theatre
        .world
        .crm
        .records()
        .update(&permit, contact, None, body)
        .await
        .unwrap();
    theatre.dispatch().await;

    let runs = theatre.runs(&plugin).await;
    assert_eq!(
        theatre.stage.runs.load(Ordering::SeqCst),
        16,
        "depths 0 to 15"
    );
    assert_eq!(runs.len(), 17);
    assert_eq!(runs[0].outcome, Outcome::Refused);
    assert!(
        runs[0]
            .error
            .as_deref()
            .unwrap()
            .contains("chain of 16 events"),
        "{:?}",
        runs[0]
    );
}

async fn a_failing_plugin_holds_nobody_up(world: World) {
    let theatre = Theatre::new(world);
    let failing = theatre.install("fail", "contacts.read").await;
    let text = component("write", "contacts.update", "contact.created").replace("actor", "second");
    let second = theatre
        .try_upload(theatre.world.admin, &text)
        .await
        .unwrap();
    theatre.enable(theatre.world.admin, &second).await;
    let contact = theatre.contact("one").await;
    theatre.dispatch().await;
    assert_eq!(theatre.runs(&failing).await[0].outcome, Outcome::Failed);
    assert_eq!(theatre.title(contact).await, json!("changed"));
    let pending = Sql::new("SELECT 1 FROM outbox WHERE dispatched_at IS NULL");
    assert!(
        theatre
            .world
            .crm
            .core
            .db
            .fetch_all(pending)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn a_plugin_may_log_what_no_column_holds(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("nul", "").await;
    assert_eq!(
        theatre.run_of_contact(&plugin).await.logs[0].message,
        "a\u{fffd}b"
    );
    let plugin = theatre.install("fail", "").await;
    theatre.contact("two").await;
    theatre.dispatch().await;
    assert_eq!(
        theatre.runs(&plugin).await[0].error.as_deref(),
        Some("it\u{fffd}fails")
    );
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
    let upload = theatre.plugins.upload(&permit, text.into());
    let plugin = upload.await.unwrap();
    assert_eq!(
        (plugin.status, plugin.installed_by),
        (PluginStatus::Uploaded, None)
    );
    let enable = theatre
        .plugins
        .enable(&scope.permit(OBJECT).unwrap(), plugin.id, None)
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
    assert_eq!(
        refusal(plugins.runs(&read, plugin.id, None, 1).await),
        "not_found"
    );
    assert_eq!(
        refusal(plugins.enable(&update, plugin.id, None).await),
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
        .upload(&scope.permit(OBJECT).unwrap(), text.into())
        .await
        .unwrap();
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
        missing(theatre.plugins.upload(&create, Bytes::new()).await),
        "plugins.create"
    );
}

async fn paging_visits_each_run_once(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("read", "contacts.read").await;
    for _ in 0..5 {
        theatre.contact("one").await;
    }
    theatre.dispatch().await;
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = theatre
            .plugins
            .runs(&permit, plugin.id, before, 2)
            .await
            .unwrap();
        seen.extend(page.data.iter().map(|run| run.id));
        before = page.next_cursor;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.is_sorted_by(|a, b| a > b), "newest first: {seen:?}");
    for limit in [0, 101] {
        let refused = theatre.plugins.runs(&permit, plugin.id, None, limit).await;
        assert_eq!(refusal(refused), "validation_failed");
    }
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
    theatre.upload("list", "contacts.read").await;
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    theatre.plugins.disable(&permit, plugin.id).await.unwrap();
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    theatre.plugins.delete(&permit, plugin.id).await.unwrap();
    assert_eq!(
        theatre.world.audit().await[before..],
        [
            "plugins.create",
            "plugins.update",
            "plugins.update",
            "plugins.update",
            "plugins.delete"
        ]
    );
}
