//! One record: made, read, changed and deleted by those who may, absent for everybody else; and
//! requests that race for it.

use super::*;

on_both_databases!(
    a_record_is_created_read_changed_and_deleted,
    an_update_that_changes_nothing_writes_nothing,
    another_tenants_record_is_absent_through_every_method,
    rights_on_own_rows_hide_the_rows_of_others,
    a_viewer_may_read_and_nothing_else,
    a_reference_must_be_a_visible_record_of_the_same_tenant,
    a_referenced_record_is_not_deleted,
    a_unique_email_is_taken_without_regard_to_case_and_in_its_tenant_only,
    racing_creates_of_one_unique_value_make_one_record,
    racing_updates_of_one_version_change_it_once,
    money_is_exact,
);

async fn a_record_is_created_read_changed_and_deleted(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    let input = json!({"name": "Ada", "email": "ada@acme.example", "tags": ["vip"], "score": 7});
    let made = it.create(&scope, "contacts", input).await?;
    assert_eq!(
        it.get(&scope, "contacts", made.id).await?.to_json(),
        made.to_json()
    );
    let changed = it
        .update(
            &scope,
            &made,
            Some(1),
            json!({"score": null, "phone": "+1 5"}),
        )
        .await?;
    assert_eq!(
        (changed.version, changed.get("score").map(|v| v.is_null())),
        (2, Some(true))
    );
    assert_eq!(
        it.get(&scope, "contacts", made.id).await?.to_json(),
        changed.to_json()
    );
    let stale = it
        .update(&scope, &made, Some(1), json!({"name": "Eve"}))
        .await;
    assert_eq!(code(stale), "version_mismatch");
    it.delete(&scope, &made).await?;
    assert_eq!(code(it.get(&scope, "contacts", made.id).await), "not_found");
    assert_eq!(code(it.delete(&scope, &made).await), "not_found");
    Ok(())
}

async fn an_update_that_changes_nothing_writes_nothing(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    let made = it
        .create(&scope, "contacts", json!({"name": "Ada"}))
        .await?;
    let entries = it.audit().await?.len();
    let same = it
        .update(&scope, &made, None, json!({"name": "Ada", "version": 9}))
        .await?;
    assert_eq!((same.version, it.audit().await?.len()), (1, entries));
    Ok(())
}

async fn another_tenants_record_is_absent_through_every_method(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let foreign = it.crm.tenants().create("Rival", request()).await?.id;
    let rival = it.crm.operator(foreign, request());
    let ours = it
        .create(&it.operator(), "contacts", json!({"name": "Ada"}))
        .await?;
    let absent = RecordId(it.crm.clock().new_id());
    let seen = it
        .get(&rival, "contacts", ours.id)
        .await
        .map_err(|error| error.to_string());
    let none = it
        .get(&rival, "contacts", absent)
        .await
        .map_err(|error| error.to_string());
    assert_eq!(seen.err(), none.err());
    assert_eq!(
        code(it.update(&rival, &ours, None, json!({"name": "Eve"})).await),
        "not_found"
    );
    assert_eq!(code(it.delete(&rival, &ours).await), "not_found");
    for query in [
        Query {
            count: Count::Capped,
            ..Query::default()
        },
        Query {
            search: Some("Ada".into()),
            ..Query::default()
        },
        Query {
            filter: Some(Filter::Or(vec![Filter::And(vec![])])),
            ..Query::default()
        },
        Query {
            filter: Some(Filter::Not(Box::new(Filter::Or(vec![])))),
            ..Query::default()
        },
    ] {
        assert_eq!(it.ids(&rival, "contacts", &query).await?, []);
        assert_eq!(it.ids(&it.operator(), "contacts", &query).await?, [ours.id]);
        let total = it
            .crm
            .records()
            .count(&rival.permit::<Read>("contacts")?, &query)
            .await?;
        assert_eq!(total.count, 0);
    }
    let refused = it
        .create(
            &rival,
            "contacts",
            json!({"name": "Eve", "tenant_id": it.tenant}),
        )
        .await;
    assert_eq!(code(refused), "validation_failed");
    let refused = it
        .create(
            &rival,
            "deals",
            json!({"title": "Deal", "contact_id": ours.id}),
        )
        .await;
    assert_eq!(code(refused), "validation_failed");
    assert_eq!(
        it.get(&it.operator(), "contacts", ours.id).await?.to_json(),
        ours.to_json()
    );
    Ok(())
}

async fn rights_on_own_rows_hide_the_rows_of_others(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let ((ann, ann_id), (bob, bob_id)) = (it.member("member").await?, it.member("member").await?);
    let hers = it.create(&ann, "contacts", json!({"name": "Hers"})).await?;
    let his = it.create(&bob, "contacts", json!({"name": "His"})).await?;
    assert_eq!((hers.owner_id, his.owner_id), (Some(ann_id), Some(bob_id)));
    assert_eq!(
        it.ids(&ann, "contacts", &Query::default()).await?,
        [hers.id]
    );
    assert_eq!(code(it.get(&ann, "contacts", his.id).await), "not_found");
    assert_eq!(
        code(it.update(&ann, &his, None, json!({"name": "Mine"})).await),
        "not_found"
    );
    assert_eq!(code(it.delete(&ann, &his).await), "not_found");
    let given = it
        .update(&ann, &hers, None, json!({"owner_id": bob_id}))
        .await;
    assert_eq!(code(given), "validation_failed");
    let referring = it
        .create(&ann, "deals", json!({"title": "D", "contact_id": his.id}))
        .await;
    assert_eq!(code(referring), "validation_failed");
    let (manager, _) = it.member("manager").await?;
    let given = it
        .update(&manager, &hers, None, json!({"owner_id": bob_id}))
        .await?;
    assert_eq!(given.owner_id, Some(bob_id));
    let stranger = UserId(it.crm.clock().new_id());
    let refused = it
        .update(&manager, &given, None, json!({"owner_id": stranger}))
        .await;
    assert_eq!(code(refused), "validation_failed");
    Ok(())
}

async fn a_viewer_may_read_and_nothing_else(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let made = it
        .create(&it.operator(), "contacts", json!({"name": "Ada"}))
        .await?;
    let (viewer, _) = it.member("viewer").await?;
    it.get(&viewer, "contacts", made.id).await?;
    assert_eq!(
        code(it.create(&viewer, "contacts", json!({"name": "Eve"})).await),
        "forbidden"
    );
    assert_eq!(
        code(it.update(&viewer, &made, None, json!({})).await),
        "forbidden"
    );
    assert_eq!(code(it.delete(&viewer, &made).await), "forbidden");
    assert_eq!(code(viewer.permit::<Read>("audit")), "forbidden");
    assert_eq!(code(viewer.permit::<Read>("no_such_module")), "not_found");
    Ok(())
}

async fn a_reference_must_be_a_visible_record_of_the_same_tenant(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    let contact = it
        .create(&scope, "contacts", json!({"name": "Ada"}))
        .await?;
    it.create(
        &scope,
        "deals",
        json!({"title": "D", "contact_id": contact.id}),
    )
    .await?;
    let absent = it.crm.clock().new_id();
    let refused = it
        .create(&scope, "deals", json!({"title": "D", "contact_id": absent}))
        .await;
    let Err(Error::Invalid(fields)) = refused else {
        anyhow::bail!("accepted: {refused:?}")
    };
    assert_eq!(
        (&*fields[0].pointer, fields[0].code),
        ("/contact_id", "unknown_reference")
    );
    Ok(())
}

async fn a_referenced_record_is_not_deleted(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    let contact = it
        .create(&scope, "contacts", json!({"name": "Ada"}))
        .await?;
    let deal = it
        .create(
            &scope,
            "deals",
            json!({"title": "D", "contact_id": contact.id}),
        )
        .await?;
    assert_eq!(code(it.delete(&scope, &contact).await), "has_dependents");
    it.get(&scope, "contacts", contact.id).await?;
    it.delete(&scope, &deal).await?;
    it.delete(&scope, &contact).await?;
    Ok(())
}

async fn a_unique_email_is_taken_without_regard_to_case_and_in_its_tenant_only(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let ada = json!({"name": "Ada", "email": "Ada@Acme.example"});
    let shouting = json!({"name": "Ada", "email": "ADA@acme.example"});
    it.create(&it.operator(), "contacts", ada.clone()).await?;
    let taken = it.create(&it.operator(), "contacts", shouting).await;
    let Err(Error::Conflict { code, message }) = taken else {
        anyhow::bail!("{taken:?}")
    };
    assert_eq!(
        (code, &*message),
        (
            "already_exists",
            "another record has the same email already"
        )
    );
    let foreign = it.crm.tenants().create("Rival", request()).await?.id;
    it.create(&it.crm.operator(foreign, request()), "contacts", ada)
        .await?;
    Ok(())
}

async fn racing_creates_of_one_unique_value_make_one_record(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    let input = json!({"name": "Ada", "email": "ada@acme.example"});
    let racers = (0..16).map(|_| it.create(&scope, "contacts", input.clone()));
    let answers = futures::future::join_all(racers).await;
    let codes: Vec<_> = answers.into_iter().map(code).collect();
    assert_eq!(
        codes.iter().filter(|code| **code == "ok").count(),
        1,
        "{codes:?}"
    );
    assert_eq!(
        codes
            .iter()
            .filter(|code| **code == "already_exists")
            .count(),
        15,
        "{codes:?}"
    );
    Ok(())
}

async fn racing_updates_of_one_version_change_it_once(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    let made = it
        .create(&scope, "contacts", json!({"name": "Ada"}))
        .await?;
    let racers = (1..=16).map(|n| it.update(&scope, &made, Some(1), json!({"score": n})));
    let answers = futures::future::join_all(racers).await;
    let changed = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(
        (changed, it.get(&scope, "contacts", made.id).await?.version),
        (1, 2)
    );
    Ok(())
}

async fn money_is_exact(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    for (amount, stored) in [
        ("0.1", "0.10"),
        ("99999999.99", "99999999.99"),
        ("-0.01", "-0.01"),
    ] {
        let made = it
            .create(&scope, "things", json!({"price": amount}))
            .await?;
        let read = it.get(&scope, "things", made.id).await?;
        assert_eq!(
            read.get("price").map(|price| json!(price)),
            Some(json!(stored))
        );
        assert_eq!(read.to_json(), made.to_json());
    }
    for amount in ["NaN", "1e27", "0.001", "100000000", "-", "1,5"] {
        let refused = it.create(&scope, "things", json!({"price": amount})).await;
        assert_eq!(code(refused), "validation_failed", "{amount}");
    }
    let blank = it.create(&scope, "things", json!({"price": " "})).await?;
    assert_eq!(blank.get("price").map(|price| price.is_null()), Some(true));
    Ok(())
}
