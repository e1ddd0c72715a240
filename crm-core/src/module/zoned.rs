//! Local times with their zone: what a clock on a wall shows, and where the wall stands.
//!
//! The form is that of RFC 9557 without an offset, `2026-03-01T09:30:00[Europe/Berlin]`: the zone
//! decides the offset, also after its rules change. A time that the zone's clocks skip is refused;
//! one that they show twice is taken.

use chrono::{Datelike, LocalResult, NaiveDateTime, TimeZone};
use chrono_tz::Tz;

use super::rule::Refusal;

/// The text in its one form.
pub(super) fn canonical(text: &str) -> Result<String, Refusal> {
    let malformed = || {
        let message = "must be a local time with its zone, without an offset, such as \
                       2026-03-01T09:30:00[Europe/Berlin]";
        Refusal::new("invalid_zoned", message)
    };
    let (local, zone) = text
        .strip_suffix(']')
        .and_then(|text| text.split_once('['))
        .ok_or_else(malformed)?;
    let shaped = matches!(local.len(), 16 | 19 | 21..=26)
        && local.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            10 => byte == b'T',
            13 | 16 => byte == b':',
            19 => byte == b'.',
            _ => byte.is_ascii_digit(),
        });
    let form = match local.len() {
        16 => "%Y-%m-%dT%H:%M",
        _ => "%Y-%m-%dT%H:%M:%S%.f",
    };
    let local = shaped
        .then(|| NaiveDateTime::parse_from_str(local, form).ok())
        .flatten()
        .filter(|local| local.year() >= 1)
        // A leap second is one of an instant, not of a clock on a wall.
        .filter(|local| local.and_utc().timestamp_subsec_nanos() < 1_000_000_000)
        .ok_or_else(malformed)?;
    let zone: Tz = zone.parse().map_err(|_| {
        let message = "must name a zone of the IANA time zone database, such as Europe/Berlin";
        Refusal::new("unknown_zone", message)
    })?;
    if matches!(zone.from_local_datetime(&local), LocalResult::None) {
        let message = format!("must be a time that the clocks of {zone} do not skip");
        return Err(Refusal::new("skipped_time", message));
    }
    let form = match local.and_utc().timestamp_subsec_micros() {
        0 => "%Y-%m-%dT%H:%M:%S",
        _ => "%Y-%m-%dT%H:%M:%S%.6f",
    };
    Ok(format!("{}[{zone}]", local.format(form)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruled(text: &str) -> Result<String, &'static str> {
        canonical(text).map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_local_time_has_one_form() {
        for (text, stored) in [
            (
                "2026-03-01T09:30[Europe/Berlin]",
                "2026-03-01T09:30:00[Europe/Berlin]",
            ),
            (
                "2026-03-01T09:30:00.5[UTC]",
                "2026-03-01T09:30:00.500000[UTC]",
            ),
            (
                "2026-07-01T00:00:00.000[America/Argentina/Buenos_Aires]",
                "2026-07-01T00:00:00[America/Argentina/Buenos_Aires]",
            ),
        ] {
            assert_eq!(ruled(text).as_deref(), Ok(stored));
            assert_eq!(ruled(stored).as_deref(), Ok(stored));
        }
        for text in [
            "2026-03-01T09:30:00",
            "2026-03-01T09:30:00+01:00[Europe/Berlin]",
            "2026-03-01T09:30:00Z[UTC]",
            "2026-03-01 09:30:00[UTC]",
            "2026-02-29T09:30:00[UTC]",
            "2026-03-01T24:00:00[UTC]",
            "2026-03-01T23:59:60[UTC]",
            "0000-03-01T09:30:00[UTC]",
            "2026-03-01T09:30:00.1234567[UTC]",
            "[UTC]",
            "]",
        ] {
            assert_eq!(ruled(text), Err("invalid_zoned"), "{text}");
        }
        for zone in [
            "",
            "Europe/Atlantis",
            "+01:00",
            "CEST",
            "europe berlin",
            "u-ca=hebrew",
        ] {
            assert_eq!(
                ruled(&format!("2026-03-01T09:30:00[{zone}]")),
                Err("unknown_zone"),
                "{zone}"
            );
        }
    }

    #[test]
    fn a_time_that_the_zone_skips_is_refused_and_one_it_shows_twice_is_not() {
        assert_eq!(
            ruled("2026-03-29T02:30:00[Europe/Berlin]"),
            Err("skipped_time")
        );
        assert_eq!(
            ruled("2026-03-29T02:00:00[Europe/Berlin]"),
            Err("skipped_time")
        );
        assert!(ruled("2026-03-29T03:00:00[Europe/Berlin]").is_ok());
        assert!(ruled("2026-10-25T02:30:00[Europe/Berlin]").is_ok());
        assert!(ruled("2026-03-29T02:30:00[Europe/Moscow]").is_ok());
        assert_eq!(
            ruled("2026-03-08T02:30:00[America/New_York]"),
            Err("skipped_time")
        );
        assert_eq!(
            ruled("2011-12-30T12:00:00[Pacific/Apia]"),
            Err("skipped_time")
        );
    }
}
