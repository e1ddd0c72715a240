//! Requests to the hosts that the manifest names, over HTTPS.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;
use crate::bindings::imports::crm::automation::http as host;

/// A request in the making.
#[derive(Debug, Clone)]
pub struct Request(host::Request);

/// What was answered.
#[derive(Debug, Clone)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// A request with this method and no body.
    pub fn new(method: &str, url: &str) -> Self {
        Self(host::Request {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        })
    }

    /// A `GET`.
    pub fn get(url: &str) -> Self {
        Self::new("GET", url)
    }

    /// A `POST` of JSON.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] for a body that is none.
    pub fn post_json(url: &str, body: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_vec(body)?;
        let request = Self::new("POST", url).header("content-type", "application/json");
        Ok(request.body(body))
    }

    /// With a header more.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.0.headers.push(host::Header { name, value });
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.0.body = body;
        self
    }

    /// Sends it.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`] for a host that the manifest does not name; [`Error::Invalid`] for a
    /// method, URL or header that is refused, an address inside the operator's network, and a body
    /// that is too large; [`Error::LimitExceeded`] for a response that is; [`Error::Unavailable`]
    /// when there is none. A status of 400 and above is an answer.
    pub fn send(&self) -> Result<Response, Error> {
        let response = host::fetch(&self.0)?;
        let headers = response.headers.into_iter();
        Ok(Response {
            status: response.status,
            headers: headers
                .map(|header| (header.name, header.value))
                .collect(),
            body: response.body,
        })
    }
}

impl Response {
    /// The body as a type of the plugin's own.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] when it does not fit.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        Ok(serde_json::from_slice(&self.body)?)
    }
}
