//! A table of SQLite made anew: its rows stay, and so do those that refer to them, or nothing
//! changes.

use super::*;

#[tokio::test]
async fn a_rebuild_keeps_the_rows_and_those_that_refer_to_them() {
    let mut connection = database(&things()).await;
    let others = ModuleSpec::from_toml(
        "name = 'others'\nsingular = 'other'\n
         fields = [{ name = 'thing_id', type = 'reference', module = 'things' }]",
    )
    .unwrap();
    for sql in create_table(&others, Dialect::Sqlite) {
        run(&mut connection, &sql).await.unwrap();
    }
    insert(&mut connection, 1, "stage", "'new'").await.unwrap();
    run(&mut connection, "UPDATE things SET title = 'first'")
        .await
        .unwrap();
    insert(&mut connection, 2, "parent_id", "(SELECT id FROM things)")
        .await
        .unwrap();
    run(
        &mut connection,
        "INSERT INTO others SELECT tenant_id, id, 1, null, 0, 0, null, id FROM things",
    )
    .await
    .unwrap();

    let wider = changed(
        r#"["new", "closed won"], default"#,
        r#"["new", "lost"], required = true, default"#,
    );
    apply(
        &mut connection,
        &planned(&things(), &wider, Dialect::Sqlite),
    )
    .await
    .unwrap();

    let count = |sql: &'static str| sqlx::query_scalar::<_, i64>(sql);
    let broken = sqlx::query("PRAGMA foreign_key_check")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert!(broken.is_empty());
    let kept = count("SELECT count(*) FROM things JOIN others USING (tenant_id, id)");
    assert_eq!(kept.fetch_one(&mut connection).await.unwrap(), 2);
    let filled = count("SELECT count(*) FROM things WHERE stage = 'new'");
    assert_eq!(filled.fetch_one(&mut connection).await.unwrap(), 2);
    run(&mut connection, "UPDATE things SET stage = 'lost'")
        .await
        .unwrap();
    run(&mut connection, "UPDATE things SET stage = 'closed won'")
        .await
        .unwrap_err();
    let error = run(&mut connection, "DELETE FROM things")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("FOREIGN KEY"), "{error}");
    assert_eq!(
        schema(&mut connection).await,
        schema(&mut database_with(&wider, &others).await).await
    );
}

async fn database_with(spec: &ModuleSpec, other: &ModuleSpec) -> SqliteConnection {
    let mut connection = database(spec).await;
    for sql in create_table(other, Dialect::Sqlite) {
        run(&mut connection, &sql).await.unwrap();
    }
    connection
}

#[tokio::test]
async fn a_rebuild_that_a_row_does_not_survive_changes_nothing() {
    let mut connection = database(&things()).await;
    insert(&mut connection, 1, "score", "90").await.unwrap();
    let before = schema(&mut connection).await;
    let narrower = changed("max = 100", "max = 50");
    let steps = planned(&things(), &narrower, Dialect::Sqlite);
    let error = apply(&mut connection, &steps).await.unwrap_err();
    assert!(error.to_string().contains("things.score.check"), "{error}");
    assert_eq!(schema(&mut connection).await, before);
    let kept = sqlx::query_scalar::<_, i64>("SELECT score FROM things");
    assert_eq!(kept.fetch_one(&mut connection).await.unwrap(), 90);
}
