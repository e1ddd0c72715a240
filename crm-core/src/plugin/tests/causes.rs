//! Whose rights bound a run that a user's act caused.

use super::*;
use crate::identity::Impersonator;
use crate::scope::Create;

on_both_databases! {
    a_run_does_no_more_than_the_user_who_caused_it
    rights_on_own_rows_are_those_of_the_user_who_caused_it
    a_chain_keeps_the_rights_of_the_user_who_began_it
    who_acts_in_anothers_name_stays_named_and_bounds_the_run
    a_user_who_is_gone_causes_nothing_more
}

impl Theatre {
    /// A new contact, as somebody makes it.
    async fn contact_by(&self, permit: &Permit<Create>, title: &str) -> RecordId {
        let owner = permit.scope().actor().user();
        let mut body = Map::from_iter([("title".to_owned(), json!(title))]);
        body.insert("owner_id".to_owned(), json!(owner));
        let records = self.world.crm.records();
        records.create(permit, body).await.unwrap().id
    }
}

async fn a_run_does_no_more_than_the_user_who_caused_it(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("write", "contacts.update").await;
    let maker = theatre.member_with(&["contacts.create"]).await;
    let permit = theatre.world.permit(maker, "contacts").await;
    let contact = theatre.contact_by(&permit, "one").await;
    theatre.dispatch().await;
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(
        run.error.as_deref(),
        Some("you lack the permission contacts.update")
    );
    assert_eq!(theatre.title(contact).await, json!("one"));
}

async fn rights_on_own_rows_are_those_of_the_user_who_caused_it(world: World) {
    let theatre = Theatre::new(world);
    theatre.install("write", "contacts.update").await;
    let text = component("list", "contacts.read", "contact.created").replace("actor", "lists");
    let lists = theatre
        .try_upload(theatre.world.admin, &text)
        .await
        .unwrap();
    theatre.enable(theatre.world.admin, &lists).await;
    theatre.contact("one").await;
    theatre.dispatch().await;
    let owner = theatre
        .member_with(&[
            "contacts.create",
            "contacts.read:own",
            "contacts.update:own",
        ])
        .await;
    let permit = theatre.world.permit(owner, "contacts").await;
    let contact = theatre.contact_by(&permit, "one").await;
    theatre.dispatch().await;
    assert_eq!(theatre.title(contact).await, json!("changed"));
    // The administrator's own contact is called "changed" by now, and so is the owner's one.
    let foreign = theatre.contact("one").await;
    let run = theatre.runs(&lists).await.remove(0);
    assert!(
        !run.logs[0].message.contains(&foreign.to_string()),
        "{run:?}"
    );
}

async fn a_chain_keeps_the_rights_of_the_user_who_began_it(world: World) {
    let theatre = Theatre::new(world);
    theatre.install("write", "contacts.update").await;
    let text = component("create", "deals.create", "contact.updated").replace("actor", "second");
    let second = theatre
        .try_upload(theatre.world.admin, &text)
        .await
        .unwrap();
    theatre.enable(theatre.world.admin, &second).await;
    let user = theatre
        .member_with(&["contacts.create", "contacts.update"])
        .await;
    let permit = theatre.world.permit(user, "contacts").await;
    theatre.contact_by(&permit, "one").await;
    theatre.dispatch().await;
    let run = theatre.runs(&second).await.remove(0);
    assert_eq!(
        run.error.as_deref(),
        Some("you lack the permission deals.create")
    );
    theatre.contact("one").await;
    theatre.dispatch().await;
    let run = theatre.runs(&second).await.remove(0);
    assert_eq!(run.outcome, Outcome::Succeeded, "{run:?}");
}

async fn who_acts_in_anothers_name_stays_named_and_bounds_the_run(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("write", "contacts.update").await;
    let world = &theatre.world;
    let helper = theatre
        .member_with(&["impersonations.*", "contacts.create", "contacts.update"])
        .await;
    let by = |user| Impersonator {
        user,
        home: world.tenant,
    };
    let scope = world.scope(world.admin).await.impersonated(by(helper));
    let contact = theatre
        .contact_by(&scope.permit("contacts").unwrap(), "one")
        .await;
    theatre.dispatch().await;
    assert_eq!(theatre.title(contact).await, json!("changed"));
    let sql = Sql::new("SELECT impersonator FROM audit_log WHERE actor = $1 AND action = $2")
        .bind(format!("plugin:{}", plugin.id), ColumnType::Text)
        .bind("contacts.update", ColumnType::Text)
        .returns(&[ColumnType::Text]);
    let mut row = world
        .crm
        .core
        .db
        .fetch_optional(sql)
        .await
        .unwrap()
        .unwrap();
    let named: String = row.text().unwrap();
    assert_eq!(named, format!("user:{helper}"));

    let weak = theatre
        .member_with(&["impersonations.*", "contacts.create"])
        .await;
    let scope = world.scope(world.admin).await.impersonated(by(weak));
    let contact = theatre
        .contact_by(&scope.permit("contacts").unwrap(), "two")
        .await;
    theatre.dispatch().await;
    assert_eq!(theatre.title(contact).await, json!("two"));
}

async fn a_user_who_is_gone_causes_nothing_more(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("write", "contacts.update").await;
    let user = theatre.member_with(&["contacts.*"]).await;
    let permit = theatre.world.permit(user, "contacts").await;
    let contact = theatre.contact_by(&permit, "one").await;
    let members = theatre.world.permit(theatre.world.admin, "members").await;
    theatre
        .world
        .crm
        .members()
        .remove(&members, user)
        .await
        .unwrap();
    theatre.dispatch().await;
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(run.outcome, Outcome::Refused);
    assert!(run.error.unwrap().contains(&user.to_string()));
    assert_eq!(theatre.title(contact).await, json!("one"));
}
