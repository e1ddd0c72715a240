//! Guests that mean harm: how soon each is stopped, and what many of them leave behind.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crm_core::hook::Outcome;
use crm_plugins::{Host, Limits};

use crate::seen::{memory, print};
use crate::{Ready, guest};

const HOSTILE: [(&str, &str); 9] = [
    ("endless loop", guest::SPIN),
    ("memory bomb", guest::GROW),
    ("table bomb", guest::TABLE),
    ("recursion", guest::RECURSE),
    ("host call flood", guest::CALLS),
    ("read flood", guest::READS),
    ("log flood", guest::LOG),
    ("log line of 16 MiB", guest::GIANT_LOG),
    ("trap", guest::TRAP),
];

fn host(deadline: Duration) -> Arc<Host> {
    let limits = Limits {
        deadline,
        fuel: u64::MAX,
        ..Limits::default()
    };
    Arc::new(Host::in_process(limits).unwrap())
}

/// How long each runs that has 100 ms.
pub(crate) async fn stopped() {
    let host = host(Duration::from_millis(100));
    for (what, body) in HOSTILE {
        let ready = Ready::new(host.clone(), &guest::component(body)).await;
        let mut slowest = Duration::ZERO;
        let mut outcome = Outcome::Succeeded;
        for _ in 0..10 {
            let started = Instant::now();
            outcome = ready.run().await.outcome;
            slowest = slowest.max(started.elapsed());
        }
        let seen = format!("{outcome} after {slowest:.1?} at most");
        print(&format!("{what}, deadline of 100 ms"), &seen, "150 ms");
    }
}

/// What so many rounds of all of them leave behind.
pub(crate) async fn cycles(count: u32) {
    let host = host(Duration::from_millis(5));
    let mut guests = Vec::new();
    for (_, body) in HOSTILE {
        guests.push(Ready::new(host.clone(), &guest::component(body)).await);
    }
    let round = async || {
        for guest in &guests {
            assert_ne!(guest.run().await.outcome, Outcome::Succeeded);
        }
    };
    for _ in 0..count / 10 {
        round().await;
    }
    let before = memory().1;
    for _ in 0..count {
        round().await;
    }
    let seen = format!("{before} KiB resident before, {} KiB after", memory().1);
    print(&format!("{count} hostile cycles"), &seen, "no growth");
}
