//! No tenant reaches another, by any door of any module.

use super::*;
use crm_core::testing::isolation_suite;

on_both_databases!(
    no_tenant_reaches_another_by_any_door,
    an_empty_application_keeps_its_tenants_apart,
);

async fn no_tenant_reaches_another_by_any_door(backend: Backend) -> anyhow::Result<()> {
    let folders = ModuleSpec::from_toml(trash::FOLDERS)?;
    let modules = default_modules().into_iter().chain([folders]);
    let crm = module_suite::open(&backend, modules.collect()).await?;
    isolation_suite(&crm).await?;
    // Nothing is left of it.
    anyhow::ensure!(crm.tenants().list().await?.is_empty());
    Ok(())
}

async fn an_empty_application_keeps_its_tenants_apart(backend: Backend) -> anyhow::Result<()> {
    let bare = ModuleSpec::from_toml(custom::BARE)?;
    let crm = module_suite::open(&backend, vec![bare]).await?;
    isolation_suite(&crm).await?;
    Ok(())
}
