//! How a component is built: what it imports and exports itself, and how much of each thing it and
//! the parts inside it hold.
//!
//! The bounds stop what would cost the compiler more than a component of its size should.

use std::ops::Range;

use crm_core::{Error, Result};
use wasmparser::{Chunk, FunctionBody, Operator, Parser, Payload};

use super::{features, refused, truncated};
use crate::limits::Limits;

/// What the outermost level names, and every manifest there is.
#[derive(Default)]
pub(super) struct Outline<'a> {
    pub(super) imports: Vec<&'a str>,
    pub(super) exports: Vec<&'a str>,
    pub(super) manifests: Vec<&'a [u8]>,
}

impl<'a> Outline<'a> {
    /// Reads every payload of the component once.
    ///
    /// # Errors
    ///
    /// `truncated_component`, `invalid_component`, `component_too_complex`.
    pub(super) fn read(component: &'a [u8], limits: &Limits) -> Result<Self> {
        let mut outline = Self::default();
        let mut bounds = Bounds {
            limits,
            functions: 0,
        };
        walk(component, |depth, payload| {
            bounds.check(payload)?;
            outline.note(depth, payload)
        })?;
        Ok(outline)
    }

    fn note(&mut self, depth: usize, payload: &Payload<'a>) -> Result<()> {
        match payload {
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section.clone() {
                    self.imports.push(import.map_err(malformed)?.name.name);
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section.clone() {
                    self.exports.push(export.map_err(malformed)?.name.name);
                }
            }
            Payload::CustomSection(section) if section.name() == super::MANIFEST_SECTION => {
                self.manifests.push(section.data());
            }
            _ => {}
        }
        Ok(())
    }
}

struct Bounds<'l> {
    limits: &'l Limits,
    functions: u32,
}

impl Bounds<'_> {
    fn check(&mut self, payload: &Payload<'_>) -> Result<()> {
        match payload {
            Payload::FunctionSection(section) => {
                self.functions = self.functions.saturating_add(section.count());
                let most = self.limits.functions;
                if self.functions > most {
                    return Err(complex(format!("{most} functions (limit functions)")));
                }
                Ok(())
            }
            Payload::CodeSectionEntry(body) => self.check_body(body),
            _ => Ok(()),
        }
    }

    fn check_body(&self, body: &FunctionBody<'_>) -> Result<()> {
        let Range { start, end } = body.range();
        let bytes = end - start;
        let most = self.limits.function_bytes;
        if bytes > most {
            return Err(complex(format!(
                "{most} bytes in one function (limit function_bytes)"
            )));
        }
        // A target takes a byte at least: smaller functions hold no table that is too large.
        let most = self.limits.branch_targets;
        if bytes <= most as usize {
            return Ok(());
        }
        for operator in body.get_operators_reader().map_err(malformed)? {
            if let Operator::BrTable { targets } = operator.map_err(malformed)?
                && targets.len() > most
            {
                return Err(complex(format!(
                    "{most} targets of one branch table (limit branch_targets)"
                )));
            }
        }
        Ok(())
    }
}

fn complex(bound: String) -> Error {
    Error::LimitExceeded {
        code: "component_too_complex",
        message: format!("The component has more than {bound}.").into(),
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
