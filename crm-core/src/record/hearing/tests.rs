//! What a judge of changes is asked through every door, and that its word holds.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Map, Value as Json, json};

use super::{Interest, Judge, Judgement, Proposed};
use crate::crm::Core;
use crate::db::{ColumnType, Sql};
use crate::error::{Error, Refusal, Result};
use crate::event::ChangeKind;
use crate::id::TenantId;
use crate::policy::fixture::{World, on_both_databases};
use crate::record::{Filter, Key, Many, Merge, Record, Reply, Work, Write};
use crate::value::Value;

on_both_databases! {
    every_door_has_its_changes_judged_while_no_transaction_is_open
    a_refusal_leaves_nothing_and_spares_the_other_writes_of_a_batch
    a_record_that_changed_while_it_was_judged_is_judged_again
    a_tenant_without_interest_is_not_asked
}

/// Refuses titles with `bad`, amends those with `loud`, and writes while it is asked.
struct Careful {
    core: std::sync::Weak<Core>,
    tenant: TenantId,
    asked: Mutex<Vec<String>>,
    meddle: Mutex<Option<Sql>>,
}

impl Careful {
    fn in_tenant(world: &World) -> Arc<Self> {
        let judge = Arc::new(Self {
            core: Arc::downgrade(&world.crm.core),
            tenant: world.tenant,
            asked: Mutex::default(),
            meddle: Mutex::default(),
        });
        assert!(world.crm.core.judge.set(judge.clone()).is_ok());
        judge
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock())
    }
}

fn title(record: &Record) -> String {
    let title = record.get("title").and_then(Value::as_text);
    title.unwrap_or_default().to_owned()
}

impl Judge for Careful {
    fn interest(&self, tenant: TenantId) -> BoxFuture<'_, Result<Option<Arc<Interest>>>> {
        let kinds = [
            ChangeKind::Created,
            ChangeKind::Updated,
            ChangeKind::Deleted,
        ];
        let all = kinds.map(|kind| ("contact".to_owned(), kind));
        let interest = (tenant == self.tenant).then(|| Arc::new(Interest::new(all)));
        async move { Ok(interest) }.boxed()
    }

    fn judge(&self, change: Arc<Proposed>) -> BoxFuture<'_, Result<Judgement>> {
        async move {
            let core = self.core.upgrade().ok_or(Error::NotFound)?;
            // On SQLite this would wait for ever while a transaction is open.
            let meddle = self.meddle.lock().take();
            let meddle = meddle.unwrap_or_else(|| Sql::new("DELETE FROM mails WHERE 1 = 0"));
            core.db.execute(meddle).await?;
            let text = change.new.as_ref().or(change.old.as_ref()).map(title);
            let text = text.unwrap_or_default();
            self.asked.lock().push(format!("{} {text}", change.kind));
            Ok(match &change.new {
                _ if text.contains("bad") => {
                    Judgement::Refused(Refusal::invalid("bad_title", "no bad ones").on("title"))
                }
                Some(_) if text.contains("loud") => {
                    Judgement::Amended(vec![(0, Value::Text(text.replace("loud", "soft")))])
                }
                _ => Judgement::Accepted,
            })
        }
        .boxed()
    }
}

fn body(title: &str) -> Map<String, Json> {
    Map::from_iter([("title".to_owned(), json!(title))])
}

async fn made(world: &World, title: &str) -> Result<Record> {
    let permit = world.operator(world.tenant).permit("contacts")?;
    world.crm.records().create(&permit, body(title)).await
}

async fn every_door_has_its_changes_judged_while_no_transaction_is_open(world: World) {
    let judge = Careful::in_tenant(&world);
    let (records, scope) = (world.crm.records(), world.operator(world.tenant));
    let one = made(&world, "loud one").await.unwrap();
    assert_eq!(title(&one), "soft one");
    let two = made(&world, "two").await.unwrap();
    assert_eq!(judge.asked(), ["created loud one", "created two"]);

    let (read, update) = (
        scope.permit("contacts").unwrap(),
        scope.permit("contacts").unwrap(),
    );
    let create = scope.permit("contacts").unwrap();
    let changed = records.update(&update, one.id, None, body("loud")).await;
    assert_eq!(title(&changed.unwrap()), "soft");
    let all = Filter::And(vec![]);
    let many = Many::update(&read, &update, all.clone(), body("many"), None).unwrap();
    assert_eq!(records.write_many(many).await.unwrap().changed, 2);
    assert_eq!(
        judge.asked(),
        ["updated loud", "updated many", "updated many"]
    );

    let delete = scope.permit("contacts").unwrap();
    let writes = vec![
        Write::create(&create, body("three")),
        Write::update(&update, two.id, None, body("loud two")),
        Write::delete(&delete, one.id, None),
    ];
    let reply = |outcomes: Vec<Result<_>>| {
        Ok(Reply {
            status: 200,
            record: None,
            body: Some(
                outcomes
                    .iter()
                    .filter(|one| one.is_ok())
                    .count()
                    .to_string(),
            ),
        })
    };
    let done = records
        .perform(&scope, Work::All(writes), None, reply)
        .await;
    assert!(format!("{done:?}").contains("\"3\""), "{done:?}");
    assert_eq!(
        judge.asked(),
        ["created three", "updated loud two", "deleted many"]
    );
    assert_eq!(
        title(&records.get(&read, two.id).await.unwrap()),
        "soft two"
    );

    let merged = made(&world, "four").await.unwrap();
    let from = vec![(merged.id, None)];
    let merge = Merge {
        from,
        ..Merge::default()
    };
    let merge = Write::merge(&read, &update, &delete, two.id, None, merge).unwrap();
    records
        .perform(&scope, Work::One(merge), None, reply)
        .await
        .unwrap();
    let asked = judge.asked();
    assert_eq!(asked[..2], ["created four", "deleted four"], "{asked:?}");

    let many = Many::delete(&read, &delete, all, None).unwrap();
    assert_eq!(records.write_many(many).await.unwrap().changed, 2);
    assert_eq!(judge.asked().len(), 2);
    assert!(Key::named(read.module().unwrap(), "title").is_err());
}

async fn a_refusal_leaves_nothing_and_spares_the_other_writes_of_a_batch(world: World) {
    let judge = Careful::in_tenant(&world);
    let (records, scope) = (world.crm.records(), world.operator(world.tenant));
    let refused = made(&world, "bad").await.unwrap_err();
    assert_eq!(refused.code(), "bad_title");
    let create = scope.permit("contacts").unwrap();
    let writes = || {
        ["a", "bad", "b"]
            .map(|title| Write::create(&create, body(title)))
            .into()
    };
    let reply = |outcomes: Vec<Result<_>>| {
        let codes = outcomes.iter().map(|one| match one {
            Ok(_) => "made",
            Err(error) => error.code(),
        });
        Ok(Reply {
            status: 200,
            record: None,
            body: Some(codes.collect::<Vec<_>>().join(" ")),
        })
    };
    let all = records
        .perform(&scope, Work::All(writes()), None, reply)
        .await;
    assert_eq!(all.unwrap_err().index, Some(1));
    let each = records
        .perform(&scope, Work::Each(writes()), None, reply)
        .await;
    assert!(
        format!("{each:?}").contains("made bad_title made"),
        "{each:?}"
    );
    let read = scope.permit("contacts").unwrap();
    let kept = records
        .list(&read, &crate::record::Query::default())
        .await
        .unwrap();
    assert_eq!(kept.data.iter().map(title).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(judge.asked().len(), 7);
}

async fn a_record_that_changed_while_it_was_judged_is_judged_again(world: World) {
    let judge = Careful::in_tenant(&world);
    let (records, scope) = (world.crm.records(), world.operator(world.tenant));
    let one = made(&world, "one").await.unwrap();
    let meddle = Sql::new("UPDATE contacts SET version = version + 1 WHERE tenant_id = $1")
        .bind(world.tenant, ColumnType::Uuid);
    *judge.meddle.lock() = Some(meddle);
    judge.asked();
    let update = scope.permit("contacts").unwrap();
    let changed = records.update(&update, one.id, None, body("loud")).await;
    let changed = changed.unwrap();
    assert_eq!((title(&changed).as_str(), changed.version), ("soft", 3));
    assert_eq!(judge.asked(), ["updated loud", "updated loud"]);
}

async fn a_tenant_without_interest_is_not_asked(world: World) {
    let judge = Careful::in_tenant(&world);
    let other = world.new_tenant("globex").await;
    let permit = world.operator(other).permit("contacts").unwrap();
    let made = world.crm.records().create(&permit, body("bad")).await;
    assert_eq!(title(&made.unwrap()), "bad");
    let permit = world.operator(world.tenant).permit("deals").unwrap();
    world
        .crm
        .records()
        .create(&permit, body("bad"))
        .await
        .unwrap();
    assert!(judge.asked().is_empty());
}
