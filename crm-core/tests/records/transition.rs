//! What racing state transitions promise (XC-30), and what is done once lives through a restart.

use super::*;
use crm_core::record::{Answered, Once, Reply, Work, Write};

on_both_databases!(
    xc_30_of_racing_transitions_exactly_one_wins_each_edge,
    a_key_of_a_request_survives_a_restart,
);

const JOURNEYS: &str = r#"
name = "journeys"
singular = "journey"
fields = [
    { name = "state", type = "enum", values = ["open", "left", "right", "home", "lost"], required = true, default = "open" },
]

[[machines]]
field = "state"
edges = { open = ["left", "right"], left = ["home", "lost"], right = ["home", "lost"] }
"#;

async fn xc_30_of_racing_transitions_exactly_one_wins_each_edge(
    backend: Backend,
) -> anyhow::Result<()> {
    let spec = ModuleSpec::from_toml(JOURNEYS)?;
    let it = Fixture::built(backend, |builder| builder.modules([spec])).await?;
    let scope = it.operator();
    let journey = it.create(&scope, "journeys", json!({})).await?;
    let state = |record: &Record| serde_json::to_value(record.get("state")).unwrap_or_default();
    for (states, version) in [(["left", "right"], 2), (["home", "lost"], 3)] {
        let race = (0..16).map(|n| {
            let change = json!({"state": states[n % 2]});
            it.update(&scope, &journey, None, change)
        });
        let outcomes = futures::future::join_all(race).await;
        let now = it.get(&scope, "journeys", journey.id).await?;
        assert_eq!(now.version, version, "one of them wrote");
        for (n, outcome) in outcomes.into_iter().enumerate() {
            // Who asks for the state that is there changes nothing; there is no way to the other.
            match state(&now) == json!(states[n % 2]) {
                true => assert_eq!(outcome?.version, version),
                false => assert!(outcome.is_err(), "{n}"),
            }
        }
    }
    let audit = it.audit().await?;
    let moved = audit.iter().filter(|one| one.action == "journeys.update");
    assert_eq!(moved.count(), 2);
    Ok(())
}

async fn a_key_of_a_request_survives_a_restart(backend: Backend) -> anyhow::Result<()> {
    let start = DateTime::parse_from_rfc3339("2025-01-15T09:30:00Z")?.to_utc();
    // Each start of the program has ids of its own.
    let open = async |seed: u64| {
        let (clock, _) = Clock::fixed(start, seed);
        let builder = Crm::builder()
            .database(backend.url())
            .database_options(crm_core::testing::database_options())
            .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
            .clock(clock)
            .modules([ModuleSpec::from_toml(THINGS)?]);
        anyhow::Ok(builder.build().await?)
    };
    let crm = open(1).await?;
    let tenant = crm.tenants().create("Acme", request()).await?.id;
    let create = async |crm: &Crm, title: &str| {
        let scope = crm.operator(tenant, request());
        let sent = json!({"title": title});
        let once = Once::new(&scope, "k", [b"POST", b"/things", b"", title.as_bytes()])?;
        let write = Write::create(&scope.permit::<Create>("things")?, body(sent))?;
        let reply = |outcomes: Vec<crm_core::Result<crm_core::record::Written>>| {
            let written = outcomes.into_iter().next().ok_or(Error::NotFound)??;
            Ok(Reply::about(201, &written.record, None))
        };
        let records = crm.records();
        let done = records.perform(&scope, Work::One(write), Some(once), reply);
        anyhow::Ok(done.await?)
    };
    let Answered::Now(reply) = create(&crm, "a").await? else {
        anyhow::bail!("a new key");
    };
    crm.close().await;
    drop(crm);
    let crm = open(2).await?;
    assert_eq!(create(&crm, "a").await?, Answered::Before(reply));
    assert_eq!(create(&crm, "b").await?, Answered::KeyReused);
    let permit = crm.operator(tenant, request()).permit::<Read>("things")?;
    let page = crm.records().list(&permit, &Query::default()).await?;
    assert_eq!(page.data.len(), 1);
    Ok(())
}
