//! The JSON form of a condition: `{"and": […]}`, `{"or": […]}`, `{"not": {…}}`, `{"field": value}`
//! and `{"field": {"op": value}}`. The members of an object are joined by and.
//!
//! Reading is bounded: so many levels, so many conditions, so many operands of one of them. Each
//! refusal points at the place in the condition (RFC 6901).

use serde_json::{Map, Value as Json};

use super::filter::{self, MAX_LIST, fits, operator_list};
use super::through::{self, MAX_THROUGH, Way, alone};
use super::{Comparison, Field, Filter, moment};
use crate::error::FieldError;
use crate::module::input::{from_json_filter, operand_entry, operand_text};
use crate::module::{CompiledModule, FieldType, Refusal};
use crate::scope::Scope;
use crate::value::Value;

/// Most levels of `and`, `or` and `not` within each other, the outermost object included.
pub const MAX_DEPTH: usize = 16;
/// Most conditions in all, and most of `and`, `or` and `not` that join them.
pub const MAX_CONDITIONS: usize = 200;

impl Filter {
    /// The condition that a JSON object stands for.
    ///
    /// # Errors
    /// Every [`FieldError`] found, each pointing into the object (`/and/0/score/gt`).
    pub fn from_json(
        module: &CompiledModule,
        object: &Map<String, Json>,
    ) -> Result<Self, Vec<FieldError>> {
        Reader::new(module, None).filter(object)
    }
}

/// Reads one condition. With a scope, it may be on the records that references point to.
pub(super) struct Reader<'a> {
    module: &'a CompiledModule,
    scope: Option<&'a Scope>,
    conditions: usize,
    through: usize,
    /// How often conditions were joined.
    joints: usize,
    refused: Vec<FieldError>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(module: &'a CompiledModule, scope: Option<&'a Scope>) -> Self {
        Self {
            module,
            scope,
            conditions: 0,
            through: 0,
            joints: 0,
            refused: Vec::new(),
        }
    }

    pub(super) fn filter(mut self, object: &Map<String, Json>) -> Result<Filter, Vec<FieldError>> {
        let filter = self.object(object, "", 1);
        match self.refused.is_empty() {
            true => Ok(filter),
            false => Err(self.refused),
        }
    }

    fn object(&mut self, object: &Map<String, Json>, at: &str, depth: usize) -> Filter {
        if depth > MAX_DEPTH {
            let message = format!("conditions stand at most {MAX_DEPTH} levels deep");
            self.refuse(at, "too_deep", message);
            return Filter::And(Vec::new());
        }
        if object.is_empty() && !self.counts(at) {
            return Filter::And(Vec::new());
        }
        let mut parts = Vec::with_capacity(object.len());
        for (name, json) in object {
            let at = format!("{at}{}", FieldError::pointer_to(name));
            match name.as_str() {
                "and" | "or" | "not" if !self.joins(&at) => break,
                "and" => parts.push(Filter::And(self.list(json, &at, depth))),
                "or" => parts.push(Filter::Or(self.list(json, &at, depth))),
                "not" => match json {
                    Json::Object(object) => {
                        let part = self.object(object, &at, depth + 1);
                        parts.push(Filter::Not(Box::new(part)));
                    }
                    _ => self.refuse(&at, "wrong_type", "must be an object"),
                },
                _ => self.field(name, json, &at, &mut parts),
            }
        }
        match parts.len() {
            1 => parts.remove(0),
            _ => Filter::And(parts),
        }
    }

    fn list(&mut self, json: &Json, at: &str, depth: usize) -> Vec<Filter> {
        let Json::Array(items) = json else {
            self.refuse(at, "wrong_type", "must be a list of objects");
            return Vec::new();
        };
        let mut parts = Vec::with_capacity(items.len().min(MAX_CONDITIONS));
        for (position, item) in items.iter().enumerate() {
            let at = format!("{at}/{position}");
            if position >= MAX_CONDITIONS {
                self.refuse(&at, "too_many", too_many());
                break;
            }
            match item {
                Json::Object(object) => parts.push(self.object(object, &at, depth + 1)),
                _ => self.refuse(&at, "wrong_type", "must be an object"),
            }
        }
        parts
    }

    /// The condition that the record behind a reference meets all that is asked of `path`.
    fn through(&mut self, path: &str, json: &Json, at: &str, parts: &mut Vec<Filter>) {
        let way = match self.scope {
            Some(scope) => Way::find(scope, self.module, path),
            None => Err(alone(self.module, path)),
        };
        let way = match way {
            Ok(way) => way,
            Err((code, message)) => return self.refuse(at, code, message),
        };
        self.through += 1;
        if self.through > MAX_THROUGH {
            return self.refuse(at, "too_many", through::too_many());
        }
        let target = way.target();
        let mut there = Reader {
            conditions: self.conditions,
            ..Reader::new(&target, None)
        };
        let mut met = Vec::new();
        there.field(way.name, json, at, &mut met);
        self.conditions = there.conditions;
        for FieldError {
            pointer,
            code,
            message,
        } in there.refused
        {
            self.refuse(&pointer, code, message);
        }
        parts.push(way.to(match met.len() {
            1 => met.remove(0),
            _ => Filter::And(met),
        }));
    }

    fn field(&mut self, name: &str, json: &Json, at: &str, parts: &mut Vec<Filter>) {
        if name.contains('.') {
            return self.through(name, json, at, parts);
        }
        if let Some(condition) = self.module.condition(name) {
            return self.computed(name, condition, json, at, parts);
        }
        let Some(field) = Field::named(self.module, name) else {
            let message = self.module.lacks(name);
            return self.refuse(at, "unknown_field", message);
        };
        let kind = field.kind(self.module);
        let Json::Object(operators) = json else {
            if self.counts(at) {
                self.comparison(field, &kind, "eq", json, at, parts);
            }
            return;
        };
        if operators.is_empty() {
            let Refusal { code, message } = unfit("required", name, &kind);
            self.refuse(at, code, message);
        }
        for (op, operand) in operators {
            let at = format!("{at}{}", FieldError::pointer_to(op));
            if !self.counts(&at) {
                return;
            }
            self.comparison(field, &kind, op, operand, &at, parts);
        }
    }

    /// The conditions on a field that is computed as one.
    fn computed(
        &mut self,
        name: &str,
        condition: &Filter,
        json: &Json,
        at: &str,
        parts: &mut Vec<Filter>,
    ) {
        let mut read = |op: &str, operand: &Json, at: &str| {
            if self.counts(at) {
                match filter::computed(name, condition, op, operand.as_bool()) {
                    Ok(part) => parts.push(part),
                    Err((code, message)) => self.refuse(at, code, message),
                }
            }
        };
        match json {
            Json::Object(operators) if operators.is_empty() => read("", json, at),
            Json::Object(operators) => {
                for (op, operand) in operators {
                    let at = format!("{at}{}", FieldError::pointer_to(op));
                    read(op, operand, &at);
                }
            }
            wanted => read("eq", wanted, at),
        }
    }

    fn comparison(
        &mut self,
        field: Field,
        kind: &FieldType,
        op: &str,
        operand: &Json,
        at: &str,
        parts: &mut Vec<Filter>,
    ) {
        if !fits(kind, op) {
            let Refusal { code, message } =
                unfit("unknown_operator", field.name(self.module), kind);
            return self.refuse(at, code, message);
        }
        match comparison(kind, op, operand) {
            Ok((comparison, holds)) => {
                parts.push(Filter::Compare(field, comparison).holding(holds));
            }
            Err(Refusal { code, message }) => self.refuse(at, code, message),
        }
    }

    /// Counts one more condition, unless there are too many already.
    fn counts(&mut self, at: &str) -> bool {
        self.conditions += 1;
        if self.conditions == MAX_CONDITIONS + 1 {
            self.refuse(at, "too_many", too_many());
        }
        self.conditions <= MAX_CONDITIONS
    }

    /// Counts one more `and`, `or` or `not`, unless there are too many already.
    fn joins(&mut self, at: &str) -> bool {
        self.joints += 1;
        if self.joints == MAX_CONDITIONS + 1 {
            let message = format!("a filter has at most {MAX_CONDITIONS} and, or and not");
            self.refuse(at, "too_many", message);
        }
        self.joints <= MAX_CONDITIONS
    }

    fn refuse(&mut self, at: &str, code: &'static str, message: impl Into<String>) {
        // As many as anybody reads: the list is bounded like everything else.
        if self.refused.len() < MAX_CONDITIONS {
            self.refused.push(FieldError {
                pointer: at.to_owned(),
                code,
                message: message.into(),
            });
        }
    }
}

fn too_many() -> String {
    format!("a filter has at most {MAX_CONDITIONS} conditions")
}

/// What a field of this kind is compared with by each of these operators, and whether that is to
/// hold.
pub(crate) fn comparisons(
    name: &str,
    kind: &FieldType,
    operators: &Map<String, Json>,
) -> Result<Vec<(Comparison, bool)>, Refusal> {
    if operators.is_empty() {
        return Err(unfit("required", name, kind));
    }
    let operators = operators.iter().map(|(op, operand)| match fits(kind, op) {
        true => comparison(kind, op, operand),
        false => Err(unfit("unknown_operator", name, kind)),
    });
    operators.collect()
}

fn unfit(code: &'static str, name: &str, kind: &FieldType) -> Refusal {
    Refusal {
        code,
        message: format!("{name} can be compared by: {}", operator_list(kind)),
    }
}

/// The comparison that `op` stands for, and whether it is to hold.
fn comparison(kind: &FieldType, op: &str, operand: &Json) -> Result<(Comparison, bool), Refusal> {
    let wrong = |expected: &str| Refusal {
        code: "wrong_type",
        message: format!("{op} takes {expected}"),
    };
    let value = |json: &Json| {
        let value = from_json_filter(kind, json);
        match value.map_err(|refusal| moment::told(kind, refusal))? {
            Value::Null => Err(wrong("a value; absence is asked for by is_null")),
            value => Ok(value),
        }
    };
    let text = |json: &Json| {
        let text = json.as_str().ok_or_else(|| wrong("a text"))?;
        operand_text(text)
    };
    let entry = |json: &Json| {
        let text = json.as_str().ok_or_else(|| wrong("a text"))?;
        operand_entry(kind, text)
    };
    let items = || {
        let items = operand.as_array().ok_or_else(|| wrong("a list"))?;
        if items.len() > MAX_LIST {
            return Err(Refusal {
                code: "too_many",
                message: format!("at most {MAX_LIST} values"),
            });
        }
        Ok(items)
    };
    if let Some(read) = operand
        .as_str()
        .and_then(|text| filter::clock(kind, op, text))
    {
        return read;
    }
    Ok(match op {
        "eq" | "ne" if operand.is_null() => (Comparison::IsNull, op == "eq"),
        "eq" | "ne" => (Comparison::Eq(value(operand)?), op == "eq"),
        "lt" => (Comparison::Lt(value(operand)?), true),
        "lte" => (Comparison::Lte(value(operand)?), true),
        "gt" => (Comparison::Gt(value(operand)?), true),
        "gte" => (Comparison::Gte(value(operand)?), true),
        "in" | "nin" => {
            let values = items()?.iter().map(value).collect::<Result<_, _>>()?;
            (Comparison::In(values), op == "in")
        }
        "contains" => (Comparison::Contains(text(operand)?), true),
        "starts" => (Comparison::Starts(text(operand)?), true),
        "has" => (Comparison::Has(entry(operand)?), true),
        "has_any" | "has_all" => {
            let tags = items()?.iter().map(entry).collect::<Result<_, _>>()?;
            match op {
                "has_any" => (Comparison::HasAny(tags), true),
                _ => (Comparison::HasAll(tags), true),
            }
        }
        _ => match operand {
            Json::Bool(absent) => (Comparison::IsNull, *absent),
            _ => return Err(wrong("true or false")),
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::module::{ModuleSpec, default_modules};

    fn read(json: Json) -> Result<Filter, Vec<(String, &'static str)>> {
        let spec: ModuleSpec = default_modules().remove(0);
        let module = CompiledModule::new(spec, 0).unwrap();
        Filter::from_json(&module, json.as_object().unwrap()).map_err(|refused| {
            refused
                .into_iter()
                .map(|error| (error.pointer, error.code))
                .collect()
        })
    }

    fn nested(levels: usize) -> Json {
        (1..levels).fold(
            json!({"name": "a"}),
            |inner, _| json!({"not": {"and": [inner]}}),
        )
    }

    #[test]
    fn the_grammar_of_the_issue_is_read() {
        let filter =
            read(json!({"and": [{"name": {"contains": "Row"}}, {"tags": {"has": "odd"}}]}));
        let Ok(Filter::And(parts)) = filter else {
            panic!("{filter:?}")
        };
        assert!(matches!(
            &parts[..],
            [
                Filter::Compare(_, Comparison::Contains(_)),
                Filter::Compare(_, Comparison::Has(_))
            ]
        ));
        let absent = read(json!({"email": null, "score": {"ne": null}}));
        assert!(matches!(absent, Ok(Filter::And(parts)) if parts.len() == 2));
    }

    #[test]
    fn every_refusal_points_at_its_place() {
        let refused = read(json!({
            "and": [{"nme": 1}, {"score": {"gt": "x", "like": 1}}, 7],
            "or": {},
            "not": [],
            "name": {},
            "score": 1.5,
            "tags": {"has_any": "a", "is_null": 0},
            "a~/b": 1,
        }));
        let mut refused = refused.unwrap_err();
        refused.sort_unstable();
        let expected = [
            ("/and/0/nme", "unknown_field"),
            ("/and/1/score/gt", "wrong_type"),
            ("/and/1/score/like", "unknown_operator"),
            ("/and/2", "wrong_type"),
            ("/a~0~1b", "unknown_field"),
            ("/name", "required"),
            ("/not", "wrong_type"),
            ("/or", "wrong_type"),
            ("/score", "wrong_type"),
            ("/tags/has_any", "wrong_type"),
            ("/tags/is_null", "wrong_type"),
        ];
        assert_eq!(refused, expected.map(|(at, code)| (at.to_owned(), code)));
    }

    #[test]
    fn depth_and_size_are_bounded() {
        assert!(read(nested(8)).is_ok(), "15 levels");
        let refused = read(nested(9)).unwrap_err();
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].1, "too_deep");
        let many = |count: usize| json!({"or": vec![json!({"score": 1}); count]});
        assert!(read(many(200)).is_ok(), "as many as is documented");
        let expected = vec![("/or/200".to_owned(), "too_many")];
        assert_eq!(read(many(201)), Err(expected.clone()));
        let spread =
            |count: usize| json!({"or": vec![json!({"score": {"gt": 1, "lt": 9}}); count]});
        assert!(read(spread(100)).is_ok());
        assert_eq!(
            read(spread(101)).unwrap_err()[0],
            ("/or/100/score/gt".to_owned(), "too_many")
        );
        let joined = json!({"and": vec![json!({"not": {"score": 1}}); 200]});
        assert_eq!(
            read(joined),
            Err(vec![("/and/199/not".to_owned(), "too_many")])
        );
        assert_eq!(
            read(many(10_000)).unwrap_err()[0],
            expected[0],
            "and it ends there"
        );
        let empty = json!({"or": vec![json!({}); 10_000]});
        assert_eq!(read(empty), Err(vec![("/or/200".to_owned(), "too_many")]));
        let list = json!({"score": {"in": vec![1; 101]}});
        assert_eq!(read(list), Err(vec![("/score/in".to_owned(), "too_many")]));
    }
}
