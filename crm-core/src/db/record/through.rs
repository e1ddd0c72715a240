//! The SQL of conditions on the records that a reference points to.

use super::Statements;
use crate::db::Sql;
use crate::record::{Field, Through};

impl Statements {
    /// One of the records that the field refers to meets the condition.
    ///
    /// The other module's own WHERE stands in a subquery of its own, where its columns mean nothing
    /// else, also when the modules are one. Tenant and id tie it to the record outside: both
    /// databases look it up by its primary key, or begin with it.
    pub(super) fn through(&self, sql: &mut Sql, through: &Through) {
        let Some(field) = self.module.fields().get(through.field()) else {
            sql.push("1 = 0");
            return;
        };
        let (table, target) = (self.module.table(), through.target());
        let linked = self.is_linked(through.field());
        sql.push("EXISTS (SELECT 1 FROM ");
        if linked {
            sql.link_table(table, &field.name).push(" AS link, ");
        }
        sql.push("(SELECT tenant_id, id FROM ")
            .ident(target.table());
        let (tenant, reach) = through.rows();
        let there = Self::new(target, self.dialect);
        there.conditions(sql, tenant, reach, Some(through.filter()), None);
        sql.push(") AS referred WHERE ");
        if linked {
            sql.push("link.tenant_id = ").ident(table);
            sql.push(".tenant_id AND link.from_id = ").ident(table);
            sql.push(".id AND referred.tenant_id = link.tenant_id AND referred.id = link.to_id)");
        } else {
            sql.push("referred.tenant_id = ").ident(table);
            sql.push(".tenant_id AND referred.id = ");
            match self.module.is_custom(through.field()) {
                // What is called `custom` is outside: the records inside have two columns.
                true => self.column(sql, Field::Declared(through.field())),
                false => drop(sql.ident(table).push(".").ident(&field.name)),
            }
            sql.push(")");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sqlx::{AssertSqlSafe, Connection, Row as _, SqliteConnection};

    use super::super::SearchPath;
    use super::super::order::{Part, Stretch};
    use super::*;
    use crate::db::Dialect;
    use crate::db::ddl;
    use crate::id::TenantId;
    use crate::module::{CompiledModule, ModuleSpec};
    use crate::reach::Reach;
    use crate::record::{Comparison, Filter, Query};
    use crate::value::Value;

    const FIRMS: &str = r#"
        name = "firms"
        singular = "firm"
        soft_delete = true
        fields = [{ name = "title", type = "text", sort = true }]
    "#;
    const STAFF: &str = r#"
        name = "staff"
        singular = "colleague"
        fields = [
            { name = "firm_id", type = "reference", module = "firms" },
            { name = "former_ids", type = "references", module = "firms" },
        ]
    "#;

    /// How SQLite reads a page of staff by the title of the firm behind the field at `position`.
    async fn plan(position: usize) -> String {
        let module = |text, index| {
            let spec = ModuleSpec::from_toml(text).unwrap();
            Arc::new(CompiledModule::new(spec, index).unwrap())
        };
        let (firms, staff) = (module(FIRMS, 0), module(STAFF, 1));
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let tables = [&firms, &staff].map(|module| {
            let steps = ddl::plan(None, Some(module.spec()), Dialect::Sqlite).unwrap();
            steps.into_iter().map(|step| step.sql)
        });
        for sql in ["CREATE TABLE tenants (id BLOB PRIMARY KEY)".to_owned()]
            .into_iter()
            .chain(tables.into_iter().flatten())
        {
            let run = sqlx::query(AssertSqlSafe(sql)).execute(&mut connection);
            run.await.unwrap();
        }
        let title = Comparison::Eq(Value::Text("Acme".to_owned()));
        let there = Filter::Compare(Field::Declared(0), title);
        let tenant = TenantId(uuid::Uuid::nil());
        let query = Query {
            filter: Some(Through::of(position, &firms, tenant, there)),
            ..Query::default()
        };
        let stretch = Stretch {
            path: SearchPath::Scan,
            part: Part::Present,
            after: None,
            skip: 0,
            limit: 21,
        };
        let sql =
            Statements::new(&staff, Dialect::Sqlite).list(tenant, &Reach::All, &query, stretch);
        let explain = format!("EXPLAIN QUERY PLAN {}", sql.text.as_str());
        let rows = sqlx::query(AssertSqlSafe(explain)).fetch_all(&mut connection);
        let rows = rows.await.unwrap();
        let lines = rows.iter().map(|row| row.get::<String, _>("detail"));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[tokio::test]
    async fn sqlite_finds_the_record_behind_a_reference_by_an_index() {
        let plan = plan(0).await;
        eprintln!("{plan}");
        assert!(!plan.contains("SCAN"), "{plan}");
        assert!(!plan.contains("MATERIALIZE"), "{plan}");
    }

    #[tokio::test]
    async fn sqlite_finds_the_records_of_a_list_by_indexes() {
        let plan = plan(1).await;
        eprintln!("{plan}");
        assert!(!plan.contains("SCAN"), "{plan}");
        assert!(!plan.contains("MATERIALIZE"), "{plan}");
    }
}
