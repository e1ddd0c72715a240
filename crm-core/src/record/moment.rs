//! Moments that the clock tells whenever a condition is asked: `now`, `today`, and so long before
//! or after. A condition keeps the word, so that it means the same tomorrow, in a saved rule and in
//! the cursor of a list alike.

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};

use super::Comparison;
use crate::module::{FieldType, Refusal};
use crate::value::Value;

/// Most digits of an offset.
const MAX_DIGITS: usize = 4;

/// A moment told by the clock: the present one, or the beginning of the day in UTC, and so long
/// before or after.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Whether it is told as a day.
    as_date: bool,
    /// Whether it is counted from the beginning of the day.
    whole_day: bool,
    offset: TimeDelta,
}

/// How a value compares with a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The same.
    Eq,
    /// Before it.
    Lt,
    /// Not after it.
    Lte,
    /// After it.
    Gt,
    /// Not before it.
    Gte,
}

impl Moment {
    /// The moment that `text` stands for beside a field of this kind; `None` for what begins with
    /// neither word.
    ///
    /// # Errors
    /// A [`Refusal`] of a word that is written otherwise, or that does not fit the kind.
    pub(super) fn read(kind: &FieldType, text: &str) -> Option<Result<Self, Refusal>> {
        let as_date = match kind {
            FieldType::Date(_) => true,
            FieldType::Instant(_) => false,
            _ => return None,
        };
        let (whole_day, rest) = match (text.strip_prefix("today"), text.strip_prefix("now")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return None,
        };
        let offset = match as_date && !whole_day {
            true => None,
            false => offset(rest, whole_day),
        };
        Some(match offset {
            Some(offset) => Ok(Self {
                as_date,
                whole_day,
                offset,
            }),
            None => Err(told(
                kind,
                Refusal {
                    code: "invalid",
                    message: String::new(),
                },
            )),
        })
    }

    /// The comparison with the moment that it is now.
    pub(crate) fn compared(self, relation: Relation, now: DateTime<Utc>) -> Comparison {
        let from = match self.whole_day {
            true => now.date_naive().and_time(NaiveTime::MIN).and_utc(),
            false => now,
        };
        let at = from.checked_add_signed(self.offset).unwrap_or(from);
        let value = match self.as_date {
            true => Value::Date(at.date_naive()),
            false => Value::Instant(at),
        };
        match relation {
            Relation::Eq => Comparison::Eq(value),
            Relation::Lt => Comparison::Lt(value),
            Relation::Lte => Comparison::Lte(value),
            Relation::Gt => Comparison::Gt(value),
            Relation::Gte => Comparison::Gte(value),
        }
    }
}

/// The refusal of what a field of this kind is compared with, with the words that there are.
pub(super) fn told(kind: &FieldType, refusal: Refusal) -> Refusal {
    let words = match kind {
        FieldType::Date(_) => {
            "must be a date such as 2026-03-01, or with eq, ne, lt, lte, gt and gte: today, \
             today+7d, today-2w"
        }
        FieldType::Instant(_) => {
            "must be an instant such as 2026-03-01T09:30:00Z, or with eq, ne, lt, lte, gt and gte: \
             now, now-90m, now+24h, today, today-7d"
        }
        _ => return refusal,
    };
    Refusal {
        message: words.to_owned(),
        ..refusal
    }
}

/// What stands behind the word: nothing, or `+7d`. A form-encoded plus arrives as a blank.
fn offset(text: &str, whole_day: bool) -> Option<TimeDelta> {
    if text.is_empty() {
        return Some(TimeDelta::zero());
    }
    let (sign, rest) = match (text.strip_prefix(['+', ' ']), text.strip_prefix('-')) {
        (Some(rest), _) => (1, rest),
        (_, Some(rest)) => (-1, rest),
        _ => return None,
    };
    let (count, unit) = rest.split_at_checked(rest.len().checked_sub(1)?)?;
    let minutes: i64 = match unit {
        "m" if !whole_day => 1,
        "h" if !whole_day => 60,
        "d" => 24 * 60,
        "w" => 7 * 24 * 60,
        _ => return None,
    };
    if count.len() > MAX_DIGITS || !count.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: i64 = count.parse().ok()?;
    TimeDelta::try_minutes(sign * count * minutes)
}

impl Relation {
    /// The relation that an operator asks for, and whether it is to hold.
    pub(super) fn of(op: &str) -> Option<(Self, bool)> {
        Some(match op {
            "eq" => (Self::Eq, true),
            "ne" => (Self::Eq, false),
            "lt" => (Self::Lt, true),
            "lte" => (Self::Lte, true),
            "gt" => (Self::Gt, true),
            "gte" => (Self::Gte, true),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::Bounds;

    const DATE: FieldType = FieldType::Date(Bounds::NONE);
    const INSTANT: FieldType = FieldType::Instant(Bounds::NONE);

    fn told(kind: &FieldType, text: &str) -> Option<String> {
        let now = "2030-01-31T12:34:56Z".parse().unwrap();
        let moment = Moment::read(kind, text)?.ok()?;
        match moment.compared(Relation::Eq, now) {
            Comparison::Eq(Value::Date(day)) => Some(day.to_string()),
            Comparison::Eq(Value::Instant(at)) => Some(at.to_rfc3339()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn words_tell_days_and_instants() {
        for (kind, text, moment) in [
            (&DATE, "today", "2030-01-31"),
            (&DATE, "today+1d", "2030-02-01"),
            (&DATE, "today 1d", "2030-02-01"),
            (&DATE, "today-2w", "2030-01-17"),
            (&INSTANT, "now", "2030-01-31T12:34:56+00:00"),
            (&INSTANT, "now-90m", "2030-01-31T11:04:56+00:00"),
            (&INSTANT, "now+24h", "2030-02-01T12:34:56+00:00"),
            (&INSTANT, "today", "2030-01-31T00:00:00+00:00"),
            (&INSTANT, "today-7d", "2030-01-24T00:00:00+00:00"),
        ] {
            assert_eq!(told(kind, text).as_deref(), Some(moment), "{text}");
        }
    }

    #[test]
    fn other_words_are_refused_or_left_to_others() {
        for (kind, text) in [
            (&DATE, "now"),
            (&DATE, "todays"),
            (&DATE, "today+1h"),
            (&DATE, "today+d"),
            (&DATE, "today+-1d"),
            (&DATE, "today+99999999999999999999d"),
            (&DATE, "today+10000d"),
            (&INSTANT, "now+1"),
            (&INSTANT, "now+1é"),
            (&INSTANT, "today+5m"),
        ] {
            assert!(matches!(Moment::read(kind, text), Some(Err(_))), "{text}");
        }
        assert!(Moment::read(&DATE, "tomorrow").is_none());
        assert!(Moment::read(&DATE, "2030-01-31").is_none());
        assert!(Moment::read(&FieldType::Email, "today").is_none());
    }
}
