//! The life of a tenant on both databases, with every kind of thing that a tenant can have.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value as Json, json};

use super::Tenant;
use crate::audit::{AuditQuery, Verification};
use crate::clock::{Clock, Fixed};
use crate::crm::Crm;
use crate::db::{ColumnType, Dialect, Sql};
use crate::error::Result;
use crate::group::NewGroup;
use crate::id::{RecordId, TenantId};
use crate::identity::{
    Login, NewApiKey, NewInvitation, NewServiceAccount, NewUser, PasswordCost, Session,
    TenantSecurityChange,
};
use crate::job::{JobContext, JobKind, JobState};
use crate::module::{FieldSpec, ModuleSpec, default_modules};
use crate::record::Query;
use crate::scope::{Action, Create, Delete, Permit, Read, RequestContext, Update};
use crate::testing::Backend;

crate::on_both_databases!(
    a_suspended_tenant_is_refused_everywhere_until_it_is_resumed,
    another_node_refuses_a_suspended_tenant_after_its_next_look,
    nothing_of_an_erased_tenant_is_left_anywhere,
    an_erasure_wants_the_name_once_more,
    an_export_holds_everything_of_the_tenant_and_no_secret,
);

const ADA: &str = "ada@acme.example";
const SHARED: &str = "bo@both.example";
const PASSWORD: &str = "correct horse battery";

/// Records that refer to each other in a circle, with every kind of table.
const NODES: &str = r#"
    name = "nodes"
    singular = "node"
    soft_delete = true
    search = "indexed"
    fields = [
        { name = "title", type = "text", search = true },
        { name = "secret", type = "text", write_only = true },
        { name = "number", type = "serial" },
        { name = "parent_id", type = "reference", module = "nodes" },
        { name = "knot_id", type = "reference", module = "knots" },
        { name = "others", type = "references", module = "nodes" },
    ]
"#;
const KNOTS: &str = r#"
    name = "knots"
    singular = "knot"
    fields = [{ name = "title", type = "text" }]
"#;

/// A job that ends at once.
struct Nap;

impl JobKind for Nap {
    fn name(&self) -> &'static str {
        "nap"
    }

    fn run<'a>(&'a self, job: &'a mut JobContext) -> BoxFuture<'a, Result<Json>> {
        async move { job.scope().await.map(|_| json!({})) }.boxed()
    }
}

struct World {
    crm: Crm,
    hands: Arc<Fixed>,
    tenant: Tenant,
    backend: Backend,
}

fn request() -> RequestContext {
    RequestContext {
        id: "test".into(),
        address: None,
    }
}

fn body(json: Json) -> Map<String, Json> {
    json.as_object().cloned().unwrap_or_default()
}

async fn node(backend: &Backend) -> anyhow::Result<(Crm, Arc<Fixed>)> {
    let start = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
    let (clock, hands) = Clock::fixed(start, 1);
    let crm = Crm::builder()
        .database(backend.url())
        .database_options(crate::testing::database_options())
        .secret("0123456789abcdef0123456789abcdef".into())
        .clock(clock)
        .password_cost(PasswordCost::LOWEST)
        .login_limit(0)
        .failed_login_time(std::time::Duration::ZERO)
        .modules(default_modules())
        .modules([ModuleSpec::from_toml(NODES)?, ModuleSpec::from_toml(KNOTS)?])
        .job(Arc::new(Nap))
        .build()
        .await?;
    Ok((crm, hands))
}

impl World {
    async fn open(backend: Backend) -> anyhow::Result<Self> {
        let (crm, hands) = node(&backend).await?;
        let tenant = crm.tenants().create("acme", request()).await?;
        Ok(Self {
            crm,
            hands,
            tenant,
            backend,
        })
    }

    fn permit<A: Action>(&self, tenant: TenantId, object: &str) -> Result<Permit<A>> {
        self.crm.operator(tenant, request()).permit(object)
    }

    async fn join(&self, tenant: TenantId, email: &str) -> Result<()> {
        let user = NewUser {
            email: email.into(),
            name: "Somebody".into(),
            password: PASSWORD.into(),
            roles: vec!["admin".into()],
        };
        let permit = self.permit(tenant, "members")?;
        self.crm.accounts().create_user(&permit, user).await?;
        Ok(())
    }

    async fn login(&self, email: &str) -> Result<Session> {
        let login = Login {
            email: email.into(),
            password: PASSWORD.into(),
            tenant: None,
            new_password: None,
        };
        self.crm.accounts().login(login, request()).await
    }

    async fn make(&self, tenant: TenantId, module: &str, json: Json) -> Result<RecordId> {
        // With the tenant's own fields and modules.
        let scope = self.crm.operator_in(tenant, request()).await?;
        let permit = scope.permit::<Create>(module)?;
        let made = self.crm.records().create(&permit, body(json)).await?;
        Ok(made.id)
    }

    /// One of everything; answers the secret of an API key.
    async fn fill(&self, tenant: TenantId) -> anyhow::Result<String> {
        let field: FieldSpec = serde_json::from_value(json!({"name": "plan", "type": "text"}))?;
        let fields = self.crm.custom_fields();
        let permit = self.permit::<Update>(tenant, "modules")?;
        fields.declare(&permit, "contacts", field).await?;
        let visits = json!({"name": "visits", "singular": "visit", "description": "Visits.",
            "fields": [{"name": "reason", "type": "text"}]});
        let permit = self.permit::<Create>(tenant, "modules")?;
        let visits = serde_json::from_value(visits)?;
        self.crm.custom_modules().create(&permit, visits).await?;
        self.make(tenant, "visits", json!({"reason": "a reason"}))
            .await?;
        let ada = json!({"name": "Ada Lovelace", "plan": "difference engine"});
        self.make(tenant, "contacts", ada).await?;
        let one = self
            .make(
                tenant,
                "nodes",
                json!({"title": "one", "secret": "hush-hush"}),
            )
            .await?;
        let knot = self.make(tenant, "knots", json!({"title": "k"})).await?;
        let mut parent = one;
        for number in 0..3 {
            let node = json!({"title": format!("child {number}"), "parent_id": parent.to_string(),
                "knot_id": knot.to_string(), "others": [one.to_string()]});
            parent = self.make(tenant, "nodes", node).await?;
        }
        let update = self.permit::<Update>(tenant, "nodes")?;
        let circle = body(json!({"parent_id": parent.to_string()}));
        self.crm
            .records()
            .update(&update, one, None, circle)
            .await?;
        let gone = self
            .make(tenant, "nodes", json!({"title": "trashed"}))
            .await?;
        let delete = self.permit::<Delete>(tenant, "nodes")?;
        self.crm.records().delete(&delete, gone, None).await?;
        let scope = self.crm.operator(tenant, request());
        self.crm.jobs().start(&scope, "nap", json!({})).await?;
        let group = NewGroup {
            name: "crew".into(),
            ..NewGroup::default()
        };
        let permit = self.permit::<Create>(tenant, "groups")?;
        self.crm.groups().create(&permit, group).await?;
        let invitation = NewInvitation {
            email: "cy@new.example".into(),
            name: "Cy".into(),
            roles: vec!["viewer".into()],
        };
        let permit = self.permit::<Create>(tenant, "members")?;
        self.crm.invitations().create(&permit, invitation).await?;
        let security = TenantSecurityChange {
            operator_impersonation: Some(false),
            ..TenantSecurityChange::default()
        };
        let permit = self.permit::<Update>(tenant, "members")?;
        let accounts = self.crm.accounts();
        accounts.update_tenant_security(&permit, security).await?;
        let key = NewApiKey {
            name: "key".into(),
            role: "viewer".into(),
            ..NewApiKey::default()
        };
        let account = NewServiceAccount {
            name: "sync".into(),
            roles: vec!["viewer".into()],
        };
        let permit = self.permit::<Create>(tenant, "members")?;
        let accounts = self.crm.accounts();
        let account = accounts.create_service_account(&permit, account).await?;
        let permit = self.permit::<Create>(tenant, "api_keys")?;
        let program = NewApiKey {
            service_account: Some(account),
            ..key.clone()
        };
        self.crm.api_keys().create(&permit, program).await?;
        let (_, secret) = self.crm.api_keys().create(&permit, key).await?;
        Ok(secret.expose_secret().to_owned())
    }

    async fn verify(&self, tenant: TenantId) -> Result<Verification> {
        let permit = self.permit::<Read>(tenant, "audit")?;
        self.crm.audit().verify(&permit, None).await
    }

    /// The places, as `table.column`, where this stands.
    async fn places(&self, bytes: &[u8], text: &str) -> anyhow::Result<Vec<String>> {
        let db = &self.crm.core.db;
        let columns = Sql::new(match db.dialect() {
            Dialect::Sqlite => {
                "SELECT t.name, c.name FROM pragma_table_list AS t JOIN pragma_table_info(t.name) \
                 AS c WHERE t.schema = 'main' AND t.type = 'table'"
            }
            Dialect::Postgres => {
                "SELECT table_name::text, column_name::text FROM information_schema.columns \
                 WHERE table_schema = current_schema()"
            }
        });
        let columns = columns.returns(&[ColumnType::Text, ColumnType::Text]);
        let hex = hex::encode(bytes);
        let mut places = Vec::new();
        for mut row in db.fetch_all(columns).await? {
            let (table, column): (String, String) = (row.text()?, row.text()?);
            let sql = match db.dialect() {
                Dialect::Sqlite => format!(
                    "SELECT count(*) FROM \"{table}\" WHERE CAST(\"{column}\" AS text) LIKE '%{text}%' \
                     OR (typeof(\"{column}\") = 'blob' AND lower(hex(\"{column}\")) LIKE '%{hex}%')"
                ),
                Dialect::Postgres => format!(
                    "SELECT count(*) FROM \"{table}\" WHERE \"{column}\"::text LIKE '%{text}%' \
                     OR \"{column}\"::text LIKE '%{hex}%'"
                ),
            };
            let sql = Sql::new(Box::leak(sql.into_boxed_str())).returns(&[ColumnType::Int]);
            let found = db.fetch_optional(sql).await?;
            let found: i64 = found.map_or(Ok(0), |mut row| row.int())?;
            if found > 0 {
                places.push(format!("{table}.{column}"));
            }
        }
        Ok(places)
    }
}

fn code<T>(result: Result<T>) -> &'static str {
    result.map_or_else(|error| error.code(), |_| "ok")
}

async fn a_suspended_tenant_is_refused_everywhere_until_it_is_resumed(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = World::open(backend).await?;
    let id = it.tenant.id;
    it.join(id, ADA).await?;
    let key = it.fill(id).await?;
    let session = it.login(ADA).await?;
    let token = session.access_token.expose_secret().to_owned();
    let enter = |credential: String| {
        let crm = it.crm.clone();
        async move { code(crm.authenticate(&credential, request()).await) }
    };
    assert_eq!(enter(token.clone()).await, "ok");
    assert_eq!(enter(key.clone()).await, "ok");

    let tenants = it.crm.tenants();
    assert!(!tenants.suspend(id, request()).await?.is_active);
    tenants.suspend(id, request()).await?;
    assert_eq!(enter(token.clone()).await, "token_invalid");
    assert_eq!(enter(key.clone()).await, "token_invalid");
    assert_eq!(code(it.login(ADA).await), "invalid_credentials");
    let refresh = || session.refresh_token.expose_secret().to_owned().into();
    let accounts = it.crm.accounts();
    assert_ne!(code(accounts.refresh(refresh(), request()).await), "ok");
    let operator = accounts.operator_token("acme", ADA, request()).await;
    assert_eq!(code(operator), "not_found");
    assert_eq!(it.crm.run_jobs_once().await?, 0, "its jobs wait");

    assert!(tenants.resume(id, request()).await?.is_active);
    assert_eq!(enter(token).await, "ok");
    assert_eq!(enter(key).await, "ok");
    assert_eq!(code(it.login(ADA).await), "ok");
    assert_eq!(it.crm.run_jobs_once().await?, 1);
    let scope = it.crm.operator(id, request());
    let jobs = it.crm.jobs().list(&scope, None, 10).await?;
    assert_eq!(jobs.data[0].state, JobState::Done);

    let permit = it.permit::<Read>(id, "audit")?;
    let query = AuditQuery {
        entity: Some("tenants".into()),
        ..AuditQuery::default()
    };
    let told = it.crm.audit().list(&permit, &query).await?.data;
    let told: Vec<_> = told
        .iter()
        .map(|entry| {
            (
                entry.action.as_str(),
                entry.before.clone(),
                entry.after.clone(),
            )
        })
        .collect();
    let state = |active: bool| Some(json!({"is_active": active}));
    let before = json!({"operator_impersonation": true, "password_policy": null});
    let after = json!({"operator_impersonation": false, "password_policy": null});
    assert_eq!(
        told,
        [
            ("tenants.resume", state(false), state(true)),
            ("tenants.suspend", state(true), state(false)),
            ("tenants.update", Some(before), Some(after)),
            ("tenants.create", None, Some(json!({"name": "acme"}))),
        ]
    );
    Ok(())
}

async fn another_node_refuses_a_suspended_tenant_after_its_next_look(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = World::open(backend).await?;
    it.join(it.tenant.id, ADA).await?;
    let token = it.login(ADA).await?.access_token;
    let (other, _) = node(&it.backend).await?;
    let enter = || other.authenticate(token.expose_secret(), request());
    assert_eq!(code(enter().await), "ok");
    it.crm.tenants().suspend(it.tenant.id, request()).await?;
    other.core.policy.poll().await?;
    assert_eq!(code(enter().await), "token_invalid");
    it.crm.tenants().resume(it.tenant.id, request()).await?;
    other.core.policy.poll().await?;
    assert_eq!(code(enter().await), "ok");
    other.close().await;
    Ok(())
}

async fn nothing_of_an_erased_tenant_is_left_anywhere(backend: Backend) -> anyhow::Result<()> {
    let it = World::open(backend).await?;
    let (id, tenants) = (it.tenant.id, it.crm.tenants());
    let rival = tenants.create("rival", request()).await?.id;
    for tenant in [id, rival] {
        it.fill(tenant).await?;
        it.join(tenant, SHARED).await?;
    }
    it.join(id, ADA).await?;
    it.login(ADA).await?;
    // A search of many records fills the index on SQLite.
    let index = it.permit::<Read>(id, "contacts")?;
    let search = Query {
        search: Some("Lovelace".into()),
        ..Query::default()
    };
    it.crm.records().list(&index, &search).await?;
    while it.crm.upkeep_once().await? > 0 {}
    it.crm.dispatch_once().await?;
    it.crm.seal_audit_once().await?;
    let written = it.places(id.0.as_bytes(), &id.to_string()).await?;
    for place in [
        "contacts.tenant_id",
        "custom_records.tenant_id",
        "audit_log.tenant_id",
        "audit_seals.tenant_id",
        "outbox.tenant_id",
        "jobs.tenant_id",
        "serials.tenant_id",
        "refresh_families.tenant_id",
        "nodes.others.tenant_id",
    ] {
        assert!(
            written.iter().any(|one| one == place),
            "{place}: {written:?}"
        );
    }

    it.hands.advance(TimeDelta::days(1));
    let tomb = tenants.erase(id, "acme", request()).await?;
    assert_eq!(tomb.id, id);
    assert!(tomb.erased_at.is_some() && tomb.sequence > 10);
    assert_eq!(tenants.erased().await?, [tomb]);
    let mut left = it.places(id.0.as_bytes(), &id.to_string()).await?;
    left.sort_unstable();
    // The platform's log keeps what was done to which id.
    assert_eq!(left, ["audit_log.entity_id", "erased_tenants.id"]);
    assert_eq!(it.places(ADA.as_bytes(), ADA).await?, [""; 0]);
    // Who belongs to another tenant stays, and so does all that it has.
    assert_eq!(code(it.login(ADA).await), "invalid_credentials");
    assert_eq!(it.login(SHARED).await?.tenant_id, rival);
    it.crm.seal_audit_once().await?;
    assert_eq!(it.verify(rival).await?.fault, None);
    for (module, count) in [("contacts", 1), ("nodes", 4), ("knots", 1)] {
        let permit = it.permit::<Read>(rival, module)?;
        let page = it.crm.records().list(&permit, &Query::default()).await?;
        assert_eq!(page.data.len(), count, "{module}");
    }
    assert_eq!(code(tenants.get(id).await), "not_found");
    let again = tenants.create("acme", request()).await?;
    assert_ne!(again.id, id);
    Ok(())
}

async fn an_erasure_wants_the_name_once_more(backend: Backend) -> anyhow::Result<()> {
    let it = World::open(backend).await?;
    let tenants = it.crm.tenants();
    for wrong in ["", "Acme", "acme2"] {
        let refused = tenants.erase(it.tenant.id, wrong, request()).await;
        assert_eq!(code(refused), "name_differs");
    }
    assert_eq!(tenants.get(it.tenant.id).await?, it.tenant);
    assert_eq!(tenants.erased().await?, []);
    // One whose erasure has begun is not let in again.
    let begun = Sql::new(
        "INSERT INTO erased_tenants (id, created_at, begun_at, request_id, sequence, hash) \
         SELECT id, created_at, created_at, 'x', 1, $1 FROM tenants WHERE id = $2",
    )
    .bind(vec![0; 32], ColumnType::Bytes)
    .bind(it.tenant.id, ColumnType::Uuid);
    tenants.suspend(it.tenant.id, request()).await?;
    it.crm.core.db.execute(begun).await?;
    let resumed = tenants.resume(it.tenant.id, request()).await;
    assert_eq!(code(resumed), "being_erased");
    // And its end comes with another call.
    let tomb = tenants.erase(it.tenant.id, "acme", request()).await?;
    assert_eq!((tomb.sequence, tomb.request_id.as_str()), (1, "x"));
    Ok(())
}

async fn an_export_holds_everything_of_the_tenant_and_no_secret(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = World::open(backend).await?;
    let id = it.tenant.id;
    let rival = it.crm.tenants().create("rival", request()).await?.id;
    it.make(rival, "contacts", json!({"name": "Foreign"}))
        .await?;
    let key = it.fill(id).await?;
    it.join(id, ADA).await?;
    it.login(ADA).await?;
    for number in 0..120 {
        let name = format!("contact {number}");
        it.make(id, "contacts", json!({"name": name})).await?;
    }
    it.crm.seal_audit_once().await?;
    let mut export = it.crm.export_tenant(id, request()).await?;
    let mut files = BTreeMap::<String, String>::new();
    while let Some(piece) = export.next().await? {
        files.entry(piece.file).or_default().push_str(&piece.text);
    }
    let lines = |file: &str| -> anyhow::Result<Vec<Json>> {
        let text = files.get(file).map_or("", String::as_str);
        Ok(text
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?)
    };
    for (file, count) in [
        ("tenant.ndjson", 1),
        ("members.ndjson", 2),
        ("roles.ndjson", 4),
        ("groups.ndjson", 1),
        ("invitations.ndjson", 1),
        ("sessions.ndjson", 1),
        ("security.ndjson", 1),
        ("api_keys.ndjson", 2),
        ("jobs.ndjson", 1),
        ("modules.ndjson", 1),
        ("contacts.fields.ndjson", 1),
        ("contacts.ndjson", 121),
        ("visits.ndjson", 1),
        ("nodes.ndjson", 4),
        ("nodes.trash.ndjson", 1),
        ("knots.ndjson", 1),
    ] {
        assert_eq!(lines(file)?.len(), count, "{file}");
    }
    let members = lines("members.ndjson")?;
    let mut kinds: Vec<_> = members
        .iter()
        .map(|member| member["kind"].as_str())
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [Some("person"), Some("service")]);
    assert_eq!(
        lines("security.ndjson")?[0]["operator_impersonation"],
        false
    );
    let everything = files.values().cloned().collect::<String>();
    for told in [
        ADA,
        "Ada Lovelace",
        "difference engine",
        "a reason",
        "trashed",
        "crew",
        "cy@new.example",
    ] {
        assert!(everything.contains(told), "{told}");
    }
    for secret in ["hush-hush", key.as_str(), PASSWORD, "$argon2", "Foreign"] {
        assert!(!everything.contains(secret), "{secret}");
    }
    let entries = lines("audit.ndjson")?.len() as i64;
    let seals = lines("audit.seals.ndjson")?;
    let sealed: i64 = seals
        .iter()
        .filter_map(|seal| seal["entries"].as_i64())
        .sum();
    assert_eq!(sealed, entries);
    let head = it.verify(id).await?.head.map(|head| head.hash);
    assert_eq!(
        seals.last().map(|seal| seal["hash"].clone()),
        head.map(Json::from)
    );
    let other = it
        .crm
        .export_tenant(TenantId(it.crm.clock().new_id()), request());
    assert_eq!(code(other.await), "not_found");
    Ok(())
}
