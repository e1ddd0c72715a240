//! Who may do what: the model in Casbin's terms, and the compiled form that answers requests.
//!
//! Casbin's model ([`MODEL`]) defines what a rule means; [`CompiledPolicy`] answers the same
//! questions by bit tests, and a differential property test holds the two equal. Nothing is
//! allowed that no rule allows, and no decision looks at the name of a role.

mod cache;
mod catalogue;
mod circle;
mod compile;
mod fields;
mod follow;
mod gain;
mod grants;
mod model;
mod permission;
mod rank;
mod rows;
mod source;
mod stored;

pub(crate) use cache::{PolicyCache, Rights};
pub(crate) use catalogue::ACTIONS;
pub use catalogue::{Catalogue, Operation};
pub(crate) use circle::{Circle, still};
pub(crate) use compile::line;
pub use compile::{CompiledPolicy, RoleNode, Rule, TenantRules};
pub use fields::Fields;
pub(crate) use follow::follow;
pub(crate) use gain::{Holdings, Sharing, check_gained};
pub use grants::Grants;
pub use model::{MODEL, Oracle, Subject};
pub use permission::{Effect, InvalidPermission, Permission, PermissionInput, RowScope};
pub(crate) use rank::{check_rank, keep_a_way_back};
pub use rows::{RowRule, Rows};
pub(crate) use source::rule_of;
pub(crate) use stored::{
    bump_epoch, check_gain, check_held, read_permission, rules, tell_of_sessions,
};

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
