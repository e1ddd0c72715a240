//! Compiles a tenant's roles and rules into rights per role, with the hierarchy followed to its
//! end. Owns the meaning of inheritance and denial outside Casbin; reads no database.

use std::collections::HashMap;
use std::sync::Arc;

use super::catalogue::Catalogue;
use super::grants::{Bits, Grants, Partial};
use super::model::Subject;
use super::permission::{Effect, Permission, RowScope};
use super::rows::RowRule;
use crate::id::{RoleId, TenantId};

/// A role and the role whose permissions it includes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleNode {
    /// The role.
    pub id: RoleId,
    /// The role it inherits from, denials included.
    pub parent: Option<RoleId>,
}

/// A permission of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The role.
    pub role: RoleId,
    /// What it may or may not do.
    pub permission: Permission,
}

/// The policy of one tenant as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRules {
    /// The tenant: Casbin's domain.
    pub tenant: TenantId,
    /// Its roles; a cycle of parents makes their permissions common to all of them.
    pub roles: Vec<RoleNode>,
    /// The permissions of the roles.
    pub rules: Vec<Rule>,
    /// Who holds which role. Compiling ignores it: a subject's roles are looked up on their own.
    pub assignments: Vec<(Subject, RoleId)>,
}

/// What each role of one tenant may do, its parents included.
#[derive(Debug)]
pub struct CompiledPolicy {
    /// Ordered by id.
    roles: Box<[CompiledRole]>,
    nobody: Arc<Grants>,
}

#[derive(Debug, Clone)]
struct CompiledRole {
    id: RoleId,
    /// What is allowed and not denied by the role itself; shared by all who hold only this role.
    grants: Arc<Grants>,
    /// What is denied, also to those who hold other roles beside it.
    deny: Bits,
}

/// What the rules of a role say, before inheritance.
#[derive(Clone)]
struct Stated {
    all: Bits,
    own: Bits,
    some: Vec<Partial>,
    deny: Bits,
}

impl Stated {
    fn add(&mut self, catalogue: &Catalogue, permission: &Permission) {
        let operations = catalogue.expand(permission.module(), permission.action());
        let (rows, condition) = (permission.rows(), permission.condition());
        let plain = condition.is_none() && permission.fields().is_all();
        let bits = match (permission.effect(), rows, plain) {
            (Effect::Deny, ..) => &mut self.deny,
            (Effect::Allow, RowScope::All, true) => &mut self.all,
            (Effect::Allow, RowScope::Own, true) => &mut self.own,
            (Effect::Allow, ..) => {
                let rule = RowRule::new(rows, condition);
                let rule = rule.limited(permission.fields().clone());
                let some = operations.map(|operation| (operation, rule.clone()));
                return self.some.extend(some);
            }
        };
        operations.for_each(|operation| bits.insert(operation));
    }
}

impl CompiledPolicy {
    /// Compiles the rules of a tenant.
    pub fn new(catalogue: &Catalogue, tenant: &TenantRules) -> Self {
        let none = Bits::none(catalogue);
        let nothing = Stated {
            all: none.clone(),
            own: none.clone(),
            some: Vec::new(),
            deny: none,
        };
        let mut stated: HashMap<RoleId, Stated> = tenant
            .roles
            .iter()
            .map(|role| (role.id, nothing.clone()))
            .collect();
        for rule in &tenant.rules {
            let Some(role) = stated.get_mut(&rule.role) else {
                continue;
            };
            role.add(catalogue, &rule.permission);
        }
        let parents: HashMap<RoleId, RoleId> = tenant
            .roles
            .iter()
            .filter_map(|role| Some((role.id, role.parent?)))
            .collect();
        let mut roles: Vec<_> = tenant
            .roles
            .iter()
            .map(|role| {
                let mut sum = nothing.clone();
                for ancestor in line(role.id, &parents).filter_map(|id| stated.get(&id)) {
                    sum.all.add(&ancestor.all);
                    sum.own.add(&ancestor.own);
                    sum.some.extend(ancestor.some.iter().cloned());
                    sum.deny.add(&ancestor.deny);
                }
                let mut grants = Grants::new(sum.all, sum.own, sum.some);
                grants.remove(&sum.deny);
                CompiledRole {
                    id: role.id,
                    grants: Arc::new(grants),
                    deny: sum.deny,
                }
            })
            .collect();
        roles.sort_unstable_by_key(|role| role.id);
        Self {
            roles: roles.into(),
            nobody: Arc::new(Grants::none(catalogue)),
        }
    }

    /// The rights of a subject that holds these roles; a role of another tenant gives nothing.
    pub fn grants(&self, roles: &[RoleId]) -> Arc<Grants> {
        let mut held = roles.iter().filter_map(|id| self.role(*id));
        let Some(first) = held.next() else {
            return self.nobody.clone();
        };
        let mut rest = held.peekable();
        if rest.peek().is_none() {
            return first.grants.clone();
        }
        let (mut sum, mut deny) = ((*first.grants).clone(), first.deny.clone());
        for role in rest {
            sum.add(&role.grants);
            deny.add(&role.deny);
        }
        sum.remove(&deny);
        Arc::new(sum)
    }

    /// What a role and its parents deny, as rights; for the check that nobody lifts a denial of
    /// what they may not do themselves.
    pub(crate) fn denied(&self, role: RoleId) -> Grants {
        match self.role(role) {
            Some(role) => Grants::new(role.deny.clone(), role.deny.clone(), Vec::new()),
            None => (*self.nobody).clone(),
        }
    }

    fn role(&self, id: RoleId) -> Option<&CompiledRole> {
        let index = self.roles.binary_search_by_key(&id, |role| role.id).ok()?;
        self.roles.get(index)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let role = |role: &CompiledRole| {
            size_of::<CompiledRole>() + 16 + role.grants.bytes() + role.deny.bytes()
        };
        size_of::<Self>() + 16 + self.nobody.bytes() + self.roles.iter().map(role).sum::<usize>()
    }
}

/// The role, its parent, and so on to the root, or once around a cycle.
pub(crate) fn line(
    role: RoleId,
    parents: &HashMap<RoleId, RoleId>,
) -> impl Iterator<Item = RoleId> {
    // Every step but the last leaves by an edge of its own, so a longer walk repeats itself.
    std::iter::successors(Some(role), |id| parents.get(id).copied()).take(parents.len() + 1)
}
