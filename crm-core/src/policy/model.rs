//! The policy in Casbin's terms: the model text, and stored rules as Casbin policies. This is the
//! definition of what a rule means; requests are answered by the compiled form.
//!
//! The domain is the tenant's id. A subject is `user:<id>`, `api_key:<id>` or `role:<id>`, never
//! text that a user chose. The action carries the rows behind it: a request asks for `update`, the
//! relation in which the row stands to the user (`own`, `parent`, `team` or `other`), the one
//! condition that it meets (or `-`), and the field that is reached (or `-`); a rule for all rows
//! says `update:*:*:*`, one for own rows `update:own:*:*`, one for those of a team that meet a
//! condition `update:own:C:*` and `update:team:C:*`. A rule for some fields ends in each of them
//! and `-`, one for all but some in `^` and these.

use std::fmt;
use std::sync::Arc;

use casbin::function_map::{OperatorFunction, dynamic_to_str};
use casbin::{CoreApi, DefaultModel, DefaultRoleManager, Enforcer, NullAdapter};
use parking_lot::RwLock;

use super::catalogue::{Catalogue, RECORDS};
use super::compile::TenantRules;
use super::fields::Fields;
use super::permission::{Permission, RowScope, WILDCARD};
use crate::error::{Error, Result};
use crate::id::{ApiKeyId, RoleId, TenantId, UserId};

/// The Casbin model (PERM: policy, effect, request, matchers).
///
/// `g` is the hierarchy of a tenant's roles and their assignment, `g2` puts the business modules
/// into the class `records`; `wild` compares colon-separated segments, where `*` in the rule
/// stands for any one whole segment, and `^a,b` for any but `a` and `b`.
pub const MODEL: &str = r#"
[request_definition]
r = sub, dom, obj, act

[policy_definition]
p = sub, dom, obj, act, eft

[role_definition]
g = _, _, _
g2 = _, _

[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))

[matchers]
m = r.dom == p.dom && (wild(r.obj, p.obj) || g2(r.obj, p.obj)) && wild(r.act, p.act) && g(r.sub, p.sub, r.dom)
"#;

/// Who a decision is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A user, with the roles assigned in the tenant.
    User(UserId),
    /// An API key, with the role it is bound to. It owns no rows.
    ApiKey(ApiKeyId),
    /// Someone who holds just this role.
    Role(RoleId),
}

impl Subject {
    /// The user, whose rows may be their own.
    pub(crate) fn user(self) -> Option<UserId> {
        match self {
            Self::User(user) => Some(user),
            Self::ApiKey(_) | Self::Role(_) => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::ApiKey(id) => write!(f, "api_key:{id}"),
            Self::Role(id) => write!(f, "role:{id}"),
        }
    }
}

/// Casbin itself on the stored rules: the slow second opinion that the compiled form is held
/// against, in tests and wherever an auditor wants one.
pub struct Oracle {
    enforcer: Enforcer,
    /// The conditions of all rules.
    conditions: Vec<String>,
}

impl Oracle {
    /// Loads the rules of these tenants into one enforcer.
    ///
    /// # Errors
    /// [`Error::Internal`] when Casbin refuses the model or a policy.
    pub async fn new(catalogue: &Catalogue, tenants: &[TenantRules]) -> Result<Self> {
        let rules = tenants.iter().flat_map(|tenant| &tenant.rules);
        let conditions = rules.filter_map(|rule| rule.permission.condition());
        let mut conditions: Vec<_> = conditions.map(ToOwned::to_owned).collect();
        conditions.sort_unstable();
        conditions.dedup();
        let enforcer = Self::load(catalogue, tenants)
            .await
            .map_err(Error::internal)?;
        Ok(Self {
            enforcer,
            conditions,
        })
    }

    async fn load(catalogue: &Catalogue, tenants: &[TenantRules]) -> casbin::Result<Enforcer> {
        let model = DefaultModel::from_str(MODEL).await?;
        let mut enforcer = Enforcer::new_raw(model, NullAdapter).await?;
        enforcer.add_function(
            "wild",
            OperatorFunction::Arg2(|request, rule| {
                wild(&dynamic_to_str(&request), &dynamic_to_str(&rule)).into()
            }),
        );
        let model = enforcer.get_mut_model();
        // One by one: `add_policies` drops the whole batch when one of it is known already.
        for class in classes(catalogue) {
            model.add_policy("g", "g2", class);
        }
        for tenant in tenants {
            for policy in policies(tenant) {
                model.add_policy("p", "p", policy);
            }
            for link in links(tenant) {
                model.add_policy("g", "g", link);
            }
        }
        // Casbin's own role manager stops after ten levels, which would lose inherited denials.
        let roles = DefaultRoleManager::new(usize::MAX);
        enforcer.set_role_manager(Arc::new(RwLock::new(roles)))?;
        Ok(enforcer)
    }

    /// Whether the subject may do this to a row that stands in one relation to it, `All` being
    /// none, and meets one condition at most; to a field of it, if one is named.
    ///
    /// # Errors
    /// [`Error::Internal`] when Casbin cannot evaluate the request.
    pub fn allows(
        &self,
        tenant: TenantId,
        subject: Subject,
        (module, action): (&str, &str),
        (relation, condition): (RowScope, Option<&str>),
        field: Option<&str>,
    ) -> Result<bool> {
        let relation = match relation {
            RowScope::All => "other",
            relation => relation.as_str(),
        };
        let condition = condition.map_or_else(|| "-".to_owned(), label);
        let request = [
            subject.to_string(),
            tenant.to_string(),
            module.to_owned(),
            format!("{action}:{relation}:{condition}:{}", field.unwrap_or("-")),
        ];
        self.enforcer
            .enforce(request.to_vec())
            .map_err(Error::internal)
    }

    /// The widest scope of rows on which the subject may do this, those under a condition counting
    /// as the narrowest; `None` when it may not at all.
    ///
    /// # Errors
    /// [`Error::Internal`] when Casbin cannot evaluate the request.
    pub fn decide(
        &self,
        tenant: TenantId,
        subject: Subject,
        module: &str,
        action: &str,
    ) -> Result<Option<RowScope>> {
        let allows = |relation: RowScope, condition: Option<&str>| {
            self.allows(
                tenant,
                subject,
                (module, action),
                (relation, condition),
                None,
            )
        };
        let owns = !matches!(subject, Subject::ApiKey(_));
        let relations = match owns {
            true => RELATIONS.as_slice(),
            false => &RELATIONS[..1],
        };
        for relation in relations {
            if allows(*relation, None)? {
                return Ok(Some(*relation));
            }
        }
        for relation in relations {
            for condition in &self.conditions {
                if allows(*relation, Some(condition))? {
                    return Ok(Some(RowScope::Own));
                }
            }
        }
        Ok(None)
    }
}

/// The relations of rows, the widest first.
const RELATIONS: [RowScope; 4] = [
    RowScope::All,
    RowScope::Team,
    RowScope::Parent,
    RowScope::Own,
];

/// A condition as a segment: without colons.
fn label(condition: &str) -> String {
    hex::encode(condition)
}

/// Whether every segment of the rule is `*`, equal to the request's, or excepts others.
fn wild(request: &str, rule: &str) -> bool {
    let (mut request, mut rule) = (request.split(':'), rule.split(':'));
    loop {
        match (request.next(), rule.next()) {
            (None, None) => return true,
            (Some(asked), Some(said)) if said == WILDCARD || said == asked => {}
            (Some(asked), Some(said))
                if excepts(said).is_some_and(|mut names| !names.any(|name| name == asked)) => {}
            _ => return false,
        }
    }
}

/// The segments that one of a rule leaves out.
fn excepts(said: &str) -> Option<impl Iterator<Item = &str>> {
    Some(said.strip_prefix('^')?.split(','))
}

/// The last segments of a rule: the fields that it reaches.
fn reached(fields: &Fields) -> Vec<String> {
    if let Some(names) = fields.listed() {
        let names = names.map(ToOwned::to_owned);
        return names.chain(["-".to_owned()]).collect();
    }
    match fields.left_out() {
        Some(names) => vec![format!("^{}", names.collect::<Vec<_>>().join(","))],
        None => vec![WILDCARD.to_owned()],
    }
}

/// `g2`: each business module belongs to the class `records`.
fn classes(catalogue: &Catalogue) -> impl Iterator<Item = Vec<String>> {
    catalogue
        .modules()
        .map(|module| vec![module.to_owned(), RECORDS.to_owned()])
}

/// `p`: the tenant's rules; an own row is one of every scope.
fn policies(tenant: &TenantRules) -> impl Iterator<Item = Vec<String>> {
    let policies = |role: RoleId, permission: &Permission| {
        let relations: &[&str] = match permission.rows() {
            RowScope::All => &[WILDCARD],
            RowScope::Own => &["own"],
            RowScope::Parent => &["own", "parent"],
            RowScope::Team => &["own", "team"],
        };
        let condition = permission.condition();
        let condition = condition.map_or_else(|| WILDCARD.to_owned(), label);
        let policy = |relation: &str, field: &str| {
            vec![
                Subject::Role(role).to_string(),
                tenant.tenant.to_string(),
                permission.module().to_owned(),
                format!("{}:{relation}:{condition}:{field}", permission.action()),
                permission.effect().as_str().to_owned(),
            ]
        };
        let fields = reached(permission.fields());
        let each = |relation: &&'static str| {
            let fields = fields.iter();
            fields
                .map(|field| policy(relation, field))
                .collect::<Vec<_>>()
        };
        relations.iter().flat_map(each).collect::<Vec<_>>()
    };
    tenant
        .rules
        .iter()
        .flat_map(move |rule| policies(rule.role, &rule.permission))
}

/// `g`: the tenant's hierarchy of roles, and who holds which.
fn links(tenant: &TenantRules) -> impl Iterator<Item = Vec<String>> {
    let link = |child: Subject, parent: RoleId| {
        vec![
            child.to_string(),
            Subject::Role(parent).to_string(),
            tenant.tenant.to_string(),
        ]
    };
    let hierarchy = tenant
        .roles
        .iter()
        .filter_map(move |role| Some(link(Subject::Role(role.id), role.parent?)));
    let held = tenant
        .assignments
        .iter()
        .map(move |(subject, role)| link(*subject, *role));
    hierarchy.chain(held)
}
