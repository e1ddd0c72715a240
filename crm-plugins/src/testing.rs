//! Plugins in tests: a whole CRM with one tenant, without a server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use crm_core::clock::{Clock, Fixed};
use crm_core::egress::{Egress, Resolve};
use crm_core::id::{EventId, PluginId, RecordId};
use crm_core::module::ModuleSpec;
use crm_core::plugin::{
    Acted, Ask, Message, Plugin, Plugins, Run, RunQuery, Signed, Targets, WebhookAuth,
};
use crm_core::record::{Answered, Query, Record};
use crm_core::{
    Create, Crm, DatabaseOptions, Delete, Durability, Error, Read, RequestContext, Result, Scope,
    Update,
};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use secrecy::SecretString;
use serde_json::{Map, Value as Json};
use tempfile::TempDir;
use wit_component::{StringEncoding, embed_component_metadata};

pub use crate::guest::append_section;
use crate::{Host, Limits, componentize, embed_manifest};

/// When the time of a harness begins.
const START: &str = "2030-01-31T12:00:00Z";
/// Most runs that are answered.
const RUNS: u32 = 100;

/// A CRM of one test: one tenant in a temporary database, where the plugins that are installed get
/// what their manifests ask for.
///
/// Every call comes back when the plugins that it woke have run. Time stands still until it is
/// [advanced](Self::advance), and requests of plugins to other hosts reach nobody.
///
/// ```
/// # async fn example() -> crm_core::Result<()> {
/// use crm_plugins::testing::Harness;
/// use serde_json::json;
///
/// let harness = Harness::new(crm_core::module::default_modules()).await?;
/// let contact = harness.create("contacts", json!({ "name": "Ada" })).await?;
/// assert_eq!(contact["name"], "Ada");
/// # Ok(())
/// # }
/// ```
pub struct Harness {
    crm: Crm,
    scope: Scope,
    time: Arc<Fixed>,
    installed: Mutex<Option<PluginId>>,
    _folder: TempDir,
}

/// A component made of a core module that was written by hand, against this world (such as
/// [`world`](crate::world()) makes of the manifest) and with this manifest inside.
///
/// # Errors
///
/// [`Error::Internal`] for a world that is none; those of [`componentize`].
pub fn assemble(mut module: Vec<u8>, world: &str, manifest: &str) -> Result<Vec<u8>> {
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str("plugin.wit", world);
    let package = package.map_err(Error::internal)?;
    let world = resolve.select_world(&[package], None);
    let world = world.map_err(Error::internal)?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .map_err(Error::internal)?;
    let mut component = componentize(&module)?;
    embed_manifest(&mut component, manifest);
    Ok(component)
}

/// Knows no host.
struct Nobody;

impl Resolve for Nobody {
    fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, std::io::Result<Vec<std::net::IpAddr>>> {
        ready(Ok(Vec::new())).boxed()
    }
}

impl Harness {
    /// A tenant with these modules and no plugins.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for declarations that break a rule.
    pub async fn new(modules: Vec<ModuleSpec>) -> Result<Self> {
        let folder = tempfile::tempdir().map_err(Error::internal)?;
        let file = folder.path().join("crm.db");
        let start = START.parse().map_err(Error::internal)?;
        let (clock, time) = Clock::fixed(start, 0);
        let host = Host::in_process(Limits {
            concurrent_runs: 4,
            ..Limits::default()
        })?;
        let database = DatabaseOptions {
            durability: Durability::Off,
            ..DatabaseOptions::default()
        };
        let crm = Crm::builder()
            .database(format!("sqlite://{}", file.display()))
            .database_options(database)
            .secret(SecretString::from("a secret of a test, known to everybody"))
            .modules(modules)
            .clock(clock)
            .egress(Egress::builder().resolver(Arc::new(Nobody)).build()?)
            .plugins(Arc::new(host))
            .build()
            .await?;
        let request = RequestContext {
            id: "test".into(),
            address: None,
        };
        let tenant = crm.tenants().create("test", request.clone()).await?;
        let scope = crm.operator_in(tenant.id, request).await?;
        Ok(Self {
            crm,
            scope,
            time,
            installed: Mutex::default(),
            _folder: folder,
        })
    }

    /// Uploads a component and enables it.
    ///
    /// # Errors
    ///
    /// Those of [`Plugins::upload`].
    pub async fn install(&self, component: impl Into<Bytes>) -> Result<PluginId> {
        let plugins = self.plugins()?;
        let create = self.scope.permit::<Create>("plugins")?;
        let uploaded = plugins.upload(&create, component.into(), None).await?;
        let sha256 = hex::encode(uploaded.version.sha256);
        let update = self.scope.permit::<Update>("plugins")?;
        let enabled = plugins.enable(&update, uploaded.plugin.id, &sha256);
        let id = enabled.await?.id;
        *self.lock() = Some(id);
        Ok(id)
    }

    /// Entrusts a secret to the plugin that was installed last.
    ///
    /// # Errors
    ///
    /// Those of [`Plugins::set_secret`].
    pub async fn secret(&self, name: &str, secret: &SecretString) -> Result<()> {
        let permit = self.scope.permit::<Update>("plugins")?;
        let plugin = self.installed()?;
        let entrusted = self.plugins()?.set_secret(&permit, plugin, name, secret);
        entrusted.await.map(drop)
    }

    /// Makes a record and answers it as it was made, in the form of the HTTP API.
    ///
    /// # Errors
    ///
    /// Those of [`Records::create`](crm_core::Records::create).
    pub async fn create(&self, module: &str, values: Json) -> Result<Json> {
        let permit = self.scope.permit::<Create>(module)?;
        let record = self.crm.records().create(&permit, object(values)?).await?;
        self.settle().await?;
        json(&record)
    }

    /// Changes fields of a record, whatever version it has, and answers it as it was changed.
    ///
    /// # Errors
    ///
    /// Those of [`Records::update`](crm_core::Records::update).
    pub async fn update(&self, module: &str, id: RecordId, values: Json) -> Result<Json> {
        let permit = self.scope.permit::<Update>(module)?;
        let records = self.crm.records();
        let record = records.update(&permit, id, None, object(values)?).await?;
        self.settle().await?;
        json(&record)
    }

    /// Deletes a record.
    ///
    /// # Errors
    ///
    /// Those of [`Records::delete`](crm_core::Records::delete).
    pub async fn delete(&self, module: &str, id: RecordId) -> Result<()> {
        let permit = self.scope.permit::<Delete>(module)?;
        self.crm.records().delete(&permit, id, None).await?;
        self.settle().await
    }

    /// A record as it is now.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn get(&self, module: &str, id: RecordId) -> Result<Json> {
        let permit = self.scope.permit::<Read>(module)?;
        json(&self.crm.records().get(&permit, id).await?)
    }

    /// The latest 100 records of a module, newest first.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for a module that there is not.
    pub async fn list(&self, module: &str) -> Result<Vec<Json>> {
        let permit = self.scope.permit::<Read>(module)?;
        let query = Query {
            limit: 100,
            ..Query::default()
        };
        let page = self.crm.records().list(&permit, &query).await?;
        page.data.iter().map(json).collect()
    }

    /// Sends a message to a webhook of the plugin that was installed last, as its senders do, and
    /// answers the event that its run has.
    ///
    /// # Errors
    ///
    /// Those of [`Plugins::receive`] and [`Plugins::receive_signed`].
    pub async fn receive(
        &self,
        webhook: &str,
        content_type: Option<&str>,
        body: impl Into<Bytes>,
    ) -> Result<EventId> {
        let (plugins, plugin) = (self.plugins()?, self.plugin().await?);
        let mut webhooks = plugin.manifest.webhooks();
        let known = webhooks.find(|known| *known.name.as_str() == *webhook);
        let auth = known.ok_or(Error::NotFound)?.auth;
        let message = Message {
            plugin: plugin.manifest.name.to_string(),
            hook: webhook.to_owned(),
            content_type: content_type.map(str::to_owned),
            body: body.into(),
        };
        let event = match auth {
            WebhookAuth::ApiKey => {
                let permit = self.scope.permit::<Create>("plugin_runs")?;
                plugins.receive(&permit, None, message).await?
            }
            WebhookAuth::Signature => {
                let permit = self.scope.permit::<Update>("plugins")?;
                let secret =
                    plugins.renew_hook_secret(&permit, plugin.id, webhook, TimeDelta::zero());
                let (secret, clock) = (secret.await?, self.crm.clock());
                let (id, now) = (clock.new_id().to_string(), clock.now());
                let signature = secret.sign(&id, now, &message.body)?;
                let signed = Signed {
                    id: &id,
                    timestamp: &now.timestamp().to_string(),
                    signatures: &signature,
                };
                let (tenant, request) = (Some(self.scope.tenant()), self.scope.request());
                let received = plugins.receive_signed(tenant, signed, message, request);
                received.await?
            }
        };
        self.settle().await?;
        Ok(event)
    }

    /// Asks for an action of the plugin that was installed last on these records, and answers what
    /// came of it. A run that fails is no error.
    ///
    /// # Errors
    ///
    /// Those of [`Plugins::act`].
    pub async fn act(
        &self,
        action: &str,
        module: &str,
        records: Vec<RecordId>,
        input: Json,
    ) -> Result<Acted> {
        let (plugins, plugin) = (self.plugins()?, self.plugin().await?);
        let run = self.scope.permit::<Create>("plugin_runs")?;
        let read = self.scope.permit::<Read>(module)?;
        let ask = Ask {
            plugin: plugin.manifest.name.to_string(),
            action: action.to_owned(),
            on: Targets::Some(records),
            input: object(input)?,
            once: None,
        };
        let answered = plugins.act(&run, &read, ask).await?;
        self.settle().await?;
        match answered {
            Answered::Now(acted) => Ok(acted),
            _ => Err(Error::internal(
                "an action without a key was asked for before",
            )),
        }
    }

    /// Moves time forward, and runs what is due then.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn advance(&self, by: Duration) -> Result<()> {
        self.time
            .advance(TimeDelta::from_std(by).map_err(Error::internal)?);
        self.settle().await
    }

    /// The latest runs of the plugin that was installed last, newest first.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when none was.
    pub async fn runs(&self) -> Result<Vec<Run>> {
        let permit = self.scope.permit::<Read>("plugins")?;
        let query = RunQuery {
            limit: RUNS,
            ..RunQuery::default()
        };
        let plugin = self.installed()?;
        Ok(self.plugins()?.runs(&permit, plugin, &query).await?.data)
    }

    /// The library itself, for what the harness has no word for.
    pub fn crm(&self) -> &Crm {
        &self.crm
    }

    /// The operator in the one tenant.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Runs what waits for plugins, and what follows from it.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn settle(&self) -> Result<()> {
        loop {
            let ran = self.crm.run_due_plugins_once().await?;
            if ran + self.crm.dispatch_once().await? == 0 {
                return Ok(());
            }
        }
    }

    /// Closes the database.
    pub async fn close(self) {
        self.crm.close().await;
    }

    fn plugins(&self) -> Result<&Plugins> {
        let plugins = self.crm.plugins();
        plugins.ok_or_else(|| Error::internal("the harness has no plugin host"))
    }

    async fn plugin(&self) -> Result<Plugin> {
        let permit = self.scope.permit::<Read>("plugins")?;
        self.plugins()?.get(&permit, self.installed()?).await
    }

    fn installed(&self) -> Result<PluginId> {
        let none = || Error::conflict("no_plugin", "install a plugin first");
        self.lock().ok_or_else(none)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<PluginId>> {
        self.installed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn object(values: Json) -> Result<Map<String, Json>> {
    match values {
        Json::Object(values) => Ok(values),
        _ => Err(Error::invalid("", "not_an_object", "Give an object.")),
    }
}

fn json(record: &Record) -> Result<Json> {
    serde_json::to_value(record).map_err(Error::internal)
}
