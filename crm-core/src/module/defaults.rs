//! The modules that the program serves out of the box, declared the way a user declares theirs.

use super::ModuleSpec;

const FILES: [&str; 3] = [
    include_str!("../../modules/contacts.toml"),
    include_str!("../../modules/companies.toml"),
    include_str!("../../modules/deals.toml"),
];

/// The default modules: contacts, companies and deals.
///
/// # Panics
/// Never: the declarations are part of the program, and a test reads them.
pub fn default_modules() -> Vec<ModuleSpec> {
    FILES
        .iter()
        .map(|text| ModuleSpec::from_toml(text).expect("the built-in declarations are well-formed"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    #[test]
    fn the_default_modules_make_a_registry() {
        let registry = Registry::new(default_modules()).unwrap();
        let names: Vec<_> = registry
            .iter()
            .map(|module| module.name().as_str())
            .collect();
        assert_eq!(names, ["contacts", "companies", "deals"]);
        let ordered: Vec<_> = registry
            .by_dependency()
            .map(|module| module.name().as_str())
            .collect();
        assert_eq!(ordered, ["companies", "contacts", "deals"]);
    }
}
