//! Passkeys in the hands of others: every attack gets the one answer, and leaves the owner's
//! passkey as good as it was.

use serde_json::{Value, json};

use crate::app::{App, Database, Reply};
use crate::authenticator::{Key, Manner, PRESENT, VERIFIED};
use crate::passkey::{answer, ask, audited, begin, enter, finish, login, owner, register, start};

crate::on_both_databases! {
    a_login_answered_otherwise_than_asked_opens_nothing
    an_answer_is_good_once_and_for_five_minutes
    nobody_logs_in_as_another_user
    a_counter_that_does_not_move_betrays_a_copy
    of_fifty_parallel_answers_one_opens_a_session
    a_registration_answered_otherwise_than_asked_registers_nothing
    a_credential_is_registered_once
    a_challenge_is_of_one_user_and_one_purpose
    what_is_no_answer_is_refused_as_a_body
}

#[track_caller]
fn closed(reply: &Reply, why: &str) -> String {
    assert_eq!(reply.problem(), (401, "passkey_refused".into()), "{why}");
    reply.body.clone()
}

/// Answers that no browser gives for this application and this challenge.
fn dishonest() -> Vec<(&'static str, Manner)> {
    let honest = Manner::default;
    vec![
        (
            "another origin",
            Manner {
                origin: "https://crm.example.evil.example".into(),
                ..honest()
            },
        ),
        (
            "a subdomain",
            Manner {
                origin: "https://evil.crm.example".into(),
                ..honest()
            },
        ),
        (
            "another port",
            Manner {
                origin: "https://crm.example:8443".into(),
                ..honest()
            },
        ),
        (
            "no TLS",
            Manner {
                origin: "http://crm.example".into(),
                ..honest()
            },
        ),
        (
            "an embedded page",
            Manner {
                cross_origin: true,
                ..honest()
            },
        ),
        (
            "another relying party",
            Manner {
                rp_id: Some("evil.example"),
                ..honest()
            },
        ),
        (
            "another challenge",
            Manner {
                challenge: Some("A".repeat(43)),
                ..honest()
            },
        ),
        (
            "no challenge",
            Manner {
                challenge: Some(String::new()),
                ..honest()
            },
        ),
        (
            "owner not verified",
            Manner {
                flags: PRESENT,
                ..honest()
            },
        ),
        (
            "nobody present",
            Manner {
                flags: VERIFIED,
                ..honest()
            },
        ),
    ]
}

async fn a_login_answered_otherwise_than_asked_opens_nothing(database: Database) {
    let (app, _) = start(database).await;
    let mut key = register(&app.admin).await;
    let mut manners = dishonest();
    let creation = Manner {
        kind: Some("webauthn.create"),
        ..Manner::default()
    };
    manners.push(("the answer to a registration", creation));
    let mut bodies = Vec::new();
    for (why, manner) in manners {
        let asked = ask(&app).await;
        let credential = key.sign(&asked["public_key"], &manner);
        bodies.push(closed(
            &answer(&app, &asked, &credential, Value::Null).await,
            why,
        ));
        // The challenge is used up.
        let credential = key.sign(&asked["public_key"], &Manner::default());
        bodies.push(closed(
            &answer(&app, &asked, &credential, Value::Null).await,
            why,
        ));
    }
    for part in ["signature", "authenticatorData", "clientDataJSON"] {
        let asked = ask(&app).await;
        let mut credential = key.sign(&asked["public_key"], &Manner::default());
        let text = credential["response"][part].as_str().unwrap();
        let last = if text.ends_with('A') { "E" } else { "A" };
        let middle = text.len() / 2;
        let forged = format!("{}{last}{}", &text[..middle], &text[middle + 1..]);
        credential["response"][part] = forged.into();
        let reply = answer(&app, &asked, &credential, Value::Null).await;
        if part == "clientDataJSON" && reply.status == 422 {
            continue;
        }
        bodies.push(closed(&reply, part));
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    enter(&app, &mut key).await.expect(200);
    app.close().await;
}

async fn an_answer_is_good_once_and_for_five_minutes(database: Database) {
    let (app, _) = start(database).await;
    let mut key = register(&app.admin).await;
    let asked = ask(&app).await;
    let credential = key.sign(&asked["public_key"], &Manner::default());
    answer(&app, &asked, &credential, Value::Null)
        .await
        .expect(200);
    closed(
        &answer(&app, &asked, &credential, Value::Null).await,
        "replayed",
    );
    let other = ask(&app).await;
    closed(
        &answer(&app, &other, &credential, Value::Null).await,
        "replayed elsewhere",
    );
    let asked = ask(&app).await;
    app.clock.advance(chrono::TimeDelta::minutes(5));
    let credential = key.sign(&asked["public_key"], &Manner::default());
    closed(
        &answer(&app, &asked, &credential, Value::Null).await,
        "late",
    );
    let asked = ask(&app).await;
    app.clock.step_back(chrono::TimeDelta::hours(1));
    let credential = key.sign(&asked["public_key"], &Manner::default());
    closed(
        &answer(&app, &asked, &credential, Value::Null).await,
        "of the future",
    );
    enter(&app, &mut key).await.expect(200);
    app.close().await;
}

async fn nobody_logs_in_as_another_user(database: Database) {
    let (app, _) = start(database).await;
    let mut adas = register(&app.admin).await;
    let bob = owner(&app, "bob", "viewer").await;
    let mut bobs = register(&bob).await;
    let asked = ask(&app).await;
    let mut strange = Key::create(&begin(&bob).await["public_key"], &Manner::default()).0;
    for (why, known, handle) in [
        ("another user's handle", true, adas.handle.clone()),
        ("no handle", true, Vec::new()),
        ("an unknown handle", true, vec![7; 16]),
        ("an unknown key", false, adas.handle.clone()),
    ] {
        let key = if known { &mut bobs } else { &mut strange };
        let handle = Some(handle);
        let manner = Manner {
            handle,
            ..Manner::default()
        };
        let credential = key.sign(&asked["public_key"], &manner);
        closed(&answer(&app, &asked, &credential, Value::Null).await, why);
    }
    let asked = ask(&app).await;
    let mut credential = bobs.sign(&asked["public_key"], &Manner::default());
    let own = adas.sign(&asked["public_key"], &Manner::default());
    for part in ["id", "rawId"] {
        credential[part] = own[part].clone();
    }
    credential["response"]["userHandle"] = own["response"]["userHandle"].clone();
    closed(
        &answer(&app, &asked, &credential, Value::Null).await,
        "signed by another key",
    );
    enter(&app, &mut adas).await.expect(200);
    let session = enter(&app, &mut bobs).await.expect(200);
    let me = app.with_token(session["access_token"].as_str());
    let me = me.get("/api/v1/auth/me").await.expect(200);
    assert_eq!(me["user"]["email"], "bob@acme.example");
    app.close().await;
}

async fn a_counter_that_does_not_move_betrays_a_copy(database: Database) {
    let (app, _) = start(database).await;
    let mut key = register(&app.admin).await;
    for _ in 0..3 {
        enter(&app, &mut key).await.expect(200);
    }
    for step in [0, -1, -2] {
        let asked = ask(&app).await;
        let manner = Manner {
            step,
            ..Manner::default()
        };
        let credential = key.sign(&asked["public_key"], &manner);
        closed(
            &answer(&app, &asked, &credential, Value::Null).await,
            "copied",
        );
    }
    let log = audited(&app.admin).await;
    let copied = log.iter().filter(|action| *action == "auth.passkey_copied");
    assert_eq!(copied.count(), 3);
    let asked = ask(&app).await;
    let manner = Manner {
        step: 4,
        ..Manner::default()
    };
    let credential = key.sign(&asked["public_key"], &manner);
    answer(&app, &asked, &credential, Value::Null)
        .await
        .expect(200);
    app.close().await;
}

async fn of_fifty_parallel_answers_one_opens_a_session(database: Database) {
    let (app, _) = start(database).await;
    let mut key = register(&app.admin).await;
    let asked = ask(&app).await;
    let credential = key.sign(&asked["public_key"], &Manner::default());
    let all = (0..50).map(|_| answer(&app, &asked, &credential, Value::Null));
    let replies = futures::future::join_all(all).await;
    let opened = replies.iter().filter(|reply| reply.status == 200);
    assert_eq!(opened.count(), 1);
    // The same counter in answers to challenges of their own.
    let mut answers = Vec::new();
    for step in [1, 0, 0, 0] {
        let asked = ask(&app).await;
        let manner = Manner {
            step,
            ..Manner::default()
        };
        let credential = key.sign(&asked["public_key"], &manner);
        answers.push((asked, credential));
    }
    let all = answers
        .iter()
        .map(|(asked, credential)| answer(&app, asked, credential, Value::Null));
    let replies = futures::future::join_all(all).await;
    let opened = replies.iter().filter(|reply| reply.status == 200);
    assert_eq!(opened.count(), 1);
    app.close().await;
}

#[track_caller]
fn unregistered(reply: &Reply, why: &str) {
    assert_eq!(reply.status, 422, "{why}: {reply}");
    let error = &reply.json()["errors"][0];
    assert_eq!(error["pointer"], "/credential", "{why}");
}

async fn a_registration_answered_otherwise_than_asked_registers_nothing(database: Database) {
    let (app, _) = start(database).await;
    let mut manners = dishonest();
    let request = Manner {
        kind: Some("webauthn.get"),
        ..Manner::default()
    };
    manners.push(("the answer to a login", request));
    for (why, manner) in manners {
        let begun = begin(&app.admin).await;
        let (key, credential) = Key::create(&begun["public_key"], &manner);
        unregistered(&finish(&app.admin, &begun, credential).await, why);
        let credential = key.attest(&begun["public_key"], &Manner::default());
        let again = finish(&app.admin, &begun, credential).await.json();
        assert_eq!(again["errors"][0]["pointer"], "/passkey_token", "{why}");
    }
    let none = app.admin.get("/api/v1/auth/passkeys").await.expect(200);
    assert_eq!(none, json!({"data": []}));
    app.close().await;
}

async fn a_credential_is_registered_once(database: Database) {
    let (app, _) = start(database).await;
    let begun = begin(&app.admin).await;
    let (mut key, credential) = Key::create(&begun["public_key"], &Manner::default());
    let late = begin(&app.admin).await;
    finish(&app.admin, &begun, credential).await.expect(201);
    let credential = key.attest(&late["public_key"], &Manner::default());
    let twice = finish(&app.admin, &late, credential).await;
    assert_eq!(twice.problem(), (409, "passkey_exists".into()));
    let begun = begin(&app.admin).await;
    let credential = key.attest(&begun["public_key"], &Manner::default());
    unregistered(&finish(&app.admin, &begun, credential).await, "excluded");
    let bob = owner(&app, "bob", "viewer").await;
    let begun = begin(&bob).await;
    let credential = key.attest(&begun["public_key"], &Manner::default());
    let stolen = finish(&bob, &begun, credential).await;
    assert_eq!(stolen.problem(), (409, "passkey_exists".into()));
    enter(&app, &mut key).await.expect(200);
    app.close().await;
}

async fn a_challenge_is_of_one_user_and_one_purpose(database: Database) {
    let (app, _): (App, _) = start(database).await;
    let mut key = register(&app.admin).await;
    let bob = app.member("bob", "viewer").await;
    let adas = begin(&app.admin).await;
    let (other, credential) = Key::create(&adas["public_key"], &Manner::default());
    let stolen = finish(&bob, &adas, credential).await.json();
    assert_eq!(stolen["errors"][0]["pointer"], "/passkey_token");
    let asked = ask(&app).await;
    let mut options = begin(&app.admin).await["public_key"].clone();
    options["challenge"] = asked["public_key"]["challenge"].clone();
    let credential = other.attest(&options, &Manner::default());
    let confused = finish(&app.admin, &asked, credential).await.json();
    assert_eq!(confused["errors"][0]["pointer"], "/passkey_token");

    // A challenge of a second step opens nothing without the password before it.
    let body = Some(json!({"second_factor": true}));
    let path = "/api/v1/auth/requirements";
    app.admin
        .send(reqwest::Method::PUT, path, body)
        .await
        .expect(200);
    let waiting = login(&app, crate::app::PASSWORD).await.json();
    let body = json!({"mfa_token": waiting["mfa_token"]});
    let path = "/api/v1/auth/mfa/passkey/options";
    let step = app.anonymous().post(path, body).await.expect(200);
    let credential = key.sign(&step["public_key"], &Manner::default());
    closed(
        &answer(&app, &step, &credential, Value::Null).await,
        "of a second step",
    );
    let asked = ask(&app).await;
    let credential = key.sign(&asked["public_key"], &Manner::default());
    let body = json!({"mfa_token": waiting["mfa_token"], "credential": credential,
        "passkey_token": asked["passkey_token"]});
    let reply = app.anonymous().post("/api/v1/auth/mfa/passkey", body).await;
    unregistered(&reply, "of a login");
    app.close().await;
}

async fn what_is_no_answer_is_refused_as_a_body(database: Database) {
    let (app, _) = start(database).await;
    let mut key = register(&app.admin).await;
    let asked = ask(&app).await;
    let right = key.sign(&asked["public_key"], &Manner::default());
    for (member, value) in [
        ("rawId", json!(7)),
        ("rawId", json!("not base64url!")),
        ("response", json!({})),
        ("response", Value::Null),
    ] {
        let mut odd = right.clone();
        odd[member] = value;
        unregistered(&answer(&app, &asked, &odd, Value::Null).await, member);
    }
    unregistered(
        &answer(&app, &asked, &json!({}), Value::Null).await,
        "nothing",
    );
    let mut newer = right;
    newer["somethingThatBrowsersAddLater"] = json!({"deep": [1]});
    answer(&app, &asked, &newer, Value::Null).await.expect(200);
    app.close().await;
}
