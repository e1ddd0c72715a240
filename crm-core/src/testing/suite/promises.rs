//! The promises of every module, each with the attempt that shows whether it holds.

use futures::future::BoxFuture;
use serde_json::{Map, Value as Json, json};

use super::{Failure, Outcome, Suite, hold, machine, refused, request};
use crate::audit::AuditQuery;
use crate::db::{ColumnType, Sql};
use crate::error::Error;
use crate::identity::NewUser;
use crate::module::{FieldSpec, FieldType};
use crate::record::{Count, Direction, Field, Query, Record, Sort, operators};
use crate::scope::{Create, Read, Scope};

type Attempt = for<'s> fn(&'s Suite) -> BoxFuture<'s, Outcome>;

macro_rules! promises {
    ($($promise:literal => $attempt:ident),+ $(,)?) => {
        /// Every promise and its attempt.
        pub(super) const ALL: &[(&str, Attempt)] =
            &[$(($promise, |suite| Box::pin($attempt(suite)))),+];
    };
}

promises!(
    "a record is read as it was written" => written_is_read,
    "a required field must be given, an optional one need not" => required_fields,
    "every field refuses what is not of its type, by name" => wrong_types,
    "an unknown field is refused by name" => unknown_fields,
    "a unique value is taken within its tenant only" => unique_values,
    "a change steps the version, and one that changes nothing writes nothing" => changes,
    "a change of another version than the expected is refused" => versions,
    "an immutable field keeps its value" => immutable_fields,
    "a read-only field is not set, a write-only one not shown" => hidden_fields,
    "every field that can be compared finds its record" => filters,
    "every order and its pages visit each record once" => orders,
    "the search finds a part of a searchable text" => searches,
    "another tenant finds nothing, by any way" => isolation,
    "a viewer may read and nothing else" => rights,
    "every write leaves an audit entry and an event, a refused one none" => trail,
    "a deleted record is gone" => deletion,
);

async fn written_is_read(it: &Suite) -> Outcome {
    let body = it.full_body(&it.ours).await?;
    let made = it.create(&it.ours, body.clone()).await?;
    hold(
        made.version == 1,
        format_args!("a new record has version {}", made.version),
    )?;
    let read = it.get(&it.ours, made.id).await?;
    hold(
        read.to_json() == made.to_json(),
        format_args!("{} was made, {} is read", made.to_json(), read.to_json()),
    )?;
    for (name, sent) in body {
        let stored = member(&read, &name);
        hold(
            stored == sent,
            format_args!("{name} was sent as {sent} and is read as {stored}"),
        )?;
    }
    Ok(())
}

async fn required_fields(it: &Suite) -> Outcome {
    let least = it.body(&it.ours, |field| it.needs(field)).await?;
    it.create(&it.ours, least.clone()).await?;
    for name in least.keys() {
        let mut body = it.body(&it.ours, |field| it.needs(field)).await?;
        body.remove(name);
        let error = refused(
            it.create(&it.ours, body).await,
            "validation_failed",
            "a gap",
        )?;
        names(&error, name)?;
    }
    Ok(())
}

async fn wrong_types(it: &Suite) -> Outcome {
    let fields = it.module.writable();
    for field in fields.filter(|field| !matches!(field.kind, FieldType::Json { .. })) {
        let mut body = it.body(&it.ours, |field| it.needs(field)).await?;
        body.insert(field.name.to_string(), json!([[true]]));
        let what = format!("[[true]] as {}", field.name);
        let error = refused(it.create(&it.ours, body).await, "validation_failed", what)?;
        names(&error, field.name.as_str())?;
    }
    Ok(())
}

async fn unknown_fields(it: &Suite) -> Outcome {
    let mut body = it.full_body(&it.ours).await?;
    body.insert("no_such_field".to_owned(), json!(1));
    let error = refused(
        it.create(&it.ours, body).await,
        "validation_failed",
        "the field",
    )?;
    names(&error, "no_such_field")
}

async fn unique_values(it: &Suite) -> Outcome {
    for field in it.module.writable().filter(|field| field.unique) {
        let name = field.name.as_str();
        let first = it.made(&it.ours).await?;
        let mut second = it.full_body(&it.ours).await?;
        second.insert(name.to_owned(), member(&first, name));
        let what = format!("{name} used again");
        refused(it.create(&it.ours, second).await, "already_exists", what)?;
        if !matches!(field.kind, FieldType::Reference { .. }) {
            let mut elsewhere = it.full_body(&it.theirs).await?;
            elsewhere.insert(name.to_owned(), member(&first, name));
            it.create(&it.theirs, elsewhere).await?;
        }
    }
    Ok(())
}

async fn changes(it: &Suite) -> Outcome {
    let made = it.made(&it.ours).await?;
    let free = |field: &FieldSpec| machine(&it.module, field).is_none() && !field.immutable;
    let body = it.body(&it.ours, free).await?;
    let changed = it.update(&it.ours, made.id, None, body.clone()).await?;
    let differs = body.iter().any(|(name, sent)| member(&made, name) != *sent);
    let expected = made.version + i64::from(differs);
    hold(
        changed.version == expected,
        format_args!(
            "a change of version {} made {}",
            made.version, changed.version
        ),
    )?;
    for (name, sent) in &body {
        let stored = member(&changed, name);
        hold(
            stored == *sent,
            format_args!("{name} was changed to {sent} and is {stored}"),
        )?;
    }
    let again = it.update(&it.ours, made.id, None, body).await?;
    hold(
        again.version == changed.version,
        format_args!("the same body again made version {}", again.version),
    )?;
    // Amounts first, currencies last: no amount stays without one, be it copied with a reference.
    let mut fields: Vec<_> = it.module.writable().filter(|field| free(field)).collect();
    fields.sort_by_key(|field| match &field.kind {
        FieldType::Money { .. } => 0,
        FieldType::Currency => 2,
        _ => 1,
    });
    for field in fields
        .into_iter()
        .filter(|field| field.required || !it.needs(field))
    {
        let cleared = Map::from_iter([(field.name.to_string(), Json::Null)]);
        let outcome = it.update(&it.ours, made.id, None, cleared).await;
        let name = field.name.as_str();
        if field.required {
            names(&refused(outcome, "validation_failed", "null")?, name)?;
        } else {
            let now = member(&outcome?, name);
            hold(
                now.is_null() || now == Json::Array(vec![]),
                format_args!("{name} was cleared and is {now}"),
            )?;
        }
    }
    Ok(())
}

async fn versions(it: &Suite) -> Outcome {
    let made = it.made(&it.ours).await?;
    let body = it.full_body(&it.ours).await?;
    let stale = it.update(&it.ours, made.id, Some(7_000), body).await;
    refused(stale, "version_mismatch", "a change of version 7000")?;
    let now = it.get(&it.ours, made.id).await?;
    hold(
        now.to_json() == made.to_json(),
        "the refused change was written",
    )
}

async fn immutable_fields(it: &Suite) -> Outcome {
    let made = it.made(&it.ours).await?;
    for field in it.module.writable().filter(|field| field.immutable) {
        let name = field.name.as_str();
        let same = Map::from_iter([(name.to_owned(), member(&made, name))]);
        it.update(&it.ours, made.id, None, same).await?;
        let other = it.body(&it.ours, |one| one.name == field.name).await?;
        if other
            .get(name)
            .is_some_and(|value| *value != member(&made, name))
        {
            let changed = it.update(&it.ours, made.id, None, other).await;
            let what = format_args!("a change of {name}");
            names(&refused(changed, "validation_failed", what)?, name)?;
        }
    }
    Ok(())
}

async fn hidden_fields(it: &Suite) -> Outcome {
    let made = it.made(&it.ours).await?;
    let shown = serde_json::to_value(&made).unwrap_or_default();
    for field in it.module.fields() {
        let name = field.name.as_str();
        if field.is_read_only() {
            let sent = Map::from_iter([(name.to_owned(), json!([[true]]))]);
            let now = it.update(&it.ours, made.id, None, sent).await?;
            hold(
                now.version == made.version,
                format_args!("{name} was set by a client"),
            )?;
        }
        hold(
            shown.get(name).is_none() == field.write_only,
            format_args!("{name} is not shown as it is declared"),
        )?;
        if field.write_only {
            let by = it.found(&it.ours, name, "is_null", "true").await;
            names_parameter(&refused(by, "validation_failed", "a filter")?, name)?;
        }
    }
    Ok(())
}

async fn filters(it: &Suite) -> Outcome {
    let made = it.made(&it.ours).await?;
    for field in it.module.readable() {
        let (name, value) = (field.name.as_str(), member(&made, field.name.as_str()));
        let text = match &value {
            Json::Null => continue,
            Json::String(text) => text.clone(),
            Json::Array(items) => items
                .first()
                .and_then(Json::as_str)
                .unwrap_or("")
                .to_owned(),
            other => other.to_string(),
        };
        for (op, finds) in [("eq", true), ("ne", false), ("has", true)] {
            if !operators(&field.kind).any(|known| known == op) {
                continue;
            }
            let found = it.found(&it.ours, name, op, &text).await?;
            hold(
                found.contains(&made.id) == finds,
                format_args!("{name}[{op}]={text} finds {} records", found.len()),
            )?;
        }
        let absent = it.found(&it.ours, name, "is_null", "true").await?;
        hold(
            !absent.contains(&made.id),
            format_args!("{name}[is_null] finds a value"),
        )?;
    }
    Ok(())
}

async fn orders(it: &Suite) -> Outcome {
    for _ in 0..3 {
        it.made(&it.ours).await?;
    }
    let mut all = it.ids(&it.ours, Query::default()).await?;
    all.sort_unstable();
    let declared = it.module.sortable().iter().map(|at| Field::Declared(*at));
    for field in declared.chain([Field::Id, Field::CreatedAt, Field::UpdatedAt]) {
        for direction in [Direction::Ascending, Direction::Descending] {
            let query = Query {
                sort: vec![Sort { field, direction }],
                limit: 2,
                ..Query::default()
            };
            let mut seen = it.ids(&it.ours, query).await?;
            let count = seen.len();
            seen.sort_unstable();
            hold(
                seen == all,
                format_args!(
                    "sorted by {} the pages hold {count} of {} records",
                    field.name(&it.module),
                    all.len()
                ),
            )?;
        }
    }
    Ok(())
}

async fn searches(it: &Suite) -> Outcome {
    let made = it.made(&it.ours).await?;
    for position in it.module.searchable() {
        let name = it.module.fields()[*position].name.as_str();
        let value = match member(&made, name) {
            Json::Array(items) => items.first().cloned().unwrap_or_default(),
            value => value,
        };
        let text = value.as_str().unwrap_or_default().to_uppercase();
        let part = text.get(1..).unwrap_or_default();
        if part.is_empty() {
            continue;
        }
        let query = Query {
            search: Some(part.to_owned()),
            ..Query::default()
        };
        let found = it.ids(&it.ours, query).await?;
        hold(
            found.contains(&made.id),
            format_args!("{part} is not found in {name}"),
        )?;
    }
    Ok(())
}

async fn isolation(it: &Suite) -> Outcome {
    let ours = it.made(&it.ours).await?;
    let before = it.ids(&it.theirs, Query::default()).await?;
    hold(
        !before.contains(&ours.id),
        "a list of another tenant shows the record",
    )?;
    let counted = Query {
        count: Count::Exact,
        ..Query::default()
    };
    let permit = it.theirs.permit::<Read>(it.name())?;
    let total = it.crm.records().count(&permit, &counted).await?;
    hold(
        total.count == before.len() as u64,
        "a count of another tenant includes the record",
    )?;
    refused(
        it.get(&it.theirs, ours.id).await,
        "not_found",
        "a foreign record",
    )?;
    let body = it.full_body(&it.theirs).await?;
    let changed = it.update(&it.theirs, ours.id, None, body).await;
    refused(changed, "not_found", "a change of a foreign record")?;
    refused(
        it.delete(&it.theirs, ours.id).await,
        "not_found",
        "a delete of a foreign record",
    )?;
    for field in it.module.fields() {
        let name = field.name.as_str();
        let sent = member(&ours, name);
        if field.kind.is_reference() && !sent.is_null() {
            let mut body = it.full_body(&it.theirs).await?;
            body.insert(name.to_owned(), sent);
            let made = it.create(&it.theirs, body).await;
            names(
                &refused(made, "validation_failed", "a foreign reference")?,
                name,
            )?;
        }
    }
    let now = it.get(&it.ours, ours.id).await?;
    hold(
        now.to_json() == ours.to_json(),
        "another tenant changed the record",
    )
}

async fn rights(it: &Suite) -> Outcome {
    let made = it.made(&it.ours).await?;
    let viewer = member_with(it, "viewer").await?;
    it.get(&viewer, made.id).await?;
    let body = it.full_body(&it.ours).await?;
    for (what, code) in [
        ("create", it.create(&viewer, body.clone()).await.map(drop)),
        (
            "update",
            it.update(&viewer, made.id, None, body).await.map(drop),
        ),
        ("delete", it.delete(&viewer, made.id).await),
    ] {
        let error = refused(code, "forbidden", format_args!("{what} by a viewer"))?;
        let permission = format!("{}.{what}", it.name());
        hold(
            error.to_string().contains(&permission),
            format_args!("the refusal does not name {permission}: {error}"),
        )?;
    }
    Ok(())
}

async fn trail(it: &Suite) -> Outcome {
    let made = it.made(&it.ours).await?;
    let free = |field: &FieldSpec| machine(&it.module, field).is_none() && !field.immutable;
    let mut steps = vec!["create"];
    let body = it.body(&it.ours, free).await?;
    if it.update(&it.ours, made.id, None, body).await?.version > 1 {
        steps.push("update");
    }
    let wrong = Map::from_iter([("no_such_field".to_owned(), json!(1))]);
    refused(
        it.update(&it.ours, made.id, None, wrong).await,
        "validation_failed",
        "a change",
    )?;
    it.delete(&it.ours, made.id).await?;
    steps.push("delete");

    let query = AuditQuery {
        entity: Some(it.name().to_owned()),
        entity_id: Some(made.id.to_string()),
        ..AuditQuery::default()
    };
    let permit = it.ours.permit::<Read>("audit")?;
    let mut entries = it.crm.audit().list(&permit, &query).await?.data;
    entries.reverse();
    let actions: Vec<_> = entries.iter().map(|entry| entry.action.clone()).collect();
    let expected: Vec<_> = steps
        .iter()
        .map(|step| format!("{}.{step}", it.name()))
        .collect();
    hold(
        actions == expected,
        format_args!("the audit log says {actions:?}"),
    )?;

    let sql = Sql::new("SELECT count(*) FROM outbox WHERE tenant_id = $1 AND record_id = $2")
        .bind(it.ours.tenant(), ColumnType::Uuid)
        .bind(made.id, ColumnType::Uuid)
        .returns(&[ColumnType::Int]);
    let row = it.crm.core.db.fetch_optional(sql).await?;
    let events: i64 = row.map_or(Ok(0), |mut row| row.int())?;
    hold(
        usize::try_from(events) == Ok(steps.len()),
        format_args!("{} writes left {events} events", steps.len()),
    )
}

async fn deletion(it: &Suite) -> Outcome {
    let made = it.made(&it.ours).await?;
    it.delete(&it.ours, made.id).await?;
    refused(
        it.get(&it.ours, made.id).await,
        "not_found",
        "a deleted record",
    )?;
    refused(
        it.delete(&it.ours, made.id).await,
        "not_found",
        "a second delete",
    )?;
    let left = it.ids(&it.ours, Query::default()).await?;
    hold(!left.contains(&made.id), "a list shows the deleted record")
}

/// A new member of our tenant with this role.
async fn member_with(it: &Suite, role: &str) -> Outcome<Scope> {
    let id = it.crm.clock().new_id().simple();
    let input = NewUser {
        email: format!("{role}.{id}@example.com"),
        name: role.to_owned(),
        password: format!("passphrase {id}").into(),
        roles: vec![role.to_owned()],
    };
    let permit = it.ours.permit::<Create>("members")?;
    let user = it.crm.accounts().create_user(&permit, input).await?.user_id;
    let scope = crate::testing::scope(&it.crm, it.ours.tenant(), user, request()).await?;
    scope.ok_or_else(|| Failure(format!("a new {role} is no member")))
}

/// What the record has under this name.
fn member(record: &Record, name: &str) -> Json {
    if let Some(value) = record.get(name) {
        return serde_json::to_value(value).unwrap_or_default();
    }
    let shown = serde_json::to_value(record).unwrap_or_default();
    shown.get(name).cloned().unwrap_or_default()
}

/// The refusal is about a parameter of this field.
fn names_parameter(error: &Error, field: &str) -> Outcome {
    let pointer = format!("/{field}");
    let named = match error {
        Error::Invalid(refused) => refused.iter().any(|one| one.pointer.starts_with(&pointer)),
        _ => false,
    };
    hold(
        named,
        format_args!("the refusal does not name {field}: {error}"),
    )
}

/// The refusal is about this field.
fn names(error: &Error, field: &str) -> Outcome {
    let pointer = format!("/{field}");
    let named = match error {
        Error::Invalid(refused) => refused.iter().any(|refused| refused.pointer == pointer),
        _ => false,
    };
    hold(
        named,
        format_args!("the refusal does not name {field}: {error}"),
    )
}
