use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::module::{Bounds, Ident, OnDelete};

/// The value, or the code of its refusal.
fn ruled(kind: &FieldType, json: Json) -> Result<Value, &'static str> {
    from_json(kind, json).map_err(|refusal| refusal.code)
}

fn text(max: u32) -> FieldType {
    FieldType::Text { min: 1, max }
}

#[test]
fn text_is_trimmed_and_counted_in_characters() {
    assert_eq!(
        ruled(&text(3), json!("  äöü \n")),
        Ok(Value::Text("äöü".into()))
    );
    assert_eq!(ruled(&text(3), json!("äöüß")), Err("too_long"));
    assert_eq!(ruled(&text(3), json!("a\0")), Err("invalid_character"));
    assert_eq!(ruled(&text(3), json!(1)), Err("wrong_type"));
    assert_eq!(ruled(&text(3), json!("  ")), Ok(Value::Null));
    let invisible = json!("\u{feff}\u{200b} \u{2060}\u{202e}");
    assert_eq!(ruled(&text(9), invisible), Ok(Value::Null));
    let joined = "a\u{200d}b";
    assert_eq!(
        ruled(&text(3), json!(joined)),
        Ok(Value::Text(joined.into()))
    );
}

#[test]
fn integers_are_json_integers_within_their_bounds() {
    let score = FieldType::Integer { min: 0, max: 100 };
    assert_eq!(ruled(&score, json!(100)), Ok(Value::Int(100)));
    for (json, code) in [
        (json!(101), "out_of_range"),
        (json!(-1), "out_of_range"),
        (json!(1.0), "wrong_type"),
        (json!(u64::MAX), "out_of_range"),
        (json!(99_999_999_999_999_999_999_999_999.0), "out_of_range"),
        (json!(-1e300), "out_of_range"),
        (json!("1"), "wrong_type"),
        (json!(true), "wrong_type"),
    ] {
        assert_eq!(ruled(&score, json.clone()), Err(code), "{json}");
    }
    let any = FieldType::Integer {
        min: i64::MIN,
        max: i64::MAX,
    };
    assert_eq!(ruled(&any, json!(i64::MIN)), Ok(Value::Int(i64::MIN)));
}

#[test]
fn decimals_are_exact_or_refused() {
    let money = FieldType::Decimal {
        precision: 12,
        scale: 2,
        bounds: Bounds::NONE,
    };
    for (json, text) in [
        (json!("12.5"), "12.50"),
        (json!(12.5), "12.50"),
        (json!(7), "7.00"),
        (json!("-0.01"), "-0.01"),
        (json!("0012.500"), "12.50"),
        (json!(" 9999999999.99 "), "9999999999.99"),
        (json!(9_999_999_999.99), "9999999999.99"),
        (json!(1e3), "1000.00"),
        (json!("1.5e2"), "150.00"),
        (json!("-0"), "0.00"),
        (json!("0e99"), "0.00"),
    ] {
        let value = ruled(&money, json.clone()).unwrap();
        assert_eq!(serde_json::to_value(value).unwrap(), json!(text), "{json}");
    }
    for (json, code) in [
        (json!("12.345"), "too_precise"),
        (json!(12.345), "too_precise"),
        (json!(1e-7), "too_precise"),
        (json!("10000000000"), "out_of_range"),
        (json!(1e27), "out_of_range"),
        (json!("1e32767"), "out_of_range"),
        (json!("1e-32768"), "too_precise"),
        (json!("1e99999"), "wrong_type"),
        (json!(1_234_567_890_123_456.8), "inexact_number"),
        (json!("NaN"), "wrong_type"),
        (json!("Infinity"), "wrong_type"),
        (json!("1_000"), "wrong_type"),
        (json!("1,50"), "wrong_type"),
        (json!("1."), "wrong_type"),
        (json!(".5"), "wrong_type"),
        (json!("+1"), "wrong_type"),
        (json!("--1"), "wrong_type"),
        (json!("0x10"), "wrong_type"),
        (json!("٣"), "wrong_type"),
        (json!(true), "wrong_type"),
    ] {
        assert_eq!(ruled(&money, json.clone()), Err(code), "{json}");
    }
    let long = json!("0".repeat(65));
    assert_eq!(ruled(&money, long), Err("wrong_type"));
}

#[test]
fn instants_carry_an_offset_and_come_out_in_utc() {
    let wire = |text: &str| {
        ruled(&FieldType::Instant(Bounds::NONE), json!(text)).map(|value| json!(value))
    };
    assert_eq!(
        wire("2026-03-01T10:30:00+02:00"),
        Ok(json!("2026-03-01T08:30:00Z"))
    );
    assert_eq!(
        wire("1969-12-31T23:59:59.123456789Z"),
        Ok(json!("1969-12-31T23:59:59.123456Z"))
    );
    for text in [
        "2026-03-01T10:30:00",
        "2026-03-01",
        "2026-02-30T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "1772360000",
    ] {
        assert_eq!(wire(text), Err("invalid_instant"), "{text}");
    }
}

#[test]
fn dates_are_days_of_the_calendar() {
    let wire =
        |text: &str| ruled(&FieldType::Date(Bounds::NONE), json!(text)).map(|value| json!(value));
    assert_eq!(wire("2024-02-29"), Ok(json!("2024-02-29")));
    for text in [
        "2023-02-29",
        "2024-2-9",
        "0000-01-01",
        "-001-01-01",
        "24-02-2024",
        "2024-02-29 ",
    ] {
        let expected = if text.ends_with(' ') {
            Ok(json!("2024-02-29"))
        } else {
            Err("invalid_date")
        };
        assert_eq!(wire(text), expected, "{text}");
    }
}

#[test]
fn an_enum_is_a_closed_list_and_says_so() {
    let stage = FieldType::Enum {
        values: vec!["won".into(), "lost".into()],
    };
    assert_eq!(ruled(&stage, json!("won")), Ok(Value::Text("won".into())));
    let refusal = from_json(&stage, json!("Won")).unwrap_err();
    assert_eq!(refusal.message, "must be one of: won, lost");
}

#[test]
fn tags_are_distinct_trimmed_and_limited() {
    let tags = FieldType::Tags {
        max_items: 2,
        max_length: 3,
    };
    assert_eq!(
        ruled(&tags, json!([" b ", "a"])),
        Ok(Value::Tags(vec!["b".into(), "a".into()]))
    );
    assert_eq!(ruled(&tags, json!([])), Ok(Value::Tags(vec![])));
    for (json, code) in [
        (json!(["a", "a "]), "duplicate"),
        (json!(["a", "b", "c"]), "too_many"),
        (json!(["abcd"]), "too_long"),
        (json!([" "]), "empty_entry"),
        (json!([1]), "wrong_type"),
        (json!([null]), "wrong_type"),
        (json!("a"), "wrong_type"),
        (json!(["\0"]), "invalid_character"),
    ] {
        assert_eq!(ruled(&tags, json.clone()), Err(code), "{json}");
    }
}

#[test]
fn json_is_limited_in_size_and_free_of_nul() {
    let small = FieldType::Json { max_bytes: 12 };
    assert_eq!(
        ruled(&small, json!({"a": [1, 2]})),
        Ok(Value::Json(json!({"a": [1, 2]})))
    );
    assert_eq!(ruled(&small, json!("0123456789a")), Err("too_long"));
    assert_eq!(ruled(&small, json!({"\0": 1})), Err("invalid_character"));
    assert_eq!(ruled(&small, json!(["a\0"])), Err("invalid_character"));
    assert_eq!(
        ruled(&small, json!(r"\u0000")),
        Ok(Value::Json(json!(r"\u0000")))
    );
}

#[test]
fn phones_and_references_have_a_syntax() {
    let phone = |text: &str| ruled(&FieldType::Phone, json!(text));
    assert!(phone("+49 (0)30 / 123-45 x6").is_ok());
    for text in ["phone", "++", "1", "+49 30 123\u{a0}4", &"1".repeat(41)] {
        assert_eq!(phone(text), Err("invalid_phone"), "{text}");
    }
    let reference = FieldType::Reference {
        module: Ident::from_static("companies"),
        on_delete: OnDelete::default(),
    };
    let id = "018f4e2a-7b6c-7d3e-9a1b-2c3d4e5f6071";
    assert_eq!(
        ruled(&reference, json!(id)),
        Ok(Value::Uuid(id.parse().unwrap()))
    );
    for text in [
        "x",
        &id.replace('-', ""),
        &format!("{{{id}}}"),
        &format!("urn:uuid:{id}"),
    ] {
        assert_eq!(ruled(&reference, json!(text)), Err("invalid_id"), "{text}");
    }
}

proptest! {
    #[test]
    fn a_decimal_keeps_every_digit(unscaled in -999_999_999_999_999_999_i64..=999_999_999_999_999_999, scale in 0_u32..=18) {
        let kind = FieldType::Decimal { precision: 18, scale, bounds: Bounds::NONE };
        let written = Decimal::new(unscaled, scale);
        let read = from_json(&kind, json!(written.to_string())).unwrap();
        prop_assert_eq!(read, Value::Decimal(written));
    }

    #[test]
    fn no_text_makes_a_rule_panic(text in ".{0,70}", precision in 0_u32..40, scale in 0_u32..40) {
        let kinds = [
            FieldType::Decimal { precision, scale, bounds: Bounds::NONE },
            FieldType::Instant(Bounds::NONE),
            FieldType::Date(Bounds::NONE),
            FieldType::Email,
            FieldType::Phone,
        ];
        for kind in kinds {
            let _ = from_json(&kind, json!(text));
        }
    }

    #[test]
    fn no_number_makes_a_decimal_panic(number in any::<f64>(), precision in 0_u32..40, scale in 0_u32..40) {
        let _ = from_json(&FieldType::Decimal { precision, scale, bounds: Bounds::NONE }, json!(number));
        let _ = decimal(&format!("{number:e}"), precision, scale);
    }
}

#[test]
fn a_url_is_absolute_of_the_web_and_of_ascii() {
    let longest = format!("https://example.com/{}", "x".repeat(2_028));
    for text in [
        "https://example.com",
        "HTTP://example.com:8080/a/b?c=d&e=%20#f",
        "https://[2001:db8::1]/",
        "http://localhost",
        &longest,
    ] {
        assert_eq!(
            ruled(&FieldType::Url, json!(text)),
            Ok(Value::Text(text.to_owned()))
        );
    }
    for text in [
        "example.com",
        "//example.com",
        "ftp://example.com",
        "javascript:alert(1)",
        "https:example.com",
        "https://",
        "http://[::1",
        "https://exa mple.com",
        "https://example.com/a\tb",
        "https://example.com\\evil",
        "https://exämple.com/",
        "https://example.com/\"",
        "https://256.256.256.256/",
        &format!("{longest}x"),
    ] {
        assert_eq!(
            ruled(&FieldType::Url, json!(text)),
            Err("invalid_url"),
            "{text}"
        );
    }
}

#[test]
fn a_time_is_one_of_the_clock_to_the_microsecond() {
    let time = FieldType::Time(Bounds::NONE);
    let wire = |text: &str| ruled(&time, json!(text)).map(|value| json!(value));
    for (text, canonical) in [
        ("09:30", "09:30:00"),
        ("00:00:00", "00:00:00"),
        ("23:59:59.999999", "23:59:59.999999"),
        ("12:00:00.5", "12:00:00.500000"),
        ("12:00:00.000", "12:00:00"),
    ] {
        assert_eq!(wire(text), Ok(json!(canonical)));
    }
    for text in [
        "24:00",
        "9:30",
        "09:60",
        "23:59:60",
        "09:30:",
        "09:30:00.",
        "09:30:00.1234567",
        "+9:30",
        "09:30Z",
        "noon",
        "09:30 ",
        "０９:30",
    ] {
        let refused = wire(text);
        let spaced = text.ends_with(' ');
        assert!(
            if spaced {
                refused.is_ok()
            } else {
                refused == Err("invalid_time")
            },
            "{text}"
        );
    }
}

#[test]
fn any_hyphenated_uuid_is_one() {
    let wire = |text: &str| ruled(&FieldType::Uuid, json!(text)).map(|value| json!(value));
    for id in [
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "C232AB00-9414-11EC-B3C8-9F6BDECED846",
    ] {
        assert_eq!(wire(id), Ok(json!(id.to_lowercase())));
    }
    for id in [
        "018f4e2a7b6c7d3e9a1b2c3d4e5f6071",
        "{018f4e2a-7b6c-7d3e-9a1b-2c3d4e5f6071}",
        "x",
    ] {
        assert_eq!(wire(id), Err("invalid_id"), "{id}");
    }
}

#[test]
fn a_long_text_keeps_its_lines() {
    let kind = FieldType::LongText { min: 1, max: 9 };
    assert_eq!(
        ruled(&kind, json!(" a\n\n b\r\nc ")),
        Ok(Value::Text("a\n\n b\r\nc".into()))
    );
    assert_eq!(ruled(&kind, json!("a\nb\nc\nd\ne\n.")), Err("too_long"));
}
