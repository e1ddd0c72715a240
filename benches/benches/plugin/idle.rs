//! Plugins that wait: their memory, and their code loaded again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crm_plugins::testing::append_section;
use crm_plugins::{CacheFolder, Host, Limits};
use tokio::sync::Semaphore;

use crate::bare::Kept;
use crate::door::Waiting;
use crate::seen::{against, grown, memory, percentile, print, samples, shown};
use crate::{Ready, worker};

/// A host that keeps code in this folder.
fn cached(folder: &Path, limits: Limits) -> Arc<Host> {
    let mut worker = worker();
    let secret = "a secret of a bench".to_owned().into();
    let mut kept = CacheFolder::new(folder.join("code"), &secret);
    // Room for the code of all: what is measured is what memory keeps of it.
    kept.bytes = u64::MAX;
    worker.cache = Some(kept);
    Arc::new(Host::new(limits, worker).unwrap())
}

/// Code that memory has let go: what a run takes more than one whose code is kept.
pub(crate) async fn reloaded(language: &str, component: &[u8], target: &str) {
    let folder = tempfile::tempdir().unwrap();
    let keeps = cached(folder.path(), Limits::default());
    let kept = Ready::new(keeps, component).await;
    let none = Limits {
        compiled_bytes: 1,
        ..Limits::default()
    };
    let gone = Ready::of(cached(folder.path(), none), component);
    let started = Instant::now();
    gone.succeed().await;
    let first = started.elapsed();
    let mut kept = samples(2_000, async || kept.succeed().await).await;
    let mut gone = samples(2_000, async || gone.succeed().await).await;
    let alone = Kept::new(component);
    let mut alone = samples(2_000, async || drop(alone.load())).await;
    let [kept, gone] = [&mut kept, &mut gone].map(|times| percentile(times, 50));
    let again = gone.saturating_sub(kept);
    let seen = format!(
        "p50 {again:.1?}, first of the process {first:.1?}; {}",
        against(&mut [again], &mut alone)
    );
    print(&format!("{language}: code loaded again"), &seen, target);
}

/// Copies of a component that differ in a section nobody reads, loaded and run once; the second
/// half of them is measured, since the pool's memories, of which it keeps some, are warm by then.
pub(crate) async fn idle(component: &[u8], count: usize) {
    let folder = tempfile::tempdir().unwrap();
    let copies: Vec<_> = (0..count)
        .map(|number| {
            let mut copy = component.to_vec();
            append_section(&mut copy, "copy", &number.to_le_bytes());
            copy
        })
        .collect();
    let first = cached(folder.path(), Limits::default());
    let started = Instant::now();
    for copy in &copies {
        Ready::new(first.clone(), copy).await;
    }
    let each = started.elapsed() / u32::try_from(count).unwrap();
    print("compiled apart", &format!("{each:.1?} each"), "");
    drop(first);

    let next = cached(folder.path(), Limits::default());
    let (warm, idle) = copies.split_at(count / 2);
    for copy in warm {
        Ready::of(next.clone(), copy).succeed().await;
    }
    let before = memory();
    let mut times = Vec::new();
    for copy in idle {
        let ready = Ready::of(next.clone(), copy);
        let started = Instant::now();
        ready.succeed().await;
        times.push(started.elapsed());
    }
    let seen = grown(before, memory(), idle.len());
    let what = format!("{} idle plugins", idle.len());
    print(&what, &seen, "25 KiB anonymous");
    print(
        "first run of each, its code loaded and verified",
        &shown(&mut times),
        "",
    );

    let alone = Kept::new(component);
    let load = |number: usize| (0..number).map(|_| alone.load()).collect::<Vec<_>>();
    let warm = load(100);
    let before = memory();
    let kept = load(500);
    let seen = grown(before, memory(), kept.len());
    print("the same kept by Wasmtime alone", &seen, "");
    drop((warm, kept));

    let before = memory();
    for _ in 0..count {
        Ready::of(next.clone(), &copies[count - 1]).succeed().await;
    }
    let seen = grown(before, memory(), count);
    print(
        &format!("{count} more that are the same bytes"),
        &seen,
        "nothing",
    );
}

/// Instances that wait for a record, all at once.
pub(crate) async fn live(component: &[u8]) {
    const COUNT: u32 = 1_000;
    let limits = Limits {
        concurrent_runs: COUNT,
        deadline: Duration::from_secs(600),
        ..Limits::default()
    };
    let host = Arc::new(Host::new(limits, worker()).unwrap());
    let door = Arc::new(Waiting(Semaphore::new(0)));
    let mut ready = Ready::new(host, component).await;
    ready.succeed().await;
    ready.door = door.clone();
    let ready = Arc::new(ready);
    let before = memory();
    let runs: Vec<_> = (0..COUNT)
        .map(|_| {
            let ready = ready.clone();
            tokio::spawn(async move { ready.run().await })
        })
        .collect();
    drop(door.0.acquire_many(COUNT).await.unwrap());
    let seen = grown(before, memory(), COUNT as usize);
    print(&format!("{COUNT} live instances"), &seen, "50 KiB");
    ready.cancel.cancel();
    for run in runs {
        run.await.unwrap();
    }
}
