//! Bounds of a field's values, and what a type can do.
//!
//! Bounds limit what is stored. What stored values are compared with is not held to them.

use rust_decimal::Decimal;
use serde_json::{Value as Json, json};

use super::FieldType;
use super::rule::{self, Refusal};
use crate::value::Value;

/// The smallest and the largest value, either of which may go unsaid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds<T> {
    /// Smallest value.
    pub min: Option<T>,
    /// Largest value.
    pub max: Option<T>,
}

impl<T> Bounds<T> {
    /// No bounds.
    pub const NONE: Self = Self {
        min: None,
        max: None,
    };

    fn limits(&self) -> (Option<Value>, Option<Value>)
    where
        T: Copy + Into<Value>,
    {
        (self.min.map(Into::into), self.max.map(Into::into))
    }
}

impl<T> Default for Bounds<T> {
    fn default() -> Self {
        Self::NONE
    }
}

/// The key of a bound, and what is wrong with it.
pub(super) type Unfit = (&'static str, String);

impl FieldType {
    /// Whether its values are texts that are searched.
    pub fn is_text(&self) -> bool {
        matches!(
            self,
            Self::Text { .. } | Self::LongText { .. } | Self::Email | Self::Phone | Self::Url
        )
    }

    /// Whether its values are compared as a whole, and so make groups.
    pub fn is_comparable(&self) -> bool {
        !matches!(
            self,
            Self::LongText { .. }
                | Self::Tags { .. }
                | Self::Json { .. }
                | Self::Vector { .. }
                | Self::References { .. }
        )
    }

    /// Whether its values have an order and fit into an index.
    pub fn is_ordered(&self) -> bool {
        self.is_comparable() && *self != Self::Zoned
    }

    /// Whether it takes `min` and `max`.
    pub(super) fn is_bounded(&self) -> bool {
        matches!(
            self,
            Self::Text { .. }
                | Self::LongText { .. }
                | Self::Integer { .. }
                | Self::Decimal { .. }
                | Self::Money { .. }
                | Self::Instant(_)
                | Self::Date(_)
                | Self::Time(_)
        )
    }

    /// The smallest and the largest value; texts are bounded in length instead.
    pub(crate) fn limits(&self) -> (Option<Value>, Option<Value>) {
        match self {
            Self::Integer { min, max } => (
                (*min != i64::MIN).then_some(Value::Int(*min)),
                (*max != i64::MAX).then_some(Value::Int(*max)),
            ),
            Self::Decimal { scale, bounds, .. } | Self::Money { scale, bounds, .. } => {
                let scaled = |bound: Option<Decimal>| {
                    bound.map(|mut bound| {
                        bound.rescale(*scale);
                        Value::Decimal(bound)
                    })
                };
                (scaled(bounds.min), scaled(bounds.max))
            }
            Self::Instant(bounds) => bounds.limits(),
            Self::Date(bounds) => bounds.limits(),
            Self::Time(bounds) => bounds.limits(),
            _ => (None, None),
        }
    }

    /// `min` and `max` as a declaration writes them.
    pub(super) fn bounds(&self) -> (Option<Json>, Option<Json>) {
        match self {
            Self::Text { min, max } | Self::LongText { min, max } => {
                ((*min != 1).then(|| json!(min)), Some(json!(max)))
            }
            // The bounds of 64 bits go unsaid: a double on the way would round them.
            kind => {
                let (min, max) = kind.limits();
                (min.map(|min| json!(min)), max.map(|max| json!(max)))
            }
        }
    }

    /// The same type with these bounds, where they are given.
    ///
    /// # Errors
    /// Which of them is not a value of this type, and what it must be.
    pub(super) fn with_bounds(
        mut self,
        min: Option<&Json>,
        max: Option<&Json>,
    ) -> Result<Self, Unfit> {
        let kind = self.clone();
        let mut set = |key, bound: Option<&Json>, low: bool| {
            let Some(json) = bound else { return Ok(()) };
            let unfit = |message: String| (key, message);
            if let Self::Text { min, max } | Self::LongText { min, max } = &mut self {
                let count = json.as_u64().and_then(|count| u32::try_from(count).ok());
                let count =
                    count.ok_or_else(|| unfit(format!("counts characters; {json} does not")))?;
                *if low { min } else { max } = count;
                return Ok(());
            }
            let value =
                rule::read_json(&kind, json.clone()).map_err(|refusal| unfit(refusal.message))?;
            match (&mut self, value) {
                (Self::Integer { min, max }, Value::Int(bound)) => {
                    *if low { min } else { max } = bound;
                }
                (
                    Self::Decimal { bounds, .. } | Self::Money { bounds, .. },
                    Value::Decimal(bound),
                ) => *bounds.side(low) = Some(bound),
                (Self::Instant(bounds), Value::Instant(bound)) => *bounds.side(low) = Some(bound),
                (Self::Date(bounds), Value::Date(bound)) => *bounds.side(low) = Some(bound),
                (Self::Time(bounds), Value::Time(bound)) => *bounds.side(low) = Some(bound),
                _ => return Err(unfit("must be a value of its type".to_owned())),
            }
            Ok(())
        };
        set("min", min, true)?;
        set("max", max, false)?;
        Ok(self)
    }

    /// Refuses bounds that are no values of this type, or leave none.
    pub(super) fn check_bounds(&self) -> Result<(), Unfit> {
        let crossed = || ("min", "is greater than its `max`".to_owned());
        match self {
            Self::Text { min, max } | Self::LongText { min, max } if *max > 0 && min > max => {
                Err(crossed())
            }
            Self::Decimal {
                precision,
                scale,
                bounds,
            }
            | Self::Money {
                precision,
                scale,
                bounds,
                ..
            } => {
                let kind = Self::Decimal {
                    precision: *precision,
                    scale: *scale,
                    bounds: Bounds::NONE,
                };
                for (key, bound) in [("min", bounds.min), ("max", bounds.max)] {
                    let bound = bound.map_or(Json::Null, |bound| json!(bound));
                    rule::read_json(&kind, bound).map_err(|refusal| (key, refusal.message))?;
                }
                match (bounds.min, bounds.max) {
                    (Some(min), Some(max)) if min > max => Err(crossed()),
                    _ => Ok(()),
                }
            }
            Self::Integer { min, max } if min > max => Err(crossed()),
            kind => match kind.limits() {
                (Some(min), Some(max)) if min.order(&max).is_some_and(|order| order.is_gt()) => {
                    Err(crossed())
                }
                _ => Ok(()),
            },
        }
    }

    /// The value, if it keeps the bounds.
    pub(super) fn admit(&self, value: Value) -> Result<Value, Refusal> {
        if let (Self::Text { min, .. } | Self::LongText { min, .. }, Value::Text(text)) =
            (self, &value)
        {
            let least = usize::try_from(*min).unwrap_or(usize::MAX);
            if least > 1 && text.chars().take(least).count() < least {
                let message = format!("must have at least {min} characters");
                return Err(Refusal::new("too_short", message));
            }
            return Ok(value);
        }
        let (min, max) = self.limits();
        let below = min.as_ref().and_then(|min| value.order(min));
        let above = max.as_ref().and_then(|max| value.order(max));
        if !below.is_some_and(|order| order.is_lt()) && !above.is_some_and(|order| order.is_gt()) {
            return Ok(value);
        }
        let message = match (min.map(|min| min.to_text()), max.map(|max| max.to_text())) {
            (None, None) => return Ok(value),
            (None, Some(max)) => format!("must be at most {max}"),
            (Some(min), None) => format!("must be at least {min}"),
            (Some(min), Some(max)) => format!("must be between {min} and {max}"),
        };
        Err(Refusal::new("out_of_range", message))
    }
}

impl<T> Bounds<T> {
    fn side(&mut self, low: bool) -> &mut Option<T> {
        if low { &mut self.min } else { &mut self.max }
    }
}

/// A type with bounds that stand in the program.
///
/// # Panics
/// When a bound is no value of the type.
#[doc(hidden)]
pub fn with_bounds(kind: FieldType, min: Option<Json>, max: Option<Json>) -> FieldType {
    match kind.with_bounds(min.as_ref(), max.as_ref()) {
        Ok(kind) => kind,
        Err((key, message)) => panic!("`{key}` {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::FieldSpec;

    fn field(toml: &str) -> Result<FieldSpec, String> {
        let text = format!("name = 'a'\n{toml}");
        toml::from_str(&text).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    /// The code of the refusal, or the stored value's wire form.
    fn ruled(toml: &str, json: Json) -> String {
        let spec = field(toml).unwrap();
        spec.kind.check_bounds().unwrap();
        match rule::from_json(&spec.kind, json) {
            Ok(value) => value.to_text(),
            Err(refusal) => format!("{}: {}", refusal.code, refusal.message),
        }
    }

    #[test]
    fn bounds_are_values_of_their_type_written_as_numbers_or_texts() {
        let decimal = "type = 'decimal'\nprecision = 9\nscale = 2\nmin = '0.01'\nmax = 9.5";
        assert_eq!(ruled(decimal, json!("0.01")), "0.01");
        assert_eq!(ruled(decimal, json!("9.5")), "9.50");
        let refused = "out_of_range: must be between 0.01 and 9.50";
        assert_eq!(ruled(decimal, json!("0")), refused);
        assert_eq!(ruled(decimal, json!("9.51")), refused);
        let date = "type = 'date'\nmin = '2020-02-29'";
        assert_eq!(ruled(date, json!("2020-02-29")), "2020-02-29");
        assert_eq!(
            ruled(date, json!("2020-02-28")),
            "out_of_range: must be at least 2020-02-29"
        );
        let instant = "type = 'instant'\nmax = '2026-01-01T01:00:00+01:00'";
        assert_eq!(
            ruled(instant, json!("2026-01-01T00:00:00.000001Z")),
            "out_of_range: must be at most 2026-01-01T00:00:00Z"
        );
        let time = "type = 'time'\nmin = '08:00'\nmax = '17:30'";
        assert_eq!(ruled(time, json!("17:30")), "17:30:00");
        assert_eq!(
            ruled(time, json!("17:30:00.000001")),
            "out_of_range: must be between 08:00:00 and 17:30:00"
        );
        for text in ["type = 'text'\nmin = 2", "type = 'long_text'\nmin = 2"] {
            assert_eq!(ruled(text, json!(" äö ")), "äö");
            assert_eq!(
                ruled(text, json!(" ä ")),
                "too_short: must have at least 2 characters"
            );
            assert_eq!(ruled(text, json!("  ")), "null");
        }
    }

    #[test]
    fn a_bound_of_another_type_is_refused_by_its_key() {
        for (toml, words) in [
            (
                "type = 'date'\nmin = 2020",
                "`min` of the date field `a` must be a text",
            ),
            (
                "type = 'date'\nmin = 2020-01-01",
                "`min` of the date field `a` must be a text",
            ),
            (
                "type = 'time'\nmax = '24:00'",
                "`max` of the time field `a` must be a time of day",
            ),
            (
                "type = 'integer'\nmin = '5'",
                "`min` of the integer field `a` must be a whole number",
            ),
            ("type = 'text'\nmax = -1", "counts characters; -1 does not"),
            (
                "type = 'decimal'\nprecision = 4\nscale = 1\nmin = '0.01'",
                "must have at most 1 digit after the point",
            ),
        ] {
            let refused = field(toml).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
        for crossed in [
            "type = 'text'\nmin = 9\nmax = 8",
            "type = 'date'\nmin = '2020-01-02'\nmax = '2020-01-01'",
            "type = 'decimal'\nprecision = 4\nscale = 1\nmin = 2\nmax = 1",
            "type = 'time'\nmin = '09:00'\nmax = '08:59:59.999999'",
        ] {
            let refused = field(crossed).unwrap().kind.check_bounds();
            assert_eq!(
                refused,
                Err(("min", "is greater than its `max`".to_owned()))
            );
        }
    }

    #[test]
    fn bounds_go_to_toml_and_json_and_back() {
        for toml in [
            "type = 'text'\nmin = 2\nmax = 9",
            "type = 'long_text'",
            "type = 'decimal'\nprecision = 9\nscale = 2\nmin = '0.01'",
            "type = 'date'\nmin = '2020-02-29'\nmax = '2021-01-01'",
            "type = 'instant'\nmax = '2026-01-01T01:00:00.5+01:00'",
            "type = 'time'\nmin = '08:00:00.000001'",
            "type = 'integer'\nmin = -5",
        ] {
            let spec = field(toml).unwrap();
            let json = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<FieldSpec>(&json).unwrap(), spec);
            let text = toml::to_string(&spec).unwrap();
            assert_eq!(toml::from_str::<FieldSpec>(&text).unwrap(), spec);
        }
    }
}
