//! The flows of one's own account, as their users meet them: with a mailbox beside the API.

use std::sync::{Arc, Mutex};

use crm_core::mail::{Mail, MailKind, MailOptions, Mailer};
use futures::future::BoxFuture;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{App, Caller, Database, PASSWORD, Reply};

const ADA: &str = "ada@acme.example";
const NEW: &str = "a new harpsichord";

crate::on_both_databases! {
    asvs_6_2_3_a_changed_password_ends_all_other_sessions
    asvs_6_2_4_a_new_password_obeys_the_policy
    sa_43_a_forgotten_password_is_set_anew_once
    asvs_6_4_4_a_reset_link_dies_with_the_next_and_with_the_password
    of_two_parallel_resets_with_one_token_one_wins
    asvs_6_3_8_an_unknown_address_gets_the_same_answer
    no_part_of_a_request_gets_into_a_link
    an_address_is_proven_by_its_link
    an_address_changes_when_its_new_owner_agrees
    at_52_a_user_name_logs_in_where_the_address_does
    logging_out_everywhere_ends_every_session
    an_invited_person_comes_in_with_a_new_account
    an_invited_user_of_another_tenant_agrees_with_their_password
    an_invitation_is_taken_back_and_gives_nothing_the_inviter_lacks
    an_invitation_holds_as_long_as_whoever_invited_holds_its_rights
    programs_have_no_account
}

/// Where mails arrive.
#[derive(Default)]
pub(crate) struct Mailbox(Mutex<Vec<Mail>>);

impl Mailer for Mailbox {
    fn send<'a>(&'a self, mail: &'a Mail) -> BoxFuture<'a, crm_core::Result<()>> {
        Box::pin(async move {
            self.0.lock().unwrap().push(mail.clone());
            Ok(())
        })
    }
}

impl Mailbox {
    /// The latest mail to an address, once all that wait have been sent.
    pub(crate) async fn latest(&self, app: &App, to: &str) -> Option<Mail> {
        app.crm.send_mails_once().await.unwrap();
        let mails = self.0.lock().unwrap();
        mails.iter().rev().find(|mail| mail.to == to).cloned()
    }

    /// Whom the mails that arrived went to, in their order.
    pub(crate) fn recipients(&self) -> Vec<String> {
        let mails = self.0.lock().unwrap();
        mails.iter().map(|mail| mail.to.clone()).collect()
    }

    /// The token in the latest mail with one to an address; mails are sent some at a time.
    pub(crate) async fn token(&self, app: &App, to: &str) -> String {
        app.crm.send_mails_once().await.unwrap();
        let mails = self.0.lock().unwrap();
        let to = mails.iter().rev().filter(|mail| mail.to == to);
        let link = to.filter_map(|mail| mail.link.as_ref()).next().unwrap();
        link.split_once("#token=").unwrap().1.to_owned()
    }
}

pub(crate) async fn start(database: Database) -> (App, Arc<Mailbox>) {
    let mailbox = Arc::new(Mailbox::default());
    let options = MailOptions {
        mailer: Some(mailbox.clone()),
        public_url: "https://crm.example/app/".into(),
    };
    let app = App::with(database, |builder| builder.mail(options)).await;
    (app, mailbox)
}

async fn login(app: &App, name: &str, password: &str) -> Reply {
    let body = json!({"email": name, "password": password});
    app.anonymous().post("/api/v1/auth/login", body).await
}

async fn refresh(app: &App, session: &Value) -> Reply {
    let body = json!({"refresh_token": session["refresh_token"]});
    app.anonymous().post("/api/v1/auth/refresh", body).await
}

async fn forgot(app: &App, email: &str) -> Reply {
    let body = json!({"email": email});
    let path = "/api/v1/auth/password/forgot";
    app.anonymous().post(path, body).await
}

async fn reset(app: &App, token: &str, password: &str) -> Reply {
    let body = json!({"token": token, "password": password});
    let path = "/api/v1/auth/password/reset";
    app.anonymous().post(path, body).await
}

async fn change(caller: &Caller, current: &str, new: &str) -> Reply {
    let body = json!({"current_password": current, "password": new});
    caller.post("/api/v1/auth/password/change", body).await
}

#[track_caller]
fn refused(reply: &Reply) -> (String, String) {
    assert_eq!(reply.status, 422, "{reply}");
    let error = &reply.json()["errors"][0];
    let text = |key: &str| error[key].as_str().unwrap().to_owned();
    (text("pointer"), text("code"))
}

/// The actions of the audit log, the latest first.
async fn audited(caller: &Caller) -> Vec<String> {
    let log = caller.get("/api/v1/audit?limit=100").await.expect(200);
    let rows = log["data"].as_array().unwrap().iter();
    rows.map(|row| row["action"].as_str().unwrap().to_owned())
        .collect()
}

async fn asvs_6_2_3_a_changed_password_ends_all_other_sessions(database: Database) {
    let (app, mailbox) = start(database).await;
    let other = login(&app, ADA, PASSWORD).await.expect(200);
    let wrong = change(&app.admin, "not the password", NEW).await;
    assert_eq!(refused(&wrong).0, "/current_password");
    let same = change(&app.admin, PASSWORD, PASSWORD).await;
    assert_eq!(refused(&same), ("/password".into(), "unchanged".into()));
    let changed = change(&app.admin, PASSWORD, NEW).await.expect(200);
    assert!(changed["password_score"].as_u64().unwrap() >= 3);
    assert_eq!(refresh(&app, &other).await.status, 401);
    assert_eq!(refresh(&app, &changed["session"]).await.status, 200);
    assert_eq!(login(&app, ADA, PASSWORD).await.status, 401);
    assert_eq!(app.admin.get("/api/v1/auth/me").await.status, 401);
    let session = login(&app, ADA, NEW).await.expect(200);
    let told = mailbox.latest(&app, ADA).await.unwrap();
    assert_eq!(told.kind, MailKind::PasswordChanged);
    let ada = app.with_token(session["access_token"].as_str());
    let audited = audited(&ada).await;
    for action in ["auth.password_changed", "auth.confirmation_failed"] {
        assert!(audited.iter().any(|one| one == action), "{audited:?}");
    }
    app.close().await;
}

async fn asvs_6_2_4_a_new_password_obeys_the_policy(database: Database) {
    let (app, _) = start(database).await;
    for (password, code) in [
        ("short", "too_short"),
        ("password1", "common_password"),
        ("ada@acme.example", "context_word"),
    ] {
        let reply = change(&app.admin, PASSWORD, password).await;
        assert_eq!(refused(&reply), ("/password".into(), code.into()));
        assert!(
            reply.body.contains("of 4)"),
            "it names the strength: {reply}"
        );
        assert!(!reply.body.contains(&format!("\"{password}\"")), "{reply}");
    }
    let long = "x".repeat(900_000);
    assert_eq!(login(&app, ADA, &long).await.status, 401);
    app.close().await;
}

async fn sa_43_a_forgotten_password_is_set_anew_once(database: Database) {
    let (app, mailbox) = start(database).await;
    let session = login(&app, ADA, PASSWORD).await.expect(200);
    assert_eq!(forgot(&app, "Ada@Acme.example").await.status, 204);
    let token = mailbox.token(&app, ADA).await;
    assert_eq!(
        refused(&reset(&app, &token, "12345678").await).1,
        "common_password",
        "which leaves the token good"
    );
    let done = reset(&app, &token, NEW).await.expect(200);
    assert!(done["password_score"].as_u64().unwrap() >= 3);
    assert_eq!(refresh(&app, &session).await.status, 401, "sessions end");
    for password in ["another harpsichord", "12345678"] {
        assert_eq!(
            refused(&reset(&app, &token, password).await),
            ("/token".into(), "invalid_token".into())
        );
    }
    let session = login(&app, ADA, NEW).await.expect(200);
    let ada = app.with_token(session["access_token"].as_str());
    let me = ada.get("/api/v1/auth/me").await.expect(200);
    assert_ne!(me["user"]["email_verified_at"], Value::Null);
    let audited = audited(&ada).await;
    for action in ["auth.password_reset", "auth.password_reset_requested"] {
        assert!(audited.iter().any(|one| one == action), "{audited:?}");
    }
    app.close().await;
}

async fn asvs_6_4_4_a_reset_link_dies_with_the_next_and_with_the_password(database: Database) {
    let (app, mailbox) = start(database).await;
    let minute = chrono::TimeDelta::seconds(61);
    let mut tokens = Vec::new();
    for _ in 0..2 {
        forgot(&app, ADA).await.expect(204);
        tokens.push(mailbox.token(&app, ADA).await);
        forgot(&app, ADA).await.expect(204);
        assert_eq!(
            Some(&mailbox.token(&app, ADA).await),
            tokens.last(),
            "one mail a minute"
        );
        app.clock.advance(minute);
    }
    assert_ne!(tokens[0], tokens[1]);
    assert_eq!(refused(&reset(&app, &tokens[0], NEW).await).0, "/token");
    change(&app.admin, PASSWORD, NEW).await.expect(200);
    assert_eq!(refused(&reset(&app, &tokens[1], NEW).await).0, "/token");
    app.clock.advance(minute);
    forgot(&app, ADA).await.expect(204);
    let token = mailbox.token(&app, ADA).await;
    app.clock.advance(chrono::TimeDelta::hours(1));
    assert_eq!(refused(&reset(&app, &token, NEW).await).0, "/token");
    app.close().await;
}

async fn of_two_parallel_resets_with_one_token_one_wins(database: Database) {
    let (app, mailbox) = start(database).await;
    forgot(&app, ADA).await.expect(204);
    let token = mailbox.token(&app, ADA).await;
    let passwords = ["first harpsichord", "second harpsichord"];
    let both = passwords.map(|password| reset(&app, &token, password));
    let replies = futures::future::join_all(both).await;
    let mut statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    let winner = statuses.iter().position(|status| *status == 200).unwrap();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 422]);
    for (index, password) in passwords.into_iter().enumerate() {
        let status = login(&app, ADA, password).await.status;
        assert_eq!(status == 200, index == winner);
    }
    app.close().await;
}

async fn asvs_6_3_8_an_unknown_address_gets_the_same_answer(database: Database) {
    let (app, mailbox) = start(database).await;
    let known = forgot(&app, ADA).await;
    let unknown = forgot(&app, "eve@acme.example").await;
    assert_eq!((known.status, known.body), (unknown.status, unknown.body));
    assert!(mailbox.latest(&app, "eve@acme.example").await.is_none());
    assert!(mailbox.latest(&app, ADA).await.is_some());
    app.close().await;
}

async fn no_part_of_a_request_gets_into_a_link(database: Database) {
    let (app, mailbox) = start(database).await;
    let request = app
        .bare(Method::POST, "/api/v1/auth/password/forgot")
        .header("Host", "evil.example")
        .header("X-Forwarded-Host", "evil.example")
        .json(&json!({"email": ADA}));
    assert_eq!(request.send().await.unwrap().status(), 204);
    let mail = mailbox.latest(&app, ADA).await.unwrap();
    assert!(!mail.text.contains("evil"), "{}", mail.text);
    let link = mail.link.unwrap();
    assert!(
        link.starts_with("https://crm.example/app/reset-password#token=crm_pr_"),
        "{link}"
    );
    assert!(mail.text.contains(&link));
    app.close().await;
}

async fn an_address_is_proven_by_its_link(database: Database) {
    let (app, mailbox) = start(database).await;
    let bo = app.member("bo", "viewer").await;
    let ask = bo.post("/api/v1/auth/email/verification", json!({}));
    ask.await.expect(204);
    let token = mailbox.token(&app, "bo@acme.example").await;
    let verify = async |caller: &Caller| {
        let body = json!({"token": token});
        caller.post("/api/v1/auth/email/verify", body).await
    };
    // Whoever reads the mails of an address has not made the account that asked for one.
    assert_eq!(verify(&app.anonymous()).await.status, 401);
    assert_eq!(refused(&verify(&app.admin).await).0, "/token");
    verify(&bo).await.expect(204);
    assert_eq!(refused(&verify(&bo).await).0, "/token");
    let me = bo.get("/api/v1/auth/me").await.expect(200);
    assert_eq!(me["user"]["email_verified_at"], "2026-01-31T09:30:00Z");
    app.close().await;
}

async fn an_address_changes_when_its_new_owner_agrees(database: Database) {
    let (app, mailbox) = start(database).await;
    app.member("bo", "viewer").await;
    let change = async |email: &str, password: &str| {
        let body = json!({"email": email, "password": password});
        app.admin.post("/api/v1/auth/email/change", body).await
    };
    let wrong = change("ada@new.example", "not the password").await;
    assert_eq!(refused(&wrong).0, "/password");
    let taken = change("bo@acme.example", PASSWORD).await;
    let free = change("ada@new.example", PASSWORD).await;
    assert_eq!((taken.status, taken.body), (free.status, free.body));
    let told = mailbox.latest(&app, "bo@acme.example").await.unwrap();
    assert_eq!((told.kind, told.link), (MailKind::EmailInUse, None));
    forgot(&app, ADA).await.expect(204);
    let reset_token = mailbox.token(&app, ADA).await;
    assert_eq!(login(&app, "ada@new.example", PASSWORD).await.status, 401);

    let body = json!({"token": mailbox.token(&app, "ada@new.example").await});
    let path = "/api/v1/auth/email/verify";
    app.admin.post(path, body).await.expect(204);
    assert_eq!(login(&app, "ada@new.example", PASSWORD).await.status, 200);
    assert_eq!(login(&app, ADA, PASSWORD).await.status, 401);
    let told = mailbox.latest(&app, ADA).await.unwrap();
    assert_eq!(told.kind, MailKind::EmailChanged);
    assert_eq!(
        refused(&reset(&app, &reset_token, NEW).await).0,
        "/token",
        "links to the old address are dead"
    );
    app.close().await;
}

async fn at_52_a_user_name_logs_in_where_the_address_does(database: Database) {
    let (app, _) = start(database).await;
    let bo = app.member("bo", "viewer").await;
    let set = async |caller: &Caller, name: Value| {
        let body = Some(json!({"username": name, "password": PASSWORD}));
        caller
            .send(Method::PUT, "/api/v1/auth/username", body)
            .await
    };
    let (path, wrong) = ("/api/v1/auth/username", "not the harpsichord");
    let body = json!({"username": "employee.one", "password": wrong});
    let reply = app.admin.send(Method::PUT, path, Some(body)).await;
    assert_eq!(refused(&reply).0, "/password");
    set(&app.admin, json!("Employee.One")).await.expect(204);
    assert_eq!(login(&app, "employee.one", PASSWORD).await.status, 200);
    assert_eq!(login(&app, "EMPLOYEE.ONE", PASSWORD).await.status, 200);
    assert_eq!(
        set(&bo, json!("employee.one")).await.problem(),
        (409, "username_taken".into())
    );
    for name in ["ada@acme.example", "a", "two words"] {
        assert_eq!(refused(&set(&bo, json!(name)).await).0, "/username");
    }
    set(&app.admin, Value::Null).await.expect(204);
    let gone = login(&app, "employee.one", PASSWORD).await;
    let unknown = login(&app, "eve@acme.example", PASSWORD).await;
    assert_eq!((gone.status, gone.body), (401, unknown.body));
    app.close().await;
}

async fn logging_out_everywhere_ends_every_session(database: Database) {
    let (app, _) = start(database).await;
    let sessions = [
        login(&app, ADA, PASSWORD).await.expect(200),
        login(&app, ADA, PASSWORD).await.expect(200),
    ];
    let bo = app.member("bo", "viewer").await;
    let everywhere = app.admin.post("/api/v1/auth/logout-everywhere", json!({}));
    everywhere.await.expect(204);
    for session in &sessions {
        assert_eq!(refresh(&app, session).await.status, 401);
    }
    assert_eq!(bo.get("/api/v1/contacts").await.status, 200);
    app.close().await;
}

async fn an_invited_person_comes_in_with_a_new_account(database: Database) {
    let (app, mailbox) = start(database).await;
    let body = json!({"email": "Cy@New.example", "name": "Cy", "roles": ["viewer"]});
    let invitation = app
        .admin
        .post("/api/v1/invitations", body)
        .await
        .expect(201);
    assert_eq!(invitation["email"], "cy@new.example");
    let mail = mailbox.latest(&app, "cy@new.example").await.unwrap();
    assert_eq!(mail.subject, "You are invited to acme");
    let token = mailbox.token(&app, "cy@new.example").await;
    let (path, body) = ("/api/v1/auth/invitation/read", json!({"token": token}));
    let read = app.anonymous().post(path, body).await;
    assert_eq!(
        read.expect(200),
        json!({"tenant": "acme", "email": "cy@new.example", "name": "Cy", "has_account": false})
    );
    let accept = async |password: &str| {
        let body = json!({"token": token, "password": password});
        let path = "/api/v1/auth/invitation/accept";
        app.anonymous().post(path, body).await
    };
    assert_eq!(refused(&accept("12345678").await).0, "/password");
    let accepted = accept(NEW).await.expect(201);
    assert_eq!(accepted["existed"], false);
    assert!(accepted["password_score"].as_u64().unwrap() >= 3);
    for password in [NEW, "12345678"] {
        assert_eq!(refused(&accept(password).await).0, "/token");
    }
    let session = login(&app, "cy@new.example", NEW).await.expect(200);
    let cy = app.with_token(session["access_token"].as_str());
    let me = cy.get("/api/v1/auth/me").await.expect(200);
    assert_eq!(me["roles"][0]["name"], "viewer");
    assert_ne!(me["user"]["email_verified_at"], Value::Null);
    let open = app.admin.get("/api/v1/invitations").await.expect(200);
    assert_eq!(open["data"], json!([]));
    app.close().await;
}

async fn an_invited_user_of_another_tenant_agrees_with_their_password(database: Database) {
    let (app, mailbox) = start(database).await;
    app.foreign_admin().await;
    let hank = "hank@globex.example";
    let body = json!({"email": hank, "name": "H", "password": PASSWORD, "roles": ["viewer"]});
    let added = app.admin.post("/api/v1/members", body).await;
    assert_eq!(added.problem(), (409, "user_exists".into()));
    let body = json!({"email": hank, "name": "H", "roles": ["viewer"]});
    app.admin
        .post("/api/v1/invitations", body)
        .await
        .expect(201);
    let token = mailbox.token(&app, hank).await;
    let accept = async |password: &str| {
        let body = json!({"token": token, "password": password});
        let path = "/api/v1/auth/invitation/accept";
        app.anonymous().post(path, body).await
    };
    assert_eq!(
        accept(NEW).await.problem(),
        (401, "invalid_credentials".into())
    );
    let accepted = accept(PASSWORD).await.expect(201);
    assert_eq!(accepted["existed"], true);
    assert_eq!(accepted["password_score"], Value::Null, "it set none");
    let body = json!({"email": hank, "password": PASSWORD, "tenant": "acme"});
    app.anonymous()
        .post("/api/v1/auth/login", body)
        .await
        .expect(200);
    let again = json!({"email": hank, "name": "H", "roles": ["viewer"]});
    let again = app.admin.post("/api/v1/invitations", again).await;
    assert_eq!(again.problem(), (409, "already_member".into()));
    app.close().await;
}

async fn an_invitation_is_taken_back_and_gives_nothing_the_inviter_lacks(database: Database) {
    let (app, mailbox) = start(database).await;
    let permissions = json!(["members.*", "contacts.read"]);
    let body = json!({"name": "helper", "permissions": permissions});
    app.admin.post("/api/v1/roles", body).await.expect(201);
    let helper = app.member("helper", "helper").await;
    let invite = |role: &str| json!({"email": "cy@new.example", "name": "Cy", "roles": [role]});
    let path = "/api/v1/invitations";
    assert_eq!(helper.post(path, invite("admin")).await.status, 403);
    let made = helper.post(path, invite("helper")).await.expect(201);
    let first = mailbox.token(&app, "cy@new.example").await;
    app.clock.advance(chrono::TimeDelta::minutes(1));
    let again = helper.post(path, invite("helper")).await.expect(201);
    assert_ne!(made["id"], again["id"]);
    let read = async |token: &str| {
        let body = json!({"token": token});
        app.anonymous()
            .post("/api/v1/auth/invitation/read", body)
            .await
    };
    assert_eq!(
        refused(&read(&first).await).0,
        "/token",
        "a new one kills the old"
    );
    let second = mailbox.token(&app, "cy@new.example").await;
    read(&second).await.expect(200);
    let one = format!("{path}/{}", again["id"].as_str().unwrap());
    helper.delete(&one).await.expect(204);
    assert_eq!(helper.delete(&one).await.status, 404);
    assert_eq!(refused(&read(&second).await).0, "/token");
    app.close().await;
}

async fn an_invitation_holds_as_long_as_whoever_invited_holds_its_rights(database: Database) {
    let (app, mailbox) = start(database).await;
    let eve = app.member("eve", "admin").await;
    let body = json!({"email": "cy@new.example", "name": "Cy", "roles": ["admin"]});
    let path = "/api/v1/invitations";
    eve.post(path, body).await.expect(201);
    let token = mailbox.token(&app, "cy@new.example").await;
    let me = eve.get("/api/v1/auth/me").await.expect(200);
    let roles = format!(
        "/api/v1/members/{}/roles",
        me["user"]["id"].as_str().unwrap()
    );
    let answer = async |what: &str, password: Option<&str>| {
        let body = match password {
            Some(password) => json!({"token": token, "password": password}),
            None => json!({"token": token}),
        };
        let path = format!("/api/v1/auth/invitation/{what}");
        app.anonymous().post(&path, body).await
    };
    let body = json!({"roles": ["viewer"]});
    app.admin
        .send(Method::PUT, &roles, Some(body))
        .await
        .expect(200);
    assert_eq!(refused(&answer("read", None).await).0, "/token");
    assert_eq!(refused(&answer("accept", Some(NEW)).await).0, "/token");
    let body = json!({"roles": ["admin"]});
    app.admin
        .send(Method::PUT, &roles, Some(body))
        .await
        .expect(200);
    answer("accept", Some(NEW)).await.expect(201);
    app.close().await;
}

async fn programs_have_no_account(database: Database) {
    let (app, _) = start(database).await;
    let program = app.program("admin").await;
    let reply = change(&program, PASSWORD, NEW).await;
    assert_eq!(reply.problem(), (409, "not_a_user".into()));
    app.close().await;
}
