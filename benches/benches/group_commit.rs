//! Creates by 32 writers on SQLite at full durability: with group commit, and one commit each.
//!
//! Target: three times as many with group commit.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot run has nobody to answer"
)]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use criterion::{Criterion, Throughput};
use crm_benches::{Fixture, contact, speed_ratio};
use crm_core::{Create, DatabaseOptions, Permit, Records};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::runtime::Runtime;

const WRITERS: usize = 32;

struct Writers {
    // Keeps the database.
    _fixture: Fixture,
    records: Records,
    permit: Permit<Create>,
    turn: AtomicUsize,
}

impl Writers {
    async fn open(group_commit: usize) -> anyhow::Result<Self> {
        let options = DatabaseOptions {
            group_commit,
            ..DatabaseOptions::default()
        };
        let fixture = Fixture::open(Path::new(env!("CARGO_TARGET_TMPDIR")), options, 0).await?;
        Ok(Self {
            records: fixture.crm.records(),
            permit: fixture.create_permit()?,
            _fixture: fixture,
            turn: AtomicUsize::new(0),
        })
    }

    /// Makes so many contacts, 32 at a time.
    async fn create(&self, count: usize) {
        let first = self.turn.fetch_add(count, Ordering::Relaxed);
        stream::iter(first..first + count)
            .map(|serial| self.records.create(&self.permit, contact(serial)))
            .buffer_unordered(WRITERS)
            .try_for_each(async |_| Ok(()))
            .await
            .unwrap();
    }
}

fn main() {
    let runtime = Runtime::new().unwrap();
    let open = |group_commit| runtime.block_on(Writers::open(group_commit)).unwrap();
    let (grouped, single) = (open(DatabaseOptions::default().group_commit), open(1));
    let (grouped, single) = (&grouped, &single);

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("create by 32 writers");
    group.throughput(Throughput::Elements(1));
    for (name, writers) in [("group commit", grouped), ("single commits", single)] {
        group.bench_function(name, |b| {
            b.to_async(&runtime).iter_custom(async |iterations| {
                let started = Instant::now();
                writers.create(usize::try_from(iterations).unwrap()).await;
                started.elapsed()
            });
        });
    }
    group.finish();
    criterion.final_summary();

    let batch = WRITERS * 8;
    let ratio = speed_ratio(31, 1, || grouped.create(batch), || single.create(batch));
    let ratio = runtime.block_on(ratio);
    println!("group commit makes {ratio:.1} times as many (target: 3 or more)");
}
