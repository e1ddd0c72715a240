//! Where a chapter is played: one tenant, everybody in it, and a record of what was answered.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Map, Value as Json};

use super::cast::{self, Cast, Kin};
use super::transcript::{Said, Transcript};
use crate::crm::Crm;
use crate::error::{Error, Result};
use crate::id::{RecordId, TenantId, UserId};
use crate::module::{CompiledModule, FieldSpec};
use crate::scope::{RequestContext, Scope};

/// The attacks on one door.
#[derive(Debug, Clone)]
pub(super) struct Chapter {
    pub(super) door: &'static str,
    /// The module, for doors of records.
    pub(super) module: Option<String>,
    pub(super) play: Play,
    /// Tables whose rows of other tenants the door may change: the outbox is emptied for all.
    pub(super) common: &'static [&'static str],
}

pub(super) type Play = for<'s> fn(&'s Stage) -> BoxFuture<'s, Result<()>>;

/// The tenant that is played in.
pub(super) struct Stage {
    pub(super) crm: Crm,
    pub(super) cast: Cast,
    pub(super) tenant: TenantId,
    module: Option<String>,
    transcript: Mutex<Transcript>,
    number: AtomicU64,
}

impl Stage {
    pub(super) fn new(
        crm: &Crm,
        cast: Cast,
        tenant: TenantId,
        module: Option<String>,
        transcript: Transcript,
    ) -> Self {
        Self {
            crm: crm.clone(),
            cast,
            tenant,
            module,
            transcript: Mutex::new(transcript),
            number: AtomicU64::new(500),
        }
    }

    /// Plays the chapter to its end or first failure, which is an answer like any other.
    pub(super) async fn play(self, chapter: &Chapter) -> Vec<Said> {
        let end = (chapter.play)(&self).await;
        self.say("the end", end);
        self.transcript.into_inner().into_said()
    }

    /// Takes note of an answer.
    pub(super) fn say<T: Debug>(&self, what: impl Into<String>, answer: Result<T>) {
        let mut transcript = self.transcript.lock();
        match answer {
            Ok(answer) => transcript.say(what.into(), &answer),
            // Sources tell of statements and constraints, and are for the log.
            Err(Error::Invalid(refused)) => transcript.say(what.into(), &refused),
            Err(error) => transcript.say(what.into(), &(error.code(), error.to_string())),
        }
    }

    pub(super) async fn operator(&self) -> Result<Scope> {
        self.crm.operator_in(self.tenant, request()).await
    }

    /// The scope of a member.
    pub(super) async fn user(&self, user: UserId) -> Result<Scope> {
        let scope = crate::testing::scope(&self.crm, self.tenant, user, request()).await?;
        scope.ok_or(Error::NotFound)
    }

    /// The module of the chapter, as the tenant has it.
    pub(super) async fn module(&self) -> Result<Arc<CompiledModule>> {
        let name = self.module.as_deref().ok_or(Error::NotFound)?;
        let scope = self.operator().await?;
        scope.module(name).cloned().ok_or(Error::NotFound)
    }

    pub(super) fn kin(&self, module: &CompiledModule) -> Result<&Kin> {
        self.cast.kin(module)
    }

    /// A new body with references to records of the tenant.
    pub(super) fn body(&self, module: &CompiledModule) -> Result<Map<String, Json>> {
        self.body_of(module, |_| true)
    }

    /// A new body of what a change may name.
    pub(super) fn change(&self, module: &CompiledModule) -> Result<Map<String, Json>> {
        self.body_of(module, |field| cast::is_free(module, field))
    }

    fn body_of(
        &self,
        module: &CompiledModule,
        wanted: impl Fn(&FieldSpec) -> bool,
    ) -> Result<Map<String, Json>> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        // The last one: a unique reference may name it once.
        let target = |name: &str| self.cast.kin.get(name)?.both.last().copied();
        cast::body(module, number, &target, wanted).ok_or(Error::NotFound)
    }

    /// The ids to ask for: those of the tenant and those that only the other one has.
    pub(super) fn ids(&self, module: &CompiledModule) -> Result<Vec<(&'static str, RecordId)>> {
        let kin = self.kin(module)?;
        let own = kin.both.iter().map(|id| ("own", *id));
        let trashed = kin.trashed.iter().map(|id| ("trashed", *id));
        let other = kin.other.iter().take(1).map(|id| ("foreign", *id));
        Ok(own.chain(trashed).chain(other).collect())
    }
}

pub(super) fn request() -> RequestContext {
    RequestContext {
        id: "isolation-suite".into(),
        address: None,
    }
}
