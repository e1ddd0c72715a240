//! The doors of what the library keeps for a tenant: members, roles, groups, keys, and all else.

mod audit;
mod limits;
mod people;
mod rights;
mod tenant;

use futures::FutureExt;

use super::events;
use super::stage::Play;

/// Doors that the twin is made ready for.
pub(super) const INVITATIONS: &str = "invitations";
pub(super) const WAITING: &str = "the audit log while it waits";
pub(super) const LIMITS: &str = "limits";
pub(super) const PLUGINS: &str = "plugins";

/// The doors by name, and the tables in which they touch all tenants.
pub(super) const CHAPTERS: &[(&str, Play, &[&str])] = &[
    ("members", |it| people::members(it).boxed(), &[]),
    ("roles", |it| rights::roles(it).boxed(), &[]),
    ("groups", |it| rights::groups(it).boxed(), &[]),
    ("API keys", |it| rights::keys(it).boxed(), &[]),
    (INVITATIONS, |it| people::invitations(it).boxed(), &[]),
    (
        "service accounts",
        |it| people::service_accounts(it).boxed(),
        &[],
    ),
    ("sessions", |it| people::sessions(it).boxed(), &[]),
    ("rights", |it| rights::rights(it).boxed(), &[]),
    ("custom fields", |it| tenant::fields(it).boxed(), &[]),
    ("modules of tenants", |it| tenant::modules(it).boxed(), &[]),
    ("jobs", |it| tenant::jobs(it).boxed(), &[]),
    ("the audit log", |it| audit::audit(it).boxed(), &[]),
    (WAITING, |it| audit::waiting(it).boxed(), &[]),
    (
        "the retention of the audit log",
        |it| audit::retention(it).boxed(),
        &[],
    ),
    (LIMITS, |it| limits::limits(it).boxed(), &[]),
    ("events", |it| events::events(it).boxed(), &["outbox"]),
    (PLUGINS, |it| events::administration(it).boxed(), &[]),
    (
        "the export of a tenant",
        |it| tenant::export(it).boxed(),
        &[],
    ),
    (
        "the erasure of a tenant",
        |it| tenant::erasure(it).boxed(),
        &[],
    ),
];
