//! Which rows a role reaches: own, those of a team, over parents, and under a condition; through
//! every door, and the same whether a list or a single record is asked for.

use std::collections::HashMap;

use super::*;
use crm_core::group::{GroupMember, GroupRecord, NewGroup};
use crm_core::policy::PermissionInput;
use crm_core::record::{Aggregate, Function, Many, Metric};
use crm_core::role::NewRole;
use crm_core::value::Value;

on_both_databases!(
    ag_84_a_chain_of_parents_is_covered_from_the_records_of_a_group_downwards,
    sa_16_a_record_is_mine_when_its_parent_is,
    what_groups_have_in_charge_is_reached_however_much_it_is,
    a_team_is_who_shares_a_group_until_the_membership_ends,
    pages_of_a_team_follow_each_other_however_large_it_is,
    a_condition_limits_every_read_and_write,
    what_is_written_stays_within_the_rows_that_may_be_written,
    conditions_on_the_values_of_one_field_reach_what_each_of_them_does,
    a_temporary_role_holds_exactly_until_its_instant_and_is_not_handed_on,
    a_parent_is_one_record_of_another_module,
);

const AGENCIES: &str = r#"
    name = "agencies"
    singular = "agency"
    fields = [{ name = "title", type = "text", search = true }]
"#;

const CLIENTS: &str = r#"
    name = "clients"
    singular = "client"
    parent = "agency_id"
    fields = [
        { name = "title", type = "text", search = true },
        { name = "agency_id", type = "reference", module = "agencies" },
    ]
"#;

const LEADS: &str = r#"
    name = "leads"
    singular = "lead"
    parent = "client_id"
    soft_delete = true
    fields = [
        { name = "title", type = "text", search = true },
        { name = "state", type = "enum", values = ["open", "won"], default = "open", required = true },
        { name = "client_id", type = "reference", module = "clients" },
    ]
"#;

const MODULES: [&str; 3] = ["agencies", "clients", "leads"];

pub(super) async fn open(backend: Backend) -> anyhow::Result<Fixture> {
    let specs = [AGENCIES, CLIENTS, LEADS].map(ModuleSpec::from_toml);
    let specs = specs.into_iter().collect::<Result<Vec<_>, _>>()?;
    Fixture::built(backend, |builder| builder.modules(specs)).await
}

pub(super) fn open_only(permission: &str) -> PermissionInput {
    PermissionInput {
        permission: permission.to_owned(),
        condition: Some(body(json!({"state": "open"}))),
        ..PermissionInput::default()
    }
}

impl Fixture {
    pub(super) async fn role(
        &self,
        name: &str,
        permissions: Vec<PermissionInput>,
    ) -> anyhow::Result<()> {
        // With the modules and fields of the tenant's own.
        let scope = self.crm.operator_in(self.tenant, request()).await?;
        let permit = scope.permit::<Create>("roles")?;
        let role = NewRole {
            name: name.to_owned(),
            permissions,
            ..NewRole::default()
        };
        self.crm.roles().create(&permit, role).await?;
        Ok(())
    }

    pub(super) async fn group(
        &self,
        name: &str,
        members: &[UserId],
        records: &[&Record],
    ) -> anyhow::Result<()> {
        let permit = self.operator().permit::<Create>("groups")?;
        let members = members.iter().map(|user| GroupMember {
            user_id: *user,
            until: None,
        });
        let records = records.iter().map(|record| GroupRecord {
            module: record.module().name().to_string(),
            id: record.id,
        });
        let group = NewGroup {
            name: name.to_owned(),
            members: members.collect(),
            records: records.collect(),
            ..NewGroup::default()
        };
        self.crm.groups().create(&permit, group).await?;
        Ok(())
    }

    /// The scope of a user with the rights of now.
    pub(super) async fn again(&self, user: UserId) -> anyhow::Result<Scope> {
        let scope = crm_core::testing::scope(&self.crm, self.tenant, user, request()).await?;
        scope.context("an active member")
    }

    async fn titles(&self, scope: &Scope, module: &str) -> crm_core::Result<Vec<String>> {
        let read = scope.permit::<Read>(module)?;
        let page = self.crm.records().list(&read, &Query::default()).await?;
        let titles = page.data.iter().map(title);
        let mut titles: Vec<_> = titles.collect();
        titles.sort_unstable();
        Ok(titles)
    }
}

fn title(record: &Record) -> String {
    let title = record.get("title").and_then(|value| value.as_text());
    title.unwrap_or_default().to_owned()
}

/// Two agencies, each with two clients, each with two leads; nobody owns them.
async fn chain(it: &Fixture) -> anyhow::Result<HashMap<String, Record>> {
    let scope = it.operator();
    let mut all = HashMap::new();
    for a in ["a", "b"] {
        let agency = it.create(&scope, "agencies", json!({"title": a})).await?;
        for c in ["1", "2"] {
            let client = json!({"title": format!("{a}{c}"), "agency_id": agency.id});
            let client = it.create(&scope, "clients", client).await?;
            for l in ["x", "y"] {
                let lead = json!({"title": format!("{a}{c}{l}"), "client_id": client.id});
                let lead = it.create(&scope, "leads", lead).await?;
                all.insert(title(&lead), lead);
            }
            all.insert(title(&client), client);
        }
        all.insert(title(&agency), agency);
    }
    Ok(all)
}

async fn ag_84_a_chain_of_parents_is_covered_from_the_records_of_a_group_downwards(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let all = chain(&it).await?;
    it.role("chain", vec!["records.*:parent".into()]).await?;
    let (_, agency) = it.member("chain").await?;
    let (_, client) = it.member("chain").await?;
    it.group("agency a", &[agency], &[&all["a"]]).await?;
    it.group("client b2", &[client], &[&all["b2"]]).await?;
    let (agency, client) = (it.again(agency).await?, it.again(client).await?);
    let of_agency = ["a", "a1", "a1x", "a1y", "a2", "a2x", "a2y"];
    let of_client = ["b2", "b2x", "b2y"];
    for (scope, seen) in [(&agency, &of_agency[..]), (&client, &of_client[..])] {
        let mut listed = Vec::new();
        for module in MODULES {
            listed.extend(it.titles(scope, module).await?);
        }
        listed.sort_unstable();
        assert_eq!(listed, seen);
        for (name, record) in &all {
            let module = record.module().name().as_str();
            let covered = seen.contains(&name.as_str());
            let expected = if covered { "ok" } else { "not_found" };
            assert_eq!(code(it.get(scope, module, record.id).await), expected);
            let same = it.update(scope, record, None, json!({"title": name})).await;
            assert_eq!(code(same), expected, "{name}");
            if !covered {
                assert_eq!(code(it.delete(scope, record).await), "not_found");
            }
        }
    }
    let lead = json!({"title": "new", "client_id": all["b2"].id});
    it.create(&client, "leads", lead).await?;
    let foreign = json!({"title": "new", "client_id": all["b1"].id});
    assert_eq!(
        code(it.create(&client, "leads", foreign).await),
        "validation_failed"
    );
    it.delete(&client, &all["b2x"]).await?;
    let trash = it
        .crm
        .records()
        .trash(
            &client.permit::<Read>("leads")?,
            &client.permit::<Delete>("leads")?,
            &Query::default(),
        )
        .await?;
    assert_eq!(trash.data.len(), 1);
    let restore = client.permit::<Delete>("leads")?;
    it.crm
        .records()
        .restore(&restore, all["b2x"].id, None)
        .await?;
    Ok(())
}

async fn sa_16_a_record_is_mine_when_its_parent_is(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    it.role("keeper", vec!["records.*:parent".into()]).await?;
    let (ann, ann_id) = it.member("keeper").await?;
    let (bob, _) = it.member("keeper").await?;
    let hers = it.create(&ann, "clients", json!({"title": "hers"})).await?;
    let lead = json!({"title": "of hers", "client_id": hers.id, "owner_id": null});
    let lead = it.create(&it.operator(), "leads", lead).await?;
    assert_eq!(it.titles(&ann, "leads").await?, ["of hers"]);
    assert_eq!(code(it.get(&ann, "leads", lead.id).await), "ok");
    assert_eq!(code(it.get(&bob, "leads", lead.id).await), "not_found");
    let change = json!({"title": "changed"});
    assert_eq!(it.update(&ann, &lead, None, change).await?.version, 2);
    // What is part of nothing is the owner's.
    let own = it.create(&bob, "leads", json!({"title": "his"})).await?;
    assert_eq!(it.titles(&bob, "leads").await?, ["his"]);
    let given = json!({"owner_id": ann_id});
    assert_eq!(
        code(it.update(&bob, &own, None, given).await),
        "validation_failed"
    );
    Ok(())
}

/// Agencies are part of nothing: beside one's own ones, those in the charge of no group of one's,
/// of one with few and of one with many are covered, as long as these are so.
async fn what_groups_have_in_charge_is_reached_however_much_it_is(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    it.role("keeper", vec!["agencies.*:parent".into()]).await?;
    let (ann, ann_id) = it.member("keeper").await?;
    let own = it.create(&ann, "agencies", json!({"title": "own"})).await?;
    let mut others = Vec::new();
    for n in 0..20 {
        let other = json!({"title": format!("{n:02}"), "owner_id": null});
        others.push(it.create(&it.operator(), "agencies", other).await?);
    }
    for (group, charge) in [(None, 0..0), (Some("few"), 0..3), (Some("many"), 2..19)] {
        let records: Vec<_> = others[charge.clone()].iter().collect();
        if let Some(name) = group {
            // What is one's own, too, is told once.
            let records: Vec<_> = records.into_iter().chain([&own]).collect();
            it.group(name, &[ann_id], &records).await?;
        }
        let ann = it.again(ann_id).await?;
        let mut expected: Vec<_> = others[..charge.end].iter().map(title).collect();
        expected.push("own".to_owned());
        assert_eq!(it.titles(&ann, "agencies").await?, expected);
        for (n, other) in others.iter().enumerate() {
            let seen = if n < charge.end { "ok" } else { "not_found" };
            assert_eq!(code(it.get(&ann, "agencies", other.id).await), seen, "{n}");
        }
    }
    Ok(())
}

async fn a_team_is_who_shares_a_group_until_the_membership_ends(
    backend: Backend,
) -> anyhow::Result<()> {
    let start = DateTime::parse_from_rfc3339("2025-01-15T09:30:00Z")?.to_utc();
    let (clock, hand) = Clock::fixed(start, 1);
    let specs = [AGENCIES, CLIENTS, LEADS].map(ModuleSpec::from_toml);
    let specs = specs.into_iter().collect::<Result<Vec<_>, _>>()?;
    let it = Fixture::built(backend, |builder| builder.modules(specs).clock(clock)).await?;
    it.role("team", vec!["leads.*:team".into()]).await?;
    let (ann, ann_id) = it.member("team").await?;
    let (bob, bob_id) = it.member("team").await?;
    let (cid, _) = it.member("team").await?;
    for (scope, name) in [(&ann, "ann"), (&bob, "bob"), (&cid, "cid")] {
        it.create(scope, "leads", json!({"title": name})).await?;
    }
    let permit = it.operator().permit::<Create>("groups")?;
    let group = NewGroup {
        name: "two".to_owned(),
        members: vec![
            GroupMember {
                user_id: ann_id,
                until: None,
            },
            GroupMember {
                user_id: bob_id,
                until: Some(start + TimeDelta::seconds(60)),
            },
        ],
        ..NewGroup::default()
    };
    it.crm.groups().create(&permit, group).await?;
    for (more, seen) in [
        (0, &["ann", "bob"][..]),
        (59, &["ann", "bob"]),
        (1, &["ann"]),
    ] {
        hand.advance(TimeDelta::seconds(more));
        let ann = it.again(ann_id).await?;
        assert_eq!(it.titles(&ann, "leads").await?, seen, "{more} s later");
    }
    let bob = it.again(bob_id).await?;
    assert_eq!(it.titles(&bob, "leads").await?, ["bob"]);
    assert_eq!(it.titles(&cid, "leads").await?, ["cid"]);
    Ok(())
}

/// Two records of each of five users, one of the second in the trash, page by page for teams of two
/// and of twenty.
async fn pages_of_a_team_follow_each_other_however_large_it_is(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    it.role("team", vec!["leads.*:team".into()]).await?;
    let mut users = Vec::new();
    for _ in 0..20 {
        users.push(it.member("team").await?.1);
    }
    let mut leads = Vec::new();
    for n in 0..10 {
        let lead = json!({"title": format!("{n}"), "owner_id": users[n % 5]});
        leads.push(it.create(&it.operator(), "leads", lead).await?);
    }
    it.delete(&it.operator(), &leads[6]).await?;
    for (size, expected) in [
        (2, vec!["5", "1", "0"]),
        (20, vec!["9", "8", "7", "5", "4", "3", "2", "1", "0"]),
    ] {
        it.group(&format!("{size}"), &users[..size], &[]).await?;
        let ann = it.again(users[0]).await?;
        for sort in ["-created_at", "created_at"] {
            let mut expected = expected.clone();
            if sort == "created_at" {
                expected.reverse();
            }
            let module = ann.module("leads").context("declared")?;
            let query = Query {
                sort: Sort::parse_list(module, sort)
                    .map_err(|error| Error::Invalid(vec![error]))?,
                limit: 2,
                ..Query::default()
            };
            let permit = ann.permit::<Read>("leads")?;
            let seen = it.paged(&permit, query).await?;
            let seen: Vec<_> = seen
                .iter()
                .filter_map(|lead| lead.get("title").cloned())
                .collect();
            let expected: Vec<_> = expected.into_iter().map(Value::from).collect();
            assert_eq!(seen, expected, "{size} members, {sort}");
        }
    }
    Ok(())
}

async fn a_condition_limits_every_read_and_write(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let all = chain(&it).await?;
    it.role(
        "watcher",
        vec![
            open_only("leads.read"),
            open_only("leads.update"),
            "leads.delete".into(),
        ],
    )
    .await?;
    let (scope, _) = it.member("watcher").await?;
    for name in ["a1x", "b2y"] {
        let won = json!({"state": "won"});
        it.update(&it.operator(), &all[name], None, won).await?;
    }
    let seen = it.titles(&scope, "leads").await?;
    assert_eq!(seen, ["a1y", "a2x", "a2y", "b1x", "b1y", "b2x"]);
    assert_eq!(
        code(it.get(&scope, "leads", all["a1x"].id).await),
        "not_found"
    );
    let read = scope.permit::<Read>("leads")?;
    let records = it.crm.records();
    let total = records.count(&read, &Query::default()).await?;
    assert_eq!(total.count, 6);
    let ask = Aggregate {
        metrics: vec![Metric {
            function: Function::Count,
            field: None,
        }],
        ..Aggregate::default()
    };
    let groups = records.aggregate(&read, &ask).await?;
    assert_eq!(serde_json::to_value(&groups.data[0].metrics[0])?, json!(6));
    let found = Query {
        search: Some("a1".into()),
        ..Query::default()
    };
    assert_eq!(it.ids(&scope, "leads", &found).await?, [all["a1y"].id]);
    let update = scope.permit::<Update>("leads")?;
    let set = body(json!({"title": "seen"}));
    let many = Many::update(&read, &update, Filter::And(vec![]), set, None)?;
    assert_eq!(records.write_many(many).await?.changed, 6);
    let won = records
        .get(&it.operator().permit::<Read>("leads")?, all["a1x"].id)
        .await?;
    assert_eq!(title(&won), "a1x");
    // The record must be visible, and then may be deleted whatever it holds.
    assert_eq!(code(it.delete(&scope, &all["a2x"]).await), "ok");
    Ok(())
}

async fn what_is_written_stays_within_the_rows_that_may_be_written(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    it.role(
        "opener",
        vec![
            "leads.read".into(),
            open_only("leads.create"),
            open_only("leads.update:own"),
        ],
    )
    .await?;
    let (scope, _) = it.member("opener").await?;
    let made = it.create(&scope, "leads", json!({"title": "x"})).await?;
    let won = json!({"title": "y", "state": "won"});
    assert_eq!(
        code(it.create(&scope, "leads", won).await),
        "validation_failed"
    );
    let change = json!({"state": "won"});
    assert_eq!(
        code(it.update(&scope, &made, None, change).await),
        "validation_failed"
    );
    let entries = it.audit().await?.len();
    it.update(&scope, &made, None, json!({"title": "z"}))
        .await?;
    assert_eq!(it.audit().await?.len(), entries + 1);
    it.update(&it.operator(), &made, None, json!({"state": "won"}))
        .await?;
    let change = json!({"title": "late"});
    assert_eq!(
        code(it.update(&scope, &made, None, change).await),
        "forbidden"
    );
    Ok(())
}

async fn a_temporary_role_holds_exactly_until_its_instant_and_is_not_handed_on(
    backend: Backend,
) -> anyhow::Result<()> {
    let start = DateTime::parse_from_rfc3339("2025-01-15T09:30:00Z")?.to_utc();
    let (clock, hand) = Clock::fixed(start, 1);
    let it = Fixture::built(backend, |builder| builder.clock(clock)).await?;
    let (_, boss) = it.member("admin").await?;
    let (_, user) = it.member("viewer").await?;
    let (_, other) = it.member("viewer").await?;
    let end = start + TimeDelta::hours(8);
    let until = |role: &str, until| crm_core::member::RoleGrant {
        role: role.to_owned(),
        until,
    };
    let set = async |actor: UserId, user: UserId, roles: Vec<crm_core::member::RoleGrant>| {
        let scope = it.again(actor).await.map_err(|_| Error::NotFound)?;
        let permit = scope.permit::<Update>("members")?;
        it.crm.members().set_roles(&permit, user, roles).await
    };
    assert_eq!(
        code(set(boss, user, vec![until("admin", Some(start))]).await),
        "validation_failed"
    );
    let roles = vec![until("viewer", None), until("admin", Some(end))];
    let member = set(boss, user, roles).await?;
    let held: Vec<_> = member.roles.iter().map(|role| role.until).collect();
    assert_eq!(held, [Some(end), None]);
    // A right that ends is no right to hand on, not even for as long.
    let refused = set(user, other, vec![until("manager", None)]).await;
    assert_eq!(code(refused), "forbidden");
    // The one admin without an end stays.
    let refused = set(boss, boss, vec![until("admin", Some(end))]).await;
    assert_eq!(code(refused), "last_admin");
    for (at, expected) in [
        (start, true),
        (end - TimeDelta::microseconds(1), true),
        (end, false),
        (end + TimeDelta::days(1), false),
    ] {
        hand.advance(at - it.crm.clock().now());
        let scope = it.again(user).await?;
        assert_eq!(scope.permit::<Read>("roles").is_ok(), expected, "{at}");
        assert!(scope.permit::<Read>("contacts").is_ok());
    }
    Ok(())
}

async fn a_parent_is_one_record_of_another_module(backend: Backend) -> anyhow::Result<()> {
    drop(backend);
    for (parent, refused) in [("title", "not_supported"), ("nothing", "unknown_field")] {
        let text = CLIENTS.replace("parent = \"agency_id\"", &format!("parent = \"{parent}\""));
        let checked = crm_core::module::check(&ModuleSpec::from_toml(&text)?);
        match checked {
            Err(Error::Invalid(fields)) => assert_eq!(
                (fields[0].pointer.as_str(), fields[0].code),
                ("/parent", refused)
            ),
            other => panic!("{other:?}"),
        }
    }
    Ok(())
}

async fn conditions_on_the_values_of_one_field_reach_what_each_of_them_does(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let all = chain(&it).await?;
    let titled = |condition: Json| PermissionInput {
        permission: "leads.read".to_owned(),
        condition: Some(body(json!({ "title": condition }))),
        ..PermissionInput::default()
    };
    let rules = [
        titled(json!({"eq": "a1x"})),
        titled(json!({"in": ["A1Y", "b2y"]})),
        titled(json!({"starts": "b1"})),
        titled(json!({"eq": "a1x", "ne": "a1x"})),
    ];
    it.role("some", rules.into()).await?;
    let (scope, _) = it.member("some").await?;
    let seen = it.titles(&scope, "leads").await?;
    assert_eq!(seen, ["a1x", "b1x", "b1y", "b2y"]);
    for (title, record) in all.iter().filter(|(title, _)| title.len() == 3) {
        let read = it.get(&scope, "leads", record.id).await;
        assert_eq!(read.is_ok(), seen.contains(title), "{title}");
    }
    Ok(())
}
