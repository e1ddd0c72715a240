//! An OpenID Connect provider of this machine, which can be told to misbehave in every way; and
//! people who log in at it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::{rsa, signature};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use crm_core::clock::Clock;
use crm_core::egress::Egress;
use crm_core::identity::NewUser;
use crm_core::mail::MailOptions;
use crm_core::{Create, RequestContext};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use poem::http::StatusCode;
use poem::{Endpoint, Request, Response};
use reqwest::Url;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::account::Mailbox;
use crate::app::{App, Caller, Database, PASSWORD, Reply};

pub(crate) const BACK: &str = "https://app.acme.example/back";
const CLIENT: &str = "crm of acme";
const SECRET: &str = "a secret: of the client's";

/// A key of a provider.
#[derive(Clone)]
pub(crate) struct Signer {
    kid: String,
    algorithm: Algorithm,
    key: Arc<EncodingKey>,
}

impl Signer {
    pub(crate) fn ec(kid: &str) -> Self {
        let pair = signature::EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING);
        let der = pair.unwrap().to_pkcs8v1().unwrap();
        Self::new(
            kid,
            Algorithm::ES256,
            EncodingKey::from_ec_der(der.as_ref()),
        )
    }

    pub(crate) fn rsa(kid: &str, algorithm: Algorithm) -> Self {
        let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
        // PKCS #8 is a header of 26 bytes before the PKCS #1 key that is asked for.
        let key = EncodingKey::from_rsa_der(&der.as_ref()[26..]);
        Self::new(kid, algorithm, key)
    }

    /// Signs with a secret, as nobody should.
    pub(crate) fn hmac(kid: &str, secret: &str) -> Self {
        let key = EncodingKey::from_secret(secret.as_bytes());
        Self::new(kid, Algorithm::HS256, key)
    }

    fn new(kid: &str, algorithm: Algorithm, key: EncodingKey) -> Self {
        Self {
            kid: kid.to_owned(),
            algorithm,
            key: Arc::new(key),
        }
    }

    pub(crate) fn public(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.kid.clone());
        serde_json::to_value(jwk).unwrap()
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

/// What a provider knows, and how it misbehaves.
pub(crate) struct State {
    /// Signs tokens.
    pub(crate) signer: Signer,
    /// Whose public halves are published.
    pub(crate) published: Vec<Signer>,
    /// Who sits in front of it: claims about them.
    pub(crate) person: Value,
    /// Members of tokens' claims and headers, and of the discovery document, that are put over the
    /// right ones; null takes one away.
    pub(crate) claims: Value,
    pub(crate) header: Value,
    pub(crate) document: Value,
    /// What is answered to requests of a path in place of the right thing: status, location, body.
    pub(crate) instead: HashMap<&'static str, (u16, String, String)>,
    /// A path whose requests are never answered.
    pub(crate) stalled: Option<&'static str>,
    /// How often each path was asked for.
    pub(crate) asked: HashMap<String, usize>,
    codes: HashMap<String, Grant>,
}

struct Grant {
    nonce: String,
    challenge: String,
    redirect_uri: String,
}

/// A provider.
pub(crate) struct LocalProvider {
    pub(crate) issuer: String,
    state: Arc<Mutex<State>>,
    clock: Clock,
    _server: AbortOnDropHandle<()>,
}

/// Puts members over those of an object.
fn put_over(target: &mut Value, members: &Value) {
    let target = target.as_object_mut().unwrap();
    for (name, value) in members.as_object().into_iter().flatten() {
        match value {
            Value::Null => drop(target.remove(name)),
            value => drop(target.insert(name.clone(), value.clone())),
        }
    }
}

impl LocalProvider {
    pub(crate) async fn start(clock: &Clock) -> Self {
        let signer = Signer::ec("first");
        let state = Arc::new(Mutex::new(State {
            published: vec![signer.clone()],
            signer,
            person: person("ada"),
            claims: json!({}),
            header: json!({}),
            document: json!({}),
            instead: HashMap::new(),
            stalled: None,
            asked: HashMap::new(),
            codes: HashMap::new(),
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let server = Server {
            issuer: issuer.clone(),
            state: state.clone(),
            clock: clock.clone(),
        };
        let limits = crm_http::ServerLimits::default();
        let serving = crm_http::serve_endpoint(listener, server, limits, Default::default());
        let serving = tokio::spawn(async move { serving.await.unwrap() });
        Self {
            issuer,
            state,
            clock: clock.clone(),
            _server: AbortOnDropHandle::new(serving),
        }
    }

    /// Changes what it knows, or how it behaves.
    pub(crate) fn set<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    pub(crate) fn asked(&self, path: &str) -> usize {
        self.set(|state| state.asked.get(path).copied().unwrap_or(0))
    }

    /// An ID token for a nonce, as applications get it by themselves.
    pub(crate) fn id_token(&self, nonce: &str) -> String {
        self.set(|state| state.token(&self.issuer, nonce, &self.clock))
    }

    /// What the browser comes back with, once the person has agreed: code, state and issuer.
    pub(crate) async fn agree(&self, authorization_url: &str) -> Value {
        let client = reqwest::Client::builder().no_proxy();
        let client = client
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let reply = client.get(authorization_url).send().await.unwrap();
        assert_eq!(reply.status(), 302);
        let back = Url::parse(reply.headers()["location"].to_str().unwrap()).unwrap();
        assert!(back.as_str().starts_with(BACK), "{back}");
        let query: HashMap<_, _> = back.query_pairs().into_owned().collect();
        json!(query)
    }
}

/// What a provider says of somebody.
pub(crate) fn person(name: &str) -> Value {
    json!({
        "sub": format!("subject of {name}"), "email": format!("{name}@acme.example"),
        "email_verified": true, "name": name,
    })
}

impl State {
    fn token(&self, issuer: &str, nonce: &str, clock: &Clock) -> String {
        let now = clock.now().timestamp();
        let mut claims = json!({
            "iss": issuer, "aud": CLIENT, "nonce": nonce, "iat": now, "exp": now + 300,
        });
        put_over(&mut claims, &self.person);
        put_over(&mut claims, &self.claims);
        let algorithm = format!("{:?}", self.signer.algorithm);
        let mut header = json!({"alg": algorithm, "kid": self.signer.kid, "typ": "JWT"});
        put_over(&mut header, &self.header);
        self.signer.sign(&header, &claims)
    }
}

struct Server {
    issuer: String,
    state: Arc<Mutex<State>>,
    clock: Clock,
}

impl Endpoint for Server {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let body = request.take_body().into_string().await.unwrap();
        let path = request.uri().path().to_owned();
        let stalls = {
            let mut state = self.state.lock().unwrap();
            *state.asked.entry(path.clone()).or_default() += 1;
            state.stalled.is_some_and(|stalled| stalled == path)
        };
        if stalls {
            std::future::pending::<()>().await;
        }
        Ok(self.answer(&path, &request, &body))
    }
}

fn answer(status: u16, body: impl Into<String>) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    Response::builder()
        .status(status)
        .content_type("application/json")
        .body(body.into())
}

impl Server {
    fn answer(&self, path: &str, request: &Request, body: &str) -> Response {
        let mut state = self.state.lock().unwrap();
        if let Some((status, location, body)) = state.instead.get(path) {
            let mut answer = answer(*status, body.clone());
            let location = location.parse().unwrap();
            answer.headers_mut().insert("location", location);
            return answer;
        }
        match path {
            "/.well-known/openid-configuration" => {
                let url = |path: &str| format!("{}/{path}", self.issuer);
                let mut document = json!({
                    "issuer": self.issuer, "authorization_endpoint": url("authorize"),
                    "token_endpoint": url("token"), "jwks_uri": url("jwks"),
                    "authorization_response_iss_parameter_supported": true,
                });
                put_over(&mut document, &state.document);
                answer(200, document.to_string())
            }
            "/jwks" => {
                let keys: Vec<Value> = state.published.iter().map(Signer::public).collect();
                answer(200, json!({ "keys": keys }).to_string())
            }
            "/authorize" => self.authorize(&mut state, request),
            "/token" => self.token(&mut state, request, body),
            _ => answer(404, "{}"),
        }
    }

    fn authorize(&self, state: &mut State, request: &Request) -> Response {
        let url = Url::parse(&format!("{}{}", self.issuer, request.uri())).unwrap();
        let query: HashMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!(query["response_type"], "code");
        assert_eq!(query["client_id"], CLIENT);
        assert_eq!(query["code_challenge_method"], "S256");
        assert!(query["scope"].split(' ').any(|scope| scope == "openid"));
        let code = format!("code {}", state.codes.len());
        let grant = Grant {
            nonce: query["nonce"].clone(),
            challenge: query["code_challenge"].clone(),
            redirect_uri: query["redirect_uri"].clone(),
        };
        let mut back = Url::parse(&grant.redirect_uri).unwrap();
        back.query_pairs_mut()
            .append_pair("code", &code)
            .append_pair("state", &query["state"])
            .append_pair("iss", &self.issuer);
        state.codes.insert(code, grant);
        Response::builder()
            .status(StatusCode::FOUND)
            .header("location", back.as_str())
            .finish()
    }

    fn token(&self, state: &mut State, request: &Request, body: &str) -> Response {
        let form = Url::parse(&format!("http://form/?{body}")).unwrap();
        let form: HashMap<_, _> = form.query_pairs().into_owned().collect();
        let encode = |text: &str| {
            text.replace(':', "%3A")
                .replace('\'', "%27")
                .replace(' ', "+")
        };
        let pair = format!("{}:{}", encode(CLIENT), encode(SECRET));
        let basic = format!("Basic {}", STANDARD.encode(pair));
        let in_header = request.header("authorization") == Some(&basic);
        let in_body = form
            .get("client_secret")
            .is_some_and(|secret| secret == SECRET);
        if !in_header && !in_body {
            return answer(401, "{\"error\":\"invalid_client\"}");
        }
        let grant = form.get("code").and_then(|code| state.codes.remove(code));
        let grant = grant.filter(|grant| {
            let verifier = form.get("code_verifier").map_or("", String::as_str);
            let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
            form["grant_type"] == "authorization_code"
                && form["redirect_uri"] == grant.redirect_uri
                && challenge == grant.challenge
        });
        let Some(grant) = grant else {
            return answer(400, "{\"error\":\"invalid_grant\"}");
        };
        let token = state.token(&self.issuer, &grant.nonce, &self.clock);
        let reply = json!({"access_token": "a", "token_type": "Bearer", "id_token": token});
        answer(200, reply.to_string())
    }
}

/// An application that reaches this machine, a provider, and where mails arrive.
pub(crate) async fn start(database: Database) -> (App, LocalProvider, Arc<Mailbox>) {
    start_within(database, Duration::from_secs(10)).await
}

/// As [`start`], with a time for requests that leave.
pub(crate) async fn start_within(
    database: Database,
    timeout: Duration,
) -> (App, LocalProvider, Arc<Mailbox>) {
    let egress = Egress::builder().allow("127.0.0.1").unwrap();
    let egress = egress.timeout(timeout).build().unwrap();
    let mailbox = Arc::new(Mailbox::default());
    let options = MailOptions {
        mailer: Some(mailbox.clone()),
        ..MailOptions::default()
    };
    let app = App::with(database, |builder| builder.egress(egress).mail(options)).await;
    let provider = LocalProvider::start(app.crm.clock()).await;
    (app, provider, mailbox)
}

/// Declares the provider in a tenant, as its admin; answers the path of its logins.
pub(crate) async fn declare(admin: &Caller, provider: &LocalProvider, more: Value) -> String {
    let mut body = json!({
        "name": "Corporate login", "issuer": provider.issuer, "client_id": CLIENT,
        "client_secret": SECRET, "redirect_uris": [BACK],
    });
    put_over(&mut body, &more);
    let made = admin
        .post("/api/v1/identity_providers", body)
        .await
        .expect(201);
    format!("/api/v1/auth/oidc/{}", made["id"].as_str().unwrap())
}

/// What finishes a login that the person in front of the provider agreed to.
pub(crate) async fn agreed(app: &App, provider: &LocalProvider, path: &str) -> Value {
    let begun = app
        .anonymous()
        .post(&format!("{path}/start"), json!({}))
        .await;
    let begun = begun.expect(200);
    assert_eq!(begun["expires_in"], 600);
    let mut body = provider
        .agree(begun["authorization_url"].as_str().unwrap())
        .await;
    body["login_secret"] = begun["login_secret"].clone();
    body
}

/// Logs the person in front of the provider in.
pub(crate) async fn login(app: &App, provider: &LocalProvider, path: &str) -> Reply {
    let body = agreed(app, provider, path).await;
    app.anonymous()
        .post(&format!("{path}/callback"), body)
        .await
}

/// Logs them in with an ID token.
pub(crate) async fn login_by_token(app: &App, provider: &LocalProvider, path: &str) -> Reply {
    let nonce = app
        .anonymous()
        .send(reqwest::Method::POST, &format!("{path}/nonce"), None)
        .await;
    let nonce = nonce.expect(200)["nonce"].clone();
    let token = provider.id_token(nonce.as_str().unwrap());
    let body = json!({"id_token": token, "nonce": nonce});
    app.anonymous().post(&format!("{path}/token"), body).await
}

/// Links the caller to the person in front of the provider.
pub(crate) async fn link(
    app: &App,
    caller: &Caller,
    provider: &LocalProvider,
    path: &str,
) -> Reply {
    let mut body = agreed(app, provider, path).await;
    body["password"] = json!(PASSWORD);
    caller.post(&format!("{path}/link"), body).await
}

/// Whoever holds the session of a reply.
#[track_caller]
pub(crate) fn entered(app: &App, reply: Reply) -> Caller {
    app.with_token(reply.expect(200)["access_token"].as_str())
}

/// A tenant made by the operator.
pub(crate) async fn tenant(app: &App, name: &str) {
    app.crm.tenants().create(name, request()).await.unwrap();
}

/// A member made by the operator, whose address so counts as proven; they may be one elsewhere.
pub(crate) async fn member(app: &App, tenant: &str, email: &str, role: &str) {
    let tenant = app
        .crm
        .tenants()
        .find_by_name(tenant)
        .await
        .unwrap()
        .unwrap();
    let permit = app
        .crm
        .operator(tenant.id, request())
        .permit::<Create>("members")
        .unwrap();
    let user = NewUser {
        email: email.into(),
        name: email.split('@').next().unwrap().into(),
        password: PASSWORD.into(),
        roles: vec![role.into()],
    };
    app.crm.accounts().create_user(&permit, user).await.unwrap();
}

/// A session that began with the password, in this tenant.
pub(crate) async fn login_to(app: &App, email: &str, tenant: &str) -> Caller {
    let body = json!({"email": email, "password": PASSWORD, "tenant": tenant});
    entered(app, app.anonymous().post("/api/v1/auth/login", body).await)
}

pub(crate) fn request() -> RequestContext {
    RequestContext {
        id: "operator".into(),
        address: None,
    }
}

/// The actions of the audit log, the latest first.
pub(crate) async fn audited(caller: &Caller) -> Vec<String> {
    let log = caller.get("/api/v1/audit?limit=100").await.expect(200);
    let rows = log["data"].as_array().unwrap().iter();
    rows.map(|row| row["action"].as_str().unwrap().to_owned())
        .collect()
}
