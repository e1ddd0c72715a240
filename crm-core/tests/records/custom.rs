//! What fields of tenants' own promise: they behave as declared ones do, and nobody else has them.

use super::lists::filters_mean_the_same;
use super::*;
use crm_core::custom::CustomField;
use crm_core::module::FieldSpec;
use crm_core::value::Value;

on_both_databases!(
    a_filter_on_custom_fields_means_the_same_in_memory_and_in_sql,
    a_custom_field_of_any_type_is_kept_exactly,
    two_tenants_have_different_fields_of_one_name,
    a_changed_declaration_keeps_custom_values_and_indexes,
);

/// A module with little of its own.
pub(super) const BARE: &str = r#"
name = "bare"
singular = "bare_one"
fields = [{ name = "anchor", type = "text" }]
"#;

pub(super) fn field(json: Json) -> FieldSpec {
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
    pub(super) async fn with_things(&self) -> anyhow::Result<Scope> {
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
