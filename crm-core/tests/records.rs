//! What records promise, on both databases, through the public interface only.

use std::sync::{Arc, Mutex};

use anyhow::Context;
use chrono::{DateTime, TimeDelta};
use crm_core::clock::Clock;
use crm_core::event::Event;
use crm_core::id::{RecordId, TenantId, UserId};
use crm_core::identity::{NewUser, PasswordCost};
use crm_core::module::{ModuleSpec, default_modules};
use crm_core::record::{Count, Direction, Field, Filter, Query, Record, Sort};
use crm_core::testing::Backend;
use crm_core::{
    AuditQuery, Create, Crm, DatabaseOptions, Delete, Error, Read, RequestContext, Scope,
    Subscriber, Update, on_both_databases,
};
use futures::future::BoxFuture;
use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::{Map, Value as Json, json};

#[path = "records/activity.rs"]
mod activity;
#[path = "records/amounts.rs"]
mod amounts;
#[path = "records/bulk_filter.rs"]
mod bulk_filter;
#[path = "records/completed.rs"]
mod completed;
#[path = "records/count.rs"]
mod count;
#[path = "records/custom.rs"]
mod custom;
#[path = "records/custom_module.rs"]
mod custom_module;
#[path = "records/custom_reference.rs"]
mod custom_reference;
#[path = "records/custom_rules.rs"]
mod custom_rules;
#[path = "records/custom_trash.rs"]
mod custom_trash;
#[path = "records/deals.rs"]
mod deals;
#[path = "records/derived.rs"]
mod derived;
#[path = "records/duplicates.rs"]
mod duplicates;
#[path = "records/expand.rs"]
mod expand;
#[path = "records/field_attacks.rs"]
mod field_attacks;
#[path = "records/field_list_model.rs"]
mod field_list_model;
#[path = "records/field_lists.rs"]
mod field_lists;
#[path = "records/figures.rs"]
mod figures;
#[path = "records/filter_references.rs"]
mod filter_references;
#[path = "records/flags.rs"]
mod flags;
#[path = "records/hooks.rs"]
mod hooks;
#[path = "records/isolation.rs"]
mod isolation;
#[path = "records/links.rs"]
mod links;
#[path = "records/lists.rs"]
mod lists;
#[path = "records/matrix.rs"]
mod matrix;
#[path = "records/merge.rs"]
mod merge;
#[path = "records/module_suite.rs"]
mod module_suite;
#[path = "records/money.rs"]
mod money;
#[path = "records/nearest.rs"]
mod nearest;
#[path = "records/nodes.rs"]
mod nodes;
#[path = "records/page_number.rs"]
mod page_number;
#[path = "records/query.rs"]
mod query;
#[path = "records/relations.rs"]
mod relations;
#[path = "records/repoint.rs"]
mod repoint;
#[path = "records/review.rs"]
mod review;
#[path = "records/scopes.rs"]
mod scopes;
#[path = "records/search.rs"]
mod search;
#[path = "records/search_index.rs"]
mod search_index;
#[path = "records/serial.rs"]
mod serial;
#[path = "records/tags.rs"]
mod tags;
#[path = "records/through.rs"]
mod through;
#[path = "records/transition.rs"]
mod transition;
#[path = "records/trash.rs"]
mod trash;
#[path = "records/types.rs"]
mod types;
#[path = "records/upsert.rs"]
mod upsert;

on_both_databases!(
    a_record_is_created_read_changed_and_deleted,
    an_update_that_changes_nothing_writes_nothing,
    another_tenants_record_is_absent_through_every_method,
    rights_on_own_rows_hide_the_rows_of_others,
    a_viewer_may_read_and_nothing_else,
    a_reference_must_be_a_visible_record_of_the_same_tenant,
    a_referenced_record_is_not_deleted,
    every_write_leaves_one_audit_row_and_one_event_and_a_failed_one_leaves_none,
    a_unique_email_is_taken_without_regard_to_case_and_in_its_tenant_only,
    racing_creates_of_one_unique_value_make_one_record,
    racing_updates_of_one_version_change_it_once,
    events_reach_subscribers_in_order_and_again_after_a_failure,
    money_is_exact,
);

type Body = Map<String, Json>;

fn body(json: Json) -> Body {
    json.as_object().cloned().unwrap_or_default()
}

const THINGS: &str = r#"
name = "things"
singular = "thing"
fields = [
    { name = "title", type = "text", sort = true, search = true },
    { name = "email", type = "email" },
    { name = "number", type = "integer", sort = true },
    { name = "price", type = "decimal", precision = 10, scale = 2, sort = true },
    { name = "done", type = "bool" },
    { name = "due", type = "date", sort = true },
    { name = "at", type = "instant", sort = true },
    { name = "stage", type = "enum", values = ["new", "old"] },
    { name = "tags", type = "tags", search = true },
    { name = "extra", type = "json" },
]
"#;

struct Fixture {
    crm: Crm,
    tenant: TenantId,
    _backend: Backend,
}

impl Fixture {
    async fn open(backend: Backend) -> anyhow::Result<Self> {
        Self::with(backend, None).await
    }

    async fn with(
        backend: Backend,
        subscriber: Option<Arc<dyn Subscriber>>,
    ) -> anyhow::Result<Self> {
        Self::built(backend, |builder| match subscriber {
            Some(subscriber) => builder.subscribe(subscriber),
            None => builder,
        })
        .await
    }

    /// An application with more to it.
    async fn built(
        backend: Backend,
        more: impl FnOnce(crm_core::Builder) -> crm_core::Builder,
    ) -> anyhow::Result<Self> {
        let start = DateTime::parse_from_rfc3339("2025-01-15T09:30:00Z")?.to_utc();
        let (clock, _) = Clock::fixed(start, 1);
        let builder = Crm::builder()
            .database(backend.url())
            .database_options(crm_core::testing::database_options())
            .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
            .clock(clock)
            .password_cost(PasswordCost::LOWEST)
            .modules(default_modules())
            .modules([
                ModuleSpec::from_toml(THINGS)?,
                ModuleSpec::from_toml(query::BOXES)?,
                ModuleSpec::from_toml(search::NOTES)?,
                ModuleSpec::from_toml(custom::BARE)?,
            ]);
        let crm = more(builder).build().await?;
        let tenant = crm.tenants().create("Acme", request()).await?.id;
        Ok(Self {
            crm,
            tenant,
            _backend: backend,
        })
    }

    fn operator(&self) -> Scope {
        self.crm.operator(self.tenant, request())
    }

    /// A member with this role, and their id.
    async fn member(&self, role: &str) -> anyhow::Result<(Scope, UserId)> {
        let email = format!("{role}{}@acme.example", self.crm.clock().new_id().simple());
        let permit = self.operator().permit::<Create>("members")?;
        let input = NewUser {
            email: email.clone(),
            name: role.to_owned(),
            password: SecretString::from("correct horse battery"),
            roles: vec![role.to_owned()],
        };
        let user = self
            .crm
            .accounts()
            .create_user(&permit, input)
            .await?
            .user_id;
        let token = self
            .crm
            .accounts()
            .operator_token("Acme", &email, request())
            .await?;
        use secrecy::ExposeSecret;
        let scope = self
            .crm
            .authenticate(token.expose_secret(), request())
            .await?;
        Ok((scope, user))
    }

    async fn create(&self, scope: &Scope, module: &str, json: Json) -> crm_core::Result<Record> {
        self.crm
            .records()
            .create(&scope.permit::<Create>(module)?, body(json))
            .await
    }

    async fn update(
        &self,
        scope: &Scope,
        record: &Record,
        version: Option<i64>,
        json: Json,
    ) -> crm_core::Result<Record> {
        let permit = scope.permit::<Update>(record.module().name().as_str())?;
        self.crm
            .records()
            .update(&permit, record.id, version, body(json))
            .await
    }

    async fn delete(&self, scope: &Scope, record: &Record) -> crm_core::Result<()> {
        let permit = scope.permit::<Delete>(record.module().name().as_str())?;
        self.crm.records().delete(&permit, record.id, None).await
    }

    async fn get(&self, scope: &Scope, module: &str, id: RecordId) -> crm_core::Result<Record> {
        self.crm
            .records()
            .get(&scope.permit::<Read>(module)?, id)
            .await
    }

    async fn ids(
        &self,
        scope: &Scope,
        module: &str,
        query: &Query,
    ) -> crm_core::Result<Vec<RecordId>> {
        let page = self
            .crm
            .records()
            .list(&scope.permit::<Read>(module)?, query)
            .await?;
        Ok(page.data.iter().map(|record| record.id).collect())
    }

    async fn audit(&self) -> crm_core::Result<Vec<crm_core::AuditEntry>> {
        let permit = self.operator().permit::<Read>("audit")?;
        let query = AuditQuery {
            limit: Some(100),
            ..AuditQuery::default()
        };
        Ok(self.crm.audit().list(&permit, &query).await?.data)
    }
}

fn request() -> RequestContext {
    RequestContext {
        id: "req-1".into(),
        address: None,
    }
}

fn code<T>(result: crm_core::Result<T>) -> &'static str {
    result.map_or_else(|error| error.code(), |_| "ok")
}

async fn a_record_is_created_read_changed_and_deleted(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    let input = json!({"name": "Ada", "email": "ada@acme.example", "tags": ["vip"], "score": 7});
    let made = it.create(&scope, "contacts", input).await?;
    assert_eq!(
        it.get(&scope, "contacts", made.id).await?.to_json(),
        made.to_json()
    );
    let changed = it
        .update(
            &scope,
            &made,
            Some(1),
            json!({"score": null, "phone": "+1 5"}),
        )
        .await?;
    assert_eq!(
        (changed.version, changed.get("score").map(|v| v.is_null())),
        (2, Some(true))
    );
    assert_eq!(
        it.get(&scope, "contacts", made.id).await?.to_json(),
        changed.to_json()
    );
    let stale = it
        .update(&scope, &made, Some(1), json!({"name": "Eve"}))
        .await;
    assert_eq!(code(stale), "version_mismatch");
    it.delete(&scope, &made).await?;
    assert_eq!(code(it.get(&scope, "contacts", made.id).await), "not_found");
    assert_eq!(code(it.delete(&scope, &made).await), "not_found");
    Ok(())
}

async fn an_update_that_changes_nothing_writes_nothing(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    let made = it
        .create(&scope, "contacts", json!({"name": "Ada"}))
        .await?;
    let entries = it.audit().await?.len();
    let same = it
        .update(&scope, &made, None, json!({"name": "Ada", "version": 9}))
        .await?;
    assert_eq!((same.version, it.audit().await?.len()), (1, entries));
    Ok(())
}

async fn another_tenants_record_is_absent_through_every_method(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let foreign = it.crm.tenants().create("Rival", request()).await?.id;
    let rival = it.crm.operator(foreign, request());
    let ours = it
        .create(&it.operator(), "contacts", json!({"name": "Ada"}))
        .await?;
    let absent = RecordId(it.crm.clock().new_id());
    let seen = it
        .get(&rival, "contacts", ours.id)
        .await
        .map_err(|error| error.to_string());
    let none = it
        .get(&rival, "contacts", absent)
        .await
        .map_err(|error| error.to_string());
    assert_eq!(seen.err(), none.err());
    assert_eq!(
        code(it.update(&rival, &ours, None, json!({"name": "Eve"})).await),
        "not_found"
    );
    assert_eq!(code(it.delete(&rival, &ours).await), "not_found");
    for query in [
        Query {
            count: Count::Capped,
            ..Query::default()
        },
        Query {
            search: Some("Ada".into()),
            ..Query::default()
        },
        Query {
            filter: Some(Filter::Or(vec![Filter::And(vec![])])),
            ..Query::default()
        },
        Query {
            filter: Some(Filter::Not(Box::new(Filter::Or(vec![])))),
            ..Query::default()
        },
    ] {
        assert_eq!(it.ids(&rival, "contacts", &query).await?, []);
        assert_eq!(it.ids(&it.operator(), "contacts", &query).await?, [ours.id]);
        let total = it
            .crm
            .records()
            .count(&rival.permit::<Read>("contacts")?, &query)
            .await?;
        assert_eq!(total.count, 0);
    }
    let refused = it
        .create(
            &rival,
            "contacts",
            json!({"name": "Eve", "tenant_id": it.tenant}),
        )
        .await;
    assert_eq!(code(refused), "validation_failed");
    let refused = it
        .create(
            &rival,
            "deals",
            json!({"title": "Deal", "contact_id": ours.id}),
        )
        .await;
    assert_eq!(code(refused), "validation_failed");
    assert_eq!(
        it.get(&it.operator(), "contacts", ours.id).await?.to_json(),
        ours.to_json()
    );
    Ok(())
}

async fn rights_on_own_rows_hide_the_rows_of_others(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let ((ann, ann_id), (bob, bob_id)) = (it.member("member").await?, it.member("member").await?);
    let hers = it.create(&ann, "contacts", json!({"name": "Hers"})).await?;
    let his = it.create(&bob, "contacts", json!({"name": "His"})).await?;
    assert_eq!((hers.owner_id, his.owner_id), (Some(ann_id), Some(bob_id)));
    assert_eq!(
        it.ids(&ann, "contacts", &Query::default()).await?,
        [hers.id]
    );
    assert_eq!(code(it.get(&ann, "contacts", his.id).await), "not_found");
    assert_eq!(
        code(it.update(&ann, &his, None, json!({"name": "Mine"})).await),
        "not_found"
    );
    assert_eq!(code(it.delete(&ann, &his).await), "not_found");
    let given = it
        .update(&ann, &hers, None, json!({"owner_id": bob_id}))
        .await;
    assert_eq!(code(given), "validation_failed");
    let referring = it
        .create(&ann, "deals", json!({"title": "D", "contact_id": his.id}))
        .await;
    assert_eq!(code(referring), "validation_failed");
    let (manager, _) = it.member("manager").await?;
    let given = it
        .update(&manager, &hers, None, json!({"owner_id": bob_id}))
        .await?;
    assert_eq!(given.owner_id, Some(bob_id));
    let stranger = UserId(it.crm.clock().new_id());
    let refused = it
        .update(&manager, &given, None, json!({"owner_id": stranger}))
        .await;
    assert_eq!(code(refused), "validation_failed");
    Ok(())
}

async fn a_viewer_may_read_and_nothing_else(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let made = it
        .create(&it.operator(), "contacts", json!({"name": "Ada"}))
        .await?;
    let (viewer, _) = it.member("viewer").await?;
    it.get(&viewer, "contacts", made.id).await?;
    assert_eq!(
        code(it.create(&viewer, "contacts", json!({"name": "Eve"})).await),
        "forbidden"
    );
    assert_eq!(
        code(it.update(&viewer, &made, None, json!({})).await),
        "forbidden"
    );
    assert_eq!(code(it.delete(&viewer, &made).await), "forbidden");
    assert_eq!(code(viewer.permit::<Read>("audit")), "forbidden");
    assert_eq!(code(viewer.permit::<Read>("no_such_module")), "not_found");
    Ok(())
}

async fn a_reference_must_be_a_visible_record_of_the_same_tenant(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    let contact = it
        .create(&scope, "contacts", json!({"name": "Ada"}))
        .await?;
    it.create(
        &scope,
        "deals",
        json!({"title": "D", "contact_id": contact.id}),
    )
    .await?;
    let absent = it.crm.clock().new_id();
    let refused = it
        .create(&scope, "deals", json!({"title": "D", "contact_id": absent}))
        .await;
    let Err(Error::Invalid(fields)) = refused else {
        anyhow::bail!("accepted: {refused:?}")
    };
    assert_eq!(
        (&*fields[0].pointer, fields[0].code),
        ("/contact_id", "unknown_reference")
    );
    Ok(())
}

async fn a_referenced_record_is_not_deleted(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    let contact = it
        .create(&scope, "contacts", json!({"name": "Ada"}))
        .await?;
    let deal = it
        .create(
            &scope,
            "deals",
            json!({"title": "D", "contact_id": contact.id}),
        )
        .await?;
    assert_eq!(code(it.delete(&scope, &contact).await), "has_dependents");
    it.get(&scope, "contacts", contact.id).await?;
    it.delete(&scope, &deal).await?;
    it.delete(&scope, &contact).await?;
    Ok(())
}

async fn every_write_leaves_one_audit_row_and_one_event_and_a_failed_one_leaves_none(
    backend: Backend,
) -> anyhow::Result<()> {
    let seen = Arc::new(Collector::default());
    let it = Fixture::with(backend, Some(seen.clone())).await?;
    let scope = it.operator();
    let before = it.audit().await?.len();
    let made = it
        .create(
            &scope,
            "contacts",
            json!({"name": "Ada", "email": "a@b.example"}),
        )
        .await?;
    let changed = it
        .update(&scope, &made, None, json!({"name": "Ada L"}))
        .await?;
    for refused in [
        it.create(
            &scope,
            "contacts",
            json!({"name": "Eve", "email": "A@b.example"}),
        )
        .await,
        it.update(&scope, &made, Some(1), json!({"name": "Eve"}))
            .await,
        it.create(&scope, "contacts", json!({"name": ""})).await,
    ] {
        assert!(refused.is_err());
    }
    it.delete(&scope, &made).await?;
    it.crm.dispatch_once().await?;
    let events = seen.take();
    let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(
        kinds,
        ["contact.created", "contact.updated", "contact.deleted"]
    );
    assert_eq!(
        events[1].after,
        Some(serde_json::from_str(&changed.to_json())?)
    );
    assert_eq!(events[1].before, events[0].after);
    let audit = it.audit().await?;
    let actions: Vec<_> = audit
        .iter()
        .rev()
        .skip(before)
        .map(|e| e.action.as_str())
        .collect();
    assert_eq!(
        actions,
        ["contacts.create", "contacts.update", "contacts.delete"]
    );
    assert_eq!(audit[1].before, events[1].before);
    assert_eq!(
        (audit[1].actor.as_str(), audit[1].request_id.as_str()),
        ("operator", "req-1")
    );
    Ok(())
}

async fn a_unique_email_is_taken_without_regard_to_case_and_in_its_tenant_only(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let ada = json!({"name": "Ada", "email": "Ada@Acme.example"});
    let shouting = json!({"name": "Ada", "email": "ADA@acme.example"});
    it.create(&it.operator(), "contacts", ada.clone()).await?;
    let taken = it.create(&it.operator(), "contacts", shouting).await;
    let Err(Error::Conflict { code, message }) = taken else {
        anyhow::bail!("{taken:?}")
    };
    assert_eq!(
        (code, &*message),
        (
            "already_exists",
            "another record has the same email already"
        )
    );
    let foreign = it.crm.tenants().create("Rival", request()).await?.id;
    it.create(&it.crm.operator(foreign, request()), "contacts", ada)
        .await?;
    Ok(())
}

async fn racing_creates_of_one_unique_value_make_one_record(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    let input = json!({"name": "Ada", "email": "ada@acme.example"});
    let racers = (0..16).map(|_| it.create(&scope, "contacts", input.clone()));
    let answers = futures::future::join_all(racers).await;
    let codes: Vec<_> = answers.into_iter().map(code).collect();
    assert_eq!(
        codes.iter().filter(|code| **code == "ok").count(),
        1,
        "{codes:?}"
    );
    assert_eq!(
        codes
            .iter()
            .filter(|code| **code == "already_exists")
            .count(),
        15,
        "{codes:?}"
    );
    Ok(())
}

async fn racing_updates_of_one_version_change_it_once(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    let made = it
        .create(&scope, "contacts", json!({"name": "Ada"}))
        .await?;
    let racers = (1..=16).map(|n| it.update(&scope, &made, Some(1), json!({"score": n})));
    let answers = futures::future::join_all(racers).await;
    let changed = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(
        (changed, it.get(&scope, "contacts", made.id).await?.version),
        (1, 2)
    );
    Ok(())
}

#[derive(Default)]
struct Collector {
    events: Mutex<Vec<Arc<Event>>>,
    refuse: Mutex<Option<RecordId>>,
}

impl Collector {
    fn take(&self) -> Vec<Arc<Event>> {
        std::mem::take(&mut self.events.lock().expect("not poisoned"))
    }

    fn refuse(&self, record: Option<RecordId>) {
        *self.refuse.lock().expect("not poisoned") = record;
    }
}

impl Subscriber for Collector {
    fn name(&self) -> &'static str {
        "collector"
    }

    fn deliver(&self, event: Arc<Event>) -> BoxFuture<'_, crm_core::Result<()>> {
        Box::pin(async move {
            if *self.refuse.lock().expect("not poisoned") == Some(event.record_id) {
                return Err(Error::unavailable("not now"));
            }
            self.events.lock().expect("not poisoned").push(event);
            Ok(())
        })
    }
}

async fn events_reach_subscribers_in_order_and_again_after_a_failure(
    backend: Backend,
) -> anyhow::Result<()> {
    let seen = Arc::new(Collector::default());
    let it = Fixture::with(backend, Some(seen.clone())).await?;
    let scope = it.operator();
    let (one, two) = (
        it.create(&scope, "things", json!({"number": 0})).await?,
        it.create(&scope, "things", json!({"number": 0})).await?,
    );
    for n in 1..4 {
        it.update(&scope, &one, None, json!({"number": n})).await?;
        it.update(&scope, &two, None, json!({"number": n})).await?;
    }
    seen.refuse(Some(one.id));
    it.crm.dispatch_once().await?;
    assert!(seen.take().iter().all(|event| event.record_id == two.id));
    seen.refuse(None);
    it.crm.dispatch_once().await?;
    let counts: Vec<_> = seen
        .take()
        .iter()
        .map(|event| {
            event
                .after
                .as_ref()
                .and_then(|after| after["number"].as_i64())
        })
        .collect();
    assert_eq!(counts, [Some(0), Some(1), Some(2), Some(3)]);
    assert_eq!(it.crm.dispatch_once().await?, 0);
    Ok(())
}

async fn money_is_exact(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    for (amount, stored) in [
        ("0.1", "0.10"),
        ("99999999.99", "99999999.99"),
        ("-0.01", "-0.01"),
    ] {
        let made = it
            .create(&scope, "things", json!({"price": amount}))
            .await?;
        let read = it.get(&scope, "things", made.id).await?;
        assert_eq!(
            read.get("price").map(|price| json!(price)),
            Some(json!(stored))
        );
        assert_eq!(read.to_json(), made.to_json());
    }
    for amount in ["NaN", "1e27", "0.001", "100000000", "-", "1,5"] {
        let refused = it.create(&scope, "things", json!({"price": amount})).await;
        assert_eq!(code(refused), "validation_failed", "{amount}");
    }
    let blank = it.create(&scope, "things", json!({"price": " "})).await?;
    assert_eq!(blank.get("price").map(|price| price.is_null()), Some(true));
    Ok(())
}

#[test]
fn time_moves_only_forward() {
    let (clock, hand) = Clock::fixed(DateTime::UNIX_EPOCH, 0);
    let before = clock.now();
    hand.advance(TimeDelta::seconds(1));
    assert_eq!(clock.now() - before, TimeDelta::seconds(1));
}
