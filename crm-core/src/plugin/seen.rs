//! An event as far as a plugin may read the records it is about, and whether that wakes it: what a
//! plugin may not read neither reaches it nor decides anything.

use serde_json::Value as Json;

use super::fields::typed;
use super::trigger::{EventTrigger, Trigger};
use crate::error::Result;
use crate::event::{ChangeKind, Event};
use crate::hook::{Fields, WokenBy};
use crate::record::{Filter, Record, covered};
use crate::scope::{Read, Scope};

/// The states of an event that a scope may read.
pub(super) struct Seen {
    before: Option<Json>,
    after: Option<Json>,
}

impl Seen {
    pub(super) async fn new(event: &Event, scope: &Scope) -> Result<Self> {
        let told = event.told_by().is_some();
        Ok(Self {
            before: state(scope, &event.module, event.before.as_ref()).await?,
            after: match told {
                true => event.after.clone(),
                false => state(scope, &event.module, event.after.as_ref()).await?,
            },
        })
    }

    /// Whether the trigger, which is one for the event's kind, wants to hear of it.
    pub(super) fn wakes(&self, trigger: &Trigger, event: &Event, scope: &Scope) -> bool {
        match trigger {
            Trigger::Event(on) => self.changes(on) && self.matches(on, event, scope),
            _ => true,
        }
    }

    fn changes(&self, on: &EventTrigger) -> bool {
        if on.fields.is_empty() {
            return true;
        }
        let (Some(before), Some(after)) = (&self.before, &self.after) else {
            return false;
        };
        let mut fields = on.fields.iter().map(|field| field.as_str());
        fields.any(|field| before.get(field) != after.get(field))
    }

    fn matches(&self, on: &EventTrigger, event: &Event, scope: &Scope) -> bool {
        let Some(filter) = &on.filter else {
            return true;
        };
        let (state, whole) = match on.change {
            ChangeKind::Deleted | ChangeKind::Purged => (&self.before, &event.before),
            _ => (&self.after, &event.after),
        };
        let has = |state: &Option<Json>, field: &str| {
            state
                .as_ref()
                .is_some_and(|state| state.get(field).is_some())
        };
        let matched = || {
            let module = scope.readable(&event.module)?;
            let filter = Filter::from_json(&module, filter).ok()?;
            let mut fields = filter.fields().into_iter();
            let hidden = |name: &str| has(whole, name) && !has(state, name);
            if fields.any(|field| hidden(field.name(&module))) {
                return None;
            }
            let record = Record::from_state(&module, state.as_ref()?)?;
            Some(filter.matches(&record))
        };
        matched().unwrap_or(false)
    }

    /// The event as the plugin is given it.
    pub(super) fn woken_by(self, event: &Event, scope: &Scope) -> WokenBy {
        let told_by = event.told_by();
        let shown = Event {
            before: None,
            after: None,
            module: told_by.unwrap_or(&event.module).to_owned(),
            kind: event.kind.clone(),
            actor: event.actor.clone(),
            impersonator: event.impersonator.clone(),
            request_id: event.request_id.clone(),
            ..*event
        };
        let data = told_by.and(self.after.as_ref()).map(ToString::to_string);
        let fields = |state: Option<Json>| -> Option<Fields> {
            let module = scope.readable(&event.module)?;
            Some(typed(&module, state?))
        };
        WokenBy {
            event: shown,
            before: fields(self.before),
            after: fields(self.after.filter(|_| told_by.is_none())),
            data,
        }
    }
}

/// A state, as far as the scope may read the record in it.
async fn state(scope: &Scope, module: &str, state: Option<&Json>) -> Result<Option<Json>> {
    let (Some(state), Ok(permit)) = (state, scope.permit::<Read>(module)) else {
        return Ok(None);
    };
    if !permit.reach().is_all() {
        let Some(record) = Record::from_state(permit.module()?.base(), state) else {
            return Ok(None);
        };
        let (core, tenant) = (scope.core(), scope.tenant());
        if !covered(core, tenant, permit.reach(), &record).await? {
            return Ok(None);
        }
    }
    let mut shown = Some(state.clone());
    scope.states(module).cut(&mut shown);
    Ok(shown)
}
