//! Judges a component's bytes before anything of it is compiled or run.
//!
//! Precompiled code, core modules and components that want anything else than `crm:automation` are
//! refused; so is a component that imports what its manifest does not ask for, that exports nothing
//! for a trigger of its manifest, or that is shaped to overwhelm the compiler.

mod shape;

use crm_core::plugin::Manifest;
use crm_core::{Error, Result};
use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::TypesRef;
use wasmparser::{Parser, Validator, WasmFeatures};

use crate::limits::Limits;
use shape::Outline;

/// The custom section that holds the manifest.
pub(crate) const MANIFEST_SECTION: &str = "crm:manifest";
const PACKAGE: &str = "crm:automation/";

/// Reads the manifest of a component and judges its form, imports and exports. Compiles nothing.
///
/// # Errors
///
/// [`Error::LimitExceeded`] with `component_too_large` or `component_too_complex`; otherwise
/// [`Error::Invalid`] with one of the codes `not_a_component`, `truncated_component`,
/// `invalid_component`, `missing_manifest`, `invalid_manifest`, `foreign_import`,
/// `ungranted_import`, `missing_export`.
pub fn check(component: &[u8], limits: &Limits) -> Result<Manifest> {
    if component.len() > limits.component_bytes {
        let most = limits.component_bytes;
        return Err(Error::LimitExceeded {
            code: "component_too_large",
            message: format!("The component has more than {most} bytes (limit component_bytes).")
                .into(),
        });
    }
    check_magic(component)?;
    let outline = Outline::read(component, limits)?;
    let manifest = Manifest::parse(&manifest_text(outline.manifests)?)?;
    let mut validator = Validator::new_with_features(features());
    let types = validator
        .validate_all(component)
        .map_err(|error| refused("invalid_component", format!("It is not valid: {error}.")))?;
    check_imports(&outline.imports, types.as_ref(), &manifest)?;
    check_exports(&outline.exports, &manifest)?;
    Ok(manifest)
}

/// A refusal of the uploaded component.
pub(crate) fn refused(code: &'static str, message: impl Into<String>) -> Error {
    Error::invalid("component", code, message)
}

fn features() -> WasmFeatures {
    WasmFeatures::WASM2
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::RELAXED_SIMD
        | WasmFeatures::COMPONENT_MODEL
}

fn check_magic(bytes: &[u8]) -> Result<()> {
    const MAGIC: &[u8] = b"\0asm";
    const HEADER: usize = 8;
    let what = if bytes.starts_with(b"\x7fELF") {
        "This is compiled machine code; upload the WebAssembly component it was made from."
    } else if Parser::is_component(bytes) {
        return Ok(());
    } else if bytes.len() < HEADER && MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())]) {
        return Err(truncated());
    } else if Parser::is_core_wasm(bytes) {
        "This is a WebAssembly core module; make it a component with `crm plugin build` or \
         `wasm-tools component new`."
    } else {
        "This is not a WebAssembly component."
    };
    Err(refused("not_a_component", what))
}

fn truncated() -> Error {
    refused(
        "truncated_component",
        "The file ends in the middle of the component; upload it again.",
    )
}

/// The text of the one manifest, at whatever nesting level it lies.
fn manifest_text(manifests: Vec<&[u8]>) -> Result<String> {
    let bytes = match manifests.as_slice() {
        [one] => one.to_vec(),
        [] => {
            return Err(refused(
                "missing_manifest",
                "The component has no custom section crm:manifest; `crm plugin build` embeds \
                 plugin.toml there.",
            ));
        }
        _ => {
            return Err(refused(
                "invalid_manifest",
                "The component has more than one manifest.",
            ));
        }
    };
    String::from_utf8(bytes)
        .map_err(|_| refused("invalid_manifest", "The manifest is not UTF-8 text."))
}

fn check_imports(imports: &[&str], types: TypesRef<'_>, manifest: &Manifest) -> Result<()> {
    for import in imports {
        let item = types.component_item_for_import(import);
        if matches!(item, Some(item) if matches!(item.ty, ComponentEntityType::Type { .. })) {
            // A name for a type is nothing to call; the linker holds it equal to ours.
            continue;
        }
        let Some(interface) = interface(import) else {
            return Err(foreign(import));
        };
        let Some(ComponentEntityType::Instance(id)) = item.map(|item| item.ty) else {
            return Err(foreign(import));
        };
        for (function, item) in &types[id].exports {
            if matches!(item.ty, ComponentEntityType::Func(_)) {
                check_function(interface, function, manifest)?;
            }
        }
    }
    Ok(())
}

fn foreign(import: &str) -> Error {
    refused(
        "foreign_import",
        format!(
            "The component imports {import}, which no host gives; a plugin imports \
             crm:automation@1.0.0 and nothing else."
        ),
    )
}

/// The interface's name, when it is one of this package and a version we serve.
fn interface(import: &str) -> Option<&str> {
    let (interface, version) = import.strip_prefix(PACKAGE)?.split_once('@')?;
    version.starts_with("1.").then_some(interface)
}

/// Every function that can be called must be one that the manifest asks for.
fn check_function(interface: &str, function: &str, manifest: &Manifest) -> Result<()> {
    if manifest.may_import(interface, function) {
        return Ok(());
    }
    Err(refused(
        "ungranted_import",
        format!(
            "The component imports {interface}.{function}, and its manifest asks for nothing that allows it: \
             add what it needs, or remove the call."
        ),
    ))
}

fn check_exports(exports: &[&str], manifest: &Manifest) -> Result<()> {
    for export in manifest.exports() {
        if !exports.contains(&export) {
            let by_jobs = export == "cron" && manifest.crons().next().is_none();
            let needs = match by_jobs {
                true => "the jobs of its manifest need",
                false => "a trigger of its manifest needs",
            };
            return Err(refused(
                "missing_export",
                format!("The component exports no function {export}, which {needs}."),
            ));
        }
    }
    Ok(())
}
