//! Compiled policies and rights kept in memory: a request is answered without SQL.
//!
//! Bounded, and never stale beyond one poll: a change invalidates here after its commit, other
//! processes learn of it by the tenant's policy epoch. Refuses to keep what was read while an
//! invalidation came in.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
/// Locks between loads and invalidations, spread over the tenants.
const STRIPES: usize = 64;

/// The rights of subjects, by tenant.
pub(crate) struct PolicyCache {
    db: Db,
    catalogue: Arc<Catalogue>,
    tenants: Cache<TenantId, Arc<Tenant>>,
    /// Rights with the stamp of the tenant's policy they follow from: worthless under another.
    subjects: Cache<(TenantId, Subject), (u64, Arc<Grants>)>,
    stamps: AtomicU64,
    /// Counts the invalidations of a stripe of tenants.
    generations: [Mutex<u64>; STRIPES],
    /// The newest policy epoch whose changes have been dropped here.
    seen: AtomicI64,
}

struct Tenant {
    stamp: u64,
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
            stamps: AtomicU64::new(0),
            generations: std::array::from_fn(|_| Mutex::new(0)),
            seen: AtomicI64::new(seen),
        })
    }

    /// The permissions' names.
    pub(crate) fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// What the subject may do in the tenant; `None` when it is no active member of it, or the
    /// tenant is suspended or absent.
    pub(crate) async fn grants_for(
        &self,
        tenant: TenantId,
        subject: Subject,
    ) -> Result<Option<Arc<Grants>>> {
        let Some(entry) = self.tenant(tenant).await? else {
            return Ok(None);
        };
        if !entry.active {
            return Ok(None);
        }
        let cached = self.subjects.get(&(tenant, subject));
        if let Some((_, grants)) = cached.filter(|(stamp, _)| *stamp == entry.stamp) {
            return Ok(Some(grants));
        }
        // An invalidation from here on drops the tenant's entry, and its stamp with it.
        let Some(roles) = self.roles_of(tenant, subject).await? else {
            return Ok(None);
        };
        let mut grants = entry.policy.grants(&roles);
        if let Subject::ApiKey(_) = subject {
            grants = Arc::new(grants.without_own());
        }
        self.subjects
            .insert((tenant, subject), (entry.stamp, grants.clone()));
        Ok(Some(grants))
    }

    /// Runs `job` in a transaction that changes the policy of a tenant: under its lock, announced
    /// to every process, and forgotten here afterwards. See [`bump_epoch`](stored::bump_epoch).
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        tenant: TenantId,
        job: impl Job<T>,
    ) -> Result<T> {
        let answer = self.db.write(move |tx| {
            Box::pin(async move {
                stored::bump_epoch(tx, tenant).await?;
                job(tx).await
            })
        });
        let answer = answer.await;
        // After a failure too: the answer to a commit may have been lost on its way.
        self.invalidate(tenant);
        answer
    }

    /// Forgets what is known of a tenant. Call it after the commit of every change of its policy.
    pub(crate) fn invalidate(&self, tenant: TenantId) {
        *self.generation(tenant) += 1;
        self.tenants.invalidate(&tenant);
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

    async fn tenant(&self, id: TenantId) -> Result<Option<Arc<Tenant>>> {
        if let Some(tenant) = self.tenants.get(&id) {
            return Ok(Some(tenant));
        }
        let before = *self.generation(id);
        let rows = self.db.fetch_all(stored::read(id)).await?;
        let Some((active, rules)) = stored::parse(id, rows)? else {
            return Ok(None);
        };
        let tenant = Arc::new(Tenant {
            stamp: self.stamps.fetch_add(1, Ordering::Relaxed),
            active,
            policy: CompiledPolicy::new(&self.catalogue, &rules),
        });
        self.keep(id, before, &tenant);
        Ok(Some(tenant))
    }

    /// Caches what was read since generation `before`, unless an invalidation has come since.
    fn keep(&self, id: TenantId, before: u64, tenant: &Arc<Tenant>) {
        // The lock makes an invalidation come either before the comparison or after the insert.
        let generation = self.generation(id);
        if *generation == before {
            self.tenants.insert(id, tenant.clone());
        }
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

    fn generation(&self, tenant: TenantId) -> MutexGuard<'_, u64> {
        // The last byte of a UUID of version 7 is random.
        let stripe = usize::from(tenant.0.as_bytes()[15]) % STRIPES;
        self.generations[stripe]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::UserId;
    use crate::policy::RowScope;
    use crate::policy::fixture::{World, on_both_databases};

    on_both_databases! {
        built_in_roles_mean_what_they_promise
        only_active_members_of_active_tenants_have_rights
        an_api_key_has_its_roles_rights_on_all_rows_until_it_is_revoked
        another_process_sees_a_change_with_its_next_poll
        a_users_new_status_is_announced_to_every_tenant_of_theirs
        what_was_read_before_an_invalidation_is_not_kept
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
        let neighbour = other.tenant(untouched).await.unwrap().unwrap();

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
        assert!(Arc::ptr_eq(
            &other.tenant(untouched).await.unwrap().unwrap(),
            &neighbour
        ));
        let kept = other.tenant(tenant).await.unwrap().unwrap();
        other.poll().await.unwrap();
        assert!(Arc::ptr_eq(
            &other.tenant(tenant).await.unwrap().unwrap(),
            &kept
        ));
    }

    async fn a_users_new_status_is_announced_to_every_tenant_of_theirs(world: World) {
        let user = world.manager;
        assert!(world.grants(Subject::User(user)).await.is_some());
        let write = world.crm.core.db.write(move |tx| {
            Box::pin(async move {
                stored::bump_epochs_of(tx, user).await?;
                let update = Sql::new("UPDATE users SET status = 'inactive' WHERE id = $1")
                    .bind(user, ColumnType::Uuid);
                tx.execute(update).await
            })
        });
        write.await.unwrap();
        world.crm.core.policy.poll().await.unwrap();
        assert!(world.grants(Subject::User(user)).await.is_none());
    }

    async fn what_was_read_before_an_invalidation_is_not_kept(world: World) {
        let (policy, tenant) = (&world.crm.core.policy, world.tenant);
        let before = *policy.generation(tenant);
        let read = policy.tenant(tenant).await.unwrap().unwrap();
        policy.invalidate(tenant);
        policy.keep(tenant, before, &read);
        assert!(policy.tenants.get(&tenant).is_none());
        // Nor are the rights that followed from it, although they are stored.
        let subject = Subject::User(world.viewer);
        let stale = Arc::new(Grants::everything(&policy.catalogue));
        policy
            .subjects
            .insert((tenant, subject), (read.stamp, stale));
        let grants = policy.grants_for(tenant, subject).await.unwrap().unwrap();
        assert_eq!(decide(&world, &grants, "roles", "create"), None);
        policy.invalidate(tenant);
        let now = *policy.generation(tenant);
        policy.keep(tenant, now, &read);
        assert!(policy.tenants.get(&tenant).is_some());
    }
}
