//! From a committed contact to its score: the library, its outbox and this host together, on both
//! databases.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use crm_core::hook::Outcome;
use crm_core::id::{PluginId, RecordId};
use crm_core::module::default_modules;
use crm_core::plugin::{Plugins, Run, RunQuery};
use crm_core::record::Record;
use crm_core::testing::Backend;
use crm_core::{AuditQuery, Crm, RequestContext, Scope, on_both_databases};
use crm_plugins::Limits;
use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::guest::{Guest, LOOP, SET_SCORE};
use super::{guests_wanted, host};

on_both_databases!(
    a_guest_writes_back_to_the_contact_that_woke_it,
    a_guest_that_never_ends_harms_nobody,
    the_real_guest_scores_a_new_contact,
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

fn request() -> RequestContext {
    RequestContext {
        id: "test".into(),
        address: None,
    }
}

async fn library(backend: &Backend, limits: Limits) -> Result<Crm> {
    let crm = Crm::builder()
        .database(backend.url())
        .database_options(crm_core::testing::database_options())
        .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
        .modules(default_modules())
        .plugins(Arc::new(host(limits)));
    Ok(crm.build().await?)
}

impl Office {
    pub(super) async fn open(backend: Backend, limits: Limits) -> Result<Self> {
        let crm = library(&backend, limits).await?;
        let tenant = crm.tenants().create("acme", request()).await?;
        let scope = crm.operator(tenant.id, request());
        Ok(Self {
            crm,
            scope,
            backend,
        })
    }

    /// The same tenant, with plugins on a host that has run nothing yet.
    pub(super) async fn on_another_host(self) -> Result<Self> {
        let tenant = self.scope.tenant();
        self.crm.close().await;
        let crm = library(&self.backend, Limits::default()).await?;
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
        let body = contact.as_object().cloned().unwrap_or_default();
        Ok(self
            .crm
            .records()
            .create(&self.scope.permit("contacts")?, body)
            .await?
            .id)
    }

    async fn contact(&self, id: RecordId) -> Result<Value> {
        let record: Record = self
            .crm
            .records()
            .get(&self.scope.permit("contacts")?, id)
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

async fn the_real_guest_scores_a_new_contact(backend: Backend) -> Result<()> {
    if !guests_wanted() {
        return Ok(());
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/plugins/lead-scoring");
    let component = tokio::task::spawn_blocking(move || crm_plugins::build(&dir)).await??;
    let office = Office::open(backend, Limits::default()).await?;
    let plugin = office.install(component).await?;
    let id = office
        .create(json!({
            "name": "Ada", "email": "ada@engines.example", "company": "Engines",
            "job_title": "Owner", "tags": ["vip"],
        }))
        .await?;
    office.crm.dispatch_once().await?;
    let runs = office.runs(plugin).await?;
    assert_eq!(runs[0].outcome, Outcome::Succeeded, "{:?}", runs[0]);
    // 30 an address of their own, 15 a company, 20 an owner, 15 a VIP.
    assert_eq!(office.contact(id).await?["score"], 80);
    office.crm.close().await;
    Ok(())
}
