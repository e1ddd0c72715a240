//! Installed plugins on both databases, with a host that plays them in Rust: its "components" are
//! manifests, and what a plugin does stands in its description.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Map, json};

use super::*;
use crate::db::{ColumnType, Sql};
use crate::dispatch::{Dispatcher, Round, Subscriber};
use crate::hook::Outcome;
use crate::id::{RecordId, RunId};
use crate::policy::fixture::{World, missing, on_both_databases, refusal};
use crate::role::NewRole;
use crate::scope::Actor;

mod actions;
mod bounds;
mod causes;
mod fairness;
mod gifts;
mod install;
mod judges;
mod keys;
mod limits;
mod names;
mod nodes;
mod notices;
mod rehearsal;
mod rights;
mod running;
mod runs;
mod stage;
mod stories;
mod switching;
mod timers;
mod uploads;
mod versions;
mod waits;
mod webhooks;
mod woken;

use stage::Stage;

/// A tenant's plugins on that stage.
struct Theatre {
    world: World,
    stage: Arc<Stage>,
    plugins: Plugins,
}

impl Theatre {
    fn new(world: World) -> Self {
        let stage = Arc::new(Stage::default());
        let plugins = Plugins::new(
            world.crm.core.clone(),
            stage.clone(),
            PluginLimits::default(),
        );
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

    /// The plugin in the version that is uploaded.
    async fn try_upload(&self, user: UserId, component: &str) -> Result<Plugin> {
        let permit = self.world.permit(user, OBJECT).await;
        let component = component.to_owned().into();
        let uploaded = self.plugins.upload(&permit, component, None).await?;
        Ok(Plugin {
            sha256: uploaded.version.sha256,
            manifest: uploaded.version.manifest,
            ..uploaded.plugin
        })
    }

    /// Consents to this version.
    async fn enable(&self, user: UserId, plugin: &Plugin) -> Plugin {
        let permit = self.world.permit(user, OBJECT).await;
        let sha256 = sha256(plugin);
        let enabled = self.plugins.enable(&permit, plugin.id, &sha256);
        enabled.await.unwrap()
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
        self.dispatch_by(&self.plugins).await;
    }

    /// As [`dispatch`](Self::dispatch), in the process of these plugins.
    async fn dispatch_by(&self, plugins: &Plugins) {
        let core = &self.world.crm.core;
        let subscribers: Vec<Arc<dyn Subscriber>> = vec![Arc::new(plugins.clone())];
        let mut dispatcher = Dispatcher::new(core.db.clone(), core.clock.clone(), subscribers);
        let stop = tokio_util::sync::CancellationToken::new();
        while dispatcher.round(&stop).await.unwrap() != Round::Delivered(0) {}
        dispatcher.release().await.unwrap();
    }

    async fn runs(&self, plugin: &Plugin) -> Vec<Run> {
        let permit = self.world.permit(self.world.admin, OBJECT).await;
        let all = RunQuery {
            limit: 100,
            ..RunQuery::default()
        };
        let runs = self.plugins.runs(&permit, plugin.id, &all);
        runs.await.unwrap().data
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

/// The hash of a plugin's component, in hexadecimal.
fn sha256(plugin: &Plugin) -> String {
    hex::encode(plugin.sha256)
}

/// The component of a plugin called `actor` that plays a script.
fn component(script: &str, grants: &str, trigger: &str) -> String {
    let mut text = format!(
        "name = 'actor'\nversion = '1.0.0'\ndescription = '{script}'\ntriggers = ['{trigger}']\n"
    );
    let mut modules: std::collections::BTreeMap<&str, Vec<&str>> = Default::default();
    for grant in grants.split_whitespace() {
        let (module, action) = grant.split_once('.').unwrap();
        modules.entry(module).or_default().push(action);
    }
    for (module, actions) in modules {
        let actions = actions.join("', '");
        text.push_str(&format!(
            "[[grants]]\nmodule = '{module}'\nactions = ['{actions}']\n"
        ));
    }
    text
}
