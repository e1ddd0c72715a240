//! Messages of other systems: who may send them, that none is lost, and none is taken twice.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::id::EventId;
use crate::plugin::inbox::Inbox;
use crate::scope::RequestContext;

on_both_databases! {
    a_signed_message_runs_the_plugin_once_and_is_listed
    who_does_not_sign_rightly_learns_nothing
    an_id_stands_for_one_message
    a_message_that_the_host_cannot_run_uses_no_fuel
    the_secret_before_stays_good_as_long_as_was_said
    a_callers_message_runs_within_the_callers_rights
    a_message_waits_while_its_plugin_is_switched_off
    a_message_waits_for_the_fuel_of_another_day
    a_long_run_of_one_tenant_keeps_no_other_waiting
    a_message_whose_process_was_killed_is_handled_once
    a_tenant_has_only_so_many_messages_waiting
}

pub(super) const HOOKS: &str = "[[triggers]]\nwebhook = 'payments'\n\
    [[triggers]]\nwebhook = 'orders'\nauth = 'api_key'\n\
    [[grants]]\nmodule = 'deals'\nactions = ['create']\n";

/// A message to `payments`, as its sender makes it.
struct Sent {
    tenant: Option<TenantId>,
    plugin: &'static str,
    hook: &'static str,
    id: &'static str,
    seconds: i64,
    secret: SecretString,
    body: &'static [u8],
}

/// Hands over the messages that wait.
async fn hand_over(plugins: &Plugins) -> Result<usize> {
    turns::run_all(Inbox(plugins.clone()), &CancellationToken::new()).await
}

impl Theatre {
    async fn renew(&self, plugin: &Plugin, overlap: i64) -> Result<SecretString> {
        let permit = self.world.permit(self.world.admin, OBJECT).await;
        let overlap = TimeDelta::seconds(overlap);
        let renewed = self
            .plugins
            .renew_hook_secret(&permit, plugin.id, "payments", overlap);
        Ok(renewed.await?.secret)
    }

    fn payment(&self, secret: &SecretString) -> Sent {
        Sent {
            tenant: Some(self.world.tenant),
            plugin: "actor",
            hook: "payments",
            id: "msg_1",
            seconds: self.world.crm.clock().now().timestamp(),
            secret: secret.clone(),
            body: b"{\"paid\": 7}",
        }
    }

    async fn send(&self, sent: Sent) -> Result<EventId> {
        let key = sent.secret.expose_secret().strip_prefix("whsec_").unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(key).unwrap()).unwrap();
        mac.update(format!("{}.{}.", sent.id, sent.seconds).as_bytes());
        mac.update(sent.body);
        let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        let signed = Signed {
            id: sent.id,
            timestamp: &sent.seconds.to_string(),
            signatures: &signature,
        };
        let request = RequestContext {
            id: "sender".into(),
            address: None,
        };
        let message = message(sent.plugin, sent.hook, sent.body);
        let received = self
            .plugins
            .receive_signed(sent.tenant, signed, message, &request);
        received.await
    }

    /// A message to `orders` from a user.
    pub(super) async fn order(&self, user: UserId, key: Option<&str>) -> Result<EventId> {
        let scope = self.world.scope(user).await;
        let permit = scope.permit::<Create>("plugin_runs")?;
        let message = message("actor", "orders", b"order 7");
        self.plugins.receive(&permit, key, message).await
    }

    pub(super) async fn handle(&self) -> usize {
        hand_over(&self.plugins).await.unwrap()
    }

    /// Has all messages be due: the clock of these tests stands.
    pub(super) async fn hurry(&self) {
        let sql = Sql::new("UPDATE plugin_messages SET due_at = received_at");
        self.world.execute(sql).await;
    }
}

fn message(plugin: &str, hook: &str, body: &'static [u8]) -> Message {
    Message {
        plugin: plugin.to_owned(),
        hook: hook.to_owned(),
        content_type: Some("application/json".to_owned()),
        body: Bytes::from_static(body),
    }
}

async fn a_signed_message_runs_the_plugin_once_and_is_listed(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("make", HOOKS).await;
    let secret = theatre.renew(&plugin, 0).await.unwrap();
    let id = theatre.send(theatre.payment(&secret)).await.unwrap();
    assert!(theatre.runs(&plugin).await.is_empty(), "stored, not run");
    let other = Plugins::new(
        theatre.world.crm.core.clone(),
        theatre.stage.clone(),
        PluginLimits::default(),
    );
    let (one, two) = tokio::join!(hand_over(&theatre.plugins), hand_over(&other));
    assert_eq!(one.unwrap() + two.unwrap(), 1);
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(
        (run.event_id, &*run.trigger, run.outcome),
        (Some(id), "webhook payments", Outcome::Succeeded)
    );
    let given = &run.logs[0].message;
    for part in ["payments", "msg_1", "application/json", "paid"] {
        assert!(given.contains(part), "{part} is not in {given}");
    }
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let replay = theatre.plugins.replay(&permit, plugin.id, run.id).await;
    assert!(replay.unwrap().identical);
    let audit = theatre.world.audit().await;
    assert!(audit.contains(&"plugins.renew_hook_secret".to_owned()));
    let bodies = Sql::new("SELECT body FROM plugin_messages").returns(&[ColumnType::Bytes]);
    let db = &theatre.world.crm.core.db;
    let mut row = db.fetch_optional(bodies).await.unwrap().unwrap();
    assert!(
        row.bytes::<Vec<u8>>().unwrap().is_empty(),
        "its body is gone"
    );
}

async fn who_does_not_sign_rightly_learns_nothing(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("make", HOOKS).await;
    let secret = theatre.renew(&plugin, 0).await.unwrap();
    let other = theatre.world.new_tenant("globex").await;
    let guess: SecretString = format!("whsec_{}", STANDARD.encode([7; 32])).into();
    type Change = fn(&mut Sent);
    let changes: [Change; 5] = [
        |sent| sent.tenant = None,
        |sent| sent.tenant = Some(TenantId(uuid::Uuid::nil())),
        |sent| sent.plugin = "nobody",
        |sent| sent.hook = "refunds",
        |sent| sent.hook = "a\0b",
    ];
    let mut answers = Vec::new();
    for secret in [&secret, &guess] {
        for change in changes {
            let mut sent = theatre.payment(secret);
            change(&mut sent);
            answers.push(theatre.send(sent).await.unwrap_err());
        }
    }
    let mut keyed = theatre.payment(&secret);
    keyed.hook = "orders";
    answers.push(theatre.send(keyed).await.unwrap_err());
    answers.push(theatre.send(theatre.payment(&guess)).await.unwrap_err());
    let mut foreign = theatre.payment(&secret);
    foreign.tenant = Some(other);
    answers.push(theatre.send(foreign).await.unwrap_err());
    for answer in &answers {
        assert_eq!(answer.to_string(), answers[0].to_string());
        assert_eq!(answer.code(), "signature_invalid");
    }
    let mut old = theatre.payment(&secret);
    old.seconds -= 301;
    assert_eq!(refusal(theatre.send(old).await), "message_out_of_time");

    let tenants = theatre.world.crm.tenants();
    let request = RequestContext {
        id: "test".into(),
        address: None,
    };
    tenants
        .suspend(theatre.world.tenant, request)
        .await
        .unwrap();
    let suspended = theatre.send(theatre.payment(&secret)).await;
    assert_eq!(refusal(suspended), "signature_invalid");
    let stored = Sql::new("SELECT 1 FROM plugin_messages");
    let db = &theatre.world.crm.core.db;
    assert!(db.fetch_all(stored).await.unwrap().is_empty());
}

async fn an_id_stands_for_one_message(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("make", HOOKS).await;
    let secret = theatre.renew(&plugin, 0).await.unwrap();
    let first = theatre.send(theatre.payment(&secret)).await.unwrap();
    assert_eq!(theatre.handle().await, 1);
    let again = theatre.send(theatre.payment(&secret)).await.unwrap();
    assert_eq!((first, theatre.handle().await), (again, 0));
    let mut other = theatre.payment(&secret);
    other.body = b"{\"paid\": 8}";
    assert_eq!(refusal(theatre.send(other).await), "idempotency_key_reused");

    let admin = theatre.world.admin;
    let order = theatre.order(admin, Some("msg_1")).await.unwrap();
    assert_ne!(order, first, "ids of callers are their own");
    assert_eq!(theatre.order(admin, Some("msg_1")).await.unwrap(), order);
    let member = theatre.member_with(&["plugin_runs.create"]).await;
    assert_ne!(theatre.order(member, Some("msg_1")).await.unwrap(), order);
    let (one, two) = (
        theatre.order(admin, None).await,
        theatre.order(admin, None).await,
    );
    assert_ne!(one.unwrap(), two.unwrap(), "without an id each is one");
    for key in ["", "a b", "ä"] {
        let refused = theatre.order(admin, Some(key)).await;
        assert_eq!(refusal(refused), "validation_failed", "{key}");
    }
}

async fn the_secret_before_stays_good_as_long_as_was_said(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("make", HOOKS).await;
    let first = theatre.renew(&plugin, 60).await.unwrap();
    let second = theatre.renew(&plugin, 60).await.unwrap();
    for secret in [&first, &second] {
        theatre.send(theatre.payment(secret)).await.unwrap();
    }
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    let hooks = theatre.plugins.hooks(&permit, plugin.id).await.unwrap();
    let ends: Vec<_> = hooks[0].secrets.iter().map(|one| one.expires_at).collect();
    let minute = theatre.world.crm.clock().now() + TimeDelta::seconds(60);
    assert_eq!(ends, [None, Some(minute)]);
    assert!(hooks[1].secrets.is_empty());

    let third = theatre.renew(&plugin, 0).await.unwrap();
    theatre.send(theatre.payment(&third)).await.unwrap();
    for secret in [&first, &second] {
        let refused = theatre.send(theatre.payment(secret)).await;
        assert_eq!(refusal(refused), "signature_invalid");
    }
    for _ in 0..4 {
        theatre.renew(&plugin, 60).await.unwrap();
    }
    assert_eq!(
        refusal(theatre.renew(&plugin, 60).await),
        "too_many_secrets"
    );
    theatre.renew(&plugin, 0).await.unwrap();
    let week = 7 * 24 * 60 * 60;
    for overlap in [-1, week + 1] {
        let refused = theatre.renew(&plugin, overlap).await;
        assert_eq!(refusal(refused), "validation_failed");
    }
    let update = theatre.world.permit(theatre.world.admin, OBJECT).await;
    for (hook, code) in [("refunds", "not_found"), ("orders", "not_signed")] {
        let renewed =
            theatre
                .plugins
                .renew_hook_secret(&update, plugin.id, hook, TimeDelta::zero());
        assert_eq!(refusal(renewed.await), code);
    }
}

async fn a_callers_message_runs_within_the_callers_rights(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("make", HOOKS).await;
    let nobody = theatre.member_with(&["deals.create"]).await;
    assert_eq!(
        missing(theatre.order(nobody, None).await),
        "plugin_runs.create"
    );
    let caller = theatre.member_with(&["plugin_runs.create"]).await;
    theatre.order(caller, None).await.unwrap();
    assert_eq!(theatre.handle().await, 1);
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(
        run.error.as_deref(),
        Some("you lack the permission deals.create")
    );
    let able = theatre
        .member_with(&["plugin_runs.create", "deals.create"])
        .await;
    theatre.order(able, None).await.unwrap();
    assert_eq!(theatre.handle().await, 1);
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(run.outcome, Outcome::Succeeded, "{run:?}");

    let permit = theatre.world.permit(able, "plugin_runs").await;
    for (plugin, hook, code) in [
        ("nobody", "orders", "not_found"),
        ("actor", "refunds", "not_found"),
        ("a\0b", "orders", "not_found"),
        ("actor", "payments", "signed_only"),
    ] {
        let message = message(plugin, hook, b"");
        let received = theatre.plugins.receive(&permit, None, message).await;
        assert_eq!(refusal(received), code, "{plugin} {hook}");
    }
    let mut huge = message("actor", "orders", b"");
    huge.body = vec![0; Plugins::MAX_MESSAGE + 1].into();
    let received = theatre.plugins.receive(&permit, None, huge).await;
    assert_eq!(refusal(received), "body_too_large");
    assert!(
        theatre
            .world
            .scope(able)
            .await
            .permit::<Read>(OBJECT)
            .is_err(),
        "who sends sees no runs"
    );
}

async fn a_message_waits_while_its_plugin_is_switched_off(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("make", HOOKS).await;
    let admin = theatre.world.admin;
    theatre.order(admin, None).await.unwrap();
    let permit = theatre.world.permit(admin, OBJECT).await;
    theatre.plugins.disable(&permit, plugin.id).await.unwrap();
    assert_eq!(theatre.handle().await, 0);
    assert!(theatre.runs(&plugin).await.is_empty());
    let refused = theatre.order(admin, None).await;
    assert_eq!(refusal(refused), "plugin_disabled");
    theatre.enable(admin, &plugin).await;
    assert_eq!(theatre.handle().await, 1);

    theatre.order(admin, None).await.unwrap();
    theatre.plugins.disable(&permit, plugin.id).await.unwrap();
    let long_ago = theatre.world.crm.clock().now() - TimeDelta::days(3);
    let sql = Sql::new("UPDATE plugin_messages SET received_at = $1, due_at = $1");
    let sql = sql.bind(long_ago, ColumnType::Instant);
    theatre.world.execute(sql).await;
    theatre.handle().await;
    let run = theatre.runs(&plugin).await.remove(0);
    assert_eq!(run.outcome, Outcome::Refused, "{run:?}");
    assert!(run.error.unwrap().contains("3 days"));
}

async fn a_message_whose_process_was_killed_is_handled_once(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("make", HOOKS).await;
    let admin = theatre.world.admin;
    theatre.order(admin, None).await.unwrap();
    let minute = theatre.world.crm.clock().now() + TimeDelta::seconds(60);
    let taken = Sql::new("UPDATE plugin_messages SET due_at = $1");
    theatre
        .world
        .execute(taken.bind(minute, ColumnType::Instant))
        .await;
    assert_eq!(theatre.handle().await, 0, "another process has it");
    theatre.hurry().await;
    assert_eq!(theatre.handle().await, 1);
    // Killed between the end of the run and the mark that it was handled.
    theatre.hurry().await;
    theatre.handle().await;
    assert_eq!(theatre.runs(&plugin).await.len(), 1);
    assert_eq!(theatre.stage.runs.load(Ordering::SeqCst), 1);
}

async fn a_tenant_has_only_so_many_messages_waiting(world: World) {
    let theatre = Theatre::new(world);
    theatre.install_manifest("make", HOOKS).await;
    let admin = theatre.world.admin;
    let first = theatre.order(admin, Some("first")).await.unwrap();
    for _ in 1..200 {
        theatre.order(admin, None).await.unwrap();
    }
    let refused = theatre.order(admin, None).await.unwrap_err();
    assert!(matches!(refused, Error::TooMany { .. }), "{refused}");
    let again = theatre.order(admin, Some("first")).await.unwrap();
    assert_eq!(again, first, "what came before is known still");
    let sql = Sql::new("UPDATE plugin_messages SET due_at = NULL WHERE id = $1");
    theatre
        .world
        .execute(sql.bind(first, ColumnType::Uuid))
        .await;
    theatre.order(admin, None).await.unwrap();
}

async fn a_message_waits_for_the_fuel_of_another_day(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("make", HOOKS).await;
    let admin = theatre.world.admin;
    let settle = async |daily_fuel| {
        let permit = theatre.world.permit(admin, OBJECT).await;
        let settings = PluginSettings {
            require_signature: false,
            daily_fuel,
        };
        theatre.plugins.settle(&permit, settings).await.unwrap();
    };
    settle(Some(500)).await;
    theatre.order(admin, None).await.unwrap();
    assert_eq!(theatre.handle().await, 1);
    theatre.order(admin, None).await.unwrap();
    assert_eq!(theatre.handle().await, 0);
    assert_eq!(theatre.runs(&plugin).await.len(), 1, "it waits");
    settle(None).await;
    theatre.hurry().await;
    theatre.handle().await;
    let runs = theatre.runs(&plugin).await;
    assert!(runs.iter().all(|run| run.outcome == Outcome::Succeeded));
    assert_eq!(runs.len(), 2);
}

async fn a_message_that_the_host_cannot_run_uses_no_fuel(world: World) {
    let theatre = Theatre::new(world);
    let plugin = theatre.install_manifest("unable", HOOKS).await;
    theatre.settle_fuel(3_000).await;
    theatre.order(theatre.world.admin, None).await.unwrap();
    assert_eq!(theatre.handle().await, 0);
    assert!(theatre.runs(&plugin).await.is_empty(), "it waits");
    assert_eq!(theatre.used().await, (0, 0));
}

async fn a_long_run_of_one_tenant_keeps_no_other_waiting(world: World) {
    let theatre = Theatre::new(world);
    let slow = theatre.install_manifest("wait", HOOKS).await;
    let other = theatre.world.new_tenant("other").await;
    let scope = theatre.world.operator(other);
    let text = format!("name = 'actor'\nversion = '1.0.0'\ndescription = 'make'\n{HOOKS}");
    let permit = scope.permit(OBJECT).unwrap();
    let upload = theatre.plugins.upload(&permit, text.into(), None);
    let plugin = upload.await.unwrap().plugin;
    let (permit, sha256) = (scope.permit(OBJECT).unwrap(), sha256(&plugin));
    let enabled = theatre.plugins.enable(&permit, plugin.id, &sha256);
    let quick = enabled.await.unwrap();

    let stop = CancellationToken::new();
    let inbox = tokio::spawn(turns::run(Inbox(theatre.plugins.clone()), stop.clone()));
    theatre.order(theatre.world.admin, None).await.unwrap();
    theatre.stage.waiting.notified().await;
    let permit = scope.permit::<Create>("plugin_runs").unwrap();
    let sent = message("actor", "orders", b"order 8");
    theatre.plugins.receive(&permit, None, sent).await.unwrap();
    let (permit, nothing) = (scope.permit(OBJECT).unwrap(), RunId(uuid::Uuid::nil()));
    let wait = (1, Duration::from_secs(20));
    let followed = theatre
        .plugins
        .follow(&permit, quick.id, Some(nothing), wait);
    assert_eq!(followed.await.unwrap()[0].outcome, Outcome::Succeeded);
    assert!(theatre.runs(&slow).await.is_empty(), "it runs still");
    let permit = theatre.world.permit(theatre.world.admin, OBJECT).await;
    theatre.plugins.disable(&permit, slow.id).await.unwrap();
    stop.cancel();
    inbox.await.unwrap();
}
