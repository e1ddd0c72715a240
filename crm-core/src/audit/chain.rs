//! What the hash chain of a tenant's audit log is made of: digests of entries, and seals over them.
//!
//! All of it is SHA-256 (FIPS 180-4) over a label with a version, then the parts: fixed-width
//! numbers in big-endian order, texts and ids behind their length. JSON is hashed as the database
//! writes it. The digest of an entry's payload (before and after) stands apart, so that a payload
//! can be erased and the rest still be verified.

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::db::{ColumnType, Row, Sql};
use crate::error::{Error, Result};
use crate::id::TenantId;

/// A SHA-256 hash.
pub(super) type Hash = [u8; 32];

/// The hash that the first seal of a tenant follows.
pub(super) const GENESIS: Hash = [0; 32];
/// The first byte of a seal's members: how they, and the digests in them, are made.
const VERSION: u8 = 1;
/// Bytes of one member: its entry's id and two digests.
const MEMBER: usize = 16 + 2 * 32;

/// An entry as it is hashed, its JSON as text.
#[derive(Debug)]
pub(super) struct Sealable {
    pub(super) id: Uuid,
    pub(super) occurred_at: DateTime<Utc>,
    actor: String,
    action: String,
    entity: String,
    entity_id: Option<String>,
    before: Option<String>,
    after: Option<String>,
    request_id: String,
    address: Option<String>,
    /// Absent in entries of before there was one.
    rule: Option<String>,
    erased_at: Option<DateTime<Utc>>,
    impersonator: Option<String>,
}

/// The columns of a [`Sealable`], of the table `a`; callers append where to find them.
macro_rules! sealable {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            "a.id, a.occurred_at, a.actor, a.action, a.entity, a.entity_id, ",
            "CAST(a.before AS text), CAST(a.after AS text), a.request_id, a.address, a.rule, ",
            "a.erased_at, a.impersonator",
            $after
        )
    };
}
pub(super) use sealable;

/// The types of these columns.
pub(super) const SEALABLE: &[ColumnType] = &[
    ColumnType::Uuid,
    ColumnType::Instant,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Instant,
    ColumnType::Text,
];

impl Sealable {
    /// Reads the columns; `None` where an outer join found no entry.
    pub(super) fn read(mut row: Row) -> Result<Option<Self>> {
        let Some(id) = row.opt_uuid()? else {
            return Ok(None);
        };
        Ok(Some(Self {
            id,
            occurred_at: row.instant()?,
            actor: row.text()?,
            action: row.text()?,
            entity: row.text()?,
            entity_id: row.opt_text()?,
            before: row.opt_text()?,
            after: row.opt_text()?,
            request_id: row.text()?,
            address: row.opt_text()?,
            rule: row.opt_text()?,
            erased_at: row.opt_instant()?,
            impersonator: row.opt_text()?,
        }))
    }

    /// Whether its payload is erased, and nothing stands in its place.
    pub(super) fn is_erased(&self) -> bool {
        self.erased_at.is_some() && self.before.is_none() && self.after.is_none()
    }

    pub(super) fn digest(&self, tenant: TenantId) -> Member {
        let fields = Part::new("crm audit entry 1")
            .bytes(tenant.0.as_bytes())
            .bytes(self.id.as_bytes())
            .number(self.occurred_at.timestamp_micros())
            .text(&self.actor)
            .text(&self.action)
            .text(&self.entity)
            .option(self.entity_id.as_deref())
            .text(&self.request_id)
            .option(self.address.as_deref());
        // Without a rule, the digest is that of entries from before there was one.
        let fields = match &self.rule {
            Some(rule) => fields.text(rule),
            None => fields,
        };
        let fields = fields
            .column("impersonator", self.impersonator.as_deref())
            .end();
        let payload = Part::new("crm audit payload 1")
            .option(self.before.as_deref())
            .option(self.after.as_deref())
            .end();
        Member {
            id: self.id,
            fields,
            payload,
        }
    }
}

/// An entry as its seal knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: Uuid,
    /// Over all but before and after.
    pub(super) fields: Hash,
    /// Over before and after.
    pub(super) payload: Hash,
}

impl Member {
    /// Of an entry that was gone before it was sealed: nothing has these digests.
    pub(super) fn missing(id: Uuid) -> Self {
        Self {
            id,
            fields: GENESIS,
            payload: GENESIS,
        }
    }
}

/// Some entries of a tenant, sealed together.
#[derive(Debug, Clone)]
pub(super) struct Seal {
    /// The number of its last entry.
    pub(super) sequence: i64,
    pub(super) entries: i64,
    /// Absent in a checkpoint.
    pub(super) members: Option<Vec<u8>>,
    pub(super) newest_at: DateTime<Utc>,
    pub(super) sealed_at: DateTime<Utc>,
    pub(super) hash: Hash,
}

impl Seal {
    /// The seal of these entries, which follows the one with this sequence and hash.
    pub(super) fn of(
        tenant: TenantId,
        (sequence, previous): (i64, &Hash),
        members: &[Member],
        newest_at: DateTime<Utc>,
        sealed_at: DateTime<Utc>,
    ) -> Result<Self> {
        let entries = i64::try_from(members.len()).map_err(Error::internal)?;
        let mut bytes = Vec::with_capacity(1 + members.len() * MEMBER);
        bytes.push(VERSION);
        for member in members {
            bytes.extend_from_slice(member.id.as_bytes());
            bytes.extend_from_slice(&member.fields);
            bytes.extend_from_slice(&member.payload);
        }
        let mut seal = Self {
            sequence: sequence + entries,
            entries,
            members: Some(bytes),
            newest_at,
            sealed_at,
            hash: GENESIS,
        };
        seal.hash = seal.computed(tenant, previous);
        Ok(seal)
    }

    /// The hash that it must have behind this one.
    pub(super) fn computed(&self, tenant: TenantId, previous: &Hash) -> Hash {
        Part::new("crm audit seal 1")
            .bytes(previous)
            .bytes(tenant.0.as_bytes())
            .number(self.sequence)
            .number(self.entries)
            .number(self.newest_at.timestamp_micros())
            .number(self.sealed_at.timestamp_micros())
            .bytes(self.members.as_deref().unwrap_or_default())
            .end()
    }

    /// Its entries in their order; `None` when there are not as many as it says, or of a version
    /// that this program does not know.
    pub(super) fn members(&self) -> Option<Vec<Member>> {
        let (version, rest) = self.members.as_deref()?.split_first()?;
        let whole = rest.len().is_multiple_of(MEMBER);
        let count = i64::try_from(rest.len() / MEMBER).ok()?;
        if *version != VERSION || !whole || count != self.entries {
            return None;
        }
        rest.chunks_exact(MEMBER).map(member).collect()
    }

    /// The statement that reads seals; callers append which ones.
    pub(super) fn select() -> Sql {
        Sql::new(
            "SELECT sequence, entries, members, newest_at, sealed_at, hash FROM audit_seals \
             WHERE tenant_id = ",
        )
        .returns(&[
            ColumnType::Int,
            ColumnType::Int,
            ColumnType::Bytes,
            ColumnType::Instant,
            ColumnType::Instant,
            ColumnType::Bytes,
        ])
    }

    pub(super) fn read(mut row: Row) -> Result<Self> {
        Ok(Self {
            sequence: row.int()?,
            entries: row.int()?,
            members: row.opt_bytes()?,
            newest_at: row.instant()?,
            sealed_at: row.instant()?,
            hash: hash(row.bytes()?)?,
        })
    }

    pub(super) fn insert(self, tenant: TenantId) -> Sql {
        Sql::new(
            "INSERT INTO audit_seals (tenant_id, sequence, entries, members, newest_at, sealed_at, \
             hash) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(tenant, ColumnType::Uuid)
        .bind(self.sequence, ColumnType::Int)
        .bind(self.entries, ColumnType::Int)
        .bind(self.members, ColumnType::Bytes)
        .bind(self.newest_at, ColumnType::Instant)
        .bind(self.sealed_at, ColumnType::Instant)
        .bind(self.hash.to_vec(), ColumnType::Bytes)
    }
}

fn member(bytes: &[u8]) -> Option<Member> {
    let (id, digests) = bytes.split_first_chunk::<16>()?;
    let (fields, payload) = digests.split_first_chunk::<32>()?;
    Some(Member {
        id: Uuid::from_bytes(*id),
        fields: *fields,
        payload: payload.try_into().ok()?,
    })
}

fn hash(bytes: Vec<u8>) -> Result<Hash> {
    bytes.try_into().map_err(|_| Error::Inconsistent {
        table: "audit_seals".into(),
        column: "hash".into(),
    })
}

/// A hash under way.
struct Part(Sha256);

impl Part {
    fn new(label: &str) -> Self {
        Self(Sha256::new()).text(label)
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    fn number(mut self, number: i64) -> Self {
        self.0.update(number.to_be_bytes());
        self
    }

    fn option(mut self, text: Option<&str>) -> Self {
        self.0.update([u8::from(text.is_some())]);
        match text {
            Some(text) => self.text(text),
            None => self,
        }
    }

    /// A column that came later: entries without it have the digest they had before.
    fn column(self, name: &str, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(name).text(text),
            None => self,
        }
    }

    fn end(self) -> Hash {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(previous: &Hash) -> Seal {
        let members = [Member::missing(Uuid::from_u128(1)); 2];
        let tenant = TenantId(Uuid::from_u128(9));
        let at = DateTime::UNIX_EPOCH;
        Seal::of(tenant, (5, previous), &members, at, at).unwrap()
    }

    #[test]
    fn an_entry_without_a_rule_has_the_digest_that_it_had_before_there_were_rules() {
        let mut entry = Sealable {
            id: Uuid::from_u128(1),
            occurred_at: DateTime::from_timestamp(1_750_000_000, 0).unwrap(),
            actor: "user:1".into(),
            action: "contacts.update".into(),
            entity: "contacts".into(),
            entity_id: Some("2".into()),
            before: None,
            after: None,
            request_id: "req-1".into(),
            address: None,
            rule: None,
            erased_at: None,
            impersonator: None,
        };
        let digest = |entry: &Sealable| {
            let member = entry.digest(TenantId(Uuid::from_u128(9)));
            hex::encode(member.fields)
        };
        // Made by another program from the description in the guide.
        let old = "6a4bbb8e16ffe3801d098518470d71d484ed31618d918aa8a8e23b8dd0405522";
        assert_eq!(digest(&entry), old);
        entry.rule = Some("role seller: contacts.update".into());
        let new = "d7445e1a3a11b80416733d7f1cd9a602008b641762b4bf8613afc1d3dcb7a3b9";
        assert_eq!(digest(&entry), new);
        // Whoever acted in the actor's name is part of it, where somebody did.
        entry.impersonator = Some("user:2".into());
        let one = digest(&entry);
        entry.impersonator = Some("user:3".into());
        assert!(one != new && one != digest(&entry));
        entry.rule = None;
        entry.impersonator = None;
        assert_eq!(digest(&entry), old);
    }

    #[test]
    fn a_seal_reads_back_its_members_and_depends_on_the_one_before() {
        let one = seal(&GENESIS);
        assert_eq!((one.sequence, one.entries), (7, 2));
        assert_eq!(
            one.members().unwrap(),
            [Member::missing(Uuid::from_u128(1)); 2]
        );
        assert_ne!(one.hash, seal(&[1; 32]).hash);
        for broken in [vec![], vec![2], vec![1; 80], vec![1; 81]] {
            let members = Some(broken);
            assert!(
                Seal {
                    members,
                    ..one.clone()
                }
                .members()
                .is_none()
            );
        }
    }
}
