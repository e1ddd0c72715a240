//! Compiled policies and rights kept in memory: a request is answered without SQL.
//!
//! Bounded, and never stale beyond one poll: a change invalidates here after its commit, other
//! processes learn of it by the tenant's policy epoch. What was read while an invalidation came in
//! is worthless from the start.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use moka::sync::Cache;

use super::catalogue::Catalogue;
use super::compile::CompiledPolicy;
use super::grants::Grants;
use super::model::Subject;
use super::stored;
use crate::db::{ColumnType, Db, Job, Sql};
use crate::error::Result;
use crate::id::{RoleId, TenantId};

/// Most tenants whose compiled policy is kept: at 4 KiB each 128 MiB, usually a tenth of that.
const TENANTS: u64 = 32_768;
/// Most subjects whose rights are kept.
const SUBJECTS: u64 = 262_144;
/// Counters of invalidations; tenants that share one only lose what is cached more often.
const GENERATIONS: usize = 4_096;

/// The rights of subjects, by tenant.
pub(crate) struct PolicyCache {
    db: Db,
    catalogue: Arc<Catalogue>,
    tenants: Cache<TenantId, Cached<Tenant>>,
    subjects: Cache<(TenantId, Subject), Cached<Grants>>,
    /// Every entry states the generation before its reading began, and holds in that one only.
    generations: Box<[AtomicU64]>,
    /// The newest policy epoch whose changes have been dropped here.
    seen: AtomicI64,
}

struct Cached<T> {
    generation: u64,
    value: Arc<T>,
}

impl<T> Clone for Cached<T> {
    fn clone(&self) -> Self {
        Self {
            generation: self.generation,
            value: self.value.clone(),
        }
    }
}

struct Tenant {
    active: bool,
    policy: CompiledPolicy,
}

impl PolicyCache {
    /// An empty cache over this database.
    pub(crate) async fn open(db: Db, catalogue: Arc<Catalogue>) -> Result<Self> {
        let now = Sql::new("SELECT value FROM policy_epochs").returns(&[ColumnType::Int]);
        let seen = match db.fetch_optional(now).await? {
            Some(mut row) => row.int()?,
            None => 0,
        };
        Ok(Self {
            db,
            catalogue,
            tenants: Cache::new(TENANTS),
            subjects: Cache::new(SUBJECTS),
            generations: (0..GENERATIONS).map(|_| AtomicU64::new(0)).collect(),
            seen: AtomicI64::new(seen),
        })
    }

    /// What the subject may do in the tenant; `None` when it is no active member of it, or the
    /// tenant is suspended or absent.
    pub(crate) async fn grants_for(
        &self,
        tenant: TenantId,
        subject: Subject,
    ) -> Result<Option<Arc<Grants>>> {
        let generation = self.generation(tenant);
        if let Some(cached) = self.subjects.get(&(tenant, subject))
            && cached.generation == generation
        {
            return Ok(Some(cached.value));
        }
        let Some(entry) = self.tenant(tenant, generation).await? else {
            return Ok(None);
        };
        if !entry.active {
            return Ok(None);
        }
        let Some(roles) = self.roles_of(tenant, subject).await? else {
            return Ok(None);
        };
        let mut value = entry.policy.grants(&roles);
        if let Subject::ApiKey(_) = subject {
            value = Arc::new(value.without_own());
        }
        let cached = Cached {
            generation,
            value: value.clone(),
        };
        self.subjects.insert((tenant, subject), cached);
        Ok(Some(value))
    }

    /// Runs `job` in a transaction that changes the policy of a tenant: under its lock, announced
    /// to every process, and forgotten here afterwards. See [`bump_epoch`](stored::bump_epoch).
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        tenant: TenantId,
        job: impl Job<T>,
    ) -> Result<T> {
        let write = self.db.write(move |tx| {
            Box::pin(async move {
                stored::bump_epoch(tx, tenant).await?;
                job(tx).await
            })
        });
        let answer = write.await;
        // After a failure too: the answer to a commit may have been lost on its way.
        self.invalidate(tenant);
        answer
    }

    /// Forgets what is known of a tenant. Call it after the commit of every change of its policy.
    pub(crate) fn invalidate(&self, tenant: TenantId) {
        self.generation_of(tenant).fetch_add(1, Ordering::AcqRel);
    }

    /// Forgets the tenants whose policy another process has changed since the last call.
    pub(crate) async fn poll(&self) -> Result<()> {
        let changed = Sql::new(
            "SELECT id, policy_epoch FROM tenants WHERE policy_epoch > $1 ORDER BY policy_epoch",
        )
        .bind(self.seen.load(Ordering::Acquire), ColumnType::Int)
        .returns(&[ColumnType::Uuid, ColumnType::Int]);
        for mut row in self.db.fetch_all(changed).await? {
            self.invalidate(row.uuid()?);
            self.seen.fetch_max(row.int()?, Ordering::AcqRel);
        }
        Ok(())
    }

    /// The tenant's policy, cached or read after `generation` was.
    async fn tenant(&self, id: TenantId, generation: u64) -> Result<Option<Arc<Tenant>>> {
        if let Some(cached) = self.tenants.get(&id)
            && cached.generation == generation
        {
            return Ok(Some(cached.value));
        }
        let rows = self.db.fetch_all(stored::read(id)).await?;
        let Some((active, rules)) = stored::parse(id, rows)? else {
            return Ok(None);
        };
        let value = Arc::new(Tenant {
            active,
            policy: CompiledPolicy::new(&self.catalogue, &rules),
        });
        let cached = Cached {
            generation,
            value: value.clone(),
        };
        self.tenants.insert(id, cached);
        Ok(Some(value))
    }

    async fn roles_of(&self, tenant: TenantId, subject: Subject) -> Result<Option<Vec<RoleId>>> {
        let statement = match subject {
            Subject::Role(role) => return Ok(Some(vec![role])),
            Subject::User(user) => Sql::new(
                "SELECT a.role_id FROM memberships m \
                 JOIN users u ON u.id = m.user_id AND u.status = 'active' \
                 LEFT JOIN role_assignments a \
                 ON a.tenant_id = m.tenant_id AND a.user_id = m.user_id \
                 WHERE m.tenant_id = $1 AND m.user_id = $2",
            )
            .bind(tenant, ColumnType::Uuid)
            .bind(user, ColumnType::Uuid),
            Subject::ApiKey(key) => Sql::new(
                "SELECT role_id FROM api_keys \
                 WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL",
            )
            .bind(tenant, ColumnType::Uuid)
            .bind(key, ColumnType::Uuid),
        };
        let rows = self
            .db
            .fetch_all(statement.returns(&[ColumnType::Uuid]))
            .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let roles = rows
            .into_iter()
            .map(|mut row| row.opt_uuid())
            .collect::<Result<Vec<_>>>()?;
        // A member without roles is one row without a role.
        Ok(Some(roles.into_iter().flatten().collect()))
    }

    fn generation(&self, tenant: TenantId) -> u64 {
        self.generation_of(tenant).load(Ordering::Acquire)
    }

    fn generation_of(&self, tenant: TenantId) -> &AtomicU64 {
        // The last bytes of a UUID of version 7 are random.
        let [.., high, low] = *tenant.0.as_bytes();
        &self.generations[usize::from(u16::from_be_bytes([high, low])) % GENERATIONS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::UserId;
    use crate::policy::fixture::{World, on_both_databases};
    use crate::policy::{RowScope, TenantRules};

    on_both_databases! {
        built_in_roles_mean_what_they_promise
        only_active_members_of_active_tenants_have_rights
        an_api_key_has_its_roles_rights_on_all_rows_until_it_is_revoked
        another_process_sees_a_change_with_its_next_poll
        what_was_read_before_an_invalidation_is_not_used
    }

    fn decide(world: &World, grants: &Grants, object: &str, action: &str) -> Option<RowScope> {
        grants.decide(world.crm.catalogue().operation(object, action).unwrap())
    }

    async fn role_named(world: &World, name: &'static str) -> RoleId {
        let select = Sql::new("SELECT id FROM roles WHERE tenant_id = $1 AND name = $2")
            .bind(world.tenant, ColumnType::Uuid)
            .bind(name, ColumnType::Text)
            .returns(&[ColumnType::Uuid]);
        let row = world.crm.core.db.fetch_optional(select).await.unwrap();
        row.unwrap().uuid().unwrap()
    }

    async fn built_in_roles_mean_what_they_promise(world: World) {
        let (all, own) = (Some(RowScope::All), Some(RowScope::Own));
        let table = [
            ("contacts", "read", [all, all, own, all]),
            ("contacts", "create", [all, all, own, None]),
            ("deals", "update", [all, all, own, None]),
            ("deals", "delete", [all, all, own, None]),
            ("members", "read", [all, all, None, None]),
            ("members", "update", [all, None, None, None]),
            ("roles", "read", [all, all, None, None]),
            ("roles", "create", [all, None, None, None]),
            ("audit", "read", [all, all, None, None]),
            ("api_keys", "read", [all, None, None, None]),
            ("plugins", "read", [all, None, None, None]),
        ];
        let users = [world.admin, world.manager, world.member, world.viewer];
        for (object, action, expected) in table {
            for (user, expected) in users.into_iter().zip(expected) {
                let grants = world.grants(Subject::User(user)).await.unwrap();
                let decided = decide(&world, &grants, object, action);
                assert_eq!(decided, expected, "{object}.{action}");
            }
        }
    }

    async fn only_active_members_of_active_tenants_have_rights(world: World) {
        let policy = &world.crm.core.policy;
        let other = world.new_tenant("other").await;
        let member = Subject::User(world.admin);
        assert!(policy.grants_for(other, member).await.unwrap().is_none());
        let stranger = Subject::User(UserId(world.crm.clock().new_id()));
        assert!(world.grants(stranger).await.is_none());
        let absent = TenantId(world.crm.clock().new_id());
        assert!(policy.grants_for(absent, member).await.unwrap().is_none());

        assert!(world.grants(member).await.is_some());
        let tenant = world.tenant;
        for (status, member_has_rights) in [("suspended", false), ("active", true)] {
            let update = Sql::new("UPDATE tenants SET status = $1 WHERE id = $2")
                .bind(status, ColumnType::Text)
                .bind(tenant, ColumnType::Uuid);
            let write = policy.write(tenant, move |tx| Box::pin(tx.execute(update)));
            write.await.unwrap();
            assert_eq!(
                world.grants(member).await.is_some(),
                member_has_rights,
                "{status}"
            );
        }
    }

    async fn an_api_key_has_its_roles_rights_on_all_rows_until_it_is_revoked(world: World) {
        let viewer = world.new_key(role_named(&world, "viewer").await).await;
        let member = world.new_key(role_named(&world, "member").await).await;
        let grants = world.grants(Subject::ApiKey(viewer)).await.unwrap();
        assert_eq!(
            decide(&world, &grants, "contacts", "read"),
            Some(RowScope::All)
        );
        // A key owns no rows, so that a role for own rows gives it nothing.
        let grants = world.grants(Subject::ApiKey(member)).await.unwrap();
        assert_eq!(decide(&world, &grants, "contacts", "read"), None);

        let tenant = world.tenant;
        let revoke = Sql::new("UPDATE api_keys SET revoked_at = $1 WHERE id = $2")
            .bind(world.crm.clock().now(), ColumnType::Instant)
            .bind(viewer, ColumnType::Uuid);
        let write = world
            .crm
            .core
            .policy
            .write(tenant, move |tx| Box::pin(tx.execute(revoke)));
        write.await.unwrap();
        assert!(world.grants(Subject::ApiKey(viewer)).await.is_none());
    }

    async fn another_process_sees_a_change_with_its_next_poll(world: World) {
        let core = &world.crm.core;
        let other = PolicyCache::open(core.db.clone(), core.catalogue.clone())
            .await
            .unwrap();
        let (tenant, viewer) = (world.tenant, Subject::User(world.viewer));
        let untouched = world.new_tenant("untouched").await;
        let cached = other.grants_for(tenant, viewer).await.unwrap().unwrap();

        let (user, now) = (world.viewer, world.crm.clock().now());
        let admin = role_named(&world, "admin").await;
        let write = core.policy.write(tenant, move |tx| {
            Box::pin(async move { crate::member::assign(tx, tenant, user, &[admin], now).await })
        });
        write.await.unwrap();
        let here = core
            .policy
            .grants_for(tenant, viewer)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            decide(&world, &here, "roles", "create"),
            Some(RowScope::All)
        );
        assert_eq!(
            other.grants_for(tenant, viewer).await.unwrap().unwrap(),
            cached
        );
        other.poll().await.unwrap();
        assert_eq!(
            other.grants_for(tenant, viewer).await.unwrap().unwrap(),
            here
        );
        // Only what changed is dropped, and only once.
        let (changed, same) = (other.generation(tenant), other.generation(untouched));
        assert_eq!((changed, same), (1, 0));
        other.poll().await.unwrap();
        assert_eq!(other.generation(tenant), changed);
    }

    async fn what_was_read_before_an_invalidation_is_not_used(world: World) {
        let (policy, tenant) = (&world.crm.core.policy, world.tenant);
        let subject = Subject::User(world.viewer);
        let before = policy.generation(tenant);
        policy.invalidate(tenant);
        // Two reads that began before and end only now.
        let everything = Cached {
            generation: before,
            value: Arc::new(Grants::everything(&policy.catalogue)),
        };
        policy.subjects.insert((tenant, subject), everything);
        let gone = Tenant {
            active: false,
            policy: CompiledPolicy::new(&policy.catalogue, &no_rules(tenant)),
        };
        let gone = Cached {
            generation: before,
            value: Arc::new(gone),
        };
        policy.tenants.insert(tenant, gone);
        let grants = world.grants(subject).await.unwrap();
        assert_eq!(
            decide(&world, &grants, "contacts", "read"),
            Some(RowScope::All)
        );
        assert_eq!(decide(&world, &grants, "roles", "create"), None);
        // What is read now is used again.
        assert!(Arc::ptr_eq(&world.grants(subject).await.unwrap(), &grants));
    }

    fn no_rules(tenant: TenantId) -> TenantRules {
        TenantRules {
            tenant,
            roles: Vec::new(),
            rules: Vec::new(),
            assignments: Vec::new(),
        }
    }
}
