//! What every write leaves behind in its own transaction: an audit row, and for a record an event.

use serde_json::Value as Json;

use crate::clock::Clock;
use crate::db::{self, ColumnType, Sql, Tx};
use crate::error::Result;
use crate::event::ChangeKind;
use crate::id::{EventId, RecordId, TenantId};
use crate::module::CompiledModule;
use crate::scope::{Action, Actor, Create, Delete, Purge, RequestContext, Scope, Update};
use crate::value::Value;

/// A change of a record, with its wire forms before and after as JSON text.
pub(crate) struct Change {
    pub(crate) kind: ChangeKind,
    pub(crate) record: RecordId,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
}

impl ChangeKind {
    /// The action of the permission that the change needs.
    fn permission(self) -> &'static str {
        match self {
            Self::Created => Create::NAME,
            Self::Updated | Self::Merged => Update::NAME,
            Self::Deleted | Self::Restored => Delete::NAME,
            Self::Purged => Purge::NAME,
        }
    }

    /// What the audit log calls it.
    fn action(self) -> &'static str {
        match self {
            Self::Created => "create",
            Self::Updated => "update",
            Self::Deleted => "delete",
            Self::Restored => "restore",
            Self::Purged => "purge",
            Self::Merged => "merge",
        }
    }
}

/// Writes a record's change, its audit row and its outbox row, in one round trip.
pub(crate) async fn write(
    tx: &mut Tx<'_>,
    scope: &Scope,
    module: &CompiledModule,
    statement: Sql,
    change: Change,
) -> Result<()> {
    let made = (change.kind == ChangeKind::Created).then_some(change.record);
    let mut statements = vec![statement];
    statements.extend(traces(scope, module, change));
    tx.touch(scope.tenant(), module.name());
    tx.execute_all(statements).await?;
    match made {
        Some(record) => tx.made(module, scope.tenant(), record, 1).await,
        None => Ok(()),
    }
}

/// The audit row of a record's change, what has it sealed, and the outbox row.
pub(crate) fn traces(scope: &Scope, module: &CompiledModule, change: Change) -> [Sql; 3] {
    let action = format!("{}.{}", module.name(), change.kind.action());
    let entity = (module.name().as_str(), Some(change.record.to_string()));
    let states = (change.before.clone().into(), change.after.clone().into());
    let rule = scope.rule(module.name().as_str(), change.kind.permission());
    let by = (scope.into(), scope.impersonator());
    let [audit, unsealed] = entry(by, &action, entity, states, rule);
    let id = EventId(scope.clock().new_id());
    let (root, depth) = scope
        .cause()
        .map_or((id, 0), |cause| (cause.root_id, cause.depth));
    let event = db::journal::outbox()
        .bind(id, ColumnType::Uuid)
        .bind(scope.tenant(), ColumnType::Uuid)
        .bind(module.name().as_str(), ColumnType::Text)
        .bind(
            format!("{}.{}", module.singular(), change.kind),
            ColumnType::Text,
        )
        .bind(change.record, ColumnType::Uuid)
        .bind(change.before, ColumnType::Json)
        .bind(change.after, ColumnType::Json)
        .bind(scope.actor().to_string(), ColumnType::Text)
        .bind(&*scope.request().id, ColumnType::Text)
        .bind(root, ColumnType::Uuid)
        .bind(depth, ColumnType::Int)
        .bind(scope.clock().now(), ColumnType::Instant)
        .bind(scope.told_principal(), ColumnType::Text);
    [audit, unsealed, event]
}

/// Who an audit row is about, where it belongs, and what was being served.
#[derive(Clone, Copy)]
pub(crate) struct Author<'a> {
    pub(crate) clock: &'a Clock,
    pub(crate) tenant: TenantId,
    pub(crate) actor: Actor,
    pub(crate) request: &'a RequestContext,
}

impl<'a> From<&'a Scope> for Author<'a> {
    fn from(scope: &'a Scope) -> Self {
        Self {
            clock: scope.clock(),
            tenant: scope.tenant(),
            actor: scope.actor(),
            request: scope.request(),
        }
    }
}

/// Writes the audit row of an administrative act, such as `roles.update`.
pub(crate) async fn audit(
    tx: &mut Tx<'_>,
    scope: &Scope,
    action: &str,
    entity: (&str, Option<String>),
    before: Option<Json>,
    after: Option<Json>,
) -> Result<()> {
    let rule = rule(scope, action, entity.0);
    audit_under(tx, scope, (action, rule), entity, (before, after)).await
}

/// As [`audit`], of an act that has its own name among those that the permission `A` allows.
pub(crate) async fn audit_as<A: Action>(
    tx: &mut Tx<'_>,
    scope: &Scope,
    action: &str,
    entity: (&str, Option<String>),
    states: (Option<Json>, Option<Json>),
) -> Result<()> {
    let rule = scope.rule(entity.0, A::NAME);
    audit_under(tx, scope, (action, rule), entity, states).await
}

async fn audit_under(
    tx: &mut Tx<'_>,
    scope: &Scope,
    (action, rule): (&str, Option<String>),
    entity: (&str, Option<String>),
    (before, after): (Option<Json>, Option<Json>),
) -> Result<()> {
    let states = (before.into(), after.into());
    let by = (scope.into(), scope.impersonator());
    let statements = entry(by, action, entity, states, rule).into();
    tx.execute_all(statements).await
}

/// The rule that allows an administrative act: that of the permission it is called by, or else of
/// the right to change what it is about.
fn rule(scope: &Scope, action: &str, entity: &str) -> Option<String> {
    let named = action.split_once('.');
    let named = named.and_then(|(object, action)| scope.rule(object, action));
    named.or_else(|| scope.rule(entity, Update::NAME))
}

/// Writes the audit row of an act that opens a scope, such as `auth.login`, or needs none.
pub(crate) async fn audit_by(
    tx: &mut Tx<'_>,
    author: Author<'_>,
    action: &str,
    entity: (&str, Option<String>),
    before: Option<Json>,
    after: Option<Json>,
) -> Result<()> {
    let states = (before.into(), after.into());
    let statements = entry((author, None), action, entity, states, None).into();
    tx.execute_all(statements).await
}

/// An audit row of the author and of who acts in their name, and what has it sealed.
fn entry(
    (author, impersonator): (Author<'_>, Option<Actor>),
    action: &str,
    (entity, entity_id): (&str, Option<String>),
    (before, after): (Value, Value),
    rule: Option<String>,
) -> [Sql; 2] {
    let Author {
        clock,
        tenant,
        actor,
        request,
    } = author;
    let id = clock.new_id();
    let audit = db::journal::audit()
        .bind(tenant, ColumnType::Uuid)
        .bind(id, ColumnType::Uuid)
        .bind(clock.now(), ColumnType::Instant)
        .bind(actor.to_string(), ColumnType::Text)
        .bind(action, ColumnType::Text)
        .bind(entity, ColumnType::Text)
        .bind(entity_id, ColumnType::Text)
        .bind(before, ColumnType::Json)
        .bind(after, ColumnType::Json)
        .bind(&*request.id, ColumnType::Text)
        .bind(
            request.address.map(|address| address.to_string()),
            ColumnType::Text,
        )
        .bind(rule, ColumnType::Text)
        .bind(impersonator.map(|by| by.to_string()), ColumnType::Text);
    let unsealed = db::journal::unsealed()
        .bind(tenant, ColumnType::Uuid)
        .bind(id, ColumnType::Uuid);
    [audit, unsealed]
}
