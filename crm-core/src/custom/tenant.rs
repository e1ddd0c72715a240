//! The modules as one tenant has them: read with its policy, and kept as long.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{CustomField, rows};
use crate::db::Db;
use crate::error::Result;
use crate::id::TenantId;
use crate::module::{CompiledModule, Ident};
use crate::policy::Catalogue;
use crate::registry::Registry;

/// What a tenant has beside the application's modules, or in place of them.
#[derive(Debug)]
pub(crate) struct TenantModules {
    modules: HashMap<Ident, Arc<CompiledModule>>,
    catalogue: Arc<Catalogue>,
    version: Option<String>,
}

impl TenantModules {
    /// Those of a tenant that declares nothing itself.
    pub(crate) fn declared(catalogue: Arc<Catalogue>) -> Self {
        Self {
            modules: HashMap::new(),
            catalogue,
            version: None,
        }
    }

    /// Reads what the tenant declared; `declared` when that is nothing.
    pub(crate) async fn load(
        db: &Db,
        registry: &Registry,
        declared: &Arc<Self>,
        tenant: TenantId,
    ) -> Result<Arc<Self>> {
        let stored = db.fetch_all(rows::in_use(tenant)).await?;
        let own = db.fetch_all(rows::modules(tenant)).await?;
        if stored.is_empty() && own.is_empty() {
            return Ok(declared.clone());
        }
        let mut digest = Sha256::new_with_prefix(registry.version());
        let mut fields: HashMap<Ident, Vec<CustomField>> = HashMap::new();
        for row in stored {
            let (module, field) = match rows::parse(row) {
                Ok(parsed) => parsed,
                // Of a later version of this program, perhaps: the tenant goes on without it.
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(%tenant, error, "a custom field is left out");
                    continue;
                }
            };
            let text = serde_json::to_string(&field.spec).unwrap_or_default();
            digest.update(format!("{module} {} {text}\n", field.number));
            fields.entry(module).or_default().push(field);
        }
        let (mut modules, mut names) = (HashMap::new(), Vec::new());
        for row in own {
            let spec = rows::parse_module(row)?;
            // What the application declares by now hides what the tenant did.
            let taken = |other: &Arc<CompiledModule>| {
                *other.name() == spec.name || *other.singular() == spec.singular
            };
            if registry.iter().any(taken) {
                continue;
            }
            digest.update(serde_json::to_string(&spec).unwrap_or_default());
            let fields = fields.remove(&spec.name).unwrap_or_default();
            names.push(spec.name.clone());
            let module = CompiledModule::of_tenant(spec, &fields, db.dialect(), registry.clock());
            modules.insert(module.name().clone(), module);
        }
        for (name, mut fields) in fields {
            let Some(base) = registry.get(name.as_str()) else {
                continue;
            };
            fields.retain(|field| base.position(field.spec.name.as_str()).is_none());
            if !fields.is_empty() {
                modules.insert(name, base.extended(&fields, db.dialect()));
            }
        }
        let mut version = String::with_capacity(16);
        for byte in &digest.finalize()[..8] {
            // Writing to a String cannot fail.
            let _ = write!(version, "{byte:02x}");
        }
        let catalogue = match names.is_empty() {
            true => declared.catalogue.clone(),
            false => Arc::new(declared.catalogue.with(&names)?),
        };
        Ok(Arc::new(Self {
            modules,
            catalogue,
            version: Some(version),
        }))
    }

    /// The module called `name`, where it is not as the application declares it.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<CompiledModule>> {
        // Most tenants have none: do without the hash.
        if self.modules.is_empty() {
            return None;
        }
        self.modules.get(name)
    }

    /// The modules that the tenant declared, by name.
    pub(crate) fn own(&self) -> impl Iterator<Item = &Arc<CompiledModule>> {
        let own = self.modules.values().filter(|module| module.is_tenants());
        let mut own: Vec<_> = own.collect();
        own.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        own.into_iter()
    }

    /// The objects and actions that permissions are about.
    pub(crate) fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// A digest of what the tenant declared.
    pub(crate) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}
