//! Why somebody may do something, or may not.

use crm_core::access::{ExplainedRule, Explanation, Question, Step};
use crm_core::id::RecordId;
use crm_core::policy::RowScope;
use crm_core::{Crm, Read};
use poem_openapi::param::Query;
use poem_openapi::payload::Json;
use poem_openapi::{Enum, Object, OpenApi};
use uuid::Uuid;

use super::role::PermissionForm;
use crate::credential::Caller;
use crate::problem::Problem;
use crate::wire::{Instant, Tag};

/// The operations that explain.
pub(crate) struct Access {
    pub(crate) crm: Crm,
}

/// Why somebody may do something, or may not.
#[derive(Object)]
#[oai(rename = "Explanation")]
struct Reply {
    /// Whether they may do it to the record; where none was asked about, to some at least, and the
    /// permissions of the rules say which.
    allowed: bool,
    /// What decided it.
    reason: Reason,
    /// All rules of the subject that speak of the action: denials first, then what allows it.
    rules: Vec<Rule>,
}

/// `allowed` and `denied` by a rule; `no_rule` that speaks of the action; `other_rows` than the asked
/// one, which is not the subject's own, say; `undisclosed`, where fields decide that the caller may not read in the record. Of an API key:
/// `account`, where its service account may not, whatever the key's role; `unlisted`, where the key was
/// made with a list of permissions without this one; `expired`. `inactive`, where the user may not log
/// in, the key is revoked or its service account is gone, or the tenant is suspended.
#[derive(Enum)]
#[oai(rename = "ExplanationReason", rename_all = "snake_case")]
enum Reason {
    Allowed,
    Denied,
    NoRule,
    OtherRows,
    Undisclosed,
    Account,
    Unlisted,
    Expired,
    Inactive,
}

/// A rule, and how the subject comes by it.
#[derive(Object)]
#[oai(rename = "ExplainedRule")]
struct Rule {
    /// The permission as the role states it.
    permission: PermissionForm,
    /// The role that states it.
    role_id: Uuid,
    /// The role's name.
    role: String,
    /// How the subject holds the role, from the subject on; empty for a role asked about itself.
    through: Vec<Through>,
    /// Whether the record is one of the rule's rows: true where it meets `:own`, `:team` or `:parent`
    /// and the condition for this subject, false where it does not; a role by itself owns nothing.
    /// Null when no `record` was asked about, and when fields decide that the caller may not read in
    /// it.
    #[oai(nullable)]
    covers: Option<bool>,
    /// Why it gives nothing to anybody, where its condition does not fit its module any more: it is
    /// about a field that is gone. Null for every other rule, whether it covers the record or not.
    #[oai(nullable)]
    void: Option<String>,
}

/// One step from a subject to the role that states a rule.
#[derive(Object)]
#[oai(rename = "ExplanationStep")]
struct Through {
    /// `account`: the key acts as it; `group`: the subject is in it; `role`: the subject, or the step
    /// before, holds it; `parent`: the role before includes this one.
    kind: StepKind,
    /// The group, or the role.
    id: Uuid,
    /// Its name.
    name: String,
    /// The instant at which the step ends; null for none.
    #[oai(nullable)]
    until: Option<Instant>,
}

/// What kind of step leads to a role.
#[derive(Enum)]
#[oai(rename = "ExplanationStepKind", rename_all = "snake_case")]
enum StepKind {
    Account,
    Group,
    Role,
    Parent,
}

/// Everything that a role can be given.
#[derive(Object)]
#[oai(rename = "PermissionList")]
struct List {
    /// The administration's objects, then the modules.
    data: Vec<Grantable>,
}

/// What permissions can be about: one object, with what can be done to it.
#[derive(Object)]
#[oai(rename = "GrantableObject")]
struct Grantable {
    /// The name that stands before the dot: `contacts`.
    object: String,
    /// Whether it is a module, with records.
    module: bool,
    /// What stands behind the dot: `update`.
    actions: Vec<String>,
    /// The rows that a permission on it may reach; all but `all` stand behind a colon.
    scopes: Vec<Scope>,
}

/// The rows that a permission reaches.
#[derive(Enum)]
#[oai(rename = "PermissionScope", rename_all = "snake_case")]
enum Scope {
    All,
    Team,
    Parent,
    Own,
}

#[OpenApi(prefix_path = "/api/v1/access", tag = "Tag::Roles")]
impl Access {
    /// List permissions
    ///
    /// Everything that a role of the tenant can be given: the objects, the tenant's own modules among
    /// them, with their actions and the rows that a permission may be limited to.
    /// Permission: `roles.read`.
    #[oai(
        path = "/permissions",
        method = "get",
        operation_id = "list_permissions"
    )]
    async fn permissions(&self, caller: Caller) -> Result<Json<List>, Problem> {
        let permit = caller.permit::<Read>("roles")?;
        let all = self.crm.access().permissions(&permit)?;
        let data = all.into_iter().map(Grantable::from).collect();
        Ok(Json(List { data }))
    }

    /// Explain what somebody may do
    ///
    /// Whether a user, an API key or a role of the tenant may do something, by which rules, and how
    /// they come by those; decided by the rights that a request of theirs has. Without a `record` the
    /// answer is about some records: name one to be told whether it meets `:own`, `:team`, `:parent` or
    /// a condition, as `covers` of each rule. A subject of another tenant is absent, and so is a record
    /// that the caller may not see. Permission: `access.read`.
    #[oai(path = "/explain", method = "get", operation_id = "explain_access")]
    async fn explain(
        &self,
        caller: Caller,
        /// Whose rights: `user:<id>`, `api_key:<id>` or `role:<id>`.
        #[oai(validator(max_length = 100))]
        subject: Query<String>,
        /// What they would do, as a permission names it: `contacts.update`.
        #[oai(validator(max_length = 200))]
        action: Query<String>,
        /// The record they would do it to; without it, nothing is said of any one record.
        record: Query<Option<Uuid>>,
    ) -> Result<Json<Reply>, Problem> {
        let permit = caller.permit::<Read>("access")?;
        let question = Question {
            subject: subject.0,
            action: action.0,
            record: record.0.map(RecordId),
        };
        let explanation = self.crm.access().explain(&permit, &question).await?;
        Ok(Json(explanation.into()))
    }
}

impl From<crm_core::access::Grantable> for Grantable {
    fn from(one: crm_core::access::Grantable) -> Self {
        Self {
            object: one.object,
            module: one.module,
            actions: one.actions,
            scopes: one.scopes.into_iter().map(Scope::from).collect(),
        }
    }
}

impl From<RowScope> for Scope {
    fn from(scope: RowScope) -> Self {
        match scope {
            RowScope::All => Self::All,
            RowScope::Team => Self::Team,
            RowScope::Parent => Self::Parent,
            RowScope::Own => Self::Own,
        }
    }
}

impl From<Explanation> for Reply {
    fn from(explanation: Explanation) -> Self {
        use crm_core::access::Reason as Why;
        Self {
            allowed: explanation.allowed,
            reason: match explanation.reason {
                Why::Allowed => Reason::Allowed,
                Why::Denied => Reason::Denied,
                Why::NoRule => Reason::NoRule,
                Why::OtherRows => Reason::OtherRows,
                Why::Undisclosed => Reason::Undisclosed,
                Why::Account => Reason::Account,
                Why::Unlisted => Reason::Unlisted,
                Why::Expired => Reason::Expired,
                Why::Inactive => Reason::Inactive,
            },
            rules: explanation.rules.into_iter().map(Rule::from).collect(),
        }
    }
}

impl From<ExplainedRule> for Rule {
    fn from(rule: ExplainedRule) -> Self {
        Self {
            permission: (&rule.permission).into(),
            role_id: rule.role_id.0,
            role: rule.role,
            through: rule.through.into_iter().map(Through::from).collect(),
            covers: rule.covers,
            void: rule.void,
        }
    }
}

impl From<Step> for Through {
    fn from(step: Step) -> Self {
        use crm_core::access::StepKind as Kind;
        Self {
            kind: match step.kind {
                Kind::Account => StepKind::Account,
                Kind::Group => StepKind::Group,
                Kind::Role => StepKind::Role,
                Kind::Parent => StepKind::Parent,
            },
            id: step.id,
            name: step.name,
            until: step.until.map(Instant::from),
        }
    }
}
