//! Compiling in a process of its own: what is handed back, what is kept, and what overwhelms
//! nobody.

use std::path::Path;
use std::time::{Duration, Instant};

use crm_core::Error;
use crm_core::hook::{Outcome, PluginHost};
use crm_plugins::{CacheFolder, Host, Limits, Worker, embed_manifest};
use secrecy::SecretBox;

use super::door::Tenant;
use super::guest::{GET_AND_LOG, Guest, LOG_KIND, SUCCEED, component, manifest};
use super::{call, contact_created, run_with};

pub(crate) const COMPILER: &str = env!("CARGO_BIN_EXE_crm-plugin-compiler");

fn host(limits: Limits) -> Host {
    Host::new(limits, Worker::new(COMPILER, None::<&str>)).unwrap()
}

fn cached(folder: &Path, key: u8, bytes: u64) -> Host {
    let mut worker = Worker::new(COMPILER, None::<&str>);
    worker.cache = Some(CacheFolder {
        path: folder.to_owned(),
        key: SecretBox::new(Box::new([key; 32])),
        bytes,
    });
    Host::new(Limits::default(), worker).unwrap()
}

/// A tenant's run on a component that its host holds compiled, or has in its folder.
pub(crate) async fn run_kept(host: &Host, component: &[u8]) -> Outcome {
    let mut call = call(component.to_vec(), Tenant::granted(&[]), contact_created());
    call.component = Box::new(|| Box::pin(async { Err(Error::NotFound) }));
    host.run(call).await.unwrap().outcome
}

#[tokio::test]
async fn what_a_worker_compiles_runs_here() {
    let host = host(Limits::default());
    let component = component(GET_AND_LOG);
    host.inspect(component.clone().into()).await.unwrap();
    let tenant = Tenant::granted(&["contacts.read"]);
    let report = run_with(&host, component, tenant).await;
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:?}");
}

#[tokio::test]
async fn compiled_code_outlives_its_host_and_needs_no_component() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("code");
    let component = component(LOG_KIND);
    cached(&folder, 1, 1 << 20)
        .inspect(component.clone().into())
        .await
        .unwrap();
    let next = cached(&folder, 1, 1 << 20);
    assert_eq!(run_kept(&next, &component).await, Outcome::Succeeded);
    let stranger = cached(&folder, 2, 1 << 20);
    assert_eq!(run_kept(&stranger, &component).await, Outcome::Refused);
}

#[tokio::test]
async fn code_that_somebody_changed_never_runs() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("code");
    let component = component(LOG_KIND);
    cached(&folder, 1, 1 << 20)
        .inspect(component.clone().into())
        .await
        .unwrap();
    let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap();
    let mut code = std::fs::read(file.path()).unwrap();
    let middle = code.len() / 2;
    code[middle] ^= 1;
    std::fs::write(file.path(), code).unwrap();
    let next = cached(&folder, 1, 1 << 20);
    assert_eq!(run_kept(&next, &component).await, Outcome::Refused);
    // With the component at hand it is compiled anew.
    let report = run_with(&next, component, Tenant::granted(&[])).await;
    assert_eq!(report.outcome, Outcome::Succeeded);
}

#[tokio::test]
async fn a_folder_that_is_full_keeps_what_was_used_last() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("code");
    let host = cached(&folder, 1, 1);
    for body in [SUCCEED, LOG_KIND, GET_AND_LOG] {
        host.inspect(component(body).into()).await.unwrap();
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    let next = cached(&folder, 1, 1);
    let kept = run_kept(&next, &component(GET_AND_LOG)).await;
    assert_eq!(kept, Outcome::Failed, "it has no right to read");
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_that_others_may_enter_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut worker = Worker::new(COMPILER, None::<&str>);
    worker.cache = Some(CacheFolder {
        path: folder.path().to_owned(),
        key: SecretBox::new(Box::new([1; 32])),
        bytes: 1,
    });
    assert!(matches!(
        Host::new(Limits::default(), worker),
        Err(Error::Configuration(_))
    ));
}

#[tokio::test]
async fn a_worker_that_is_missing_or_something_else_is_a_passing_failure() {
    for (program, argument) in [("/nonexistent/worker", ""), ("/bin/false", "")] {
        let host = Host::new(Limits::default(), Worker::new(program, [argument])).unwrap();
        let refused = host.inspect(component(SUCCEED).into()).await;
        assert!(
            matches!(refused, Err(Error::Unavailable { .. })),
            "{program}: {refused:?}"
        );
    }
}

/// An upload that must be refused within two seconds, by a host that goes on.
async fn hostile(host: &Host, what: &str, component: Vec<u8>) -> &'static str {
    let started = Instant::now();
    let refused = host.inspect(component.into()).await;
    assert!(started.elapsed() < Duration::from_secs(2), "{what}");
    let code = match refused {
        Err(Error::Invalid(fields)) => fields[0].code,
        Err(Error::LimitExceeded { code, .. }) => code,
        other => panic!("{what}: {other:?}"),
    };
    let report = run_with(host, super::guest::component(SUCCEED), Tenant::granted(&[])).await;
    assert_eq!(report.outcome, Outcome::Succeeded, "after {what}");
    code
}

/// A component around the bytes of a core module, with our manifest.
fn around(module: &[u8]) -> Vec<u8> {
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    component.push(1);
    leb(&mut component, module.len());
    component.extend_from_slice(module);
    embed_manifest(&mut component, &manifest(["handle"]));
    component
}

fn section(module: &mut Vec<u8>, id: u8, content: &[u8]) {
    module.push(id);
    leb(module, content.len());
    module.extend_from_slice(content);
}

/// An unsigned number in LEB128.
fn leb(out: &mut Vec<u8>, mut value: usize) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A module of so many functions with this body.
fn functions(count: usize, body: &[u8]) -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    section(&mut module, 1, b"\x01\x60\0\0");
    let mut types = Vec::new();
    leb(&mut types, count);
    types.resize(types.len() + count, 0);
    section(&mut module, 3, &types);
    let mut code = Vec::new();
    leb(&mut code, count);
    for _ in 0..count {
        leb(&mut code, body.len());
        code.extend_from_slice(body);
    }
    section(&mut module, 10, &code);
    module
}

/// The body of a function that branches by a table of so many targets.
fn branches(targets: usize) -> Vec<u8> {
    let mut body = b"\0\x41\0\x0e".to_vec();
    leb(&mut body, targets);
    body.resize(body.len() + targets + 1, 0);
    body.push(0x0b);
    body
}

#[tokio::test]
async fn pl_a_million_functions_are_refused() {
    let host = host(Limits::default());
    let bomb = around(&functions(1_000_000, b"\0\x0b"));
    assert_eq!(
        hostile(&host, "functions", bomb).await,
        "component_too_complex"
    );
}

#[tokio::test]
async fn pl_a_giant_branch_table_is_refused() {
    let host = host(Limits::default());
    for targets in [20_000, 7_000_000] {
        let bomb = around(&functions(1, &branches(targets)));
        assert_eq!(
            hostile(&host, "targets", bomb).await,
            "component_too_complex"
        );
    }
}

#[tokio::test]
async fn pl_features_beyond_what_plugins_need_are_refused() {
    let host = host(Limits::default());
    for (what, text) in [
        ("memory64", "(module (memory i64 1))"),
        ("threads", "(module (memory 1 1 shared))"),
        (
            "atomics",
            "(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))",
        ),
        ("gc", "(module (type (struct (field i32))))"),
        ("exceptions", "(module (tag))"),
        (
            "references",
            "(module (type $f (func)) (global (ref null $f) (ref.null $f)))",
        ),
    ] {
        let bomb = around(&wat::parse_str(text).unwrap());
        assert_eq!(
            hostile(&host, what, bomb).await,
            "invalid_component",
            "{what}"
        );
    }
}

#[tokio::test]
async fn pl_other_kinds_of_files_are_refused() {
    let host = host(Limits::default());
    let whole = component(SUCCEED);
    let engine = wasmtime::Engine::default();
    let machine_code = engine.precompile_component(&whole).unwrap();
    let mut other_version = whole.clone();
    other_version[4] = 0x0e;
    for (what, bytes, codes) in [
        ("machine code", machine_code, ["not_a_component"; 2]),
        (
            "truncated",
            whole[..whole.len() / 2].to_vec(),
            ["truncated_component", "invalid_component"],
        ),
        (
            "core module",
            Guest::new("handle", SUCCEED).core_module(),
            ["not_a_component"; 2],
        ),
        (
            "version",
            other_version,
            ["not_a_component", "invalid_component"],
        ),
        ("zip", b"PK\x03\x04".repeat(1 << 18), ["not_a_component"; 2]),
    ] {
        let code = hostile(&host, what, bytes).await;
        assert!(codes.contains(&code), "{what}: {code}");
    }
}

/// Small as a file, and large once it is unfolded: types of types of types, and memory without end.
#[tokio::test]
async fn pl_what_unfolds_without_end_is_refused() {
    let host = host(Limits::default());
    let mut types = String::from("(component (type $t0 (tuple u8 u8 u8 u8 u8 u8 u8 u8 u8 u8))");
    for level in 1..12 {
        let below = format!("$t{} ", level - 1).repeat(10);
        types.push_str(&format!("(type $t{level} (tuple {below}))"));
    }
    types.push(')');
    let mut bomb = wat::parse_str(&types).unwrap();
    embed_manifest(&mut bomb, &manifest(["handle"]));
    assert_eq!(hostile(&host, "types", bomb).await, "invalid_component");

    for (what, more) in [
        ("memory", "(memory $m2 65536)"),
        ("table", "(table 4000000000 funcref)"),
    ] {
        let guest = Guest::new("handle", SUCCEED).more(more).component();
        let started = Instant::now();
        let refused = host.inspect(guest.into()).await;
        assert!(
            matches!(refused, Err(Error::Invalid(_))),
            "{what}: {refused:?}"
        );
        assert!(started.elapsed() < Duration::from_secs(2), "{what}");
    }
}

/// A guest with many functions of many blocks and variables: legal, and slow to compile.
fn slow() -> Vec<u8> {
    let mut function = String::from("(func (local ");
    function.push_str(&"i32 ".repeat(500));
    function.push(')');
    for at in 0..4_000 {
        let (from, to, over) = (at % 500, (at * 13) % 500, (at * 7) % 500);
        function.push_str(&format!(
            "(if (local.get {from}) (then (local.set {to} (local.get {over}))))"
        ));
    }
    function.push(')');
    let more: &'static str = function.repeat(60).leak();
    Guest::new("handle", SUCCEED).more(more).component()
}

#[tokio::test]
async fn pl_what_takes_the_compiler_too_long_or_too_much_is_stopped() {
    let slow = slow();
    for (limit, limits) in [
        (
            "compile_time",
            Limits {
                compile_time: Duration::from_secs(1),
                ..Limits::default()
            },
        ),
        (
            "compile_memory",
            Limits {
                compile_memory: 16 << 20,
                ..Limits::default()
            },
        ),
    ] {
        let host = host(limits);
        match host.inspect(slow.clone().into()).await {
            Err(Error::LimitExceeded { code, message }) => {
                assert_eq!(code, "component_too_complex", "{limit}");
                assert!(message.contains(limit), "{limit}: {message}");
            }
            other => panic!("{limit}: {other:?}"),
        }
        // The host goes on.
        let outcome = host.inspect(b"".as_slice().into()).await;
        assert!(matches!(outcome, Err(Error::Invalid(_))));
    }
}

#[tokio::test]
async fn pl_more_machine_code_than_allowed_is_not_taken() {
    let host = host(Limits {
        code_bytes: 1 << 10,
        ..Limits::default()
    });
    match host.inspect(component(SUCCEED).into()).await {
        Err(Error::LimitExceeded { message, .. }) => {
            assert!(message.contains("code_bytes"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}
