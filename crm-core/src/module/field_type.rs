//! The flat wire form of a field: `type = "text"` and the rules of that type beside the name.
//!
//! It refuses unknown keys, and keys that belong to another type, each by name.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value as Json};

use super::words::{FIELD_TYPES, FieldWord, listed, not_tenants};
use super::{Bounds, FieldSpec, FieldType, Formula, Ident, MoneyCurrency, OnDelete};
use crate::error::{Error, FieldError};

/// Most characters of a text that states no `max`.
const TEXT_MAX: u32 = 255;
/// Most characters of a long text that states no `max`.
const LONG_TEXT_MAX: u32 = 20_000;
/// Digits of an amount that states none: in all, and after the point.
const MONEY_DIGITS: (u32, u32) = (18, 2);
/// Most entries, and most characters of one entry, of tags that state no limits.
const TAGS_MAX: u32 = 50;
/// Most entries of references that state no `max_items`.
const REFERENCES_MAX: u32 = 100;
/// Most bytes of a JSON value that states no `max_bytes`.
const JSON_MAX: u32 = 32_768;

/// Every key a field declaration may carry; which of them do is a matter of its type.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Flat {
    name: Option<Ident>,
    r#type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    precision: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    currency_field: Option<Ident>,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_items: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_length: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<Ident>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modules: Option<Vec<Ident>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_delete: Option<OnDelete>,
    #[serde(default, skip_serializing_if = "is_false")]
    required: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    unique: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    search: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    sort: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    read_only: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    immutable: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    write_only: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    ignore_case: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    computed: Option<Formula>,
    #[serde(skip_serializing_if = "Option::is_none")]
    copied: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    description: String,
}

impl Flat {
    fn into_spec(mut self) -> Result<FieldSpec, Wrong> {
        let missing = || Wrong::of("name", "missing field `name`".to_owned());
        let name = self.name.take().ok_or_else(missing)?;
        let word = self
            .r#type
            .take()
            .ok_or_else(|| Wrong::of("type", format!("field `{name}` has no `type`")))?;
        let unknown = || {
            let types = listed(FIELD_TYPES.iter());
            let message =
                format!("field `{name}` has the unknown type `{word}`; the types are {types}");
            Wrong::of("type", message)
        };
        let known = FieldWord::find(&word).ok_or_else(unknown)?;
        if let Some(key) = self.foreign(known) {
            let message =
                format!("`{key}` does not belong to field `{name}`, a field of type {word}");
            return Err(Wrong::of(key, message));
        }
        let missing = |key: &'static str| {
            Wrong::of(key, format!("field `{name}` of type {word} needs `{key}`"))
        };
        let mut kind = match word.as_str() {
            "text" => FieldType::Text {
                min: 1,
                max: TEXT_MAX,
            },
            "long_text" => FieldType::LongText {
                min: 1,
                max: LONG_TEXT_MAX,
            },
            "url" => FieldType::Url,
            "email" => FieldType::Email,
            "phone" => FieldType::Phone,
            "serial" => FieldSpec::serial(name.clone()).kind,
            "integer" => FieldType::Integer {
                min: i64::MIN,
                max: i64::MAX,
            },
            "decimal" => FieldType::Decimal {
                precision: self.precision.take().ok_or_else(|| missing("precision"))?,
                scale: self.scale.take().ok_or_else(|| missing("scale"))?,
                bounds: Bounds::NONE,
            },
            "money" => FieldType::Money {
                precision: self.precision.take().unwrap_or(MONEY_DIGITS.0),
                scale: self.scale.take().unwrap_or(MONEY_DIGITS.1),
                bounds: Bounds::NONE,
                currency: match (self.currency.take(), self.currency_field.take()) {
                    (Some(code), None) => MoneyCurrency::Fixed(code),
                    (None, Some(field)) => MoneyCurrency::Field(field),
                    _ => {
                        let message = format!(
                            "field `{name}` of type {word} needs `currency` or `currency_field`"
                        );
                        return Err(Wrong::of("currency", message));
                    }
                },
            },
            "currency" => FieldType::Currency,
            "bool" => FieldType::Bool,
            "instant" => FieldType::Instant(Bounds::NONE),
            "date" => FieldType::Date(Bounds::NONE),
            "time" => FieldType::Time(Bounds::NONE),
            "zoned" => FieldType::Zoned,
            "uuid" => FieldType::Uuid,
            "vector" => FieldType::Vector {
                dimensions: self
                    .dimensions
                    .take()
                    .ok_or_else(|| missing("dimensions"))?,
            },
            "enum" => FieldType::Enum {
                values: self.values.take().ok_or_else(|| missing("values"))?,
            },
            "tags" => FieldType::Tags {
                max_items: self.max_items.take().unwrap_or(TAGS_MAX),
                max_length: self.max_length.take().unwrap_or(TAGS_MAX),
            },
            "json" => FieldType::Json {
                max_bytes: self.max_bytes.take().unwrap_or(JSON_MAX),
            },
            "reference" => FieldType::Reference {
                module: self.module.take().ok_or_else(|| missing("module"))?,
                on_delete: self.on_delete.take().unwrap_or_default(),
            },
            "references" => FieldType::References {
                module: self.module.take().ok_or_else(|| missing("module"))?,
                max_items: self.max_items.take().unwrap_or(REFERENCES_MAX),
                on_delete: self
                    .on_delete
                    .take()
                    .unwrap_or(OnDelete::of_links(self.required)),
            },
            "any_reference" => FieldType::AnyReference {
                modules: self.modules.take().ok_or_else(|| missing("modules"))?,
                on_delete: self.on_delete.take().unwrap_or_default(),
            },
            _ => return Err(unknown()),
        };
        if word != "serial" && kind.is_bounded() {
            let (min, max) = (self.min.take(), self.max.take());
            let bounded = kind.with_bounds(min.as_ref(), max.as_ref());
            kind = bounded.map_err(|(key, message)| {
                Wrong::of(
                    key,
                    format!("`{key}` of the {word} field `{name}` {message}"),
                )
            })?;
        }
        Ok(FieldSpec {
            name,
            kind,
            required: self.required,
            unique: self.unique || word == "serial",
            search: self.search,
            sort: self.sort || word == "serial",
            default: self.default,
            description: self.description,
            read_only: self.read_only,
            immutable: self.immutable,
            write_only: self.write_only,
            ignore_case: self.ignore_case,
            computed: self.computed,
            copied: self.copied,
            serial: word == "serial",
        })
    }

    /// A key that belongs to other types.
    fn foreign(&self, word: &FieldWord) -> Option<&'static str> {
        let keys = [
            ("min", self.min.is_some()),
            ("max", self.max.is_some()),
            ("precision", self.precision.is_some()),
            ("scale", self.scale.is_some()),
            ("currency", self.currency.is_some()),
            ("currency_field", self.currency_field.is_some()),
            ("values", self.values.is_some()),
            ("max_items", self.max_items.is_some()),
            ("max_length", self.max_length.is_some()),
            ("max_bytes", self.max_bytes.is_some()),
            ("dimensions", self.dimensions.is_some()),
            ("module", self.module.is_some()),
            ("modules", self.modules.is_some()),
            ("on_delete", self.on_delete.is_some()),
        ];
        keys.into_iter()
            .find_map(|(key, present)| (present && !word.keys.contains(&key)).then_some(key))
    }
}

/// What a declaration says wrongly, and under which key.
struct Wrong {
    key: &'static str,
    message: String,
}

impl Wrong {
    fn of(key: &'static str, message: String) -> Self {
        Self { key, message }
    }
}

impl FieldSpec {
    /// Reads the declaration of a tenant's own field from JSON. That it breaks no rule is for
    /// [`declare`](crate::custom::CustomFields::declare) to say.
    ///
    /// # Errors
    /// [`Error::Invalid`] with each member that cannot be read, or that belongs to another type.
    pub fn of_tenant(declaration: Map<String, Json>) -> Result<Self, Error> {
        let unread = declaration.iter().filter_map(|(key, value)| {
            let one = Map::from_iter([(key.clone(), value.clone())]);
            let error = serde_json::from_value::<Flat>(Json::Object(one)).err()?;
            Some(FieldError::new(key, "invalid", error.to_string()))
        });
        let mut refused: Vec<_> = unread.collect();
        let word = declaration.get("type").and_then(Json::as_str);
        let word =
            word.filter(|word| !FieldWord::find(word).is_some_and(|one| one.is_for_tenants()));
        if let Some(word) = word {
            refused.push(FieldError::new("type", "invalid", not_tenants(word)));
        }
        if !refused.is_empty() {
            return Err(Error::Invalid(refused));
        }
        let flat: Flat =
            serde_json::from_value(Json::Object(declaration)).map_err(Error::internal)?;
        flat.into_spec()
            .map_err(|Wrong { key, message }| Error::invalid(key, "invalid", message))
    }
}

impl From<&FieldSpec> for Flat {
    fn from(spec: &FieldSpec) -> Self {
        let mut flat = Self {
            name: Some(spec.name.clone()),
            r#type: Some(spec.kind.name().to_owned()),
            required: spec.required,
            unique: spec.unique,
            search: spec.search,
            sort: spec.sort,
            default: spec.default.clone(),
            description: spec.description.clone(),
            read_only: spec.read_only,
            immutable: spec.immutable,
            write_only: spec.write_only,
            ignore_case: spec.ignore_case,
            computed: spec.computed.clone(),
            copied: spec.copied.clone(),
            ..Self::default()
        };
        if spec.serial {
            flat.r#type = Some("serial".to_owned());
            (flat.unique, flat.sort) = (false, false);
            return flat;
        }
        (flat.min, flat.max) = spec.kind.bounds();
        match &spec.kind {
            FieldType::Decimal {
                precision, scale, ..
            } => {
                flat.precision = Some(*precision);
                flat.scale = Some(*scale);
            }
            FieldType::Money {
                precision,
                scale,
                currency,
                ..
            } => {
                flat.precision = Some(*precision);
                flat.scale = Some(*scale);
                match currency {
                    MoneyCurrency::Fixed(code) => flat.currency = Some(code.clone()),
                    MoneyCurrency::Field(name) => flat.currency_field = Some(name.clone()),
                }
            }
            FieldType::Enum { values } => flat.values = Some(values.clone()),
            FieldType::Tags {
                max_items,
                max_length,
            } => {
                flat.max_items = Some(*max_items);
                flat.max_length = Some(*max_length);
            }
            FieldType::Json { max_bytes } => flat.max_bytes = Some(*max_bytes),
            FieldType::Vector { dimensions } => flat.dimensions = Some(*dimensions),
            FieldType::Reference { module, on_delete } => {
                flat.module = Some(module.clone());
                flat.on_delete = Some(*on_delete).filter(|rule| *rule != OnDelete::default());
            }
            FieldType::References {
                module,
                max_items,
                on_delete,
            } => {
                flat.module = Some(module.clone());
                flat.max_items = Some(*max_items);
                let default = OnDelete::of_links(spec.required);
                flat.on_delete = Some(*on_delete).filter(|rule| *rule != default);
            }
            FieldType::AnyReference { modules, on_delete } => {
                flat.modules = Some(modules.clone());
                flat.on_delete = Some(*on_delete).filter(|rule| *rule != OnDelete::default());
            }
            FieldType::Text { .. }
            | FieldType::LongText { .. }
            | FieldType::Email
            | FieldType::Phone
            | FieldType::Url
            | FieldType::Currency
            | FieldType::Integer { .. }
            | FieldType::Bool
            | FieldType::Instant(_)
            | FieldType::Date(_)
            | FieldType::Time(_)
            | FieldType::Zoned
            | FieldType::Uuid => {}
        }
        flat
    }
}

impl Serialize for FieldSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Flat::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FieldSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Flat::deserialize(deserializer)?
            .into_spec()
            .map_err(|wrong| D::Error::custom(wrong.message))
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::ModuleSpec;

    const TOML: &str = r#"
        name = "things"
        singular = "thing"
        description = "One of everything."
        indexes = [["a", "d"]]

        [[fields]]
        name = "a"
        type = "text"
        max = 40
        required = true
        unique = true
        search = true
        sort = true
        description = "First."
        [[fields]]
        name = "b"
        type = "email"
        [[fields]]
        name = "c"
        type = "phone"
        [[fields]]
        name = "d"
        type = "integer"
        min = -5
        default = 3
        [[fields]]
        name = "e"
        type = "decimal"
        precision = 12
        scale = 2
        default = "1.50"
        [[fields]]
        name = "f"
        type = "bool"
        default = false
        [[fields]]
        name = "g"
        type = "instant"
        [[fields]]
        name = "h"
        type = "date"
        [[fields]]
        name = "i"
        type = "enum"
        values = ["x", "y"]
        default = "x"
        [[fields]]
        name = "j"
        type = "tags"
        default = ["new"]
        [[fields]]
        name = "k"
        type = "json"
        default = { deep = [1, 2] }
        [[fields]]
        name = "l"
        type = "reference"
        module = "companies"
    "#;

    fn field(toml: &str) -> Result<FieldSpec, String> {
        toml::from_str(toml).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn toml_and_json_carry_the_same_declaration_there_and_back() {
        let spec = ModuleSpec::from_toml(TOML).unwrap();
        assert_eq!(spec.fields.len(), 12);
        assert_eq!(
            spec.fields[3].kind,
            FieldType::Integer {
                min: -5,
                max: i64::MAX
            }
        );
        assert_eq!(
            spec.fields[9].kind,
            FieldType::Tags {
                max_items: 50,
                max_length: 50
            }
        );
        assert_eq!(spec.fields[10].kind, FieldType::Json { max_bytes: 32_768 });

        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<ModuleSpec>(&json).unwrap(), spec);
        let toml = toml::to_string(&spec).unwrap();
        assert_eq!(ModuleSpec::from_toml(&toml).unwrap(), spec);
    }

    #[test]
    fn an_unknown_key_and_a_key_of_another_type_are_refused_by_name() {
        let unknown = field("name = 'a'\ntype = 'text'\nlenght = 3").unwrap_err();
        assert!(unknown.contains("`lenght`"), "{unknown}");
        let foreign = field("name = 'a'\ntype = 'text'\nvalues = ['x']").unwrap_err();
        assert_eq!(
            foreign,
            "`values` does not belong to field `a`, a field of type text"
        );
        let bounded = field("name = 'a'\ntype = 'email'\nmax = 10").unwrap_err();
        assert_eq!(
            bounded,
            "`max` does not belong to field `a`, a field of type email"
        );
    }

    #[test]
    fn a_missing_rule_and_an_unknown_type_say_what_to_write() {
        let missing = field("name = 'a'\ntype = 'decimal'\nscale = 2").unwrap_err();
        assert_eq!(missing, "field `a` of type decimal needs `precision`");
        let unknown = field("name = 'a'\ntype = 'gold'").unwrap_err();
        assert!(
            unknown.contains("unknown type `gold`; the types are text, long_text, email"),
            "{unknown}"
        );
        assert_eq!(field("name = 'a'").unwrap_err(), "field `a` has no `type`");
        let negative = field("name = 'a'\ntype = 'text'\nmax = -1").unwrap_err();
        assert!(negative.contains("counts characters"), "{negative}");
    }

    #[test]
    fn an_error_in_a_file_names_the_line() {
        let error = ModuleSpec::from_toml("name = 'things'\nsingular = 'Thing'\nfields = []");
        let text = error.unwrap_err().to_string();
        assert!(
            text.starts_with("line 2: \"Thing\" is not a name"),
            "{text}"
        );

        let text = "name = 'things'\nsingular = 'thing'\n\n[[fields]]\nname = 'a'\ntype = 'gold'";
        let text = ModuleSpec::from_toml(text).unwrap_err().to_string();
        assert!(
            text.starts_with("line 4: field `a` has the unknown type"),
            "{text}"
        );
    }
}
