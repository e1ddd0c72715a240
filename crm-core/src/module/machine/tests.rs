use serde_json::json;

use super::*;
use crate::policy::RowScope;

/// The deals of SA-86 to SA-91.
const DEALS: &str = r#"
name = "sales"
singular = "sale"
fields = [
    { name = "title", type = "text", required = true },
    { name = "amount", type = "integer" },
    { name = "status", type = "enum", values = ["new", "in_progress", "won", "lost"], required = true, default = "new" },
    { name = "stage", type = "enum", values = ["qualification", "proposal", "closed"], required = true, default = "qualification" },
]

[[machines]]
field = "status"
initial = ["new"]
edges = { new = ["in_progress"], in_progress = ["won", "lost"] }
needs = { won = ["title", { field = "amount", gt = 0 }] }
sets = { won = { stage = "closed" }, lost = { stage = "closed" } }
open = ["title"]

[[machines]]
field = "stage"
initial = ["qualification", "proposal"]
ordered = true
back = "all_rows"
"#;

fn module() -> CompiledModule {
    CompiledModule::new(ModuleSpec::from_toml(DEALS).unwrap(), 0).unwrap()
}

/// title, amount, status, stage
fn row(amount: Option<i64>, status: &str, stage: &str) -> Vec<Value> {
    vec![
        Value::Text("t".into()),
        amount.map_or(Value::Null, Value::Int),
        Value::Text(status.into()),
        Value::Text(stage.into()),
    ]
}

fn change(
    rows: RowScope,
    before: &[Value],
    sent: &[(usize, Value)],
) -> Result<Vec<Value>, &'static str> {
    let mut after = before.to_vec();
    for (at, value) in sent {
        after[*at] = value.clone();
    }
    let writer = Writer { rows, scope: None };
    let judged = proceed(&module(), writer, before, &mut after, sent);
    judged.map(|_| after).map_err(|error| match error {
        Error::Invalid(errors) => errors[0].code,
        other => other.code(),
    })
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

#[test]
fn sa_86_a_status_changes_along_its_edges_and_final_ones_do_not() {
    let new = row(None, "new", "proposal");
    for (to, outcome) in [
        ("in_progress", Ok(())),
        ("won", Err("invalid_transition")),
        ("new", Ok(())),
    ] {
        let changed = change(RowScope::All, &new, &[(2, text(to))]);
        assert_eq!(changed.map(|_| ()), outcome, "{to}");
    }
    let lost = row(None, "lost", "closed");
    let reopened = change(RowScope::All, &lost, &[(2, text("new"))]);
    assert_eq!(reopened, Err("final_state"));
}

#[test]
fn sa_87_what_a_state_needs_is_judged_on_the_row_after_the_whole_change() {
    let before = row(None, "in_progress", "proposal");
    let won = [(2, text("won"))];
    assert_eq!(change(RowScope::All, &before, &won), Err("required"));
    let both = [(1, Value::Int(5)), (2, text("won"))];
    assert!(change(RowScope::All, &before, &both).is_ok());
    for amount in [0, -1] {
        let both = [(1, Value::Int(amount)), (2, text("won"))];
        let changed = change(RowScope::All, &before, &both);
        assert_eq!(changed, Err("needed_by_state"), "{amount}");
    }
}

#[test]
fn sa_88_a_state_sets_its_companions_and_refuses_another_value() {
    let before = row(Some(5), "in_progress", "proposal");
    let after = change(RowScope::Own, &before, &[(2, text("won"))]).unwrap();
    assert_eq!(after[3], text("closed"));
    let odd = [(2, text("won")), (3, text("qualification"))];
    assert_eq!(change(RowScope::All, &before, &odd), Err("set_by_state"));
    let same = [(2, text("lost")), (3, text("closed"))];
    assert!(change(RowScope::All, &before, &same).is_ok());
}

#[test]
fn sa_89_an_order_is_followed_forward_and_back_with_rights_on_all_rows_only() {
    let before = row(None, "new", "proposal");
    for (rows, to, outcome) in [
        (RowScope::Own, "closed", Ok(())),
        (RowScope::Own, "qualification", Err("invalid_transition")),
        (RowScope::All, "qualification", Ok(())),
    ] {
        let changed = change(rows, &before, &[(3, text(to))]);
        assert_eq!(changed.map(|_| ()), outcome, "{rows:?} {to}");
    }
}

#[test]
fn sa_90_in_a_final_state_only_open_fields_change() {
    let won = row(Some(5), "won", "closed");
    assert!(change(RowScope::All, &won, &[(0, text("other"))]).is_ok());
    let amount = change(RowScope::All, &won, &[(1, Value::Int(6))]);
    assert_eq!(amount, Err("final_state"));
}

#[test]
fn sa_91_a_record_begins_in_an_initial_state() {
    assert!(begin(&module(), &row(None, "new", "proposal")).is_ok());
    assert!(begin(&module(), &row(None, "won", "proposal")).is_err());
    assert!(begin(&module(), &row(None, "new", "closed")).is_err());
}

#[test]
fn a_record_without_a_state_changes_and_begins_with_its_first_one() {
    let mut before = row(None, "new", "proposal");
    before[2] = Value::Null;
    assert!(change(RowScope::Own, &before, &[(0, text("other"))]).is_ok());
    let won = change(RowScope::All, &before, &[(2, text("won"))]);
    assert_eq!(won, Err("invalid_initial_state"));
    assert!(change(RowScope::Own, &before, &[(2, text("new"))]).is_ok());
}

#[test]
fn a_machine_that_names_what_is_not_declared_is_refused_by_its_place() {
    let mut spec = ModuleSpec::from_toml(DEALS).unwrap();
    let machine = &mut spec.machines[0];
    machine.initial = vec!["nwe".into()];
    machine.open = Some(vec![Ident::from_static("nothing")]);
    let needs = json!(["none", {"field": "amount", "gt": "much"}, {"field": "title", "above": 1},
        {"field": "title"}]);
    let needs = serde_json::from_value(needs).unwrap();
    machine.needs = BTreeMap::from([("won".to_owned(), needs)]);
    machine.back = Back::Permission(Ident::from_static("reopen"));
    let set = BTreeMap::from([(Ident::from_static("stage"), json!("shut"))]);
    machine.sets = BTreeMap::from([("won".to_owned(), set)]);
    spec.machines[1].field = Ident::from_static("title");
    let found: Vec<_> = check(&spec)
        .into_iter()
        .map(|error| (error.pointer, error.code))
        .collect();
    let place = |pointer: &str, code| (pointer.to_owned(), code);
    assert_eq!(
        found,
        [
            place("/machines/0/initial", "unknown_state"),
            place("/machines/0/needs", "unknown_field"),
            place("/machines/0/open", "unknown_field"),
            place("/machines/0/needs", "wrong_type"),
            place("/machines/0/needs", "unknown_operator"),
            place("/machines/0/needs", "required"),
            place("/machines/0/back", "unknown_action"),
            place("/machines/0/sets", "not_allowed"),
            place("/machines/1/field", "invalid"),
        ]
    );
}

#[test]
fn a_machine_that_could_never_go_on_is_refused_by_its_place() {
    let refused = |change: &dyn Fn(&mut MachineSpec)| {
        let mut spec = ModuleSpec::from_toml(DEALS).unwrap();
        change(&mut spec.machines[0]);
        let found = check(&spec).into_iter();
        found
            .map(|error| (error.pointer, error.code))
            .collect::<Vec<_>>()
    };
    let place = |key: &str, code| vec![(format!("/machines/0/{key}"), code)];
    let lost = |machine: &mut MachineSpec| machine.initial = vec!["lost".into(), "won".into()];
    assert_eq!(refused(&lost), place("initial", "default_not_initial"));
    let any = |machine: &mut MachineSpec| machine.initial.clear();
    assert!(refused(&any).is_empty());
    let idle = |machine: &mut MachineSpec| machine.back = Back::Anyone;
    assert_eq!(refused(&idle), place("back", "not_supported"));
    let needing = |need: Json| {
        let need: Need = serde_json::from_value(need).unwrap();
        refused(&|machine| {
            let needs = BTreeMap::from([("won".to_owned(), vec![need.clone()])]);
            machine.needs = needs;
        })
    };
    let shut = needing(json!({"field": "stage", "eq": "shut"}));
    assert_eq!(shut, place("needs", "not_allowed"));
    for never in [
        json!({"field": "stage", "eq": null}),
        json!({"field": "amount", "gt": 5, "lt": 5}),
        json!({"field": "title", "in": []}),
    ] {
        assert_eq!(
            needing(never.clone()),
            place("needs", "never_met"),
            "{never}"
        );
    }
    assert!(needing(json!({"field": "amount", "eq": null})).is_empty());
}

#[test]
fn a_state_neither_needs_nor_sets_what_follows_from_other_fields() {
    let mut spec = ModuleSpec::from_toml(DEALS).unwrap();
    let title = spec
        .fields
        .iter_mut()
        .find(|field| field.name.as_str() == "title");
    let title = title.unwrap();
    title.copied = Some("company_id.name".to_owned());
    let name = title.name.clone();
    let machine = &mut spec.machines[0];
    machine.needs = BTreeMap::from([("won".to_owned(), vec![name.clone().into()])]);
    let set = BTreeMap::from([(name, json!("a"))]);
    machine.sets = BTreeMap::from([("lost".to_owned(), set)]);
    let found = check(&spec).into_iter();
    let found: Vec<_> = found.map(|error| (error.pointer, error.code)).collect();
    let place = |key: &str| (format!("/machines/0/{key}"), "not_supported");
    assert_eq!(found, [place("needs"), place("sets")]);
}

#[test]
fn toml_and_json_carry_the_same_machines_there_and_back() {
    let spec = ModuleSpec::from_toml(DEALS).unwrap();
    let json = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<ModuleSpec>(&json).unwrap(), spec);
    let toml = toml::to_string(&spec).unwrap();
    assert_eq!(ModuleSpec::from_toml(&toml).unwrap(), spec);
    assert_eq!(
        spec.machines[0].words(),
        "Begins as new. Changes: in_progress → won, lost; new → in_progress. \
         In won it needs title, amount (gt 0)."
    );
}
