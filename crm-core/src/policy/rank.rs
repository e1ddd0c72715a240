//! Whom somebody may act on: nobody takes rights away that they do not hold, nor changes the
//! account or the membership of a member who holds such rights. API keys, invitations and the rows
//! that a group opens to its members are nobody's person: whoever may end them, may.
//!
//! Rank needs no numbers: whoever may do more stands above. Rights are compared as they are at this
//! instant, those until some later one too, so that a deputy does what they stand in for.

use std::collections::BTreeSet;

use super::compile::{CompiledPolicy, Rule};
use super::gain::Holdings;
use super::grants::Grants;
use super::permission::Effect;
use super::stored::rules;
use crate::db::Tx;
use crate::error::{Error, Refusal, Result};
use crate::id::UserId;
use crate::member;
use crate::scope::{Actor, Scope};

/// Refuses to change the account or the membership of another member who may do anything that the
/// actor may not.
///
/// # Errors
/// [`Error::Refused`](crate::Error::Refused) `beyond_your_rights`, naming the first permissions that the
/// actor lacks.
pub(crate) async fn check_rank(tx: &mut Tx<'_>, scope: &Scope, user: UserId) -> Result<()> {
    if is_oneself(scope, user) {
        return Ok(());
    }
    let tenant = scope.tenant();
    let holdings = Holdings::read(tx, tenant, &BTreeSet::from([user])).await?;
    let roles = holdings.at(user, Some(scope.clock().now()));
    let compiled = CompiledPolicy::new(scope.catalogue(), &rules(tx, tenant).await?);
    check_within(scope, &compiled.grants(&roles))
}

/// What somebody must be able to do, so that no mistake about roles stays for good.
const REPAIRS: [(&str, &str); 3] = [
    ("roles", "update"),
    ("groups", "update"),
    ("members", "update"),
];

/// Refuses denials that leave no admin who could take them back. An operator, who can, may settle
/// them.
///
/// # Errors
/// [`Error::Conflict`] `last_admin`.
pub(crate) async fn keep_a_way_back(tx: &mut Tx<'_>, scope: &Scope) -> Result<()> {
    let (tenant, catalogue) = (scope.tenant(), scope.catalogue());
    let rules = rules(tx, tenant).await?;
    let denies = |rule: &Rule| rule.permission.effect() == Effect::Deny;
    let operator = matches!(scope.actor(), Actor::Operator | Actor::PlatformOperator(_));
    if operator || !rules.rules.iter().any(denies) {
        return Ok(());
    }
    let admins = member::admins(tx, tenant).await?;
    let holdings = Holdings::read(tx, tenant, &admins).await?;
    let compiled = CompiledPolicy::new(catalogue, &rules);
    let repairs = Grants::of(catalogue, REPAIRS);
    let can_repair = |user: &UserId| {
        let grants = compiled.grants(&holdings.at(*user, None));
        repairs.beyond(&grants).named(catalogue).is_none()
    };
    match admins.is_empty() || admins.iter().any(can_repair) {
        true => Ok(()),
        false => Err(Error::conflict(
            "last_admin",
            "this would deny the tenant's last admin what takes it back: roles.update, groups.update or \
             members.update",
        )),
    }
}

/// Whether the user acts on themselves; a key that speaks as an account may have less than the
/// account.
pub(super) fn is_oneself(scope: &Scope, user: UserId) -> bool {
    scope.is_person() && scope.actor().user() == Some(user)
}

/// Refuses to touch rights that the actor does not hold.
///
/// # Errors
/// As [`check_rank`].
pub(super) fn check_within(scope: &Scope, rights: &Grants) -> Result<()> {
    let Some(lacking) = rights.beyond(scope.grants()).named(scope.catalogue()) else {
        return Ok(());
    };
    let message = format!(
        "this concerns somebody who holds rights that you do not: {lacking}; ask a member who holds as \
         much"
    );
    Err(Refusal::forbidden("beyond_your_rights", message).into())
}
