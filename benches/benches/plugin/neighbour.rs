//! What a hostile tenant does to another tenant's runs, quiet and hostile phases in turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crm_plugins::{Host, Limits};
use tokio::task::JoinSet;

use crate::seen::{percentile, print, shown};
use crate::{Ready, guest, worker};

/// As many as a tenant may run at once.
const AT_ONCE: usize = 8;
const PHASES: usize = 12;
const RUNS: usize = 1_000;
/// Between two runs of the tenant that works.
const PAUSE: Duration = Duration::from_micros(500);

pub(crate) async fn disturbed(component: &[u8]) {
    let host = Arc::new(Host::new(Limits::default(), worker()).unwrap());
    let works = Arc::new(Ready::new(host.clone(), component).await);
    for (what, body) in [("spins", guest::SPIN), ("takes memory", guest::GROW)] {
        let hog = Arc::new(Ready::new(host.clone(), &guest::component(body)).await);
        let (mut quiet, mut hostile) = (Vec::new(), Vec::new());
        for phase in 0..PHASES {
            if phase % 2 == 0 {
                quiet.extend(runs(works.clone()).await);
                continue;
            }
            let mut hogs = JoinSet::new();
            for _ in 0..AT_ONCE {
                let hog = hog.clone();
                hogs.spawn(async move {
                    loop {
                        hog.run().await;
                    }
                });
            }
            hostile.extend(runs(works.clone()).await);
            hogs.shutdown().await;
        }
        print("a tenant's runs, alone", &shown(&mut quiet), "");
        let beside = format!("beside a tenant that {what}, {AT_ONCE} at once");
        print(&beside, &shown(&mut hostile), "");
        let [before, after] = [&mut quiet, &mut hostile].map(|times| percentile(times, 99));
        let ratio = after.as_secs_f64() / before.as_secs_f64();
        print("p99 beside to p99 alone", &format!("{ratio:.2}"), "1.2");
    }
}

async fn runs(works: Arc<Ready>) -> Vec<Duration> {
    let work = async move {
        let mut times = Vec::with_capacity(RUNS);
        for _ in 0..RUNS {
            let started = Instant::now();
            works.succeed().await;
            times.push(started.elapsed());
            tokio::time::sleep(PAUSE).await;
        }
        times
    };
    tokio::spawn(work).await.unwrap()
}
