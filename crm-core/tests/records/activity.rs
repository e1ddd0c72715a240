//! What a machine's log promises: automatic activities in the transaction of the change.

use super::*;
use crm_core::transfer::{Format, ImportOptions};

on_both_databases!(
    sa_97_a_change_of_state_leaves_an_activity_in_the_same_transaction,
    sa_97_imports_leave_activities_too,
    an_activity_is_written_by_the_right_of_the_application,
    a_log_that_cannot_be_written_is_refused_with_its_place,
);

const SALES: &str = r#"
name = "sales"
singular = "sale"
fields = [
    { name = "title", type = "text", required = true },
    { name = "status", type = "enum", values = ["new", "won", "lost"], required = true, default = "new" },
    { name = "stage", type = "enum", values = ["open", "closed"], required = true, default = "open" },
]

[[machines]]
field = "status"
edges = { new = ["won", "lost"] }
sets = { won = { stage = "closed" }, lost = { stage = "closed" } }
log = { module = "steps", reference = "sale_id", kind = "kind", payload = "payload", created = "sale_created" }

[[machines]]
field = "stage"
[machines.log]
module = "steps"
reference = "sale_id"
kind = "kind"
payload = "payload"
changed = "stage_moved"
"#;

const STEPS: &str = r#"
name = "steps"
singular = "step"
fields = [
    { name = "sale_id", type = "reference", module = "sales", required = true },
    { name = "kind", type = "text", max = 40, required = true },
    { name = "payload", type = "json" },
]
"#;

async fn open(backend: Backend) -> anyhow::Result<Fixture> {
    let modules = [ModuleSpec::from_toml(SALES)?, ModuleSpec::from_toml(STEPS)?];
    Fixture::built(backend, |builder| builder.modules(modules)).await
}

/// Kind and payload of each step, the oldest first.
async fn steps(it: &Fixture) -> anyhow::Result<Vec<String>> {
    let query = Query {
        sort: vec![Sort {
            field: Field::Id,
            direction: Direction::Ascending,
        }],
        ..Query::default()
    };
    let permit = it.operator().permit::<Read>("steps")?;
    let page = it.crm.records().list(&permit, &query).await?;
    let told = |record: &Record| -> anyhow::Result<String> {
        let json: Json = serde_json::from_str(&record.to_json())?;
        Ok(format!("{} {}", json["kind"], json["payload"]))
    };
    page.data.iter().map(told).collect()
}

async fn sa_97_a_change_of_state_leaves_an_activity_in_the_same_transaction(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let (user, id) = it.member("admin").await?;
    let made = it.create(&user, "sales", json!({"title": "x"})).await?;
    it.update(&user, &made, None, json!({"title": "y"})).await?;
    it.update(&user, &made, None, json!({"status": "new"}))
        .await?;
    it.update(&user, &made, None, json!({"status": "won"}))
        .await?;
    let refused = it
        .update(&user, &made, None, json!({"status": "lost"}))
        .await;
    assert_eq!(code(refused), "invalid_transition");
    assert_eq!(
        steps(&it).await?,
        [
            r#""sale_created" {"from":null,"to":"new"}"#,
            r#""status_changed" {"from":"new","to":"won"}"#,
            r#""stage_moved" {"auto":true,"from":"open","to":"closed"}"#,
        ]
    );
    let permit = it.operator().permit::<Read>("steps")?;
    let page = it.crm.records().list(&permit, &Query::default()).await?;
    assert!(page.data.iter().all(|step| step.owner_id == Some(id)));
    let actions: Vec<_> = it
        .audit()
        .await?
        .into_iter()
        .map(|one| one.action)
        .collect();
    assert_eq!(
        actions[..6],
        [
            "steps.create",
            "steps.create",
            "sales.update",
            "sales.update",
            "steps.create",
            "sales.create"
        ]
    );
    Ok(())
}

async fn sa_97_imports_leave_activities_too(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let transfer = it.crm.transfer();
    let mut upload = transfer
        .import(&scope, "sales", ImportOptions::new(Format::Csv))
        .await?;
    upload.push(b"title\na\nb\n").await?;
    upload.finish().await?;
    it.crm.run_jobs_once().await?;
    assert_eq!(steps(&it).await?.len(), 2);
    Ok(())
}

async fn an_activity_is_written_by_the_right_of_the_application(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let permit = it.operator().permit::<Create>("roles")?;
    let role = crm_core::role::NewRole {
        name: "seller".into(),
        permissions: vec!["sales.*".into()],
        ..Default::default()
    };
    it.crm.roles().create(&permit, role).await?;
    let (seller, _) = it.member("seller").await?;
    it.create(&seller, "sales", json!({"title": "x"})).await?;
    assert!(seller.permit::<Create>("steps").is_err());
    assert_eq!(steps(&it).await?.len(), 1);
    Ok(())
}

async fn a_log_that_cannot_be_written_is_refused_with_its_place(_: Backend) -> anyhow::Result<()> {
    let steps = ModuleSpec::from_toml(
        &STEPS
            .replace("max = 40", "max = 5")
            .replace("type = \"json\"", "type = \"text\", required = true"),
    )?;
    let sales = SALES.replace("reference = \"sale_id\"", "reference = \"kind\"");
    let refused = crm_core::Registry::new(vec![ModuleSpec::from_toml(&sales)?, steps]);
    let Err(Error::Invalid(problems)) = refused else {
        anyhow::bail!("{refused:?}");
    };
    let places: Vec<_> = problems.iter().map(|one| one.pointer.as_str()).collect();
    assert_eq!(
        places,
        [
            "/sales/machines/0/log/reference",
            "/sales/machines/0/log/kind",
            "/sales/machines/0/log/payload",
            "/sales/machines/0/log/module",
            "/sales/machines/1/log/reference",
            "/sales/machines/1/log/kind",
            "/sales/machines/1/log/payload",
            "/sales/machines/1/log/module",
        ]
    );
    Ok(())
}
