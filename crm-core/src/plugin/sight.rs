//! A change that is about to be made, as far as a plugin may read the record, and whether the
//! plugin wants to judge it.
//!
//! What it may not read decides nothing: where a trigger looks at that, the plugin is asked, for
//! what it guards would go unguarded otherwise.

use std::sync::Arc;

use serde_json::Value as Json;

use super::fields::typed;
use super::standing::Standing;
use super::{BeforeTrigger, PlannedChange, Plugin, Plugins};
use crate::error::{Error, Result};
use crate::hook::Change;
use crate::module::CompiledModule;
use crate::reach::Reach;
use crate::record::{self, Filter, Proposed, Record};
use crate::scope::{Origin, Read, Scope};

/// What a new record has not yet.
pub(super) const NOT_YET: [&str; 4] = ["id", "version", "created_at", "updated_at"];

/// The states of a record that a scope sees.
pub(super) struct Sight {
    before: Option<Json>,
    after: Option<Json>,
}

impl Plugins {
    /// Whether the plugin judges such a change.
    pub(super) async fn wants(
        &self,
        plugin: &Plugin,
        (change, new): (&Proposed, Option<&Record>),
    ) -> Result<bool> {
        let module = new.or(change.old.as_ref()).map(Record::module);
        let (Some(module), Some(planned)) = (module, PlannedChange::of(change.kind)) else {
            return Ok(false);
        };
        let subject = module.singular().as_str();
        let triggers = plugin.manifest.judges(subject, planned);
        let triggers: Vec<_> = triggers.collect();
        let any = |trigger: &&BeforeTrigger| trigger.fields.is_empty() && trigger.filter.is_none();
        if triggers.is_empty() || triggers.iter().any(any) {
            return Ok(!triggers.is_empty());
        }
        let (core, origin) = (self.0.core.clone(), Origin::within(&change.scope));
        let reading = Standing::new(core, Arc::new(plugin.clone()), origin).reading();
        let Ok(scope) = reading.begin().await? else {
            return Ok(true);
        };
        let sight = Sight::new(&scope, module, change, new).await?;
        let mut triggers = triggers.into_iter();
        Ok(triggers.any(|trigger| sight.wakes(trigger, planned, &scope, module)))
    }
}

impl Sight {
    /// The change, as far as the scope reads the record.
    pub(super) async fn new(
        scope: &Scope,
        module: &CompiledModule,
        change: &Proposed,
        new: Option<&Record>,
    ) -> Result<Self> {
        let before = match &change.old {
            Some(old) if covered(scope, old, true).await? => state(scope, module, old)?,
            _ => None,
        };
        let after = match (new, &change.old) {
            (Some(new), None) if covered(scope, new, false).await? => state(scope, module, new)?,
            (Some(new), Some(_)) if before.is_some() => state(scope, module, new)?,
            _ => None,
        };
        Ok(Self { before, after })
    }

    /// Whether the trigger, which is one for such a change, asks about this one.
    pub(super) fn wakes(
        &self,
        trigger: &BeforeTrigger,
        planned: PlannedChange,
        scope: &Scope,
        module: &CompiledModule,
    ) -> bool {
        self.changes(trigger, planned) && self.matches(trigger, planned, scope, module)
    }

    /// Whether one of the trigger's fields is to have another value, or cannot be seen.
    fn changes(&self, on: &BeforeTrigger, planned: PlannedChange) -> bool {
        let Some(after) = self.after.as_ref().filter(|_| !on.fields.is_empty()) else {
            return true;
        };
        let mut fields = on.fields.iter().map(|field| field.as_str());
        fields.any(|field| match (planned, after.get(field)) {
            (_, None) => true,
            (PlannedChange::Create, Some(value)) => !value.is_null(),
            (_, value) => self.before.as_ref().and_then(|before| before.get(field)) != value,
        })
    }

    /// Whether the record meets the trigger's filter, or that cannot be seen.
    fn matches(
        &self,
        on: &BeforeTrigger,
        planned: PlannedChange,
        scope: &Scope,
        module: &CompiledModule,
    ) -> bool {
        let state = match planned {
            PlannedChange::Delete => &self.before,
            PlannedChange::Create | PlannedChange::Update => &self.after,
        };
        let matched = || {
            let (filter, state) = (on.filter.as_ref()?, state.as_ref()?);
            let module = scope.readable(module.name().as_str())?;
            let filter = Filter::from_json(&module, filter).ok()?;
            let mut fields = filter.fields().into_iter();
            if !fields.all(|field| state.get(field.name(&module)).is_some()) {
                return None;
            }
            Some(filter.matches(&Record::from_state(&module, state)?))
        };
        matched().unwrap_or(true)
    }

    /// The record as it was before, as far as the scope reads it.
    pub(super) fn was(&self) -> Option<Json> {
        self.before.clone()
    }

    /// The change as the plugin is given it.
    pub(super) fn shown(self, module: &CompiledModule, change: &Proposed) -> Change {
        let mut after = self.after.map(|state| typed(module, state));
        if let (Some(after), None) = (&mut after, &change.old) {
            after.retain(|(name, _)| !NOT_YET.contains(&name.as_str()));
        }
        Change {
            module: module.name().to_string(),
            kind: change.kind,
            record_id: change.old.as_ref().map(|old| old.id),
            before: self.before.map(|state| typed(module, state)),
            after,
            actor: change.scope.actor().to_string(),
            request_id: change.scope.request().id.to_string(),
        }
    }
}

/// Whether the scope reads the record, one that is stored or one that is not.
async fn covered(scope: &Scope, record: &Record, stored: bool) -> Result<bool> {
    let Ok(permit) = scope.permit::<Read>(record.module().name().as_str()) else {
        return Ok(false);
    };
    reaches(scope, permit.reach(), record, stored).await
}

/// Whether the reach covers the record; what only the database could tell of a record that it has
/// not counts as no.
pub(super) async fn reaches(
    scope: &Scope,
    reach: &Reach,
    record: &Record,
    stored: bool,
) -> Result<bool> {
    match stored {
        true => record::covered(scope.core(), scope.tenant(), reach, record).await,
        false => Ok(reach.covers(record) == Some(true)),
    }
}

/// What the scope sees of a record that it reads.
pub(super) fn state(
    scope: &Scope,
    module: &CompiledModule,
    record: &Record,
) -> Result<Option<Json>> {
    let mut state = Some(serde_json::to_value(record).map_err(Error::internal)?);
    scope.states(module.name().as_str()).cut(&mut state);
    Ok(state)
}
