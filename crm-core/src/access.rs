//! Why somebody may do something, or may not: the rules that speak of it, the roles that state
//! them, and how the subject came to hold those. Owns no decision; it repeats the policy's in
//! words.

mod explanation;
mod key;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use self::explanation::{Case, decide};
use self::key::Key;
use crate::crm::Core;
use crate::db::{ColumnType, Sql};
use crate::error::{Error, Result};
use crate::event::{Party, Principal};
use crate::id::{ApiKeyId, RecordId, RoleId, UserId};
use crate::identity::principal_rights;
use crate::module::CompiledModule;
use crate::policy::{Effect, Permission, Rights, RowScope, Rows, Subject, line};
use crate::reach::Reach;
use crate::record::{Filter, Record, Records, covered};
use crate::role::{self, Role};
use crate::scope::{Permit, Read, Scope};

pub use self::explanation::{ExplainedRule, Explanation, Reason, Step, StepKind};

/// The object of the permission asked for here.
const OBJECT: &str = "access";
/// The object of the permission to see what roles can be given.
const ROLES: &str = "roles";

/// What is to be explained.
#[derive(Debug, Clone)]
pub struct Question {
    /// Whose rights, as `user:<id>`, `api_key:<id>` or `role:<id>`.
    pub subject: String,
    /// The action as a permission names it: `contacts.update`.
    pub action: String,
    /// The record it would be done to; without one, nothing is said of any one record.
    pub record: Option<RecordId>,
}

/// What permissions can be about: one object, with what can be done to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Grantable {
    /// The name that stands before the dot.
    pub object: String,
    /// Whether it is a module, with records, and not one of the administration's objects.
    pub module: bool,
    /// What stands behind the dot.
    pub actions: Vec<String>,
    /// The rows that a permission on it may reach, the widest first.
    pub scopes: Vec<RowScope>,
}

/// Explains the policy of the tenant that a permit is for.
#[derive(Clone)]
pub struct Access {
    core: Arc<Core>,
}

/// A role that the subject holds, by its group if it is one's.
struct Root {
    role: RoleId,
    group: Option<(Uuid, String)>,
    until: Option<DateTime<Utc>>,
}

impl Access {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Everything that a role of the tenant can be given: the administration's objects, then the
    /// modules as the tenant has them, each with its actions. `*` stands for all of either, and
    /// `records` for all modules.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a permit of anything but roles.
    pub fn permissions(&self, permit: &Permit<Read>) -> Result<Vec<Grantable>> {
        let catalogue = permit.on(ROLES)?.catalogue();
        let modules: HashSet<&str> = catalogue.modules().collect();
        let mut all: Vec<Grantable> = Vec::new();
        for (_, object, action) in catalogue.operations() {
            match all.last_mut() {
                Some(last) if last.object == object => last.actions.push(action.to_owned()),
                _ => all.push(Grantable {
                    object: object.to_owned(),
                    module: modules.contains(object),
                    actions: vec![action.to_owned()],
                    scopes: match modules.contains(object) {
                        true => RowScope::WIDEST_FIRST.to_vec(),
                        // A permission on some rows of the administration gives nothing.
                        false => vec![RowScope::All],
                    },
                }),
            }
        }
        Ok(all)
    }

    /// Why the subject may do this, or may not.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a subject or an action that is none; [`Error::NotFound`] for a subject
    /// that the tenant does not have, and for a record that the asking one may not see.
    pub async fn explain(&self, permit: &Permit<Read>, question: &Question) -> Result<Explanation> {
        let scope = permit.on(OBJECT)?;
        let subject = parse(&question.subject)?;
        let (module, action) = operation(scope, &question.action)?;
        let record = match question.record {
            None => None,
            Some(id) => Some(self.record(scope, module, id).await?),
        };
        let key = match subject {
            Subject::ApiKey(id) => Some(Key::find(&self.core, scope, id).await?),
            Subject::User(_) | Subject::Role(_) => None,
        };
        let account = key.as_ref().and_then(|key| key.account.as_ref());
        let owner = account.map_or(subject.user(), |(account, _)| Some(*account));
        let about = (module, action);
        let mut rules = self.rules(scope, subject, key.as_ref(), about).await?;
        if let Some(record) = &record {
            self.tell_covers(scope, owner, record, &mut rules).await?;
        }
        let operation = scope.catalogue().operation(module, action);
        let rights = self.rights(scope, subject).await?;
        let holds =
            rights.map(|rights| operation.is_some_and(|one| rights.grants.decide(one).is_some()));
        let reason = match (holds, key) {
            (None, Some(key)) if key.has_expired(scope.clock().now()) => Reason::Expired,
            (None, _) => Reason::Inactive,
            (Some(holds), key) => {
                let case = Case {
                    record: record.is_some(),
                    personal: owner.is_some() || key.is_none(),
                    acts_as: key.is_some_and(|key| key.account.is_some()),
                    holds,
                };
                decide(&rules, &case)
            }
        };
        Ok(Explanation {
            allowed: reason == Reason::Allowed,
            reason,
            rules,
        })
    }

    /// The rules about this operation that reach the subject, those that deny it first.
    async fn rules(
        &self,
        scope: &Scope,
        subject: Subject,
        key: Option<&Key>,
        (module, action): (&str, &str),
    ) -> Result<Vec<ExplainedRule>> {
        let roles = self.roles(scope).await?;
        let roots = match key {
            Some(key) => key.root().into_iter().collect(),
            None => self.roots(scope, subject).await?,
        };
        let speaks = |rule: &Permission| scope.catalogue().includes(rule, module, action);
        let mut rules = Vec::new();
        for root in &roots {
            gather(&mut rules, root, subject, &roles, speaks);
        }
        if let Some((account, name)) = key.and_then(|key| key.account.as_ref()) {
            let of_account = Subject::User(*account);
            let mut more = Vec::new();
            match self.roots(scope, of_account).await {
                Ok(roots) => {
                    let roots = roots.iter();
                    roots.for_each(|root| gather(&mut more, root, of_account, &roles, speaks));
                }
                // A member no more: its key opens nothing.
                Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
            rules.extend(more.into_iter().map(|rule| rule.of(*account, name)));
        }
        rules.sort_by_key(|rule| rule.permission.effect() == Effect::Allow);
        for rule in &mut rules {
            rule.void = void(scope, &rule.permission);
        }
        Ok(rules)
    }

    /// Says of each rule whether it covers this record, where the asking one may know.
    async fn tell_covers(
        &self,
        scope: &Scope,
        owner: Option<UserId>,
        record: &Record,
        rules: &mut [ExplainedRule],
    ) -> Result<()> {
        for rule in rules {
            if !may_know(record, &rule.permission) {
                continue;
            }
            let rows = Rows::of(&rule.permission);
            let module = record.module().base();
            let reach = Reach::of(scope, owner, Some(module), &rows);
            rule.covers = Some(covered(&self.core, scope.tenant(), &reach, record).await?);
        }
        Ok(())
    }

    /// The rights that a request of the subject is decided by.
    async fn rights(&self, scope: &Scope, subject: Subject) -> Result<Option<Arc<Rights>>> {
        match subject {
            Subject::ApiKey(key) => {
                let key = Principal(Party::Key(key, None));
                principal_rights(&self.core, scope.tenant(), key).await
            }
            Subject::User(_) | Subject::Role(_) => {
                self.core.policy.rights_for(scope.tenant(), subject).await
            }
        }
    }

    /// The record, as far as the asking one may see it.
    async fn record(&self, scope: &Scope, module: &str, id: RecordId) -> Result<Record> {
        if scope.module(module).is_none() {
            let message = "Only modules have records; leave it out.";
            return Err(Error::invalid("record", "not_allowed", message));
        }
        let read = scope.permit::<Read>(module).map_err(|_| Error::NotFound)?;
        Records::new(self.core.clone()).get(&read, id).await
    }

    /// The roles that the subject holds now, itself or through groups.
    async fn roots(&self, scope: &Scope, subject: Subject) -> Result<Vec<Root>> {
        let direct = match subject {
            Subject::User(_) => {
                "SELECT a.role_id, a.until FROM memberships m LEFT JOIN role_assignments a \
                 ON a.tenant_id = m.tenant_id AND a.user_id = m.user_id \
                 WHERE m.tenant_id = $1 AND m.user_id = $2 ORDER BY a.role_id"
            }
            // Its one role is read with the key.
            Subject::ApiKey(_) => return Ok(Vec::new()),
            Subject::Role(_) => "SELECT id, NULL FROM roles WHERE tenant_id = $1 AND id = $2",
        };
        let direct = ask(direct, scope, subject).returns(&[ColumnType::Uuid, ColumnType::Instant]);
        let direct = self.core.db.fetch_all(direct).await?;
        if direct.is_empty() {
            return Err(Error::NotFound);
        }
        let mut roots = Vec::new();
        for mut row in direct {
            let (role, until) = (row.opt_uuid()?, row.opt_instant()?);
            roots.extend(role.map(|role| Root {
                role,
                group: None,
                until,
            }));
        }
        if let Subject::User(_) = subject {
            let groups = "SELECT r.role_id, m.until, g.id, g.name FROM user_group_members m \
                          JOIN user_groups g ON g.tenant_id = m.tenant_id AND g.id = m.group_id \
                          JOIN user_group_roles r \
                          ON r.tenant_id = m.tenant_id AND r.group_id = m.group_id \
                          WHERE m.tenant_id = $1 AND m.user_id = $2 ORDER BY g.id, r.role_id";
            let groups = ask(groups, scope, subject).returns(&[
                ColumnType::Uuid,
                ColumnType::Instant,
                ColumnType::Uuid,
                ColumnType::Text,
            ]);
            for mut row in self.core.db.fetch_all(groups).await? {
                roots.push(Root {
                    role: row.uuid()?,
                    until: row.opt_instant()?,
                    group: Some((row.uuid()?, row.text()?)),
                });
            }
        }
        let now = scope.clock().now();
        roots.retain(|root| root.until.is_none_or(|until| until > now));
        Ok(roots)
    }

    async fn roles(&self, scope: &Scope) -> Result<HashMap<RoleId, Role>> {
        let rows = role::select(scope.tenant(), None);
        let roles = role::parse(self.core.db.fetch_all(rows).await?)?;
        Ok(roles.into_iter().map(|role| (role.id, role)).collect())
    }
}

fn ask(text: &'static str, scope: &Scope, subject: Subject) -> Sql {
    let id = match subject {
        Subject::User(id) => id.0,
        Subject::ApiKey(id) => id.0,
        Subject::Role(id) => id.0,
    };
    Sql::new(text)
        .bind(scope.tenant(), ColumnType::Uuid)
        .bind(id, ColumnType::Uuid)
}

/// `user:<id>`, `api_key:<id>` or `role:<id>`.
fn parse(text: &str) -> Result<Subject> {
    let subject = text.split_once(':').and_then(|(kind, id)| {
        let id: Uuid = id.parse().ok()?;
        match kind {
            "user" => Some(Subject::User(UserId(id))),
            "api_key" => Some(Subject::ApiKey(ApiKeyId(id))),
            "role" => Some(Subject::Role(RoleId(id))),
            _ => None,
        }
    });
    subject.ok_or_else(|| {
        let message = "Write user:<id>, api_key:<id> or role:<id>.";
        Error::invalid("subject", "invalid", message)
    })
}

/// The module and the action of a permission's name.
fn operation<'a>(scope: &Scope, name: &'a str) -> Result<(&'a str, &'a str)> {
    let operation = name.split_once('.');
    let known = operation.filter(|(module, action)| {
        let operation = scope.catalogue().operation(module, action);
        operation.is_some()
    });
    known.ok_or_else(|| {
        let message = "There is no such module and action; write contacts.update.";
        Error::invalid("action", "unknown_permission", message)
    })
}

/// Adds the rules that speak of the action, of the role and of all that it includes.
fn gather(
    rules: &mut Vec<ExplainedRule>,
    root: &Root,
    subject: Subject,
    roles: &HashMap<RoleId, Role>,
    speaks: impl Fn(&Permission) -> bool,
) {
    let parents: HashMap<RoleId, RoleId> = roles
        .values()
        .filter_map(|role| Some((role.id, role.parent_id?)))
        .collect();
    let mut through = Vec::new();
    if let Some((id, name)) = &root.group {
        through.push(Step {
            kind: StepKind::Group,
            id: *id,
            name: name.clone(),
            until: root.until,
        });
    }
    let mut seen = HashSet::new();
    for (count, id) in line(root.role, &parents).enumerate() {
        let Some(role) = roles.get(&id).filter(|_| seen.insert(id)) else {
            break;
        };
        if count > 0 || !matches!(subject, Subject::Role(_)) {
            through.push(Step {
                kind: if count == 0 {
                    StepKind::Role
                } else {
                    StepKind::Parent
                },
                id: id.0,
                name: role.name.clone(),
                until: root.until.filter(|_| count == 0 && root.group.is_none()),
            });
        }
        let of_role = role.permissions.iter().filter(|rule| speaks(rule));
        rules.extend(of_role.map(|permission| ExplainedRule {
            permission: permission.clone(),
            role_id: id,
            role: role.name.clone(),
            through: through.clone(),
            covers: None,
            void: None,
        }));
    }
}

/// Why the rule gives nothing, if its condition is none of its module's.
fn void(scope: &Scope, rule: &Permission) -> Option<String> {
    let condition = serde_json::from_str(rule.condition()?).unwrap_or_default();
    let Some(module) = scope.module(rule.module()) else {
        return Some(format!("there is no module {}", rule.module()));
    };
    let refused = Filter::from_json(module, &condition).err()?;
    Some(refused.into_iter().next()?.message)
}

/// Whether the asking one reads in the record what decides that the rule covers it.
fn may_know(record: &Record, rule: &Permission) -> bool {
    let seen = record.module();
    let fits = |module: &CompiledModule| {
        let condition = rule.condition().map(serde_json::from_str).transpose();
        condition.is_ok_and(|condition| {
            condition.is_none_or(|condition| Filter::from_json(module, &condition).is_ok())
        })
    };
    // A condition about a field that is gone covers nothing, whoever asks.
    let condition = fits(seen) || !fits(seen.base());
    let parent = || seen.parent().is_none_or(|at| seen.is_readable(at));
    condition
        && match rule.rows() {
            RowScope::All => true,
            RowScope::Own | RowScope::Team => seen.shows_owner(),
            RowScope::Parent => seen.shows_owner() && parent(),
        }
}

#[cfg(test)]
mod tests;
