//! Random declarations for property tests.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{
    Bounds, FieldSpec, FieldType, Ident, ModuleSpec, MoneyCurrency, OnDelete, SearchMode, check,
};

/// Names that are hard on SQL: keywords, long ones, ones that look alike.
fn name() -> impl Strategy<Value = Ident> {
    prop_oneof![
        prop::sample::select(vec![
            "select", "order", "group", "table", "user", "index", "unique", "a", "a_b", "b"
        ])
        .prop_map(str::to_owned),
        "[a-z][a-z0-9_]{0,12}",
        "[a-z][a-z0-9_]{40,47}",
    ]
    .prop_map(|text| text.parse().unwrap())
}

/// A type with a default that keeps its rules.
fn kind(module: Ident) -> impl Strategy<Value = (FieldType, Json)> {
    let text = r"[ -~äß漢\n]{1,20}".prop_map(|text: String| Json::from(text));
    let values = prop::collection::btree_set("[A-Za-z0-9_.-]{1,5}( [A-Za-z0-9]{1,5})?", 1..6)
        .prop_map(|values| values.into_iter().collect::<Vec<_>>());
    let rule = prop_oneof![
        Just(OnDelete::Restrict),
        Just(OnDelete::Cascade),
        Just(OnDelete::SetNull),
    ];
    prop_oneof![
        (1_u32..3, 20_u32..600, "[a-zäß'\\\\ ]{3,20}z")
            .prop_map(|(min, max, text)| (FieldType::Text { min, max }, text.into())),
        (40_u32..100_000, text.clone())
            .prop_map(|(max, default)| (FieldType::LongText { min: 1, max }, default)),
        (1_u32..=18, 0_u32..=18).prop_map(|(precision, scale)| {
            let scale = scale.min(precision);
            let kind = FieldType::Money {
                precision,
                scale,
                bounds: Bounds::NONE,
                currency: MoneyCurrency::Fixed("JPY".to_owned()),
            };
            let default = if scale == precision { "0" } else { "-7" };
            (kind, default.into())
        }),
        Just((FieldType::Zoned, json!("2026-03-01T09:30[Europe/Berlin]"))),
        (1_u32..=4_096).prop_map(|dimensions| (FieldType::Vector { dimensions }, Json::Null)),
        Just((FieldType::Currency, json!("eur"))),
        Just((FieldType::Url, json!("https://example.com/o'brien?a=%20"))),
        any::<u128>().prop_map(|id| (
            FieldType::Uuid,
            uuid::Uuid::from_u128(id).to_string().into()
        )),
        prop::collection::btree_set(0_u32..86_400, 3..4).prop_map(|seconds| {
            let times = seconds
                .into_iter()
                .map(|at| chrono::NaiveTime::from_num_seconds_from_midnight_opt(at, 0).unwrap());
            let times: Vec<_> = times.collect();
            let bounds = Bounds {
                min: Some(times[0]),
                max: Some(times[2]),
            };
            (FieldType::Time(bounds), times[1].to_string().into())
        }),
        Just((FieldType::Time(Bounds::NONE), json!("23:59:59.999999"))),
        Just((FieldType::Email, json!("o'brien@example.com"))),
        Just((FieldType::Phone, json!("+1 (555) 12-34"))),
        (any::<i64>(), any::<i64>(), any::<i64>()).prop_map(|(a, b, c)| {
            let mut bounds = [a, b, c];
            bounds.sort_unstable();
            (
                FieldType::Integer {
                    min: bounds[0],
                    max: bounds[2],
                },
                bounds[1].into(),
            )
        }),
        Just((
            FieldType::Integer {
                min: i64::MIN,
                max: i64::MAX
            },
            json!(i64::MIN)
        )),
        (1_u32..=18, 0_u32..=18).prop_map(|(precision, scale)| {
            let scale = scale.min(precision);
            let default = if scale == precision { "-0" } else { "-1.0" };
            let bounds = Bounds {
                min: Some(rust_decimal::Decimal::from(-1)).filter(|_| scale < precision),
                max: None,
            };
            let kind = FieldType::Decimal {
                precision,
                scale,
                bounds,
            };
            (kind, default.into())
        }),
        any::<bool>().prop_map(|default| (FieldType::Bool, default.into())),
        Just((
            FieldType::Instant(Bounds {
                min: None,
                max: Some(chrono::DateTime::UNIX_EPOCH),
            }),
            json!("1969-12-31T23:59:59.000001+01:00")
        )),
        Just((FieldType::Date(Bounds::NONE), json!("0001-02-28"))),
        Just((
            FieldType::Date(Bounds {
                min: chrono::NaiveDate::from_ymd_opt(2024, 2, 29),
                max: chrono::NaiveDate::from_ymd_opt(9999, 12, 31),
            }),
            json!("2024-02-29")
        )),
        values.prop_map(|values| {
            let default = values[0].clone().into();
            (FieldType::Enum { values }, default)
        }),
        (1_u32..9, text.clone()).prop_filter_map("an empty tag", |(max_items, tag)| {
            let empty = tag.as_str().is_none_or(|tag| tag.trim().is_empty());
            (!empty).then(|| {
                (
                    FieldType::Tags {
                        max_items,
                        max_length: 20,
                    },
                    json!([tag]),
                )
            })
        }),
        text.prop_map(|text| (FieldType::Json { max_bytes: 900 }, json!({ "k'\\": text }))),
        rule.prop_map(move |on_delete| {
            let module = module.clone();
            (FieldType::Reference { module, on_delete }, Json::Null)
        }),
    ]
}

fn field(module: Ident) -> impl Strategy<Value = FieldSpec> {
    let flags = any::<(bool, bool, bool, bool, bool)>();
    (name(), kind(module), flags, any::<bool>()).prop_map(
        |(name, (kind, default), (required, unique, search, sort, with_default), folds)| {
            let textual = kind.is_text();
            let reference = matches!(kind, FieldType::Reference { .. });
            let ordered = kind.is_ordered();
            FieldSpec {
                required: required && !reference,
                unique: unique && textual && ordered,
                search: search && textual,
                sort: sort && ordered,
                default: Some(default).filter(|default| with_default && !default.is_null()),
                ignore_case: folds && matches!(kind, FieldType::Text { .. }),
                ..FieldSpec::new(name, kind)
            }
        },
    )
}

/// A declaration called `name` that passes [`check`].
pub(crate) fn named(module: &'static str) -> impl Strategy<Value = ModuleSpec> {
    let name = Ident::from_static(module);
    let fields = prop::collection::vec(field(name.clone()), 1..12);
    (fields, any::<prop::sample::Index>()).prop_filter_map("refused", move |(mut fields, at)| {
        let mut seen = std::collections::HashSet::new();
        fields.retain(|field| seen.insert(field.name.clone()));
        let mut index = vec![at.get(&fields).name.clone(), fields[0].name.clone()];
        index.dedup();
        let mut spec = ModuleSpec {
            name: name.clone(),
            singular: name.clone(),
            description: String::new(),
            fields,
            search: SearchMode::default(),
            indexes: vec![index],
            machines: Vec::new(),
            soft_delete: at.index(3) == 0,
            require_version: false,
            key: None,
            parent: None,
            duplicates: Vec::new(),
            aggregate_ttl: None,
        };
        if check(&spec).is_err() {
            spec.indexes.clear();
        }
        if at.index(5) == 0 {
            spec.duplicates = spec.indexes.clone();
        }
        if at.index(2) == 0 {
            spec.search = SearchMode::Indexed;
            if check(&spec).is_err() {
                spec.search = SearchMode::Scan;
            }
        }
        check(&spec).is_ok().then_some(spec)
    })
}
