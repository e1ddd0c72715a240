//! Compiled policies and rights kept in memory: a request is answered without SQL.
//!
//! Bounded, and never stale beyond one poll: a change invalidates here after its commit, other
//! processes hear of it at once where the database can tell, and learn of it by the tenant's policy
//! epoch everywhere. What was read while an invalidation came in is worthless from the start.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Utc};
use quick_cache::UnitWeighter;
use quick_cache::sync::Cache;

use super::catalogue::Catalogue;
use super::circle::Circle;
use super::compile::CompiledPolicy;
use super::grants::Grants;
use super::model::Subject;
use super::source::Source;
use super::stored;
use crate::clock::Clock;
use crate::custom::TenantModules;
use crate::db::{ColumnType, Db, Heard, Job, Listener, Sql};
use crate::error::Result;
use crate::generation::Generations;
use crate::id::{RoleId, TenantId};
use crate::registry::Registry;

/// Most tenants whose compiled policy is kept: at 4 KiB each 128 MiB, usually a tenth of that.
const TENANTS: u64 = 32_768;
/// Most subjects whose rights are kept.
const SUBJECTS: u64 = 262_144;
/// Entries that there is room for from the start.
const ROOM: usize = 1_024;

/// The rights of subjects, by tenant.
pub(crate) struct PolicyCache {
    db: Db,
    clock: Clock,
    registry: Arc<Registry>,
    /// What tenants have that declare nothing themselves.
    declared: Arc<TenantModules>,
    tenants: Cache<TenantId, Cached<Tenant>>,
    subjects: Cache<(TenantId, Subject), Cached<Rights>>,
    generations: Generations,
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
    asks_second_factor: bool,
    policy: CompiledPolicy,
    modules: Arc<TenantModules>,
}

/// What a subject may do, and the modules that this is about.
#[derive(Clone)]
pub(crate) struct Rights {
    pub(crate) grants: Arc<Grants>,
    /// Those of the rights that have no end.
    pub(crate) lasting: Arc<Grants>,
    pub(crate) modules: Arc<TenantModules>,
    /// The roles that they stem from.
    pub(crate) sources: Arc<[Source]>,
    /// What the user's groups give them, where a rule asks for it.
    pub(crate) circle: Option<Arc<Circle>>,
    /// From when on something else holds.
    until: Option<DateTime<Utc>>,
}

impl Rights {
    /// Rights without an end.
    pub(crate) fn lasting(grants: Arc<Grants>, modules: Arc<TenantModules>) -> Self {
        Self {
            lasting: grants.clone(),
            grants,
            modules,
            sources: Arc::default(),
            circle: None,
            until: None,
        }
    }

    /// These rights, as far as they lie within others.
    pub(crate) fn within(&self, other: &Grants) -> Self {
        Self {
            grants: Arc::new(self.grants.intersect(other)),
            lasting: Arc::new(self.lasting.intersect(other)),
            ..self.clone()
        }
    }
}

/// A role that a subject holds, itself or through a group.
struct Held {
    role: RoleId,
    name: String,
    group: Option<String>,
    until: Option<DateTime<Utc>>,
}

impl PolicyCache {
    /// An empty cache over this database.
    pub(crate) async fn open(
        db: Db,
        clock: Clock,
        catalogue: Arc<Catalogue>,
        registry: Arc<Registry>,
    ) -> Result<Self> {
        let now = Sql::new("SELECT value FROM policy_epochs").returns(&[ColumnType::Int]);
        let seen = match db.fetch_optional(now).await? {
            Some(mut row) => row.int()?,
            None => 0,
        };
        Ok(Self {
            db,
            clock,
            registry,
            declared: Arc::new(TenantModules::declared(catalogue)),
            tenants: Cache::with_weighter(ROOM, TENANTS, UnitWeighter),
            subjects: Cache::with_weighter(ROOM, SUBJECTS, UnitWeighter),
            generations: Generations::new(),
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
        let rights = self.rights_for(tenant, subject).await?;
        Ok(rights.map(|rights| rights.grants.clone()))
    }

    /// As [`grants_for`](Self::grants_for), with the tenant's modules.
    pub(crate) async fn rights_for(
        &self,
        tenant: TenantId,
        subject: Subject,
    ) -> Result<Option<Arc<Rights>>> {
        let generation = self.generation(tenant);
        if let Some(cached) = self.subjects.get(&(tenant, subject))
            && cached.generation == generation
            && cached
                .value
                .until
                .is_none_or(|until| until > self.clock.now())
        {
            return Ok(Some(cached.value));
        }
        let Some(entry) = self.tenant(tenant, generation).await? else {
            return Ok(None);
        };
        if !entry.active {
            return Ok(None);
        }
        let Some(held) = self.roles_of(tenant, subject).await? else {
            return Ok(None);
        };
        let of = |lasting: fn(&Held) -> bool| {
            let held = held.iter().filter(|held| lasting(held));
            let grants = entry
                .policy
                .grants(&held.map(|held| held.role).collect::<Vec<_>>());
            match subject {
                Subject::ApiKey(_) => Arc::new(grants.without_own()),
                Subject::User(_) | Subject::Role(_) => grants,
            }
        };
        let (grants, modules) = (of(|_| true), entry.modules.clone());
        let mut rights = Rights::lasting(grants, modules);
        let sources = held.iter().map(|held| {
            let grants = entry.policy.grants(&[held.role]);
            Source::new(&held.name, held.group.as_deref(), grants)
        });
        rights.sources = sources.collect();
        rights.until = held.iter().filter_map(|held| held.until).min();
        if rights.until.is_some() {
            rights.lasting = of(|held| held.until.is_none());
        }
        if let Subject::User(user) = subject
            && rights.grants.need_groups()
        {
            let (circle, until) = Circle::read(&self.db, tenant, user, self.clock.now()).await?;
            rights.circle = Some(Arc::new(circle));
            rights.until = rights.until.into_iter().chain(until).min();
        }
        let value = Arc::new(rights);
        let cached = Cached {
            generation,
            value: value.clone(),
        };
        self.subjects.insert((tenant, subject), cached);
        Ok(Some(value))
    }

    /// Whether there is such a tenant, and it is not suspended.
    pub(crate) async fn is_active(&self, tenant: TenantId) -> Result<bool> {
        let entry = self.tenant(tenant, self.generation(tenant)).await?;
        Ok(entry.is_some_and(|entry| entry.active))
    }

    /// Whether the tenant lets members in only with a second factor.
    pub(crate) async fn asks_second_factor(&self, tenant: TenantId) -> Result<bool> {
        let entry = self.tenant(tenant, self.generation(tenant)).await?;
        Ok(entry.is_some_and(|entry| entry.asks_second_factor))
    }

    /// The modules as the tenant has them.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) when there is no such tenant.
    pub(crate) async fn modules(&self, tenant: TenantId) -> Result<Arc<TenantModules>> {
        let entry = self.tenant(tenant, self.generation(tenant)).await?;
        entry
            .map(|entry| entry.modules.clone())
            .ok_or(crate::Error::NotFound)
    }

    /// The modules of tenants that declare nothing themselves.
    pub(crate) fn declared(&self) -> &Arc<TenantModules> {
        &self.declared
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
        self.generations.end(tenant.0);
    }

    /// Forgets what is known of every tenant.
    pub(crate) fn invalidate_all(&self) {
        self.generations.end_all();
    }

    /// Listens to other processes' changes; `None` where only [`poll`](Self::poll) tells of them.
    ///
    /// What changed before it listened is forgotten with all else.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) async fn listen(&self) -> Result<Option<Listener>> {
        let listener = self.db.listen(stored::CHANNEL).await?;
        self.invalidate_all();
        Ok(listener)
    }

    /// Waits for one change of another process and forgets what it is about; everything, when
    /// changes may have been missed. Answers whether sessions or signing keys may have changed,
    /// which are not its matter.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) async fn hear(&self, listener: &mut Listener) -> Result<bool> {
        let heard = listener.next().await;
        match &heard {
            Ok(Heard::Message(text)) if text == stored::SESSIONS => return Ok(true),
            Ok(Heard::Message(text)) => match text.parse() {
                Ok(tenant) => self.invalidate(tenant),
                Err(_) => self.invalidate_all(),
            },
            Ok(Heard::Gap) | Err(_) => self.invalidate_all(),
        }
        heard.map(|heard| matches!(heard, Heard::Gap))
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
        let Some(stored) = stored::parse(id, rows)? else {
            return Ok(None);
        };
        let modules = TenantModules::load(&self.db, &self.registry, &self.declared, id).await?;
        let value = Arc::new(Tenant {
            active: stored.active,
            asks_second_factor: stored.asks_second_factor,
            policy: CompiledPolicy::new(modules.catalogue(), &stored.rules),
            modules,
        });
        let cached = Cached {
            generation,
            value: value.clone(),
        };
        self.tenants.insert(id, cached);
        Ok(Some(value))
    }

    /// The roles that a subject holds now; `None` when it is no active one of the tenant.
    async fn roles_of(&self, tenant: TenantId, subject: Subject) -> Result<Option<Vec<Held>>> {
        let statement = match subject {
            Subject::Role(role) => {
                return Ok(Some(vec![Held {
                    role,
                    name: role.to_string(),
                    group: None,
                    until: None,
                }]));
            }
            Subject::User(user) => Sql::new(
                "SELECT a.role_id, a.until, n.name, a.group_name FROM memberships m \
                 JOIN users u ON u.id = m.user_id AND u.status = 'active' \
                 LEFT JOIN (SELECT user_id, role_id, until, NULL AS group_name \
                 FROM role_assignments WHERE tenant_id = $1 AND user_id = $2 \
                 UNION ALL SELECT g.user_id, r.role_id, g.until, o.name \
                 FROM user_group_members g \
                 JOIN user_groups o ON o.tenant_id = g.tenant_id AND o.id = g.group_id \
                 JOIN user_group_roles r \
                 ON r.tenant_id = g.tenant_id AND r.group_id = g.group_id \
                 WHERE g.tenant_id = $1 AND g.user_id = $2) a ON a.user_id = m.user_id \
                 LEFT JOIN roles n ON n.tenant_id = m.tenant_id AND n.id = a.role_id \
                 WHERE m.tenant_id = $1 AND m.user_id = $2 ORDER BY n.name, a.group_name",
            )
            .bind(tenant, ColumnType::Uuid)
            .bind(user, ColumnType::Uuid),
            Subject::ApiKey(key) => Sql::new(
                "SELECT k.role_id, k.revoked_at, n.name, NULL FROM api_keys k \
                 LEFT JOIN roles n ON n.tenant_id = k.tenant_id AND n.id = k.role_id \
                 WHERE k.tenant_id = $1 AND k.id = $2 AND k.revoked_at IS NULL",
            )
            .bind(tenant, ColumnType::Uuid)
            .bind(key, ColumnType::Uuid),
        };
        let statement = statement.returns(&[
            ColumnType::Uuid,
            ColumnType::Instant,
            ColumnType::Text,
            ColumnType::Text,
        ]);
        let rows = self.db.fetch_all(statement).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let now = self.clock.now();
        let mut held = Vec::new();
        for mut row in rows {
            // A member without roles is one row without a role.
            let (role, until) = (row.opt_uuid()?, row.opt_instant()?);
            let (name, group) = (row.opt_text()?, row.opt_text()?);
            held.extend(role.map(|role| Held {
                role,
                name: name.unwrap_or_default(),
                group,
                until,
            }));
        }
        held.retain(|held| held.until.is_none_or(|until| until > now));
        Ok(Some(held))
    }

    /// A number that changes with what the cache forgets of the tenant.
    pub(crate) fn generation(&self, tenant: TenantId) -> u64 {
        self.generations.of(tenant.0)
    }
}

#[cfg(test)]
mod tests;
