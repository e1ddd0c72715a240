//! The world that a plugin's manifest needs: no import and no export more.
//!
//! A JavaScript or Python guest imports its whole world, whatever it calls; one built against the
//! full world would ask for every right.

use std::collections::BTreeSet;

use crm_core::plugin::Manifest;
use crm_core::{Error, Result};
use wit_component::WitPrinter;
use wit_parser::{Resolve, WorldItem, WorldKey};

const WIT: &str = include_str!("../wit/automation.wit");

/// The text of the package `crm:automation` with one world, `plugin`: imports of the functions that
/// the manifest asks for, and exports for its triggers.
///
/// # Errors
///
/// [`Error::Internal`] should this program's own package not be read.
pub fn world(manifest: &Manifest) -> Result<String> {
    let mut resolve = Resolve::default();
    let package = resolve
        .push_str("automation.wit", WIT)
        .map_err(Error::internal)?;
    let world = resolve
        .select_world(&[package], Some("plugin"))
        .map_err(Error::internal)?;

    let interfaces = resolve.packages[package].interfaces.clone();
    for (interface, id) in &interfaces {
        let functions = &mut resolve.interfaces[*id].functions;
        functions.retain(|function, _| manifest.may_import(interface, function));
    }
    let empty: BTreeSet<_> = interfaces
        .iter()
        .filter(|(name, id)| *name != "types" && resolve.interfaces[**id].functions.is_empty())
        .map(|(_, id)| *id)
        .collect();
    let needed = manifest.exports();
    let described = &mut resolve.worlds[world];
    described
        .imports
        .retain(|_, item| !matches!(item, WorldItem::Interface { id, .. } if empty.contains(id)));
    described
        .exports
        .retain(|key, _| matches!(key, WorldKey::Name(name) if needed.contains(&**name)));
    let package_of_one = &mut resolve.packages[package];
    package_of_one.worlds.retain(|_, id| *id == world);
    package_of_one
        .interfaces
        .retain(|_, id| !empty.contains(id));

    let mut printer = WitPrinter::default();
    printer
        .print(&resolve, package, &[])
        .map_err(Error::internal)?;
    Ok(printer.output.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(manifest: &str) -> String {
        let head = "name = 'probe'\nversion = '1.0.0'\n";
        world(&Manifest::parse(&format!("{head}{manifest}")).unwrap()).unwrap()
    }

    #[test]
    fn a_world_has_what_the_manifest_asks_for_and_no_more() {
        let text = of(
            "triggers = ['contact.created']\nkv = true\n[[grants]]\nmodule = 'contacts'\nactions = ['read']",
        );
        for wanted in [
            "export handle:",
            "import kv;",
            "import log;",
            "get: func(module: string, id: string)",
            "to-json: func",
        ] {
            assert!(text.contains(wanted), "{wanted} is missing in {text}");
        }
        for foreign in [
            "export cron",
            "import http",
            "interface http",
            "create: func(",
            "secrets",
        ] {
            assert!(!text.contains(foreign), "{foreign} is in {text}");
        }
    }

    #[test]
    fn a_tailored_world_is_a_package_of_its_own() {
        let text = of("triggers = ['contact.created']");
        let mut resolve = Resolve::default();
        let package = resolve.push_str("plugin.wit", &text).unwrap();
        resolve.select_world(&[package], Some("plugin")).unwrap();
    }
}
