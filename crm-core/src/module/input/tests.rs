use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::module::{ModuleSpec, arbitrary};

const DEALS: &str = r#"
    name = "deals"
    singular = "deal"
    fields = [
        { name = "title", type = "text", required = true },
        { name = "stage", type = "enum", values = ["new", "won"], required = true, default = "new" },
        { name = "amount", type = "decimal", precision = 12, scale = 2 },
        { name = "score", type = "integer", min = 0, max = 100, default = 50 },
        { name = "tags", type = "tags" },
    ]
"#;
const TENANT: TenantId = TenantId(Uuid::from_u128(7));

fn deals() -> CompiledModule {
    CompiledModule::new(ModuleSpec::from_toml(DEALS).unwrap(), 0).unwrap()
}

fn body(json: Json) -> Map<String, Json> {
    json.as_object().unwrap().clone()
}

/// The refusals as `pointer code`.
fn refusals<T: std::fmt::Debug>(result: Result<T>) -> Vec<String> {
    match result {
        Err(Error::Invalid(refused)) => refused
            .iter()
            .map(|error| format!("{} {}", error.pointer, error.code))
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_create_fills_defaults_and_aligns_with_the_fields() {
    let input = create(
        &deals(),
        TENANT,
        body(json!({"amount": 5, "title": " Big one "})),
    )
    .unwrap();
    assert_eq!(
        serde_json::to_value(&input.values).unwrap(),
        json!(["Big one", "new", "5.00", 50, null])
    );
    assert_eq!(input.owner, None);
    let cleared = create(&deals(), TENANT, body(json!({"title": "x", "score": null}))).unwrap();
    assert_eq!(cleared.values[3], Value::Null);
}

#[test]
fn a_required_field_is_neither_absent_nor_null_nor_blank() {
    for sent in [json!({}), json!({"title": null}), json!({"title": " "})] {
        assert_eq!(
            refusals(create(&deals(), TENANT, body(sent))),
            ["/title required"]
        );
    }
    let null = json!({"title": "x", "stage": null});
    assert_eq!(
        refusals(create(&deals(), TENANT, body(null))),
        ["/stage required"]
    );
}

#[test]
fn all_refused_fields_are_reported_at_once() {
    let sent = json!({"amount": "1.234", "score": 101, "tags": "x", "stage": "lost", "nope": 1});
    assert_eq!(
        refusals(create(&deals(), TENANT, body(sent))),
        [
            "/amount too_precise",
            "/nope unknown_field",
            "/score out_of_range",
            "/stage not_allowed",
            "/tags wrong_type",
            "/title required",
        ]
    );
}

#[test]
fn xc_03_an_update_is_partial_and_null_clears() {
    let input = update(
        &deals(),
        TENANT,
        body(json!({"tags": ["a"], "amount": null})),
    )
    .unwrap();
    assert_eq!(
        input.changes,
        [(2, Value::Null), (4, Value::Tags(vec!["a".into()]))]
    );
    assert_eq!(
        refusals(update(&deals(), TENANT, body(json!({"title": null})))),
        ["/title required"]
    );
    assert_eq!(update(&deals(), TENANT, Map::new()).unwrap().changes, []);
}

#[test]
fn xc_04_an_unknown_field_is_named_and_read_only_ones_are_ignored() {
    let sent = json!({"titel": "x", "a/b": 1});
    let Err(Error::Invalid(refused)) = update(&deals(), TENANT, body(sent)) else {
        panic!()
    };
    assert_eq!(refused[0].pointer, "/a~1b");
    assert_eq!(refused[0].message, "is not a field of deals");
    assert_eq!(
        refused[1].message,
        "is not a field of deals; did you mean `title`?"
    );

    let read_back =
        json!({"id": 1, "version": "x", "created_at": null, "updated_at": [], "score": 1});
    let input = update(&deals(), TENANT, body(read_back)).unwrap();
    assert_eq!(input.changes, [(3, Value::Int(1))]);
}

#[test]
fn xc_02_a_tenant_is_refused_unless_it_is_the_callers_own() {
    let own = json!({"tenant_id": TENANT.to_string()});
    assert!(
        update(&deals(), TENANT, body(own))
            .unwrap()
            .changes
            .is_empty()
    );
    for foreign in [json!(Uuid::from_u128(8).to_string()), json!(null), json!(7)] {
        let sent = json!({"tenant_id": foreign});
        assert_eq!(
            refusals(update(&deals(), TENANT, body(sent))),
            ["/tenant_id foreign_tenant"]
        );
    }
}

#[test]
fn the_owner_is_absent_nobody_or_a_user() {
    let owner = |json| update(&deals(), TENANT, body(json)).map(|input| input.owner);
    let user = Uuid::from_u128(9);
    assert_eq!(owner(json!({})).unwrap(), None);
    assert_eq!(owner(json!({"owner_id": null})).unwrap(), Some(None));
    assert_eq!(
        owner(json!({"owner_id": user.to_string()})).unwrap(),
        Some(Some(UserId(user)))
    );
    assert_eq!(
        refusals(owner(json!({"owner_id": "me"}))),
        ["/owner_id invalid_id"]
    );
    assert_eq!(
        refusals(owner(json!({"owner_id": 1}))),
        ["/owner_id wrong_type"]
    );
}

#[test]
fn a_filter_compares_with_typed_values() {
    let parse = |name: &str, text: &str| {
        let module = deals();
        parse_text(&module.field(name).unwrap().kind, text).map_err(|refusal| refusal.code)
    };
    assert_eq!(parse("title", " a "), Ok(Value::Text(" a ".into())));
    assert_eq!(parse("title", ""), Ok(Value::Text(String::new())));
    assert_eq!(parse("title", "\0"), Err("invalid_character"));
    assert_eq!(parse("score", "1000"), Ok(Value::Int(1000)));
    assert_eq!(parse("score", "1.0"), Err("wrong_type"));
    assert_eq!(parse("stage", "new"), Ok(Value::Text("new".into())));
    assert_eq!(parse("stage", "old"), Err("not_allowed"));
    assert_eq!(parse("amount", "1.234"), Err("too_precise"));
    assert_eq!(parse("tags", "a"), Ok(Value::Text("a".into())));
    assert_eq!(parse_text(&FieldType::Bool, "true"), Ok(Value::Bool(true)));
    assert!(parse_text(&FieldType::Bool, "1").is_err());
    assert!(parse_text(&FieldType::Json { max_bytes: 9 }, "1").is_err());
    assert_eq!(
        parse_text(&FieldType::Email, "ada@"),
        Ok(Value::Text("ada@".into()))
    );
}

#[test]
fn a_json_filter_compares_with_typed_values() {
    let integer = FieldType::Integer { min: 0, max: 1 };
    assert_eq!(from_json_filter(&integer, &json!(5)), Ok(Value::Int(5)));
    assert!(from_json_filter(&integer, &json!("5")).is_err());
    assert!(from_json_filter(&FieldType::Bool, &json!("true")).is_err());
    assert_eq!(
        from_json_filter(&FieldType::Date(crate::module::Bounds::NONE), &Json::Null),
        Ok(Value::Null)
    );
    assert!(from_json_filter(&FieldType::Json { max_bytes: 9 }, &json!([])).is_err());
    assert_eq!(
        from_json_filter(&FieldType::Email, &json!("Ada")),
        Ok(Value::Text("Ada".into()))
    );
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        ".{0,12}".prop_map(Json::from),
        "[0-9T:Z.+-]{0,25}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            prop::collection::btree_map(".{0,6}", inner, 0..6)
                .prop_map(|entries| Json::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_body_makes_validation_panic(
        spec in arbitrary::named("things"),
        values in prop::collection::vec(any_json(), 14),
        stranger in ".{0,9}",
    ) {
        let module = CompiledModule::new(spec, 0).unwrap();
        let names = module.fields().iter().map(|field| field.name.to_string());
        let names = names.chain(["owner_id".to_owned(), stranger]);
        let body: Map<_, _> = names.zip(values).collect();
        if let Ok(input) = create(&module, TENANT, body.clone()) {
            prop_assert_eq!(input.values.len(), module.fields().len());
        }
        let _ = update(&module, TENANT, body.clone());
        for (field, json) in module.fields().iter().zip(body.values()) {
            let _ = from_json_filter(&field.kind, json);
            let _ = parse_text(&field.kind, &json.to_string());
        }
    }

    #[test]
    fn what_a_client_read_it_may_send_back(spec in arbitrary::named("things")) {
        let module = CompiledModule::new(spec, 0).unwrap();
        let defaults: Vec<_> = (0..module.fields().len()).map(|at| module.default_of(at).clone()).collect();
        let read = module.fields().iter().zip(&defaults).filter(|(field, value)| !(field.required && value.is_null()));
        let body = read.map(|(field, value)| (field.name.to_string(), json!(value))).collect();
        let sent: Vec<_> = update(&module, TENANT, body).unwrap().changes;
        for (position, value) in sent {
            prop_assert_eq!(&value, &defaults[position]);
        }
    }
}
