//! The isolation of tenants, attacked through every door of every registered module.
//!
//! ```no_run
//! # async fn test(crm: crm_core::Crm) -> Result<(), Box<dyn std::error::Error>> {
//! crm_core::testing::isolation_suite(&crm).await?;
//! # Ok(()) }
//! ```
//!
//! Nothing that one tenant has or does may change what another one sees. So the suite compares: it
//! makes a tenant with records of all modules, members, roles, groups, keys and all else, and plays
//! every door in it while it is alone. Then it plays the same beside a twin, a second tenant with
//! rows of the same ids and the same unique values, which has more of everything, other contents,
//! and wider rights for the same people. What is answered must be equal to the letter, also about
//! ids that the twin alone has, which before were nobody's; and afterwards every row of the twin
//! must stand as it did.
//!
//! That the attacks are strong enough is proven in this crate's tests: each tenant condition of
//! each statement is taken out in turn, and the suite must notice.

mod cast;
mod events;
mod identity;
mod library;
mod plugin;
#[cfg(test)]
mod proof;
mod records;
mod scenery;
mod stage;
mod stock;
mod transcript;
mod world;

use std::fmt;

use crate::crm::Crm;
use crate::error::Error;

use world::World;

/// Attacks the isolation of tenants through every door of every module, in new tenants of this
/// database, which are removed again. For a handle that was not [started](Crm::start): background
/// work would change rows meanwhile. On PostgreSQL the user must be allowed to set
/// `session_replication_role`, as superusers are.
///
/// # Errors
/// [`IsolationBroken`] with every leak, or with what kept the suite from being played.
pub async fn isolation_suite(crm: &Crm) -> Result<(), IsolationBroken> {
    let world = World::prepare(crm).await?;
    let mut leaks = Vec::new();
    for chapter in world.chapters() {
        leaks.extend(world.play(&chapter).await?);
    }
    match leaks.is_empty() {
        true => Ok(()),
        false => Err(IsolationBroken::Leaks(leaks)),
    }
}

/// The isolation of tenants does not hold, or could not be tried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IsolationBroken {
    /// A tenant sees or changes what is another's.
    #[error("{}", listed(.0))]
    Leaks(Vec<Leak>),
    /// The suite could not make its tenants; for a module, `module_suite` says why.
    #[error("the isolation of tenants was not tried: {what}: {source}")]
    NotTried {
        /// What it could not do.
        what: String,
        /// Why.
        source: Error,
    },
}

/// What one tenant saw or changed of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// The door, such as `reads` or `bulk changes`.
    pub door: &'static str,
    /// The module; none for what belongs to the library.
    pub module: Option<String>,
    /// What was asked, and how the answers differ; or which rows changed.
    pub what: String,
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.module {
            Some(module) => write!(f, "{} of {module}: {}", self.door, self.what),
            None => write!(f, "{}: {}", self.door, self.what),
        }
    }
}

fn listed(leaks: &[Leak]) -> String {
    let lines: Vec<String> = leaks.iter().map(ToString::to_string).collect();
    format!("one tenant reaches another:\n{}", lines.join("\n"))
}

/// The attempt at what the suite needs.
fn need<T>(what: impl fmt::Display, outcome: Result<T, Error>) -> Result<T, IsolationBroken> {
    outcome.map_err(|source| IsolationBroken::NotTried {
        what: what.to_string(),
        source,
    })
}
