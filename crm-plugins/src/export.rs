//! What a component exports: found once when it is compiled, called by what wakes the plugin.

use crm_core::Result;
use crm_core::event::ChangeKind;
use crm_core::hook::{ActionCall, Change, Fields, Input, Output, Tick, Verdict, Webhook, WokenBy};
use crm_core::value::instant;
use serde::de::IgnoredAny;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    ComponentExportIndex, ComponentNamedList, Instance, InstancePre, Lift, Lower,
};
use wasmtime::{Error, Store};

use crate::bindings::types;
use crate::inspect::refused;
use crate::run::Run;
use crate::value::{of_guest, to_guest};

type Describe = ((), (types::Description,));
type Handle<'a> = ((&'a types::Event,), (Result<(), String>,));
type Before<'a> = ((&'a types::Change,), (Result<types::Verdict, String>,));
type Action<'a> = ((&'a types::Action,), (Result<Option<String>, String>,));
type Cron<'a> = ((&'a types::Tick,), (Result<(), String>,));
type Inbound<'a> = ((&'a types::Webhook,), (Result<(), String>,));

/// The functions of a component that the host may call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exports {
    pub(crate) describe: Option<ComponentExportIndex>,
    handle: Option<ComponentExportIndex>,
    before: Option<ComponentExportIndex>,
    run: Option<ComponentExportIndex>,
    cron: Option<ComponentExportIndex>,
    inbound: Option<ComponentExportIndex>,
}

impl Exports {
    /// Finds them, in the right shape.
    ///
    /// # Errors
    ///
    /// `wrong_export` for a function of one of these names with other parameters or results.
    pub(crate) fn find(component: &InstancePre<Run>) -> Result<Self> {
        Ok(Self {
            describe: find::<Describe>(component, "describe")?,
            handle: find::<Handle<'_>>(component, "handle")?,
            before: find::<Before<'_>>(component, "before")?,
            run: find::<Action<'_>>(component, "run")?,
            cron: find::<Cron<'_>>(component, "cron")?,
            inbound: find::<Inbound<'_>>(component, "inbound")?,
        })
    }

    /// Calls the function that the input is for. The outer error unwinds the guest; the inner one
    /// is the guest's own.
    pub(crate) async fn call(
        &self,
        store: &mut Store<Run>,
        instance: &Instance,
        input: &Input,
    ) -> wasmtime::Result<Result<Option<Output>, String>> {
        let nothing = |(answer,): (Result<(), String>,)| answer.map(|()| None);
        Ok(match input {
            Input::Describe => {
                let (description,) = enter::<Describe>(store, instance, self.describe, ()).await?;
                let types::Description { name, version } = description;
                Ok(Some(Output::Description { name, version }))
            }
            Input::Event(event) => {
                let event = guest_event(event);
                nothing(enter::<Handle<'_>>(store, instance, self.handle, (&event,)).await?)
            }
            Input::Before(change) => {
                let change = guest_change(change);
                let (answer,) =
                    enter::<Before<'_>>(store, instance, self.before, (&change,)).await?;
                answer.and_then(verdict)
            }
            Input::Action(action) => {
                let action = guest_action(action);
                let (answer,) = enter::<Action<'_>>(store, instance, self.run, (&action,)).await?;
                answer.and_then(json)
            }
            Input::Tick(tick) => {
                let tick = guest_tick(tick);
                nothing(enter::<Cron<'_>>(store, instance, self.cron, (&tick,)).await?)
            }
            Input::Webhook(webhook) => {
                let webhook = guest_webhook(webhook);
                nothing(enter::<Inbound<'_>>(store, instance, self.inbound, (&webhook,)).await?)
            }
        })
    }
}

/// A function's parameters and results.
trait Signature {
    type Parameters: ComponentNamedList + Lower + Send + Sync;
    type Results: ComponentNamedList + Lift + Send + Sync + 'static;
}

impl<P, R> Signature for (P, R)
where
    P: ComponentNamedList + Lower + Send + Sync,
    R: ComponentNamedList + Lift + Send + Sync + 'static,
{
    type Parameters = P;
    type Results = R;
}

fn find<S: Signature>(
    component: &InstancePre<Run>,
    name: &str,
) -> Result<Option<ComponentExportIndex>> {
    let Some((item, index)) = component.component().get_export(None, name) else {
        return Ok(None);
    };
    let fits = match item {
        ComponentItem::ComponentFunc(function) => {
            function.typecheck::<S::Parameters, S::Results>(&component.instance_type())
        }
        _ => Err(Error::msg("it is no function")),
    };
    match fits {
        Ok(()) => Ok(Some(index)),
        Err(reason) => Err(refused(
            "wrong_export",
            format!(
                "The component's export {name} is not that of crm:automation@1.0.0: {reason:#}."
            ),
        )),
    }
}

async fn enter<S: Signature>(
    store: &mut Store<Run>,
    instance: &Instance,
    export: Option<ComponentExportIndex>,
    parameters: S::Parameters,
) -> wasmtime::Result<S::Results> {
    let export = export.ok_or_else(|| Error::msg("the component exports no function for this"))?;
    let function = instance.get_typed_func::<S::Parameters, S::Results>(&mut *store, export)?;
    function.call_async(&mut *store, parameters).await
}

fn verdict(verdict: types::Verdict) -> Result<Option<Output>, String> {
    let verdict = match verdict {
        types::Verdict::Accept => Verdict::Accept,
        types::Verdict::Amend(fields) => Verdict::Amend(
            of_guest(fields)
                .map_err(|error| format!("the plugin's amendment is refused: {error}"))?,
        ),
        types::Verdict::Reject(types::Refusal {
            code,
            message,
            field,
        }) => Verdict::Reject {
            code,
            message,
            field,
        },
    };
    Ok(Some(Output::Verdict(verdict)))
}

fn json(text: Option<String>) -> Result<Option<Output>, String> {
    match text.as_deref().map(serde_json::from_str::<IgnoredAny>) {
        Some(Err(error)) => Err(format!("the plugin's answer is not JSON: {error}")),
        _ => Ok(Some(Output::Action(text))),
    }
}

fn guest_fields(fields: &Option<Fields>) -> Option<Vec<types::Field>> {
    fields.clone().map(to_guest)
}

fn guest_event(woken: &WokenBy) -> types::Event {
    let event = &woken.event;
    types::Event {
        id: event.id.to_string(),
        sequence: event.sequence,
        tenant_id: event.tenant_id.to_string(),
        module: event.told_by().unwrap_or(&event.module).to_owned(),
        kind: event.kind.clone(),
        record_id: event.record_id.to_string(),
        before: guest_fields(&woken.before),
        after: guest_fields(&woken.after),
        data: woken.data.clone(),
        actor: event.actor.clone(),
        request_id: event.request_id.clone(),
        root_id: event.root_id.to_string(),
        depth: event.depth,
        occurred_at: instant(&event.occurred_at),
    }
}

fn guest_change(change: &Change) -> types::Change {
    types::Change {
        module: change.module.clone(),
        kind: match change.kind {
            ChangeKind::Created => types::ChangeKind::Create,
            ChangeKind::Deleted | ChangeKind::Purged => types::ChangeKind::Delete,
            ChangeKind::Updated | ChangeKind::Restored | ChangeKind::Merged => {
                types::ChangeKind::Update
            }
        },
        record_id: change.record_id.map(|id| id.to_string()),
        before: guest_fields(&change.before),
        after: guest_fields(&change.after),
        actor: change.actor.clone(),
        request_id: change.request_id.clone(),
    }
}

fn guest_action(action: &ActionCall) -> types::Action {
    types::Action {
        name: action.name.clone(),
        module: action.module.clone(),
        records: action.records.iter().map(ToString::to_string).collect(),
        input: action.input.clone(),
        actor: action.actor.clone(),
        request_id: action.request_id.clone(),
    }
}

fn guest_tick(tick: &Tick) -> types::Tick {
    types::Tick {
        name: tick.name.clone(),
        due_at: instant(&tick.due_at),
        payload: tick.payload.clone(),
    }
}

fn guest_webhook(webhook: &Webhook) -> types::Webhook {
    types::Webhook {
        name: webhook.name.clone(),
        id: webhook.id.clone(),
        content_type: webhook.content_type.clone(),
        body: webhook.body.to_vec(),
        received_at: instant(&webhook.received_at),
    }
}
