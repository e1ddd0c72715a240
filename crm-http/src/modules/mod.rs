//! The records of every module, served by one set of handlers over the registry.
//!
//! There is no code per module. A handler reads the request, asks the scope for the permit, and
//! writes what the library answers; rules and rights live in the library.

mod action;
mod aggregate;
mod bulk;
mod condition;
mod funnel;
mod merge;
mod nearest;
mod nested;
mod query;
mod query_body;
mod read;
mod transfer;
mod trash;
mod write;

use std::fmt;
use std::sync::Arc;

use crm_core::id::RecordId;
use crm_core::module::{CompiledModule, is_module_name};
use crm_core::{Action, Delete, Error, Purge, Read, Scope, Update};
use poem::http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG};
use poem::http::{HeaderValue, Method, StatusCode};
use poem::{Request, Response};
use serde::Serialize;

use crate::credential;
use crate::edge::{App, Exchange, Template};
use crate::json;
use crate::problem::Problem;
use crate::resource::allow;

pub(crate) use funnel::has_funnel;
pub(crate) use nearest::has_vectors;
pub(crate) use nested::Children;
pub(crate) use query::OF_PAGES;
pub(crate) use transfer::{MEDIA_TYPES, deadline};

/// The path all resources live under.
pub(crate) const BASE: &str = "/api/v1/";

const COLLECTION: &[Method] = &[Method::GET, Method::POST];
const AGGREGATE: &[Method] = &[Method::GET];
const IMPORT: &[Method] = &[Method::POST];
const EXPORT: &[Method] = &[Method::GET];
/// What takes its question or its changes as a body.
const BODY: &[Method] = &[Method::POST];
/// What is only read.
const READ: &[Method] = &[Method::GET];
const PURGE: &[Method] = &[Method::DELETE];
const RECORD: &[Method] = &[Method::GET, Method::PATCH, Method::PUT, Method::DELETE];

/// A request to a module: to its collection, or to one record.
pub(crate) struct Call {
    /// The module as the application declares it; none when it can only be a tenant's.
    declared: Option<Arc<CompiledModule>>,
    name: Box<str>,
    /// The path behind it.
    below: Option<Box<str>>,
}

enum Target {
    Collection,
    /// The collection, asked by a body.
    Query,
    /// The collection, written to by a unique value.
    Upsert,
    /// The collection, written to several times.
    Batch,
    /// What of the collection matches a condition, written to at once.
    BulkUpdate,
    BulkDelete,
    Record(Named),
    /// What is deleted of the collection.
    Trash,
    /// What of the collection may be the same.
    Duplicates,
    /// What a plugin offers to do about one record, or about some of the collection.
    Action(Option<Named>, action::Action),
    /// Something to do with one record: the path goes on behind its id or number.
    Act(Named, Act),
    /// The records that refer to one.
    Children(Named, Children),
    /// Figures about the collection.
    Aggregate,
    /// How far its records come.
    Funnel,
    /// The records that resemble a vector.
    Nearest,
    /// `/import` behind the collection.
    Import,
    /// `/export` behind the collection.
    Export,
    /// The path goes on after the module, with what cannot be an id.
    Nothing,
}

/// How a path names a record.
#[derive(Debug, Clone, Copy)]
enum Named {
    Id(RecordId),
    /// By the number of the module's key.
    Number(i64),
}

impl Named {
    fn read(module: &CompiledModule, text: &str) -> Option<Self> {
        let digits = || !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
        match record_id(text) {
            Some(id) => Some(Self::Id(id)),
            None if module.spec().key.is_some() && digits() => text.parse().ok().map(Self::Number),
            None => None,
        }
    }
}

/// What is done with one record, beside reading and writing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Restore,
    Purge,
    Duplicates,
    Merge,
}

impl Act {
    /// What the path segment `name` behind an id asks for, where the module has it.
    fn named(module: &CompiledModule, name: &str) -> Option<Self> {
        match name {
            trash::RESTORE if module.spec().soft_delete => Some(Self::Restore),
            trash::PURGE if module.spec().soft_delete => Some(Self::Purge),
            merge::DUPLICATES if !module.spec().duplicates.is_empty() => Some(Self::Duplicates),
            merge::MERGE => Some(Self::Merge),
            _ => None,
        }
    }

    fn methods(self) -> &'static [Method] {
        match self {
            Self::Restore | Self::Merge => BODY,
            Self::Purge => PURGE,
            Self::Duplicates => READ,
        }
    }

    fn below(self) -> &'static str {
        match self {
            Self::Restore => "{id}/restore",
            Self::Purge => "{id}/purge",
            Self::Duplicates => "{id}/duplicates",
            Self::Merge => "{id}/merge",
        }
    }
}

impl Target {
    /// What the path behind a module's name asks for; `children` are those that a segment behind a
    /// record names.
    fn of(
        module: &CompiledModule,
        below: Option<&str>,
        children: impl Fn(&str) -> Option<Children>,
    ) -> Self {
        match below {
            None => Self::Collection,
            Some(aggregate::AGGREGATE) => Self::Aggregate,
            Some(funnel::FUNNEL) if has_funnel(module) => Self::Funnel,
            Some(nearest::NEAREST) if has_vectors(module) => Self::Nearest,
            // No id of a record reads like this one (XC-29).
            Some(read::QUERY) => Self::Query,
            Some("import") => Self::Import,
            Some("export") => Self::Export,
            Some(write::UPSERT) => Self::Upsert,
            Some(write::BATCH) => Self::Batch,
            Some(bulk::BULK_UPDATE) => Self::BulkUpdate,
            Some(bulk::BULK_DELETE) => Self::BulkDelete,
            Some(trash::TRASH) if module.spec().soft_delete => Self::Trash,
            Some(merge::DUPLICATES) if !module.spec().duplicates.is_empty() => Self::Duplicates,
            Some(below) => match below.split_once('/') {
                None => Named::read(module, below).map_or(Self::Nothing, Self::Record),
                Some((action::ACTIONS, path)) => action::Action::of(path)
                    .map_or(Self::Nothing, |action| Self::Action(None, action)),
                Some((id, act)) => match (Named::read(module, id), act.split_once('/')) {
                    (Some(named), Some((action::ACTIONS, path))) => action::Action::of(path)
                        .map_or(Self::Nothing, |action| Self::Action(Some(named), action)),
                    (Some(named), _) => match (Act::named(module, act), children(act)) {
                        (Some(act), _) => Self::Act(named, act),
                        (None, Some(children)) => Self::Children(named, children),
                        (None, None) => Self::Nothing,
                    },
                    _ => Self::Nothing,
                },
            },
        }
    }

    /// The methods that it takes, and its path behind the module's with variables unfilled.
    fn serves(&self) -> (&'static [Method], &'static str) {
        match self {
            Self::Collection => (COLLECTION, ""),
            Self::Query => (BODY, read::QUERY),
            Self::Upsert => (BODY, write::UPSERT),
            Self::Batch => (BODY, write::BATCH),
            Self::BulkUpdate => (BODY, bulk::BULK_UPDATE),
            Self::BulkDelete => (BODY, bulk::BULK_DELETE),
            Self::Trash => (READ, trash::TRASH),
            Self::Duplicates => (READ, merge::DUPLICATES),
            Self::Act(_, act) => (act.methods(), act.below()),
            Self::Children(..) => (READ, "{id}/{children}"),
            Self::Action(Some(_), _) => (BODY, "{id}/actions/{plugin}/{action}"),
            Self::Action(None, _) => (BODY, "actions/{plugin}/{action}"),
            Self::Aggregate => (AGGREGATE, aggregate::AGGREGATE),
            Self::Funnel => (AGGREGATE, funnel::FUNNEL),
            Self::Nearest => (BODY, nearest::NEAREST),
            Self::Import => (IMPORT, "import"),
            Self::Export => (EXPORT, "export"),
            Self::Record(_) | Self::Nothing => (RECORD, "{id}"),
        }
    }
}

impl Call {
    /// The module request that `request` is, unless its path names no module.
    pub(crate) fn of(app: &App, request: &Request) -> Option<Self> {
        let path = request.uri().path().strip_prefix(BASE)?;
        let (name, id) = match path.split_once('/') {
            None => (path, None),
            Some((name, id)) => (name, Some(id)),
        };
        let declared = app.crm.registry().get(name).cloned();
        // A tenant's own module is there for its callers alone.
        let has_credential = request.headers().contains_key(AUTHORIZATION);
        if declared.is_none() && !(has_credential && is_module_name(name)) {
            return None;
        }
        Some(Self {
            declared,
            name: name.into(),
            below: id.map(Into::into),
        })
    }

    /// Answers it.
    ///
    /// # Errors
    /// Those of the library, and what is wrong with the request itself.
    pub(crate) async fn answer(
        self,
        exchange: &Arc<Exchange>,
        request: Request,
    ) -> Result<Response, Problem> {
        let Self {
            declared,
            name,
            below,
        } = self;
        let scope = match request.headers().contains_key(AUTHORIZATION) {
            true => Some(credential::scope(exchange, &request).await?),
            false => None,
        };
        let own = scope.as_ref().and_then(|scope| scope.readable(&name));
        let module = own.or(declared).ok_or(Error::NotFound)?;
        let crm = &exchange.app.crm;
        let children = |segment: &str| Children::named(crm, scope.as_ref(), &module, segment);
        let target = Target::of(&module, below.as_deref(), children);
        let nested = below.is_some_and(|below| below.contains('/'));
        let (methods, below) = target.serves();
        exchange.note_template(Template::Module {
            module: module.clone(),
            below,
        });
        // A path below no record knows no methods: it is not found, whatever is asked of it.
        let nowhere = nested && matches!(target, Target::Nothing);
        if !nowhere && !methods.contains(request.method()) {
            return Err(Problem::method_not_allowed(allow(methods.iter())));
        }
        let scope = match scope {
            Some(scope) => scope,
            None => credential::scope(exchange, &request).await?,
        };
        let handler = Handler {
            exchange,
            scope,
            module,
        };
        handler.serve(request, target).await
    }
}

/// The path of a module's resource with its variables unfilled.
pub(crate) fn write_template(
    f: &mut fmt::Formatter<'_>,
    module: &CompiledModule,
    below: &str,
) -> fmt::Result {
    let slash = if below.is_empty() { "" } else { "/" };
    write!(f, "{BASE}{}{slash}{below}", module.name())
}

/// XC-29: any UUID, in the one form that answers use.
fn record_id(text: &str) -> Option<RecordId> {
    const HYPHENATED: usize = 36;
    if text.len() == HYPHENATED {
        text.parse().ok()
    } else {
        None
    }
}

struct Handler<'a> {
    exchange: &'a Exchange,
    scope: Scope,
    module: Arc<CompiledModule>,
}

impl Handler<'_> {
    /// Has the target answer, which takes the request's method.
    async fn serve(&self, request: Request, target: Target) -> Result<Response, Problem> {
        match (request.method().clone(), target) {
            (_, Target::Nothing) => Err(Error::NotFound.into()),
            (_, Target::Trash) => self.trash(&request).await,
            (_, Target::Duplicates) => self.duplicates(&request).await,
            (_, Target::Act(named, act)) => self.act(request, named, act).await,
            (_, Target::Children(named, children)) => {
                self.children(&request, named, &children).await
            }
            (_, Target::Action(on, action)) => self.run_action(request, on, action).await,
            (_, Target::Aggregate) => self.aggregate(&request).await,
            (_, Target::Funnel) => self.funnel(&request).await,
            (_, Target::Nearest) => self.nearest(request).await,
            (_, Target::Import) => self.import(request).await,
            (_, Target::Export) => self.export(&request).await,
            (Method::GET, Target::Collection) => self.list(&request).await,
            (_, Target::Collection) => self.create(request).await,
            (_, Target::Query) => self.query(request).await,
            (_, Target::Upsert) => self.upsert(request).await,
            (_, Target::Batch) => self.batch(request).await,
            (_, Target::BulkUpdate) => self.bulk_update(request).await,
            (_, Target::BulkDelete) => self.bulk_delete(request).await,
            (Method::GET, Target::Record(named)) => {
                let id = self.id::<Read>(named).await?;
                self.get(&request, id).await
            }
            (Method::DELETE, Target::Record(named)) => {
                let id = self.id::<Delete>(named).await?;
                self.delete(request, id).await
            }
            (_, Target::Record(named)) => {
                let id = self.id::<Update>(named).await?;
                self.update(request, id).await
            }
        }
    }

    fn name(&self) -> &str {
        self.module.name().as_str()
    }

    async fn act(&self, request: Request, named: Named, act: Act) -> Result<Response, Problem> {
        match act {
            Act::Duplicates => {
                let id = self.id::<Read>(named).await?;
                self.duplicates_of(&request, id).await
            }
            Act::Merge => {
                let id = self.id::<Update>(named).await?;
                self.merge(request, id).await
            }
            Act::Restore => {
                let id = self.id::<Delete>(named).await?;
                self.restore(request, id).await
            }
            Act::Purge => {
                let id = self.id::<Purge>(named).await?;
                self.purge(request, id).await
            }
        }
    }

    /// The id of the record that a path names.
    async fn id<A: Action>(&self, named: Named) -> Result<RecordId, Problem> {
        match named {
            Named::Id(id) => Ok(id),
            Named::Number(number) => {
                let permit = self.scope.permit::<A>(self.name())?;
                Ok(self
                    .exchange
                    .app
                    .crm
                    .records()
                    .id_of(&permit, number)
                    .await?)
            }
        }
    }

    async fn values(
        &self,
        request: Request,
    ) -> Result<serde_json::Map<String, serde_json::Value>, Problem> {
        let limit = self.exchange.app.options.body_limit;
        let (parts, body) = request.into_parts();
        json::read_object(&parts.headers, body, limit).await
    }
}

/// The answer with the record's version as its entity tag.
fn tagged(mut response: Response, tag: &str) -> Response {
    if let Ok(tag) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

fn body(status: StatusCode, value: &impl Serialize) -> Result<Response, Problem> {
    let text = serde_json::to_vec(value).map_err(Error::internal)?;
    Ok(json_response(status, text))
}

fn json_response(status: StatusCode, text: Vec<u8>) -> Response {
    let mut response = Response::from(text);
    response.set_status(status);
    let media_type = const { HeaderValue::from_static("application/json") };
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xc_29_ids_are_read_in_the_form_that_answers_use() {
        assert!(record_id("01890a5d-ac96-774b-bcce-b302099a8057").is_some());
        assert!(record_id("F47AC10B-58CC-4372-A567-0E02B2C3D479").is_some());
        for odd in [
            "",
            "1",
            "01890a5dac96774bbcceb302099a8057",
            "{01890a5d-ac96-774b-bcce-b302099a805}",
        ] {
            assert!(record_id(odd).is_none(), "{odd}");
        }
    }
}
