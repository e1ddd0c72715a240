//! The modules as one tenant has them: read with its policy, and kept as long.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{CustomField, rows};
use crate::crm::Core;
use crate::db::{Db, Dialect, Row, Tx};
use crate::error::Result;
use crate::id::TenantId;
use crate::module::{CompiledModule, Ident};
use crate::policy::Catalogue;
use crate::registry::{Dependent, Registry};

/// What a tenant has beside the application's modules, or in place of them.
#[derive(Debug)]
pub(crate) struct TenantModules {
    modules: HashMap<Ident, Arc<CompiledModule>>,
    catalogue: Arc<Catalogue>,
    version: Option<String>,
    /// The numbers of the tenant's references, ascending.
    references: Vec<u64>,
    /// Those references, by the name of the module referred to.
    dependents: HashMap<Ident, Vec<Dependent>>,
}

impl TenantModules {
    /// Those of a tenant that declares nothing itself.
    pub(crate) fn declared(catalogue: Arc<Catalogue>) -> Self {
        Self {
            modules: HashMap::new(),
            catalogue,
            version: None,
            references: Vec::new(),
            dependents: HashMap::new(),
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
        Self::of([stored, own], db.dialect(), registry, declared, tenant)
    }

    /// These modules if they know all references of the tenant that the transaction finds,
    /// otherwise those that it finds. A removal asks this behind the lock on what it removes:
    /// whoever refers to that has waited for the lock, or has declared and referred before it.
    pub(crate) async fn current(
        self: &Arc<Self>,
        tx: &mut Tx<'_>,
        core: &Core,
        tenant: TenantId,
    ) -> Result<Arc<Self>> {
        let mut references = Vec::new();
        for mut row in tx.fetch_all(rows::references(tenant)).await? {
            references.push(row.int::<i64>()?.unsigned_abs());
        }
        if references == self.references {
            return Ok(self.clone());
        }
        Self::now(tx, core, tenant).await
    }

    /// What the transaction finds.
    pub(super) async fn now(tx: &mut Tx<'_>, core: &Core, tenant: TenantId) -> Result<Arc<Self>> {
        let stored = tx.fetch_all(rows::in_use(tenant)).await?;
        let own = tx.fetch_all(rows::modules(tenant)).await?;
        let declared = core.policy.declared();
        Self::of(
            [stored, own],
            tx.dialect(),
            &core.registry,
            declared,
            tenant,
        )
    }

    /// The modules that these rows of fields and modules stand for.
    fn of(
        [stored, own]: [Vec<Row>; 2],
        dialect: Dialect,
        registry: &Registry,
        declared: &Arc<Self>,
        tenant: TenantId,
    ) -> Result<Arc<Self>> {
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
            let module = CompiledModule::of_tenant(spec, &fields, dialect, registry.clock());
            modules.insert(module.name().clone(), module);
        }
        for (name, mut fields) in fields {
            let Some(base) = registry.get(name.as_str()) else {
                continue;
            };
            fields.retain(|field| !base.has_field(field.spec.name.as_str()));
            if !fields.is_empty() {
                modules.insert(name, base.extended(&fields, dialect));
            }
        }
        let version = hex::encode(&digest.finalize()[..8]);
        let catalogue = match names.is_empty() {
            true => declared.catalogue.clone(),
            false => Arc::new(declared.catalogue.with(&names)?),
        };
        Ok(Arc::new(Self {
            catalogue,
            version: Some(version),
            references: references(&modules),
            dependents: dependents(&modules),
            modules,
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

    /// The tenant's fields that refer to the module called `name`.
    pub(crate) fn dependents(&self, name: &Ident) -> &[Dependent] {
        self.dependents.get(name).map_or(&[], Vec::as_slice)
    }

    /// All of them by name: those that the tenant declared, and those that it added fields to.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<CompiledModule>> {
        let mut modules: Vec<_> = self.modules.values().collect();
        modules.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        modules.into_iter()
    }

    /// The modules that the tenant declared, by name.
    pub(crate) fn own(&self) -> impl Iterator<Item = &Arc<CompiledModule>> {
        self.iter().filter(|module| module.is_tenants())
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

/// The numbers of the references that the tenant added to these modules.
fn references(modules: &HashMap<Ident, Arc<CompiledModule>>) -> Vec<u64> {
    let numbers = modules.values().flat_map(|module| {
        let references = module.custom_references();
        references.filter_map(|(position, _)| module.number(position))
    });
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    numbers
}

/// The same, by the name of the module referred to, in an order of their own.
fn dependents(modules: &HashMap<Ident, Arc<CompiledModule>>) -> HashMap<Ident, Vec<Dependent>> {
    let mut ordered: Vec<_> = modules.values().collect();
    ordered.sort_unstable_by(|a, b| a.name().cmp(b.name()));
    let mut dependents: HashMap<Ident, Vec<Dependent>> = HashMap::new();
    for module in ordered {
        for (field, spec) in module.custom_references() {
            for target in spec.kind.targets() {
                let of_target = dependents.entry(target.clone()).or_default();
                of_target.push(Dependent {
                    module: module.clone(),
                    field,
                    on_delete: spec.kind.on_delete().unwrap_or_default(),
                    has_key: false,
                });
            }
        }
    }
    dependents
}
