//! Who and what there is in the tenants of the suite.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::clock::Clock;
use crate::error::{Error, FieldError, Result};
use crate::id::{
    ApiKeyId, FamilyId, GroupId, IdentityId, InvitationId, JobId, PluginId, ProviderId, RecordId,
    RoleId, TenantId, UserId,
};
use crate::module::{CompiledModule, FieldSpec, FieldType};
use crate::testing::suite::{machine, sample};

/// One of something in both tenants, and one that only the other tenant has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair<T> {
    pub(super) both: T,
    pub(super) other: T,
}

impl<T: From<Uuid> + Into<Uuid> + Copy> Pair<T> {
    pub(super) fn each(&self) -> [T; 2] {
        [self.both, self.other]
    }
}

/// The records of a module.
#[derive(Debug, Clone, Default)]
pub(super) struct Kin {
    /// In both tenants, with different contents.
    pub(super) both: Vec<RecordId>,
    /// In both tenants' trash.
    pub(super) trashed: Vec<RecordId>,
    /// Only the other tenant's.
    pub(super) other: Vec<RecordId>,
    /// What the first one was made of, in both tenants.
    pub(super) known: Map<String, Json>,
    /// What the other tenant's first one was made of.
    pub(super) foreign: Map<String, Json>,
    /// Where the other tenant's first page ended.
    pub(super) cursor: Option<String>,
}

/// Everybody and everything.
#[derive(Debug, Clone)]
pub(super) struct Cast {
    pub(super) kin: BTreeMap<String, Kin>,
    /// An admin, who owns records.
    pub(super) ann: UserId,
    /// A member with rights on some rows, in the other tenant on all.
    pub(super) bob: UserId,
    /// A member of the other tenant alone.
    pub(super) carl: UserId,
    /// The address of the member of the other tenant.
    pub(super) carl_email: String,
    /// A program that acts in both tenants.
    pub(super) service: Pair<UserId>,
    pub(super) role: Pair<RoleId>,
    /// A role of both tenants that nobody holds.
    pub(super) spare: RoleId,
    pub(super) group: Pair<GroupId>,
    pub(super) key: Pair<ApiKeyId>,
    pub(super) invitation: Pair<InvitationId>,
    pub(super) plugin: Pair<PluginId>,
    pub(super) job: Pair<JobId>,
    /// Imports that wait, in both tenants.
    pub(super) queued: [JobId; 2],
    /// An import that another process runs, in both tenants.
    pub(super) running: JobId,
    /// The key that both have; it opens the first tenant.
    pub(super) secret: SecretString,
    pub(super) audit: Pair<Uuid>,
    pub(super) provider: Pair<ProviderId>,
    /// What bob is called by the provider of both tenants.
    pub(super) identity: IdentityId,
    /// A session of an operator in bob's name.
    pub(super) impersonation: FamilyId,
}

impl Cast {
    /// The same, where nothing of the other tenant's exists.
    pub(super) fn alone(&self, clock: &Clock) -> Self {
        let mut alone = self.clone();
        for id in alone.others_mut() {
            *id = clock.new_id();
        }
        alone
    }

    /// The ids that only the other tenant has, in an order of their own.
    pub(super) fn others(&self) -> Vec<Uuid> {
        let mut copy = self.clone();
        copy.others_mut().into_iter().map(|id| *id).collect()
    }

    fn others_mut(&mut self) -> Vec<&mut Uuid> {
        let records = self.kin.values_mut().flat_map(|kin| &mut kin.other);
        let mut all: Vec<&mut Uuid> = records.map(|id| &mut id.0).collect();
        all.extend([
            &mut self.carl.0,
            &mut self.service.other.0,
            &mut self.role.other.0,
            &mut self.group.other.0,
            &mut self.key.other.0,
            &mut self.invitation.other.0,
            &mut self.plugin.other.0,
            &mut self.job.other.0,
            &mut self.audit.other,
            &mut self.provider.other.0,
        ]);
        all
    }

    pub(super) fn kin(&self, module: &CompiledModule) -> Result<&Kin> {
        self.kin.get(module.name().as_str()).ok_or(Error::NotFound)
    }
}

/// Which record of its module a reference in a body is to.
pub(super) type Target<'t> = &'t dyn Fn(&str) -> Option<RecordId>;

/// A valid body, another one for each number, of the fields that are wanted; none where a required
/// reference has no target yet.
pub(super) fn body(
    module: &CompiledModule,
    number: u64,
    target: Target<'_>,
    wanted: impl Fn(&FieldSpec) -> bool,
) -> Option<Map<String, Json>> {
    let mut body = Map::new();
    for field in module.writable().filter(|field| wanted(field)) {
        let machine = machine(module, field);
        let value = match machine.and_then(|machine| machine.initial.first()) {
            Some(initial) => Some(Json::from(initial.as_str())),
            None if field.kind.is_reference() => reference(&field.kind, target),
            None => Some(sample::of(&field.kind, number)),
        };
        match value {
            Some(value) => drop(body.insert(field.name.to_string(), value)),
            None if field.required => return None,
            None => {}
        }
    }
    Some(body)
}

/// A reference of this type; none without a target.
pub(super) fn reference(kind: &FieldType, target: Target<'_>) -> Option<Json> {
    let found = kind.targets().iter().find_map(|module| {
        let id = target(module.as_str())?;
        Some((module, id))
    });
    let (module, id) = found?;
    Some(match kind {
        FieldType::References { .. } => Json::from(vec![id.to_string()]),
        FieldType::AnyReference { .. } => Json::from(format!("{module}/{id}")),
        _ => Json::from(id.to_string()),
    })
}

/// Whether a change may name the field.
pub(super) fn is_free(module: &CompiledModule, field: &FieldSpec) -> bool {
    machine(module, field).is_none() && !field.immutable
}

pub(super) fn invalid(error: FieldError) -> Error {
    Error::Invalid(vec![error])
}

/// A name that no tenant of the host has.
pub(super) fn tenant_name(id: TenantId) -> String {
    format!("isolation {}", id.0.simple())
}
