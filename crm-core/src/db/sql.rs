//! One SQL statement with its bound values and the types of its result columns.
//!
//! The text grows only from `&'static str` and [`Ident`]: run-time text can only ever be bound.
//! Placeholders are `$1`, `$2`, … on both databases.

use std::fmt::Write;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use uuid::Uuid;

use crate::module::Ident;
use crate::value::Value;

/// How a column stores its values; `db/` alone knows what that means on each database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnType {
    Bool,
    Int,
    Decimal { scale: u32 },
    Text,
    Instant,
    Date,
    Time,
    Uuid,
    Tags,
    Vector,
    Json,
    Bytes,
}

/// The types of a statement's result columns, in order.
#[derive(Debug, Clone)]
pub(crate) enum Columns {
    Fixed(&'static [ColumnType]),
    Shared(Arc<[ColumnType]>),
}

impl Columns {
    pub(crate) fn as_slice(&self) -> &[ColumnType] {
        match self {
            Self::Fixed(columns) => columns,
            Self::Shared(columns) => columns,
        }
    }
}

/// The text of a statement; the shared form is cached per module.
#[derive(Debug, Clone)]
pub(crate) enum Text {
    Fixed(&'static str),
    Shared(Arc<str>),
    Built(String),
}

impl Text {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Fixed(text) => text,
            Self::Shared(text) => text,
            Self::Built(text) => text,
        }
    }
}

/// A statement under construction or ready to run.
#[derive(Debug, Clone)]
pub(crate) struct Sql {
    pub(super) text: Text,
    pub(super) args: Vec<(Value, ColumnType)>,
    pub(super) columns: Columns,
    /// Whether it reads one row by its key.
    pub(super) point: bool,
}

impl Sql {
    /// A statement, or the beginning of one.
    pub(crate) fn new(text: &'static str) -> Self {
        Self::of(Text::Fixed(text))
    }

    /// A statement built once and kept.
    pub(crate) fn shared(text: &Arc<str>) -> Self {
        Self::of(Text::Shared(text.clone()))
    }

    fn of(text: Text) -> Self {
        Self {
            text,
            args: Vec::new(),
            columns: Columns::Fixed(&[]),
            point: false,
        }
    }

    /// States that this reads one row by its key, and so takes no time worth a change of threads.
    pub(crate) fn point_read(mut self) -> Self {
        self.point = true;
        self
    }

    /// Binds the value of the next placeholder of a text that already holds it.
    pub(crate) fn bind(mut self, value: impl Into<Value>, kind: ColumnType) -> Self {
        self.args.push((value.into(), kind));
        self
    }

    /// States the types of the result columns.
    pub(crate) fn returns(mut self, columns: &'static [ColumnType]) -> Self {
        self.columns = Columns::Fixed(columns);
        self
    }

    /// States the types of the result columns, known only at run time.
    pub(crate) fn returns_shared(mut self, columns: &Arc<[ColumnType]>) -> Self {
        self.columns = Columns::Shared(columns.clone());
        self
    }

    /// Whether connections keep this statement prepared. What a client's filter makes long is asked
    /// once and would only fill their caches.
    pub(super) fn is_kept(&self) -> bool {
        const MOST_ARGS: usize = 64;
        !matches!(self.text, Text::Built(_)) || self.args.len() <= MOST_ARGS
    }

    /// Appends text.
    pub(crate) fn push(&mut self, text: &'static str) -> &mut Self {
        self.writable().push_str(text);
        self
    }

    /// Appends a quoted name.
    pub(crate) fn ident(&mut self, name: &Ident) -> &mut Self {
        let text = self.writable();
        text.push('"');
        text.push_str(name.as_str());
        text.push('"');
        self
    }

    /// Appends the quoted name of what belongs to the one called `name`.
    pub(crate) fn derived(&mut self, name: &Ident, suffix: &'static str) -> &mut Self {
        let text = self.writable();
        text.push('"');
        text.push_str(name.as_str());
        text.push_str(suffix);
        text.push('"');
        self
    }

    /// Appends the quoted name of the index of a field that is known by a number, too.
    pub(super) fn index_name(
        &mut self,
        [table, field]: [&Ident; 2],
        number: u64,
        kind: &'static str,
    ) -> &mut Self {
        let number = format!("f{number}");
        let name = super::ddl::name(&[table.as_str(), field.as_str(), &number, kind]);
        let text = self.writable();
        text.push('"');
        text.push_str(&name);
        text.push('"');
        self
    }

    /// Appends the quoted name of the table of a field's links.
    pub(crate) fn link_table(&mut self, module: &Ident, field: &Ident) -> &mut Self {
        let name = super::ddl::name(&[module.as_str(), field.as_str()]);
        let text = self.writable();
        text.push('"');
        text.push_str(&name);
        text.push('"');
        self
    }

    /// Appends a name as a text literal.
    pub(crate) fn literal(&mut self, name: &Ident) -> &mut Self {
        let text = self.writable();
        text.push('\'');
        text.push_str(name.as_str());
        text.push('\'');
        self
    }

    /// Appends a placeholder and binds its value.
    pub(crate) fn arg(&mut self, value: impl Into<Value>, kind: ColumnType) -> &mut Self {
        self.args.push((value.into(), kind));
        let number = self.args.len();
        // Writing to a String cannot fail.
        let _ = write!(self.writable(), "${number}");
        self
    }

    /// Appends a whole number.
    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        let _ = write!(self.writable(), "{number}");
        self
    }

    /// Several writing statements as one with the values of all, for one round trip: PostgreSQL's
    /// data-modifying WITH. The statements must not see each other's rows.
    pub(super) fn joined(parts: Vec<Self>) -> Self {
        let last = parts.len().saturating_sub(1);
        let mut joined = Self::new("");
        for (count, part) in parts.into_iter().enumerate() {
            let before = joined.args.len();
            let text = joined.writable();
            if count < last {
                let word = if count == 0 { "WITH" } else { "," };
                let _ = write!(text, "{word} s{count} AS (");
            }
            renumber(text, part.text.as_str(), before);
            if count < last {
                text.push_str(") ");
            }
            joined.args.extend(part.args);
            joined.columns = part.columns;
        }
        joined
    }

    /// Inserts of one row each, which share a text, as one insert of all rows; none for no rows.
    pub(super) fn many_rows(rows: Vec<Self>) -> Option<Self> {
        let mut rows = rows.into_iter();
        let mut all = rows.next()?;
        for row in rows {
            let before = all.args.len();
            let text = all.writable();
            for number in 0..row.args.len() {
                text.push_str(if number == 0 { ", (" } else { ", " });
                let _ = write!(text, "${}", before + number + 1);
            }
            text.push(')');
            all.args.extend(row.args);
        }
        Some(all)
    }

    /// The finished text, to be kept for [`Sql::shared`].
    pub(crate) fn into_text(self) -> Arc<str> {
        match self.text {
            Text::Fixed(text) => text.into(),
            Text::Shared(text) => text,
            Text::Built(text) => text.into(),
        }
    }

    pub(super) fn writable(&mut self) -> &mut String {
        if !matches!(self.text, Text::Built(_)) {
            self.text = Text::Built(self.text.as_str().to_owned());
        }
        match &mut self.text {
            Text::Built(text) => text,
            Text::Fixed(_) | Text::Shared(_) => unreachable!("made writable above"),
        }
    }
}

/// Appends `statement` with its placeholders counted on behind `before` others. Statements hold `$`
/// in placeholders only: all other text of theirs is ours.
fn renumber(text: &mut String, statement: &str, before: usize) {
    let mut rest = statement;
    while let Some((head, tail)) = rest.split_once('$') {
        let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
        let number: usize = tail[..digits].parse().unwrap_or(0);
        let _ = write!(text, "{head}${}", number + before);
        rest = &tail[digits..];
    }
    text.push_str(rest);
}

macro_rules! into_value {
    ($($from:ty => $variant:ident),* $(,)?) => {$(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        }
    )*};
}

into_value! {
    bool => Bool,
    i64 => Int,
    i32 => Int,
    u32 => Int,
    u16 => Int,
    &str => Text,
    &String => Text,
    String => Text,
    DateTime<Utc> => Instant,
    NaiveDate => Date,
    NaiveTime => Time,
    Uuid => Uuid,
    serde_json::Value => Json,
    Vec<u8> => Bytes,
    Vec<String> => Tags,
    rust_decimal::Decimal => Decimal,
    crate::id::TenantId => Uuid,
    crate::id::UserId => Uuid,
    crate::id::RoleId => Uuid,
    crate::id::GroupId => Uuid,
    crate::id::RecordId => Uuid,
    crate::id::EventId => Uuid,
    crate::id::ApiKeyId => Uuid,
    crate::id::PluginId => Uuid,
    crate::id::RunId => Uuid,
    crate::id::TrustedKeyId => Uuid,
    crate::id::JobId => Uuid,
    crate::id::FamilyId => Uuid,
    crate::id::PasskeyId => Uuid,
    crate::id::ProviderId => Uuid,
    crate::id::IdentityId => Uuid,
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
