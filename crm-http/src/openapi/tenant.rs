//! The document of one tenant: with the fields and modules that it declared, and the actions that its
//! plugins offer.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use crm_core::id::TenantId;
use crm_core::module::{CompiledModule, FieldSpec};
use crm_core::plugin::Offered;
use crm_core::{Crm, Error, Scope};
use serde_json::Value;

use super::field::named_schema;
use super::{Modules, OpenApi, for_each_operation, module};
use crate::problem::Problem;

/// Most documents that are kept.
const KEPT: usize = 64;

/// Documents by tenant, each with the version of the declarations it describes.
#[derive(Default)]
pub(super) struct Documents(Mutex<HashMap<TenantId, (String, Bytes)>>);

impl Documents {
    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, (String, Bytes)>> {
        // Whoever panicked with it has left whole entries.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenApi {
    /// The document of the caller's tenant; nothing when that is everybody's.
    pub(super) async fn of_tenant(&self, crm: &Crm, scope: &Scope) -> Result<Option<Bytes>, Error> {
        let offered = match crm.plugins() {
            Some(plugins) => plugins.offered(scope).await?,
            None => Vec::new(),
        };
        let declared = scope.modules_version();
        if declared.is_none() && offered.is_empty() {
            return Ok(None);
        }
        let version = version(declared, &offered);
        let tenant = scope.tenant();
        if let Some((kept, body)) = self.tenants.lock().get(&tenant)
            && *kept == version
        {
            return Ok(Some(body.clone()));
        }
        let modules: Vec<_> = scope.modules().map(AsRef::as_ref).collect();
        let document = self.merge(&modules, &offered);
        let body = Bytes::from(serde_json::to_vec(&document).map_err(Error::internal)?);
        let mut kept = self.tenants.lock();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(tenant, (version, body.clone()));
        Ok(Some(body))
    }

    /// The document of the caller's tenant, without what its plugins offer.
    fn of(&self, scope: &Scope) -> Value {
        let modules: Vec<_> = scope.modules().map(AsRef::as_ref).collect();
        self.merge(&modules, &[])
    }

    /// Refuses a module whose schemas or operations would be called like others in the document.
    pub(crate) fn refuse_taken(
        &self,
        scope: &Scope,
        candidate: &CompiledModule,
    ) -> Result<(), Problem> {
        let modules: Vec<_> = scope.modules().map(AsRef::as_ref).collect();
        for module in &modules {
            let (member, name) = if module.name() == candidate.name() {
                ("name", candidate.name())
            } else if module.singular() == candidate.singular() {
                ("singular", candidate.singular())
            } else {
                continue;
            };
            let message = format!("a module is called {name} already; choose another name");
            return Err(Error::invalid(member, "duplicate", message).into());
        }
        let mut document = self.of(scope);
        let described = module::describe(Modules(&modules), candidate);
        let schemas = &document["components"]["schemas"];
        let mut taken = described
            .schemas
            .keys()
            .any(|name| schemas.get(name).is_some());
        let mut ids = Vec::new();
        for item in described.paths.values() {
            for operation in item.as_object().into_iter().flat_map(|item| item.values()) {
                ids.push(operation["operationId"].clone());
            }
        }
        for_each_operation(&mut document, |_, _, operation| {
            taken |= operation
                .get("operationId")
                .is_some_and(|id| ids.contains(id));
        });
        match taken {
            false => Ok(()),
            true => {
                let message = "the document calls other things so; choose another name";
                Err(Error::invalid("singular", "reserved", message).into())
            }
        }
    }

    /// Refuses an enum whose values would be called like another schema of the document.
    pub(crate) fn refuse_taken_values(
        &self,
        scope: &Scope,
        module: &CompiledModule,
        field: &FieldSpec,
    ) -> Result<(), Problem> {
        let Some((name, _)) = named_schema(module.singular().as_str(), field) else {
            return Ok(());
        };
        // One that is there already is refused for that.
        if module.position(field.name.as_str()).is_some() {
            return Ok(());
        }
        let document = self.of(scope);
        match document["components"]["schemas"].get(&name) {
            None => Ok(()),
            Some(_) => {
                let message =
                    format!("the document calls something else {name}; choose another name");
                Err(Error::invalid("name", "reserved", message).into())
            }
        }
    }
}

/// What the document of a tenant follows from: what it declared, and the components that offer actions.
fn version(declared: Option<&str>, offered: &[Offered]) -> String {
    let mut version = declared.unwrap_or_default().to_owned();
    for offer in offered {
        version.push_str(&hex::encode(offer.sha256));
    }
    version
}
