//! How the values of tenants' own fields lie in JSON, and the SQL that makes columns of them again.
//!
//! A value is kept so that its expression compares, sorts and adds up exactly as a column of its
//! type does, and so that an index may hold it: nothing in an expression depends on a setting.

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta};
use rust_decimal::Decimal;
use serde_json::Value as Json;
use uuid::Uuid;

use super::{ColumnType, Dialect, Sql};
use crate::module::{CompiledModule, FieldSpec};
use crate::value::Value;

/// Whether values of this type can be kept in JSON.
pub(crate) fn is_storable(kind: ColumnType) -> bool {
    match kind {
        ColumnType::Bool
        | ColumnType::Int
        | ColumnType::Decimal { .. }
        | ColumnType::Text
        | ColumnType::Instant
        | ColumnType::Date
        | ColumnType::Time
        | ColumnType::Uuid
        | ColumnType::Tags
        | ColumnType::Json => true,
        ColumnType::Vector | ColumnType::Bytes => false,
    }
}

/// The member that the values of the field with this number are.
pub(crate) fn member(number: u64) -> String {
    format!("f{number}")
}

/// The value as it is kept.
pub(crate) fn stored(value: Value, dialect: Dialect) -> Json {
    match (value, dialect) {
        (Value::Null | Value::Vector(_) | Value::Bytes(_), _) => Json::Null,
        (Value::Bool(value), _) => value.into(),
        (Value::Int(value), _) => value.into(),
        // Rules have given it the scale of its field.
        (Value::Decimal(value), Dialect::Sqlite) => {
            i64::try_from(value.mantissa()).map_or(Json::Null, Json::from)
        }
        (Value::Decimal(value), Dialect::Postgres) => value.to_string().into(),
        (Value::Text(value), _) => value.into(),
        (Value::Instant(value), _) => value.timestamp_micros().into(),
        (Value::Date(value), Dialect::Sqlite) => value.to_string().into(),
        (Value::Date(value), Dialect::Postgres) => (value - NaiveDate::default()).num_days().into(),
        (Value::Time(value), Dialect::Sqlite) => crate::value::time(&value).into(),
        (Value::Time(value), Dialect::Postgres) => {
            let micros = value
                .signed_duration_since(NaiveTime::MIN)
                .num_microseconds();
            micros.map_or(Json::Null, Json::from)
        }
        (Value::Uuid(value), _) => value.simple().to_string().into(),
        (Value::Tags(value), _) => value.into(),
        (Value::Json(value), _) => value,
    }
}

/// The value that is kept so on either database; none when it is not one of this type.
pub(crate) fn read(json: Json, kind: ColumnType) -> Option<Value> {
    Some(match (kind, json) {
        (ColumnType::Json, json) => Value::Json(json),
        (_, Json::Null) => Value::Null,
        (ColumnType::Bool, Json::Bool(value)) => Value::Bool(value),
        (ColumnType::Int, Json::Number(value)) => Value::Int(value.as_i64()?),
        (ColumnType::Decimal { scale }, Json::Number(value)) => {
            Value::Decimal(Decimal::try_new(value.as_i64()?, scale).ok()?)
        }
        (ColumnType::Decimal { .. }, Json::String(text)) => Value::Decimal(text.parse().ok()?),
        (ColumnType::Text, Json::String(text)) => Value::Text(text),
        (ColumnType::Instant, Json::Number(value)) => {
            Value::Instant(DateTime::from_timestamp_micros(value.as_i64()?)?)
        }
        (ColumnType::Date, Json::String(text)) => Value::Date(text.parse().ok()?),
        (ColumnType::Date, Json::Number(value)) => {
            let days = TimeDelta::try_days(value.as_i64()?)?;
            Value::Date(NaiveDate::default().checked_add_signed(days)?)
        }
        (ColumnType::Time, Json::String(text)) => Value::Time(text.parse().ok()?),
        (ColumnType::Time, Json::Number(value)) => {
            let micros = TimeDelta::microseconds(value.as_i64()?);
            Value::Time(NaiveTime::MIN.overflowing_add_signed(micros).0)
        }
        (ColumnType::Uuid, Json::String(text)) => Value::Uuid(Uuid::try_parse(&text).ok()?),
        (ColumnType::Tags, json) => Value::Tags(serde_json::from_value(json).ok()?),
        _ => return None,
    })
}

impl Sql {
    /// Appends the values of the field with this number, as a column of its type would give them.
    pub(crate) fn custom(&mut self, dialect: Dialect, kind: ColumnType, number: u64) -> &mut Self {
        match dialect {
            Dialect::Sqlite => {
                let (open, close) = match kind {
                    ColumnType::Uuid => ("unhex(json_extract(custom, '$.f", "'))"),
                    _ => ("json_extract(custom, '$.f", "')"),
                };
                self.push(open).number(number).push(close)
            }
            Dialect::Postgres => {
                let text = "(custom ->> 'f";
                let (open, close) = match kind {
                    ColumnType::Bool => (text, "')::boolean"),
                    ColumnType::Int => (text, "')::bigint"),
                    ColumnType::Decimal { .. } => (text, "')::numeric"),
                    ColumnType::Uuid => (text, "')::uuid"),
                    ColumnType::Text => ("((custom ->> 'f", "') COLLATE \"C\")"),
                    // Casts of text to dates depend on settings, which no index allows.
                    ColumnType::Date => ("(date '1970-01-01' + (custom ->> 'f", "')::integer)"),
                    ColumnType::Time => (
                        "(time '00:00' + interval '1 microsecond' * (custom ->> 'f",
                        "')::bigint)",
                    ),
                    ColumnType::Instant => return self.instant(number),
                    ColumnType::Tags => return self.tags(number),
                    ColumnType::Json | ColumnType::Vector | ColumnType::Bytes => {
                        ("(custom -> 'f", "')")
                    }
                };
                self.push(open).number(number).push(close)
            }
        }
    }

    /// Whole seconds and the rest apart: intervals are multiplied in doubles, exactly so far.
    fn instant(&mut self, number: u64) -> &mut Self {
        self.push("((timestamp '1970-01-01' + interval '1 second' * ((custom ->> 'f")
            .number(number)
            .push("')::bigint / 1000000) + interval '1 microsecond' * ((custom ->> 'f")
            .number(number)
            .push("')::bigint % 1000000)) AT TIME ZONE 'UTC')")
    }

    /// No tags are null, not an empty list.
    fn tags(&mut self, number: u64) -> &mut Self {
        self.push("(CASE WHEN custom ->> 'f")
            .number(number)
            .push("' IS NOT NULL THEN ARRAY(SELECT tag COLLATE \"C\" ")
            .push("FROM jsonb_array_elements_text(custom -> 'f")
            .number(number)
            .push("') AS tag) END)")
    }
}

/// The index of the custom field at `position`: of this tenant's records alone, since no other's
/// have values under the field's number.
pub(crate) fn create_index(
    module: &CompiledModule,
    position: usize,
    dialect: Dialect,
) -> Option<Sql> {
    let (number, field) = (module.number(position)?, module.fields().get(position)?);
    let key = |sql: &mut Sql| {
        let folds = field.folds();
        sql.push(if folds { "(lower(" } else { "(" });
        sql.custom(dialect, module.columns()[position], number);
        sql.push(if folds { "))" } else { ")" });
    };
    let mut sql = Sql::new(if field.unique {
        "CREATE UNIQUE INDEX IF NOT EXISTS "
    } else {
        "CREATE INDEX IF NOT EXISTS "
    });
    name(&mut sql, module, field, number);
    sql.push(" ON ");
    sql.ident(module.table()).push(" (tenant_id, ");
    key(&mut sql);
    sql.push(if field.unique {
        ") WHERE "
    } else {
        ", id) WHERE "
    });
    key(&mut sql);
    sql.push(" IS NOT NULL");
    // What is in the trash holds no unique value.
    if field.unique && module.spec().soft_delete {
        sql.push(" AND deleted_at IS NULL");
    }
    Some(sql)
}

/// The end of that index.
pub(crate) fn drop_index(module: &CompiledModule, position: usize) -> Option<Sql> {
    let (number, field) = (module.number(position)?, module.fields().get(position)?);
    let mut sql = Sql::new("DROP INDEX IF EXISTS ");
    name(&mut sql, module, field, number);
    Some(sql)
}

/// `<table>.<field>.f<number>.unique`, or `.index`: a violated one names its field.
fn name(sql: &mut Sql, module: &CompiledModule, field: &FieldSpec, number: u64) {
    let kind = if field.unique { "unique" } else { "index" };
    sql.index_name([module.table(), &field.name], number, kind);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sqlx::{AssertSqlSafe, Connection, Row as _, SqliteConnection};

    use super::*;
    use crate::custom::CustomField;
    use crate::db::ddl::create_table;
    use crate::db::record::{Part, SearchPath, Statements, Stretch};
    use crate::id::{RecordId, TenantId};
    use crate::module::ModuleSpec;
    use crate::record::{Query, Sort};

    /// The boxes with a custom field of each of these types.
    fn boxes(types: &[&str]) -> Arc<CompiledModule> {
        let toml = "name = 'boxes'\nsingular = 'box'\n[[fields]]\nname = 'room'\ntype = 'text'\n";
        let spec = ModuleSpec::from_toml(toml).unwrap();
        let fields = types.iter().zip(7..).map(|(json, number)| CustomField {
            number,
            spec: serde_json::from_str(json).unwrap(),
            indexed: true,
            created_at: DateTime::default(),
            removed_at: None,
        });
        let fields: Vec<_> = fields.collect();
        CompiledModule::new(spec, 0)
            .unwrap()
            .extended(&fields, Dialect::Sqlite)
    }

    /// The module's table with the indexes of its custom fields.
    async fn with_indexes(module: &CompiledModule) -> SqliteConnection {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let mut script = vec!["CREATE TABLE tenants (id BLOB PRIMARY KEY)".to_owned()];
        let mut declared = module.spec().clone();
        declared.fields.truncate(1);
        script.extend(create_table(&declared, Dialect::Sqlite));
        let indexes =
            (1..module.fields().len()).map(|at| create_index(module, at, Dialect::Sqlite).unwrap());
        script.extend(indexes.map(|sql| sql.text.as_str().to_owned()));
        for sql in script {
            let run = sqlx::query(AssertSqlSafe(sql)).execute(&mut connection);
            run.await.unwrap();
        }
        connection
    }

    async fn plan(connection: &mut SqliteConnection, sql: &Sql) -> Vec<String> {
        let explain = format!("EXPLAIN QUERY PLAN {}", sql.text.as_str());
        let rows = sqlx::query(AssertSqlSafe(explain)).fetch_all(connection);
        let rows = rows.await.unwrap();
        rows.iter().map(|row| row.get("detail")).collect()
    }

    #[tokio::test]
    async fn what_refers_by_a_custom_field_is_found_by_its_index() {
        let module = boxes(&[r#"{"name": "of_id", "type": "reference", "module": "boxes"}"#]);
        let mut connection = with_indexes(&module).await;
        let statements = Statements::new(&module, Dialect::Sqlite);
        let (tenant, id) = (TenantId(Uuid::nil()), RecordId(Uuid::nil()));
        for ids in [vec![id], vec![id, id]] {
            let to = (module.name(), ids.as_slice());
            let asked = [
                statements.referrers(tenant, 1, to, 9),
                statements.referring(tenant, 1, to, 9),
            ];
            for sql in asked {
                let plan = plan(&mut connection, &sql).await;
                let index = "INDEX boxes.of_id.f7.index";
                let searches = plan[0].starts_with("SEARCH boxes") && plan[0].contains(index);
                assert!(searches, "{plan:?}");
            }
        }
    }

    #[tokio::test]
    async fn an_order_by_a_custom_field_is_read_from_its_index() {
        let module = boxes(&[
            r#"{"name": "size", "type": "integer", "sort": true}"#,
            r#"{"name": "email", "type": "email", "sort": true}"#,
            r#"{"name": "code", "type": "text", "sort": true, "unique": true}"#,
        ]);
        let mut connection = with_indexes(&module).await;
        for (sort, index) in [
            ("size", "boxes.size.f7.index"),
            ("-email", "boxes.email.f8.index"),
            ("code", "boxes.code.f9.unique"),
        ] {
            let query = Query {
                sort: Sort::parse_list(&module, sort).unwrap(),
                ..Query::default()
            };
            let stretch = Stretch {
                path: SearchPath::Index,
                part: Part::Present,
                after: None,
                skip: 0,
                limit: 21,
            };
            let tenant = TenantId(Uuid::nil());
            let sql = Statements::new(&module, Dialect::Sqlite).list(
                tenant,
                &crate::reach::Reach::All,
                &query,
                stretch,
            );
            assert_eq!(
                plan(&mut connection, &sql).await,
                [format!("SEARCH boxes USING INDEX {index} (tenant_id=?)")],
                "{sort}"
            );
        }
    }

    #[test]
    fn what_is_kept_for_either_database_is_read_again() {
        let instant = DateTime::from_timestamp_micros(-1).unwrap();
        let values = [
            (Value::Bool(true), ColumnType::Bool),
            (Value::Int(i64::MIN), ColumnType::Int),
            (
                Value::Decimal(Decimal::new(-150, 2)),
                ColumnType::Decimal { scale: 2 },
            ),
            (Value::Text("f7".into()), ColumnType::Text),
            (Value::Instant(instant), ColumnType::Instant),
            (
                Value::Date(NaiveDate::from_ymd_opt(1, 1, 1).unwrap()),
                ColumnType::Date,
            ),
            (Value::Uuid(Uuid::from_u128(5)), ColumnType::Uuid),
            (Value::Tags(vec!["a".into()]), ColumnType::Tags),
            (Value::Json(serde_json::json!({"a": [1]})), ColumnType::Json),
        ];
        for (value, kind) in values {
            for dialect in [Dialect::Sqlite, Dialect::Postgres] {
                let kept = stored(value.clone(), dialect);
                assert_eq!(read(kept, kind), Some(value.clone()), "{dialect:?}");
            }
        }
        assert_eq!(read("x".into(), ColumnType::Int), None);
        assert_eq!(read(1.5.into(), ColumnType::Decimal { scale: 2 }), None);
    }
}
