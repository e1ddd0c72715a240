//! Times that come again: the five fields of cron (POSIX.1-2017, crontab), in a zone of the IANA
//! time zone database.
//!
//! Minute, hour, day of the month, month and day of the week; each `*`, a number, a range, a list
//! of these, with `/n` behind a range or `*` for every n-th. Months and days of the week have
//! names, too. With both kinds of days restricted, either will do. A time that the zone's clocks
//! skip comes when they have skipped it, one that they show twice comes once, unless the schedule
//! is for every hour.

use std::fmt;

use chrono::{DateTime, Datelike, LocalResult, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// The longest pattern.
const MAX_PATTERN: usize = 200;
/// Days looked through for the next time: the 29th of February comes again within eight years.
const DAYS: u64 = 8 * 366 + 2;
/// The longest time that clocks skip, in minutes.
const GAP: i64 = 24 * 60 + 1;

/// When a cron trigger is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    pattern: String,
    zone: Tz,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether either kind of day will do.
    either: bool,
}

/// The bounds and the names of one field.
struct Field {
    name: &'static str,
    from: u32,
    to: u32,
    names: &'static [&'static str],
}

const MINUTE: Field = Field {
    name: "minute",
    from: 0,
    to: 59,
    names: &[],
};
const HOUR: Field = Field {
    name: "hour",
    from: 0,
    to: 23,
    names: &[],
};
const DAY: Field = Field {
    name: "day of the month",
    from: 1,
    to: 31,
    names: &[],
};
const MONTH: Field = Field {
    name: "month",
    from: 1,
    to: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
const WEEKDAY: Field = Field {
    name: "day of the week",
    from: 0,
    to: 7,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

impl Schedule {
    /// Reads a pattern such as `0 3 * * 1-5` and a zone such as `Europe/Berlin`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(pattern: &str, zone: &str) -> Result<Self, String> {
        let zone: Tz = zone.parse().map_err(|_| {
            format!("{zone:?} is no zone of the IANA time zone database, such as Europe/Berlin")
        })?;
        let fields: Vec<&str> = pattern.split_ascii_whitespace().collect();
        let (5, true) = (fields.len(), pattern.len() <= MAX_PATTERN) else {
            return Err(format!(
                "{pattern:?} is no schedule: write minute, hour, day of the month, month and day of \
                 the week, such as 0 3 * * 1-5"
            ));
        };
        let mut weekdays = WEEKDAY.read(fields[4])?;
        weekdays |= weekdays >> 7 & 1;
        let schedule = Self {
            pattern: fields.join(" "),
            zone,
            minutes: MINUTE.read(fields[0])?,
            hours: HOUR.read(fields[1])?,
            days: DAY.read(fields[2])?,
            months: MONTH.read(fields[3])?,
            weekdays,
            either: !fields[2].starts_with('*') && !fields[4].starts_with('*'),
        };
        match schedule.next(DateTime::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(format!(
                "the schedule {pattern:?} names a day that never comes"
            )),
        }
    }

    /// The five fields.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The zone's name.
    pub fn zone(&self) -> &'static str {
        self.zone.name()
    }

    /// The first time behind `after`.
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let today = after.with_timezone(&self.zone).date_naive();
        // What clocks skip around midnight comes on the day behind it.
        let first = today.pred_opt()?;
        let days = (0..DAYS).map_while(|ahead| first.checked_add_days(chrono::Days::new(ahead)));
        let mut days = days.filter(|day| self.has(*day));
        days.find_map(|day| self.of(day).filter(|time| *time > after).min())
    }

    fn has(&self, day: NaiveDate) -> bool {
        let of_month = self.days >> day.day() & 1 == 1;
        let of_week = self.weekdays >> day.weekday().num_days_from_sunday() & 1 == 1;
        let day_fits = match self.either {
            true => of_month || of_week,
            false => of_month && of_week,
        };
        day_fits && self.months >> day.month() & 1 == 1
    }

    /// The times of a day.
    fn of(&self, day: NaiveDate) -> impl Iterator<Item = DateTime<Utc>> {
        let every_hour = self.hours == HOUR.all();
        let hours = (0..24).filter(|hour| self.hours >> hour & 1 == 1);
        let times = hours.flat_map(|hour| {
            let minutes = (0..60).filter(|minute| self.minutes >> minute & 1 == 1);
            minutes.filter_map(move |minute| NaiveTime::from_hms_opt(hour, minute, 0))
        });
        times.flat_map(move |time| {
            let local = day.and_time(time);
            let (one, two) = match self.zone.from_local_datetime(&local) {
                LocalResult::Single(time) => (Some(time), None),
                LocalResult::Ambiguous(first, second) => (Some(first), Some(second)),
                LocalResult::None if every_hour => (None, None),
                LocalResult::None => {
                    let mut later = (1..GAP).map(|minutes| local + TimeDelta::minutes(minutes));
                    let found =
                        later.find_map(|local| self.zone.from_local_datetime(&local).earliest());
                    (found, None)
                }
            };
            let two = two.filter(|_| every_hour);
            one.into_iter()
                .chain(two)
                .map(|time| time.with_timezone(&Utc))
        })
    }
}

impl Field {
    fn all(&self) -> u64 {
        (self.from..=self.to).fold(0, |set, number| set | 1 << number)
    }

    /// The set of numbers that the text of a field stands for.
    fn read(&self, text: &str) -> Result<u64, String> {
        let mut set = 0;
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(self.step(step)?)),
                None => (part, None),
            };
            let (from, to) = match range.split_once('-') {
                _ if range == "*" => (self.from, self.to),
                Some((from, to)) => (self.number(from)?, self.number(to)?),
                None if step.is_some() => return Err(self.wrong(part)),
                None => (self.number(range)?, self.number(range)?),
            };
            if from > to {
                return Err(self.wrong(part));
            }
            let numbers = (from..=to).step_by(step.unwrap_or(1));
            set = numbers.fold(set, |set, number| set | 1 << number);
        }
        Ok(set)
    }

    fn step(&self, text: &str) -> Result<usize, String> {
        let step = text.parse().ok().filter(|step| (1..=59).contains(step));
        step.ok_or_else(|| self.wrong(text))
    }

    fn number(&self, text: &str) -> Result<u32, String> {
        let named = self
            .names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(text));
        let named = named.and_then(|place| u32::try_from(place).ok());
        let number = match named {
            // The names count from where the field begins.
            Some(place) => Some(place + self.from),
            None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            None => None,
        };
        let number = number.filter(|number| (self.from..=self.to).contains(number));
        number.ok_or_else(|| self.wrong(text))
    }

    fn wrong(&self, text: &str) -> String {
        let Self { name, from, to, .. } = self;
        format!(
            "{text:?} is no {name}: write numbers from {from} to {to}, such as {from}, {from}-{to} or */2"
        )
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pattern, self.zone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next times behind an instant.
    fn times<const N: usize>(pattern: &str, zone: &str, after: &str) -> [String; N] {
        let schedule = Schedule::parse(pattern, zone).unwrap();
        let mut at: DateTime<Utc> = after.parse().unwrap();
        std::array::from_fn(|_| {
            at = schedule.next(at).unwrap();
            at.format("%Y-%m-%dT%H:%MZ").to_string()
        })
    }

    #[test]
    fn fields_are_numbers_ranges_lists_steps_and_names() {
        let week = times("30 9-10 * * mon-fri", "UTC", "2026-03-06T09:31:00Z");
        assert_eq!(
            week,
            [
                "2026-03-06T10:30Z",
                "2026-03-09T09:30Z",
                "2026-03-09T10:30Z"
            ]
        );
        let steps = times("*/20,5 * * * *", "UTC", "2026-03-01T00:00:00Z");
        assert_eq!(
            steps,
            [
                "2026-03-01T00:05Z",
                "2026-03-01T00:20Z",
                "2026-03-01T00:40Z"
            ]
        );
        let sunday = times("0 0 * * 7", "UTC", "2026-03-01T00:00:00Z");
        assert_eq!(sunday, ["2026-03-08T00:00Z"]);
        let month = times("0 0 1 jan *", "UTC", "2026-03-01T00:00:00Z");
        assert_eq!(month, ["2027-01-01T00:00Z"]);
        let leap = times("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z");
        assert_eq!(leap, ["2104-02-29T00:00Z"]);
    }

    #[test]
    fn of_two_restricted_days_either_will_do() {
        let either = times("0 0 13 * 5", "UTC", "2026-03-01T00:00:00Z");
        assert_eq!(
            either,
            [
                "2026-03-06T00:00Z",
                "2026-03-13T00:00Z",
                "2026-03-20T00:00Z"
            ]
        );
    }

    #[test]
    fn a_skipped_time_comes_behind_the_gap_and_a_repeated_one_once() {
        let spring = times("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z");
        assert_eq!(spring, ["2026-03-29T01:00Z", "2026-03-30T00:30Z"]);
        let autumn = times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z");
        assert_eq!(autumn, ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]);
        let every = times("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z");
        assert_eq!(
            every,
            [
                "2026-10-25T00:00Z",
                "2026-10-25T01:00Z",
                "2026-10-25T02:00Z"
            ]
        );
        let gap = times("0 * * * *", "Europe/Berlin", "2026-03-29T00:30:00Z");
        assert_eq!(gap, ["2026-03-29T01:00Z", "2026-03-29T02:00Z"]);
    }

    #[test]
    fn what_is_no_schedule_is_refused_in_words() {
        for (pattern, zone, part) in [
            ("0 3 * *", "UTC", "no schedule"),
            ("0 3 * * * *", "UTC", "no schedule"),
            ("60 3 * * *", "UTC", "no minute"),
            ("0 24 * * *", "UTC", "no hour"),
            ("0 3 0 * *", "UTC", "no day of the month"),
            ("0 3 * 13 *", "UTC", "no month"),
            ("0 3 * * 8", "UTC", "no day of the week"),
            ("5/2 3 * * *", "UTC", "no minute"),
            ("9-5 3 * * *", "UTC", "no minute"),
            ("*/0 3 * * *", "UTC", "no minute"),
            ("+5 3 * * *", "UTC", "no minute"),
            ("0 3 30 2 *", "UTC", "never comes"),
            ("0 3 * * *", "Mars/Base", "no zone"),
        ] {
            let message = Schedule::parse(pattern, zone).unwrap_err();
            assert!(message.contains(part), "{pattern}: {message}");
        }
    }
}
