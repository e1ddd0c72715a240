//! From an authorization code to an ID token, at the provider's token endpoint (RFC 6749 §4.1.3).
//!
//! Of what comes back the ID token alone is looked at; tokens for the provider's other services are
//! neither kept nor used.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::form_urlencoded;

use super::enter::Provider;
use super::flow::Begun;
use super::metadata::{self, Document};
use super::refused;
use crate::crm::Core;
use crate::egress::EgressRequest;
use crate::error::Result;

const ANSWER_BYTES: usize = 64 * 1024;

#[derive(Deserialize)]
struct Answer {
    id_token: String,
}

/// Exchanges a code for an ID token.
///
/// # Errors
/// [`Error::Unauthenticated`](crate::Error::Unauthenticated) for a code that the provider refuses,
/// [`Error::Unavailable`](crate::Error::Unavailable) without an answer.
pub(super) async fn exchange(
    core: &Core,
    provider: &Provider,
    document: &Document,
    begun: &Begun,
    code: &SecretString,
) -> Result<String> {
    let request = request(provider, document, begun, code);
    let response = metadata::send(core, provider, request).await?;
    match response.status {
        200 => {
            let answer: Result<Answer, _> = serde_json::from_slice(&response.body);
            answer
                .map(|answer| answer.id_token)
                .map_err(|_| metadata::wrong(provider, "a token answer without an ID token"))
        }
        status @ 400..=499 => {
            tracing::warn!(
                tenant = %provider.tenant,
                provider = %provider.id,
                status,
                "an identity provider refused a code"
            );
            Err(refused())
        }
        _ => Err(metadata::wrong(
            provider,
            "a token answer of another status",
        )),
    }
}

fn request(
    provider: &Provider,
    document: &Document,
    begun: &Begun,
    code: &SecretString,
) -> EgressRequest {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "authorization_code")
        .append_pair("code", code.expose_secret())
        .append_pair("redirect_uri", &begun.redirect_uri)
        .append_pair("code_verifier", &begun.verifier);
    let basic = provider.secret.as_ref().filter(|_| document.basic);
    if basic.is_none() {
        form.append_pair("client_id", &provider.client_id);
        if let Some(secret) = &provider.secret {
            form.append_pair("client_secret", secret.expose_secret());
        }
    }
    let mut request = EgressRequest::post(document.token_endpoint.as_str(), form.finish())
        .header("content-type", "application/x-www-form-urlencoded")
        .header("accept", "application/json")
        .at_most(ANSWER_BYTES);
    if let Some(secret) = basic {
        // Both are encoded before they are joined (RFC 6749 §2.3.1).
        let encode =
            |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!(
            "{}:{}",
            encode(&provider.client_id),
            encode(secret.expose_secret())
        );
        request = request.header("authorization", format!("Basic {}", STANDARD.encode(pair)));
    }
    request
}
