//! Numbered pages: the same records as by cursors, whatever the order, and bounds that are errors.

use super::*;

on_both_databases!(
    numbered_pages_show_what_cursors_show_in_every_order,
    xc_18_pages_out_of_bounds_are_refused,
);

async fn numbered_pages_show_what_cursors_show_in_every_order(
    backend: Backend,
) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let scope = it.operator();
    for n in 0..47_i32 {
        let thing = json!({
            "title": format!("Thing {}", n % 7),
            // A third has none: they come last, in either direction.
            "number": (n % 3 > 0).then_some(n % 5),
            "due": (n % 4 == 0).then(|| format!("2025-01-{:02}", 1 + n % 9)),
        });
        it.create(&scope, "things", thing).await?;
    }
    let permit = scope.permit::<Read>("things")?;
    let module = it.crm.registry().get("things").context("things")?;
    for sort in [
        "",
        "number",
        "-number",
        "-number,title",
        "due",
        "-due",
        "title,-number",
    ] {
        let sort = match sort {
            "" => vec![],
            sort => Sort::parse_list(module, sort).map_err(|e| anyhow::anyhow!("{e:?}"))?,
        };
        for limit in [1, 4, 16, 47, 50] {
            let query = Query {
                sort: sort.clone(),
                limit,
                ..Query::default()
            };
            let (mut cursor, mut number) = (None, 0);
            loop {
                number += 1;
                let by_cursor = Query {
                    cursor,
                    ..query.clone()
                };
                let by_number = Query {
                    page: Some(number),
                    ..query.clone()
                };
                let by_cursor = it.crm.records().list(&permit, &by_cursor).await?;
                let by_number = it.crm.records().list(&permit, &by_number).await?;
                let ids = |page: &crm_core::record::Page| -> Vec<RecordId> {
                    page.data.iter().map(|record| record.id).collect()
                };
                assert_eq!(
                    ids(&by_number),
                    ids(&by_cursor),
                    "page {number} of {query:?}"
                );
                assert_eq!(by_number.next_cursor, by_cursor.next_cursor);
                let told = by_number.number.context("a numbered page")?;
                let pages = 47_u64.div_ceil(u64::from(limit));
                assert_eq!(
                    (told.page, told.per_page, told.pages),
                    (number, limit, pages)
                );
                assert_eq!(by_number.total.map(|total| total.count), Some(47));
                cursor = by_cursor.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(u64::from(number), 47_u64.div_ceil(u64::from(limit)));
            let beyond = Query {
                page: Some(number + 1),
                ..query
            };
            let beyond = it.crm.records().list(&permit, &beyond).await?;
            assert!(beyond.data.is_empty() && beyond.next_cursor.is_none());
        }
    }
    Ok(())
}

async fn xc_18_pages_out_of_bounds_are_refused(backend: Backend) -> anyhow::Result<()> {
    let it = Fixture::open(backend).await?;
    let permit = it.operator().permit::<Read>("things")?;
    let ask = |page, limit, cursor: Option<&str>| Query {
        page: Some(page),
        limit,
        cursor: cursor.map(str::to_owned),
        ..Query::default()
    };
    for (query, code) in [
        (ask(0, 20, None), "out_of_range"),
        (ask(501, 20, None), "out_of_range"),
        (ask(u32::MAX, 100, None), "out_of_range"),
        (ask(1, 101, None), "out_of_range"),
        (ask(1, 20, Some("x")), "not_allowed"),
    ] {
        match it.crm.records().list(&permit, &query).await {
            Err(Error::Invalid(refused)) => assert_eq!(refused[0].code, code, "{query:?}"),
            other => panic!("{query:?}: {other:?}"),
        }
    }
    let deepest = it.crm.records().list(&permit, &ask(500, 20, None)).await?;
    assert!(deepest.data.is_empty());
    Ok(())
}
