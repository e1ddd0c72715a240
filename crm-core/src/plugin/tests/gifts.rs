//! What a plugin has beside records: a store of its own, secrets, events, the way out.

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::egress::tests::receiver;
use crate::egress::{Egress, EgressBuilder};

on_both_databases! {
    a_plugin_keeps_values_of_its_own
    a_secret_is_given_to_the_plugin_and_shown_to_nobody
    a_secret_stays_hidden_from_a_version_on_that_does_not_ask_for_it
    a_plugin_tells_and_others_hear
    events_of_its_own_are_those_of_its_manifest
    requests_go_to_the_hosts_of_the_manifest_only
    what_is_open_to_others_inside_is_not_open_to_plugins
    an_answer_from_outside_is_kept_and_replayed_without_asking_again
}

const ON: &str = "triggers = ['contact.created']\n";

async fn last(theatre: &Theatre, plugin: &Plugin) -> Run {
    theatre.contact("one").await;
    theatre.dispatch().await;
    theatre.runs(plugin).await.remove(0)
}

async fn a_plugin_keeps_values_of_its_own(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre
        .install_manifest("keep", &format!("kv = true\n{ON}"))
        .await;
    let run = last(&theatre, &plugin).await;
    let value = format!("Some({:?})", b"a/1".to_vec());
    let told = format!(r#"None {value} ["a/1", "a/2"] ["a/2"] [true, false] true"#);
    assert_eq!(run.logs[0].message, told);
    let again = last(&theatre, &plugin).await;
    assert!(
        again.logs[0].message.starts_with(&value),
        "it lasts: {again:?}"
    );
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let replay = theatre
        .plugins
        .replay(&permit, plugin.id, run.id)
        .await
        .unwrap();
    assert!(replay.identical, "{replay:?}");

    let much = theatre
        .install_manifest("keep much", &format!("kv = true\n{ON}"))
        .await;
    let run = last(&theatre, &much).await;
    assert!(run.error.unwrap().contains("at most 65536 bytes"));
    let delete = theatre.world.permit(theatre.world.admin, OBJECT).await;
    theatre.plugins.delete(&delete, plugin.id).await.unwrap();
    let sql = Sql::new("SELECT 1 FROM plugin_kv");
    assert!(
        theatre
            .world
            .crm
            .core
            .db
            .fetch_all(sql)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn a_secret_is_given_to_the_plugin_and_shown_to_nobody(world: World) {
    let theatre = Theatre::new(world);
    let rest = format!("kv = true\nsecrets = ['token']\n{ON}");
    let plugin = theatre.install_manifest("confide", &rest).await;
    let run = last(&theatre, &plugin).await;
    assert_eq!(
        run.error.as_deref(),
        Some("there is no such resource"),
        "not set"
    );
    let update = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let secret = "a planted secret".to_owned().into();
    let set = theatre
        .plugins
        .set_secret(&update, plugin.id, "token", &secret)
        .await;
    assert_eq!(set.unwrap().name, "token");
    let run = last(&theatre, &plugin).await;
    assert_eq!(run.logs[0].message, "it is [secret:token]");
    let replay = theatre
        .plugins
        .replay(&update, plugin.id, run.id)
        .await
        .unwrap();
    assert!(replay.identical, "{replay:?}");

    let sql = Sql::new("SELECT input, transcript FROM plugin_run_details")
        .returns(&[ColumnType::Bytes, ColumnType::Bytes]);
    for mut row in theatre.world.crm.core.db.fetch_all(sql).await.unwrap() {
        let (input, transcript): (Vec<u8>, Vec<u8>) = (row.bytes().unwrap(), row.bytes().unwrap());
        for kept in [input, transcript] {
            let kept = String::from_utf8(kept).unwrap();
            assert!(!kept.contains("planted"), "{kept}");
            // Base64 of the secret.
            assert!(!kept.contains("YSBwbGFudGVk"), "{kept}");
        }
    }
    let read = theatre.world.permit(theatre.world.admin, OBJECT).await;
    assert_eq!(
        theatre
            .plugins
            .secrets(&read, plugin.id)
            .await
            .unwrap()
            .len(),
        1
    );
    let name = theatre
        .plugins
        .set_secret(&update, plugin.id, "No name", &secret)
        .await;
    assert_eq!(refusal(name), "validation_failed");
    let empty = String::new().into();
    let nothing = theatre
        .plugins
        .set_secret(&update, plugin.id, "token", &empty)
        .await;
    assert_eq!(refusal(nothing), "validation_failed");
    theatre
        .plugins
        .delete_secret(&update, plugin.id, "token")
        .await
        .unwrap();
    let again = theatre
        .plugins
        .delete_secret(&update, plugin.id, "token")
        .await;
    assert_eq!(refusal(again), "not_found");
}

async fn a_secret_stays_hidden_from_a_version_on_that_does_not_ask_for_it(world: World) {
    let theatre = Theatre::new(world);
    let rest = format!("kv = true\nsecrets = ['token']\n{ON}");
    let plugin = theatre.install_manifest("confide", &rest).await;
    let update = theatre.update().await;
    let secret = "a planted secret".to_owned().into();
    let set = theatre
        .plugins
        .set_secret(&update, plugin.id, "token", &secret);
    set.await.unwrap();
    last(&theatre, &plugin).await;
    let plugin = theatre
        .install_manifest("recall", &format!("kv = true\n{ON}"))
        .await;
    let run = last(&theatre, &plugin).await;
    assert_eq!(run.sha256, Some(plugin.sha256));
    assert_eq!(run.logs[0].message, "[secret:token]");
    let read = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let story = theatre.plugins.run_story(&read, plugin.id, run.id).await;
    let story = serde_json::to_string(&story.unwrap().unwrap()).unwrap();
    assert!(!story.contains("planted"), "{story}");
    // Base64 of the secret.
    assert!(!story.contains("YSBwbGFudGVk"), "{story}");
}

impl Theatre {
    /// A plugin that tells of each new contact, and another one that hears it and has no grants.
    pub(super) async fn teller_and_listener(&self) -> (Plugin, Plugin) {
        let teller = format!("emits = ['told']\n{ON}");
        let teller = self.install_manifest("tell", &teller).await;
        let text = "name = 'listener'\nversion = '1.0.0'\ndescription = 'hear'\ntriggers = ['actor.told']\n";
        let listener = self.try_upload(self.world.admin, text).await.unwrap();
        self.enable(self.world.admin, &listener).await;
        (teller, listener)
    }
}

async fn a_plugin_tells_and_others_hear(world: World) {
    let theatre = Theatre::new(world);
    let (teller, listener) = theatre.teller_and_listener().await;
    let contact = theatre.contact("one").await;
    theatre.dispatch().await;
    let run = theatre.runs(&teller).await.remove(0);
    assert_eq!(run.outcome, Outcome::Succeeded, "{run:?}");
    let heard = theatre.runs(&listener).await.remove(0);
    let told = format!("actor.told actor Some(\"{{\\\"about\\\":\\\"{contact}\\\"}}\")");
    assert_eq!(heard.logs[0].message, told);
    assert_eq!(heard.trigger, "actor.told");
}

async fn events_of_its_own_are_those_of_its_manifest(world: World) {
    let theatre = Theatre::new(world);
    for (script, error) in [
        ("tell other", "you lack the permission events.other"),
        ("tell list", "the input is not valid: data"),
    ] {
        let rest = format!("emits = ['told']\n{ON}");
        let plugin = theatre.install_manifest(script, &rest).await;
        let run = last(&theatre, &plugin).await;
        assert!(run.error.as_deref().unwrap().starts_with(error), "{run:?}");
    }
}

async fn requests_go_to_the_hosts_of_the_manifest_only(world: World) {
    let theatre = Theatre::new(world);
    for (hosts, error) in [
        (
            "other.example.com",
            "you lack the permission http.localhost",
        ),
        ("localhost:8443", "you lack the permission http.localhost"),
        // No way out to what is not public, whoever granted it.
        ("localhost", "the input is not valid: url"),
    ] {
        let rest = format!("hosts = ['{hosts}']\n{ON}");
        let plugin = theatre.install_manifest("send", &rest).await;
        let run = last(&theatre, &plugin).await;
        assert!(run.error.as_deref().unwrap().starts_with(error), "{run:?}");
    }
}

/// A plugin that asks a server on this machine, which counts who does, in a process with this way
/// out.
async fn asking(world: World, egress: EgressBuilder) -> (Theatre, Plugin, Arc<AtomicUsize>) {
    let answer = "HTTP/1.1 200 OK\r\nx-seen: a\r\nx-seen: b\r\ncontent-length: 2\r\n\r\nok";
    let (url, count) = receiver("127.0.0.1", answer).await;
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    let theatre = Theatre::new(world.reaching(egress.build().unwrap()).await);
    let rest = format!("hosts = ['{host}']\n{ON}");
    let script = format!("fetch {url}");
    let plugin = theatre.install_manifest(&script, &rest).await;
    (theatre, plugin, count)
}

async fn what_is_open_to_others_inside_is_not_open_to_plugins(world: World) {
    let egress = Egress::builder().allow("127.0.0.1").unwrap();
    let (theatre, plugin, count) = asking(world, egress).await;
    let run = last(&theatre, &plugin).await;
    let error = run.error.as_deref().unwrap();
    assert!(error.starts_with("the input is not valid: url"), "{run:?}");
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

async fn an_answer_from_outside_is_kept_and_replayed_without_asking_again(world: World) {
    let egress = Egress::builder().allow_plugins("127.0.0.1").unwrap();
    let (theatre, plugin, count) = asking(world, egress).await;
    let run = last(&theatre, &plugin).await;
    assert_eq!(run.outcome, Outcome::Succeeded, "{run:?}");
    assert_eq!(run.logs[0].message, r#"200 ok ["a", "b"]"#);
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let replay = theatre.plugins.replay(&permit, plugin.id, run.id).await;
    let replay = replay.unwrap();
    assert!(replay.identical, "{replay:?}");
    assert_eq!(count.load(Ordering::SeqCst), 1);
}
