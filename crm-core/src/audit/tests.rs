//! What the hash chain makes evident, on both databases: each test does to the tables what the
//! library never would.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{AuditFaultKind, AuditQuery, Verification};
use crate::db::{ColumnType, Row, Sql};
use crate::id::TenantId;
use crate::policy::fixture::{World, on_both_databases};
use crate::scope::{Create, Read};

on_both_databases! {
    an_untouched_log_verifies_and_its_head_moves_with_every_seal
    an_altered_entry_is_named_with_what_differs
    no_column_of_an_entry_is_altered_unseen
    digests_are_made_as_the_guide_tells
    an_entry_that_is_gone_is_named_sealed_or_not
    an_entry_written_past_the_library_is_named
    a_changed_or_missing_seal_breaks_the_chain
    a_chain_made_anew_lacks_the_head_that_was_kept
    entries_that_commit_late_are_sealed_late_and_verify
    racing_writers_and_sealers_leave_one_whole_chain
    tenants_have_chains_of_their_own
    a_long_log_of_small_and_large_seals_verifies
}

mod removal;

impl World {
    async fn contact(&self, tenant: TenantId, title: &str) -> Uuid {
        let permit = self.operator(tenant).permit::<Create>("contacts").unwrap();
        let body = Map::from_iter([("title".to_owned(), json!(title))]);
        let made = self.crm.records().create(&permit, body).await.unwrap();
        made.id.0
    }

    async fn contacts(&self, count: usize) {
        for number in 0..count {
            self.contact(self.tenant, &format!("number {number}")).await;
        }
    }

    async fn seal(&self) -> u64 {
        self.crm.seal_audit_once().await.unwrap()
    }

    async fn verify(&self) -> Verification {
        self.verify_with(None).await
    }

    async fn verify_with(&self, expected: Option<&str>) -> Verification {
        let permit = self.operator(self.tenant).permit::<Read>("audit").unwrap();
        self.crm.audit().verify(&permit, expected).await.unwrap()
    }

    /// The kind of the fault, its number and its entry.
    async fn fault(&self) -> (AuditFaultKind, Option<i64>, Option<Uuid>) {
        let fault = self.verify().await.fault.unwrap();
        (fault.kind, fault.sequence, fault.entry_id)
    }

    /// The ids of the tenant's entries, the oldest first.
    async fn ids(&self) -> Vec<Uuid> {
        let permit = self.operator(self.tenant).permit::<Read>("audit").unwrap();
        let query = AuditQuery {
            limit: Some(100),
            ..AuditQuery::default()
        };
        let page = self.crm.audit().list(&permit, &query).await.unwrap();
        page.data.iter().rev().map(|entry| entry.id).collect()
    }

    /// Writes an entry past the library.
    async fn forge(&self, id: Uuid) {
        let sql = Sql::new(
            "INSERT INTO audit_log (tenant_id, id, occurred_at, actor, action, entity, request_id) \
             SELECT tenant_id, $1, occurred_at, actor, action, entity, request_id FROM audit_log \
             WHERE tenant_id = $2 LIMIT 1",
        )
        .bind(id, ColumnType::Uuid)
        .bind(self.tenant, ColumnType::Uuid);
        self.execute(sql).await;
    }

    async fn tamper(&self, sql: &'static str, id: Uuid) {
        let sql = Sql::new(sql)
            .bind(self.tenant, ColumnType::Uuid)
            .bind(id, ColumnType::Uuid);
        self.execute(sql).await;
    }
}

async fn an_untouched_log_verifies_and_its_head_moves_with_every_seal(world: World) {
    assert_eq!(world.verify().await.head, None);
    world.contacts(3).await;
    let waiting = world.verify().await;
    assert_eq!((waiting.verified, waiting.unsealed), (0, 3));
    assert_eq!((world.seal().await, world.seal().await), (3, 0));
    let one = world.verify().await;
    assert_eq!((one.verified, one.unsealed, one.fault), (3, 0, None));
    world.contacts(2).await;
    world.seal().await;
    let two = world.verify().await;
    let (one, two) = (one.head.unwrap(), two.head.unwrap());
    assert_eq!((one.sequence, two.sequence), (3, 5));
    assert_ne!(one.hash, two.hash);
    // A head that was kept is gone through for ever.
    for head in [&one, &two] {
        assert_eq!(world.verify_with(Some(&head.hash)).await.fault, None);
    }
    let permit = world
        .operator(world.tenant)
        .permit::<Read>("audit")
        .unwrap();
    assert_eq!(world.crm.audit().head(&permit).await.unwrap(), Some(two));
}

async fn an_altered_entry_is_named_with_what_differs(world: World) {
    world.contacts(4).await;
    world.seal().await;
    let ids = world.ids().await;
    for (sql, differs) in [
        (
            "UPDATE audit_log SET rule = NULL WHERE tenant_id = $1 AND id = $2",
            "rule",
        ),
        (
            "UPDATE audit_log SET actor = 'user:nobody' WHERE tenant_id = $1 AND id = $2",
            "actor",
        ),
        (
            "UPDATE audit_log SET action = 'contacts.read' WHERE tenant_id = $1 AND id = $2",
            "neither",
        ),
    ] {
        if differs == "neither" {
            world
                .tamper(
                    "UPDATE audit_log SET after = NULL WHERE tenant_id = $1 AND id = $2",
                    ids[1],
                )
                .await;
        }
        world.tamper(sql, ids[1]).await;
        let fault = world.verify().await.fault.unwrap();
        assert_eq!(fault.kind, AuditFaultKind::Altered);
        assert_eq!((fault.sequence, fault.entry_id), (Some(2), Some(ids[1])));
        assert!(fault.message.contains(differs), "{}", fault.message);
    }
    // The first one is named.
    world
        .tamper(
            "UPDATE audit_log SET after = '{}' WHERE tenant_id = $1 AND id = $2",
            ids[0],
        )
        .await;
    let fault = world.verify().await.fault.unwrap();
    assert_eq!((fault.sequence, fault.entry_id), (Some(1), Some(ids[0])));
    assert!(
        fault.message.contains("before or after"),
        "{}",
        fault.message
    );
}

async fn no_column_of_an_entry_is_altered_unseen(world: World) {
    let changes = [
        "UPDATE audit_log SET occurred_at = $3 WHERE tenant_id = $1 AND id = $2",
        "UPDATE audit_log SET actor = $3 WHERE tenant_id = $1 AND id = $2",
        "UPDATE audit_log SET action = $3 WHERE tenant_id = $1 AND id = $2",
        "UPDATE audit_log SET entity = $3 WHERE tenant_id = $1 AND id = $2",
        "UPDATE audit_log SET entity_id = $3 WHERE tenant_id = $1 AND id = $2",
        "UPDATE audit_log SET request_id = $3 WHERE tenant_id = $1 AND id = $2",
        "UPDATE audit_log SET address = $3 WHERE tenant_id = $1 AND id = $2",
        "UPDATE audit_log SET rule = $3 WHERE tenant_id = $1 AND id = $2",
        "UPDATE audit_log SET impersonator = $3 WHERE tenant_id = $1 AND id = $2",
    ];
    world.contacts(changes.len()).await;
    world.seal().await;
    let ids = world.ids().await;
    let later = world.crm.clock().now() + TimeDelta::days(1);
    // The first that differs is named, so the last is changed first.
    for (at, change) in changes.into_iter().enumerate().rev() {
        let sql = Sql::new(change)
            .bind(world.tenant, ColumnType::Uuid)
            .bind(ids[at], ColumnType::Uuid);
        world
            .execute(match at {
                0 => sql.bind(later, ColumnType::Instant),
                _ => sql.bind("user:nobody", ColumnType::Text),
            })
            .await;
        let fault = world.verify().await.fault.unwrap();
        assert_eq!(fault.kind, AuditFaultKind::Altered, "{change}");
        assert_eq!(fault.entry_id, Some(ids[at]), "{change}");
        assert!(fault.message.contains("rule"), "{}", fault.message);
    }
}

/// What the guide tells to hash, written anew from its words.
struct Parts(Vec<u8>);

impl Parts {
    fn of(label: &str) -> Self {
        Self(Vec::new()).bytes(label)
    }

    fn bytes(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.0.extend((bytes.len() as u64).to_be_bytes());
        self.0.extend(bytes);
        self
    }

    fn number(mut self, number: i64) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    fn optional(mut self, text: Option<String>) -> Self {
        self.0.push(u8::from(text.is_some()));
        match text {
            Some(text) => self.bytes(text),
            None => self,
        }
    }

    fn hash(self) -> Vec<u8> {
        Sha256::digest(self.0).to_vec()
    }
}

/// The member of a seal that stands for an entry.
fn member(tenant: TenantId, mut row: Row) -> (Uuid, Vec<u8>) {
    let id: Uuid = row.uuid().unwrap();
    let at: DateTime<Utc> = row.instant().unwrap();
    let mut fields = Parts::of("crm audit entry 1")
        .bytes(tenant.0)
        .bytes(id)
        .number(at.timestamp_micros());
    for _ in ["actor", "action", "entity"] {
        fields = fields.bytes(row.text::<String>().unwrap());
    }
    let mut fields = fields
        .optional(row.opt_text().unwrap())
        .bytes(row.text::<String>().unwrap())
        .optional(row.opt_text().unwrap());
    if let Some(rule) = row.opt_text::<String>().unwrap() {
        fields = fields.bytes(rule);
    }
    if let Some(impersonator) = row.opt_text::<String>().unwrap() {
        fields = fields.bytes("impersonator").bytes(impersonator);
    }
    let payload = Parts::of("crm audit payload 1")
        .optional(row.opt_text().unwrap())
        .optional(row.opt_text().unwrap());
    let member = [id.as_bytes().to_vec(), fields.hash(), payload.hash()];
    (id, member.concat())
}

async fn digests_are_made_as_the_guide_tells(world: World) {
    use ColumnType::{Bytes, Instant, Int, Text, Uuid as Id};
    world.contacts(5).await;
    let ids = world.ids().await;
    for (sql, id) in [
        (
            "UPDATE audit_log SET rule = NULL WHERE tenant_id = $1 AND id = $2",
            ids[0],
        ),
        (
            "UPDATE audit_log SET rule = NULL, impersonator = 'user:2', address = '203.0.113.7' \
             WHERE tenant_id = $1 AND id = $2",
            ids[1],
        ),
        (
            "UPDATE audit_log SET impersonator = 'operator:3', entity_id = NULL, before = after \
             WHERE tenant_id = $1 AND id = $2",
            ids[2],
        ),
    ] {
        world.tamper(sql, id).await;
    }
    world.seal().await;
    world.contacts(1).await;
    world.seal().await;

    let db = &world.crm.core.db;
    let entries = Sql::new(
        "SELECT id, occurred_at, actor, action, entity, entity_id, request_id, address, rule, \
         impersonator, CAST(before AS text), CAST(after AS text) FROM audit_log \
         WHERE tenant_id = $1",
    )
    .bind(world.tenant, Id)
    .returns(&[
        Id, Instant, Text, Text, Text, Text, Text, Text, Text, Text, Text, Text,
    ]);
    let entries = db.fetch_all(entries).await.unwrap().into_iter();
    let entries: BTreeMap<_, _> = entries.map(|row| member(world.tenant, row)).collect();
    let seals = Sql::new(
        "SELECT sequence, entries, newest_at, sealed_at, members, hash FROM audit_seals \
         WHERE tenant_id = $1 ORDER BY sequence",
    )
    .bind(world.tenant, Id)
    .returns(&[Int, Int, Instant, Instant, Bytes, Bytes]);
    let (mut previous, mut count) = (vec![0; 32], 0);
    for mut row in db.fetch_all(seals).await.unwrap() {
        let seal = Parts::of("crm audit seal 1")
            .bytes(&previous)
            .bytes(world.tenant.0)
            .number(row.int().unwrap())
            .number(row.int().unwrap());
        let newest: DateTime<Utc> = row.instant().unwrap();
        let sealed: DateTime<Utc> = row.instant().unwrap();
        let (members, hash): (Vec<u8>, Vec<u8>) = (row.bytes().unwrap(), row.bytes().unwrap());
        for (at, member) in members[1..].chunks(80).enumerate() {
            let id = Uuid::from_slice(&member[..16]).unwrap();
            assert_eq!(member, entries[&id], "entry {at} of a seal");
            count += 1;
        }
        let seal = seal
            .number(newest.timestamp_micros())
            .number(sealed.timestamp_micros())
            .bytes(&members);
        assert_eq!((members[0], seal.hash()), (1, hash.clone()));
        previous = hash;
    }
    assert_eq!(count, 6);
}

async fn an_entry_that_is_gone_is_named_sealed_or_not(world: World) {
    world.contacts(3).await;
    world.seal().await;
    let ids = world.ids().await;
    world.contacts(1).await;
    let unsealed = world.ids().await[3];
    const REMOVE: &str = "DELETE FROM audit_log WHERE tenant_id = $1 AND id = $2";
    world.tamper(REMOVE, unsealed).await;
    world.seal().await;
    let missing = AuditFaultKind::Missing;
    assert_eq!(world.fault().await, (missing, Some(4), Some(unsealed)));
    world.tamper(REMOVE, ids[1]).await;
    assert_eq!(world.fault().await, (missing, Some(2), Some(ids[1])));
}

async fn an_entry_written_past_the_library_is_named(world: World) {
    world.contacts(3).await;
    world.seal().await;
    world.contacts(1).await;
    let forged = Uuid::from_u128(world.ids().await[1].as_u128() + (1 << 40));
    world.forge(forged).await;
    let inserted = AuditFaultKind::Inserted;
    assert_eq!(world.fault().await, (inserted, None, Some(forged)));
    world.seal().await;
    assert_eq!(world.fault().await, (inserted, None, Some(forged)));
}

async fn a_changed_or_missing_seal_breaks_the_chain(world: World) {
    for _ in 0..3 {
        world.contacts(2).await;
        world.seal().await;
    }
    let broken = AuditFaultKind::Broken;
    let change = Sql::new("UPDATE audit_seals SET hash = $1 WHERE tenant_id = $2 AND sequence = 4")
        .bind(vec![7; 32], ColumnType::Bytes)
        .bind(world.tenant, ColumnType::Uuid);
    world.execute(change).await;
    assert_eq!(world.fault().await, (broken, Some(4), None));
    let remove = Sql::new("DELETE FROM audit_seals WHERE tenant_id = $1 AND sequence = 4");
    world
        .execute(remove.bind(world.tenant, ColumnType::Uuid))
        .await;
    assert_eq!(world.fault().await, (broken, Some(6), None));
}

async fn a_chain_made_anew_lacks_the_head_that_was_kept(world: World) {
    world.contacts(4).await;
    world.seal().await;
    let kept = world.verify().await.head.unwrap();
    let ids = world.ids().await;
    world
        .tamper(
            "UPDATE audit_log SET actor = 'user:nobody' WHERE tenant_id = $1 AND id = $2",
            ids[2],
        )
        .await;
    let forget = Sql::new("DELETE FROM audit_seals WHERE tenant_id = $1");
    world
        .execute(forget.bind(world.tenant, ColumnType::Uuid))
        .await;
    let queue = Sql::new(
        "INSERT INTO audit_unsealed (tenant_id, entry_id) \
         SELECT tenant_id, id FROM audit_log WHERE tenant_id = $1",
    );
    world
        .execute(queue.bind(world.tenant, ColumnType::Uuid))
        .await;
    world.seal().await;
    assert_eq!(world.verify().await.fault, None);
    let fault = world.verify_with(Some(&kept.hash)).await.fault.unwrap();
    assert_eq!(fault.kind, AuditFaultKind::OtherHead);
}

async fn entries_that_commit_late_are_sealed_late_and_verify(world: World) {
    // Their ids are older than those of entries that are sealed already.
    let late = world.crm.clock().new_id();
    world.contacts(3).await;
    world.seal().await;
    world.forge(late).await;
    let queue = "INSERT INTO audit_unsealed (tenant_id, entry_id) VALUES ($1, $2)";
    world.tamper(queue, late).await;
    world.contacts(1).await;
    assert_eq!(world.seal().await, 2);
    let found = world.verify().await;
    assert_eq!((found.verified, found.fault), (5, None));
}

async fn racing_writers_and_sealers_leave_one_whole_chain(world: World) {
    let sealers = futures::future::join_all((0..4).map(|_| async {
        let mut sealed = 0;
        for _ in 0..10 {
            sealed += world.seal().await;
        }
        sealed
    }));
    let writers = futures::future::join_all((0..4).map(|_| world.contacts(15)));
    let (sealed, _) = futures::join!(sealers, writers);
    assert_eq!(sealed.iter().sum::<u64>() + world.seal().await, 60);
    let found = world.verify().await;
    assert_eq!((found.verified, found.unsealed, found.fault), (60, 0, None));
    assert_eq!(found.head.unwrap().sequence, 60);
}

async fn tenants_have_chains_of_their_own(world: World) {
    let rival = world.new_tenant("rival").await;
    world.contacts(2).await;
    world.contact(rival, "theirs").await;
    world.contacts(1).await;
    assert_eq!(world.seal().await, 4);
    assert_eq!(world.verify().await.head.unwrap().sequence, 3);
    let permit = world.operator(rival).permit::<Read>("audit").unwrap();
    let found = world.crm.audit().verify(&permit, None).await.unwrap();
    assert_eq!((found.verified, found.fault), (1, None));
}

async fn a_long_log_of_small_and_large_seals_verifies(world: World) {
    // As an import leaves it: more than fits into one seal, and more than one reading takes.
    let permit = world
        .operator(world.tenant)
        .permit::<Create>("contacts")
        .unwrap();
    let bodies = |count| {
        (0..count)
            .map(|n| Map::from_iter([("title".to_owned(), json!(format!("n {n}")))]))
            .collect::<Vec<_>>()
    };
    for count in [1, 100, 1, 100, 100, 100, 100, 2, 100, 100] {
        for body in bodies(count) {
            world.crm.records().create(&permit, body).await.unwrap();
        }
        if count < 100 {
            world.seal().await;
        }
    }
    world.seal().await;
    let found = world.verify().await;
    assert_eq!((found.verified, found.fault), (704, None));
}
