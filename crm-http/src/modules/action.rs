//! Actions of plugins, asked for on one record or on some: `{input}`, and for some `{ids}` or
//! `{filter}` beside it. An action that takes no input is asked for on one record without a body.

use std::future::ready;

use crm_core::hook::Outcome;
use crm_core::module::Ident;
use crm_core::plugin::{Acted, Ask, Targets};
use crm_core::record::Filter;
use crm_core::{Create, Error, FieldError, Read};
use poem::http::StatusCode;
use poem::{Request, Response};
use serde_json::{Map, Value, json};

use super::{Handler, Named, body, query, record_id, write};
use crate::json;
use crate::problem::Problem;

/// The path segment below a collection, and below a record.
pub(super) const ACTIONS: &str = "actions";

/// The action that a path names.
pub(super) struct Action {
    plugin: String,
    name: String,
}

impl Action {
    /// What the path behind [`ACTIONS`] asks for.
    pub(super) fn of(path: &str) -> Option<Self> {
        let (plugin, name) = path.split_once('/')?;
        let is_name = |text: &str| text.parse::<Ident>().is_ok();
        (is_name(plugin) && is_name(name)).then(|| Self {
            plugin: plugin.to_owned(),
            name: name.to_owned(),
        })
    }
}

impl Handler<'_> {
    pub(super) async fn run_action(
        &self,
        mut request: Request,
        on: Option<Named>,
        action: Action,
    ) -> Result<Response, Problem> {
        let read = self.scope.permit::<Read>(self.name())?;
        let run = self.scope.permit::<Create>("plugin_runs")?;
        let plugins = self.exchange.app.crm.plugins().ok_or(Error::NotFound)?;
        query::refuse_any(&request)?;
        let one = match on {
            Some(named) => Some(self.id::<Read>(named).await?),
            None => None,
        };
        let body = request.take_body();
        let limit = self.exchange.app.options.body_limit;
        let (mut sent, text) = json::read_object_if_any(request.headers(), body, limit).await?;
        let once = self.once(&request, &text)?;
        let mut refused = Vec::new();
        let input = match sent.remove("input") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(input)) => input,
            Some(_) => {
                let message = "Give what the action takes as a JSON object.";
                refused.push(FieldError::new("input", "wrong_type", message));
                Map::new()
            }
        };
        let on = match one {
            Some(id) => Some(Targets::One(id)),
            None => self.some(&mut sent, &mut refused),
        };
        if let Some(name) = sent.keys().next() {
            let message = match one {
                Some(_) => "This takes input only.",
                None => "This takes ids or filter, and input.",
            };
            refused.push(FieldError::new(name, "unknown_field", message));
        }
        let on = match on {
            Some(on) if refused.is_empty() => on,
            _ => return Err(Error::Invalid(refused).into()),
        };
        let ask = Ask {
            plugin: action.plugin,
            action: action.name,
            on,
            input,
            once,
        };
        let answered = plugins.act(&run, &read, ask).await?;
        // A problem that is told again is not marked: it names the run, which is the same.
        write::told(answered, |acted| ready(answer(acted))).await
    }

    /// The records that a body names.
    fn some(
        &self,
        sent: &mut Map<String, Value>,
        refused: &mut Vec<FieldError>,
    ) -> Option<Targets> {
        match (sent.remove("ids"), sent.remove("filter")) {
            (Some(Value::Array(ids)), None) => {
                let ids = ids.iter().enumerate().map(|(at, id)| {
                    let id = id.as_str().and_then(record_id);
                    id.ok_or_else(|| FieldError {
                        pointer: format!("/ids/{at}"),
                        code: "invalid",
                        message: "This is no id.".into(),
                    })
                });
                let ids = ids.collect::<Result<_, _>>();
                ids.map_err(|error| refused.push(error))
                    .ok()
                    .map(Targets::Some)
            }
            (None, Some(Value::Object(filter))) if !filter.is_empty() => {
                let filter = Filter::from_member_for(&self.scope, &self.module, &filter);
                filter
                    .map_err(|errors| refused.extend(errors))
                    .ok()
                    .map(Targets::Matching)
            }
            _ => {
                let message = "Say which records: a list of ids, or a filter with a condition.";
                refused.push(FieldError::new("ids", "required", message));
                None
            }
        }
    }
}

/// The answer to an action, which names its run however that ended.
fn answer(acted: Acted) -> Result<Response, Problem> {
    let run = acted.run.0;
    let why = acted.error.unwrap_or_else(|| acted.outcome.to_string());
    match acted.outcome {
        Outcome::Succeeded => body(
            StatusCode::OK,
            &json!({"run_id": run, "answer": acted.answer}),
        ),
        Outcome::Failed => {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            Err(Problem::new(status, "action_refused", why).of_run(run))
        }
        Outcome::Refused => {
            let detail = "nobody stands behind the plugin now, or it rests or has used up its fuel; its \
                          run record says which, and an administrator sees it";
            Err(Problem::new(StatusCode::CONFLICT, "action_not_run", detail).of_run(run))
        }
        outcome => {
            let detail = format!(
                "the plugin did not come to its end ({outcome}); its run record says more, and an \
                 administrator sees it"
            );
            Err(Problem::new(StatusCode::BAD_GATEWAY, "action_failed", detail).of_run(run))
        }
    }
}
