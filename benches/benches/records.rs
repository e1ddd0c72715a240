//! Records through the library against the same statements in bare sqlx, on SQLite.
//!
//! Target: the library's get at 0.85 of bare sqlx or better.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot run has nobody to answer"
)]

use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use criterion::Criterion;
use crm_benches::{Bare, Fixture, contact, speed_ratio};
use crm_core::DatabaseOptions;
use crm_core::id::RecordId;
use crm_core::record::Query;
use tokio::runtime::Runtime;
use uuid::Uuid;

const CONTACTS: usize = 10_000;

/// The library and bare sqlx on one database.
struct Side {
    fixture: Fixture,
    bare: Bare,
    tenant: Uuid,
    turn: AtomicUsize,
}

impl Side {
    async fn open() -> anyhow::Result<Self> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let fixture = Fixture::open(folder, DatabaseOptions::default(), CONTACTS).await?;
        let bare = Bare::open(&fixture.url).await?;
        let tenant = fixture.scope.tenant().0;
        Ok(Self {
            fixture,
            bare,
            tenant,
            turn: AtomicUsize::new(CONTACTS),
        })
    }

    fn turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Contacts in an order without pattern: 7919 is a prime.
    fn any(&self) -> RecordId {
        self.fixture.contacts[self.turn() * 7_919 % CONTACTS]
    }

    async fn library_get(&self) {
        let permit = self.fixture.read_permit().unwrap();
        black_box(
            self.fixture
                .crm
                .records()
                .get(&permit, self.any())
                .await
                .unwrap(),
        );
    }

    async fn bare_get(&self) {
        black_box(
            self.bare
                .get(self.tenant, self.any().0)
                .await
                .unwrap()
                .unwrap(),
        );
    }

    async fn library_list(&self) {
        let permit = self.fixture.read_permit().unwrap();
        let page = self
            .fixture
            .crm
            .records()
            .list(&permit, &Query::default())
            .await
            .unwrap();
        assert_eq!(black_box(page).data.len(), 20);
    }

    async fn bare_list(&self) {
        assert_eq!(
            black_box(self.bare.list(self.tenant).await.unwrap()).len(),
            21
        );
    }

    async fn library_create(&self) {
        let permit = self.fixture.create_permit().unwrap();
        let records = self.fixture.crm.records();
        black_box(records.create(&permit, contact(self.turn())).await.unwrap());
    }

    async fn bare_create(&self) {
        black_box(self.bare.create(self.tenant, self.turn()).await.unwrap());
    }
}

fn main() {
    let runtime = Runtime::new().unwrap();
    let side = runtime.block_on(Side::open()).unwrap();
    let side = &side;

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("records");
    group.bench_function("get/library", |b| {
        b.to_async(&runtime).iter(|| side.library_get())
    });
    group.bench_function("get/bare", |b| {
        b.to_async(&runtime).iter(|| side.bare_get())
    });
    group.bench_function("list/library", |b| {
        b.to_async(&runtime).iter(|| side.library_list())
    });
    group.bench_function("list/bare", |b| {
        b.to_async(&runtime).iter(|| side.bare_list())
    });
    group.bench_function("create/library", |b| {
        b.to_async(&runtime).iter(|| side.library_create())
    });
    group.bench_function("create/bare", |b| {
        b.to_async(&runtime).iter(|| side.bare_create())
    });
    group.finish();
    criterion.final_summary();

    let (get, list, create) = runtime.block_on(async {
        (
            speed_ratio(101, 100, || side.library_get(), || side.bare_get()).await,
            speed_ratio(101, 20, || side.library_list(), || side.bare_list()).await,
            speed_ratio(101, 10, || side.library_create(), || side.bare_create()).await,
        )
    });
    println!("the library's speed as a share of bare sqlx's, measured in turns:");
    println!("get {get:.2} (target: 0.85 or more), list of 20 {list:.2}, create {create:.2}");
}
