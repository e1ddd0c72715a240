//! Keeps contacts apart: before one is made or changed, the blanks in its name are tidied, and a
//! change that gives it the name and company of another contact is refused. Whoever asks for
//! `twins` of contacts that are there already is told.

use crm_plugin_sdk::records::Query;
use crm_plugin_sdk::{
    Action, Change, ChangeKind, Result, Value, Verdict, fields, json, log, plugin, records, verdict,
};
use serde::Deserialize;

#[derive(Default, PartialEq, Deserialize)]
#[serde(default)]
struct Contact {
    id: Option<String>,
    name: String,
    company: Option<String>,
}

fn guard(change: Change) -> Result<Verdict> {
    if change.kind == ChangeKind::Delete {
        return Ok(verdict::accept());
    }
    let contact: Contact = fields::read(change.after.as_deref().unwrap_or_default())?;
    let before: Contact = fields::read(change.before.as_deref().unwrap_or_default())?;
    if (&contact.name, &contact.company) == (&before.name, &before.company) {
        return Ok(verdict::accept());
    }
    let tidy = contact.name.split_whitespace().collect::<Vec<_>>().join(" ");
    let this = change.record_id.as_deref();
    if let Some(other) = same(&change.module, &tidy, contact.company.as_deref(), this)? {
        log::info(format!("{tidy} is {}", other.id.unwrap_or_default()));
        let message = format!("There is a contact {tidy} of this company already.");
        return Ok(verdict::reject_field("name", "duplicate", message));
    }
    if tidy == contact.name {
        return Ok(verdict::accept());
    }
    Ok(verdict::amend(&json!({ "name": tidy }))?)
}

/// Another contact than this one with the same name and company.
fn same(
    module: &str,
    name: &str,
    company: Option<&str>,
    this: Option<&str>,
) -> Result<Option<Contact>> {
    let filter = json!({ "name": { "eq": name }, "company": { "eq": company } });
    let query = Query {
        filter: Some(filter),
        limit: 2,
        ..Query::default()
    };
    let page = records::list::<Contact>(module, &query)?;
    let mut others = page.records.into_iter();
    Ok(others.find(|other| other.id.as_deref() != this))
}

/// Another contact with the same name and company, for each that has one.
fn twins(action: Action) -> Result<Option<Value>> {
    let module = action.module.as_deref().unwrap_or("contacts");
    let mut twins = Vec::new();
    for id in &action.records {
        let contact: Contact = records::get(module, id)?;
        if contact.name.is_empty() {
            return Err(format!("the contact {id} has no name to compare").into());
        }
        if let Some(other) = same(module, &contact.name, contact.company.as_deref(), Some(id))? {
            twins.push(json!({ "contact": id, "twin": other.id }));
        }
    }
    Ok(Some(json!(twins)))
}

plugin!(before = guard, run = twins);
