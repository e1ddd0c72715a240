//! What an explanation promises, on both databases.

use chrono::TimeDelta;

use super::*;
use crate::group::{GroupMember, GroupRecord, NewGroup};
use crate::identity::{NewApiKey, NewServiceAccount};
use crate::member::RoleGrant;
use crate::policy::PermissionInput;
use crate::policy::fixture::{World, on_both_databases, refusal};
use crate::role::NewRole;
use crate::scope::Create;

on_both_databases! {
    an_explanation_says_what_the_policy_decides
    an_explanation_names_rule_role_and_the_way_to_it
    an_explanation_of_a_record_says_which_rules_cover_it
    a_rule_about_a_field_that_is_gone_gives_nothing_and_is_explained_so
    foreign_subjects_and_records_are_absent
    keys_of_every_kind_are_explained_as_their_requests_are_decided
    a_key_that_has_ended_is_explained_so
    own_rows_of_a_key_are_those_of_its_service_account
    everything_that_is_listed_can_be_given_to_a_role
}

impl World {
    async fn new_role(&self, name: &str, parent: Option<&str>, rules: &[&str]) -> RoleId {
        let read = self.permit::<Read>(self.admin, "roles").await;
        let roles = self.crm.roles().list(&read).await.unwrap();
        let parent = parent.map(|name| roles.iter().find(|role| role.name == name).unwrap().id);
        let new = NewRole {
            name: name.into(),
            parent_id: parent,
            permissions: rules.iter().map(|text| (*text).into()).collect(),
            ..NewRole::default()
        };
        let permit = self.permit::<Create>(self.admin, "roles").await;
        self.crm.roles().create(&permit, new).await.unwrap().id
    }

    async fn explain(
        &self,
        subject: Subject,
        action: &str,
        record: Option<RecordId>,
    ) -> Result<Explanation> {
        let question = Question {
            subject: subject.to_string(),
            action: action.to_owned(),
            record,
        };
        let permit = self.permit::<Read>(self.admin, OBJECT).await;
        self.crm.access().explain(&permit, &question).await
    }
}

async fn an_explanation_says_what_the_policy_decides(world: World) {
    let base = world
        .new_role("base", None, &["contacts.*", "!contacts.delete"])
        .await;
    let top = world
        .new_role("top", Some("base"), &["deals.read:team", "*.create:own"])
        .await;
    let user = world.new_member(&["top", "viewer"]).await;
    let key = world.new_key(top).await;
    let subjects = [
        Subject::User(user),
        Subject::User(world.member),
        Subject::ApiKey(key),
        Subject::Role(base),
        Subject::Role(top),
    ];
    for subject in subjects {
        let grants = world.grants(subject).await.unwrap();
        for (operation, object, action) in world.crm.catalogue().operations() {
            let name = format!("{object}.{action}");
            let explained = world.explain(subject, &name, None).await.unwrap();
            let decided = grants.decide(operation).is_some();
            assert_eq!(explained.allowed, decided, "{subject} {name}");
        }
    }
}

async fn an_explanation_names_rule_role_and_the_way_to_it(world: World) {
    world.new_role("base", None, &["contacts.read"]).await;
    world.new_role("top", Some("base"), &["!deals.read"]).await;
    let user = world.new_member(&[]).await;
    let until = world.crm.clock().now() + TimeDelta::hours(1);
    let group = NewGroup {
        name: "field".into(),
        roles: vec!["top".into()],
        members: vec![GroupMember {
            user_id: user,
            until: Some(until),
        }],
        ..NewGroup::default()
    };
    let permit = world.permit::<Create>(world.admin, "groups").await;
    world.crm.groups().create(&permit, group).await.unwrap();
    let roles = vec![RoleGrant {
        role: "viewer".into(),
        until: Some(until),
    }];
    let permit = world.permit(world.admin, "members").await;
    world
        .crm
        .members()
        .set_roles(&permit, user, roles)
        .await
        .unwrap();

    let subject = Subject::User(user);
    let explained = world.explain(subject, "contacts.read", None).await.unwrap();
    assert_eq!(
        (explained.allowed, explained.reason),
        (true, Reason::Allowed)
    );
    let ways: Vec<String> = explained
        .rules
        .iter()
        .map(|rule| {
            let steps = rule.through.iter().map(|step| {
                let ends = if step.until == Some(until) {
                    " until"
                } else {
                    ""
                };
                format!("{} {}{ends}", step.kind.as_str(), step.name)
            });
            format!(
                "{} by {} ({})",
                rule.permission,
                rule.role,
                steps.collect::<Vec<_>>().join(", ")
            )
        })
        .collect();
    assert_eq!(
        ways,
        [
            "records.read by viewer (role viewer until)",
            "contacts.read by base (group field until, role top, parent base)",
        ]
    );
    let explained = world.explain(subject, "deals.read", None).await.unwrap();
    assert_eq!(
        (explained.allowed, explained.reason),
        (false, Reason::Denied)
    );
    assert_eq!(explained.rules[0].permission.to_string(), "!deals.read");
    let explained = world.explain(subject, "roles.read", None).await.unwrap();
    assert_eq!(
        (explained.reason, explained.rules.len()),
        (Reason::NoRule, 0)
    );
    let inactive =
        Sql::new("UPDATE users SET status = 'inactive' WHERE id = $1").bind(user, ColumnType::Uuid);
    world.execute(inactive).await;
    world.crm.core.policy.invalidate(world.tenant);
    let explained = world.explain(subject, "contacts.read", None).await.unwrap();
    assert_eq!(
        (explained.allowed, explained.reason),
        (false, Reason::Inactive)
    );
}

async fn an_explanation_of_a_record_says_which_rules_cover_it(world: World) {
    world
        .new_role(
            "mixed",
            None,
            &[
                "contacts.read:own",
                "contacts.read:parent",
                "contacts.read:team",
            ],
        )
        .await;
    let user = world.new_member(&["mixed"]).await;
    let create = world.permit::<Create>(world.admin, "contacts").await;
    let mut made = Vec::new();
    for title in ["attached", "of the team", "other"] {
        let body = serde_json::json!({"title": title, "owner_id": world.viewer});
        let body = body.as_object().cloned().unwrap();
        made.push(world.crm.records().create(&create, body).await.unwrap().id);
    }
    let group = |members: &[UserId], records: &[RecordId]| NewGroup {
        name: format!("group of {}", members.len()),
        members: members
            .iter()
            .map(|user_id| GroupMember {
                user_id: *user_id,
                until: None,
            })
            .collect(),
        records: records
            .iter()
            .map(|id| GroupRecord {
                module: "contacts".into(),
                id: *id,
            })
            .collect(),
        ..NewGroup::default()
    };
    let permit = world.permit::<Create>(world.admin, "groups").await;
    let one = group(&[user], &made[..1]);
    world.crm.groups().create(&permit, one).await.unwrap();
    let covers = async |record: RecordId| {
        let explained = world
            .explain(Subject::User(user), "contacts.read", Some(record))
            .await;
        let explained = explained.unwrap();
        let of = |rule: &ExplainedRule| (rule.permission.rows(), rule.covers.unwrap());
        (
            explained.reason,
            explained.rules.iter().map(of).collect::<Vec<_>>(),
        )
    };
    let (own, parent, team) = (RowScope::Own, RowScope::Parent, RowScope::Team);
    assert_eq!(
        covers(made[0]).await,
        (
            Reason::Allowed,
            vec![(own, false), (parent, true), (team, false)]
        )
    );
    assert_eq!(
        covers(made[1]).await,
        (
            Reason::OtherRows,
            vec![(own, false), (parent, false), (team, false)]
        )
    );
    let two = group(&[user, world.viewer], &[]);
    world.crm.groups().create(&permit, two).await.unwrap();
    assert_eq!(
        covers(made[1]).await,
        (
            Reason::Allowed,
            vec![(own, false), (parent, false), (team, true)]
        )
    );
}

async fn a_rule_about_a_field_that_is_gone_gives_nothing_and_is_explained_so(world: World) {
    let new = NewRole {
        name: "titled".into(),
        permissions: vec![PermissionInput {
            permission: "contacts.read".into(),
            condition: serde_json::from_str(r#"{"title": "x"}"#).ok(),
            ..PermissionInput::default()
        }],
        ..NewRole::default()
    };
    let permit = world.permit::<Create>(world.admin, "roles").await;
    let role = world.crm.roles().create(&permit, new).await.unwrap().id;
    let permit = world.permit::<Create>(world.admin, "contacts").await;
    let input = serde_json::from_str(r#"{"title": "x"}"#).unwrap();
    let record = world.crm.records().create(&permit, input).await.unwrap();
    let subject = Subject::Role(role);
    for record in [None, Some(record.id)] {
        let explained = world.explain(subject, "contacts.read", record).await;
        let explained = explained.unwrap();
        assert!(explained.allowed && explained.rules[0].void.is_none());
    }

    let gone =
        Sql::new("UPDATE policy_rules SET condition = $1 WHERE tenant_id = $2 AND role_id = $3")
            .bind(r#"{"gone":"x"}"#, ColumnType::Text)
            .bind(world.tenant, ColumnType::Uuid)
            .bind(role, ColumnType::Uuid);
    world.execute(gone).await;
    for record in [None, Some(record.id)] {
        let explained = world.explain(subject, "contacts.read", record).await;
        let explained = explained.unwrap();
        assert_eq!(
            (explained.allowed, explained.reason),
            (false, Reason::OtherRows)
        );
        let rule = &explained.rules[0];
        assert_eq!(rule.covers, record.map(|_| false));
        assert_eq!(rule.void.as_deref(), Some("contacts has no field gone"));
    }
}

async fn foreign_subjects_and_records_are_absent(world: World) {
    let stranger = Subject::User(UserId(world.crm.clock().new_id()));
    let asked = world.explain(stranger, "contacts.read", None).await;
    assert_eq!(refusal(asked), "not_found");
    let other = world.operator(world.new_tenant("other").await);
    let permit = other.permit::<Read>(OBJECT).unwrap();
    for subject in [
        Subject::User(world.admin),
        Subject::Role(world.new_role("ours", None, &[]).await),
        Subject::ApiKey(world.new_key(world.new_role("key", None, &[]).await).await),
    ] {
        let question = Question {
            subject: subject.to_string(),
            action: "contacts.read".into(),
            record: None,
        };
        let asked = world.crm.access().explain(&permit, &question).await;
        assert_eq!(refusal(asked), "not_found", "{subject}");
        assert!(world.explain(subject, "contacts.read", None).await.is_ok());
    }
    let nothing = RecordId(world.crm.clock().new_id());
    let admin = Subject::User(world.admin);
    let asked = world.explain(admin, "contacts.read", Some(nothing)).await;
    assert_eq!(refusal(asked), "not_found");
    for (action, record) in [
        ("contacts.approve", None),
        ("contacts", None),
        ("roles.read", Some(nothing)),
    ] {
        let asked = world.explain(admin, action, record).await;
        assert_eq!(refusal(asked), "validation_failed", "{action}");
    }
}

impl World {
    /// A key of this role, as somebody asks for it.
    async fn key_with(
        &self,
        role: &str,
        permissions: Option<&[&str]>,
        service_account: Option<UserId>,
    ) -> ApiKeyId {
        let input = NewApiKey {
            name: "key".into(),
            role: role.into(),
            permissions: permissions.map(|list| list.iter().map(|one| (*one).into()).collect()),
            service_account,
            expires_at: Some(self.crm.clock().now() + TimeDelta::hours(1)),
        };
        let permit = self
            .operator(self.tenant)
            .permit::<Create>("api_keys")
            .unwrap();
        self.crm
            .api_keys()
            .create(&permit, input)
            .await
            .unwrap()
            .0
            .id
    }

    async fn service(&self, roles: &[&str]) -> UserId {
        let input = NewServiceAccount {
            name: "robot".into(),
            roles: roles.iter().map(|role| (*role).into()).collect(),
        };
        let permit = self
            .operator(self.tenant)
            .permit::<Create>("members")
            .unwrap();
        let accounts = self.crm.accounts();
        accounts
            .create_service_account(&permit, input)
            .await
            .unwrap()
    }

    /// What a request with the key is decided by.
    async fn rights_of(&self, key: ApiKeyId) -> Option<Arc<Rights>> {
        let key = Principal(Party::Key(key, None));
        principal_rights(&self.crm.core, self.tenant, key)
            .await
            .unwrap()
    }
}

async fn keys_of_every_kind_are_explained_as_their_requests_are_decided(world: World) {
    world
        .new_role(
            "reader",
            None,
            &["contacts.*", "!contacts.delete", "deals.read:own"],
        )
        .await;
    let robot = world.service(&["reader"]).await;
    let owner = world.service(&["member"]).await;
    let keys = [
        world.key_with("admin", None, None).await,
        world
            .key_with("admin", Some(&["contacts.read", "deals.*"]), None)
            .await,
        world.key_with("member", None, None).await,
        world.key_with("admin", None, Some(robot)).await,
        world
            .key_with("admin", Some(&["contacts.*"]), Some(robot))
            .await,
        world.key_with("member", None, Some(owner)).await,
        world.key_with("reader", None, Some(owner)).await,
    ];
    for (count, key) in keys.into_iter().enumerate() {
        let rights = world.rights_of(key).await.unwrap();
        for (operation, object, action) in world.crm.catalogue().operations() {
            let name = format!("{object}.{action}");
            let explained = world
                .explain(Subject::ApiKey(key), &name, None)
                .await
                .unwrap();
            let decided = rights.grants.decide(operation).is_some();
            assert_eq!(explained.allowed, decided, "{count} {name}");
        }
    }
    let reason = async |key, action| {
        let explained = world.explain(Subject::ApiKey(key), action, None).await;
        explained.unwrap().reason
    };
    let [whole, listed, personal, narrowed, both, ..] = keys;
    assert_eq!(reason(whole, "deals.delete").await, Reason::Allowed);
    assert_eq!(reason(listed, "contacts.delete").await, Reason::Unlisted);
    assert_eq!(reason(personal, "deals.update").await, Reason::OtherRows);
    assert_eq!(reason(narrowed, "contacts.delete").await, Reason::Account);
    assert_eq!(reason(narrowed, "deals.delete").await, Reason::Account);
    assert_eq!(reason(both, "deals.read").await, Reason::Unlisted);
    let explained = world
        .explain(Subject::ApiKey(narrowed), "contacts.delete", None)
        .await;
    let rules = explained.unwrap().rules;
    assert_eq!(rules[0].permission.to_string(), "!contacts.delete");
    let ways = rules[0]
        .through
        .iter()
        .map(|step| (step.kind, step.name.as_str()));
    assert_eq!(
        ways.collect::<Vec<_>>(),
        [(StepKind::Account, "robot"), (StepKind::Role, "reader")]
    );
}

async fn a_key_that_has_ended_is_explained_so(world: World) {
    let robot = world.service(&["admin"]).await;
    let keys = [
        world.key_with("admin", None, None).await,
        world.key_with("admin", None, Some(robot)).await,
    ];
    for (index, key) in keys.into_iter().enumerate() {
        let ended = Sql::new("UPDATE api_keys SET expires_at = $1 WHERE id = $2")
            .bind(world.crm.clock().now(), ColumnType::Instant)
            .bind(key, ColumnType::Uuid);
        world.execute(ended).await;
        let explained = world
            .explain(Subject::ApiKey(key), "deals.read", None)
            .await;
        let explained = explained.unwrap();
        assert_eq!(
            (explained.allowed, explained.reason),
            (false, Reason::Expired),
            "{index}"
        );
        let permit = world.operator(world.tenant).permit("api_keys").unwrap();
        world.crm.api_keys().revoke(&permit, key).await.unwrap();
        let explained = world
            .explain(Subject::ApiKey(key), "deals.read", None)
            .await;
        let explained = explained.unwrap();
        assert_eq!(
            (explained.allowed, explained.reason),
            (false, Reason::Inactive),
            "{index}"
        );
    }
    let key = world.key_with("admin", None, Some(robot)).await;
    let permit = world.operator(world.tenant).permit("members").unwrap();
    let suspended = Sql::new("UPDATE users SET status = 'inactive' WHERE id = $1")
        .bind(robot, ColumnType::Uuid);
    world.execute(suspended).await;
    world.crm.core.policy.invalidate(world.tenant);
    let explained = world
        .explain(Subject::ApiKey(key), "deals.read", None)
        .await;
    assert_eq!(explained.unwrap().reason, Reason::Inactive);
    world.crm.members().remove(&permit, robot).await.unwrap();
    let explained = world
        .explain(Subject::ApiKey(key), "deals.read", None)
        .await;
    assert_eq!(explained.unwrap().reason, Reason::Inactive);
}

async fn own_rows_of_a_key_are_those_of_its_service_account(world: World) {
    let robot = world.service(&["member"]).await;
    let key = world.key_with("member", None, Some(robot)).await;
    let bare = world.key_with("member", None, None).await;
    let create = world.permit::<Create>(world.admin, "contacts").await;
    let mut made = Vec::new();
    for owner in [robot, world.viewer] {
        let body = serde_json::json!({"title": "x", "owner_id": owner});
        let body = body.as_object().cloned().unwrap();
        made.push(world.crm.records().create(&create, body).await.unwrap().id);
    }
    for (subject, record, reason) in [
        (key, made[0], Reason::Allowed),
        (key, made[1], Reason::OtherRows),
        (bare, made[0], Reason::OtherRows),
    ] {
        let subject = Subject::ApiKey(subject);
        let explained = world
            .explain(subject, "contacts.update", Some(record))
            .await;
        assert_eq!(explained.unwrap().reason, reason);
    }
    // The role of the key covers it, the account does not.
    let wide = world.key_with("admin", None, Some(robot)).await;
    let wide = Subject::ApiKey(wide);
    let explained = world.explain(wide, "contacts.update", Some(made[1])).await;
    assert_eq!(explained.unwrap().reason, Reason::Account);
    let explained = world.explain(wide, "contacts.update", Some(made[0])).await;
    assert_eq!(explained.unwrap().reason, Reason::Allowed);
}

async fn everything_that_is_listed_can_be_given_to_a_role(world: World) {
    let permit = world.permit::<Read>(world.admin, "roles").await;
    let listed = world.crm.access().permissions(&permit).unwrap();
    let names = |module: bool| {
        let of = listed.iter().filter(|one| one.module == module);
        of.map(|one| one.object.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(names(true), ["contacts", "deals"]);
    assert!(names(false).contains(&"members") && names(false).contains(&"roles"));
    let mut rules = Vec::new();
    for one in &listed {
        assert_eq!(one.actions, ["read", "create", "update", "delete", "purge"]);
        for scope in &one.scopes {
            let rows = match scope {
                RowScope::All => String::new(),
                some => format!(":{}", some.as_str()),
            };
            rules.extend(
                one.actions
                    .iter()
                    .map(|action| format!("{}.{action}{rows}", one.object)),
            );
        }
    }
    let permit = world.permit::<Create>(world.admin, "roles").await;
    for (count, some) in rules.chunks(50).enumerate() {
        let new = NewRole {
            name: format!("role {count}"),
            permissions: some.iter().map(|text| text.as_str().into()).collect(),
            ..NewRole::default()
        };
        let made = world.crm.roles().create(&permit, new).await.unwrap();
        assert_eq!(made.permissions.len(), some.len());
    }
    let other = world.permit::<Read>(world.admin, OBJECT).await;
    assert_eq!(refusal(world.crm.access().permissions(&other)), "forbidden");
}
