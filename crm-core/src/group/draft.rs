//! What a group may look like.

use std::collections::{BTreeSet, HashSet};

use uuid::Uuid;

use super::{GroupChange, GroupMember, GroupRecord};
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, FieldError, Result};
use crate::id::{TenantId, UserId};
use crate::reach::Reach;
use crate::scope::Scope;
use crate::value::Value;

/// Most characters of a name.
const NAME_MAX: usize = 100;
/// Most characters of a description.
const DESCRIPTION_MAX: usize = 1_000;
/// Most roles of one group.
const ROLES_MAX: usize = 50;
/// Most members of one group, and most records.
const LIST_MAX: usize = 1_000;
/// Most groups of one tenant.
const GROUPS_MAX: i64 = 1_000;

/// Checked changes of a group; the lists without doubles.
pub(super) struct Draft {
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) roles: Option<Vec<String>>,
    pub(super) members: Option<Vec<GroupMember>>,
    pub(super) records: Option<Vec<GroupRecord>>,
}

impl Draft {
    /// Checks every value, and answers every broken rule at once.
    pub(super) fn check(scope: &Scope, change: GroupChange) -> Result<Self> {
        let mut errors = Vec::new();
        let name = change.name.map(|name| name.trim().to_owned());
        let description = change.description.map(|text| text.trim().to_owned());
        errors.extend(name.as_deref().and_then(refuse_name));
        if let Some(text) = &description
            && (text.chars().count() > DESCRIPTION_MAX
                || text.chars().any(|c| c.is_control() && c != '\n'))
        {
            let message = "A description has at most 1,000 characters, and no control characters but line feeds.";
            errors.push(FieldError::new("description", "invalid", message));
        }
        let mut most = |field: &'static str, length: Option<usize>, most: usize| {
            if length.is_some_and(|length| length > most) {
                let message = format!("A group has at most {most} {field}.");
                errors.push(FieldError::new(field, "too_many", message));
            }
        };
        most("roles", change.roles.as_ref().map(Vec::len), ROLES_MAX);
        most("members", change.members.as_ref().map(Vec::len), LIST_MAX);
        most("records", change.records.as_ref().map(Vec::len), LIST_MAX);
        let now = scope.clock().now();
        let mut users = HashSet::new();
        for (index, member) in change.members.iter().flatten().enumerate() {
            let refused = if member.until.is_some_and(|until| until <= now) {
                ("until", "in_the_past", "An assignment ends later than now.")
            } else if !users.insert(member.user_id) {
                ("user_id", "duplicate", "A user is a member once.")
            } else {
                continue;
            };
            let (field, code, message) = refused;
            errors.push(FieldError {
                pointer: format!("/members/{index}/{field}"),
                code,
                message: message.into(),
            });
        }
        if !errors.is_empty() {
            return Err(Error::Invalid(errors));
        }
        let records = change.records.map(|mut records| {
            records.sort_unstable();
            records.dedup();
            records
        });
        Ok(Self {
            name,
            description,
            roles: change.roles,
            members: change.members,
            records,
        })
    }

    /// The members it names.
    pub(super) fn users(&self) -> BTreeSet<UserId> {
        let members = self.members.iter().flatten();
        members.map(|member| member.user_id).collect()
    }
}

fn refuse_name(name: &str) -> Option<FieldError> {
    let (code, message) = if name.is_empty() {
        ("required", "Give the group a name.")
    } else if name.chars().count() > NAME_MAX {
        ("too_long", "A group's name has at most 100 characters.")
    } else if name.chars().any(char::is_control) {
        let message = "A group's name holds no control characters.";
        ("invalid_character", message)
    } else if name.parse::<Uuid>().is_ok() {
        ("invalid", "A group's name must not look like an id.")
    } else {
        return None;
    };
    Some(FieldError::new("name", code, message))
}

/// Refuses one group too many.
pub(super) async fn check_room(tx: &mut Tx<'_>, tenant: TenantId) -> Result<()> {
    let count = Sql::new("SELECT count(*) FROM user_groups WHERE tenant_id = $1")
        .bind(tenant, ColumnType::Uuid);
    if tx.number(count).await? < GROUPS_MAX {
        return Ok(());
    }
    let message = "a tenant has at most 1,000 groups; delete one first";
    Err(Error::conflict("too_many_groups", message))
}

/// Refuses who is no member of the tenant.
pub(super) async fn check_members(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    members: &[GroupMember],
) -> Result<()> {
    let mut sql = Sql::new("SELECT user_id FROM memberships WHERE tenant_id = ");
    sql.arg(tenant, ColumnType::Uuid).push(" AND user_id IN (");
    for member in members {
        sql.arg(member.user_id, ColumnType::Uuid).push(", ");
    }
    sql.push("NULL)");
    let mut known = HashSet::new();
    for mut row in tx.fetch_all(sql.returns(&[ColumnType::Uuid])).await? {
        known.insert(row.uuid::<UserId>()?);
    }
    let unknown = members.iter().enumerate();
    let unknown = unknown.filter(|(_, member)| !known.contains(&member.user_id));
    refuse(unknown.map(|(index, _)| FieldError {
        pointer: format!("/members/{index}/user_id"),
        code: "unknown_reference",
        message: "no member has this id".into(),
    }))
}

/// Refuses what is no record of the tenant.
pub(super) async fn check_records(
    tx: &mut Tx<'_>,
    core: &Core,
    scope: &Scope,
    records: &[GroupRecord],
) -> Result<()> {
    let mut known = HashSet::new();
    for of_module in records.chunk_by(|a, b| a.module == b.module) {
        let name = &of_module[0].module;
        let Some(module) = scope.module(name) else {
            continue;
        };
        let ids: Vec<Value> = of_module.iter().map(|record| record.id.into()).collect();
        let statements = core.statements(module);
        let sql = statements.existing(scope.tenant(), &Reach::All, &ids);
        for mut row in tx.fetch_all(sql).await? {
            known.insert((name.as_str(), row.uuid()?));
        }
    }
    let unknown = records.iter().enumerate();
    let unknown =
        unknown.filter(|(_, record)| !known.contains(&(record.module.as_str(), record.id)));
    refuse(unknown.map(|(index, record)| FieldError {
        pointer: format!("/records/{index}"),
        code: "unknown_reference",
        message: format!("there is no such record in {}", record.module),
    }))
}

fn refuse(refused: impl Iterator<Item = FieldError>) -> Result<()> {
    let refused: Vec<_> = refused.collect();
    match refused.is_empty() {
        true => Ok(()),
        false => Err(Error::Invalid(refused)),
    }
}
