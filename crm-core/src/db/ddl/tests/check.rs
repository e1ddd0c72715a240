//! The tables refuse what the input rules refuse, on both databases.

use super::*;

#[tokio::test]
async fn a_check_refuses_what_the_input_rules_refuse() {
    let mut connection = database(&things()).await;
    for (column, literal) in [
        ("owner_id", "x'01'"),
        ("phone", "'call me'"),
        ("phone", "''"),
        ("email", "'nobody'"),
        ("email", "''"),
        ("score", "-6"),
        ("score", "101"),
        ("score", "'many'"),
        ("age", "-1"),
        ("debt", "1"),
        ("amount", "1000000000000"),
        ("amount", "1.5"),
        ("seen_at", "'2024-01-01'"),
        ("due", "'2023-02-29'"),
        ("due", "'2023-2-9'"),
        ("due", "'now'"),
        ("due", "'2460000'"),
        ("stage", "'old'"),
        ("stage", "''"),
        ("tags", "'{}'"),
        ("tags", "'x'"),
        ("tags", "'[1,2,3]'"),
        ("extra", "'{'"),
        ("parent_id", "x'00'"),
    ] {
        let refused = insert(&mut connection, 1, column, literal).await;
        let error = refused
            .err()
            .unwrap_or_else(|| panic!("{column} takes {literal}"))
            .to_string();
        let check = format!("CHECK constraint failed: things.{column}.check");
        let expected = [
            &check,
            "cannot store",
            "malformed JSON",
            "non-deterministic",
        ];
        assert!(
            expected.iter().any(|text| error.contains(*text)),
            "{column} {literal}: {error}"
        );
    }
    for (id, (column, literal)) in (1..).zip([
        ("title", "'a'"),
        ("title, tags", "'b', '[\"x\"]'"),
        ("title, due", "'c', '2024-02-29'"),
        ("title, amount", "'d', -999999999999"),
        ("title, extra", "'e', 'null'"),
    ]) {
        let sql = format!(
            "INSERT INTO things (tenant_id, id, version, created_at, updated_at, done, {column})
             VALUES (x'01', CAST(zeroblob(15) || x'{id:02x}' AS BLOB), 1, 0, 0, 1, {literal})"
        );
        run(&mut connection, &sql)
            .await
            .unwrap_or_else(|error| panic!("{column}: {error}"));
    }
}

#[tokio::test]
async fn uniqueness_holds_without_case_for_addresses() {
    let mut connection = database(&things()).await;
    insert(&mut connection, 1, "email", "'Ada@example.com'")
        .await
        .unwrap();
    let sql = "UPDATE things SET title = 'other'";
    run(&mut connection, sql).await.unwrap();
    let error = insert(&mut connection, 2, "email", "'ada@EXAMPLE.com'")
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("index 'things.email.unique'"),
        "{error}"
    );
}

#[tokio::test]
async fn a_check_on_postgresql_refuses_what_the_input_rules_refuse() {
    let empty = Database::empty().await;
    let mut connection = postgres(&empty).await;
    for (column, literal) in [
        ("version", "0"),
        ("title", "''"),
        ("title", "repeat('x', 41)"),
        ("phone", "'call me'"),
        ("phone", "E'12\\n'"),
        ("email", "'nobody'"),
        ("score", "-6"),
        ("age", "-1"),
        ("debt", "1"),
        ("amount", "10000000000"),
        ("stage", "'old'"),
        ("tags", "'{a,b,c}'"),
        ("tags", "'{a,NULL}'"),
    ] {
        let sql = format!("UPDATE things SET {column} = {literal}");
        let refused = run_postgres(&mut connection, &sql).await;
        let error = refused
            .err()
            .unwrap_or_else(|| panic!("{column} takes {literal}"))
            .to_string();
        let check = format!("things.{column}.check");
        assert!(
            error.contains(&check) || error.contains("numeric field overflow"),
            "{error}"
        );
    }
    let good = r#"UPDATE things SET phone = '+1 (2)', email = 'Ä@b.c', score = 100, amount = -9999999999.99,
        stage = 'closed won', tags = '{a,b}', extra = '[null]', parent_id = id, due = '0001-01-01'"#;
    run_postgres(&mut connection, good).await.unwrap();
    let error = run_postgres(&mut connection, "DELETE FROM tenants")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("foreign key"), "{error}");
}
