//! The doors of people: members, invitations, service accounts, sessions.

use secrecy::SecretString;

use crate::error::Result;
use crate::id::FamilyId;
use crate::identity::{NewInvitation, NewServiceAccount};
use crate::scope::{Create, Delete, Read, Update};
use crate::testing::isolation::stage::{Stage, request};
use crate::testing::isolation::stock::log_in;

pub(super) async fn members(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let (read, update) = (
        scope.permit::<Read>("members")?,
        scope.permit::<Update>("members")?,
    );
    let delete = scope.permit::<Delete>("members")?;
    let members = it.crm.members();
    it.say("list", members.list(&read, None, 100).await);
    it.say(
        "list behind",
        members.list(&read, Some(it.cast.ann), 1).await,
    );
    for user in [it.cast.bob, it.cast.carl] {
        it.say("get", members.get(&read, user).await);
        it.say(
            "set roles",
            members
                .set_roles(&update, user, ["viewer".to_owned()])
                .await,
        );
        let foreign = [it.cast.role.other.to_string()];
        it.say(
            "set a foreign role",
            members.set_roles(&update, user, foreign).await,
        );
        it.say("unlock", unlocked(it, user).await);
    }
    // The last admin stays, whoever is admin elsewhere.
    it.say(
        "take the last admin's role",
        members
            .set_roles(&update, it.cast.ann, ["viewer".to_owned()])
            .await,
    );
    it.say(
        "remove the last admin",
        members.remove(&delete, it.cast.ann).await,
    );
    for user in [it.cast.bob, it.cast.carl] {
        it.say("remove", members.remove(&delete, user).await);
    }
    it.say("list", members.list(&read, None, 100).await);
    Ok(())
}

/// Whether it is refused: members of several tenants are unlocked by the operator alone.
async fn unlocked(it: &Stage, user: crate::id::UserId) -> Result<()> {
    if user == it.cast.carl {
        let permit = it.operator().await?.permit::<Update>("members")?;
        return it.crm.accounts().unlock(&permit, user).await;
    }
    Ok(())
}

pub(super) async fn invitations(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let (create, read) = (
        scope.permit::<Create>("members")?,
        scope.permit::<Read>("members")?,
    );
    let delete = scope.permit::<Delete>("members")?;
    let invitations = it.crm.invitations();
    it.say("list", invitations.list(&read).await);
    for name in ["second", "third"] {
        let input = NewInvitation {
            email: format!("isolation.{name}@example.com"),
            name: name.into(),
            roles: vec!["viewer".into()],
        };
        it.say("invite", invitations.create(&create, input).await);
    }
    let input = NewInvitation {
        email: it.cast.carl_email.clone(),
        name: "carl".into(),
        roles: vec!["viewer".into()],
    };
    it.say("invite carl", invitations.create(&create, input).await);
    let input = NewInvitation {
        email: "isolation.fourth@example.com".into(),
        name: "fourth".into(),
        roles: vec![it.cast.role.other.to_string()],
    };
    it.say(
        "invite to a foreign role",
        invitations.create(&create, input).await,
    );
    for id in it.cast.invitation.each() {
        it.say("revoke", invitations.revoke(&delete, id).await);
    }
    it.say("list", invitations.list(&read).await);
    Ok(())
}

pub(super) async fn service_accounts(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let create = scope.permit::<Create>("members")?;
    for role in ["viewer".to_owned(), it.cast.role.other.to_string()] {
        let input = NewServiceAccount {
            name: "new".into(),
            roles: vec![role],
        };
        it.say(
            "create",
            it.crm
                .accounts()
                .create_service_account(&create, input)
                .await,
        );
    }
    let (read, delete) = (
        scope.permit::<Read>("members")?,
        scope.permit::<Delete>("members")?,
    );
    for id in it.cast.service.each() {
        it.say("get", it.crm.members().get(&read, id).await);
        it.say("remove", it.crm.members().remove(&delete, id).await);
    }
    Ok(())
}

pub(super) async fn sessions(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let (read, update) = (
        scope.permit::<Read>("members")?,
        scope.permit::<Update>("members")?,
    );
    it.say(
        "log in",
        log_in(&it.crm, it.tenant, it.cast.bob).await.map(drop),
    );
    let sessions = it.crm.sessions();
    for user in [it.cast.bob, it.cast.carl] {
        let open = sessions.list_of(&read, user).await;
        let first = open.as_ref().ok().and_then(|open| Some(open.first()?.id));
        it.say(
            "list",
            open.map(|open| {
                open.into_iter()
                    .map(|one| (one.id, one.user_agent))
                    .collect::<Vec<_>>()
            }),
        );
        let id = first.unwrap_or(FamilyId(it.cast.carl.0));
        it.say("end", sessions.end_of(&update, user, id).await);
        it.say("end all", sessions.end_all_of(&update, user).await);
        let open = sessions.list_of(&read, user).await;
        it.say("list", open.map(|open| open.len()));
    }
    let wrong = SecretString::from("not a token");
    it.say(
        "refresh",
        it.crm.accounts().refresh(wrong, request()).await.map(drop),
    );
    Ok(())
}
