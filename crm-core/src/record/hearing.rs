//! Hearings: what judges, such as a tenant's plugins, say to changes before they are made.
//!
//! A judge is never asked while a transaction is open. The first attempt at a write goes on as if
//! every change were accepted, notes those that somebody wants to judge, and is taken back; then
//! the judges are asked, and the next attempt makes the changes as they were judged. A change that
//! has become another one meanwhile is judged anew.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::Record;
use crate::crm::Core;
use crate::error::{Error, Refusal, Result};
use crate::event::ChangeKind;
use crate::id::TenantId;
use crate::module::CompiledModule;
use crate::scope::Scope;
use crate::value::Value;

/// Attempts at a write whose records others keep changing.
const ATTEMPTS: u8 = 5;

/// Whoever judges changes before they are made.
pub(crate) trait Judge: Send + Sync + 'static {
    /// Which changes of a tenant's records it wants to judge; `None` for not any.
    fn interest(&self, tenant: TenantId) -> BoxFuture<'_, Result<Option<Arc<Interest>>>>;

    /// Judges a change; no transaction is open.
    ///
    /// # Errors
    /// Those that passed without a judgement, such as a database out of reach: the write fails.
    fn judge(&self, change: Arc<Proposed>) -> BoxFuture<'_, Result<Judgement>>;
}

/// Changes that are to be judged, by the module's singular name.
#[derive(Debug, Default)]
pub(crate) struct Interest(HashSet<(String, ChangeKind)>);

impl Interest {
    /// These kinds of changes: created, updated, deleted.
    pub(crate) fn new(changes: impl IntoIterator<Item = (String, ChangeKind)>) -> Self {
        Self(changes.into_iter().collect())
    }

    fn includes(&self, module: &CompiledModule, kind: ChangeKind) -> bool {
        let mut all = self.0.iter();
        all.any(|(name, one)| *one == kind && *module.singular() == **name)
    }
}

/// A change that is about to be made.
#[derive(Debug)]
pub(crate) struct Proposed {
    /// Who makes it.
    pub(crate) scope: Scope,
    /// Created, updated or deleted.
    pub(crate) kind: ChangeKind,
    /// The record as it is; none for a new one.
    pub(crate) old: Option<Record>,
    /// The record as it would be; none for a deletion. The id of a new one is not yet its own.
    pub(crate) new: Option<Record>,
    /// Whether it is made in the end.
    pub(crate) proposal: Proposal,
}

/// What becomes of a change that nobody refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proposal {
    /// It is made.
    Made,
    /// It is taken back, as in the dry run of an import.
    Tried,
}

/// What becomes of a change.
#[derive(Debug, Clone)]
pub(crate) enum Judgement {
    /// It is made.
    Accepted,
    /// It is made with these fields set so, by position.
    Amended(Vec<(usize, Value)>),
    /// It is not made.
    Refused(Refusal),
}

/// What a change is known by from one attempt to the next.
type Key = [u8; 32];

/// What is to be judged in one write, and what was said.
#[derive(Clone)]
pub(crate) struct Hearing(Option<Arc<Inner>>);

struct Inner {
    tenant: TenantId,
    proposal: Proposal,
    judge: Arc<dyn Judge>,
    interest: Arc<Interest>,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    judged: HashMap<Key, Judgement>,
    open: Vec<(Key, Arc<Proposed>)>,
    attempts: u8,
}

/// The end of an attempt that is taken back to have its changes judged.
#[derive(Debug, thiserror::Error)]
#[error("changes wait to be judged")]
struct Adjourned;

impl Hearing {
    /// The hearing of a write in this tenant; without anybody to be heard it costs nothing.
    pub(crate) async fn of(core: &Core, tenant: TenantId) -> Result<Self> {
        Self::begin(core, tenant, Proposal::Made).await
    }

    /// As [`of`](Self::of), for a write that is taken back in the end: judges leave nothing either.
    pub(crate) async fn of_trial(core: &Core, tenant: TenantId) -> Result<Self> {
        Self::begin(core, tenant, Proposal::Tried).await
    }

    async fn begin(core: &Core, tenant: TenantId, proposal: Proposal) -> Result<Self> {
        let judge = core.judge.get().unwrap_or(&core.unheard);
        let interest = judge.interest(tenant).await?;
        Ok(Self(interest.map(|interest| {
            Arc::new(Inner {
                tenant,
                proposal,
                judge: judge.clone(),
                interest,
                heard: Mutex::default(),
            })
        })))
    }

    /// No hearing.
    pub(crate) const NONE: Self = Self(None);

    /// Whether any change of this kind is to be judged.
    pub(crate) fn concerns(&self, module: &CompiledModule, kind: ChangeKind) -> bool {
        let inner = self.0.as_ref();
        inner.is_some_and(|inner| inner.interest.includes(module, kind))
    }

    /// Whether any change of records of this module is to be judged.
    pub(crate) fn watches(&self, module: &CompiledModule) -> bool {
        let mut kinds = [
            ChangeKind::Created,
            ChangeKind::Updated,
            ChangeKind::Deleted,
        ]
        .into_iter();
        self.0.is_some() && kinds.any(|kind| self.concerns(module, kind))
    }

    /// What was said to this change. One that was not yet judged counts as accepted, for now.
    ///
    /// `set` are the fields that hooks gave a value: it may be another one at each attempt.
    pub(super) fn on(
        &self,
        scope: &Scope,
        kind: ChangeKind,
        old: Option<&Record>,
        new: Option<&Record>,
        set: &[(usize, Value)],
    ) -> Result<Judgement> {
        let module = new.or(old).map(Record::module);
        let (Some(inner), Some(module)) = (&self.0, module) else {
            return Ok(Judgement::Accepted);
        };
        if scope.tenant() != inner.tenant {
            return Err(Error::internal("a change is heard in another tenant"));
        }
        if !inner.interest.includes(module, kind) {
            return Ok(Judgement::Accepted);
        }
        let key = key(module, kind, old, new, set)?;
        let mut heard = inner.heard.lock();
        if let Some(judgement) = heard.judged.get(&key) {
            return Ok(judgement.clone());
        }
        if heard.open.iter().all(|(open, _)| *open != key) {
            let change = Proposed {
                scope: scope.clone(),
                kind,
                old: old.cloned(),
                new: new.cloned(),
                proposal: inner.proposal,
            };
            heard.open.push((key, Arc::new(change)));
        }
        Ok(Judgement::Accepted)
    }

    /// Ends an attempt: one with changes that wait to be judged is taken back.
    ///
    /// # Errors
    /// For [`resume`](Self::resume).
    pub(crate) fn adjourn(&self) -> Result<()> {
        let inner = self.0.as_ref();
        match inner.is_some_and(|inner| !inner.heard.lock().open.is_empty()) {
            true => Err(Error::internal(Adjourned)),
            false => Ok(()),
        }
    }

    /// Has the open changes judged, so that the write is to be tried again.
    ///
    /// # Errors
    /// The one given, when it is not that of an adjourned attempt; those of the judge; and
    /// [`Error::Unavailable`] when the changes keep becoming others.
    pub(crate) async fn resume(&self, error: Error) -> Result<()> {
        let adjourned = matches!(&error, Error::Internal(source) if source.is::<Adjourned>());
        let inner = match &self.0 {
            Some(inner) if adjourned => inner,
            _ => return Err(error),
        };
        let open = {
            let mut heard = inner.heard.lock();
            heard.attempts += 1;
            if heard.attempts > ATTEMPTS {
                let message = "the records kept changing while the tenant's plugins judged the \
                               change; nothing was changed, try again";
                return Err(Error::unavailable(message));
            }
            std::mem::take(&mut heard.open)
        };
        for (key, change) in open {
            let judgement = inner.judge.judge(change).await?;
            inner.heard.lock().judged.insert(key, judgement);
        }
        Ok(())
    }
}

fn key(
    module: &CompiledModule,
    kind: ChangeKind,
    old: Option<&Record>,
    new: Option<&Record>,
    set: &[(usize, Value)],
) -> Result<Key> {
    let old = old.map(|old| (old.id, old.version));
    let new = new.map(|new| {
        let values = new.values().iter().enumerate();
        let own = values.filter(|(at, _)| set.iter().all(|(set, _)| set != at));
        (new.owner_id, own.collect::<Vec<_>>())
    });
    let text = serde_json::to_vec(&(module.name().as_str(), kind, old, new));
    Ok(Sha256::digest(text.map_err(Error::internal)?).into())
}
