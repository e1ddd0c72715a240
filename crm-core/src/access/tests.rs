//! What an explanation promises, on both databases.

use chrono::TimeDelta;

use super::*;
use crate::group::{GroupMember, GroupRecord, NewGroup};
use crate::member::RoleGrant;
use crate::policy::fixture::{World, on_both_databases, refusal};
use crate::role::NewRole;
use crate::scope::Create;

on_both_databases! {
    an_explanation_says_what_the_policy_decides
    an_explanation_names_rule_role_and_the_way_to_it
    an_explanation_of_a_record_says_which_rules_cover_it
    foreign_subjects_and_records_are_absent
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
