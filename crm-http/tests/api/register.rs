//! Open registration, as strangers meet it: with a mailbox beside the API.

use std::sync::Arc;

use crm_core::identity::RegistrationPolicy;
use crm_core::mail::{MailKind, MailOptions};
use reqwest::Method;
use serde_json::{Value, json};

use crate::account::Mailbox;
use crate::app::{App, Caller, Database, PASSWORD, Reply};

crate::on_both_databases! {
    sa_49_open_registration_answers_tokens_and_tells_who_is_known
    a_verified_registration_answers_alike_and_is_made_by_its_link
    closed_registration_is_the_default
    sa_41_the_sixth_registration_of_a_minute_waits
    nobody_registers_with_more_than_is_asked_for
}

const REGISTER: &str = "/api/v1/auth/register";
const CONFIRM: &str = "/api/v1/auth/register/confirm";
const EVE: &str = "eve@globex.example";

async fn start(database: Database, policy: RegistrationPolicy) -> (App, Arc<Mailbox>) {
    let mailbox = Arc::new(Mailbox::default());
    let options = MailOptions {
        mailer: Some(mailbox.clone()),
        public_url: "https://app.example/crm/".into(),
    };
    let app = App::with(database, |builder| {
        builder.mail(options).registration(policy)
    });
    (app.await, mailbox)
}

fn body(email: &str) -> Value {
    json!({"email": email, "password": PASSWORD, "name": "Eve", "tenant": "globex"})
}

async fn register(app: &App, email: &str) -> Reply {
    app.anonymous().post(REGISTER, body(email)).await
}

async fn me(caller: &Caller) -> Value {
    caller.get("/api/v1/auth/me").await.expect(200)
}

async fn sa_49_open_registration_answers_tokens_and_tells_who_is_known(database: Database) {
    let (app, _) = start(database, RegistrationPolicy::Open).await;
    let known = register(&app, "ada@acme.example").await;
    assert_eq!(known.problem(), (409, "email_taken".into()));
    let session = register(&app, EVE).await.expect(201);
    assert!(session["password_score"].as_u64().unwrap() >= 3);
    let eve = app.with_token(session["access_token"].as_str());
    let me = me(&eve).await;
    assert_eq!(
        (
            &me["user"]["email"],
            &me["tenant"]["name"],
            &me["roles"][0]["name"]
        ),
        (&json!(EVE), &json!("globex"), &json!("admin"))
    );
    let refresh = json!({"refresh_token": session["refresh_token"]});
    let refreshed = app.anonymous().post("/api/v1/auth/refresh", refresh).await;
    refreshed.expect(200);
    let contact = json!({"name": "Grace"});
    eve.post("/api/v1/contacts", contact).await.expect(201);
    assert_eq!(
        app.admin.get("/api/v1/contacts").await.expect(200)["data"],
        json!([])
    );
    let taken = register(&app, "eva@globex.example").await;
    assert_eq!(taken.problem(), (409, "already_exists".into()));
    app.close().await;
}

async fn a_verified_registration_answers_alike_and_is_made_by_its_link(database: Database) {
    let (app, mailbox) = start(database, RegistrationPolicy::Verified).await;
    let mut answers = Vec::new();
    for email in ["ada@acme.example", EVE] {
        let request = app.anonymous().request(Method::POST, REGISTER);
        let request = request
            .header("X-Forwarded-Host", "evil.example")
            .json(&body(email));
        let reply = app.anonymous().finish(request).await;
        let mut headers = reply.headers.clone();
        headers.remove("date");
        headers.remove("ratelimit");
        answers.push((reply.status, reply.body, format!("{headers:?}")));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!((answers[0].0, answers[0].1.as_str()), (202, ""));
    let told = mailbox.latest(&app, "ada@acme.example").await.unwrap();
    assert_eq!((told.kind, &told.link), (MailKind::EmailInUse, &None));

    let mail = mailbox.latest(&app, EVE).await.unwrap();
    let link = mail.link.clone().unwrap();
    let page = "https://app.example/crm/confirm-registration#token=crm_rg_";
    assert!(link.starts_with(page), "{link}");
    assert!(!mail.text.contains("evil"), "{}", mail.text);
    let token = mailbox.token(&app, EVE).await;
    let confirm = async |token: &str, password: &str| {
        let body = json!({"token": token, "password": password});
        app.anonymous().post(CONFIRM, body).await
    };
    let wrong = confirm(&token, "seven harpsichords, tuned").await;
    assert_eq!(wrong.problem(), (401, "invalid_credentials".into()));
    let session = confirm(&token, PASSWORD).await.expect(201);
    assert!(session["password_score"].as_u64().unwrap() >= 3);
    let me = me(&app.with_token(session["access_token"].as_str())).await;
    assert_eq!(me["tenant"]["name"], "globex");
    assert_ne!(me["user"]["email_verified_at"], Value::Null);
    let again = confirm(&token, PASSWORD).await;
    assert_eq!(again.problem(), (422, "validation_failed".into()));
    app.close().await;
}

async fn closed_registration_is_the_default(database: Database) {
    let app = App::start(database).await;
    let mut answers = Vec::new();
    for email in ["ada@acme.example", EVE, "no address"] {
        let reply = register(&app, email).await;
        assert_eq!(reply.problem(), (403, "registration_closed".into()));
        answers.push(reply.body);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
    app.close().await;
}

async fn sa_41_the_sixth_registration_of_a_minute_waits(database: Database) {
    let app = App::with(database, |builder| {
        builder
            .registration(RegistrationPolicy::Open)
            .login_limit(5)
    })
    .await;
    for _ in 0..5 {
        assert_eq!(register(&app, "ada@acme.example").await.status, 409);
    }
    let sixth = register(&app, EVE).await;
    assert_eq!(sixth.problem(), (429, "rate_limited".into()));
    assert_eq!(sixth.header("retry-after"), "60");
    // Of the limit of sign-ins there is much left: it is the other one that refused.
    assert_eq!(sixth.header("ratelimit"), "\"login\";r=0;t=60");
    assert_eq!(sixth.header("ratelimit-policy"), "\"login\";q=5;w=60");
    app.close().await;
}

async fn nobody_registers_with_more_than_is_asked_for(database: Database) {
    let (app, _) = start(database, RegistrationPolicy::Open).await;
    let tenant = me(&app.admin).await["tenant"]["id"].clone();
    for (name, value) in [
        ("role", json!("admin")),
        ("roles", json!(["admin"])),
        ("tenant_id", tenant),
        ("email_verified_at", json!("2030-01-01T00:00:00Z")),
        ("platform", json!(true)),
    ] {
        let mut body = body(EVE);
        body[name] = value;
        let reply = app.anonymous().post(REGISTER, body).await;
        let errors = reply.expect(422)["errors"].clone();
        assert_eq!(errors[0]["pointer"], format!("/{name}"));
    }
    let mut weak = body(EVE);
    weak["password"] = json!("globex12");
    let reply = app.anonymous().post(REGISTER, weak).await.expect(422);
    assert_eq!(reply["errors"][0]["pointer"], "/password");
    register(&app, EVE).await.expect(201);
    app.close().await;
}
