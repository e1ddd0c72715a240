//! The state machines of modules that tenants declare for themselves: as those of any module.

use super::custom::refusals;
use super::*;
use crm_core::custom::ModuleChange;
use crm_core::module::MachineSpec;
use crm_core::record::Many;

on_both_databases!(
    a_pipeline_of_a_tenants_own_is_obeyed_by_every_write,
    a_stage_of_a_tenants_own_goes_back_for_whoever_may_change_all_records,
    changed_machines_hold_at_once_and_touch_no_record,
    a_record_of_before_the_field_begins_with_its_first_state,
    two_tenants_have_different_machines_of_one_module,
);

/// A sales pipeline.
pub(super) fn stage() -> Json {
    json!({
        "field": "stage", "initial": ["idea", "offer"],
        "edges": {"idea": ["offer", "lost"], "offer": ["idea", "won", "lost"]},
        "ordered": true, "back": "all_rows",
        "needs": {"won": ["code", {"field": "budget", "gt": 0}]},
        "sets": {"won": {"outcome": "closed"}, "lost": {"outcome": "closed"}},
        "open": ["title"],
    })
}

pub(super) fn projects() -> Json {
    json!({"name": "projects", "singular": "project", "fields": [
        {"name": "title", "type": "text", "required": true},
        {"name": "code", "type": "text", "unique": true},
        {"name": "budget", "type": "integer"},
        {"name": "stage", "type": "enum", "values": ["idea", "offer", "won", "lost"],
            "required": true, "default": "idea"},
        {"name": "outcome", "type": "enum", "values": ["open", "closed"], "required": true,
            "default": "open"},
        {"name": "note", "type": "text"},
        {"name": "secret", "type": "text", "write_only": true},
    ], "machines": [stage()]})
}

/// The projects, where those that say nothing else begin as this.
fn beginning_as(default: &str) -> Json {
    let mut module = projects();
    module["fields"][3]["default"] = json!(default);
    module
}

fn get(record: &Record, field: &str) -> Json {
    serde_json::to_value(record.get(field)).unwrap_or_default()
}

impl Fixture {
    /// Changes a module of the tenant's; answers its machines as they are then.
    pub(super) async fn change_module(
        &self,
        tenant: TenantId,
        name: &str,
        machines: Json,
    ) -> crm_core::Result<Vec<MachineSpec>> {
        let scope = self.operator_in(tenant).await?;
        let permit = scope.permit::<Update>("modules")?;
        let change = ModuleChange {
            description: None,
            machines: Some(serde_json::from_value(machines).expect("machines")),
        };
        let modules = self.crm.custom_modules();
        let changed = modules.change(&permit, name, change).await?;
        assert!(changed.is_tenants());
        Ok(changed.spec().machines.clone())
    }
}

async fn a_pipeline_of_a_tenants_own_is_obeyed_by_every_write(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    it.found_module(it.tenant, projects()).await?;
    let scope = it.operator_in(it.tenant).await?;
    let won = json!({"title": "a", "stage": "won", "code": "a", "budget": 1});
    let refused = refusals(it.create(&scope, "projects", won).await);
    assert_eq!(refused, [("/stage".into(), "invalid_initial_state")]);
    let deal = it.create(&scope, "projects", json!({"title": "a"})).await?;
    assert_eq!(get(&deal, "stage"), "idea");

    let entries = it.audit().await?.len();
    let update = async |set: Json| it.update(&scope, &deal, None, set).await;
    let won = update(json!({"stage": "won"})).await;
    assert_eq!(code(won), "invalid_transition");
    assert_eq!(it.audit().await?.len(), entries, "nothing is written");
    update(json!({"stage": "offer"})).await?;
    let bare = refusals(update(json!({"stage": "won"})).await);
    let needed = [
        ("/code".to_owned(), "required"),
        ("/budget".to_owned(), "required"),
    ];
    assert_eq!(bare, needed);
    let none = json!({"stage": "won", "code": "p", "budget": 0});
    let refused = refusals(update(none).await);
    assert_eq!(refused, [("/budget".into(), "needed_by_state")]);
    let odd = json!({"stage": "won", "code": "p", "budget": 5, "outcome": "open"});
    let refused = refusals(update(odd).await);
    assert_eq!(refused, [("/outcome".into(), "set_by_state")]);
    let won = update(json!({"stage": "won", "code": "p", "budget": 5})).await?;
    assert_eq!(get(&won, "outcome"), "closed");
    let budget = update(json!({"budget": 6})).await;
    assert_eq!(code(budget), "final_state");
    update(json!({"title": "b"})).await?;

    // By its key, and all that match.
    let (create, change) = (scope.permit("projects")?, scope.permit("projects")?);
    let known = body(json!({"code": "p", "title": "b", "stage": "offer"}));
    let records = it.crm.records();
    let again = records.upsert(&create, &change, "code", known).await;
    assert_eq!(code(again), "final_state");
    let other = it.create(&scope, "projects", json!({"title": "c"})).await?;
    let module = scope.module("projects").context("declared")?;
    let many = |set: Json| {
        let ideas = body(json!({"stage": "idea"}));
        let filter = Filter::from_json(module, &ideas).map_err(Error::Invalid)?;
        let read = scope.permit::<Read>("projects")?;
        Many::update(&read, &change, filter, body(set), None)
    };
    let leap = records.write_many(many(json!({"stage": "won"}))?).await;
    assert_eq!(code(leap), "invalid_transition");
    let lost = records.write_many(many(json!({"stage": "lost"}))?).await?;
    assert_eq!((lost.matched, lost.changed), (1, 1));
    let other = it.get(&scope, "projects", other.id).await?;
    assert_eq!(get(&other, "outcome"), "closed");
    Ok(())
}

async fn a_stage_of_a_tenants_own_goes_back_for_whoever_may_change_all_records(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    it.found_module(it.tenant, projects()).await?;
    let rights = ["projects.read", "projects.create", "projects.update:own"];
    it.role("seller", rights.map(Into::into).to_vec()).await?;
    it.role("head", vec!["projects.*".into()]).await?;
    let ((seller, _), (head, _)) = (it.member("seller").await?, it.member("head").await?);
    let offer = json!({"title": "a", "stage": "offer"});
    let offer = it.create(&seller, "projects", offer).await?;
    let back = json!({"stage": "idea"});
    let refused = it.update(&seller, &offer, None, back.clone()).await;
    assert_eq!(code(refused), "invalid_transition");
    let idea = it.update(&head, &offer, None, back.clone()).await?;
    assert_eq!(get(&idea, "stage"), "idea");

    // By a permission that is asked for by its name.
    let mut purging = stage();
    purging["back"] = json!({"permission": "purge"});
    it.change_module(it.tenant, "projects", json!([purging]))
        .await?;
    let rights = ["projects.read", "projects.update"];
    it.role("deputy", rights.map(Into::into).to_vec()).await?;
    let ((deputy, _), (head, _)) = (it.member("deputy").await?, it.member("head").await?);
    let offer = json!({"stage": "offer"});
    it.update(&deputy, &idea, None, offer).await?;
    let refused = it.update(&deputy, &idea, None, back.clone()).await;
    assert!(
        matches!(&refused, Err(Error::Forbidden { permission }) if permission == "projects.purge"),
        "{refused:?}"
    );
    it.update(&head, &idea, None, back).await?;
    Ok(())
}

async fn changed_machines_hold_at_once_and_touch_no_record(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    it.found_module(it.tenant, beginning_as("offer")).await?;
    let first = it.operator_in(it.tenant).await?;
    let idea = |title: &str| json!({"title": title, "stage": "idea"});
    let old = it.create(&first, "projects", idea("a")).await?;
    let other = json!([{"field": "stage", "initial": ["offer"],
        "edges": {"idea": ["won"], "offer": ["won"]}}]);
    let answer = it
        .change_module(it.tenant, "projects", other.clone())
        .await?;
    assert_eq!(json!(answer), other);
    let changes = async || {
        let entries = it.audit().await?.into_iter();
        let mut changes = entries.filter(|entry| entry.action == "modules.update");
        anyhow::Ok((changes.next(), changes.count()))
    };
    let (entry, more) = changes().await?;
    let entry = entry.context("the change is told")?;
    assert_eq!((entry.entity_id.as_deref(), more), (Some("projects"), 0));
    assert_eq!(
        entry.before.context("before")?["machines"],
        json!([stage()])
    );
    assert_eq!(entry.after.context("after")?["machines"], other);
    it.change_module(it.tenant, "projects", other.clone())
        .await?;
    assert_eq!(changes().await?.1, 0, "the same is no change");

    // What is there stays, and goes on from where it is.
    let scope = it.operator_in(it.tenant).await?;
    assert_ne!(first.modules_version(), scope.modules_version());
    let kept = it.get(&scope, "projects", old.id).await?;
    assert_eq!((get(&kept, "stage"), kept.version), (json!("idea"), 1));
    let new = it.create(&scope, "projects", idea("b")).await;
    assert_eq!(refusals(new), [("/stage".into(), "invalid_initial_state")]);
    it.update(&scope, &kept, None, json!({"note": "n"})).await?;
    let won = it
        .update(&scope, &kept, None, json!({"stage": "won"}))
        .await?;
    assert_eq!(get(&won, "outcome"), "open", "nothing is set any more");
    let back = json!({"stage": "idea"});
    let refused = it.update(&scope, &won, None, back.clone()).await;
    assert_eq!(code(refused), "invalid_transition");

    it.change_module(it.tenant, "projects", json!([])).await?;
    let scope = it.operator_in(it.tenant).await?;
    it.update(&scope, &won, None, back).await?;
    for name in ["contacts", "nothing"] {
        let absent = it.change_module(it.tenant, name, json!([])).await;
        assert_eq!(code(absent), "not_found", "{name}");
    }
    let rival = it.rival().await?;
    let absent = it.change_module(rival, "projects", json!([])).await;
    assert_eq!(code(absent), "not_found");
    Ok(())
}

async fn a_record_of_before_the_field_begins_with_its_first_state(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let title = json!({"name": "title", "type": "text"});
    let visits = json!({"name": "visits", "singular": "visit", "fields": [title]});
    it.found_module(it.tenant, visits).await?;
    let scope = it.operator_in(it.tenant).await?;
    let old = it.create(&scope, "visits", json!({"title": "a"})).await?;
    let state = json!({"name": "state", "type": "enum", "values": ["planned", "made"],
        "required": true, "default": "planned"});
    it.declare(it.tenant, "visits", state).await?;
    let machine = json!([{"field": "state", "initial": ["planned"],
        "edges": {"planned": ["made"]}, "open": []}]);
    it.change_module(it.tenant, "visits", machine).await?;
    let scope = it.operator_in(it.tenant).await?;
    // It is in no final state for want of one.
    it.update(&scope, &old, None, json!({"title": "b"})).await?;
    let leap = it.update(&scope, &old, None, json!({"state": "made"}));
    let refused = refusals(leap.await);
    assert_eq!(refused, [("/state".into(), "invalid_initial_state")]);
    for state in ["planned", "made"] {
        it.update(&scope, &old, None, json!({"state": state}))
            .await?;
    }
    let late = it.update(&scope, &old, None, json!({"title": "c"})).await;
    assert_eq!(code(late), "final_state");
    Ok(())
}

async fn two_tenants_have_different_machines_of_one_module(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let rival = it.rival().await?;
    let mut theirs = beginning_as("won");
    theirs["machines"] =
        json!([{"field": "stage", "initial": ["won"], "edges": {"won": ["idea"]}}]);
    it.found_module(it.tenant, projects()).await?;
    it.found_module(rival, theirs).await?;
    let (ours, others) = (
        it.operator_in(it.tenant).await?,
        it.operator_in(rival).await?,
    );
    let won = json!({"title": "a", "stage": "won"});
    let refused = it.create(&ours, "projects", won.clone()).await;
    assert_eq!(
        refusals(refused),
        [("/stage".into(), "invalid_initial_state")]
    );
    let won = it.create(&others, "projects", won).await?;
    it.create(&ours, "projects", json!({"title": "a"})).await?;
    let idea = json!({"title": "a", "stage": "idea"});
    let idea = it.create(&others, "projects", idea).await;
    assert_eq!(refusals(idea), [("/stage".into(), "invalid_initial_state")]);
    // Where one changes theirs, those of the other stay.
    it.change_module(it.tenant, "projects", json!([])).await?;
    let others = it.operator_in(rival).await?;
    let lost = it.update(&others, &won, None, json!({"stage": "lost"}));
    assert_eq!(code(lost.await), "invalid_transition");
    it.update(&others, &won, None, json!({"stage": "idea"}))
        .await?;
    Ok(())
}
