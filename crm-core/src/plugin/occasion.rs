//! Who caused a run, and the record that it is about.

use std::fmt::Display;

use crate::event::{Event, Principal};
use crate::id::RecordId;
use crate::scope::Scope;

/// What a run begins for.
pub(super) struct Occasion {
    /// The actor, as in the audit log; else what stands for one, such as [`CLOCK`].
    pub(super) caused_by: String,
    /// Who acted in the actor's name, where somebody else did.
    pub(super) impersonator: Option<String>,
    pub(super) module: Option<String>,
    pub(super) record_id: Option<RecordId>,
}

/// What causes the runs of cron triggers.
pub(super) const CLOCK: &str = "clock";
/// Whoever holds the secret that a message is signed with.
pub(super) const WEBHOOK: &str = "webhook";

impl Occasion {
    /// Something happened, to a record or in another plugin.
    pub(super) fn of(event: &Event) -> Self {
        let happened = Self {
            caused_by: event.actor.clone(),
            impersonator: event.impersonator.clone(),
            module: None,
            record_id: None,
        };
        match event.told_by() {
            Some(_) => happened,
            None => happened.about(&event.module, Some(event.record_id)),
        }
    }

    /// Somebody does something, or asks for it.
    pub(super) fn by(scope: &Scope) -> Self {
        Self {
            caused_by: scope.actor().to_string(),
            impersonator: scope.impersonator().map(|by| by.to_string()),
            module: None,
            record_id: None,
        }
    }

    /// Something is due that follows from somebody's act, or else is to be put down to `otherwise`.
    pub(super) fn after(principal: Option<Principal>, otherwise: impl Display) -> Self {
        let actor = principal.map(|principal| principal.actor().to_string());
        let impersonator = principal.and_then(Principal::impersonator);
        Self {
            caused_by: actor.unwrap_or_else(|| otherwise.to_string()),
            impersonator: impersonator.map(|by| by.actor().to_string()),
            module: None,
            record_id: None,
        }
    }

    pub(super) fn about(self, module: &str, record_id: Option<RecordId>) -> Self {
        Self {
            module: Some(module.to_owned()),
            record_id,
            ..self
        }
    }
}
