//! Lists of fields in roles: united over the roles of a user under the rows that each gives, never
//! handed on by those who do not hold them, and named where a decision is explained.

use std::collections::{BTreeSet, HashMap};

use super::field_lists::{FIELDS, all_but, invalid, only, open, role, shown, wire, with};
use super::*;
use crm_core::access::Question;
use crm_core::group::{GroupMember, NewGroup};
use crm_core::transfer::Format;

on_both_databases!(
    two_roles_show_of_each_record_the_fields_of_those_that_cover_it,
    nobody_hands_on_a_field_that_they_do_not_reach,
    a_list_names_fields_of_one_module_for_an_action_that_is_about_fields,
    an_explanation_and_the_audit_log_name_the_rule_with_its_fields,
);

async fn two_roles_show_of_each_record_the_fields_of_those_that_cover_it(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    role(
        &it,
        &it.operator(),
        "front",
        vec![only("people.read", &["name"])],
    )
    .await?;
    let mine = vec![
        "people.read:own".into(),
        only("people.read:team", &["note"]),
    ];
    role(&it, &it.operator(), "mine", mine).await?;
    let (_, user) = it.member("front").await?;
    let (_, mate) = it.member("front").await?;
    let (_, other) = it.member("front").await?;
    let group = NewGroup {
        name: "team".to_owned(),
        members: [user, mate]
            .map(|user_id| GroupMember {
                user_id,
                until: None,
            })
            .to_vec(),
        ..NewGroup::default()
    };
    let groups = it.operator().permit::<Create>("groups")?;
    it.crm.groups().create(&groups, group).await?;
    let permit = it.operator().permit::<Update>("members")?;
    let roles = vec!["front".to_owned(), "mine".to_owned()];
    it.crm.members().set_roles(&permit, user, roles).await?;
    let mut made = HashMap::new();
    for owner in [user, mate, other] {
        let person = json!({"name": "x", "note": "n", "salary": "3", "owner_id": owner});
        made.insert(owner, it.create(&it.operator(), "people", person).await?.id);
    }
    let scope = crm_core::testing::scope(&it.crm, it.tenant, user, request()).await?;
    let scope = scope.context("a member")?;
    let all: BTreeSet<&str> = FIELDS.into_iter().chain(["label"]).collect();
    let records = it.crm.records();
    let read = scope.permit::<Read>("people")?;
    for (owner, fields) in [
        (user, all),
        (mate, BTreeSet::from(["name", "note"])),
        (other, BTreeSet::from(["name"])),
    ] {
        let one = records.get(&read, made[&owner]).await?;
        assert_eq!(shown(&wire(&one)?), fields);
        let page = records.list(&read, &Query::default()).await?;
        let same = page.data.iter().find(|record| record.id == one.id);
        assert_eq!(shown(&wire(same.context("listed")?)?), fields);
    }
    // A condition finds the records in which what it is about may be read.
    let module = scope.readable("people").context("declared")?;
    for (name, owners) in [("salary", vec![user]), ("note", vec![user, mate])] {
        let filter = Filter::parse(&module, name, "is_null", "false");
        let query = Query {
            filter: filter.ok(),
            ..Query::default()
        };
        let found: BTreeSet<_> = it
            .ids(&scope, "people", &query)
            .await?
            .into_iter()
            .collect();
        assert_eq!(
            found,
            owners.iter().map(|owner| made[owner]).collect(),
            "{name}"
        );
    }
    // As columns of one file.
    let mut export = it
        .crm
        .transfer()
        .export(read, Query::default(), Format::Csv)?;
    let file = export.next().await?.context("a page")?;
    let lines: Vec<Vec<&str>> = file.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 4);
    let salary = lines[0]
        .iter()
        .position(|name| *name == "salary")
        .context("a column")?;
    let salaries: Vec<_> = lines[1..].iter().map(|line| line[salary]).collect();
    assert_eq!(salaries.iter().filter(|one| !one.is_empty()).count(), 1);
    Ok(())
}

async fn nobody_hands_on_a_field_that_they_do_not_reach(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let permissions = vec![
        "roles.*".into(),
        only("people.read", &["name", "note"]),
        only("people.read:own", &["salary"]),
        all_but("people.update", &["salary"]),
    ];
    let (scope, _) = with(&it, "deputy", permissions).await?;
    for (number, (permission, given)) in [
        (only("people.read", &["name"]), true),
        (only("people.read:team", &["note", "name"]), true),
        (only("people.read:own", &["name", "salary"]), true),
        (only("people.update", &["name", "owner_id"]), true),
        (all_but("people.update:own", &["salary", "note"]), true),
        ("people.read".into(), false),
        ("people.read:own".into(), false),
        (only("people.read", &["salary"]), false),
        (all_but("people.read", &["salary"]), false),
        (only("people.update", &["salary"]), false),
        (all_but("people.update", &["name"]), false),
        ("people.update".into(), false),
    ]
    .into_iter()
    .enumerate()
    {
        let text = format!("{permission:?}");
        let answer = role(&it, &scope, &format!("role {number}"), vec![permission]).await;
        assert_eq!(
            code(answer),
            if given { "ok" } else { "forbidden" },
            "{text}"
        );
    }
    Ok(())
}

async fn a_list_names_fields_of_one_module_for_an_action_that_is_about_fields(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let scope = it.operator();
    let mut both = only("people.read", &["name"]);
    both.except = Some(vec!["note".to_owned()]);
    for (number, (permission, pointer, refusal)) in [
        (
            only("people.read", &["name", "wage"]),
            "/fields/1",
            "unknown_field",
        ),
        (
            all_but("people.read", &["created_at"]),
            "/except/0",
            "unknown_field",
        ),
        (only("people.read", &[]), "/fields", "required"),
        (only("people.delete", &["name"]), "/fields", "not_allowed"),
        (only("people.*", &["name"]), "/fields", "not_allowed"),
        (only("records.read", &["name"]), "/fields", "not_allowed"),
        (only("*.read", &["name"]), "/fields", "not_allowed"),
        (only("members.read", &["name"]), "/fields", "not_allowed"),
        (only("!people.read", &["name"]), "/fields", "not_allowed"),
        (both, "/except", "not_allowed"),
    ]
    .into_iter()
    .enumerate()
    {
        let refused = role(&it, &scope, &format!("role {number}"), vec![permission]).await;
        let place = format!("/permissions/0{pointer}");
        assert_eq!(invalid(refused), [(place, refusal)]);
    }
    Ok(())
}

async fn an_explanation_and_the_audit_log_name_the_rule_with_its_fields(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let mine = all_but("people.update:own", &["salary"]);
    let permissions = vec!["people.read".into(), "people.create".into(), mine];
    let (scope, user) = with(&it, "clerk", permissions).await?;
    let made = it.create(&scope, "people", json!({"name": "Ada"})).await?;
    it.update(&scope, &made, None, json!({"note": "n"})).await?;
    it.create(&it.operator(), "people", json!({"name": "Bo"}))
        .await?;
    let access = it.operator().permit::<Read>("access")?;
    let question = Question {
        subject: format!("user:{user}"),
        action: "people.update".to_owned(),
        record: None,
    };
    let explained = it.crm.access().explain(&access, &question).await?;
    assert_eq!(
        wire(&explained.rules[0].permission)?,
        json!({"permission": "people.update:own", "except": ["salary"]})
    );
    let audit = it.audit().await?;
    let rule = |action: &str, entity: &str| {
        let found = audit
            .iter()
            .find(|one| one.action == action && one.entity_id.as_deref() == Some(entity));
        found.and_then(|entry| entry.rule.clone())
    };
    let id = made.id.to_string();
    assert_eq!(
        rule("people.update", &id).as_deref(),
        Some("role clerk: people.update:own except salary")
    );
    assert_eq!(
        rule("people.create", &id).as_deref(),
        Some("role clerk: people.create")
    );
    let operator = audit.iter().find(|one| one.action == "people.create");
    assert_eq!(
        operator.and_then(|one| one.rule.as_deref()),
        Some("operator")
    );
    let admin = audit.iter().find(|one| one.action == "roles.create");
    assert_eq!(admin.and_then(|one| one.rule.as_deref()), Some("operator"));
    Ok(())
}
