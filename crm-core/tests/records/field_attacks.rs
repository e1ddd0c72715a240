//! Attacks on the fields that a role does not read: over the audit log, over conditions of rules,
//! over imports that write nothing, over explanations.

use std::collections::{BTreeSet, HashMap};

use super::field_lists::{PEOPLE, VISITS, all_but, invalid, only, role, shown, wire, with};
use super::*;
use crm_core::AuditEntry;
use crm_core::access::{Explanation, Question, Reason};
use crm_core::module::FieldSpec;
use crm_core::policy::PermissionInput;
use crm_core::role::RoleChange;
use crm_core::transfer::{Format, ImportMode, ImportOptions};

on_both_databases!(
    the_audit_log_shows_no_states_of_records_to_whoever_does_not_read_them,
    the_states_of_a_module_that_is_gone_are_for_those_who_read_everything,
    a_removed_field_is_not_shown_again_by_the_states_of_before,
    a_condition_is_no_oracle_on_what_its_author_does_not_read,
    an_import_that_writes_nothing_does_not_tell_what_is_there,
    an_explanation_tells_no_more_of_a_record_than_the_asking_one_reads,
);

const BADGES: &str = r#"
    name = "badges"
    singular = "badge"
    fields = [
        { name = "code", type = "text", unique = true },
        { name = "pin", type = "text", write_only = true },
    ]
"#;

async fn open(backend: Backend) -> anyhow::Result<Fixture> {
    let specs = [PEOPLE, VISITS, BADGES].map(ModuleSpec::from_toml);
    let specs = specs.into_iter().collect::<Result<Vec<_>, _>>()?;
    Fixture::built(backend, |builder| builder.modules(specs)).await
}

fn when(permission: PermissionInput, condition: Json) -> PermissionInput {
    PermissionInput {
        condition: Some(body(condition)),
        ..permission
    }
}

impl Fixture {
    /// The scope of a member as the tenant's modules are now.
    async fn now(&self, user: UserId) -> anyhow::Result<Scope> {
        let scope = crm_core::testing::scope(&self.crm, self.tenant, user, request()).await?;
        scope.context("a member")
    }

    /// What the audit log shows of an entity, as a list; the file must show the same.
    async fn audited(&self, scope: &Scope, entity: &str) -> anyhow::Result<Vec<AuditEntry>> {
        let permit = scope.permit::<Read>("audit")?;
        let query = AuditQuery {
            entity: Some(entity.to_owned()),
            ..AuditQuery::default()
        };
        let page = self.crm.audit().list(&permit, &query).await?;
        let mut export = self.crm.audit().export(&permit, query)?;
        let mut file = String::new();
        while let Some(piece) = export.next().await? {
            file.push_str(&piece);
        }
        let lines: Result<Vec<Json>, _> = file.lines().map(serde_json::from_str).collect();
        assert_eq!(Json::Array(lines?), wire(&page.data)?);
        Ok(page.data)
    }

    /// The numbers of created, updated and unchanged records of an upsert that writes nothing.
    async fn tried(&self, scope: &Scope, module: &str, file: &str) -> anyhow::Result<[u64; 3]> {
        let options = ImportOptions {
            mode: ImportMode::Upsert,
            key: Some("code".to_owned()),
            dry_run: true,
            ..ImportOptions::new(Format::Csv)
        };
        let mut upload = self.crm.transfer().import(scope, module, options).await?;
        upload.push(file.as_bytes()).await?;
        let job = upload.finish().await?;
        self.crm.run_jobs_once().await?;
        let job = self.crm.jobs().get(scope, job).await?;
        let result = job.result.context("a result")?;
        let count = |name: &str| result[name].as_u64().unwrap_or(u64::MAX);
        Ok(["created", "updated", "unchanged"].map(count))
    }
}

async fn the_audit_log_shows_no_states_of_records_to_whoever_does_not_read_them(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let ada = json!({"name": "Ada", "salary": "5"});
    let ada = it.create(&it.operator(), "people", ada).await?;
    it.update(&it.operator(), &ada, None, json!({"salary": "6"}))
        .await?;
    let (auditor, _) = with(&it, "auditor", vec!["audit.read".into()]).await?;
    let entries = it.audited(&auditor, "people").await?;
    assert_eq!(entries.len(), 2);
    for entry in entries {
        assert_eq!((&entry.before, &entry.after), (&None, &None), "{entry:?}");
    }
    // What is no module's is told as before.
    let roles = it.audited(&auditor, "roles").await?;
    assert!(roles.iter().all(|entry| entry.after.is_some()), "{roles:?}");
    let reads = vec!["audit.read".into(), only("people.read", &["name"])];
    let (reader, _) = with(&it, "reader", reads).await?;
    let entries = it.audited(&reader, "people").await?;
    let after = entries[0].after.as_ref().context("a state")?;
    assert_eq!(shown(after), BTreeSet::from(["name"]));
    let (manager, _) = it.member("manager").await?;
    let entries = it.audited(&manager, "people").await?;
    let after = entries[0].after.as_ref().context("a state")?;
    assert_eq!(after["salary"], "6.00");
    Ok(())
}

async fn the_states_of_a_module_that_is_gone_are_for_those_who_read_everything(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let operator = it.crm.operator_in(it.tenant, request()).await?;
    let goods = json!({"name": "goods", "singular": "good", "fields": [
        {"name": "title", "type": "text"}, {"name": "cost", "type": "integer"},
    ]});
    let modules = it.crm.custom_modules();
    let permit = operator.permit::<Create>("modules")?;
    modules
        .create(&permit, serde_json::from_value(goods)?)
        .await?;
    let operator = it.crm.operator_in(it.tenant, request()).await?;
    let permissions = vec!["audit.read".into(), only("goods.read", &["title"])];
    role(&it, &operator, "reader", permissions).await?;
    let (_, user) = it.member("reader").await?;
    it.create(&operator, "goods", json!({"title": "pen", "cost": 7}))
        .await?;
    let before = it.audited(&it.now(user).await?, "goods").await?;
    let state = before[0].after.as_ref().context("a state")?;
    assert_eq!(shown(state), BTreeSet::from(["title"]));

    let permit = operator.permit::<Delete>("modules")?;
    let loss = crm_core::DataLoss::Accepted;
    modules.delete(&permit, "goods", loss).await?;
    let gone = it.audited(&it.now(user).await?, "goods").await?;
    assert_eq!((gone.len(), &gone[0].after), (1, &None));
    let operator = it.crm.operator_in(it.tenant, request()).await?;
    let whole = it.audited(&operator, "goods").await?;
    let state = whole[0].after.as_ref().context("a state")?;
    assert_eq!(state["cost"], 7);
    Ok(())
}

async fn a_removed_field_is_not_shown_again_by_the_states_of_before(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let operator = it.crm.operator_in(it.tenant, request()).await?;
    let permit = operator.permit::<Update>("modules")?;
    let fields = it.crm.custom_fields();
    for name in ["bonus", "nick"] {
        let spec: FieldSpec = serde_json::from_value(json!({"name": name, "type": "text"}))?;
        fields.declare(&permit, "people", spec).await?;
    }
    let operator = it.crm.operator_in(it.tenant, request()).await?;
    let listed = only("people.read", &["name", "nick"]);
    let rest = all_but("people.read", &["bonus"]);
    for (name, permission) in [("listed", listed), ("rest", rest)] {
        role(&it, &operator, name, vec!["audit.read".into(), permission]).await?;
    }
    let (_, one) = it.member("listed").await?;
    let (_, other) = it.member("rest").await?;
    let ada = json!({"name": "Ada", "bonus": "much", "nick": "A"});
    it.create(&operator, "people", ada).await?;
    for name in ["bonus", "nick"] {
        let permit = it.crm.operator_in(it.tenant, request()).await?;
        let permit = permit.permit::<Update>("modules")?;
        fields.remove(&permit, "people", name).await?;
    }
    let entries = it.audited(&it.now(one).await?, "people").await?;
    let state = entries[0].after.as_ref().context("a state")?;
    assert_eq!(shown(state), BTreeSet::from(["name", "nick"]));
    assert_eq!(state["version"], 1);
    let entries = it.audited(&it.now(other).await?, "people").await?;
    let state = entries[0].after.as_ref().context("a state")?;
    assert!(shown(state).contains("salary"), "{state}");
    assert!(!shown(state).contains("bonus"), "{state}");
    Ok(())
}

async fn a_condition_is_no_oracle_on_what_its_author_does_not_read(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let mine = vec![
        "roles.*".into(),
        "people.update".into(),
        only("people.read", &["name"]),
        only("people.read:own", &["salary"]),
    ];
    let (deputy, _) = with(&it, "deputy", mine).await?;
    let blind = vec!["roles.*".into(), "people.update".into()];
    let (blind, _) = with(&it, "blind", blind).await?;
    let read = || only("people.read", &["name"]);
    let own = || only("people.read:own", &["name"]);
    let high = || json!({"salary": {"gt": "4"}});
    let at = |pointer: &str, code| vec![(format!("/permissions/0/where{pointer}"), code)];
    for (number, (scope, permission, refused)) in [
        // Unknown as if there were no such field.
        (
            &deputy,
            when(read(), json!({"phone": "1"})),
            at("/phone", "unknown_field"),
        ),
        (
            &deputy,
            when(read(), json!({"wage": "1"})),
            at("/wage", "unknown_field"),
        ),
        (
            &deputy,
            when(read(), json!({"owner_id": null})),
            at("/owner_id", "unknown_field"),
        ),
        (
            &deputy,
            when(
                "people.update".into(),
                json!({"or": [{"name": "Ada"}, {"note": "x"}]}),
            ),
            at("/or/1/note", "unknown_field"),
        ),
        // Not read in all of these rows.
        (&deputy, when(read(), high()), at("", "not_allowed")),
        (
            &deputy,
            when("people.update".into(), high()),
            at("", "not_allowed"),
        ),
        (&deputy, when(own(), high()), Vec::new()),
        (&deputy, when(read(), json!({"name": "Ada"})), Vec::new()),
        (
            &blind,
            when("people.update".into(), json!({"name": "Ada"})),
            at("", "not_allowed"),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let text = format!("{permission:?}");
        let answer = role(&it, scope, &format!("role {number}"), vec![permission]).await;
        match refused.is_empty() {
            true => assert_eq!(code(answer), "ok", "{text}"),
            false => assert_eq!(invalid(answer), refused, "{text}"),
        }
    }

    // What a role states stays; it is neither moved nor given to another permission.
    let stated = || vec![when(read(), high())];
    let made = role(&it, &it.operator(), "high", stated()).await?;
    let change = async |permissions: Vec<PermissionInput>| {
        let change = RoleChange {
            description: Some(format!("{} rules", permissions.len())),
            permissions: Some(permissions),
            ..RoleChange::default()
        };
        let permit = deputy.permit::<Update>("roles")?;
        it.crm.roles().update(&permit, made.id, change).await
    };
    let more = stated().into_iter().chain([own()]).collect();
    assert_eq!(change(more).await?.permissions.len(), 2);
    let bisected = vec![when(read(), json!({"salary": {"gt": "5"}}))];
    assert_eq!(invalid(change(bisected).await), at("", "not_allowed"));
    let moved = vec![when("people.update".into(), high())];
    assert_eq!(invalid(change(moved).await), at("", "not_allowed"));
    Ok(())
}

async fn an_import_that_writes_nothing_does_not_tell_what_is_there(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let ada = json!({"name": "Ada", "code": "a", "salary": "5"});
    it.create(&it.operator(), "people", ada).await?;
    let writes = || {
        let writes = ["people.create", "people.update", "jobs.create", "jobs.read"];
        writes.map(PermissionInput::from).to_vec()
    };
    let mut permissions = writes();
    permissions.push(only("people.read", &["name", "code"]));
    let (clerk, _) = with(&it, "clerk", permissions).await?;
    let known = it.tried(&clerk, "people", "code,name\na,Ada\n").await?;
    assert_eq!(known, [0, 0, 1]);
    for guess in [4, 5] {
        let file = format!("code,name,salary\na,Ada,{guess}\n");
        let tried = it.tried(&clerk, "people", &file).await?;
        assert_eq!(tried, [0, 1, 0], "{guess}");
    }
    let (manager, _) = it.member("admin").await?;
    let file = "code,name,salary\na,Ada,5\n";
    assert_eq!(it.tried(&manager, "people", file).await?, [0, 0, 1]);

    // Readable in own records only.
    let mut permissions = writes();
    permissions.push(only("people.read", &["name", "code"]));
    permissions.push(only("people.read:own", &["salary"]));
    let (owner, user) = with(&it, "owner", permissions).await?;
    let bo = json!({"name": "Bo", "code": "b", "salary": "5", "owner_id": user});
    it.create(&it.operator(), "people", bo).await?;
    for (code, told) in [("a", [0, 1, 0]), ("b", [0, 0, 1])] {
        let file = format!("code,salary\n{code},5\n");
        assert_eq!(it.tried(&owner, "people", &file).await?, told, "{code}");
    }

    // What nobody is shown is told to nobody.
    let badge = json!({"code": "a", "pin": "1234"});
    it.create(&it.operator(), "badges", badge).await?;
    for pin in ["1234", "4321"] {
        let file = format!("code,pin\na,{pin}\n");
        let tried = it.tried(&manager, "badges", &file).await?;
        assert_eq!(tried, [0, 1, 0], "{pin}");
    }

    // Nor is a record found by what its writer does not read.
    let mut permissions = writes();
    permissions.push(only("people.read", &["name"]));
    let (front, _) = with(&it, "front", permissions).await?;
    let options = ImportOptions {
        mode: ImportMode::Upsert,
        key: Some("code".to_owned()),
        ..ImportOptions::new(Format::Csv)
    };
    let refused = it.crm.transfer().import(&front, "people", options).await;
    let refused = refused.map(drop);
    assert_eq!(invalid(refused), [("/key".to_owned(), "not_allowed")]);
    let (create, update) = (
        front.permit::<Create>("people")?,
        front.permit::<Update>("people")?,
    );
    let sent = body(json!({"name": "Ada", "code": "a"}));
    let records = it.crm.records();
    let upsert = records.upsert(&create, &update, "code", sent).await;
    assert_eq!(invalid(upsert), [("/by".to_owned(), "not_unique")]);
    Ok(())
}

async fn an_explanation_tells_no_more_of_a_record_than_the_asking_one_reads(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = open(backend).await?;
    let mut people = Vec::new();
    for (name, salary) in [("Ada", "5"), ("Bo", "3")] {
        let person = json!({"name": name, "salary": salary});
        people.push(it.create(&it.operator(), "people", person).await?.id);
    }
    let rules = [
        (
            "by salary",
            when("people.update".into(), json!({"salary": {"gt": "4"}})),
        ),
        (
            "by name",
            when("people.update".into(), json!({"name": "Ada"})),
        ),
        ("by owner", "people.update:own".into()),
    ];
    let mut subjects = HashMap::new();
    for (name, permission) in rules {
        let role = role(&it, &it.operator(), name, vec![permission]).await?;
        subjects.insert(name, format!("role:{}", role.id));
    }
    let asks = vec!["access.read".into(), only("people.read", &["name"])];
    let (asking, _) = with(&it, "asking", asks).await?;
    let asks = vec!["access.read".into(), only("people.read", &["salary"])];
    let (paying, _) = with(&it, "paying", asks).await?;
    let explain = async |scope: &Scope, subject: &str, record| -> crm_core::Result<Explanation> {
        let question = Question {
            subject: subjects[subject].clone(),
            action: "people.update".to_owned(),
            record: Some(record),
        };
        let permit = scope.permit::<Read>("access")?;
        it.crm.access().explain(&permit, &question).await
    };
    let (yes, no) = (
        (Reason::Allowed, Some(true)),
        (Reason::OtherRows, Some(false)),
    );
    let hidden = (Reason::Undisclosed, None);
    for (scope, subject, told) in [
        (&asking, "by salary", [hidden, hidden]),
        (&asking, "by name", [yes, no]),
        (&asking, "by owner", [hidden, hidden]),
        (&paying, "by salary", [yes, no]),
        (&paying, "by name", [hidden, hidden]),
        (&it.operator(), "by salary", [yes, no]),
    ] {
        for (record, told) in people.iter().zip(told) {
            let explained = explain(scope, subject, *record).await?;
            let answer = (explained.reason, explained.rules[0].covers);
            assert_eq!(answer, told, "{subject}");
            assert_eq!(explained.allowed, told == yes);
        }
    }
    Ok(())
}
