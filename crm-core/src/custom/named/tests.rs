//! API keys that name a module that is gone, and roles that lose what they said of it. Rules of
//! roles are proven in `tests/records/custom_rules.rs`, grants of plugins in
//! `plugin/tests/names.rs`.

use serde_json::json;

use crate::audit::AuditQuery;
use crate::db::{ColumnType, Sql};
use crate::error::{Error, Result};
use crate::id::{ApiKeyId, UserId};
use crate::identity::{NewApiKey, NewServiceAccount};
use crate::policy::fixture::{World, on_both_databases};
use crate::role::NewRole;
use crate::schema::DataLoss;

on_both_databases! {
    a_name_that_a_good_key_still_has_is_no_new_modules
    the_end_of_a_module_is_a_change_of_each_role_that_named_it
}

impl World {
    async fn found_visits(&self) -> Result<()> {
        let visits = json!({
            "name": "visits", "singular": "visit",
            "fields": [{"name": "place", "type": "text"}],
        });
        let spec = serde_json::from_value(visits).unwrap();
        let permit = self.permit(self.admin, "modules").await;
        self.crm.custom_modules().create(&permit, spec).await
    }

    async fn key_called(
        &self,
        name: &str,
        permissions: Option<&[&str]>,
        account: Option<UserId>,
    ) -> ApiKeyId {
        let listed = permissions.map(|listed| listed.iter().map(ToString::to_string).collect());
        let input = NewApiKey {
            name: name.to_owned(),
            role: "admin".to_owned(),
            permissions: listed,
            service_account: account,
            expires_at: None,
        };
        let permit = self.permit(self.admin, "api_keys").await;
        self.crm
            .api_keys()
            .create(&permit, input)
            .await
            .unwrap()
            .0
            .id
    }

    async fn revoke_key(&self, key: ApiKeyId) {
        let permit = self.permit(self.admin, "api_keys").await;
        self.crm.api_keys().revoke(&permit, key).await.unwrap();
    }
}

fn told(answer: Result<()>) -> String {
    match answer {
        Err(Error::Conflict { code, message }) => {
            assert_eq!(code, "still_named", "{message}");
            message.into_owned()
        }
        other => panic!("{other:?}"),
    }
}

async fn a_name_that_a_good_key_still_has_is_no_new_modules(world: World) {
    world.found_visits().await.unwrap();
    let robot = NewServiceAccount {
        name: "robot".to_owned(),
        roles: vec!["admin".to_owned()],
    };
    let permit = world.permit(world.admin, "members").await;
    let accounts = world.crm.accounts();
    let robot = accounts.create_service_account(&permit, robot).await;
    let robot = robot.unwrap();
    let named = ["contacts.read", "visits.read"];
    let sync = world.key_called("sync", Some(&named), None).await;
    let porter = world
        .key_called("porter", Some(&["visits.*"]), Some(robot))
        .await;
    let revoked = world.key_called("revoked", Some(&named), None).await;
    world.revoke_key(revoked).await;
    let ended = world.key_called("ended", Some(&named), None).await;
    let end = Sql::new("UPDATE api_keys SET expires_at = $1 WHERE id = $2")
        .bind(chrono::DateTime::UNIX_EPOCH, ColumnType::Instant)
        .bind(ended, ColumnType::Uuid);
    world.execute(end).await;
    // These name no module: what they may do is said of all.
    world.key_called("whole", None, None).await;
    world
        .key_called("reader", Some(&["records.read"]), None)
        .await;

    let permit = world.permit(world.admin, "modules").await;
    let modules = world.crm.custom_modules();
    let ending = modules.delete(&permit, "visits", DataLoss::Refused);
    ending.await.unwrap();
    let message = told(world.found_visits().await);
    assert!(
        message.contains("revoke the API keys porter (crm_ak_")
            && message.contains(", sync (crm_ak_"),
        "{message}"
    );
    for other in ["revoked", "ended", "whole", "reader"] {
        assert!(!message.contains(&format!("{other} (")), "{message}");
    }
    world.revoke_key(sync).await;
    let message = told(world.found_visits().await);
    assert!(
        message.contains("revoke the API key porter (crm_ak_"),
        "{message}"
    );
    world.revoke_key(porter).await;
    world.found_visits().await.unwrap();
}

async fn the_end_of_a_module_is_a_change_of_each_role_that_named_it(world: World) {
    world.found_visits().await.unwrap();
    let roles = world.crm.roles();
    for (name, permissions) in [
        ("porter", vec!["contacts.read".into(), "visits.*".into()]),
        ("guide", vec!["visits.read".into()]),
        ("clerk", vec!["records.read".into()]),
    ] {
        let role = NewRole {
            name: name.to_owned(),
            permissions,
            ..NewRole::default()
        };
        let permit = world.permit(world.admin, "roles").await;
        roles.create(&permit, role).await.unwrap();
    }
    let before = world.audit().await.len();
    let permit = world.permit(world.admin, "modules").await;
    let modules = world.crm.custom_modules();
    let ending = modules.delete(&permit, "visits", DataLoss::Refused);
    ending.await.unwrap();
    let actions = world.audit().await.split_off(before);
    assert_eq!(actions, ["roles.update", "roles.update", "modules.delete"]);

    let query = AuditQuery {
        action: Some("roles.update".to_owned()),
        ..AuditQuery::default()
    };
    let permit = world.permit(world.admin, "audit").await;
    let entries = world.crm.audit().list(&permit, &query).await.unwrap().data;
    let told = entries.iter().map(|entry| {
        let part = |of: &Option<serde_json::Value>, name: &str| of.as_ref().unwrap()[name].clone();
        let lost = part(&entry.before, "permissions");
        json!([
            part(&entry.before, "name"),
            lost,
            part(&entry.after, "permissions")
        ])
    });
    let mut told: Vec<_> = told.collect();
    told.sort_by_key(ToString::to_string);
    assert_eq!(
        told,
        [
            json!(["guide", ["visits.read"], []]),
            json!(["porter", ["contacts.read", "visits.*"], ["contacts.read"]]),
        ]
    );
}
