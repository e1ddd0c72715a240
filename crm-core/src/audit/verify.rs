//! Holds a tenant's audit log against its hash chain, and names the first thing that is wrong.
//!
//! It reads the chain from its beginning, or the checkpoint that pruning left there, and each entry
//! once, some hundred at a time.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::chain::{GENESIS, Hash, Member, SEALABLE, Seal, Sealable, sealable};
use super::{Audit, PRUNE};
use crate::db::{ColumnType, Db, Row, Sql};
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::scope::{Permit, Read};

/// Seals read at a time, and the entries of some of them.
const SEALS: u64 = 128;
const ENTRIES: i64 = 512;
/// Ids that are looked up in the chain at a time.
const LOOKED_UP: usize = 250_000;
const PAGE: usize = 10_000;

/// Where a tenant's chain ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditHead {
    /// The number of the last sealed entry, counted from 1.
    pub sequence: i64,
    /// The hash over all that is sealed, in hexadecimal digits.
    pub hash: String,
    /// When it was sealed.
    pub sealed_at: DateTime<Utc>,
}

/// A link of a tenant's chain, for an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditSeal {
    /// The number of its last entry.
    pub sequence: i64,
    /// How many entries it has.
    pub entries: i64,
    /// Their ids and digests, in hexadecimal digits; absent in a checkpoint.
    pub members: Option<String>,
    /// The latest time of its entries.
    pub newest_at: DateTime<Utc>,
    /// When it was made.
    pub sealed_at: DateTime<Utc>,
    /// The hash over the seal before and all of the above, in hexadecimal digits.
    pub hash: String,
}

/// What holding the log against its chain found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// The number that the checkpoint at the chain's beginning stands for; 0 without one.
    pub pruned: i64,
    /// Entries that are as they were sealed.
    pub verified: u64,
    /// Those of them whose before and after have been erased since.
    pub erased: u64,
    /// Entries that wait to be sealed, about which nothing can be said.
    pub unsealed: u64,
    /// Where the chain ended; `None` while nothing is sealed.
    pub head: Option<AuditHead>,
    /// The first thing that is wrong.
    pub fault: Option<AuditFault>,
}

/// Something wrong with an audit log or its chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditFault {
    /// What happened.
    pub kind: AuditFaultKind,
    /// The number of the entry, or of the last entry of the seal.
    pub sequence: Option<i64>,
    /// The entry.
    pub entry_id: Option<Uuid>,
    /// What differs, in a sentence.
    pub message: String,
}

/// What happened to an audit log or its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditFaultKind {
    /// An entry is not what was sealed.
    Altered,
    /// A sealed entry is gone.
    Missing,
    /// An entry is there that was never given to be sealed.
    Inserted,
    /// The chain itself is not what it was.
    Broken,
    /// The chain never had the head that was expected.
    OtherHead,
}

impl Audit {
    /// Where the tenant's chain ends; `None` while nothing is sealed. Kept elsewhere, it proves
    /// later what the log was. `permit` is one for the object `audit`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn head(&self, permit: &Permit<Read>) -> Result<Option<AuditHead>> {
        Ok(self.last(permit).await?.as_ref().map(head))
    }

    /// Where the chain ends, its hash as bytes.
    pub(crate) async fn end(&self, permit: &Permit<Read>) -> Result<Option<(i64, Hash)>> {
        let last = self.last(permit).await?;
        Ok(last.map(|seal| (seal.sequence, seal.hash)))
    }

    async fn last(&self, permit: &Permit<Read>) -> Result<Option<Seal>> {
        let tenant = permit.on("audit")?.tenant();
        let mut sql = Seal::select();
        sql.arg(tenant, ColumnType::Uuid)
            .push(" ORDER BY sequence DESC LIMIT 1");
        let row = self.core.db.fetch_optional(sql).await?;
        row.map(Seal::read).transpose()
    }

    /// Links of the tenant's chain behind this number, in their order; none at its end. `permit` is
    /// one for the object `audit`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn seals(&self, permit: &Permit<Read>, behind: i64) -> Result<Vec<AuditSeal>> {
        let tenant = permit.on("audit")?.tenant();
        let seals = seals(&self.core.db, tenant, behind).await?;
        let told = seals.into_iter().map(|seal| AuditSeal {
            sequence: seal.sequence,
            entries: seal.entries,
            members: seal.members.as_deref().map(hex::encode),
            newest_at: seal.newest_at,
            sealed_at: seal.sealed_at,
            hash: hex::encode(seal.hash),
        });
        Ok(told.collect())
    }

    /// Holds the tenant's log against its chain; with `expected`, the hash of a head seen earlier,
    /// the chain must have gone through that one. `permit` is one for the object `audit`.
    ///
    /// # Errors
    /// Those of the database; what is wrong with the log is part of the answer.
    pub async fn verify(
        &self,
        permit: &Permit<Read>,
        expected: Option<&str>,
    ) -> Result<Verification> {
        let tenant = permit.on("audit")?.tenant();
        let db = &self.core.db;
        loop {
            let begin = first(db, tenant).await?;
            let found = Walk::new(db, tenant, expected).run().await?;
            // Who prunes meanwhile takes away what is being read.
            if found.fault.is_none() || first(db, tenant).await? == begin {
                return Ok(found);
            }
        }
    }
}

fn head(seal: &Seal) -> AuditHead {
    AuditHead {
        sequence: seal.sequence,
        hash: hex::encode(seal.hash),
        sealed_at: seal.sealed_at,
    }
}

/// The sequence of the tenant's first seal.
async fn first(db: &Db, tenant: TenantId) -> Result<Option<i64>> {
    let sql =
        Sql::new("SELECT sequence FROM audit_seals WHERE tenant_id = $1 ORDER BY sequence LIMIT 1")
            .bind(tenant, ColumnType::Uuid)
            .returns(&[ColumnType::Int]);
    let row = db.fetch_optional(sql).await?;
    row.map(|mut row| row.int()).transpose()
}

/// The seals behind this sequence.
async fn seals(db: &Db, tenant: TenantId, behind: i64) -> Result<Vec<Seal>> {
    let mut sql = Seal::select();
    sql.arg(tenant, ColumnType::Uuid)
        .push(" AND sequence > ")
        .arg(behind, ColumnType::Int)
        .push(" ORDER BY sequence LIMIT ")
        .number(SEALS);
    let rows = db.fetch_all(sql).await?;
    rows.into_iter().map(Seal::read).collect()
}

/// One reading of a chain.
struct Walk<'a> {
    db: &'a Db,
    tenant: TenantId,
    expected: Option<&'a str>,
    found: Verification,
    /// The sequence and hash of the seal read last.
    last: (i64, Hash),
}

impl<'a> Walk<'a> {
    fn new(db: &'a Db, tenant: TenantId, expected: Option<&'a str>) -> Self {
        Self {
            db,
            tenant,
            expected,
            found: Verification {
                pruned: 0,
                verified: 0,
                erased: 0,
                unsealed: 0,
                head: None,
                fault: None,
            },
            last: (0, GENESIS),
        }
    }

    async fn run(mut self) -> Result<Verification> {
        let mut anchored = self.expected.is_none();
        loop {
            let mut page = seals(self.db, self.tenant, self.last.0).await?;
            let Some(newest) = page.last() else { break };
            self.found.head = Some(head(newest));
            anchored |= page.iter().any(|seal| {
                self.expected
                    .is_some_and(|one| hex::encode(seal.hash) == one)
            });
            if self.last.0 == 0 && page[0].members.is_none() {
                let checkpoint = page.remove(0);
                self.checkpoint(&checkpoint).await?;
                self.last = (checkpoint.sequence, checkpoint.hash);
                self.found.pruned = checkpoint.sequence;
            }
            let mut rest = page.as_slice();
            while self.found.fault.is_none() && !rest.is_empty() {
                let mut entries = 0;
                let fits = rest.iter().take_while(|seal| {
                    let first = entries == 0;
                    entries += seal.entries;
                    first || entries <= ENTRIES
                });
                let (some, others) = rest.split_at(fits.count());
                self.hold(some).await?;
                rest = others;
            }
            if self.found.fault.is_some() {
                return Ok(self.found);
            }
        }
        self.look_for_inserted().await?;
        if !anchored && self.found.fault.is_none() {
            let message = "no seal of the chain has the hash that was expected; the chain was \
                           replaced, cut short, or pruned beyond that one";
            self.fault(AuditFaultKind::OtherHead, (None, None), message);
        }
        Ok(self.found)
    }

    fn fault(
        &mut self,
        kind: AuditFaultKind,
        (sequence, entry_id): (Option<i64>, Option<Uuid>),
        message: impl Into<String>,
    ) {
        self.found.fault.get_or_insert(AuditFault {
            kind,
            sequence,
            entry_id,
            message: message.into(),
        });
    }

    /// A checkpoint counts when the log tells of the pruning that made it.
    async fn checkpoint(&mut self, seal: &Seal) -> Result<()> {
        let sql = Sql::new(
            "SELECT after FROM audit_log WHERE tenant_id = $1 AND entity = 'audit' \
             AND entity_id IS NULL AND action = $2 ORDER BY id DESC LIMIT 100",
        )
        .bind(self.tenant, ColumnType::Uuid)
        .bind(PRUNE, ColumnType::Text)
        .returns(&[ColumnType::Json]);
        for mut row in self.db.fetch_all(sql).await? {
            let Some(told) = row.opt_json::<serde_json::Value>()? else {
                continue;
            };
            let sequence = told["sequence"].as_i64().unwrap_or(0);
            // A pruning goes in steps, each of which leaves a checkpoint.
            let same = sequence == seal.sequence && told["hash"] == hex::encode(seal.hash);
            if same || sequence > seal.sequence {
                return Ok(());
            }
        }
        let message = "the entries up to this one are gone, and the log tells of no pruning";
        self.fault(
            AuditFaultKind::Missing,
            (Some(seal.sequence), None),
            message,
        );
        Ok(())
    }

    /// Holds some seals against the one before them, and their entries against them.
    async fn hold(&mut self, seals: &[Seal]) -> Result<()> {
        let mut all = Vec::new();
        let mut broken = None;
        for seal in seals {
            let first = seal.sequence - seal.entries;
            if first != self.last.0 {
                broken = Some((seal.sequence, "the seals before this one are gone"));
                break;
            }
            let members = seal.members();
            let computed = seal.computed(self.tenant, &self.last.1);
            let Some(members) = members.filter(|_| computed == seal.hash) else {
                broken = Some((seal.sequence, "this seal, or one before it, was changed"));
                break;
            };
            all.extend((first + 1..).zip(members));
            self.last = (seal.sequence, seal.hash);
        }
        let entries = self.entries(&all).await?;
        for (sequence, member) in &all {
            let found = entries.binary_search_by_key(&member.id, |entry| entry.id);
            let entry = found.ok().and_then(|at| entries.get(at));
            self.compare(*sequence, member, entry);
            if self.found.fault.is_some() {
                return Ok(());
            }
        }
        if let Some((sequence, message)) = broken {
            self.fault(AuditFaultKind::Broken, (Some(sequence), None), message);
        }
        Ok(())
    }

    fn compare(&mut self, sequence: i64, member: &Member, entry: Option<&Sealable>) {
        let place = (Some(sequence), Some(member.id));
        let Some(entry) = entry else {
            let message = "the entry is gone";
            return self.fault(AuditFaultKind::Missing, place, message);
        };
        let now = entry.digest(self.tenant);
        let differs = match (now.fields == member.fields, now.payload == member.payload) {
            (true, true) => None,
            (true, false) if entry.is_erased() => {
                self.found.erased += 1;
                None
            }
            (true, false) => Some("its before or after is not what was sealed"),
            (false, true) => Some(
                "its time, actor, action, entity, request, address, rule or impersonator is not what \
                 was sealed",
            ),
            (false, false) => Some("neither its before and after nor the rest is what was sealed"),
        };
        match differs {
            None => self.found.verified += 1,
            Some(message) => self.fault(AuditFaultKind::Altered, place, message),
        }
    }

    /// The entries that these members stand for, by id, and maybe others.
    async fn entries(&self, members: &[(i64, Member)]) -> Result<Vec<Sealable>> {
        let mut ids: Vec<Uuid> = members.iter().map(|(_, member)| member.id).collect();
        ids.sort_unstable();
        let (Some(least), Some(greatest)) = (ids.first(), ids.last()) else {
            return Ok(Vec::new());
        };
        // Entries are sealed about in the order of their ids: mostly these are all of a range.
        let most = 2 * ids.len() + 16;
        let mut sql = select();
        sql.arg(self.tenant, ColumnType::Uuid)
            .push(" AND a.id >= ")
            .arg(*least, ColumnType::Uuid)
            .push(" AND a.id <= ")
            .arg(*greatest, ColumnType::Uuid)
            .push(" ORDER BY a.id LIMIT ")
            .number(most as u64);
        let rows = self.db.fetch_all(sql).await?;
        if rows.len() < most {
            return read(rows);
        }
        let mut entries = Vec::with_capacity(ids.len());
        for some in ids.chunks(500) {
            let mut sql = select();
            sql.arg(self.tenant, ColumnType::Uuid)
                .push(" AND a.id IN (");
            for (count, id) in some.iter().enumerate() {
                if count > 0 {
                    sql.push(", ");
                }
                sql.arg(*id, ColumnType::Uuid);
            }
            sql.push(") ORDER BY a.id");
            entries.extend(read(self.db.fetch_all(sql).await?)?);
        }
        Ok(entries)
    }

    /// Counts what is not in the chain, and looks for it where there is more than what waits.
    async fn look_for_inserted(&mut self) -> Result<()> {
        let sql = Sql::new(
            "SELECT (SELECT count(*) FROM audit_log WHERE tenant_id = $1 AND id NOT IN \
               (SELECT entry_id FROM audit_unsealed WHERE tenant_id = $1)), \
             (SELECT count(*) FROM audit_unsealed WHERE tenant_id = $1), \
             (SELECT max(sequence) FROM audit_seals WHERE tenant_id = $1)",
        )
        .bind(self.tenant, ColumnType::Uuid)
        .returns(&[ColumnType::Int, ColumnType::Int, ColumnType::Int]);
        let row = self.db.fetch_optional(sql).await?;
        let mut row = row.ok_or_else(|| Error::internal("a count answered nothing"))?;
        let (present, unsealed): (i64, i64) = (row.int()?, row.int()?);
        self.found.unsealed = unsealed.unsigned_abs();
        let sealed = match row.next() {
            crate::value::Value::Int(sequence) => sequence - self.found.pruned,
            _ => 0,
        };
        if present <= sealed {
            return Ok(());
        }
        let mut behind = Uuid::nil();
        loop {
            let mut ids: Vec<Uuid> = Vec::new();
            while ids.len() < LOOKED_UP {
                let page = self.candidates(behind).await?;
                let whole = page.len() == PAGE;
                behind = page.last().copied().unwrap_or(behind);
                ids.extend(page);
                if !whole {
                    break;
                }
            }
            if ids.is_empty() {
                return Ok(());
            }
            if let Some(id) = self.unknown(&ids).await? {
                let message = "the entry was never given to be sealed";
                self.fault(AuditFaultKind::Inserted, (None, Some(id)), message);
                return Ok(());
            }
        }
    }

    /// The ids of entries behind this one that do not wait to be sealed.
    async fn candidates(&self, behind: Uuid) -> Result<Vec<Uuid>> {
        let mut sql = Sql::new(
            "SELECT id FROM audit_log WHERE tenant_id = $1 AND id > $2 AND id NOT IN \
             (SELECT entry_id FROM audit_unsealed WHERE tenant_id = $1) ORDER BY id LIMIT ",
        )
        .bind(self.tenant, ColumnType::Uuid)
        .bind(behind, ColumnType::Uuid)
        .returns(&[ColumnType::Uuid]);
        sql.number(PAGE as u64);
        let rows = self.db.fetch_all(sql).await?;
        rows.into_iter().map(|mut row| row.uuid()).collect()
    }

    /// The first of these ids, in order, that no seal has.
    async fn unknown(&self, ids: &[Uuid]) -> Result<Option<Uuid>> {
        let mut known = vec![false; ids.len()];
        let mut behind = 0;
        loop {
            let page = seals(self.db, self.tenant, behind).await?;
            let Some(last) = page.last() else { break };
            behind = last.sequence;
            for member in page.iter().filter_map(Seal::members).flatten() {
                if let Ok(at) = ids.binary_search(&member.id) {
                    known[at] = true;
                }
            }
        }
        let unknown = known.iter().position(|known| !known);
        Ok(unknown.map(|at| ids[at]))
    }
}

fn select() -> Sql {
    Sql::new(sealable!(
        "SELECT ",
        " FROM audit_log a WHERE a.tenant_id = "
    ))
    .returns(SEALABLE)
}

fn read(rows: Vec<Row>) -> Result<Vec<Sealable>> {
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows {
        entries.extend(Sealable::read(row)?);
    }
    Ok(entries)
}
