//! Judges a component's bytes before anything of it is compiled or run.
//!
//! It owns the list of what a guest may import. Precompiled code, core modules and components that
//! want anything else than `crm:automation` are refused; so is a component that imports a right its
//! manifest does not ask for.

use crm_core::plugin::{GrantAction, Manifest};
use crm_core::{Error, Result};
use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::TypesRef;
use wasmparser::{Chunk, Parser, Payload, Validator, WasmFeatures};

use crate::limits::Limits;

/// The custom section that holds the manifest.
pub(crate) const MANIFEST_SECTION: &str = "crm:manifest";
const PACKAGE: &str = "crm:automation/";
const HANDLE: &str = "handle";

/// Reads the manifest of a component and judges its form, imports and exports. Compiles nothing.
///
/// # Errors
///
/// [`Error::LimitExceeded`] `component_too_large`; otherwise [`Error::Invalid`] with one of the
/// codes `not_a_component`, `truncated_component`, `invalid_component`, `missing_manifest`,
/// `invalid_manifest`, `foreign_import`, `ungranted_import`, `missing_export`.
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
    let manifest = Manifest::parse(&manifest_text(component)?)?;
    let mut validator = Validator::new_with_features(features());
    let types = validator
        .validate_all(component)
        .map_err(|error| refused("invalid_component", format!("It is not valid: {error}.")))?;
    let outline = Outline::read(component)?;
    check_imports(&outline.imports, types.as_ref(), &manifest)?;
    check_exports(&outline.exports)?;
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
    } else if bytes.len() < HEADER && (bytes.starts_with(MAGIC) || MAGIC.starts_with(bytes)) {
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

/// The text of the one manifest section, at whatever nesting level it lies.
fn manifest_text(component: &[u8]) -> Result<String> {
    let mut found = None;
    walk(component, |_, payload| {
        if let Payload::CustomSection(section) = payload
            && section.name() == MANIFEST_SECTION
            && found.replace(section.data()).is_some()
        {
            return Err(refused(
                "invalid_manifest",
                "The component has more than one manifest.",
            ));
        }
        Ok(())
    })?;
    let bytes = found.ok_or_else(|| {
        refused(
            "missing_manifest",
            "The component has no custom section crm:manifest; the SDK's macro embeds plugin.toml \
             there.",
        )
    })?;
    String::from_utf8(bytes.to_vec())
        .map_err(|_| refused("invalid_manifest", "The manifest is not UTF-8 text."))
}

/// The names a component imports and exports itself, not those of the parts inside it.
#[derive(Default)]
struct Outline {
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Outline {
    fn read(component: &[u8]) -> Result<Self> {
        let mut outline = Self::default();
        walk(component, |depth, payload| {
            match payload {
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section.clone() {
                        outline
                            .imports
                            .push(import.map_err(malformed)?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section.clone() {
                        outline
                            .exports
                            .push(export.map_err(malformed)?.name.name.to_owned());
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(outline)
    }
}

/// Visits every payload with its nesting depth.
fn walk<'a>(
    mut bytes: &'a [u8],
    mut visit: impl FnMut(usize, &Payload<'a>) -> Result<()>,
) -> Result<()> {
    let mut outer = Vec::new();
    let mut parser = Parser::new(0);
    parser.set_features(features());
    loop {
        // Only the outermost level may end where the bytes do.
        let whole = outer.is_empty() && bytes.is_empty();
        let payload = match parser.parse(bytes, whole).map_err(malformed)? {
            Chunk::NeedMoreData(_) => return Err(truncated()),
            Chunk::Parsed { consumed, payload } => {
                bytes = &bytes[consumed..];
                payload
            }
        };
        visit(outer.len(), &payload)?;
        match payload {
            Payload::ModuleSection { parser: inner, .. }
            | Payload::ComponentSection { parser: inner, .. } => {
                outer.push(std::mem::replace(&mut parser, inner));
            }
            Payload::End(_) => match outer.pop() {
                Some(next) => parser = next,
                None => return Ok(()),
            },
            _ => {}
        }
    }
}

fn malformed(error: wasmparser::Error) -> Error {
    refused("invalid_component", format!("It is not valid: {error}."))
}

fn check_imports(imports: &[String], types: TypesRef<'_>, manifest: &Manifest) -> Result<()> {
    for import in imports {
        let item = types.component_item_for_import(import);
        if matches!(item, Some(item) if matches!(item.ty, ComponentEntityType::Type { .. })) {
            // A name for a type is nothing to call; the linker holds it equal to ours.
            continue;
        }
        match interface(import) {
            Some("types" | "log") => {}
            Some("records") => check_grants(import, types, manifest)?,
            _ => {
                return Err(refused(
                    "foreign_import",
                    format!(
                        "The component imports {import}, which no host gives; a plugin imports \
                         crm:automation and nothing else."
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// The interface's name, when it is one of this package and a version we serve.
fn interface(import: &str) -> Option<&str> {
    let (interface, version) = import.strip_prefix(PACKAGE)?.split_once('@')?;
    version.starts_with("1.").then_some(interface)
}

/// Every imported function of `records` must be asked for by at least one grant.
fn check_grants(import: &str, types: TypesRef<'_>, manifest: &Manifest) -> Result<()> {
    let Some(ComponentEntityType::Instance(id)) =
        types.component_item_for_import(import).map(|item| item.ty)
    else {
        return Err(refused(
            "foreign_import",
            format!("The component's {import} is no interface."),
        ));
    };
    for (function, item) in &types[id].exports {
        let action = match function.as_str() {
            "get" | "list" => GrantAction::Read,
            "create" => GrantAction::Create,
            "update" => GrantAction::Update,
            _ => continue,
        };
        if matches!(item.ty, ComponentEntityType::Func(_)) && !manifest.asks(action) {
            return Err(refused(
                "ungranted_import",
                format!(
                    "The component calls records.{function}, and its manifest asks for no grant \
                     with the action {action}."
                ),
            ));
        }
    }
    Ok(())
}

fn check_exports(exports: &[String]) -> Result<()> {
    if exports.iter().any(|name| name == HANDLE) {
        return Ok(());
    }
    Err(missing_export("it exports no function of that name"))
}

/// A refusal of a component without the function the host calls.
pub(crate) fn missing_export(reason: &str) -> Error {
    refused(
        "missing_export",
        format!("The component must export `handle: func(event) -> result<_, string>`: {reason}."),
    )
}
