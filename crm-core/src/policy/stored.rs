//! A tenant's policy in the database: reading it whole, and the epoch that tells every process of
//! a change. Owns no decision.

use crate::db::{ColumnType, Row, Sql, Tx};
use crate::error::{Error, Refusal, Result};
use crate::id::{RoleId, TenantId};
use crate::scope::Scope;

use super::compile::{CompiledPolicy, RoleNode, Rule, TenantRules};
use super::grants::Grants;
use super::permission::Permission;
use super::rank::check_within;

/// Where the ids of tenants are told whose policy has changed, and [`SESSIONS`].
pub(super) const CHANNEL: &str = "crm_policy";
/// What is told there when sessions or signing keys have changed.
pub(super) const SESSIONS: &str = "sessions";

/// The statement that reads a tenant's status, roles and rules at one moment.
pub(super) fn read(tenant: TenantId) -> Sql {
    use ColumnType::{Bool, Text, Uuid};
    // Ordered by role, so that the rows of one role stand together.
    Sql::new(
        "SELECT t.status, t.requires_second_factor, r.id, r.parent_id, p.module, p.action, p.row_scope, p.effect, \
         p.condition, p.fields \
         FROM tenants t \
         LEFT JOIN roles r ON r.tenant_id = t.id \
         LEFT JOIN policy_rules p ON p.tenant_id = r.tenant_id AND p.role_id = r.id \
         WHERE t.id = $1 ORDER BY r.id",
    )
    .bind(tenant, Uuid)
    .returns(&[Text, Bool, Uuid, Uuid, Text, Text, Text, Text, Text, Text])
}

/// A tenant as it is stored.
pub(super) struct Stored {
    pub(super) active: bool,
    /// Whether it lets members in only with a second factor.
    pub(super) asks_second_factor: bool,
    pub(super) rules: TenantRules,
}

/// The tenant of these rows; `None` when there is no such tenant.
pub(super) fn parse(tenant: TenantId, rows: Vec<Row>) -> Result<Option<Stored>> {
    let mut found = None;
    let (mut roles, mut rules) = (Vec::<RoleNode>::new(), Vec::new());
    for mut row in rows {
        found = Some((row.text::<String>()? == "active", row.bool()?));
        let Some(id) = row.opt_uuid::<RoleId>()? else {
            continue;
        };
        let parent = row.opt_uuid()?;
        if roles.last().is_none_or(|last| last.id != id) {
            roles.push(RoleNode { id, parent });
        }
        if let Some(permission) = read_permission(&mut row)? {
            rules.push(Rule {
                role: id,
                permission,
            });
        }
    }
    let rules = TenantRules {
        tenant,
        roles,
        rules,
        assignments: Vec::new(),
    };
    Ok(found.map(|(active, asks_second_factor)| Stored {
        active,
        asks_second_factor,
        rules,
    }))
}

/// The next six columns, `module, action, row_scope, effect, condition, fields`, of an outer join
/// with the rules.
pub(crate) fn read_permission(row: &mut Row) -> Result<Option<Permission>> {
    let Some(module) = row.opt_text::<String>()? else {
        return Ok(None);
    };
    let (action, rows, effect): (String, String, String) = (row.text()?, row.text()?, row.text()?);
    let (condition, fields): (String, String) = (row.text()?, row.text()?);
    Permission::stored(&module, &action, &rows, &effect, &condition, &fields).map(Some)
}

/// The rules of a tenant, the last ones inside a transaction that holds its lock; see
/// [`bump_epoch`].
pub(crate) async fn rules(tx: &mut Tx<'_>, tenant: TenantId) -> Result<TenantRules> {
    let rows = tx.fetch_all(read(tenant)).await?;
    parse(tenant, rows)?
        .map(|stored| stored.rules)
        .ok_or(Error::NotFound)
}

/// Refuses what was just written when it lets any role do more than `scope` may do itself, or takes
/// from a role what `scope` may not do.
///
/// More is an operation, a wider row scope, another field, or a denial that is lifted.
///
/// # Errors
/// [`Error::Refused`] `forbidden`, naming the permissions that the actor lacks, and
/// `beyond_your_rights`.
pub(crate) async fn check_gain(tx: &mut Tx<'_>, scope: &Scope, before: &TenantRules) -> Result<()> {
    let catalogue = scope.catalogue();
    let after = rules(tx, before.tenant).await?;
    let (old, new) = (
        CompiledPolicy::new(catalogue, before),
        CompiledPolicy::new(catalogue, &after),
    );
    for role in &after.roles {
        let (had, has) = (old.grants(&[role.id]), new.grants(&[role.id]));
        let (denied, denies) = (old.denied(role.id), new.denied(role.id));
        check_held(scope, &has.beyond(&had))?;
        check_held(scope, &denied.beyond(&denies))?;
        check_within(scope, &had.beyond(&has))?;
        // A denial holds for what other roles allow the same people, and nobody has a new role yet.
        if before.roles.iter().any(|known| known.id == role.id) {
            check_within(scope, &denies.beyond(&denied))?;
        }
    }
    Ok(())
}

/// Refuses to give rights that the actor does not hold, or holds until some instant only.
///
/// # Errors
/// [`Error::Refused`] `forbidden`, naming the first permissions that the actor lacks.
pub(crate) fn check_held(scope: &Scope, given: &Grants) -> Result<()> {
    let Some(lacking) = given.beyond(scope.lasting()).named(scope.catalogue()) else {
        return Ok(());
    };
    let message = format!(
        "this gives rights that you do not hold, or not on as many rows, or not for good: {lacking}; \
         leave them out, or ask a member who holds them"
    );
    Err(Refusal::forbidden("forbidden", message).into())
}

/// Has other processes look for changes of sessions and signing keys with the commit, where the
/// database can tell.
pub(crate) async fn tell_of_sessions(tx: &mut Tx<'_>) -> Result<()> {
    tx.notify(CHANNEL, SESSIONS.to_owned()).await
}

/// Announces a change of a tenant's roles, rules, assignments, memberships, keys, status or demand
/// for a second factor; a change of a user's status concerns every tenant of theirs.
///
/// Call it first in the writing transaction: the row it updates is also the lock under which
/// policy changes happen one after the other, so that what is checked still holds at commit. It
/// makes epochs become visible in the order of their numbers, which polling relies on. Where the
/// database can tell, other processes hear of it with the commit.
///
/// # Errors
/// [`Error::NotFound`] when there is no such tenant.
pub(crate) async fn bump_epoch(tx: &mut Tx<'_>, tenant: TenantId) -> Result<()> {
    let next = Sql::new("UPDATE policy_epochs SET value = value + 1 RETURNING value")
        .returns(&[ColumnType::Int]);
    let missing = || Error::Inconsistent {
        table: "policy_epochs".into(),
        column: "value".into(),
    };
    let epoch: i64 = tx.fetch_optional(next).await?.ok_or_else(missing)?.int()?;
    let update = Sql::new("UPDATE tenants SET policy_epoch = $1 WHERE id = $2")
        .bind(epoch, ColumnType::Int)
        .bind(tenant, ColumnType::Uuid);
    match tx.execute(update).await? {
        0 => Err(Error::NotFound),
        _ => tx.notify(CHANNEL, tenant.to_string()).await,
    }
}
