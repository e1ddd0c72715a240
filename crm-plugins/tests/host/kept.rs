//! Compiled code that memory lets go and the folder keeps, code that tenants share, and what passes
//! when there is none for the moment.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crm_core::Error;
use crm_core::hook::{Loaded, Outcome, PluginHost};
use crm_plugins::{CacheFolder, Host, Limits, Worker};
use futures::FutureExt;
use secrecy::SecretBox;
use tokio::sync::{Notify, Semaphore};

use super::door::Tenant;
use super::guest::{LOG_KIND, SUCCEED, component};
use super::worker::{COMPILER, run_kept};
use super::{call, contact_created, run_with};

/// A host that keeps code in this folder, and so many bytes of it in memory.
fn host(folder: &Path, compiled_bytes: u64) -> Host {
    let mut worker = Worker::new(COMPILER, None::<&str>);
    worker.cache = Some(CacheFolder {
        path: folder.join("code"),
        key: SecretBox::new(Box::new([1; 32])),
        bytes: 1 << 30,
    });
    let limits = Limits {
        compiled_bytes,
        ..Limits::default()
    };
    Host::new(limits, worker).unwrap()
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(folder.join("code")).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

#[tokio::test]
async fn code_that_memory_let_go_is_read_back_without_its_component() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path(), 1);
    let components = [SUCCEED, LOG_KIND].map(component);
    for component in &components {
        host.inspect(component.clone().into()).await.unwrap();
    }
    for component in components.iter().chain(&components) {
        assert_eq!(run_kept(&host, component).await, Outcome::Succeeded);
    }
}

#[tokio::test]
async fn tenants_that_install_the_same_bytes_share_their_code() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path(), 1 << 28);
    let component = component(LOG_KIND);
    for _ in 0..2 {
        host.inspect(component.clone().into()).await.unwrap();
    }
    assert_eq!(files(folder.path()).len(), 1);
    // What is compiled once runs for everybody, though nobody can fetch the component.
    for _ in 0..2 {
        assert_eq!(run_kept(&host, &component).await, Outcome::Succeeded);
    }
}

/// The turns are the library's: what it is told by them is that the component is ready.
#[tokio::test]
async fn a_tenants_turn_is_held_until_its_component_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let host = Arc::new(host(folder.path(), 1 << 28));
    let component = component(LOG_KIND);
    let (turns, taken) = (Arc::new(Semaphore::new(1)), Arc::new(Notify::new()));
    let run = {
        let (turns, taken) = (turns.clone(), taken.clone());
        let bytes = Bytes::from(component.clone());
        let mut call = call(component.clone(), Tenant::granted(&[]), contact_created());
        call.component = Box::new(move || {
            async move {
                let turn = turns.acquire_owned().await.unwrap();
                taken.notify_one();
                Ok(Loaded {
                    component: bytes,
                    turn: Some(Box::new(turn)),
                })
            }
            .boxed()
        });
        let host = host.clone();
        tokio::spawn(async move { host.run(call).await })
    };
    taken.notified().await;
    let _mine = turns.acquire().await.unwrap();
    // It is ready by now: nobody can fetch it any more, and it runs.
    assert_eq!(run_kept(&host, &component).await, Outcome::Succeeded);
    assert_eq!(run.await.unwrap().unwrap().outcome, Outcome::Succeeded);
}

#[tokio::test]
async fn code_that_was_verified_once_is_verified_again_when_somebody_changed_it() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path(), 1);
    let component = component(LOG_KIND);
    host.inspect(component.clone().into()).await.unwrap();
    assert_eq!(run_kept(&host, &component).await, Outcome::Succeeded);
    let file = files(folder.path()).remove(0);
    let mut code = std::fs::read(&file).unwrap();
    let middle = code.len() / 2;
    code[middle] ^= 1;
    let other = folder.path().join("other");
    std::fs::write(&other, code).unwrap();
    std::fs::rename(&other, &file).unwrap();
    assert_eq!(run_kept(&host, &component).await, Outcome::Refused);
}

#[tokio::test]
async fn a_folder_that_keeps_nothing_costs_nobody_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let component = component(LOG_KIND);
    let first = host(folder.path(), 1 << 28);
    first.inspect(component.clone().into()).await.unwrap();
    // Where the code belongs is a folder now, so that it can neither be read nor be replaced.
    let file = files(folder.path()).remove(0);
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir_all(file.join("taken")).unwrap();
    let next = host(folder.path(), 1 << 28);
    let report = run_with(&next, component, Tenant::granted(&[])).await;
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:?}");
    assert_eq!(
        files(folder.path()),
        [file],
        "and nothing is left unfinished"
    );
}

#[tokio::test]
async fn what_a_killed_process_left_unfinished_goes_with_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    drop(host(folder.path(), 1));
    let [abandoned, under_way] = ["abandoned.new", "under-way.new"].map(|name| {
        let path = folder.path().join("code").join(name);
        std::fs::write(&path, "the first half").unwrap();
        path
    });
    let file = std::fs::File::options()
        .write(true)
        .open(&abandoned)
        .unwrap();
    let written = file.metadata().unwrap().modified().unwrap();
    file.set_modified(written - Duration::from_secs(2 * 60 * 60))
        .unwrap();
    drop(host(folder.path(), 1));
    assert_eq!(files(folder.path()), [under_way]);
}

/// A host whose worker is a command of the shell's.
fn instead(command: &str, compile_time: Duration) -> Host {
    let worker = Worker::new("/bin/sh", ["-c", command]);
    let limits = Limits {
        compile_time,
        ..Limits::default()
    };
    Host::new(limits, worker).unwrap()
}

#[cfg(unix)]
#[tokio::test]
async fn pl_a_machine_that_is_too_busy_to_compile_is_no_fault_of_the_component() {
    let killed = instead("kill -KILL $$", Duration::from_secs(10));
    let slow = instead("exec sleep 600", Duration::from_millis(10));
    for (what, host, words) in [
        ("a kernel out of memory", killed, "try again later"),
        (
            "a machine that is slow",
            slow,
            "longer than 50ms on this machine",
        ),
    ] {
        let component = component(SUCCEED);
        let refused = host.inspect(component.clone().into()).await;
        let ran = host.run(call(component, Tenant::granted(&[]), contact_created()));
        for error in [refused.map(drop), ran.await.map(drop)] {
            match error {
                Err(Error::Unavailable { message, .. }) => {
                    assert!(message.contains(words), "{what}: {message}");
                }
                other => panic!("{what}: {other:?}"),
            }
        }
    }
}

/// A component with so many bytes beside it that say nothing.
fn padded(mut component: Vec<u8>, bytes: usize) -> Vec<u8> {
    let mut size = bytes + 5;
    component.push(0);
    while size > 0x7f {
        component.push((size & 0x7f) as u8 | 0x80);
        size >>= 7;
    }
    component.push(size as u8);
    component.extend([4, b'n', b'o', b'n', b'e']);
    component.resize(component.len() + bytes, 0);
    component
}

#[cfg(unix)]
#[tokio::test]
async fn pl_a_large_component_that_takes_long_keeps_no_small_one_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let begun = folder.path().join("begun");
    let command = format!("touch {}; exec sleep 600", begun.display());
    let host = Arc::new(instead(&command, Duration::from_millis(100)));
    let large = padded(component(SUCCEED), 20 << 20);
    let compiling = {
        let host = host.clone();
        tokio::spawn(async move { host.inspect(large.into()).await.map(drop) })
    };
    while !begun.exists() {
        assert!(!compiling.is_finished());
        tokio::task::yield_now().await;
    }
    match host.inspect(component(SUCCEED).into()).await.map(drop) {
        Err(Error::Unavailable { message, .. }) => {
            assert!(message.contains("longer than 500ms"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert!(!compiling.is_finished(), "it takes ten seconds");
    compiling.abort();
}
