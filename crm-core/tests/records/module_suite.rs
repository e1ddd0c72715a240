//! Every module keeps the same promises: those that are built in, and the one of the guide.

use super::*;
use crm_core::testing::module_suite;

const GUIDE: &str = include_str!("../../src/guide/replicate.md");

on_both_databases!(
    pl_98_the_module_of_the_guide_keeps_what_contacts_keeps,
    every_built_in_module_keeps_its_promises,
);

async fn pl_98_the_module_of_the_guide_keeps_what_contacts_keeps(
    backend: Backend,
) -> anyhow::Result<()> {
    let block = GUIDE.split("```toml\n").nth(1);
    let declaration = block.and_then(|block| block.split("```").next());
    let declaration = declaration.context("the guide shows a declaration")?;
    anyhow::ensure!(
        declaration.lines().count() <= 40,
        "the declaration is short"
    );
    let companies = ModuleSpec::from_toml(declaration)?;
    let others = default_modules();
    let others = others
        .into_iter()
        .filter(|spec| spec.name != companies.name);
    let crm = open(&backend, others.chain([companies.clone()]).collect()).await?;
    module_suite(&crm, "contacts").await?;
    module_suite(&crm, "companies").await?;
    Ok(())
}

async fn every_built_in_module_keeps_its_promises(backend: Backend) -> anyhow::Result<()> {
    let things = [
        THINGS,
        query::BOXES,
        search::NOTES,
        trash::FOLDERS,
        merge::PERSONS,
    ];
    let more = things.into_iter().map(ModuleSpec::from_toml);
    let more: Vec<_> = more.collect::<Result<_, _>>()?;
    let crm = open(
        &backend,
        default_modules().into_iter().chain(more).collect(),
    )
    .await?;
    for module in crm.registry().iter() {
        module_suite(&crm, module.name().as_str()).await?;
    }
    Ok(())
}

pub(super) async fn open(backend: &Backend, modules: Vec<ModuleSpec>) -> crm_core::Result<Crm> {
    Crm::builder()
        .database(backend.url())
        .database_options(crm_core::testing::database_options())
        .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
        .password_cost(PasswordCost::LOWEST)
        .modules(modules)
        .build()
        .await
}
