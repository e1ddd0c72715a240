//! The statements of this crate's source, to know which of them the suite never runs.

use std::path::Path;

use anyhow::{Context, Result};
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Item, ItemMod, LitStr};

use crate::db::seen::{conditions, shape};

/// The string literals that ask for a tenant, of all that is built without tests.
pub(super) fn statements() -> Result<Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let mut found = Vec::new();
    read(&root, &mut found)?;
    Ok(found)
}

/// Whether one of these shapes has all that is written in a statement, in its order; what `format!`
/// fills in may be anything.
pub(super) fn is_among<'a>(statement: &str, mut shapes: impl Iterator<Item = &'a str>) -> bool {
    let parts = statement.split('{').map(|part| {
        let text = part.split_once('}').map_or(part, |(_, text)| text);
        shape(text)
    });
    let parts: Vec<String> = parts.collect();
    shapes.any(|shape| {
        let mut rest = Some(shape);
        for part in &parts {
            rest = rest.and_then(|rest| Some(rest.split_once(part.as_str())?.1));
        }
        rest.is_some()
    })
}

fn read(file: &Path, found: &mut Vec<String>) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let folder = match file.file_stem().and_then(|stem| stem.to_str()) {
        Some("lib" | "mod") => file.with_file_name(""),
        _ => file.with_extension(""),
    };
    for item in syn::parse_file(&text)?.items {
        match item {
            Item::Mod(module) if in_tests(&module.attrs) => {}
            Item::Mod(ItemMod {
                ident,
                content: None,
                ..
            }) => {
                let beside = folder.join(format!("{ident}.rs"));
                let inside = folder.join(ident.to_string()).join("mod.rs");
                read(if beside.exists() { &beside } else { &inside }, found)?;
            }
            item => literals(item.into_token_stream(), &mut |literal| {
                if !conditions(&literal).is_empty() {
                    found.push(literal);
                }
            }),
        }
    }
    Ok(())
}

/// Whether something is there for tests alone.
fn in_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let condition = attribute.meta.to_token_stream().to_string();
        condition.starts_with("cfg (test") || condition.contains("\"testing\"")
    })
}

fn literals(tokens: TokenStream, each: &mut impl FnMut(String)) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => literals(group.stream(), each),
            TokenTree::Literal(literal) => {
                if let Ok(literal) = syn::parse2::<LitStr>(literal.into_token_stream()) {
                    each(literal.value());
                }
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
}
