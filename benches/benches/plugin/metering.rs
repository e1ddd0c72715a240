//! What fuel and epochs cost, each alone and both, on a heavy loop and on a small function: whether
//! one engine that has both is worth a second one.

use std::time::{Duration, Instant};

use wasmtime::{Config, Engine, Instance, Module, Store};

use crate::seen::{percentile, print};

/// Mixes numbers in memory, as often as it is told.
const LOOP: &str = r#"(module
    (memory 1)
    (func (export "work") (param $n i32) (result i32)
        (local $at i32) (local $sum i32)
        (loop $on
            (local.set $at (i32.and (i32.mul (local.get $n) (i32.const 40503)) (i32.const 0xfffc)))
            (local.set $sum (i32.add (local.get $sum) (i32.load (local.get $at))))
            (if (i32.and (local.get $sum) (i32.const 1))
                (then (local.set $sum (i32.xor (local.get $sum) (local.get $n)))))
            (i32.store (local.get $at) (local.get $sum))
            (br_if $on (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (local.get $sum)))"#;

fn time(fuel: bool, epochs: bool, rounds: i32) -> Duration {
    let mut config = Config::new();
    config.consume_fuel(fuel).epoch_interruption(epochs);
    let engine = Engine::new(&config).unwrap();
    let module = Module::new(&engine, wat::parse_str(LOOP).unwrap()).unwrap();
    let mut store = Store::new(&engine, ());
    if fuel {
        store.set_fuel(u64::MAX).unwrap();
    }
    if epochs {
        store.set_epoch_deadline(u64::MAX / 2);
    }
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    let work = instance
        .get_typed_func::<i32, i32>(&mut store, "work")
        .unwrap();
    let times = (0..40).map(|_| {
        let started = Instant::now();
        work.call(&mut store, rounds).unwrap();
        started.elapsed()
    });
    percentile(&mut times.collect::<Vec<_>>(), 50)
}

pub(crate) fn metering() {
    for (what, rounds) in [("heavy loop", 10_000_000), ("small function", 1_000)] {
        let plain = time(false, false, rounds);
        let with = |fuel, epochs| {
            let time = time(fuel, epochs, rounds);
            let more = (time.as_secs_f64() / plain.as_secs_f64() - 1.0) * 100.0;
            format!("{time:.1?} ({more:+.0} %)")
        };
        let seen = format!(
            "{plain:.1?}; with epochs {}, with fuel {}, with both {}",
            with(false, true),
            with(true, false),
            with(true, true)
        );
        print(&format!("{what}, unmetered"), &seen, "");
    }
}
