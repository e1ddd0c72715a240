//! What an upload is refused for, and with which code.

use crm_core::Error;
use crm_core::hook::PluginHost;
use crm_plugins::testing::append_section;
use crm_plugins::{Limits, check, embed_manifest};

use super::guest::{GET_AND_LOG, Guest, LOG_KIND, SUCCEED, component, embed, encode, manifest};
use super::host;

async fn refusal(component: Vec<u8>) -> (&'static str, String) {
    match host(Limits::default()).inspect(component.into()).await {
        Err(Error::Invalid(fields)) => (fields[0].code, fields[0].message.clone()),
        Err(Error::LimitExceeded { code, message }) => (code, message.into_owned()),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// A component of a world of its own, with our manifest.
fn stranger(wit: &str, module: &str) -> Vec<u8> {
    let mut module = wat::parse_str(module).unwrap();
    embed(&mut module, wit, "w");
    embed_manifest(&mut module, &manifest(["handle"]));
    encode(&module)
}

fn core_module(body: &str) -> Vec<u8> {
    Guest::new("handle", body).core_module()
}

fn with_manifest(body: &str, manifest: &str) -> Vec<u8> {
    Guest::new("handle", body).manifest(manifest).component()
}

#[tokio::test]
async fn a_good_component_answers_its_manifest() {
    let manifest = host(Limits::default())
        .inspect(component(GET_AND_LOG).into())
        .await
        .unwrap();
    assert_eq!(manifest.name.as_str(), "probe");
    assert_eq!(manifest.grants.len(), 1);
}

#[tokio::test]
async fn the_manifest_is_found_outside_the_core_module_too() {
    let mut bytes = encode(&core_module(SUCCEED));
    embed_manifest(&mut bytes, &manifest(["handle"]));
    host(Limits::default()).inspect(bytes.into()).await.unwrap();
}

#[tokio::test]
async fn garbage_is_not_a_component() {
    for bytes in [
        &b"PK\x03\x04 a zip file"[..],
        b"",
        b"(component)",
        b"\0asm\x99\x00\x77\x00",
    ] {
        let (code, _) = refusal(bytes.to_vec()).await;
        assert!(
            ["not_a_component", "truncated_component"].contains(&code),
            "{bytes:?}: {code}"
        );
    }
}

#[tokio::test]
async fn a_core_module_is_not_a_component_and_the_way_out_is_named() {
    let (code, message) = refusal(core_module(SUCCEED)).await;
    assert_eq!(code, "not_a_component");
    assert!(message.contains("crm plugin build"), "{message}");
}

#[tokio::test]
async fn precompiled_code_is_refused() {
    let host = host(Limits::default());
    let engine = wasmtime::Engine::default();
    let code = engine.precompile_component(&component(SUCCEED)).unwrap();
    assert!(host.inspect(code.clone().into()).await.is_err());
    let (refused, message) = refusal(code).await;
    assert_eq!(refused, "not_a_component");
    assert!(message.contains("machine code"), "{message}");
}

#[tokio::test]
async fn every_truncation_is_refused_and_most_are_named_so() {
    let whole = component(GET_AND_LOG);
    let limits = Limits::default();
    let mut named = 0;
    for end in 0..whole.len() {
        match check(&whole[..end], &limits) {
            Err(Error::Invalid(fields)) => {
                named += usize::from(fields[0].code == "truncated_component");
            }
            // Nothing is missing but a custom section that says which tools made the component.
            Ok(_) => assert_eq!(whole[end], 0, "the first {end} bytes were not refused"),
            Err(other) => panic!("the first {end} bytes: {other:?}"),
        }
    }
    // Where a cut falls between two sections, the rest is whole but lacks what it must have.
    assert!(named * 100 > whole.len() * 90, "{named} of {}", whole.len());
}

#[tokio::test]
async fn flipped_bytes_never_panic_and_never_get_past_the_compiler_unseen() {
    let whole = component(GET_AND_LOG);
    let limits = Limits::default();
    let engine = wasmtime::Engine::default();
    for at in (0..whole.len()).step_by(7) {
        let mut bent = whole.clone();
        bent[at] ^= 0x55;
        if check(&bent, &limits).is_ok() {
            assert!(
                wasmtime::component::Component::new(&engine, &bent).is_ok(),
                "byte {at}: the check lets through what the compiler refuses"
            );
        }
    }
}

#[tokio::test]
async fn an_oversized_component_is_refused_unread() {
    let host = host(Limits {
        component_bytes: 1_000,
        ..Limits::default()
    });
    match host.inspect(vec![0; 1_001].into()).await {
        Err(Error::LimitExceeded { code, message }) => {
            assert_eq!(code, "component_too_large");
            assert!(message.contains("1000"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_component_without_a_manifest_is_refused() {
    assert_eq!(
        refusal(encode(&core_module(SUCCEED))).await.0,
        "missing_manifest"
    );
}

#[tokio::test]
async fn two_manifests_are_one_too_many() {
    let mut bytes = component(SUCCEED);
    embed_manifest(&mut bytes, &manifest(["handle"]));
    assert_eq!(refusal(bytes).await.0, "invalid_manifest");
}

#[tokio::test]
async fn a_broken_manifest_is_refused_with_its_reason() {
    let odd = format!("colour = 1\n{}", manifest(["handle"]));
    let (code, message) = refusal(with_manifest(SUCCEED, &odd)).await;
    assert_eq!(code, "invalid_manifest");
    assert!(message.contains("colour"), "{message}");
    let mut module = core_module(SUCCEED);
    append_section(&mut module, "crm:manifest", b"\xff\xfe");
    assert_eq!(refusal(encode(&module)).await.0, "invalid_manifest");
}

#[tokio::test]
async fn a_manifest_that_hides_what_the_component_imports_is_refused() {
    let whole = manifest(["handle"]);
    let reads = whole.replace("'read', ", "");
    let (code, message) = refusal(with_manifest(GET_AND_LOG, &reads)).await;
    assert_eq!(code, "ungranted_import");
    assert!(message.contains("records.get"), "{message}");
    let none = whole.split("[[grants]]").next().unwrap();
    assert_eq!(
        refusal(with_manifest(GET_AND_LOG, none)).await.0,
        "ungranted_import"
    );
    assert!(check(&with_manifest(LOG_KIND, none), &Limits::default()).is_ok());
}

#[tokio::test]
async fn each_interface_must_be_asked_for() {
    for (call, asked) in [
        ("(call $fetch", "hosts = ['api.example.com']"),
        ("(call $secret", "secrets = ['token']"),
        ("(call $kv_get", "kv = true"),
        ("(call $emit", "emits = ['scored']"),
    ] {
        let count = match call {
            "(call $fetch" => 9,
            "(call $emit" => 5,
            _ => 3,
        };
        let body = format!("{call} {}) (i32.const 0)", "(i32.const 0)".repeat(count));
        let whole = manifest(["handle"]);
        check(&with_manifest(&body, &whole), &Limits::default()).unwrap();
        let (code, _) = refusal(with_manifest(&body, &whole.replace(asked, ""))).await;
        assert_eq!(code, "ungranted_import", "{call}");
    }
}

#[tokio::test]
async fn every_trigger_needs_its_export_and_more_exports_do_no_harm() {
    let more = Guest::new("handle", SUCCEED).and("cron", SUCCEED);
    let (code, message) = refusal(
        Guest::new("handle", SUCCEED)
            .manifest(&manifest(["handle", "cron"]))
            .component(),
    )
    .await;
    assert_eq!(code, "missing_export");
    assert!(message.contains("cron"), "{message}");
    let fewer = more.manifest(&manifest(["handle"])).component();
    check(&fewer, &Limits::default()).unwrap();
}

#[tokio::test]
async fn wasi_is_a_foreign_import() {
    let (code, message) = refusal(stranger(
        "package wasi:random@0.2.0;
         interface random { get-random-u64: func() -> u64; }
         world w { import random; export handle: func(); }",
        r#"(module
            (import "wasi:random/random@0.2.0" "get-random-u64" (func (result i64)))
            (func (export "handle")))"#,
    ))
    .await;
    assert_eq!(code, "foreign_import");
    assert!(message.contains("wasi:random/random@0.2.0"), "{message}");
}

#[tokio::test]
async fn an_import_of_ours_with_another_shape_is_foreign() {
    let wit = "package crm:automation@1.0.0;
        interface log { shout: func(); }
        world w { import log; export handle: func(); }";
    let module = r#"(module
        (import "crm:automation/log@1.0.0" "shout" (func))
        (func (export "handle")))"#;
    assert_eq!(refusal(stranger(wit, module)).await.0, "foreign_import");
    let next = wit.replace("1.0.0", "2.0.0");
    assert_eq!(
        refusal(stranger(&next, &module.replace("1.0.0", "2.0.0")))
            .await
            .0,
        "foreign_import"
    );
}

#[tokio::test]
async fn the_handler_must_be_there_in_the_right_shape() {
    let other = stranger(
        "package a:b; world w { export other: func(); }",
        r#"(module (func (export "other")))"#,
    );
    assert_eq!(refusal(other).await.0, "missing_export");
    let wrong = stranger(
        "package a:b; world w { export handle: func(); }",
        r#"(module (func (export "handle")))"#,
    );
    assert_eq!(refusal(wrong).await.0, "wrong_export");
}

#[tokio::test]
async fn a_component_that_starts_beyond_the_memory_limit_is_refused_at_upload() {
    let host = host(Limits {
        memory_bytes: 1 << 10,
        ..Limits::default()
    });
    match host.inspect(component(SUCCEED).into()).await {
        Err(Error::Invalid(fields)) => assert_eq!(fields[0].code, "unsupported_component"),
        other => panic!("{other:?}"),
    }
}
