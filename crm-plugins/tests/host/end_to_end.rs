//! From a committed contact to its score: the library, its outbox and this host together, on both
//! databases.

use std::sync::Arc;

use anyhow::Result;
use crm_core::hook::Outcome;
use crm_core::id::{PluginId, RecordId};
use crm_core::module::default_modules;
use crm_core::plugin::{Plugins, Run, RunQuery};
use crm_core::record::Record;
use crm_core::testing::Backend;
use crm_core::{AuditQuery, Builder, Crm, RequestContext, Scope, on_both_databases};
use crm_plugins::Limits;
use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::guest::{Guest, LOOP, SET_SCORE};
use super::host;

on_both_databases!(
    a_guest_writes_back_to_the_contact_that_woke_it,
    a_guest_that_never_ends_harms_nobody,
    a_tenants_export_holds_what_its_plugins_are_and_no_secrets,
);

fn guest(body: &str) -> Vec<u8> {
    let manifest = "name = 'probe'
        version = '1.0.0'
        triggers = ['contact.created']
        [[grants]]
        module = 'contacts'
        actions = ['read', 'update']";
    Guest::new("handle", body).manifest(manifest).component()
}

/// A tenant of a library with plugins on this host.
pub(super) struct Office {
    pub(super) crm: Crm,
    pub(super) scope: Scope,
    backend: Backend,
}

pub(super) fn request() -> RequestContext {
    RequestContext {
        id: "test".into(),
        address: None,
    }
}

fn library(backend: &Backend, limits: Limits) -> Builder {
    Crm::builder()
        .database(backend.url())
        .database_options(crm_core::testing::database_options())
        .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
        .modules(default_modules())
        .plugins(Arc::new(host(limits)))
}

impl Office {
    pub(super) async fn open(backend: Backend, limits: Limits) -> Result<Self> {
        Self::open_with(backend, limits, |library| library).await
    }

    /// A tenant of a library with more than plugins.
    pub(super) async fn open_with(
        backend: Backend,
        limits: Limits,
        more: impl FnOnce(Builder) -> Builder,
    ) -> Result<Self> {
        let crm = more(library(&backend, limits)).build().await?;
        let tenant = crm.tenants().create("acme", request()).await?;
        let scope = crm.operator(tenant.id, request());
        Ok(Self {
            crm,
            scope,
            backend,
        })
    }

    /// The same tenant, with plugins on a host that has run nothing yet.
    pub(super) async fn on_another_host(self, limits: Limits) -> Result<Self> {
        let tenant = self.scope.tenant();
        self.crm.close().await;
        let crm = library(&self.backend, limits).build().await?;
        let scope = crm.operator(tenant, request());
        Ok(Self { crm, scope, ..self })
    }

    pub(super) fn plugins(&self) -> &Plugins {
        self.crm.plugins().expect("built with a host")
    }

    pub(super) async fn install(&self, component: Vec<u8>) -> Result<PluginId> {
        let sha256 = hex::encode(Sha256::digest(&component));
        let plugin = self
            .plugins()
            .upload(&self.scope.permit("plugins")?, component.into(), None)
            .await?
            .plugin;
        self.plugins()
            .enable(&self.scope.permit("plugins")?, plugin.id, &sha256)
            .await?;
        Ok(plugin.id)
    }

    pub(super) async fn create(&self, contact: Value) -> Result<RecordId> {
        self.create_in("contacts", contact).await
    }

    pub(super) async fn create_in(&self, module: &str, record: Value) -> Result<RecordId> {
        let body = record.as_object().cloned().unwrap_or_default();
        Ok(self
            .crm
            .records()
            .create(&self.scope.permit(module)?, body)
            .await?
            .id)
    }

    pub(super) async fn contact(&self, id: RecordId) -> Result<Value> {
        self.get("contacts", id).await
    }

    pub(super) async fn get(&self, module: &str, id: RecordId) -> Result<Value> {
        let record: Record = self
            .crm
            .records()
            .get(&self.scope.permit(module)?, id)
            .await?;
        Ok(serde_json::to_value(record)?)
    }

    pub(super) async fn runs(&self, plugin: PluginId) -> Result<Vec<Run>> {
        let query = RunQuery {
            limit: 10,
            ..RunQuery::default()
        };
        let page = self
            .plugins()
            .runs(&self.scope.permit("plugins")?, plugin, &query)
            .await?;
        Ok(page.data)
    }
}

async fn a_guest_writes_back_to_the_contact_that_woke_it(backend: Backend) -> Result<()> {
    let office = Office::open(backend, Limits::default()).await?;
    let plugin = office.install(guest(SET_SCORE)).await?;
    let id = office.create(json!({ "name": "Ada" })).await?;
    office.crm.dispatch_once().await?;

    let contact = office.contact(id).await?;
    assert_eq!(
        (&contact["score"], &contact["version"]),
        (&json!(7), &json!(2))
    );
    let runs = office.runs(plugin).await?;
    assert_eq!(runs.len(), 1);
    assert_eq!(
        (runs[0].outcome, runs[0].error.as_deref()),
        (Outcome::Succeeded, None)
    );
    assert!(runs[0].fuel > 0 && runs[0].host_calls == 1, "{:?}", runs[0]);

    let query = AuditQuery {
        entity_id: Some(id.to_string()),
        ..AuditQuery::default()
    };
    let audit = office
        .crm
        .audit()
        .list(&office.scope.permit("audit")?, &query)
        .await?;
    assert_eq!(audit.data[0].action, "contacts.update");
    assert_eq!(audit.data[0].actor, format!("plugin:{plugin}"));
    office.crm.close().await;
    Ok(())
}

async fn a_guest_that_never_ends_harms_nobody(backend: Backend) -> Result<()> {
    let limits = Limits {
        fuel: 1_000_000,
        ..Limits::default()
    };
    let office = Office::open(backend, limits).await?;
    let plugin = office.install(guest(LOOP)).await?;
    let id = office.create(json!({ "name": "Ada" })).await?;
    assert_eq!(
        office.crm.dispatch_once().await?,
        1,
        "delivered although the plugin failed"
    );
    assert_eq!(office.contact(id).await?["version"], 1);
    assert_eq!(office.runs(plugin).await?[0].outcome, Outcome::OutOfFuel);
    office.crm.close().await;
    Ok(())
}

async fn a_tenants_export_holds_what_its_plugins_are_and_no_secrets(
    backend: Backend,
) -> Result<()> {
    let office = Office::open(backend, Limits::default()).await?;
    let component = guest(SET_SCORE);
    let sha256 = hex::encode(Sha256::digest(&component));
    let plugin = office.install(component).await?;
    let (plugins, update) = (office.plugins(), office.scope.permit("plugins")?);
    let settings = crm_core::plugin::PluginSettings {
        require_signature: false,
        daily_fuel: Some(7_000_000_000),
    };
    plugins.settle(&update, settings).await?;
    let key = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";
    plugins.trust(&update, "vendor", key).await?;
    let secret = SecretString::from("a planted secret");
    plugins
        .set_secret(&update, plugin, "token", &secret)
        .await?;

    let tenant = office.scope.tenant();
    let mut export = office.crm.export_tenant(tenant, request()).await?;
    let mut files = std::collections::BTreeMap::<String, String>::new();
    while let Some(piece) = export.next().await? {
        files.entry(piece.file).or_default().push_str(&piece.text);
    }
    let line = |name: &str| serde_json::from_str::<Value>(files[name].trim_end());
    let version = line("plugin_versions.ndjson")?;
    assert_eq!(version["plugin_id"], json!(plugin));
    assert_eq!(version["sha256"], json!(sha256));
    assert_eq!(version["manifest"]["name"], "probe");
    let settled = line("plugin_settings.ndjson")?;
    assert_eq!(settled["daily_fuel"], json!(7_000_000_000_i64));
    let trusted = line("plugin_keys.ndjson")?;
    assert_eq!(
        (&trusted["name"], &trusted["public_key"]),
        (&json!("vendor"), &json!(key))
    );
    for (file, text) in &files {
        assert!(!text.contains("planted"), "{file}");
    }
    office.crm.close().await;
    Ok(())
}
