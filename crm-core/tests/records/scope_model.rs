//! Rows by random rules, against a model in memory: lists and single records agree with it.

use std::collections::{HashMap, HashSet};

use super::scopes::{open, open_only};
use super::*;
use crm_core::policy::PermissionInput;

on_both_databases!(lists_and_single_records_agree_for_random_rules);

/// Numbers that look random and are the same in every run (Marsaglia, "Xorshift RNGs", 2003).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % most as u64).unwrap_or_default()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// A record of the model: its owner and what it is part of.
struct Row {
    record: Record,
    owner: Option<UserId>,
    parent: Option<RecordId>,
    open: bool,
}

struct Model {
    rows: HashMap<RecordId, Row>,
    /// Members and records of each group.
    groups: Vec<(HashSet<UserId>, HashSet<RecordId>)>,
}

impl Model {
    fn mine(&self, user: UserId, id: RecordId) -> bool {
        let row = &self.rows[&id];
        row.owner == Some(user)
            || self
                .groups
                .iter()
                .any(|(users, records)| users.contains(&user) && records.contains(&id))
            || row.parent.is_some_and(|parent| self.mine(user, parent))
    }

    fn team(&self, user: UserId, id: RecordId) -> bool {
        self.rows[&id].owner.is_some_and(|owner| {
            let shared =
                |(users, _): &(HashSet<UserId>, _)| users.contains(&user) && users.contains(&owner);
            owner == user || self.groups.iter().any(shared)
        })
    }

    fn covers(&self, rules: &[(&str, bool)], user: UserId, id: RecordId) -> bool {
        rules.iter().any(|(scope, open)| {
            let related = match *scope {
                ":own" => self.rows[&id].owner == Some(user),
                ":team" => self.team(user, id),
                ":parent" => self.mine(user, id),
                _ => true,
            };
            related && (!open || self.rows[&id].open)
        })
    }
}

async fn lists_and_single_records_agree_for_random_rules(backend: Backend) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    it.role("nothing", Vec::new()).await?;
    let mut users = Vec::new();
    for _ in 0..4 {
        users.push(it.member("nothing").await?.1);
    }
    let mut model = Model {
        rows: HashMap::new(),
        groups: Vec::new(),
    };
    let mut above: Vec<RecordId> = Vec::new();
    for (module, count, parent) in [
        ("agencies", 4, ""),
        ("clients", 8, "agency_id"),
        ("leads", 24, "client_id"),
    ] {
        let mut made = Vec::new();
        for n in 0..count {
            let owner = users.get(dice.below(7)).copied();
            let part = (!above.is_empty() && dice.below(4) > 0).then(|| *dice.pick(&above));
            let open = dice.below(2) == 0;
            let mut input = json!({"title": format!("{module} {n}"), "owner_id": owner});
            if let Some(part) = part {
                input[parent] = json!(part);
            }
            if module == "leads" {
                input["state"] = json!(if open { "open" } else { "won" });
            }
            let record = it.create(&it.operator(), module, input).await?;
            made.push(record.id);
            let row = Row {
                record,
                owner,
                parent: part,
                open,
            };
            model.rows.insert(made[n], row);
        }
        above = made;
    }
    let leads = above;
    let all: Vec<RecordId> = model.rows.keys().copied().collect();
    for n in 0..3 {
        let members: HashSet<_> = (0..3).map(|_| *dice.pick(&users)).collect();
        let records: HashSet<_> = (0..2).map(|_| *dice.pick(&all)).collect();
        let attached: Vec<_> = records.iter().map(|id| &model.rows[id].record).collect();
        let group: Vec<_> = members.iter().copied().collect();
        it.group(&format!("group {n}"), &group, &attached).await?;
        model.groups.push((members, records));
    }
    let mut crowd = Vec::new();
    for _ in 0..20 {
        crowd.push(it.member("nothing").await?.1);
    }
    for case in 0..24 {
        if case == 12 {
            // From here on teams are larger than what is known of them by heart.
            for (n, (members, _)) in model.groups.iter().enumerate() {
                let members: Vec<_> = members.iter().chain(&crowd).copied().collect();
                it.group(&format!("crowd {n}"), &members, &[]).await?;
            }
        }
        let rules: Vec<(&str, bool)> = (0..=dice.below(3))
            .map(|_| {
                (
                    *dice.pick(&["", ":own", ":team", ":parent"]),
                    dice.below(3) > 0,
                )
            })
            .collect();
        let input = |action: &str, rules: &[(&str, bool)]| -> Vec<PermissionInput> {
            let rules = rules.iter();
            rules
                .map(|(scope, open)| match open {
                    true => open_only(&format!("leads.{action}{scope}")),
                    false => format!("leads.{action}{scope}").into(),
                })
                .collect()
        };
        let writes = vec![*dice.pick(&rules)];
        let permissions = [input("read", &rules), input("update", &writes)].concat();
        it.role(&format!("role {case}"), permissions).await?;
        let user = *dice.pick(&users);
        let permit = it.operator().permit::<Update>("members")?;
        let role = vec![format!("role {case}")];
        it.crm.members().set_roles(&permit, user, role).await?;
        let scope = it.again(user).await?;
        let query = Query {
            limit: 100,
            ..Query::default()
        };
        let listed: HashSet<_> = it.ids(&scope, "leads", &query).await?.into_iter().collect();
        for id in &leads {
            let covered = model.covers(&rules, user, *id);
            assert_eq!(listed.contains(id), covered, "{rules:?}");
            let found = it.get(&scope, "leads", *id).await;
            assert_eq!(found.is_ok(), covered, "{rules:?}");
        }
        for _ in 0..4 {
            let row = &model.rows[dice.pick(&leads)];
            let id = row.record.id;
            let changed = json!({"title": format!("changed in {case}")});
            let answer = it.update(&scope, &row.record, None, changed).await;
            let expected = if model.covers(&writes, user, id) {
                "ok"
            } else if model.covers(&rules, user, id) {
                "forbidden"
            } else {
                "not_found"
            };
            assert_eq!(code(answer), expected, "{rules:?} {writes:?}");
        }
    }
    Ok(())
}
