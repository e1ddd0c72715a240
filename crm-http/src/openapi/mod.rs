//! The one OpenAPI document: the fixed resources' own, merged with the paths and schemas that follow
//! from the declared modules. What serves a request also describes it.

mod body;
mod error;
mod example;
mod field;
mod figures;
mod fixed;
mod further;
mod module;
mod null;
mod page;
mod read;
mod tenant;
mod through;
mod write;

use std::collections::HashSet;
use std::sync::RwLock;

use bytes::Bytes;
use crm_core::module::CompiledModule;
use crm_core::plugin::Offered;
use crm_core::{Crm, Error, Scope};
use poem::Response;
use poem::http::header::{CACHE_CONTROL, VARY};
use serde_json::{Map, Value, json};

use crate::problem::Problem;

/// The name of the security scheme that both kinds of credential share.
pub(crate) const BEARER: &str = "bearer";
/// The name of the security scheme of signed messages.
pub(crate) const SIGNED: &str = "webhook_signature";

const INTRODUCTION: &str = "\
Records of the declared modules, and the administration of a tenant.

Every answer carries `X-Request-Id`. Errors are `application/problem+json` (RFC 9457) with a stable \
`code`; refused input lists each field by JSON Pointer in `errors`. What belongs to another tenant \
is answered like what does not exist. Whoever asks for this document with a credential gets that of \
their tenant, with the fields and modules it declared itself (`/api/v1/modules`). An operation needs \
its `x-permission`, none where that is null, and the `x-further-permissions` beside it, always or in the \
case that `when` names. Actions that the tenant's plugins offer on records are operations of that document. Lists are paged by `cursor`. A record's `ETag` says its version; \
send it back as `If-Match` to change only what you have seen.";

/// The modules of a document, among which references lead.
#[derive(Clone, Copy)]
struct Modules<'m>(&'m [&'m CompiledModule]);

impl<'m> Modules<'m> {
    /// The module called `name`.
    fn get(self, name: &str) -> Option<&'m CompiledModule> {
        let mut modules = self.0.iter();
        modules.find(|one| one.name().as_str() == name).copied()
    }
}

/// Makes the document, and keeps it as long as the modules stay the same.
pub(crate) struct OpenApi {
    fixed: Value,
    public_url: String,
    cached: RwLock<Option<(String, Bytes)>>,
    tenants: tenant::Documents,
}

impl OpenApi {
    /// `fixed` is the document of the fixed resources, as poem-openapi writes it.
    ///
    /// # Errors
    /// When that is not JSON.
    pub(crate) fn new(fixed: &str, public_url: &str) -> Result<Self, Error> {
        let mut fixed = serde_json::from_str(fixed).map_err(Error::internal)?;
        fixed::mend(&mut fixed);
        Ok(Self {
            fixed,
            public_url: public_url.to_owned(),
            cached: RwLock::new(None),
            tenants: tenant::Documents::default(),
        })
    }

    /// The document as an answer: that of the caller's tenant, where there is a caller.
    ///
    /// # Errors
    /// When it cannot be written, which is a bug.
    pub(crate) async fn answer(
        &self,
        crm: &Crm,
        caller: Option<&Scope>,
    ) -> Result<Response, Problem> {
        let own = match caller {
            Some(scope) => self.of_tenant(crm, scope).await?,
            None => None,
        };
        let body = match own {
            Some(body) => body,
            None => self.document(crm)?,
        };
        Ok(Response::builder()
            .content_type("application/json")
            .header(CACHE_CONTROL, "private, no-cache")
            .header(VARY, "Authorization")
            .body(body))
    }

    fn document(&self, crm: &Crm) -> Result<Bytes, Error> {
        let registry = crm.registry();
        // A poisoned lock means that another request panicked here: the cache is rebuilt.
        if let Ok(cached) = self.cached.read()
            && let Some((version, body)) = cached.as_ref()
            && version == registry.version()
        {
            return Ok(body.clone());
        }
        let modules: Vec<_> = registry.iter().map(AsRef::as_ref).collect();
        let body =
            Bytes::from(serde_json::to_vec(&self.merge(&modules, &[])).map_err(Error::internal)?);
        if let Ok(mut cached) = self.cached.write() {
            *cached = Some((registry.version().to_owned(), body.clone()));
        }
        Ok(body)
    }

    fn merge(&self, modules: &[&CompiledModule], offered: &[Offered]) -> Value {
        let mut document = self.fixed.clone();
        document["openapi"] = json!("3.0.3");
        document["info"]["description"] = json!(INTRODUCTION);
        document["info"]["license"] = json!({"name": "MIT OR Apache-2.0"});
        let url = if self.public_url.is_empty() {
            "/"
        } else {
            self.public_url.as_str()
        };
        document["servers"] = json!([{"url": url}]);
        for_each_operation(&mut document, |_, _, operation| {
            declare_permission(operation)
        });
        for module in modules {
            let described = module::describe(Modules(modules), module);
            extend(&mut document["paths"], described.paths);
            extend(&mut document["components"]["schemas"], described.schemas);
            if let Some(tags) = document["tags"].as_array_mut() {
                tags.push(described.tag);
            }
        }
        module::add_actions(&mut document, modules, offered);
        number_namesakes(&mut document);
        for_each_operation(&mut document, |_, _, operation| body::declare(operation));
        for_each_operation(&mut document, |_, _, operation| further::declare(operation));
        for_each_operation(&mut document, error::declare);
        for_each_operation(&mut document, |_, _, operation| declare_tenant(operation));
        extend(&mut document["components"]["schemas"], error::schemas());
        null::mend(&mut document["components"]["schemas"]);
        null::mend(&mut document["paths"]);
        document
    }
}

/// Calls `visit` with path, method and declaration of each operation.
fn for_each_operation(
    document: &mut Value,
    mut visit: impl FnMut(&str, &str, &mut Map<String, Value>),
) {
    let Some(paths) = document["paths"].as_object_mut() else {
        return;
    };
    for (path, item) in paths {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            if let Some(operation) = operation.as_object_mut() {
                visit(path, method, operation);
            }
        }
    }
}

/// Modules may be called so that the list of one has the name of another's list under a record: no
/// declaration is refused for that, so the latter gets a number.
fn number_namesakes(document: &mut Value) {
    let mut taken = HashSet::new();
    for nested in [false, true] {
        for_each_operation(document, |path, _, operation| {
            let id = operation.get("operationId").and_then(Value::as_str);
            let Some(id) = id.filter(|_| path.contains("/{id}/") == nested) else {
                return;
            };
            let mut name = id.to_owned();
            for number in 2.. {
                if taken.insert(name.clone()) {
                    break;
                }
                name = format!("{id}_{number}");
            }
            operation.insert("operationId".to_owned(), name.into());
        });
    }
}

fn extend(target: &mut Value, members: Map<String, Value>) {
    if let Some(target) = target.as_object_mut() {
        target.extend(members);
    }
}

/// The permission that an operation's words declare: "Permission: `contacts.read`."
pub(crate) fn permission_in(words: &str) -> Option<&str> {
    let (_, rest) = words.split_once("Permission: `")?;
    rest.split_once('`').map(|(permission, _)| permission)
}

/// The platform's permission that an operation's words declare.
pub(crate) fn platform_permission_in(words: &str) -> Option<&str> {
    let (_, rest) = words.split_once("Platform permission: `")?;
    rest.split_once('`').map(|(permission, _)| permission)
}

/// Every operation with a credential takes the tenant's id, but for those of the platform.
fn declare_tenant(operation: &mut Map<String, Value>) {
    if !operation.contains_key("security") || operation.contains_key("x-platform-permission") {
        return;
    }
    let parameters = operation.entry("parameters").or_insert_with(|| json!([]));
    if let Some(parameters) = parameters.as_array_mut() {
        parameters.push(json!({
            "name": "X-Tenant", "in": "header", "required": false,
            "schema": {"type": "string", "format": "uuid"},
            "description": "The id of the tenant that the request is about. Only tokens of roaming \
                sessions leave a choice, and mean the tenant of their login without it; others refuse \
                any but their own. A name is answered 422.",
        }));
    }
}

/// Repeats the permission that a handler's words declare, for programs to read; null where none is needed.
fn declare_permission(operation: &mut Map<String, Value>) {
    let words = operation
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let platform = platform_permission_in(words).map(|permission| json!(permission));
    let own = permission_in(words).map(|permission| json!(permission));
    let own = own.or_else(|| platform.is_none().then_some(Value::Null));
    for (name, permission) in [("x-permission", own), ("x-platform-permission", platform)] {
        if let Some(permission) = permission {
            operation.insert(name.into(), permission);
        }
    }
}
