//! Second factors as their users meet them: setting up, logging in, recovering.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha1::Sha1;

use crate::account::{Mailbox, start};
use crate::app::{App, Caller, Database, PASSWORD, Reply};

const ADA: &str = "ada@acme.example";

crate::on_both_databases! {
    asvs_6_3_3_a_login_takes_two_steps_once_a_factor_is_set_up
    asvs_6_5_1_a_code_works_once
    asvs_6_5_2_a_recovery_code_works_once
    a_challenge_ends_after_five_tries_and_after_five_minutes
    a_factor_is_taken_away_with_password_and_code
    a_tenant_requires_a_second_factor_of_its_members
    a_reset_password_does_not_pass_the_second_factor
    the_operator_takes_a_lost_factor_away
}

/// An authenticator application (RFC 6238), written anew.
pub(crate) struct Device(Vec<u8>);

impl Device {
    pub(crate) fn new(secret: &Value) -> Self {
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
        for letter in secret.as_str().unwrap().chars() {
            bits = bits << 5 | u32::try_from(alphabet.find(letter).unwrap()).unwrap();
            count += 5;
            if count >= 8 {
                count -= 8;
                bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
            }
        }
        Self(bytes)
    }

    pub(crate) fn code(&self, app: &App) -> String {
        self.code_of(&app.crm)
    }

    fn code_of(&self, crm: &crm_core::Crm) -> String {
        let step = crm.clock().now().timestamp() / 30;
        let mut mac = Hmac::<Sha1>::new_from_slice(&self.0).unwrap();
        mac.update(&step.to_be_bytes());
        let digest: [u8; 20] = mac.finalize().into_bytes().into();
        let at = usize::from(digest[19] & 15);
        let word: [u8; 4] = digest[at..at + 4].try_into().unwrap();
        format!(
            "{:06}",
            (u32::from_be_bytes(word) & 0x7fff_ffff) % 1_000_000
        )
    }
}

/// Sets a factor up; answers the device and the recovery codes.
pub(crate) async fn set_up(app: &App, caller: &Caller) -> (Device, Vec<String>) {
    let body = json!({"password": PASSWORD});
    let begun = caller.post("/api/v1/auth/totp", body).await.expect(200);
    let uri = begun["uri"].as_str().unwrap();
    // The application's name, and no tenant's: the factor is good in all of them.
    assert!(
        uri.starts_with("otpauth://totp/") && uri.contains("CRM:"),
        "{uri}"
    );
    let device = Device::new(&begun["secret"]);
    let body = json!({"code": device.code(app)});
    let path = "/api/v1/auth/totp/confirm";
    let confirmed = caller.post(path, body).await.expect(200);
    let codes = confirmed["recovery_codes"].as_array().unwrap().iter();
    let codes = codes.map(|code| code.as_str().unwrap().to_owned());
    app.clock.advance(chrono::TimeDelta::seconds(30));
    (device, codes.collect())
}

/// Sets a factor up in the middle of a login that waits for one; answers the device and the
/// session.
pub(crate) async fn enroll(
    crm: &crm_core::Crm,
    caller: &Caller,
    waiting: &Value,
) -> (Device, Value) {
    assert_eq!(waiting["mfa_enrolled"], false);
    let token = &waiting["mfa_token"];
    let begun = caller.post("/api/v1/auth/mfa/enroll", json!({"mfa_token": token}));
    let device = Device::new(&begun.await.expect(200)["secret"]);
    let body = json!({"mfa_token": token, "code": device.code_of(crm)});
    let session = caller.post("/api/v1/auth/mfa", body).await.expect(200);
    (device, session)
}

/// Has the operator ask for a second factor in a tenant.
pub(crate) async fn require(app: &App, tenant: &str) {
    let request = crm_core::RequestContext {
        id: "operator".into(),
        address: None,
    };
    let tenant = app.crm.tenants().find_by_name(tenant).await.unwrap();
    let scope = app.crm.operator(tenant.unwrap().id, request);
    let permit = scope.permit::<crm_core::Update>("members").unwrap();
    let accounts = app.crm.accounts();
    accounts.require_second_factor(&permit, true).await.unwrap();
}

async fn login(app: &App, email: &str) -> Reply {
    let body = json!({"email": email, "password": PASSWORD});
    app.anonymous().post("/api/v1/auth/login", body).await
}

/// The token of a login that waits for its second step.
async fn first_step(app: &App, enrolled: bool) -> Value {
    let reply = login(app, ADA).await;
    assert_eq!(reply.problem(), (401, "second_factor_required".into()));
    let body = reply.json();
    assert_eq!(body["mfa_enrolled"], enrolled);
    body["mfa_token"].clone()
}

async fn second_step(app: &App, token: &Value, code: &str) -> Reply {
    let body = json!({"mfa_token": token, "code": code});
    app.anonymous().post("/api/v1/auth/mfa", body).await
}

#[track_caller]
fn refused(reply: &Reply) -> String {
    assert_eq!(reply.status, 422, "{reply}");
    reply.json()["errors"][0]["pointer"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn asvs_6_3_3_a_login_takes_two_steps_once_a_factor_is_set_up(database: Database) {
    let (app, mailbox) = start(database).await;
    let wrong = json!({"password": "not the password"});
    let wrong = app.admin.post("/api/v1/auth/totp", wrong).await;
    assert_eq!(refused(&wrong), "/password");
    let (device, codes) = set_up(&app, &app.admin).await;
    assert_eq!(codes.len(), 10);
    assert!(
        mailbox.latest(&app, ADA).await.is_some(),
        "the user is told"
    );
    let token = first_step(&app, true).await;
    assert_eq!(refused(&second_step(&app, &token, "12 34").await), "/code");
    let session = second_step(&app, &token, &device.code(&app)).await;
    let session = session.expect(200);
    let ada = app.with_token(session["access_token"].as_str());
    assert_eq!(ada.get("/api/v1/contacts").await.status, 200);
    let again = json!({"password": PASSWORD});
    let again = ada.post("/api/v1/auth/totp", again).await;
    assert_eq!(again.problem(), (409, "second_factor_exists".into()));
    app.close().await;
}

async fn asvs_6_5_1_a_code_works_once(database: Database) {
    let (app, _) = start(database).await;
    let (device, _) = set_up(&app, &app.admin).await;
    let code = device.code(&app);
    let (one, other) = (first_step(&app, true).await, first_step(&app, true).await);
    second_step(&app, &one, &code).await.expect(200);
    assert_eq!(refused(&second_step(&app, &other, &code).await), "/code");
    assert_eq!(
        refused(&second_step(&app, &one, &code).await),
        "/mfa_token",
        "a finished login is finished"
    );
    app.close().await;
}

async fn asvs_6_5_2_a_recovery_code_works_once(database: Database) {
    let (app, _) = start(database).await;
    let (device, codes) = set_up(&app, &app.admin).await;
    let token = first_step(&app, true).await;
    let typed = codes[3].to_lowercase().replace('-', " ");
    second_step(&app, &token, &typed).await.expect(200);
    let token = first_step(&app, true).await;
    assert_eq!(
        refused(&second_step(&app, &token, &codes[3]).await),
        "/code"
    );
    second_step(&app, &token, &codes[4]).await.expect(200);

    let body = json!({"password": PASSWORD, "code": device.code(&app)});
    let path = "/api/v1/auth/totp/recovery-codes";
    let renewed = app.admin.post(path, body).await.expect(200);
    assert_eq!(renewed["recovery_codes"].as_array().unwrap().len(), 10);
    let token = first_step(&app, true).await;
    assert_eq!(
        refused(&second_step(&app, &token, &codes[5]).await),
        "/code"
    );
    app.close().await;
}

async fn a_challenge_ends_after_five_tries_and_after_five_minutes(database: Database) {
    let (app, _) = start(database).await;
    let (device, _) = set_up(&app, &app.admin).await;
    let token = first_step(&app, true).await;
    for _ in 0..5 {
        assert_eq!(refused(&second_step(&app, &token, "abc").await), "/code");
    }
    let code = device.code(&app);
    assert_eq!(
        refused(&second_step(&app, &token, &code).await),
        "/mfa_token"
    );
    let locked = login(&app, ADA).await;
    assert_eq!(
        locked.problem().0,
        429,
        "wrong codes count as wrong passwords"
    );
    app.clock.advance(chrono::TimeDelta::seconds(1));
    let token = first_step(&app, true).await;
    app.clock.advance(chrono::TimeDelta::minutes(5));
    let code = device.code(&app);
    assert_eq!(
        refused(&second_step(&app, &token, &code).await),
        "/mfa_token"
    );
    app.close().await;
}

async fn a_factor_is_taken_away_with_password_and_code(database: Database) {
    let (app, _) = start(database).await;
    let (device, _) = set_up(&app, &app.admin).await;
    let disable = async |password: &str, code: &str| {
        let body = json!({"password": password, "code": code});
        app.admin.post("/api/v1/auth/totp/disable", body).await
    };
    let code = device.code(&app);
    assert_eq!(
        refused(&disable("not the password", &code).await),
        "/password"
    );
    assert_eq!(refused(&disable(PASSWORD, "000").await), "/code");
    disable(PASSWORD, &code).await.expect(204);
    assert_eq!(
        disable(PASSWORD, &code).await.problem(),
        (409, "no_second_factor".into())
    );
    login(&app, ADA).await.expect(200);
    app.close().await;
}

async fn a_tenant_requires_a_second_factor_of_its_members(database: Database) {
    let (app, _) = start(database).await;
    require(&app, "acme").await;
    assert_eq!(
        app.admin.get("/api/v1/auth/me").await.problem(),
        (401, "token_invalid".into()),
        "what began without one has ended"
    );
    let token = first_step(&app, false).await;
    let enroll = async || {
        let body = json!({"mfa_token": token});
        app.anonymous().post("/api/v1/auth/mfa/enroll", body).await
    };
    assert_eq!(refused(&second_step(&app, &token, "123456").await), "/code");
    let device = Device::new(&enroll().await.expect(200)["secret"]);
    second_step(&app, &token, &device.code(&app))
        .await
        .expect(200);
    app.clock.advance(chrono::TimeDelta::seconds(30));
    let token = first_step(&app, true).await;
    let body = json!({"mfa_token": token});
    let again = app.anonymous().post("/api/v1/auth/mfa/enroll", body).await;
    assert_eq!(again.problem(), (409, "second_factor_exists".into()));
    app.close().await;
}

async fn a_reset_password_does_not_pass_the_second_factor(database: Database) {
    let (app, mailbox): (App, std::sync::Arc<Mailbox>) = start(database).await;
    set_up(&app, &app.admin).await;
    let body = json!({"email": ADA});
    let path = "/api/v1/auth/password/forgot";
    app.anonymous().post(path, body).await.expect(204);
    let token = mailbox.token(&app, ADA).await;
    let body = json!({"token": token, "password": "a new harpsichord"});
    let path = "/api/v1/auth/password/reset";
    app.anonymous().post(path, body).await.expect(200);
    let body = json!({"email": ADA, "password": "a new harpsichord"});
    let login = app.anonymous().post("/api/v1/auth/login", body).await;
    assert_eq!(login.problem(), (401, "second_factor_required".into()));
    app.close().await;
}

async fn the_operator_takes_a_lost_factor_away(database: Database) {
    let (app, _) = start(database).await;
    set_up(&app, &app.admin).await;
    let request = || crm_core::RequestContext {
        id: "operator".into(),
        address: None,
    };
    let accounts = app.crm.accounts();
    accounts.reset_second_factor(ADA, request()).await.unwrap();
    login(&app, ADA).await.expect(200);
    let none = accounts.reset_second_factor(ADA, request()).await;
    assert_eq!(none.unwrap_err().code(), "not_found");
    app.close().await;
}
