//! Rules of roles about what a tenant declared: none is without effect because its field or module
//! is gone, and none is about another one of the same name.

use super::field_lists::only;
use super::*;
use crm_core::DataLoss;
use crm_core::policy::PermissionInput;
use crm_core::role::{Role, RoleChange};

on_both_databases!(
    a_field_stays_while_a_condition_of_a_role_is_about_it,
    a_name_that_a_role_still_lists_is_no_new_fields,
    a_module_stays_while_a_role_denies_something_on_it,
    a_name_that_a_role_still_has_of_a_module_is_no_new_modules,
);

impl Fixture {
    async fn role_called(&self, name: &str) -> anyhow::Result<Role> {
        let permit = self.operator().permit::<Read>("roles")?;
        let roles = self.crm.roles().list(&permit).await?;
        let mut called = roles.into_iter().filter(|role| role.name == name);
        called.next().context("a role of this name")
    }

    async fn set_permissions(
        &self,
        role: &str,
        permissions: Vec<PermissionInput>,
    ) -> anyhow::Result<()> {
        let scope = self.operator_in(self.tenant).await?;
        let permit = scope.permit::<Update>("roles")?;
        let change = RoleChange {
            permissions: Some(permissions),
            ..RoleChange::default()
        };
        let id = self.role_called(role).await?.id;
        self.crm.roles().update(&permit, id, change).await?;
        Ok(())
    }
}

/// What a conflict over the rules of roles says.
fn told<T: std::fmt::Debug>(answer: crm_core::Result<T>) -> String {
    match answer {
        Err(Error::Conflict { code, message }) => {
            assert_eq!(code, "still_named", "{message}");
            message.into_owned()
        }
        other => panic!("{other:?}"),
    }
}

async fn a_field_stays_while_a_condition_of_a_role_is_about_it(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let rival = it.rival().await?;
    let plan = json!({"name": "plan", "type": "enum", "values": ["free", "paid"]});
    for tenant in [it.tenant, rival] {
        it.declare(tenant, "bare", plan.clone()).await?;
    }
    let paying = PermissionInput {
        permission: "bare.read".to_owned(),
        condition: Some(body(json!({"or": [{"not": {"plan": {"ne": "paid"}}}]}))),
        ..PermissionInput::default()
    };
    it.role("paying", vec![paying]).await?;
    let message = told(it.remove(it.tenant, "bare", "plan").await);
    assert!(
        message.contains("bare.plan") && message.contains("role paying"),
        "{message}"
    );
    it.remove(rival, "bare", "plan").await?;

    let operator = it.operator_in(it.tenant).await?;
    let one = it
        .create(&operator, "bare", json!({"plan": "paid"}))
        .await?;
    it.create(&operator, "bare", json!({"plan": "free"}))
        .await?;
    let (reader, _) = it.member("paying").await?;
    assert_eq!(it.ids(&reader, "bare", &Query::default()).await?, [one.id]);
    it.set_permissions("paying", vec!["bare.read".into()])
        .await?;
    it.remove(it.tenant, "bare", "plan").await?;
    Ok(())
}

async fn a_name_that_a_role_still_lists_is_no_new_fields(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let nick = json!({"name": "nick", "type": "text"});
    it.declare(it.tenant, "bare", nick.clone()).await?;
    let listed = only("bare.read", &["anchor", "nick"]);
    it.role("nicks", vec![listed]).await?;
    it.remove(it.tenant, "bare", "nick").await?;
    // The very field that the list is about.
    it.declare(it.tenant, "bare", nick.clone()).await?;
    it.remove(it.tenant, "bare", "nick").await?;
    it.purge(it.tenant, "bare", "nick").await?;
    let message = told(it.declare(it.tenant, "bare", nick.clone()).await);
    assert!(message.contains("role nicks"), "{message}");
    let anchor = only("bare.read", &["anchor"]);
    it.set_permissions("nicks", vec![anchor]).await?;
    it.declare(it.tenant, "bare", nick).await?;
    Ok(())
}

async fn a_module_stays_while_a_role_denies_something_on_it(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let place = json!({"name": "place", "type": "text"});
    let visits = json!({"name": "visits", "singular": "visit", "fields": [place]});
    it.found_module(it.tenant, visits.clone()).await?;
    it.role("kept", vec!["records.read".into(), "!visits.read".into()])
        .await?;
    it.role("porter", vec!["visits.read".into()]).await?;
    let operator = it.operator_in(it.tenant).await?;
    let one = it
        .create(&operator, "visits", json!({"place": "Ulm"}))
        .await?;
    let message = told(it.end_module("visits", DataLoss::Accepted).await);
    assert!(message.contains("role kept"), "{message}");
    it.get(&operator, "visits", one.id).await?;

    it.set_permissions("kept", vec!["records.read".into()])
        .await?;
    assert_eq!(it.end_module("visits", DataLoss::Accepted).await?, 1);
    // What was allowed on it is nothing to the next one.
    it.found_module(it.tenant, visits).await?;
    assert_eq!(it.role_called("porter").await?.permissions, []);
    let (porter, _) = it.member("porter").await?;
    assert_eq!(code(porter.permit::<Read>("visits")), "forbidden");
    Ok(())
}

async fn a_name_that_a_role_still_has_of_a_module_is_no_new_modules(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    it.role("bare", vec!["bare.read".into()]).await?;
    it.crm.close().await;

    // The application without that module.
    let start = DateTime::parse_from_rfc3339("2025-02-15T09:30:00Z")?.to_utc();
    let crm = Crm::builder()
        .database(it._backend.url())
        .database_options(crm_core::testing::database_options())
        .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
        .clock(Clock::fixed(start, 2).0)
        .modules(default_modules())
        .build()
        .await?;
    let it = Fixture {
        crm,
        tenant: it.tenant,
        _backend: it._backend,
    };
    let anchor = json!({"name": "anchor", "type": "text"});
    let bare = json!({"name": "bare", "singular": "bare_one", "fields": [anchor]});
    let message = told(it.found_module(it.tenant, bare.clone()).await);
    assert!(message.contains("role bare"), "{message}");
    it.set_permissions("bare", Vec::new()).await?;
    it.found_module(it.tenant, bare).await?;
    Ok(())
}
