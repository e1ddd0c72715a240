//! The tenant in memory that authors try their plugins in.

use std::sync::Arc;

use crm_core::hook::{Door, DoorRequest, Outcome, PluginHost};
use crm_core::plugin::Manifest;
use crm_core::value::Value;
use crm_core::{Error, Result};
use crm_plugins::{Limits, MemoryDoor};

use super::door::CONTACT;
use super::guest::{GET_AND_LOG, Guest, SET_SCORE, component, manifest};
use super::{fields, host, run_with};

#[tokio::test]
async fn a_door_in_memory_shows_what_a_plugin_did_and_keeps_to_its_manifest() {
    let host = host(Limits::default());
    let id = CONTACT.parse().unwrap();
    let door = |manifest| {
        let contact = fields([
            ("name", Value::Text("Ada".into())),
            ("version", Value::Int(1)),
        ]);
        Arc::new(MemoryDoor::new(manifest).record("contacts", id, contact))
    };
    let scores = component(SET_SCORE);
    let tenant = door(host.inspect(scores.clone().into()).await.unwrap());
    let report = run_with(&host, scores, tenant.clone()).await;
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:?}");
    assert_eq!(
        tenant.done(),
        [format!("update contacts/{CONTACT} {{\"score\":7}}")]
    );
    let left = tenant.found("contacts", id).unwrap();
    assert!(left.contains(&("score".into(), Value::Int(7))), "{left:?}");

    let blind = manifest(["handle"]).replace("'read', ", "");
    let blind = door(Manifest::parse(&blind).unwrap());
    let reads = Guest::new("handle", GET_AND_LOG).component();
    let report = run_with(&host, reads, blind).await;
    assert_eq!(report.error.as_deref(), Some("contacts.read"));
}

/// The permission that is missing.
fn missing<T: std::fmt::Debug>(refused: Result<T>) -> String {
    match refused {
        Err(Error::Forbidden { permission }) => permission,
        other => panic!("{other:?}"),
    }
}

fn request(url: &str) -> DoorRequest {
    DoorRequest {
        method: "GET".into(),
        url: url.into(),
        headers: Vec::new(),
        body: Default::default(),
    }
}

#[tokio::test]
async fn a_door_in_memory_refuses_what_the_manifest_does_not_ask_for_as_a_tenants_does() {
    let door = |rest: &str| {
        let text =
            format!("name = 'probe'\nversion = '1.0.0'\ntriggers = ['contact.created']\n{rest}");
        MemoryDoor::new(Manifest::parse(&text).unwrap()).secret("token", "a secret".into())
    };
    let (one, other) = ("https://api.example.com/", "https://other.example.com/");

    let nothing = door("");
    assert_eq!(missing(nothing.kv_get("key").await), "kv.get");
    assert_eq!(missing(nothing.kv_set("key", Vec::new()).await), "kv.set");
    assert_eq!(missing(nothing.kv_delete("key").await), "kv.delete");
    assert_eq!(missing(nothing.kv_keys("", None).await), "kv.keys");
    assert_eq!(missing(nothing.fetch(request(one)).await), "http.fetch");
    assert_eq!(
        missing(Door::secret(&nothing, "token").await),
        "secrets.get"
    );
    assert_eq!(missing(nothing.emit("told", "{}").await), "events.emit");
    assert!(nothing.done().is_empty());

    let asks = door("kv = true\nhosts = ['api.example.com']\nsecrets = ['token', 'unset']");
    asks.kv_set("key", vec![1]).await.unwrap();
    assert_eq!(asks.kv_get("key").await.unwrap(), Some(vec![1]));
    assert_eq!(asks.fetch(request(one)).await.unwrap().status, 200);
    let refused = asks.fetch(request(other)).await;
    assert_eq!(missing(refused), "http.other.example.com");
    assert!(matches!(
        asks.fetch(request("nowhere")).await,
        Err(Error::Invalid(_))
    ));
    assert!(Door::secret(&asks, "token").await.is_ok());
    assert!(matches!(
        Door::secret(&asks, "unset").await,
        Err(Error::NotFound)
    ));
    assert_eq!(missing(Door::secret(&asks, "other").await), "secrets.get");
    assert_eq!(asks.done(), [format!("fetch GET {one} ")]);
}

#[tokio::test]
async fn a_door_in_memory_knows_the_fields_of_a_grant() {
    let id = CONTACT.parse().unwrap();
    let grant = manifest(["handle"]).replace(
        "module = 'contacts'",
        "module = 'contacts'\nfields = ['name']",
    );
    let contact = fields([
        ("version", Value::Int(1)),
        ("name", Value::Text("Ada".into())),
        ("email", Value::Text("ada@engines.example".into())),
    ]);
    let door = MemoryDoor::new(Manifest::parse(&grant).unwrap()).record("contacts", id, contact);
    let seen = door.get("contacts", id).await.unwrap();
    assert!(seen.iter().all(|(name, _)| name != "email"), "{seen:?}");
    let set = |name| door.update("contacts", id, None, fields([(name, Value::Null)]));
    assert!(set("name").await.is_ok());
    assert!(matches!(set("email").await, Err(Error::Invalid(_))));
}
