//! A running application and those who call it. Callers know nothing but HTTP.

use std::sync::{Arc, OnceLock};

use chrono::DateTime;
use crm_core::clock::{Clock, Fixed};
use crm_core::identity::{NewUser, PasswordCost};
use crm_core::module::default_modules;
use crm_core::testing::Backend;
use crm_core::{Create, Crm, RequestContext};
use crm_http::{HttpOptions, ServerLimits, routes, serve_endpoint};
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::contract::Contract;
use crate::second_factor::enroll;

pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// Which database an application runs on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Database {
    Sqlite,
    Postgres,
}

/// A served application with one tenant, `acme`, whose admin is `ada@acme.example`.
///
/// The clock stands still, ids count up, and every reply is held against the OpenAPI document.
pub(crate) struct App {
    pub(crate) crm: Crm,
    pub(crate) clock: Arc<Fixed>,
    pub(crate) url: String,
    pub(crate) admin: Caller,
    contract: Arc<Contract>,
    stop: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
    _backend: Backend,
}

impl App {
    pub(crate) async fn start(database: Database) -> Self {
        /// Made once: half of what a test costs is the document.
        static STOCK: OnceCell<Arc<Contract>> = OnceCell::const_new();
        let stock = async |url: String| STOCK.get_or_init(|| contract(url)).await.clone();
        Self::open(database, |builder| builder, stock).await
    }

    /// An application with more to it.
    pub(crate) async fn with(
        database: Database,
        more: impl FnOnce(crm_core::Builder) -> crm_core::Builder,
    ) -> Self {
        Self::open(database, more, contract).await
    }

    async fn open(
        database: Database,
        more: impl FnOnce(crm_core::Builder) -> crm_core::Builder,
        contract: impl AsyncFnOnce(String) -> Arc<Contract>,
    ) -> Self {
        let backend = match database {
            Database::Sqlite => Backend::sqlite().await,
            Database::Postgres => Backend::postgres().await,
        };
        let start = DateTime::parse_from_rfc3339("2026-01-31T09:30:00Z")
            .unwrap()
            .to_utc();
        let (clock, hands) = Clock::fixed(start, 1);
        let builder = Crm::builder()
            .database(backend.url())
            .database_options(crm_core::testing::database_options())
            .secret("a secret of the tests, long enough for any of them".into())
            .clock(clock)
            .password_cost(PasswordCost::LOWEST)
            .login_limit(1_000)
            .failed_login_time(std::time::Duration::ZERO)
            .modules(default_modules())
            .plugins(plugin_host());
        let crm = more(builder).build().await.unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let endpoint = routes(&crm, HttpOptions::default()).unwrap();
        let server = tokio::spawn(serve_endpoint(
            listener,
            endpoint,
            ServerLimits::default(),
            stop.clone(),
        ));

        let contract = contract(url.clone()).await;
        let mut admin = Caller {
            url: url.clone(),
            token: None,
            contract: contract.clone(),
        };
        let token = crm.ensure_setup_token().await.unwrap().unwrap();
        let session = admin.post(
            "/api/v1/auth/register",
            json!({
                "setup_token": token.expose_secret(), "tenant": "acme", "name": "Ada",
                "email": "ada@acme.example", "password": PASSWORD,
            }),
        );
        let session = session.await;
        let session = match session.status {
            // An application that authenticates strictly asks for a second factor first.
            401 => enroll(&crm, &admin, &session.json()).await.1,
            _ => session.expect(201),
        };
        admin.token = session["access_token"].as_str().map(str::to_owned);
        Self {
            crm,
            clock: hands,
            url,
            admin,
            contract,
            stop,
            server,
            _backend: backend,
        }
    }

    /// The admin, calling the same application served with other options.
    pub(crate) async fn also(&self, options: HttpOptions) -> Caller {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let endpoint = routes(&self.crm, options).unwrap();
        let stop = self.stop.clone();
        tokio::spawn(serve_endpoint(
            listener,
            endpoint,
            ServerLimits::default(),
            stop,
        ));
        Caller {
            url,
            ..self.admin.clone()
        }
    }

    /// A request without anything that callers add by themselves.
    pub(crate) fn bare(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        client().request(method, format!("{}{path}", self.url))
    }

    pub(crate) fn anonymous(&self) -> Caller {
        self.with_token(None)
    }

    pub(crate) fn with_token(&self, token: Option<&str>) -> Caller {
        let token = token.map(str::to_owned);
        Caller {
            url: self.url.clone(),
            token,
            contract: self.contract.clone(),
        }
    }

    /// A new member of `acme` with this role, logged in.
    pub(crate) async fn member(&self, name: &str, role: &str) -> Caller {
        let email = format!("{name}@acme.example");
        let body = json!({"email": email, "name": name, "password": PASSWORD, "roles": [role]});
        self.admin.post("/api/v1/members", body).await.expect(201);
        self.login(&email).await
    }

    /// A program of `acme` with an API key for this role.
    pub(crate) async fn program(&self, role: &str) -> Caller {
        let body = json!({"name": format!("key of {role}"), "role": role});
        let key = self.admin.post("/api/v1/api_keys", body).await.expect(201);
        self.with_token(key["key"].as_str())
    }

    /// The admin of a second tenant, `globex`, made by the operator.
    pub(crate) async fn foreign_admin(&self) -> Caller {
        let request = || RequestContext {
            id: "operator".into(),
            address: None,
        };
        let tenant = self
            .crm
            .tenants()
            .create("globex", request())
            .await
            .unwrap();
        let permit = self
            .crm
            .operator(tenant.id, request())
            .permit::<Create>("members")
            .unwrap();
        let hank = NewUser {
            email: "hank@globex.example".into(),
            name: "Hank".into(),
            password: PASSWORD.into(),
            roles: vec!["admin".into()],
        };
        self.crm
            .accounts()
            .create_user(&permit, hank)
            .await
            .unwrap();
        self.login("hank@globex.example").await
    }

    pub(crate) async fn login(&self, email: &str) -> Caller {
        let body = json!({"email": email, "password": PASSWORD});
        let session = self
            .anonymous()
            .post("/api/v1/auth/login", body)
            .await
            .expect(200);
        self.with_token(session["access_token"].as_str())
    }

    /// The OpenAPI document.
    pub(crate) fn document(&self) -> &Value {
        self.contract().document()
    }

    /// What every reply is held against.
    pub(crate) fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Stops the server of an application whose database is closed already.
    pub(crate) async fn abandon(self) {
        self.stop.cancel();
        self.server.await.unwrap().unwrap();
    }

    /// Stops the server as an operator would; nothing may be left in the outbox.
    pub(crate) async fn close(self) {
        self.stop.cancel();
        self.server.await.unwrap().unwrap();
        self.crm.dispatch_once().await.unwrap();
        assert_eq!(
            self.crm.dispatch_once().await.unwrap(),
            0,
            "the outbox is not drained"
        );
        self.crm.close().await;
    }
}

/// What the application at this URL promises of its replies.
async fn contract(url: String) -> Arc<Contract> {
    let reply = client().get(format!("{url}/openapi.json")).send().await;
    Arc::new(Contract::new(reply.unwrap().json().await.unwrap()))
}

/// One host for all tests: it reserves address space.
pub(crate) fn plugin_host() -> Arc<crm_plugins::Host> {
    static HOST: OnceLock<Arc<crm_plugins::Host>> = OnceLock::new();
    let make = || Arc::new(crm_plugins::Host::in_process(crm_plugins::Limits::default()).unwrap());
    HOST.get_or_init(make).clone()
}

/// Somebody who sends requests.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) url: String,
    pub(crate) token: Option<String>,
    contract: Arc<Contract>,
}

impl Caller {
    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Reply {
        self.send(Method::PATCH, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, None).await
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        let request = self.request(method, path);
        self.finish(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
    }

    /// The same caller, whose replies are held against the document of their own tenant as it is
    /// now.
    pub(crate) async fn informed(&self) -> Self {
        let document = self.get("/openapi.json").await.expect(200);
        Self {
            contract: Arc::new(Contract::new(document)),
            ..self.clone()
        }
    }

    /// A request to be finished by the test, with this caller's credential.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.url);
        let request = client().request(method, url).header("X-Request-Id", "test");
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    /// Sends a request, and holds the reply against the OpenAPI document.
    pub(crate) async fn finish(&self, request: reqwest::RequestBuilder) -> Reply {
        let request = request.build().unwrap();
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let response = client().execute(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let reply = Reply {
            status,
            headers,
            body: response.text().await.unwrap(),
        };
        self.contract.hold(method.as_str(), &path, &reply);
        reply
    }
}

/// One connection pool per thread of tests, so that none outlives its runtime.
fn client() -> reqwest::Client {
    thread_local! {
        static CLIENT: reqwest::Client =
            reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy().build().unwrap();
    }
    CLIENT.with(Clone::clone)
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Reply {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self}"))
    }

    /// The body of a reply with this status; null when there is none.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self}");
        if self.body.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }

    /// The status and the problem's code.
    #[track_caller]
    pub(crate) fn problem(&self) -> (u16, String) {
        (
            self.status,
            self.json()["code"].as_str().unwrap_or_default().to_owned(),
        )
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, self.body)
    }
}
