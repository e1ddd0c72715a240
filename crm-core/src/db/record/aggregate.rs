//! The SQL of aggregates: sums are exact on both databases, whatever their size.

use super::{SearchPath, Statements};
use crate::db::{ColumnType, Dialect, Row, Sql};
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::reach::Reach;
use crate::record::{Aggregate, Bucket, Field, Function, GroupKey, Metric};
use crate::value::Value;
use rust_decimal::Decimal;

/// A sum and how many values it is of.
pub(crate) struct Sum {
    pub(crate) sum: Decimal,
    pub(crate) count: i64,
}

impl Statements {
    /// One row for each group, in the order of the keys, absent ones last.
    pub(crate) fn aggregate(
        &self,
        tenant: TenantId,
        reach: &Reach,
        ask: &Aggregate,
        path: SearchPath,
        limit: u32,
    ) -> Sql {
        let mut sql = Sql::new("SELECT ");
        let mut columns = Vec::new();
        for key in &ask.group_by {
            self.group_key(&mut sql, *key);
            sql.push(", ");
            columns.push(match key.bucket {
                Some(_) => ColumnType::Text,
                None => self.column_type(key.field),
            });
        }
        for (count, metric) in ask.metrics.iter().enumerate() {
            if count > 0 {
                sql.push(", ");
            }
            self.metric(&mut sql, *metric);
            columns.extend(self.metric_columns(*metric));
        }
        sql.push(" FROM ").ident(self.module.table());
        self.conditions(
            &mut sql,
            tenant,
            reach,
            ask.filter.as_ref(),
            ask.search.as_deref().map(|text| (text, path)),
        );
        let keys = ask.group_by.len() as u64;
        for (word, order) in [(" GROUP BY ", ""), (" ORDER BY ", " NULLS LAST")] {
            for key in 1..=keys {
                sql.push(if key == 1 { word } else { ", " })
                    .number(key)
                    .push(order);
            }
        }
        sql.push(" LIMIT ").number(u64::from(limit));
        sql.returns_shared(&columns.into())
    }

    fn group_key(&self, sql: &mut Sql, key: GroupKey) {
        let Some(bucket) = key.bucket else {
            self.folded(sql, key.field);
            return;
        };
        let date = self.column_type(key.field) == ColumnType::Date;
        match (self.dialect, date) {
            (Dialect::Sqlite, true) => {
                sql.push("substr(");
                self.column(sql, key.field);
                sql.push(match bucket {
                    Bucket::Day => ", 1, 10)",
                    Bucket::Month => ", 1, 7)",
                    Bucket::Year => ", 1, 4)",
                });
            }
            (Dialect::Sqlite, false) => {
                sql.push(match bucket {
                    Bucket::Day => "strftime('%Y-%m-%d', (",
                    Bucket::Month => "strftime('%Y-%m', (",
                    Bucket::Year => "strftime('%Y', (",
                });
                // Whole seconds, rounded down also before 1970.
                self.column(sql, key.field);
                sql.push(" - ((");
                self.column(sql, key.field);
                sql.push(" % 1000000) + 1000000) % 1000000) / 1000000, 'unixepoch')");
            }
            (Dialect::Postgres, _) => {
                sql.push("to_char(");
                self.column(sql, key.field);
                sql.push(if date { "" } else { " AT TIME ZONE 'UTC'" });
                sql.push(match bucket {
                    Bucket::Day => ", 'YYYY-MM-DD') COLLATE \"C\"",
                    Bucket::Month => ", 'YYYY-MM') COLLATE \"C\"",
                    Bucket::Year => ", 'YYYY') COLLATE \"C\"",
                });
            }
        }
    }

    fn metric(&self, sql: &mut Sql, Metric { function, field }: Metric) {
        let Some(field) = field else {
            sql.push("count(*)");
            return;
        };
        let mut of = |before: &'static str, after: &'static str| {
            sql.push(before);
            self.folded(sql, field);
            sql.push(after);
        };
        match (function, self.dialect) {
            (Function::Count, _) => of("count(", ")"),
            (Function::Distinct, _) => of("count(DISTINCT ", ")"),
            (Function::Min, _) => of("min(", ")"),
            (Function::Max, _) => of("max(", ")"),
            // In two halves: SQLite refuses a sum beyond 64 bits.
            (Function::Sum | Function::Avg, Dialect::Sqlite) => {
                of("sum(", " >> 32), ");
                of("sum(", " & 4294967295), ");
                of("count(", ")");
            }
            (Function::Sum | Function::Avg, Dialect::Postgres) => {
                of("sum(", ")::text, ");
                of("count(", ")");
            }
        }
    }

    fn metric_columns(&self, Metric { function, field }: Metric) -> Vec<ColumnType> {
        match (function, field, self.dialect) {
            (Function::Min | Function::Max, Some(field), _) => vec![self.column_type(field)],
            (Function::Sum | Function::Avg, Some(_), Dialect::Sqlite) => vec![ColumnType::Int; 3],
            (Function::Sum | Function::Avg, Some(_), Dialect::Postgres) => {
                vec![ColumnType::Text, ColumnType::Int]
            }
            _ => vec![ColumnType::Int],
        }
    }

    /// Reads the columns of a sum; `None` when there was no value.
    pub(crate) fn read_sum(&self, row: &mut Row, field: Field) -> Result<Option<Sum>> {
        let sum = match self.dialect {
            Dialect::Sqlite => match (row.next(), row.next()) {
                (Value::Int(high), Value::Int(low)) => {
                    let scale = match self.column_type(field) {
                        ColumnType::Decimal { scale } => scale,
                        _ => 0,
                    };
                    let digits = (i128::from(high) << 32) + i128::from(low);
                    let sum = Decimal::try_from_i128_with_scale(digits, scale);
                    Some(sum.map_err(Error::internal)?)
                }
                _ => None,
            },
            Dialect::Postgres => match row.next() {
                Value::Text(text) => Some(text.parse().map_err(Error::internal)?),
                _ => None,
            },
        };
        let count = row.int()?;
        Ok(sum.map(|sum| Sum { sum, count }))
    }
}
