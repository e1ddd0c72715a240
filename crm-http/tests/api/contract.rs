//! The OpenAPI document as a contract: every reply of every test is held against it.

use serde_json::{Map, Value, json};

use crate::app::Reply;

/// The document, in the form the checks need.
pub(crate) struct Contract {
    document: Value,
}

impl Contract {
    pub(crate) fn new(document: Value) -> Self {
        Self { document }
    }

    pub(crate) fn document(&self) -> &Value {
        &self.document
    }

    /// Panics when the reply is not one that the document announces for this request.
    #[track_caller]
    pub(crate) fn hold(&self, method: &str, path: &str, reply: &Reply) {
        assert_eq!(reply.header("x-request-id"), "test", "{method} {path}");
        assert_eq!(
            reply.header("x-content-type-options"),
            "nosniff",
            "{method} {path}"
        );
        let method = if method == "HEAD" {
            "get"
        } else {
            &method.to_lowercase()
        };
        let Some(operation) = self.operation(method, path) else {
            let outside = [404, 405, 200].contains(&reply.status);
            assert!(
                outside,
                "{method} {path} is not documented and answers {reply}"
            );
            return;
        };
        let answer = &operation["responses"][reply.status.to_string()];
        assert!(
            answer.is_object(),
            "{method} {path} answers {reply}, which is not documented"
        );
        let Some(content) = answer["content"].as_object() else {
            assert_eq!(reply.body, "", "{method} {path} answers a body");
            return;
        };
        let media_type = reply
            .header("content-type")
            .split(';')
            .next()
            .unwrap_or_default();
        let schema = &content[media_type]["schema"];
        assert!(schema.is_object(), "{method} {path} answers {media_type}");
        if !reply.body.is_empty() && media_type.ends_with("json") && !media_type.ends_with("ndjson")
        {
            self.fit(
                schema,
                &reply.json(),
                &format!("{method} {path} {}", reply.status),
            );
        }
    }

    fn operation(&self, method: &str, path: &str) -> Option<&Value> {
        let paths = self.document["paths"].as_object().unwrap();
        let (_, item) = paths.iter().find(|(template, _)| covers(template, path))?;
        item.get(method)
    }

    /// Panics when the value does not fit the schema.
    #[track_caller]
    pub(crate) fn fit(&self, schema: &Value, value: &Value, at: &str) {
        let schema = self.resolve(schema);
        if value.is_null() && schema["nullable"] == true {
            return;
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.fit(part, value, at);
        }
        let alternatives = || schema["anyOf"].as_array().into_iter().flatten();
        if value.is_null() && alternatives().any(is_null) {
            return;
        }
        let mut others = alternatives().filter(|one| !is_null(one));
        if let (Some(only), None) = (others.next(), others.next()) {
            self.fit(only, value, at);
        }
        let fits = match schema["type"].as_str() {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("integer") => value.is_i64() || value.is_u64(),
            Some("boolean") => value.is_boolean(),
            _ => true,
        };
        assert!(fits, "{at}: {value} is no {}", schema["type"]);
        if let Some(allowed) = schema["enum"].as_array() {
            assert!(
                allowed.contains(value),
                "{at}: {value} is not one of {allowed:?}"
            );
        }
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            self.fit(&schema["items"], item, &format!("{at}/{index}"));
        }
        if let (Some(members), Some(properties)) =
            (value.as_object(), schema["properties"].as_object())
        {
            self.fit_members(schema, properties, members, at);
        }
    }

    #[track_caller]
    fn fit_members(
        &self,
        schema: &Value,
        properties: &Map<String, Value>,
        members: &Map<String, Value>,
        at: &str,
    ) {
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(
                members.contains_key(name.as_str().unwrap()),
                "{at}: {name} is missing"
            );
        }
        for (name, member) in members {
            let property = properties.get(name);
            let property = property.unwrap_or_else(|| panic!("{at}: {name} is not documented"));
            self.fit(property, member, &format!("{at}/{name}"));
        }
    }

    /// Follows a reference.
    pub(crate) fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => {
                let target = self.document.pointer(reference.trim_start_matches('#'));
                target.unwrap_or_else(|| panic!("{reference} leads nowhere"))
            }
            None => schema,
        }
    }

    /// A value that the schema allows.
    pub(crate) fn sample(&self, schema: &Value) -> Value {
        let schema = self.resolve(schema);
        let parts = schema["allOf"].get(0).or(schema["anyOf"].get(0));
        if let Some(first) = parts.or(schema["enum"].get(0)) {
            return if first.is_object() {
                self.sample(first)
            } else {
                first.clone()
            };
        }
        match (schema["type"].as_str(), schema["format"].as_str()) {
            (Some("object"), _) => {
                let required = schema["required"].as_array().into_iter().flatten();
                let required = required.map(|name| name.as_str().unwrap());
                let member =
                    |name: &str| (name.to_owned(), self.sample(&schema["properties"][name]));
                Value::Object(required.map(member).collect())
            }
            (Some("array"), _) => {
                let least = schema["minItems"].as_u64().unwrap_or(0);
                (0..least).map(|_| self.sample(&schema["items"])).collect()
            }
            (Some("boolean"), _) => true.into(),
            (Some("integer"), _) => 1.into(),
            (Some("string"), Some("uuid")) => uuid::Uuid::nil().to_string().into(),
            (Some("string"), Some("email")) => "sample@acme.example".into(),
            (Some("string"), _) => {
                let least = schema["minLength"].as_u64().unwrap_or(0) as usize;
                "sample".repeat(least / "sample".len() + 1).into()
            }
            _ => Value::Null,
        }
    }
}

/// The formats of OpenAPI's registry that there is use for.
const FORMATS: [&str; 14] = [
    "binary",
    "date",
    "date-time",
    "double",
    "email",
    "float",
    "int32",
    "int64",
    "time",
    "uint8",
    "uint32",
    "uint64",
    "uri",
    "uuid",
];

/// The places of a document that say what OpenAPI 3.0.3 gives no meaning: null without a type, and
/// formats that nobody knows.
pub(crate) fn meaningless(part: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    if part["nullable"] == true && !part["type"].is_string() {
        found.push(format!("{at}: null without a type"));
    }
    if let (Some(_), Some(format)) = (part["type"].as_str(), part["format"].as_str())
        && !FORMATS.contains(&format)
    {
        found.push(format!("{at}: the format {format}"));
    }
    for (name, member) in part.as_object().into_iter().flatten() {
        found.extend(meaningless(member, &format!("{at}/{name}")));
    }
    for (index, item) in part.as_array().into_iter().flatten().enumerate() {
        found.extend(meaningless(item, &format!("{at}/{index}")));
    }
    found
}

/// Whether the schema is that of nothing but null.
fn is_null(schema: &Value) -> bool {
    schema["enum"] == json!([null])
}

/// Whether a path is one of the template's.
fn covers(template: &str, path: &str) -> bool {
    let (template, path): (Vec<&str>, Vec<&str>) =
        (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template
            .iter()
            .zip(&path)
            .all(|(part, text)| part.starts_with('{') || part == text)
}
