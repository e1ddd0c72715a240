//! Calls of a tenant's door that nobody thought of: each is answered or refused with a reason, and none
//! shows or changes what is another tenant's, or more than the plugin was granted. `PROPTEST_CASES`
//! makes it longer, and `PROPTEST_RNG_SEED` plays one again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use chrono::{DateTime, NaiveDate, NaiveTime};
use crm_core::clock::Clock;
use crm_core::egress::Egress;
use crm_core::hook::{Call, Door, DoorQuery, DoorRequest, Fields, Outcome, PluginHost, Report};
use crm_core::id::RecordId;
use crm_core::plugin::Manifest;
use crm_core::record::Query;
use crm_core::testing::Backend;
use crm_core::value::Value;
use crm_core::{Crm, Scope, on_both_databases};
use crm_plugins::Limits;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use rust_decimal::Decimal;
use serde_json::{Map, Value as Json, json};

use super::end_to_end::{Office, request};
use super::examples::Here;

on_both_databases!(pl_any_call_of_the_door_stays_within_its_tenant_and_grants);

/// What the plugin may do: nothing else is ever answered.
const MANIFEST: &str = "name = 'caller'
    version = '1.0.0'
    triggers = ['contact.created']
    kv = true
    emits = ['told']
    jobs = ['later']
    secrets = ['token']
    hosts = ['hooks.example.com']
    [[grants]]
    module = 'contacts'
    actions = ['read', 'create', 'update']
    [[grants]]
    module = 'deals'
    actions = ['read']";
/// Stands in every text of the other tenant, and in nothing that is asked.
const FOREIGN: &str = "planted";
/// Names that mean something somewhere, and some that try to.
const WORDS: &[&str] = &[
    "contacts",
    "companies",
    "deals",
    "users",
    "roles",
    "plugins",
    "contact.created",
    "told",
    "caller.told",
    "later",
    "token",
    "id",
    "tenant_id",
    "owner_id",
    "version",
    "created_at",
    "deleted_at",
    "name",
    "email",
    "phone",
    "company_id",
    "company_id.name",
    "tags",
    "notes",
    "score",
    "status",
    "title",
    "stage",
    "amount",
    "-score",
    "eq",
    "ne",
    "lt",
    "gte",
    "in",
    "contains",
    "is_null",
    "between",
    "and",
    "or",
    "not",
    "any",
    "group_by",
    "measures",
    "count",
    "sum",
    "field",
    "filter",
    "limit",
    "having",
    "EUR",
    "won",
    "2030-01-31",
    "1e999",
    "",
    "x' OR '1'='1",
    "name\"; --",
    "%",
    "\0",
    "ﬀ\u{202e}",
    "https://hooks.example.com/",
    "http://127.0.0.1/",
];

/// A call, with records named by their place among those that there are.
#[derive(Debug, Clone)]
enum Ask {
    Get(String, Index),
    List(String, Option<Json>, Vec<String>, u32, Option<String>),
    Create(String, Vec<(String, Value)>),
    Update(String, Index, Option<i64>, Vec<(String, Value)>),
    Delete(String, Index, Option<i64>),
    Aggregate(String, Json),
    Emit(String, Json),
    KvGet(String),
    KvSet(String, Vec<u8>),
    KvDelete(String),
    KvKeys(String, Option<String>),
    Fetch(String, String, Vec<(String, String)>),
    Secret(String),
    Schedule(String, u64, Option<String>),
}

fn word() -> impl Strategy<Value = String> {
    let known = select(WORDS).prop_map(str::to_owned);
    prop_oneof![12 => known, 1 => any::<String>()]
}

fn module() -> impl Strategy<Value = String> {
    let known = select(vec!["contacts", "deals", "companies"]);
    prop_oneof![6 => known.prop_map(str::to_owned), 1 => word()]
}

fn tree() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        (-2..3_i64).prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        word().prop_map(Json::from),
    ];
    leaf.prop_recursive(5, 24, 4, |inner| {
        prop_oneof![
            1 => vec(inner.clone(), 0..4).prop_map(Json::from),
            3 => vec((word(), inner), 0..4)
                .prop_map(|pairs| Json::Object(Map::from_iter(pairs))),
        ]
    })
}

fn value() -> impl Strategy<Value = Value> {
    let instant = |micros| DateTime::from_timestamp_micros(micros).map(Value::Instant);
    let number = |(mantissa, scale)| Decimal::try_from_i128_with_scale(mantissa, scale).ok();
    prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => any::<i64>().prop_map(Value::Int),
        1 => (any::<i64>().prop_map(i128::from), 0..29_u32)
            .prop_map(move |parts| number(parts).map_or(Value::Null, Value::Decimal)),
        4 => word().prop_map(Value::Text),
        1 => any::<i64>().prop_map(move |micros| instant(micros).unwrap_or_default()),
        1 => any::<i32>().prop_map(|day| {
            NaiveDate::from_num_days_from_ce_opt(day).map_or(Value::Null, Value::Date)
        }),
        1 => (0..90_000_u32).prop_map(|second| {
            let time = NaiveTime::from_num_seconds_from_midnight_opt(second, 0);
            time.map_or(Value::Null, Value::Time)
        }),
        1 => any::<[u8; 16]>().prop_map(|bytes| Value::Uuid(uuid::Uuid::from_bytes(bytes))),
        1 => vec(word(), 0..3).prop_map(Value::Tags),
        1 => vec(any::<f32>(), 0..3).prop_map(Value::Vector),
        1 => tree().prop_map(Value::Json),
        1 => vec(any::<u8>(), 0..4).prop_map(Value::Bytes),
    ]
}

fn fields() -> impl Strategy<Value = Vec<(String, Value)>> {
    let name = ("name".to_owned(), Value::Text("Ada".into()));
    let name = prop_oneof![2 => Just(vec![name]), 1 => Just(Vec::new())];
    (name, vec((word(), value()), 0..4)).prop_map(|(mut fields, more)| {
        fields.extend(more);
        fields
    })
}

fn ask() -> impl Strategy<Value = Ask> {
    let record = any::<Index>;
    let version = || of(-1..4_i64);
    prop_oneof![
        1 => (module(), record()).prop_map(|(module, id)| Ask::Get(module, id)),
        4 => (module(), of(tree()), vec(word(), 0..3), any::<u32>(), of(word()))
            .prop_map(|(module, filter, sort, limit, cursor)| {
                Ask::List(module, filter, sort, limit % 103, cursor)
            }),
        3 => (module(), fields()).prop_map(|(module, fields)| Ask::Create(module, fields)),
        3 => (module(), record(), version(), fields())
            .prop_map(|(module, id, version, fields)| Ask::Update(module, id, version, fields)),
        1 => (module(), record(), version())
            .prop_map(|(module, id, version)| Ask::Delete(module, id, version)),
        3 => (module(), tree()).prop_map(|(module, query)| Ask::Aggregate(module, query)),
        1 => (word(), tree()).prop_map(|(name, data)| Ask::Emit(name, data)),
        1 => word().prop_map(Ask::KvGet),
        1 => (word(), vec(any::<u8>(), 0..8)).prop_map(|(key, value)| Ask::KvSet(key, value)),
        1 => word().prop_map(Ask::KvDelete),
        1 => (word(), of(word())).prop_map(|(prefix, after)| Ask::KvKeys(prefix, after)),
        1 => (word(), word(), vec((word(), word()), 0..2))
            .prop_map(|(method, url, headers)| Ask::Fetch(method, url, headers)),
        1 => word().prop_map(Ask::Secret),
        1 => (word(), any::<u64>(), of(word()))
            .prop_map(|(name, delay, payload)| Ask::Schedule(name, delay, payload)),
    ]
}

/// Some thousand calls, others for each seed.
fn asks(seed: u64) -> Vec<Ask> {
    let config = Config {
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let calls = config.cases as usize * 32;
    let tree = vec(ask(), calls).new_tree(&mut TestRunner::new(config));
    tree.unwrap().current()
}

impl Ask {
    /// What the door answers, as text.
    async fn put(self, door: &dyn Door, ids: &[RecordId]) -> crm_core::Result<String> {
        Ok(match self {
            Self::Get(module, id) => shown(door.get(&module, *id.get(ids)).await?),
            Self::List(module, filter, sort, limit, cursor) => {
                let query = DoorQuery {
                    filter: filter.map(|tree| tree.to_string()),
                    sort,
                    limit,
                    cursor,
                };
                let page = door.list(&module, query).await?;
                page.records.into_iter().map(shown).collect()
            }
            Self::Create(module, fields) => shown(door.create(&module, fields).await?),
            Self::Update(module, id, version, fields) => {
                shown(door.update(&module, *id.get(ids), version, fields).await?)
            }
            Self::Delete(module, id, version) => {
                format!("{:?}", door.delete(&module, *id.get(ids), version).await?)
            }
            Self::Aggregate(module, query) => door.aggregate(&module, &query.to_string()).await?,
            Self::Emit(name, data) => format!("{:?}", door.emit(&name, &data.to_string()).await?),
            Self::KvGet(key) => format!("{:?}", door.kv_get(&key).await?),
            Self::KvSet(key, value) => format!("{:?}", door.kv_set(&key, value).await?),
            Self::KvDelete(key) => format!("{:?}", door.kv_delete(&key).await?),
            Self::KvKeys(prefix, after) => {
                format!("{:?}", door.kv_keys(&prefix, after.as_deref()).await?)
            }
            Self::Fetch(method, url, headers) => {
                let request = DoorRequest {
                    method,
                    url,
                    headers,
                    body: Bytes::new(),
                };
                format!("{}", door.fetch(request).await?.status)
            }
            Self::Secret(name) => format!("{:?}", door.secret(&name).await?),
            Self::Schedule(name, delay, payload) => {
                let delay = Duration::from_millis(delay);
                format!("{:?}", door.schedule(&name, delay, payload).await?)
            }
        })
    }

    /// Whether the manifest asks for this.
    fn is_granted(&self) -> bool {
        match self {
            Self::Get(module, ..) | Self::List(module, ..) | Self::Aggregate(module, ..) => {
                ["contacts", "deals"].contains(&&**module)
            }
            Self::Create(module, ..) | Self::Update(module, ..) => module == "contacts",
            Self::Delete(..) | Self::Fetch(..) => false,
            Self::Emit(name, _) => name == "told",
            Self::Secret(name) => name == "token",
            Self::Schedule(name, ..) => name == "later",
            Self::KvGet(_) | Self::KvSet(..) | Self::KvDelete(_) | Self::KvKeys(..) => true,
        }
    }
}

fn shown(fields: Fields) -> String {
    format!("{fields:?}")
}

/// A host whose plugins make calls of all kinds.
#[derive(Default)]
struct Caller {
    ids: Mutex<Vec<RecordId>>,
    found: Mutex<Vec<String>>,
    answered: Mutex<usize>,
}

impl PluginHost for Caller {
    fn inspect(&self, component: Bytes) -> BoxFuture<'_, crm_core::Result<Manifest>> {
        async move { Manifest::parse(&String::from_utf8_lossy(&component)) }.boxed()
    }

    fn run(&self, call: Call) -> BoxFuture<'_, crm_core::Result<Report>> {
        async move {
            // What it makes wakes it again: it calls once.
            let ids = std::mem::take(&mut *self.ids.lock().unwrap());
            let seed = match Config::default().rng_seed {
                RngSeed::Fixed(seed) => seed,
                RngSeed::Random => Clock::system().new_id().as_u64_pair().1,
            };
            let asks = match ids.is_empty() {
                true => Vec::new(),
                false => asks(seed),
            };
            for ask in asks {
                let complaint = match ask.clone().put(&*call.door, &ids).await {
                    Ok(_) if !ask.is_granted() => "is not granted".to_owned(),
                    Ok(text) => {
                        *self.answered.lock().unwrap() += 1;
                        match text.contains(FOREIGN) {
                            true => format!("shows {text}"),
                            false => continue,
                        }
                    }
                    Err(error) if error.code() == "internal" => format!("{error:?}"),
                    Err(error) if error.to_string().contains(FOREIGN) => error.to_string(),
                    Err(_) => continue,
                };
                self.found
                    .lock()
                    .unwrap()
                    .push(format!("seed {seed}, {ask:?}: {complaint}"));
            }
            let mut report = Report::refused("");
            (report.outcome, report.error) = (Outcome::Succeeded, None);
            Ok(report)
        }
        .boxed()
    }
}

/// All that a tenant has in its modules.
async fn all(crm: &Crm, scope: &Scope, modules: &[&str]) -> Result<Vec<Json>> {
    let mut all = Vec::new();
    for module in modules {
        let query = Query {
            limit: 100,
            ..Query::default()
        };
        let page = crm.records().list(&scope.permit(module)?, &query).await?;
        assert_eq!(page.next_cursor, None, "a page holds all of {module}");
        all.push(serde_json::to_value(page.data)?);
    }
    Ok(all)
}

async fn pl_any_call_of_the_door_stays_within_its_tenant_and_grants(
    backend: Backend,
) -> Result<()> {
    let caller = Arc::new(Caller::default());
    let host = caller.clone();
    let egress = Egress::builder().resolver(Arc::new(Here)).build()?;
    let office = Office::open_with(backend, Limits::default(), |library| {
        library.plugins(host).egress(egress)
    });
    let office = office.await?;
    let crm = &office.crm;
    let other = crm.tenants().create("neighbour", request()).await?;
    let neighbour = crm.operator(other.id, request());
    let mut ids = Vec::new();
    for (scope, name) in [(&office.scope, "Ada"), (&neighbour, FOREIGN)] {
        for (module, field) in [
            ("companies", "name"),
            ("contacts", "name"),
            ("deals", "title"),
        ] {
            for _ in 0..2 {
                let body = Map::from_iter([(field.to_owned(), json!(name))]);
                let made = crm.records().create(&scope.permit(module)?, body).await?;
                ids.push(made.id);
            }
        }
    }
    ids.push(RecordId(uuid::Uuid::max()));
    *caller.ids.lock().unwrap() = ids;
    let everything = ["companies", "contacts", "deals"];
    let theirs = all(crm, &neighbour, &everything).await?;
    let ungranted = all(crm, &office.scope, &["companies", "deals"]).await?;

    let plugin = office.install(MANIFEST.into()).await?;
    let token = "a secret of its own".to_owned().into();
    let manage = office.scope.permit("plugins")?;
    office
        .plugins()
        .set_secret(&manage, plugin, "token", &token)
        .await?;
    office.create(json!({ "name": "Grace" })).await?;
    crm.dispatch_once().await?;

    let runs = office.runs(plugin).await?;
    assert_eq!(runs[0].outcome, Outcome::Succeeded, "{:?}", runs[0]);
    let found = caller.found.lock().unwrap().clone();
    assert!(found.is_empty(), "{found:#?}");
    assert!(
        *caller.answered.lock().unwrap() > 100,
        "most are no nonsense"
    );
    assert_eq!(all(crm, &neighbour, &everything).await?, theirs);
    let now = all(crm, &office.scope, &["companies", "deals"]).await?;
    assert_eq!(now, ungranted);
    office.crm.close().await;
    Ok(())
}
