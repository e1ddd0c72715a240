//! What wakes a plugin, as far as it may read.

use super::*;

on_both_databases! {
    a_filter_wakes_for_records_that_match
    named_fields_wake_only_when_they_change
    a_field_that_whoever_caused_the_event_may_not_read_decides_nothing
    a_trigger_looks_at_no_field_that_the_manifest_does_not_read
    a_plugin_counts_and_deletes_within_its_grants
    a_grant_of_fields_shows_and_writes_no_others
    what_the_manifest_does_not_ask_for_is_forbidden
}

impl Theatre {
    /// Uploads and enables the plugin of this manifest, to which name and version are added.
    pub(super) async fn install_manifest(&self, script: &str, rest: &str) -> Plugin {
        let text = manifest(script, rest);
        let plugin = self.try_upload(self.world.admin, &text).await.unwrap();
        self.enable(self.world.admin, &plugin).await
    }

    async fn rename(&self, contact: RecordId, title: &str) {
        let permit = self.world.permit(self.world.admin, "contacts").await;
        let body = Map::from_iter([("title".to_owned(), json!(title))]);
        let records = self.world.crm.records();
        records.update(&permit, contact, None, body).await.unwrap();
    }
}

fn manifest(script: &str, rest: &str) -> String {
    format!("name = 'actor'\nversion = '1.0.0'\ndescription = '{script}'\n{rest}")
}

const READS: &str = "[[grants]]\nmodule = 'contacts'\nactions = ['read']\n";

async fn a_filter_wakes_for_records_that_match(world: World) {
    let theatre = Theatre::new(world);
    let rest = format!(
        "[[triggers]]\non = 'contact.created'\nfilter = {{ title = {{ contains = 'big' }} }}\n{READS}"
    );
    let plugin = theatre.install_manifest("read", &rest).await;
    theatre.contact("small").await;
    theatre.contact("a big one").await;
    theatre.dispatch().await;
    let runs = theatre.runs(&plugin).await;
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert!(runs[0].logs[0].message.contains("a big one"), "{runs:?}");
}

async fn a_field_that_whoever_caused_the_event_may_not_read_decides_nothing(world: World) {
    let theatre = Theatre::new(world);
    let rest = format!(
        "[[triggers]]\non = 'contact.created'\n\
         filter = {{ not = {{ title = {{ contains = 'big' }} }} }}\n{READS}"
    );
    let plugin = theatre.install_manifest("read", &rest).await;
    let untitled = crate::policy::PermissionInput {
        permission: "contacts.read".to_owned(),
        except: Some(vec!["title".to_owned()]),
        ..Default::default()
    };
    let role = NewRole {
        name: "untitled".to_owned(),
        permissions: vec!["contacts.create".into(), untitled],
        ..NewRole::default()
    };
    let world = &theatre.world;
    let permit = world.permit(world.admin, "roles").await;
    world.crm.roles().create(&permit, role).await.unwrap();
    let blind = world.new_member(&["untitled"]).await;
    for title in ["a big one", "a small one"] {
        let permit = world.permit(blind, "contacts").await;
        let body = Map::from_iter([("title".to_owned(), json!(title))]);
        world.crm.records().create(&permit, body).await.unwrap();
        theatre.contact(title).await;
    }
    theatre.dispatch().await;
    let runs = theatre.runs(&plugin).await;
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert!(runs[0].logs[0].message.contains("a small one"), "{runs:?}");
}

async fn named_fields_wake_only_when_they_change(world: World) {
    let theatre = Theatre::new(world);
    let rest = format!("[[triggers]]\non = 'contact.updated'\nfields = ['title']\n{READS}");
    let plugin = theatre.install_manifest("show", &rest).await;
    let contact = theatre.contact("one").await;
    let permit = theatre.world.permit(theatre.world.admin, "contacts").await;
    let body = Map::from_iter([("owner_id".to_owned(), json!(null))]);
    let records = theatre.world.crm.records();
    records.update(&permit, contact, None, body).await.unwrap();
    theatre.dispatch().await;
    assert!(theatre.runs(&plugin).await.is_empty());
    theatre.rename(contact, "two").await;
    theatre.dispatch().await;
    let runs = theatre.runs(&plugin).await;
    assert_eq!(runs.len(), 1, "{runs:?}");
    let seen = &runs[0].logs[0].message;
    assert!(seen.contains("one") && seen.contains("two"), "{seen}");
}

async fn a_trigger_looks_at_no_field_that_the_manifest_does_not_read(world: World) {
    let theatre = Theatre::new(world);
    let on = "[[triggers]]\non = 'contact.updated'\n";
    for (rest, part) in [
        (format!("{on}fields = ['title']\n"), "takes a grant to read"),
        (
            format!("{on}filter = {{ title = 'x' }}\n"),
            "takes a grant to read",
        ),
        (
            format!("{on}fields = ['colour']\n{READS}"),
            "no field colour",
        ),
        (
            format!("{on}filter = {{ colour = 'x' }}\n{READS}"),
            "does not hold",
        ),
        (
            format!("{on}filter = {{ title = 'x' }}\n{READS}fields = ['owner_id']\n"),
            "leaves out",
        ),
        (
            format!("{on}{READS}fields = ['colour']\n"),
            "no field colour",
        ),
    ] {
        let text = manifest("read", &rest);
        match theatre.try_upload(theatre.world.admin, &text).await {
            Err(Error::Invalid(fields)) => {
                assert!(fields[0].message.contains(part), "{rest}: {fields:?}");
            }
            other => panic!("{rest}: {other:?}"),
        }
    }
}

async fn a_plugin_counts_and_deletes_within_its_grants(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("count", "contacts.read").await;
    let run = theatre.run_of_contact(&plugin).await;
    assert_eq!(
        run.logs[0].message,
        r#"{"data":[{"group":{},"metrics":{"count":1}}],"truncated":false}"#
    );
    for (script, grants, error) in [
        (
            "count all",
            "contacts.read",
            Some("the input is not valid: metrics"),
        ),
        (
            "count",
            "contacts.update",
            Some("you lack the permission contacts.read"),
        ),
        (
            "write old",
            "contacts.update",
            Some("the record has changed"),
        ),
        (
            "delete",
            "contacts.read",
            Some("you lack the permission contacts.delete"),
        ),
        ("delete", "contacts.delete", None),
    ] {
        let plugin = theatre.install(script, grants).await;
        theatre.contact("one").await;
        theatre.dispatch().await;
        let run = theatre.runs(&plugin).await.remove(0);
        let found = run.error.as_deref();
        match error {
            Some(error) => assert!(found.unwrap().starts_with(error), "{script}: {run:?}"),
            None => assert_eq!(found, None, "{script}"),
        }
    }
}

async fn a_grant_of_fields_shows_and_writes_no_others(world: World) {
    let theatre = Theatre::new(world);
    let limited = "triggers = ['contact.created']\n[[grants]]\nmodule = 'contacts'\n\
                   actions = ['read', 'update']\nfields = ['owner_id']\n";
    let looks = theatre.install_manifest("look", limited).await;
    let run = theatre.run_of_contact(&looks).await;
    let seen = &run.logs[0].message;
    assert!(
        seen.contains("owner_id") && !seen.contains("title"),
        "{seen}"
    );
    let writes = theatre.install_manifest("write", limited).await;
    let contact = theatre.contact("two").await;
    theatre.dispatch().await;
    let run = theatre.runs(&writes).await.remove(0);
    assert_eq!(run.outcome, Outcome::Failed, "{run:?}");
    assert_eq!(theatre.title(contact).await, json!("two"));
}

async fn what_the_manifest_does_not_ask_for_is_forbidden(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install("everything else", "").await;
    let run = theatre.run_of_contact(&plugin).await;
    let refused: Vec<String> = serde_json::from_str(&run.logs[0].message).unwrap();
    assert_eq!(
        refused,
        [
            "events.emit",
            "kv.get",
            "kv.set",
            "kv.delete",
            "kv.keys",
            "http.fetch",
            "secrets.get",
            "jobs.schedule"
        ]
    );
}
