//! What a changed declaration promises about the records that are there: a rule that they break is
//! refused by module, field and number, and nothing is touched.

use super::*;
use crm_core::{Registry, Schema};

on_both_databases!(
    rules_that_records_break_are_refused_with_their_number_and_nothing_changes,
    a_required_field_is_added_to_a_table_without_records,
    what_tenants_have_of_a_declared_name_is_told_with_the_tenants,
);

const JARS: &str = r#"
name = "jars"
singular = "jar"
soft_delete = true
fields = [
    { name = "label", type = "text", max = 9 },
    { name = "size", type = "integer" },
    { name = "price", type = "decimal", precision = 9, scale = 2 },
    { name = "kind", type = "enum", values = ["a", "b"] },
    { name = "note", type = "text" },
]
"#;

fn registry(toml: &str) -> crm_core::Result<Registry> {
    let mut specs = default_modules();
    specs.push(ModuleSpec::from_toml(toml)?);
    Registry::new(specs)
}

async fn schema(backend: &Backend) -> crm_core::Result<Schema> {
    let options = DatabaseOptions::default();
    Schema::open(backend.url(), &options, Clock::system()).await
}

async fn open(backend: &Backend) -> anyhow::Result<(Crm, TenantId)> {
    let crm = Crm::builder()
        .database(backend.url())
        .database_options(crm_core::testing::database_options())
        .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
        .modules(default_modules())
        .modules([ModuleSpec::from_toml(JARS)?])
        .build()
        .await?;
    let tenant = crm.tenants().create("Acme", request()).await?.id;
    Ok((crm, tenant))
}

async fn rules_that_records_break_are_refused_with_their_number_and_nothing_changes(
    backend: Backend,
) -> anyhow::Result<()> {
    let (crm, tenant) = open(&backend).await?;
    let scope = crm.operator(tenant, request());
    let (create, delete) = (
        scope.permit::<Create>("jars")?,
        scope.permit::<Delete>("jars")?,
    );
    for (label, size, price, kind) in [
        ("honey", Some(1), "1.00", "a"),
        ("Honey", None, "9999.00", "b"),
        ("jam", Some(50), "2.00", "a"),
    ] {
        let sent = json!({"label": label, "size": size, "price": price, "kind": kind});
        crm.records().create(&create, body(sent)).await?;
    }
    let gone = json!({"label": "honey", "size": 1, "price": "1.00", "kind": "a"});
    let gone = crm.records().create(&create, body(gone)).await?;
    crm.records().delete(&delete, gone.id, None).await?;
    crm.close().await;

    let new = JARS
        .replace("max = 9 }", "max = 9, unique = true, ignore_case = true }")
        .replace("\"integer\" }", "\"integer\", required = true, max = 10 }")
        .replace("precision = 9", "precision = 5")
        .replace("\"a\", \"b\"", "\"a\"")
        .replace(
            "{ name = \"note\"",
            "{ name = \"day\", type = \"date\", required = true }, { name = \"note\"",
        );
    let new = registry(&new)?;
    let schema = schema(&backend).await?;
    let before = schema.plan(&new).await?;
    let review = schema.review(&new).await?;
    let found: Vec<_> = review
        .refusals
        .iter()
        .map(|refusal| {
            let (count, _) = refusal.message.split_once(' ').unwrap_or_default();
            (refusal.pointer.as_str(), refusal.code, count)
        })
        .collect();
    assert_eq!(
        found,
        [
            ("/jars/label", "already_exists", "2"),
            ("/jars/size", "default_missing", "1"),
            ("/jars/size", "rule_violation", "1"),
            ("/jars/price", "rule_violation", "1"),
            ("/jars/kind", "rule_violation", "1"),
            // The one in the trash has none either.
            ("/jars/day", "default_missing", "4"),
        ]
    );
    let Err(Error::Invalid(refused)) = schema.apply(&new).await else {
        anyhow::bail!("applied");
    };
    assert_eq!(refused, review.refusals);
    assert_eq!(schema.plan(&new).await?, before);
    schema.close().await;
    Ok(())
}

async fn a_required_field_is_added_to_a_table_without_records(
    backend: Backend,
) -> anyhow::Result<()> {
    let (crm, _) = open(&backend).await?;
    crm.close().await;
    let new = JARS.replace(
        "{ name = \"note\"",
        "{ name = \"day\", type = \"date\", required = true }, { name = \"note\"",
    );
    let new = registry(&new)?;
    let schema = schema(&backend).await?;
    assert_eq!(schema.review(&new).await?.refusals, []);
    schema.apply(&new).await?;
    assert_eq!(schema.plan(&new).await?, []);
    let declared = schema.declared().await?;
    assert!(declared.iter().any(|spec| spec.name.as_str() == "jars"));
    schema.close().await;
    Ok(())
}

async fn what_tenants_have_of_a_declared_name_is_told_with_the_tenants(
    backend: Backend,
) -> anyhow::Result<()> {
    let (crm, tenant) = open(&backend).await?;
    let rival = crm.tenants().create("Rival", request()).await?.id;
    for tenant in [rival, tenant] {
        let scope = crm.operator_in(tenant, request()).await?;
        let permit = scope.permit::<Update>("modules")?;
        let field = serde_json::from_value(json!({"name": "colour", "type": "text"}))?;
        crm.custom_fields().declare(&permit, "jars", field).await?;
    }
    let scope = crm.operator_in(rival, request()).await?;
    let spec = ModuleSpec::from_toml(
        "name = 'lids'\nsingular = 'lid'\nfields = [{ name = 'title', type = 'text' }]",
    )?;
    let permit = scope.permit::<Create>("modules")?;
    crm.custom_modules().create(&permit, spec).await?;
    crm.close().await;

    let schema = schema(&backend).await?;
    assert_eq!(schema.review(&registry(JARS)?).await?.hidden, []);
    let mut specs = default_modules();
    specs.push(ModuleSpec::from_toml(
        &JARS.replace("\"note\"", "\"colour\""),
    )?);
    specs.push(ModuleSpec::from_toml(
        "name = 'lids'\nsingular = 'cap'\nfields = [{ name = 'title', type = 'text' }]",
    )?);
    let hidden = schema.review(&Registry::new(specs)?).await?.hidden;
    let mut found: Vec<_> = hidden
        .iter()
        .map(|one| {
            (
                one.module.as_str(),
                one.field.as_deref(),
                one.tenants.clone(),
            )
        })
        .collect();
    found.sort();
    let both = vec!["Acme".to_owned(), "Rival".to_owned()];
    assert_eq!(
        found,
        [
            ("jars", Some("colour"), both),
            ("lids", None, vec!["Rival".to_owned()]),
        ]
    );
    schema.close().await;
    Ok(())
}
