//! The JSON form of figures: what is asked, and what is answered.

use serde_json::{Map, Value as Json, json};

use super::{Aggregate, Filter, GroupKey, Groups, Metric};
use crate::error::{Error, FieldError, Result};
use crate::module::CompiledModule;
use crate::scope::Scope;
use crate::value::Value;

impl Aggregate {
    /// Reads `{"metrics": ["count"], "group_by": ["status"], "filter": {…}, "search": "…"}`, of
    /// which only the metrics are required.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every refused member.
    pub(crate) fn from_json(
        scope: &Scope,
        module: &CompiledModule,
        object: &Map<String, Json>,
    ) -> Result<Self> {
        let (mut ask, mut refused) = (Self::default(), Vec::new());
        for (name, json) in object {
            let outcome = match name.as_str() {
                "metrics" => each(name, json, |text| Metric::parse(module, text))
                    .map(|metrics| ask.metrics = metrics),
                "group_by" => each(name, json, |text| GroupKey::parse(module, text))
                    .map(|keys| ask.group_by = keys),
                "search" => text(name, json).map(|text| ask.search = Some(text.to_owned())),
                "filter" => match filter(scope, module, json) {
                    Ok(filter) => {
                        ask.filter = Some(filter);
                        continue;
                    }
                    Err(errors) => {
                        refused.extend(errors);
                        continue;
                    }
                },
                _ => {
                    let message = "metrics, group_by, filter and search can be asked for";
                    Err(FieldError::new(name, "unknown_field", message))
                }
            };
            refused.extend(outcome.err());
        }
        if !object.contains_key("metrics") {
            let message = "name the figures, such as [\"count\"]";
            refused.push(FieldError::new("metrics", "required", message));
        }
        match refused.is_empty() {
            true => Ok(ask),
            false => Err(Error::Invalid(refused)),
        }
    }
}

impl Groups {
    /// The answer on the wire: every value named as it was asked for.
    ///
    /// # Errors
    /// None: every value has a JSON form.
    pub fn to_json(&self, module: &CompiledModule, ask: &Aggregate) -> Result<Json> {
        let keys: Vec<_> = ask.group_by.iter().map(|key| key.name(module)).collect();
        let names: Vec<_> = ask.metrics.iter().map(|one| one.name(module)).collect();
        let named = |names: &[String], values: &[Value]| {
            let pairs = names.iter().zip(values);
            let pairs = pairs.map(|(name, value)| Ok((name.clone(), serde_json::to_value(value)?)));
            let pairs: Result<Map<_, _>, serde_json::Error> = pairs.collect();
            pairs.map_err(Error::internal)
        };
        let data = self.data.iter().map(|group| {
            Ok(json!({
                "group": named(&keys, &group.keys)?,
                "metrics": named(&names, &group.metrics)?,
            }))
        });
        let data: Vec<Json> = data.collect::<Result<_>>()?;
        Ok(json!({"data": data, "truncated": self.truncated}))
    }
}

fn filter(scope: &Scope, module: &CompiledModule, json: &Json) -> Result<Filter, Vec<FieldError>> {
    let refuse = || vec![FieldError::new("filter", "wrong_type", "must be an object")];
    let object = json.as_object().ok_or_else(refuse)?;
    Filter::from_member_for(scope, module, object)
}

fn each<T>(
    name: &str,
    json: &Json,
    read: impl Fn(&str) -> Result<T, FieldError>,
) -> Result<Vec<T>, FieldError> {
    let Some(items) = json.as_array() else {
        return Err(FieldError::new(
            name,
            "wrong_type",
            "must be a list of texts",
        ));
    };
    items.iter().map(|item| read(text(name, item)?)).collect()
}

fn text<'a>(name: &str, json: &'a Json) -> Result<&'a str, FieldError> {
    let refuse = || FieldError::new(name, "wrong_type", "must be a text");
    json.as_str().ok_or_else(refuse)
}
