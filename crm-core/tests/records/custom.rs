//! What fields of tenants' own promise: they behave as declared ones do, and nobody else has them.

use std::cmp::Ordering;

use super::lists::filters_mean_the_same;
use super::*;
use crm_core::custom::{CustomField, FieldChange};
use crm_core::module::FieldSpec;
use crm_core::record::{Aggregate, GroupKey, Metric};
use crm_core::value::Value;

on_both_databases!(
    a_filter_on_custom_fields_means_the_same_in_memory_and_in_sql,
    a_custom_field_of_any_type_is_kept_exactly,
    pages_in_the_order_of_a_custom_field_hold_each_record_once,
    two_tenants_have_different_fields_of_one_name,
    a_removed_field_is_gone_at_once_and_its_values_stay_until_they_are_purged,
    a_required_field_holds_for_records_to_come,
    a_unique_field_is_unique_in_its_tenant_and_a_key_of_upserts,
    aggregates_and_search_and_events_see_custom_fields,
    declarations_that_cannot_be_are_refused_by_name,
    a_tenant_adds_a_hundred_fields_to_a_module_and_no_more,
    every_change_of_the_fields_is_audited_and_needs_its_permission,
    a_changed_declaration_keeps_custom_values_and_indexes,
);

/// A module with little of its own.
pub(super) const BARE: &str = r#"
name = "bare"
singular = "bare_one"
fields = [{ name = "anchor", type = "text" }]
"#;

fn field(json: Json) -> FieldSpec {
    serde_json::from_value(json).expect("a declaration")
}

impl Fixture {
    /// The operator with the tenant's fields as they are now.
    pub(super) async fn operator_in(&self, tenant: TenantId) -> crm_core::Result<Scope> {
        self.crm.operator_in(tenant, request()).await
    }

    pub(super) async fn declare(
        &self,
        tenant: TenantId,
        module: &str,
        json: Json,
    ) -> crm_core::Result<CustomField> {
        let permit = self
            .operator_in(tenant)
            .await?
            .permit::<Update>("modules")?;
        let fields = self.crm.custom_fields();
        fields.declare(&permit, module, field(json)).await
    }

    pub(super) async fn remove(
        &self,
        tenant: TenantId,
        module: &str,
        name: &str,
    ) -> crm_core::Result<()> {
        let permit = self
            .operator_in(tenant)
            .await?
            .permit::<Update>("modules")?;
        self.crm.custom_fields().remove(&permit, module, name).await
    }

    pub(super) async fn purge(
        &self,
        tenant: TenantId,
        module: &str,
        name: &str,
    ) -> crm_core::Result<u64> {
        let permit = self
            .operator_in(tenant)
            .await?
            .permit::<Delete>("modules")?;
        self.crm.custom_fields().purge(&permit, module, name).await
    }

    pub(super) async fn rival(&self) -> crm_core::Result<TenantId> {
        Ok(self.crm.tenants().create("Rival", request()).await?.id)
    }

    /// The things' fields as custom fields of the bare module.
    async fn with_things(&self) -> anyhow::Result<Scope> {
        for spec in ModuleSpec::from_toml(THINGS)?.fields {
            self.declare(self.tenant, "bare", serde_json::to_value(spec)?)
                .await?;
        }
        Ok(self.operator_in(self.tenant).await?)
    }

    /// The records that one comparison of the query string finds.
    pub(super) async fn found(
        &self,
        scope: &Scope,
        module: &str,
        (name, op, text): (&str, &str, &str),
    ) -> crm_core::Result<Vec<RecordId>> {
        let compiled = scope.module(module).ok_or(Error::NotFound)?;
        let filter = Filter::parse(compiled, name, op, text);
        let query = Query {
            filter: Some(filter.map_err(|error| Error::Invalid(vec![error]))?),
            ..Query::default()
        };
        self.ids(scope, module, &query).await
    }
}

/// The codes of what an input is refused for.
pub(super) fn refusals<T: std::fmt::Debug>(
    result: crm_core::Result<T>,
) -> Vec<(String, &'static str)> {
    match result {
        Err(Error::Invalid(refused)) => refused.into_iter().map(|f| (f.pointer, f.code)).collect(),
        other => panic!("not refused input: {other:?}"),
    }
}

async fn a_filter_on_custom_fields_means_the_same_in_memory_and_in_sql(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.with_things().await?;
    filters_mean_the_same(&it, &scope, "bare").await
}

async fn a_custom_field_of_any_type_is_kept_exactly(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.with_things().await?;
    let input = json!({
        "anchor": "a", "title": "quote ' and \\ and \u{1F600}", "email": "X@y.example",
        "number": i64::MAX, "price": "-99999999.99", "done": false, "due": "0001-01-01",
        "at": "9999-12-31T23:59:59.999999Z", "stage": "old", "tags": ["b", "a,\"'"],
        "extra": {"deep": [1.5, null, {"f1": "x"}]},
    });
    let made = it.create(&scope, "bare", input.clone()).await?;
    let read = it.get(&scope, "bare", made.id).await?;
    assert_eq!(read.to_json(), made.to_json());
    let wire: Json = serde_json::from_str(&read.to_json())?;
    for (name, value) in body(input) {
        assert_eq!(wire[&name], value, "{name}");
    }
    let other = json!({"number": i64::MIN, "price": "0.00", "at": "1969-12-31T23:59:59.999999Z",
        "due": "9999-12-31", "done": true, "tags": [], "extra": [1], "title": null});
    let changed = it.update(&scope, &read, Some(1), other.clone()).await?;
    let read = it.get(&scope, "bare", made.id).await?;
    assert_eq!((read.to_json(), read.version), (changed.to_json(), 2));
    let wire: Json = serde_json::from_str(&read.to_json())?;
    for (name, value) in body(other) {
        assert_eq!(wire[&name], value, "{name}");
    }
    assert_eq!(wire["email"], "X@y.example", "what was not named stays");
    // The declared modules alone, as an operator without the tenant's fields sees them.
    let plain = it.get(&it.operator(), "bare", made.id).await?;
    assert_eq!(plain.get("anchor"), Some(&Value::Text("a".into())));
    assert_eq!(plain.get("number"), None);
    let plain = it
        .update(&it.operator(), &plain, None, json!({"anchor": "b"}))
        .await?;
    let read = it.get(&scope, "bare", plain.id).await?;
    assert_eq!(
        read.get("number"),
        Some(&Value::Int(i64::MIN)),
        "it was not lost"
    );
    Ok(())
}

fn order(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Greater,
        (_, Value::Null) => Ordering::Less,
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Decimal(a), Value::Decimal(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Date(a), Value::Date(b)) => a.cmp(b),
        (Value::Instant(a), Value::Instant(b)) => a.cmp(b),
        other => panic!("not of one type: {other:?}"),
    }
}

async fn pages_in_the_order_of_a_custom_field_hold_each_record_once(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    it.declare(
        it.tenant,
        "bare",
        json!({"name": "code", "type": "text", "unique": true, "sort": true}),
    )
    .await?;
    let scope = it.with_things().await?;
    for n in 0..23_i64 {
        let some = |step: i64, value: Json| if n % step == 0 { Json::Null } else { value };
        let input = json!({
            "anchor": format!("{}", n % 2),
            "title": some(5, json!(["b", "a", "A", "é"][(n % 4) as usize])),
            "number": some(3, json!(n * 7 % 5 - 2)),
            "price": some(4, json!(["9.50", "10.00", "-1.25"][(n % 3) as usize])),
            "due": some(6, json!(format!("2025-01-0{}", 1 + n % 3))),
            "at": some(7, json!(format!("19{}9-01-01T00:00:00.00000{}Z", 5 + n % 4, n % 2))),
            "code": some(2, json!(format!("c{}", n * 7 % 23))),
        });
        it.create(&scope, "bare", input).await?;
    }
    let module = scope.module("bare").context("declared")?;
    let permit = scope.permit::<Read>("bare")?;
    let whole = Query {
        limit: 100,
        ..Query::default()
    };
    let all = it.crm.records().list(&permit, &whole).await?.data;
    for sort in [
        "title",
        "number",
        "price",
        "due",
        "at",
        "code",
        "number,-title",
        "-due,at",
    ] {
        for down in [false, true] {
            let keys: Vec<(&str, bool)> = sort
                .split(',')
                .map(|key| (key.trim_start_matches('-'), key.starts_with('-') != down))
                .collect();
            let text: Vec<_> = keys
                .iter()
                .map(|(name, down)| format!("{}{name}", if *down { "-" } else { "" }))
                .collect();
            let mut expected: Vec<&Record> = all.iter().collect();
            expected.sort_by(|a, b| {
                for (name, down) in &keys {
                    let (a, b) = (a.get(name), b.get(name));
                    let (a, b) = (a.expect("declared"), b.expect("declared"));
                    let order = match (a.is_null() || b.is_null(), down) {
                        (false, true) => order(b, a),
                        _ => order(a, b),
                    };
                    if order != Ordering::Equal {
                        return order;
                    }
                }
                let last_down = keys.last().is_some_and(|(_, down)| *down);
                if last_down {
                    b.id.cmp(&a.id)
                } else {
                    a.id.cmp(&b.id)
                }
            });
            let mut query = Query {
                limit: 4,
                sort: Sort::parse_list(module, &text.join(","))
                    .map_err(|e| Error::Invalid(vec![e]))?,
                ..Query::default()
            };
            let mut seen = Vec::new();
            loop {
                let page = it.crm.records().list(&permit, &query).await?;
                seen.extend(page.data.iter().map(|record| record.id));
                query.cursor = page.next_cursor;
                if query.cursor.is_none() {
                    break;
                }
            }
            let expected: Vec<_> = expected.iter().map(|record| record.id).collect();
            assert_eq!(seen, expected, "{text:?}");
        }
    }
    // A cursor does not outlive the fields it may stand for.
    let query = Query {
        limit: 1,
        sort: Sort::parse_list(module, "number").map_err(|e| Error::Invalid(vec![e]))?,
        ..Query::default()
    };
    let cursor = it.crm.records().list(&permit, &query).await?.next_cursor;
    it.remove(it.tenant, "bare", "title").await?;
    let scope = it.operator_in(it.tenant).await?;
    let module = scope.module("bare").context("declared")?;
    let query = Query {
        cursor,
        sort: Sort::parse_list(module, "number").map_err(|e| Error::Invalid(vec![e]))?,
        ..query
    };
    assert_eq!(
        code(it.ids(&scope, "bare", &query).await),
        "validation_failed"
    );
    Ok(())
}

async fn two_tenants_have_different_fields_of_one_name(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let rival = it.rival().await?;
    it.declare(
        it.tenant,
        "contacts",
        json!({"name": "rank", "type": "integer", "sort": true}),
    )
    .await?;
    it.declare(
        it.tenant,
        "contacts",
        json!({"name": "only_ours", "type": "text", "sort": true, "search": true}),
    )
    .await?;
    it.declare(
        rival,
        "contacts",
        json!({"name": "rank", "type": "enum", "values": ["low", "high"]}),
    )
    .await?;
    let (ours, theirs) = (
        it.operator_in(it.tenant).await?,
        it.operator_in(rival).await?,
    );
    let a = json!({"name": "Ada", "rank": 7, "only_ours": "secret"});
    let a = it.create(&ours, "contacts", a).await?;
    let b = it
        .create(&theirs, "contacts", json!({"name": "Bob", "rank": "high"}))
        .await?;
    assert_eq!(
        it.found(&ours, "contacts", ("rank", "gte", "7")).await?,
        [a.id]
    );
    assert_eq!(
        it.found(&theirs, "contacts", ("rank", "in", "high,low"))
            .await?,
        [b.id]
    );
    let refused = it
        .create(&ours, "contacts", json!({"name": "x", "rank": "high"}))
        .await;
    assert_eq!(refusals(refused), [("/rank".to_owned(), "wrong_type")]);

    // The other tenant's fields are no fields: not to write, filter, sort, find or read.
    let refused = it
        .create(&theirs, "contacts", json!({"name": "x", "only_ours": "y"}))
        .await;
    assert_eq!(
        refusals(refused),
        [("/only_ours".to_owned(), "unknown_field")]
    );
    let refused = it
        .found(&theirs, "contacts", ("only_ours", "eq", "secret"))
        .await;
    assert_eq!(
        refusals(refused),
        [("/only_ours".to_owned(), "unknown_field")]
    );
    let module = theirs.module("contacts").context("declared")?;
    for sort in ["only_ours", "rank"] {
        let refused = Sort::parse(module, sort).map_err(|error| error.code);
        assert_eq!(refused, Err("unknown_field"), "{sort}");
    }
    let search = Query {
        search: Some("secret".into()),
        ..Query::default()
    };
    assert_eq!(it.ids(&ours, "contacts", &search).await?, [a.id]);
    assert!(it.ids(&theirs, "contacts", &search).await?.is_empty());
    let read = it.get(&theirs, "contacts", b.id).await?.to_json();
    assert!(!read.contains("only_ours"), "{read}");
    assert_eq!(code(it.get(&theirs, "contacts", a.id).await), "not_found");
    Ok(())
}

async fn a_removed_field_is_gone_at_once_and_its_values_stay_until_they_are_purged(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let plan = json!({"name": "plan", "type": "enum", "values": ["free", "paid"], "sort": true});
    it.declare(it.tenant, "bare", plan.clone()).await?;
    let scope = it.operator_in(it.tenant).await?;
    let one = it.create(&scope, "bare", json!({"plan": "paid"})).await?;
    it.create(&scope, "bare", json!({})).await?;
    assert_eq!(
        code(it.purge(it.tenant, "bare", "plan").await),
        "field_in_use"
    );
    it.remove(it.tenant, "bare", "plan").await?;
    assert_eq!(
        code(it.remove(it.tenant, "bare", "plan").await),
        "not_found"
    );
    let scope = it.operator_in(it.tenant).await?;
    let refused = it.found(&scope, "bare", ("plan", "eq", "paid")).await;
    assert_eq!(refusals(refused), [("/plan".to_owned(), "unknown_field")]);
    assert_eq!(it.get(&scope, "bare", one.id).await?.get("plan"), None);

    // Another type has to wait, the same one finds its values again.
    let other = json!({"name": "plan", "type": "integer"});
    assert_eq!(
        code(it.declare(it.tenant, "bare", other.clone()).await),
        "field_not_purged"
    );
    let fewer = json!({"name": "plan", "type": "enum", "values": ["free"]});
    assert_eq!(
        code(it.declare(it.tenant, "bare", fewer).await),
        "field_not_purged"
    );
    it.declare(it.tenant, "bare", plan.clone()).await?;
    let scope = it.operator_in(it.tenant).await?;
    assert_eq!(
        it.found(&scope, "bare", ("plan", "eq", "paid")).await?,
        [one.id]
    );

    it.remove(it.tenant, "bare", "plan").await?;
    assert_eq!(it.purge(it.tenant, "bare", "plan").await?, 1);
    assert_eq!(code(it.purge(it.tenant, "bare", "plan").await), "not_found");
    it.declare(it.tenant, "bare", other).await?;
    let scope = it.operator_in(it.tenant).await?;
    let read = it.get(&scope, "bare", one.id).await?;
    assert_eq!((read.get("plan"), read.version), (Some(&Value::Null), 1));
    Ok(())
}

async fn a_required_field_holds_for_records_to_come(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let before = it
        .create(&it.operator(), "bare", json!({"anchor": "a"}))
        .await?;
    let size = json!({"name": "size", "type": "integer", "required": true, "sort": true});
    it.declare(it.tenant, "bare", size).await?;
    let scope = it.operator_in(it.tenant).await?;
    let refused = it.create(&scope, "bare", json!({"anchor": "b"})).await;
    assert_eq!(refusals(refused), [("/size".to_owned(), "required")]);
    let after = it.create(&scope, "bare", json!({"size": 3})).await?;
    let refused = it.update(&scope, &after, None, json!({"size": null})).await;
    assert_eq!(refusals(refused), [("/size".to_owned(), "required")]);
    it.update(&scope, &before, None, json!({"anchor": "c"}))
        .await?;
    let module = scope.module("bare").context("declared")?;
    let sorted = Query {
        sort: Sort::parse(module, "-size")
            .map_err(|e| Error::Invalid(vec![e]))?
            .into(),
        ..Query::default()
    };
    assert_eq!(
        it.ids(&scope, "bare", &sorted).await?,
        [after.id, before.id]
    );

    let permit = scope.permit::<Update>("modules")?;
    let change = FieldChange {
        default: Some(Some(json!(9))),
        description: Some("How large.".into()),
        ..FieldChange::default()
    };
    let fields = it.crm.custom_fields();
    let changed = fields.change(&permit, "bare", "size", change).await?;
    assert_eq!(changed.spec.description, "How large.");
    let scope = it.operator_in(it.tenant).await?;
    let defaulted = it.create(&scope, "bare", json!({})).await?;
    assert_eq!(defaulted.get("size"), Some(&Value::Int(9)));
    for (change, pointer, code) in [
        (
            FieldChange {
                default: Some(Some(json!("x"))),
                ..FieldChange::default()
            },
            "/default",
            "wrong_type",
        ),
        (
            FieldChange {
                values: Some(vec!["a".into()]),
                ..FieldChange::default()
            },
            "/values",
            "not_supported",
        ),
    ] {
        let refused = fields.change(&permit, "bare", "size", change).await;
        assert_eq!(refusals(refused), [(pointer.to_owned(), code)]);
    }
    let absent = fields
        .change(&permit, "bare", "anchor", FieldChange::default())
        .await;
    assert_eq!(code(absent), "not_found");
    Ok(())
}

async fn a_unique_field_is_unique_in_its_tenant_and_a_key_of_upserts(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let rival = it.rival().await?;
    for tenant in [it.tenant, rival] {
        let number = json!({"name": "member_number", "type": "email", "unique": true});
        assert!(it.declare(tenant, "bare", number).await?.indexed);
    }
    let (ours, theirs) = (
        it.operator_in(it.tenant).await?,
        it.operator_in(rival).await?,
    );
    let input = |text: &str| json!({"member_number": text});
    it.create(&ours, "bare", input("a@b.example")).await?;
    it.create(&theirs, "bare", input("a@b.example")).await?;
    it.create(&ours, "bare", json!({})).await?;
    it.create(&ours, "bare", json!({})).await?;
    let taken = it.create(&ours, "bare", input("A@B.example")).await;
    let message = taken
        .as_ref()
        .map_or_else(|e| e.to_string(), |_| String::new());
    assert!(message.contains("member_number"), "{message}");
    assert_eq!(code(taken), "already_exists");

    let body = body(json!({"member_number": "A@b.example", "anchor": "found"}));
    let (create, update) = (
        ours.permit::<Create>("bare")?,
        ours.permit::<Update>("bare")?,
    );
    let records = it.crm.records();
    let written = records
        .upsert(&create, &update, "member_number", body)
        .await?;
    assert_eq!(written.record.version, 2);
    assert_eq!(
        written.record.get("anchor"),
        Some(&Value::Text("found".into()))
    );
    Ok(())
}

async fn aggregates_and_search_and_events_see_custom_fields(
    backend: Backend,
) -> anyhow::Result<()> {
    let collector = Arc::new(Collector::default());
    let it = Fixture::with(backend, Some(collector.clone())).await?;
    let scope = it.with_things().await?;
    for (title, price, at) in [
        ("red", "1.50", "2024-02-29T12:00:00Z"),
        ("red", "2.25", "2024-03-01T00:00:00Z"),
        ("blue", "10.00", "1969-12-31T23:59:59Z"),
    ] {
        let input = json!({"title": title, "price": price, "at": at, "tags": ["hue", title]});
        it.create(&scope, "bare", input).await?;
    }
    let module = scope.module("bare").context("declared")?;
    let refuse = |error| Error::Invalid(vec![error]);
    let ask = Aggregate {
        group_by: vec![GroupKey::parse(module, "title").map_err(refuse)?],
        metrics: ["sum:price", "avg:price", "max:at", "count:due"]
            .iter()
            .map(|text| Metric::parse(module, text).map_err(refuse))
            .collect::<Result<_, _>>()?,
        ..Aggregate::default()
    };
    let permit = scope.permit::<Read>("bare")?;
    let groups = it.crm.records().aggregate(&permit, &ask).await?.data;
    let wire: Vec<_> = groups
        .iter()
        .map(|group| json!([group.keys, group.metrics]))
        .collect();
    let expected = json!([
        [["blue"], ["10.00", "10", "1969-12-31T23:59:59Z", 0]],
        [["red"], ["3.75", "1.875", "2024-03-01T00:00:00Z", 0]],
    ]);
    assert_eq!(json!(wire), expected);
    let by_month = Aggregate {
        group_by: vec![GroupKey::parse(module, "at:month").map_err(refuse)?],
        metrics: vec![Metric::parse(module, "count").map_err(refuse)?],
        ..Aggregate::default()
    };
    let groups = it.crm.records().aggregate(&permit, &by_month).await?.data;
    let months: Vec<_> = groups.iter().map(|group| json!(group.keys[0])).collect();
    assert_eq!(json!(months), json!(["1969-12", "2024-02", "2024-03"]));

    let search = Query {
        search: Some("BLU".into()),
        ..Query::default()
    };
    assert_eq!(it.ids(&scope, "bare", &search).await?.len(), 1);
    it.crm.dispatch_once().await?;
    let events = collector.take();
    let after = events.iter().filter_map(|event| event.after.as_ref());
    assert_eq!(
        after
            .filter(|after| after.to_string().contains("\"hue\""))
            .count(),
        3
    );
    Ok(())
}

async fn declarations_that_cannot_be_are_refused_by_name(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    for (json, pointer, code) in [
        (
            json!({"name": "email", "type": "text"}),
            "/name",
            "duplicate",
        ),
        (
            json!({"name": "version", "type": "text"}),
            "/name",
            "reserved",
        ),
        (json!({"name": "sort", "type": "text"}), "/name", "reserved"),
        (
            json!({"name": "company_id_expanded", "type": "text"}),
            "/name",
            "reserved",
        ),
        (
            json!({"name": "custom", "type": "text"}),
            "/name",
            "reserved",
        ),
        (
            json!({"name": "a", "type": "text", "max": 0}),
            "/max",
            "out_of_range",
        ),
        (
            json!({"name": "a", "type": "json", "sort": true}),
            "/sort",
            "not_supported",
        ),
        (
            json!({"name": "a", "type": "bool", "default": 1}),
            "/default",
            "wrong_type",
        ),
        (
            json!({"name": "a", "type": "references", "module": "deals"}),
            "/type",
            "not_supported",
        ),
    ] {
        let refused = refusals(it.declare(it.tenant, "contacts", json.clone()).await);
        assert_eq!(refused, [(pointer.to_owned(), code)], "{json}");
    }
    let text = json!({"name": "a", "type": "text"});
    it.declare(it.tenant, "contacts", text.clone()).await?;
    assert_eq!(
        code(it.declare(it.tenant, "contacts", text.clone()).await),
        "already_exists"
    );
    assert_eq!(
        code(it.declare(it.tenant, "members", text.clone()).await),
        "not_found"
    );
    assert_eq!(
        code(it.declare(it.tenant, "nothing", text).await),
        "not_found"
    );
    Ok(())
}

async fn a_tenant_adds_a_hundred_fields_to_a_module_and_no_more(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    for n in 0..100 {
        let json = json!({"name": format!("f{n}"), "type": "integer", "sort": n < 32});
        it.declare(it.tenant, "bare", json).await?;
    }
    let extra = json!({"name": "extra", "type": "text"});
    assert_eq!(
        code(it.declare(it.tenant, "bare", extra.clone()).await),
        "too_many_fields"
    );
    let scope = it.operator_in(it.tenant).await?;
    let values: Body = (0..100).map(|n| (format!("f{n}"), json!(n))).collect();
    let made = it.create(&scope, "bare", Json::Object(values)).await?;
    assert_eq!(made.get("f99"), Some(&Value::Int(99)));
    assert_eq!(
        it.found(&scope, "bare", ("f31", "eq", "31")).await?,
        [made.id]
    );

    it.remove(it.tenant, "bare", "f99").await?;
    assert_eq!(
        code(it.declare(it.tenant, "bare", extra.clone()).await),
        "too_many_fields"
    );
    assert_eq!(it.purge(it.tenant, "bare", "f99").await?, 1);
    let sorted = json!({"name": "extra", "type": "text", "sort": true});
    assert_eq!(
        code(it.declare(it.tenant, "bare", sorted.clone()).await),
        "too_many_indexes"
    );
    it.remove(it.tenant, "bare", "f0").await?;
    it.declare(it.tenant, "bare", sorted).await?;
    Ok(())
}

async fn every_change_of_the_fields_is_audited_and_needs_its_permission(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    for role in ["member", "viewer"] {
        let (scope, _) = it.member(role).await?;
        assert_eq!(
            code(scope.permit::<Update>("modules")),
            "forbidden",
            "{role}"
        );
        assert_eq!(
            code(scope.permit::<Delete>("modules")),
            "forbidden",
            "{role}"
        );
    }
    let (admin, _) = it.member("admin").await?;
    let permit = admin.permit::<Update>("modules")?;
    let fields = it.crm.custom_fields();
    let spec = field(json!({"name": "plan", "type": "text"}));
    fields.declare(&permit, "contacts", spec).await?;
    fields.remove(&permit, "contacts", "plan").await?;
    let purged = fields
        .purge(&admin.permit::<Delete>("modules")?, "contacts", "plan")
        .await?;
    assert_eq!(purged, 0);
    let entries = it.audit().await?;
    let of_fields: Vec<_> = entries
        .iter()
        .filter(|entry| entry.entity == "modules")
        .map(|entry| (entry.action.as_str(), entry.entity_id.as_deref()))
        .collect();
    let plan = Some("contacts.plan");
    let mut expected = [
        ("modules.update", plan),
        ("modules.update", plan),
        ("modules.delete", plan),
    ];
    expected.reverse();
    assert_eq!(of_fields, expected);
    Ok(())
}

async fn a_changed_declaration_keeps_custom_values_and_indexes(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    for (name, kind) in [("code", "unique"), ("size", "sort")] {
        let json = json!({"name": name, "type": "integer", kind: true});
        it.declare(it.tenant, "bare", json).await?;
    }
    let scope = it.operator_in(it.tenant).await?;
    let made = it
        .create(&scope, "bare", json!({"anchor": "x", "code": 1, "size": 5}))
        .await?;
    it.crm.close().await;

    // Another rule of a declared field, which makes the table anew on SQLite; and a declared field
    // of a custom one's name, which hides it.
    let bare = BARE.replace(
        "type = \"text\" }",
        "type = \"text\", max = 10 }, { name = \"size\", type = \"date\" }",
    );
    let start = DateTime::parse_from_rfc3339("2025-02-15T09:30:00Z")?.to_utc();
    let crm = Crm::builder()
        .database(it._backend.url())
        .database_options(crm_core::testing::database_options())
        .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
        .clock(Clock::fixed(start, 2).0)
        .modules(default_modules())
        .modules([ModuleSpec::from_toml(&bare)?])
        .build()
        .await?;
    let it = Fixture {
        crm,
        tenant: it.tenant,
        _backend: it._backend,
    };
    let scope = it.operator_in(it.tenant).await?;
    let read = it.get(&scope, "bare", made.id).await?;
    assert_eq!(read.get("code"), Some(&Value::Int(1)));
    assert_eq!(read.get("size"), Some(&Value::Null), "the declared one");
    let taken = it.create(&scope, "bare", json!({"code": 1})).await;
    assert_eq!(code(taken), "already_exists");
    Ok(())
}
