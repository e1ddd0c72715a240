//! The trash of modules that tenants declare for themselves: as that of any module.

use super::*;
use crm_core::{DataLoss, Purge};

on_both_databases!(
    a_tenants_own_module_has_a_trash_where_it_says_so,
    a_field_added_later_is_unique_among_live_records,
    an_old_trash_of_a_tenants_own_module_is_purged,
);

pub(super) fn visits() -> Json {
    json!({"name": "visits", "singular": "visit", "soft_delete": true, "fields": [
        {"name": "place", "type": "text", "search": true, "sort": true},
        {"name": "code", "type": "text", "unique": true},
        {"name": "above_id", "type": "reference", "module": "visits", "on_delete": "cascade"},
    ]})
}

impl Fixture {
    pub(super) async fn in_trash(&self, scope: &Scope) -> crm_core::Result<Vec<RecordId>> {
        let (read, delete) = (
            scope.permit::<Read>("visits")?,
            scope.permit::<Delete>("visits")?,
        );
        let (records, all) = (self.crm.records(), Query::default());
        let page = records.trash(&read, &delete, &all).await?;
        assert!(page.data.iter().all(|record| record.deleted_at.is_some()));
        let mut ids: Vec<_> = page.data.iter().map(|record| record.id).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    pub(super) async fn bring_back(
        &self,
        scope: &Scope,
        record: &Record,
    ) -> crm_core::Result<Record> {
        let permit = scope.permit::<Delete>("visits")?;
        self.crm.records().restore(&permit, record.id, None).await
    }

    async fn remove_for_good(&self, scope: &Scope, record: &Record) -> crm_core::Result<()> {
        let permit = scope.permit::<Purge>("visits")?;
        self.crm.records().purge(&permit, record.id, None).await
    }
}

async fn a_tenants_own_module_has_a_trash_where_it_says_so(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    it.found_module(it.tenant, visits()).await?;
    let rival = it.rival().await?;
    let mut without = visits();
    without["soft_delete"] = json!(false);
    it.found_module(rival, without).await?;

    let scope = it.operator_in(it.tenant).await?;
    let ulm = json!({"place": "Ulm", "code": "u"});
    let ulm = it.create(&scope, "visits", ulm).await?;
    let below = json!({"place": "Bonn", "above_id": ulm.id});
    let below = it.create(&scope, "visits", below).await?;
    let all = Query::default();
    it.delete(&scope, &ulm).await?;
    assert_eq!(it.ids(&scope, "visits", &all).await?, []);
    assert_eq!(code(it.get(&scope, "visits", ulm.id).await), "not_found");
    let found = it.found(&scope, "visits", ("code", "eq", "u")).await?;
    assert_eq!(found, []);
    let mut gone = [ulm.id, below.id];
    gone.sort_unstable();
    assert_eq!(it.in_trash(&scope).await?, gone);

    // Its unique value is free, until somebody has it.
    let other = json!({"place": "Kiel", "code": "u"});
    let other = it.create(&scope, "visits", other).await?;
    assert_eq!(code(it.bring_back(&scope, &ulm).await), "already_exists");
    it.delete(&scope, &other).await?;
    let back = it.bring_back(&scope, &ulm).await?;
    assert_eq!((back.version, back.deleted_at), (3, None));
    assert_eq!(it.ids(&scope, "visits", &all).await?, [ulm.id]);
    assert_eq!(code(it.remove_for_good(&scope, &ulm).await), "not_in_trash");
    it.remove_for_good(&scope, &below).await?;
    assert_eq!(it.in_trash(&scope).await?, [other.id]);
    assert_eq!(code(it.bring_back(&scope, &below).await), "not_found");

    // A module of this name without a trash, of another tenant.
    let theirs = it.operator_in(rival).await?;
    let one = json!({"place": "Ulm", "code": "u"});
    let one = it.create(&theirs, "visits", one).await?;
    it.delete(&theirs, &one).await?;
    assert_eq!(code(it.in_trash(&theirs).await), "not_found");
    assert_eq!(code(it.bring_back(&theirs, &one).await), "not_found");

    // The trash goes with its module.
    match it.end_module("visits", DataLoss::Refused).await {
        Err(Error::Conflict { message, .. }) => {
            assert!(message.starts_with("visits has 2 records"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(it.end_module("visits", DataLoss::Accepted).await?, 2);
    Ok(())
}

async fn a_field_added_later_is_unique_among_live_records(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    it.found_module(it.tenant, visits()).await?;
    let badge = json!({"name": "badge", "type": "integer", "unique": true});
    it.declare(it.tenant, "visits", badge).await?;
    let scope = it.operator_in(it.tenant).await?;
    let first = it.create(&scope, "visits", json!({"badge": 7})).await?;
    let taken = it.create(&scope, "visits", json!({"badge": 7})).await;
    assert_eq!(code(taken), "already_exists");
    it.delete(&scope, &first).await?;
    it.create(&scope, "visits", json!({"badge": 7})).await?;
    assert_eq!(code(it.bring_back(&scope, &first).await), "already_exists");
    Ok(())
}

async fn an_old_trash_of_a_tenants_own_module_is_purged(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let title = json!({"name": "title", "type": "text"});
    let aims = json!({"name": "aims", "singular": "aim", "soft_delete": true, "fields": [title]});
    it.found_module(it.tenant, aims).await?;
    it.found_module(it.tenant, visits()).await?;
    let aim = json!({"name": "aim_id", "type": "reference", "module": "aims"});
    it.declare(it.tenant, "visits", aim).await?;
    let scope = it.operator_in(it.tenant).await?;
    let aim = it.create(&scope, "aims", json!({"title": "peace"})).await?;
    let kept = it.create(&scope, "visits", json!({"place": "Ulm"})).await?;
    let gone = json!({"place": "Bonn", "aim_id": aim.id});
    let gone = it.create(&scope, "visits", gone).await?;
    it.delete(&scope, &gone).await?;
    it.delete(&scope, &aim).await?;
    let now = it.crm.clock().now();
    let none = it
        .crm
        .purge_trash(None, now - TimeDelta::days(1), request());
    assert_eq!(none.await?.removed, 0);
    let later = now + TimeDelta::days(1);
    let purged = it.crm.purge_trash(None, later, request()).await?;
    assert_eq!((purged.removed, purged.kept), (2, 0), "who refers first");
    assert_eq!(it.in_trash(&scope).await?, []);
    assert_eq!(
        it.ids(&scope, "visits", &Query::default()).await?,
        [kept.id]
    );
    Ok(())
}
