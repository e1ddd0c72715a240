//! What a plugin may do, and because of whom.

use super::*;

on_both_databases! {
    a_plugin_has_no_more_rights_than_its_manifest_asks
    a_plugin_has_no_more_rights_than_whoever_enabled_it
    a_plugin_loses_the_rights_that_its_user_loses
    rights_on_own_rows_give_a_plugin_nothing
    a_plugin_reaches_no_field_beyond_those_of_its_user
    a_plugin_that_may_not_read_learns_nothing_by_writing
    a_plugin_reads_lists_and_creates_within_its_grants
}

async fn a_plugin_has_no_more_rights_than_its_manifest_asks(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("write", "contacts.read").await;
    let run = theatre.run_of_contact(&plugin).await;
    assert_eq!(run.outcome, Outcome::Failed);
    assert_eq!(
        run.error.as_deref(),
        Some("you lack the permission contacts.update")
    );
}

async fn a_plugin_has_no_more_rights_than_whoever_enabled_it(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.upload("write", "contacts.update").await;
    let reader = theatre.member_with(&["plugins.*", "contacts.read"]).await;
    assert_eq!(
        theatre.enable(reader, &plugin).await.installed_by,
        Some(reader)
    );
    let run = theatre.run_of_contact(&plugin).await;
    withdrawn(&run, "such as contacts.update");
}

/// The run was refused, and the reason names the user's missing permission.
fn withdrawn(run: &Run, part: &str) {
    assert_eq!(run.outcome, Outcome::Refused, "{run:?}");
    assert!(run.error.as_deref().unwrap().contains(part), "{run:?}");
}

async fn a_plugin_loses_the_rights_that_its_user_loses(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.upload("write", "contacts.update").await;
    let user = theatre.member_with(&["plugins.*", "contacts.*"]).await;
    theatre.enable(user, &plugin).await;
    let contact = theatre.contact("one").await;
    theatre.dispatch().await;
    assert_eq!(theatre.title(contact).await, json!("changed"));

    let (members, admin) = (theatre.world.crm.members(), theatre.world.admin);
    let permit = theatre.world.permit(admin, "members").await;
    members
        .set_roles(&permit, user, vec!["viewer".to_owned()])
        .await
        .unwrap();
    theatre.contact("two").await;
    theatre.dispatch().await;
    let run = theatre.runs(&plugin).await.remove(0);
    withdrawn(&run, "plugins.update");

    members
        .remove(&theatre.world.permit(admin, "members").await, user)
        .await
        .unwrap();
    theatre.contact("three").await;
    theatre.dispatch().await;
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(run.outcome, Outcome::Refused);
    assert!(run.error.unwrap().contains("no active member"));
}

async fn rights_on_own_rows_give_a_plugin_nothing(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.upload("read", "contacts.read").await;
    let user = theatre
        .member_with(&["plugins.*", "contacts.read:own"])
        .await;
    theatre.enable(user, &plugin).await;
    let run = theatre.run_of_contact(&plugin).await;
    withdrawn(&run, "such as contacts.read");
}

async fn a_plugin_reaches_no_field_beyond_those_of_its_user(world: World) {
    let theatre = Theatre::new(world);
    let untitled = |permission: &str| crate::policy::PermissionInput {
        permission: permission.to_owned(),
        except: Some(vec!["title".to_owned()]),
        ..Default::default()
    };
    let role = NewRole {
        name: "untitled".to_owned(),
        permissions: vec![
            "plugins.*".into(),
            untitled("contacts.read"),
            untitled("contacts.update"),
        ],
        ..NewRole::default()
    };
    let admin = theatre.world.admin;
    let permit = theatre.world.permit(admin, "roles").await;
    theatre
        .world
        .crm
        .roles()
        .create(&permit, role)
        .await
        .unwrap();
    let user = theatre.world.new_member(&["untitled"]).await;
    let looks = theatre.upload("look", "contacts.read").await;
    theatre.enable(user, &looks).await;
    let run = theatre.run_of_contact(&looks).await;
    let seen = &run.logs[0].message;
    assert!(seen.contains("owner_id") && !seen.contains("one"), "{seen}");

    let writes = theatre.upload("write", "contacts.update").await;
    theatre.enable(user, &writes).await;
    let contact = theatre.contact("two").await;
    theatre.dispatch().await;
    let runs = theatre.runs(&writes).await;
    assert_eq!(runs[0].outcome, Outcome::Failed, "{runs:?}");
    assert_eq!(theatre.title(contact).await, json!("two"));
}

async fn a_plugin_that_may_not_read_learns_nothing_by_writing(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("write nothing", "contacts.update").await;
    let run = theatre.run_of_contact(&plugin).await;
    assert_eq!(run.outcome, Outcome::Succeeded, "{run:?}");
    let shown: Map<String, serde_json::Value> = serde_json::from_str(&run.logs[0].message).unwrap();
    assert_eq!(shown.keys().collect::<Vec<_>>(), ["id", "version"]);
}

async fn a_plugin_reads_lists_and_creates_within_its_grants(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("list", "contacts.read").await;
    theatre.contact("other").await;
    theatre.dispatch().await;
    theatre.contact("one").await;
    theatre.dispatch().await;
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(run.logs[0].message.lines().count(), 1, "{run:?}");
    assert!(run.logs[0].message.contains(r#""title":"one""#), "{run:?}");

    for (script, grants, error) in [
        ("create", "deals.create", None),
        (
            "create",
            "deals.read",
            Some("you lack the permission deals.create"),
        ),
        (
            "write nonsense",
            "contacts.update",
            Some("the input is not valid"),
        ),
        (
            "members",
            "contacts.read",
            Some("you lack the permission members.read"),
        ),
    ] {
        let plugin = theatre.install(script, grants).await;
        theatre.contact("one").await;
        theatre.dispatch().await;
        let run = theatre.runs(&plugin).await.remove(0);
        assert!(
            match (&run.error, error) {
                (Some(found), Some(wanted)) => found.starts_with(wanted),
                (found, wanted) => found.is_none() && wanted.is_none(),
            },
            "{script}: {run:?}"
        );
    }
}
