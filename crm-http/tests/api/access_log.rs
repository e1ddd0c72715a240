//! What the access log tells of refusals, which leave no entry in the audit log: whoever floods the
//! server with them would make its chain grow.

use std::cell::RefCell;
use std::io;
use std::sync::Once;

use crm_http::HttpOptions;
use serde_json::{Value, json};
use tracing::subscriber::set_global_default;

use crate::app::{App, Caller, Database};
use crate::impersonation::{acting, id_of};

const ME: &str = "/api/v1/auth/me";

crate::on_both_databases! {
    a_refusal_is_one_line_that_says_who_lacked_what
}

thread_local! {
    /// What was logged on this thread, which the server runs on too, since it listens.
    static LOG: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Hears what is written to [`LOG`].
struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| {
            if let Some(log) = log {
                log.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Listens in the form that `crm serve` has for machines.
    ///
    /// One subscriber hears all threads: were there one for each test, the first thread to come by
    /// a line, which may have none, would decide for all whether it is of interest.
    fn listen() -> Self {
        static HEARD: Once = Once::new();
        HEARD.call_once(|| {
            let subscriber = tracing_subscriber::fmt().json().flatten_event(true);
            let subscriber = subscriber.with_writer(|| Self).finish();
            set_global_default(subscriber).unwrap();
        });
        LOG.set(Some(Vec::new()));
        Self
    }

    /// The latest line of a request.
    fn latest(&self) -> Value {
        let text = LOG.with_borrow(|log| String::from_utf8(log.clone().unwrap()).unwrap());
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let mut requests = lines.filter(|line: &Value| line["target"] == "crm::access");
        requests.next_back().unwrap()
    }
}

async fn who(caller: &Caller) -> (Value, Value) {
    let me = caller.get(ME).await.expect(200);
    let actor = format!("user:{}", me["user"]["id"].as_str().unwrap());
    (json!(actor), me["tenant"]["id"].clone())
}

async fn audited(app: &App) -> usize {
    let log = app.admin.get("/api/v1/audit").await.expect(200);
    log["data"].as_array().unwrap().len()
}

async fn a_refusal_is_one_line_that_says_who_lacked_what(database: Database) {
    let app = App::start(database).await;
    let bo = app.member("bo", "viewer").await;
    let (ada, tenant) = who(&app.admin).await;
    let (actor, _) = who(&bo).await;
    let (by_ada, _) = acting(&app, &id_of(&bo).await).await;
    let before = audited(&app).await;
    let log = Log::listen();

    bo.get(ME).await.expect(200);
    let line = log.latest();
    let quiet = ["permission", "address", "impersonator"].map(|name| line.get(name));
    assert_eq!(
        (&line["actor"], &line["code"], quiet),
        (&actor, &json!(""), [None; 3])
    );
    by_ada.get(ME).await.expect(200);
    let line = log.latest();
    assert_eq!((&line["actor"], &line["impersonator"]), (&actor, &ada));

    let body = json!({"name": "key", "role": "viewer"});
    bo.post("/api/v1/api_keys", body).await.expect(403);
    let line = log.latest();
    let told = |name: &str| line[name].clone();
    assert_eq!(told("status"), 403);
    assert_eq!(told("code"), "forbidden");
    assert_eq!(told("permission"), "api_keys.create");
    assert_eq!((told("actor"), told("tenant")), (actor, tenant.clone()));
    assert_eq!(
        (told("request_id"), told("address")),
        (json!("test"), json!("127.0.0.1"))
    );

    let options = HttpOptions {
        rate_limit: 1,
        ..HttpOptions::default()
    };
    let limited = app.also(options).await;
    limited.get(ME).await.expect(200);
    limited.get(ME).await.expect(429);
    let line = log.latest();
    let told = ["status", "code", "actor", "tenant"].map(|name| line[name].clone());
    assert_eq!(told, [json!(429), json!("rate_limited"), ada, tenant]);

    app.anonymous().get(ME).await.expect(401);
    let line = log.latest();
    let told = ["status", "code", "address"].map(|name| line[name].clone());
    assert_eq!(
        told,
        [json!(401), json!("token_missing"), json!("127.0.0.1")]
    );
    assert_eq!(audited(&app).await, before);
    app.close().await;
}
