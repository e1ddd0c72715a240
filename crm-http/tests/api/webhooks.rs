//! Messages that other systems send to plugins, over HTTP: signed ones, ones with an API key, and
//! all that is neither.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::app::{App, Caller, Database, Reply};
use crate::plugin::install;

crate::on_both_databases! {
    a_signed_message_is_answered_202_and_runs_the_plugin
    a_message_that_is_not_signed_rightly_is_answered_alike_whatever_there_is
    a_signed_message_is_bounded_and_taken_once
    a_program_sends_messages_with_its_api_key
}

/// What a sender sends.
struct Sent<'a> {
    path: &'a str,
    secret: &'a str,
    id: &'a str,
    seconds: i64,
    body: Vec<u8>,
}

impl<'a> Sent<'a> {
    fn new(app: &App, path: &'a str, secret: &'a str) -> Self {
        Self {
            path,
            secret,
            id: "msg_1",
            seconds: app.crm.clock().now().timestamp(),
            body: b"{\"paid\": 7}".to_vec(),
        }
    }

    async fn send(&self, app: &App) -> Reply {
        let key = STANDARD.decode(self.secret.strip_prefix("whsec_").unwrap());
        let mut mac = Hmac::<Sha256>::new_from_slice(&key.unwrap()).unwrap();
        mac.update(format!("{}.{}.", self.id, self.seconds).as_bytes());
        mac.update(&self.body);
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let anybody = app.anonymous();
        let request = anybody
            .request(Method::POST, self.path)
            .header("Content-Type", "application/json")
            .header("webhook-id", self.id)
            .header("webhook-timestamp", self.seconds)
            .header(
                "webhook-signature",
                format!("v1,bm90aGluZw== v1,{signature}"),
            )
            .body(self.body.clone());
        anybody.finish(request).await
    }
}

/// The plugin's path, where messages are sent to, and the secret to sign them with.
async fn begin(app: &App, caller: &Caller) -> (String, String, String) {
    let plugin = install(caller, crate::guest::listener()).await;
    let renew = format!("{plugin}/hooks/payments/secret");
    let made = caller.post(&renew, Value::Null).await.expect(201);
    assert_eq!(made["previous_until"], Value::Null);
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    let (path, secret) = (text("path"), text("secret"));
    assert!(secret.starts_with("whsec_"), "{path}");
    let log = app.admin.get("/api/v1/audit").await.body;
    assert!(!log.contains(&secret[6..]), "nobody is shown it again");
    (plugin, path, secret)
}

async fn a_signed_message_is_answered_202_and_runs_the_plugin(database: Database) {
    let app = App::start(database).await;
    let (plugin, path, secret) = begin(&app, &app.admin).await;
    let hooks = app.admin.get(&format!("{plugin}/hooks")).await.expect(200);
    let (payments, orders) = (&hooks["data"][0], &hooks["data"][1]);
    assert_eq!(
        (&payments["auth"], &payments["path"]),
        (&json!("signature"), &json!(path))
    );
    assert_eq!(payments["secrets"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&orders["auth"], &orders["path"]),
        (&json!("api_key"), &json!("/api/v1/hooks/listener/orders"))
    );
    let sent = Sent::new(&app, &path, &secret);
    let received = sent.send(&app).await.expect(202);
    assert_eq!(app.crm.run_due_plugins_once().await.unwrap(), 1);
    let runs = app.admin.get(&format!("{plugin}/runs")).await.expect(200);
    let run = &runs["data"][0];
    assert_eq!(
        (&run["event_id"], &run["trigger"], &run["outcome"]),
        (
            &received["id"],
            &json!("webhook payments"),
            &json!("succeeded")
        )
    );

    let renew = format!("{plugin}/hooks/payments/secret?overlap=60");
    let renewed = app.admin.post(&renew, Value::Null).await.expect(201);
    assert_eq!(renewed["previous_until"], "2026-01-31T09:31:00Z");
    let again = Sent {
        id: "msg_2",
        ..Sent::new(&app, &path, &secret)
    };
    again.send(&app).await.expect(202);
    let renewed = renewed["secret"].as_str().unwrap();
    let by_the_new = Sent {
        id: "msg_3",
        ..Sent::new(&app, &path, renewed)
    };
    by_the_new.send(&app).await.expect(202);
    app.close().await;
}

async fn a_message_that_is_not_signed_rightly_is_answered_alike_whatever_there_is(
    database: Database,
) {
    let app = App::start(database).await;
    let (_, path, secret) = begin(&app, &app.admin).await;
    let foreign = app.foreign_admin().await;
    let (_, foreign_path, foreign_secret) = begin(&app, &foreign).await;
    let guess = format!("whsec_{}", STANDARD.encode([7; 32]));
    let (base, tenant) = path.split_once('?').unwrap();
    let paths = [
        path.clone(),
        base.to_owned(),
        format!("{base}?tenant={}", uuid::Uuid::nil()),
        format!("/api/v1/hooks/listener/refunds?{tenant}"),
        format!("/api/v1/hooks/listener/orders?{tenant}"),
        format!("/api/v1/hooks/nobody/payments?{tenant}"),
        format!("/api/v1/hooks/a%00b/payments?{tenant}"),
        foreign_path,
    ];
    let mut bodies = Vec::new();
    for path in &paths {
        let reply = Sent::new(&app, path, &guess).send(&app).await;
        assert_eq!(reply.problem(), (401, "signature_invalid".into()), "{path}");
        bodies.push(reply.body);
    }
    let reply = Sent::new(&app, &path, &foreign_secret).send(&app).await;
    bodies.push(reply.body);
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");

    let unsigned = app.anonymous().post(&path, json!({})).await;
    assert_eq!(unsigned.problem(), (401, "token_missing".into()));
    assert!(
        unsigned.body.contains("webhook-signature is missing"),
        "{unsigned}"
    );
    for (header, missing) in [
        ("webhook-timestamp", "webhook-id"),
        ("webhook-id", "webhook-timestamp"),
    ] {
        let part = app
            .anonymous()
            .request(Method::POST, &path)
            .header("webhook-signature", "v1,");
        let part = app
            .anonymous()
            .finish(part.header(header, "1769851800"))
            .await;
        assert_eq!(part.problem(), (401, "signature_invalid".into()));
        assert!(
            part.body
                .contains(&format!("the header {missing} is missing")),
            "{part}"
        );
    }
    for seconds in [-301, 301] {
        let mut sent = Sent::new(&app, &path, &secret);
        sent.seconds += seconds;
        let reply = sent.send(&app).await;
        assert_eq!(reply.problem(), (401, "message_out_of_time".into()));
    }
    assert_eq!(app.crm.run_due_plugins_once().await.unwrap(), 0);
    app.close().await;
}

async fn a_signed_message_is_bounded_and_taken_once(database: Database) {
    let app = App::start(database).await;
    let (plugin, path, secret) = begin(&app, &app.admin).await;
    let mut sent = Sent::new(&app, &path, &secret);
    let first = sent.send(&app).await.expect(202);
    assert_eq!(sent.send(&app).await.expect(202), first);
    sent.body = b"{\"paid\": 8}".to_vec();
    let reused = sent.send(&app).await;
    assert_eq!(reused.problem(), (422, "idempotency_key_reused".into()));
    sent.id = "msg_2";
    sent.body = vec![b'x'; 256 * 1024];
    sent.send(&app).await.expect(202);
    sent.id = "msg_3";
    sent.body.push(b'x');
    let huge = sent.send(&app).await;
    assert_eq!(huge.problem(), (413, "body_too_large".into()));

    let disable = format!("{plugin}/disable");
    app.admin.post(&disable, Value::Null).await.expect(200);
    let off = Sent {
        id: "msg_4",
        ..Sent::new(&app, &path, &secret)
    };
    assert_eq!(
        off.send(&app).await.problem(),
        (409, "plugin_disabled".into())
    );
    app.close().await;
}

async fn a_program_sends_messages_with_its_api_key(database: Database) {
    let app = App::start(database).await;
    let plugin = install(&app.admin, crate::guest::listener()).await;
    let role = json!({"name": "sender", "permissions": ["plugin_runs.create"]});
    app.admin.post("/api/v1/roles", role).await.expect(201);
    let program = app.program("sender").await;
    let send = async |caller: &Caller, hook: &str, key: &str| {
        let path = format!("/api/v1/hooks/listener/{hook}");
        let request = caller
            .request(Method::POST, &path)
            .header("Idempotency-Key", key)
            .header("Cookie", "planted=cookie")
            .body("order 7");
        caller.finish(request).await
    };
    let first = send(&program, "orders", "one").await.expect(202);
    assert_eq!(send(&program, "orders", "one").await.expect(202), first);
    assert_eq!(app.crm.run_due_plugins_once().await.unwrap(), 1);
    let runs = app.admin.get(&format!("{plugin}/runs")).await.expect(200);
    assert_eq!(runs["data"][0]["event_id"], first["id"]);

    let signed = send(&program, "payments", "two").await;
    assert_eq!(signed.problem(), (409, "signed_only".into()));
    assert_eq!(send(&program, "refunds", "three").await.status, 404);
    let foreign = send(&app.foreign_admin().await, "orders", "four").await;
    assert_eq!(foreign.problem(), (404, "not_found".into()));
    let viewer = send(&app.program("viewer").await, "orders", "five").await;
    assert_eq!(viewer.problem(), (403, "forbidden".into()));
    let bad = send(&program, "orders", "a b").await;
    assert_eq!(bad.status, 422, "{bad}");
    app.close().await;
}
