//! Random roles with lists of fields, held against a model of what each of them shows and lets
//! change.

use std::collections::BTreeSet;

use super::field_lists::{FIELDS, all_but, only, open, role, shown, wire};
use super::*;
use crm_core::group::{GroupMember, NewGroup};
use crm_core::policy::PermissionInput;
use crm_core::record::{Aggregate, Function, Metric};

on_both_databases!(answers_and_refusals_follow_a_model_for_random_lists,);

/// Which rows a rule of the model is about.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Of {
    All,
    Own,
    Team,
    Open,
}

/// A rule of the model, with the fields that it reaches.
#[derive(Debug, Clone)]
struct Model {
    of: Of,
    fields: BTreeSet<&'static str>,
    input: PermissionInput,
}

impl Model {
    fn covers(&self, row: &Row, user: UserId, team: &[UserId]) -> bool {
        let owns = row.owner == Some(user);
        match self.of {
            Of::All => true,
            Of::Own => owns,
            Of::Team => owns || row.owner.is_some_and(|owner| team.contains(&owner)),
            Of::Open => row.open,
        }
    }
}

struct Row {
    record: Record,
    owner: Option<UserId>,
    open: bool,
}

/// Numbers by xorshift.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn rule(&mut self, action: &str) -> Model {
        let of = [Of::All, Of::Own, Of::Team, Of::Open][self.below(4)];
        let named: BTreeSet<_> = FIELDS.into_iter().filter(|_| self.below(3) == 0).collect();
        let rows = match of {
            Of::All | Of::Open => "",
            Of::Own => ":own",
            Of::Team => ":team",
        };
        let permission = format!("people.{action}{rows}");
        let names: Vec<_> = named.iter().copied().collect();
        let all: BTreeSet<_> = FIELDS.into_iter().collect();
        let (mut input, fields) = match (names.is_empty(), self.below(2)) {
            (true, _) => (permission.as_str().into(), all),
            (_, 0) => (only(&permission, &names), named.clone()),
            _ => (all_but(&permission, &names), &all - &named),
        };
        if of == Of::Open {
            input.condition = Some(body(json!({"state": "open"})));
        }
        Model { of, fields, input }
    }
}

async fn answers_and_refusals_follow_a_model_for_random_lists(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    role(&it, &it.operator(), "nothing", Vec::new()).await?;
    let mut users = Vec::new();
    for _ in 0..3 {
        users.push(it.member("nothing").await?.1);
    }
    let (user, team) = (users[0], [users[0], users[1]]);
    let group = NewGroup {
        name: "team".to_owned(),
        members: team
            .map(|user_id| GroupMember {
                user_id,
                until: None,
            })
            .to_vec(),
        ..NewGroup::default()
    };
    let groups = it.operator().permit::<Create>("groups")?;
    it.crm.groups().create(&groups, group).await?;
    let mut rows = Vec::new();
    for n in 0..8 {
        let (owner, open) = (users.get(n % 4).copied(), n < 4);
        let person = json!({
            "name": format!("p{n}"), "note": "n", "code": format!("c{n}"), "phone": "1",
            "salary": "3", "state": if open { "open" } else { "won" }, "owner_id": owner,
        });
        let record = it.create(&it.operator(), "people", person).await?;
        rows.push(Row {
            record,
            owner,
            open,
        });
    }
    let records = it.crm.records();
    for case in 0..16 {
        let reads: Vec<Model> = (0..=dice.below(3)).map(|_| dice.rule("read")).collect();
        let writes: Vec<Model> = (0..=dice.below(2)).map(|_| dice.rule("update")).collect();
        // Half of the rules by another role.
        let mut roles = vec![Vec::new(), Vec::new()];
        for (n, rule) in reads.iter().chain(&writes).enumerate() {
            roles[n % 2].push(rule.input.clone());
        }
        let mut names = Vec::new();
        for (n, permissions) in roles.into_iter().enumerate() {
            let name = format!("role {case} {n}");
            role(&it, &it.operator(), &name, permissions).await?;
            names.push(name);
        }
        let permit = it.operator().permit::<Update>("members")?;
        it.crm.members().set_roles(&permit, user, names).await?;
        let scope = crm_core::testing::scope(&it.crm, it.tenant, user, request()).await?;
        let scope = scope.context("a member")?;
        let read = scope.permit::<Read>("people")?;
        let page = records.list(&read, &Query::default()).await?;
        let covering = |rules: &[Model], row: &Row| -> Vec<Model> {
            let rules = rules.iter().filter(|rule| rule.covers(row, user, &team));
            rules.cloned().collect()
        };
        let united = |rules: &[Model]| -> BTreeSet<&'static str> {
            rules
                .iter()
                .flat_map(|rule| rule.fields.iter().copied())
                .collect()
        };
        for row in &rows {
            let rules = covering(&reads, row);
            let listed = page.data.iter().find(|record| record.id == row.record.id);
            let got = it.get(&scope, "people", row.record.id).await;
            assert_eq!(listed.is_some(), !rules.is_empty(), "{reads:#?}");
            assert_eq!(got.is_ok(), !rules.is_empty(), "{reads:#?}");
            if let (Some(listed), Ok(got)) = (listed, got) {
                let fields = united(&rules);
                for one in [wire(listed)?, wire(&got)?] {
                    let mut names = shown(&one);
                    names.remove("label");
                    assert_eq!(names, fields, "{reads:#?}");
                }
            }
        }
        let asked = scope.readable("people").context("declared")?;
        for name in FIELDS {
            let filter = Filter::parse_for(&scope, &asked, name, "is_null", "false");
            let present = |row: &&Row| {
                row.record.get(name).is_some_and(|one| !one.is_null())
                    || name == "owner_id" && row.owner.is_some()
            };
            let seen = rows
                .iter()
                .filter(|row| united(&covering(&reads, row)).contains(name));
            let expected: BTreeSet<_> = seen.filter(present).map(|row| row.record.id).collect();
            let Ok(filter) = filter else {
                let anywhere = united(&reads).contains(name);
                assert!(!anywhere, "{name} {reads:#?}");
                continue;
            };
            let query = Query {
                filter: Some(filter.clone()),
                ..Query::default()
            };
            let found = it.ids(&scope, "people", &query).await?;
            assert_eq!(
                found.into_iter().collect::<BTreeSet<_>>(),
                expected,
                "{name} {reads:#?}"
            );
            let ask = Aggregate {
                filter: Some(filter),
                metrics: vec![Metric {
                    function: Function::Count,
                    field: None,
                }],
                ..Aggregate::default()
            };
            let groups = records.aggregate(&read, &ask).await?;
            let count = groups.data.first().map(|group| wire(&group.metrics[0]));
            assert_eq!(
                count.transpose()?,
                Some(json!(expected.len())),
                "{name} {reads:#?}"
            );
        }
        for row in &rows {
            let name = ["name", "note", "phone", "salary"][dice.below(4)];
            let value = if name == "salary" { "4" } else { "changed" };
            let change = json!({ (name): value });
            let answer = it.update(&scope, &row.record, None, change).await;
            let expected = if !united(&writes).contains(name) {
                "validation_failed"
            } else if united(&covering(&writes, row)).contains(name) {
                "ok"
            } else if !covering(&reads, row).is_empty() {
                "forbidden"
            } else {
                "not_found"
            };
            assert_eq!(code(answer), expected, "{name} {writes:#?} {reads:#?}");
        }
    }
    Ok(())
}
