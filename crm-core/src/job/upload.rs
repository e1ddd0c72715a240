//! The file of a job: it arrives in pieces of any size and is kept in the database, piece by piece,
//! so that memory stays flat and a killed process loses nothing that was acknowledged.

use std::sync::Arc;

use serde_json::json;

use super::row::signed;
use super::{Lease, Shared};
use crate::crm::Core;
use crate::db::{ColumnType, Sql};
use crate::error::{Error, Result};
use crate::id::{JobId, TenantId};
use crate::record::{Answered, Once, Reply};

/// Bytes of one stored piece.
const PIECE: usize = 256 * 1024;

/// The file of a job on its way in. The job waits until [`finish`](Self::finish); an upload that is
/// dropped before leaves a job that never runs and is removed after a day.
#[must_use = "the job runs only when the upload is finished"]
pub struct Upload {
    core: Arc<Core>,
    shared: Arc<Shared>,
    tenant: TenantId,
    id: JobId,
    position: u64,
    held: Vec<u8>,
}

impl Upload {
    pub(super) fn new(core: Arc<Core>, shared: Arc<Shared>, tenant: TenantId, id: JobId) -> Self {
        Self {
            core,
            shared,
            tenant,
            id,
            position: 0,
            held: Vec::new(),
        }
    }

    /// The job.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// How many bytes have come.
    pub fn received(&self) -> u64 {
        self.position + self.held.len() as u64
    }

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// [`Error::Conflict`] `job_cancelled` when somebody cancelled the job; those of the database.
    pub async fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let fits = bytes.len().min(PIECE - self.held.len());
            let (now, later) = bytes.split_at(fits);
            // The room of a whole piece at once: growing to it would leave twice as much behind.
            self.held.reserve_exact(PIECE - self.held.len());
            self.held.extend_from_slice(now);
            bytes = later;
            if self.held.len() == PIECE {
                self.store().await?;
            }
        }
        Ok(())
    }

    async fn store(&mut self) -> Result<()> {
        let piece = std::mem::take(&mut self.held);
        let length = piece.len() as u64;
        // Only while the job still waits for its file.
        let sql = Sql::new(
            "INSERT INTO job_chunks (tenant_id, job_id, position, bytes) \
             SELECT tenant_id, id, $1, $2 FROM jobs \
             WHERE tenant_id = $3 AND id = $4 AND state = 'receiving'",
        )
        .bind(signed(self.position), ColumnType::Int)
        .bind(piece, ColumnType::Bytes)
        .bind(self.tenant, ColumnType::Uuid)
        .bind(self.id, ColumnType::Uuid);
        self.write(sql).await?;
        self.position += length;
        Ok(())
    }

    /// The file is complete: the job may run.
    ///
    /// # Errors
    /// Those of [`push`](Self::push).
    pub async fn finish(mut self) -> Result<JobId> {
        self.store_rest().await?;
        self.write(self.queue()).await?;
        self.shared.wake.notify_one();
        Ok(self.id)
    }

    /// The file is complete, and `once` knows all of it: the job may run, unless the same file came
    /// with that key before. Then its job is answered, and this one is forgotten.
    ///
    /// # Errors
    /// Those of [`push`](Self::push).
    pub async fn finish_once(mut self, once: Once) -> Result<Answered<JobId>> {
        self.store_rest().await?;
        let (id, now) = (self.id, self.core.clock.now());
        let (queue, forget) = (self.queue(), self.forget());
        let finish = self.core.db.write(move |tx| {
            Box::pin(async move {
                if let Some(answered) = once.begin(tx, now).await? {
                    tx.execute(forget).await?;
                    return Ok(answered);
                }
                if tx.execute(queue).await? == 0 {
                    return Err(cancelled());
                }
                let reply = Reply {
                    status: 202,
                    record: None,
                    body: Some(id.to_string()),
                };
                once.finish(tx, now, &reply).await?;
                Ok(Answered::Now(reply))
            })
        });
        let answered = finish.await?;
        if let Answered::Now(_) = answered {
            self.shared.wake.notify_one();
        }
        answered.try_map(|reply| {
            let id = reply.body.unwrap_or_default();
            Ok(JobId(id.parse().map_err(Error::internal)?))
        })
    }

    /// Forgets the job: the file will not come.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn abandon(self) -> Result<()> {
        let forget = self.forget();
        self.core.db.execute(forget).await.map(drop)
    }

    async fn store_rest(&mut self) -> Result<()> {
        match self.held.is_empty() {
            true => Ok(()),
            false => self.store().await,
        }
    }

    fn queue(&self) -> Sql {
        let progress = json!({"total_bytes": self.position});
        Sql::new(
            "UPDATE jobs SET state = 'queued', progress = $1 \
             WHERE tenant_id = $2 AND id = $3 AND state = 'receiving'",
        )
        .bind(progress, ColumnType::Json)
        .bind(self.tenant, ColumnType::Uuid)
        .bind(self.id, ColumnType::Uuid)
    }

    fn forget(&self) -> Sql {
        Sql::new("DELETE FROM jobs WHERE tenant_id = $1 AND id = $2 AND state = 'receiving'")
            .bind(self.tenant, ColumnType::Uuid)
            .bind(self.id, ColumnType::Uuid)
    }

    async fn write(&self, sql: Sql) -> Result<()> {
        match self.core.db.execute(sql).await? {
            0 => Err(cancelled()),
            _ => Ok(()),
        }
    }
}

fn cancelled() -> Error {
    Error::conflict(
        "job_cancelled",
        "the job was cancelled while its file arrived",
    )
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload").field("id", &self.id).finish()
    }
}

/// A stored piece of a file.
pub(crate) struct Chunk {
    pub(crate) position: u64,
    pub(crate) bytes: Vec<u8>,
}

/// The piece that holds the byte at `offset`; none at the end of the file.
pub(crate) async fn chunk_at(core: &Core, lease: Lease, offset: u64) -> Result<Option<Chunk>> {
    let sql = Sql::new(
        "SELECT position, bytes FROM job_chunks WHERE tenant_id = $1 AND job_id = $2 \
         AND position <= $3 ORDER BY position DESC LIMIT 1",
    )
    .bind(lease.tenant, ColumnType::Uuid)
    .bind(lease.id, ColumnType::Uuid)
    .bind(signed(offset), ColumnType::Int)
    .returns(&[ColumnType::Int, ColumnType::Bytes]);
    let Some(mut row) = core.db.fetch_optional(sql).await? else {
        return Ok(None);
    };
    let chunk = Chunk {
        position: row.int::<i64>()?.unsigned_abs(),
        bytes: row.bytes()?,
    };
    let end = chunk.position + chunk.bytes.len() as u64;
    Ok((offset < end).then_some(chunk))
}

/// Removes the pieces before `position`.
pub(crate) fn drop_chunks_before(lease: Lease, position: u64) -> Sql {
    Sql::new("DELETE FROM job_chunks WHERE tenant_id = $1 AND job_id = $2 AND position < $3")
        .bind(lease.tenant, ColumnType::Uuid)
        .bind(lease.id, ColumnType::Uuid)
        .bind(signed(position), ColumnType::Int)
}
