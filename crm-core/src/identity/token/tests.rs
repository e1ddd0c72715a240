use jsonwebtoken::crypto::sign;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::*;
use crate::clock::Fixed;
use std::sync::Arc;

fn keys(letter: &str) -> SigningKeys {
    SigningKeys::from_secret(&letter.repeat(32).into()).unwrap()
}

fn tokens() -> (AccessTokens, Arc<Fixed>) {
    let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let (clock, fixed) = Clock::fixed(start, 1);
    (
        AccessTokens::new(&keys("a"), ACCESS_TOKEN_LIFETIME, clock).unwrap(),
        fixed,
    )
}

fn user() -> UserId {
    UserId(Uuid::from_u128(1))
}

fn tenant() -> TenantId {
    TenantId(Uuid::from_u128(2))
}

fn good_claims() -> Value {
    json!({
        "iss": "crm", "aud": "crm-api", "sub": user(), "tid": tenant(),
        "iat": 1_800_000_000, "exp": 1_800_000_600, "jti": Uuid::from_u128(3),
    })
}

/// A token with any header and claims, signed with the real key.
fn forge(tokens: &AccessTokens, header: &Value, claims: &Value) -> String {
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let signature = sign(message.as_bytes(), &tokens.signing, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

/// A token with the real header and any claims, signed with the real key.
fn forge_claims(tokens: &AccessTokens, claims: &str) -> String {
    let message = format!("{}.{}", tokens.header, URL_SAFE_NO_PAD.encode(claims));
    let signature = sign(message.as_bytes(), &tokens.signing, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn code(tokens: &AccessTokens, token: &str) -> &'static str {
    match tokens.verify(token) {
        Ok(claims) => panic!("{token} was accepted: {claims:?}"),
        Err(error) => error.code(),
    }
}

#[test]
fn an_issued_token_verifies_to_what_was_asked_for() {
    let (tokens, _) = tokens();
    let family = FamilyId(Uuid::from_u128(7));
    let token = tokens.issue(user(), tenant(), Some(family)).unwrap();
    let claims = tokens.verify(token.expose_secret()).unwrap();
    assert_eq!(
        (claims.user, claims.tenant, claims.family),
        (user(), tenant(), Some(family))
    );
    assert_eq!(claims.expires_at - claims.issued_at, ACCESS_TOKEN_LIFETIME);

    let operator = tokens.issue(user(), tenant(), None).unwrap();
    assert_eq!(
        tokens.verify(operator.expose_secret()).unwrap().family,
        None
    );
}

#[test]
fn a_token_carries_the_header_of_rfc_9068() {
    let (tokens, _) = tokens();
    let token = tokens.issue(user(), tenant(), None).unwrap();
    let header = jsonwebtoken::decode_header(token.expose_secret()).unwrap();
    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
    assert_eq!(header.alg, Algorithm::HS256);
    assert_eq!(header.kid.map(|kid| kid.len()), Some(12));
}

#[test]
fn xc_05_a_token_ends_with_its_lifetime_by_the_injected_clock() {
    let (tokens, clock) = tokens();
    let token = tokens.issue(user(), tenant(), None).unwrap();
    clock.advance(ACCESS_TOKEN_LIFETIME + LEEWAY - TimeDelta::microseconds(1));
    assert!(tokens.verify(token.expose_secret()).is_ok());
    clock.advance(TimeDelta::microseconds(1));
    assert_eq!(code(&tokens, token.expose_secret()), "token_expired");
}

#[test]
fn a_token_of_the_future_is_refused() {
    let (tokens, _) = tokens();
    let mut claims = good_claims();
    claims["iat"] = json!(1_800_000_005);
    assert!(
        tokens
            .verify(&forge_claims(&tokens, &claims.to_string()))
            .is_ok()
    );
    claims["iat"] = json!(1_800_000_006);
    assert_eq!(
        code(&tokens, &forge_claims(&tokens, &claims.to_string())),
        "token_invalid"
    );
}

#[test]
fn another_algorithm_type_or_key_name_is_refused_even_under_the_right_signature() {
    let (tokens, _) = tokens();
    let kid = jsonwebtoken::decode_header(format!("{}.e30.AA", tokens.header))
        .unwrap()
        .kid;
    let good = json!({"typ": "at+jwt", "alg": "HS256", "kid": kid});

    let change = |name: &str, value: Value| {
        let mut header = good.clone();
        header[name] = value;
        header
    };
    let mut headers = vec![
        change("alg", json!("none")),
        change("alg", json!("None")),
        change("alg", json!("HS512")),
        change("alg", json!("RS256")),
        change("typ", json!("JWT")),
        change("typ", json!("rt+jwt")),
        change("kid", json!("AAAAAAAAAAAA")),
        change("kid", json!("../../dev/null")),
        change("jwk", json!({"kty": "oct", "k": "AAAA"})),
        change("jku", json!("https://example.com/keys")),
        change("crit", json!(["exp"])),
    ];
    for absent in ["typ", "kid", "alg"] {
        let mut header = good.clone();
        header.as_object_mut().unwrap().remove(absent);
        headers.push(header);
    }
    for header in headers {
        let token = forge(&tokens, &header, &good_claims());
        assert_eq!(code(&tokens, &token), "token_invalid", "{header}");
    }
}

#[test]
fn an_unsigned_token_is_refused() {
    let (tokens, _) = tokens();
    let payload = URL_SAFE_NO_PAD.encode(good_claims().to_string());
    let none = URL_SAFE_NO_PAD.encode(json!({"alg": "none", "typ": "at+jwt"}).to_string());
    assert_eq!(
        code(&tokens, &format!("{none}.{payload}.")),
        "token_invalid"
    );
    assert_eq!(
        code(&tokens, &format!("{}.{payload}.", tokens.header)),
        "token_invalid"
    );
}

#[test]
fn a_token_signed_by_another_installation_is_refused() {
    let (tokens, _) = tokens();
    let foreign = AccessTokens::new(&keys("b"), ACCESS_TOKEN_LIFETIME, tokens.clock.clone());
    let token = foreign.unwrap().issue(user(), tenant(), None).unwrap();
    assert_eq!(code(&tokens, token.expose_secret()), "token_invalid");
}

#[test]
fn a_token_of_the_previous_secret_is_accepted_while_the_secret_is_replaced() {
    let (old, _) = tokens();
    let token = old.issue(user(), tenant(), None).unwrap();
    let keys = keys("b").with_previous(&"a".repeat(32).into()).unwrap();
    let new = AccessTokens::new(&keys, ACCESS_TOKEN_LIFETIME, old.clock.clone()).unwrap();
    assert!(new.verify(token.expose_secret()).is_ok());
    let token = new.issue(user(), tenant(), None).unwrap();
    assert_eq!(code(&old, token.expose_secret()), "token_invalid");
}

#[test]
fn any_changed_character_makes_a_token_unusable() {
    let (tokens, _) = tokens();
    let token = tokens.issue(user(), tenant(), None).unwrap();
    let token = token.expose_secret();
    for index in 0..token.len() {
        let mut bytes = token.as_bytes().to_vec();
        bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(tokens.verify(&changed).is_err(), "{changed}");
    }
}

#[test]
fn claims_of_another_issuer_audience_or_shape_are_refused() {
    let (tokens, _) = tokens();
    let mut all = Vec::new();
    for (name, value) in [
        ("iss", json!("someone")),
        ("aud", json!("crm-admin")),
        ("aud", json!(["crm-api"])),
        ("sub", json!("root")),
        ("tid", json!(null)),
        ("exp", json!("1800000600")),
        ("exp", json!(i64::MAX)),
        ("iat", json!(i64::MIN)),
    ] {
        let mut claims = good_claims();
        claims[name] = value;
        all.push(claims.to_string());
    }
    for absent in ["iss", "aud", "sub", "tid", "iat", "exp", "jti"] {
        let mut claims = good_claims();
        claims.as_object_mut().unwrap().remove(absent);
        all.push(claims.to_string());
    }
    all.extend(["{}".to_owned(), "null".to_owned(), "not json".to_owned()]);
    for claims in all {
        assert_eq!(
            code(&tokens, &forge_claims(&tokens, &claims)),
            "token_invalid",
            "{claims}"
        );
    }
}

#[test]
fn what_is_no_jwt_is_malformed() {
    let (tokens, _) = tokens();
    for text in [
        "",
        ".",
        "..",
        "a.b",
        "crm_rt_AAAA",
        "a.b.c.d",
        ".payload.signature",
        "a..c",
    ] {
        assert_eq!(code(&tokens, text), "token_malformed", "{text:?}");
    }
    let long = format!("{}.{}.AA", tokens.header, "A".repeat(MAX_TOKEN_BYTES));
    assert_eq!(code(&tokens, &long), "token_malformed");
}

#[test]
fn a_lifetime_that_makes_no_sense_is_refused_at_start() {
    let (clock, _) = Clock::fixed(DateTime::UNIX_EPOCH, 1);
    for lifetime in [
        TimeDelta::zero(),
        TimeDelta::days(2),
        TimeDelta::MIN,
        TimeDelta::MAX,
    ] {
        let refused = AccessTokens::new(&keys("a"), lifetime, clock.clone());
        assert!(
            matches!(refused, Err(Error::Configuration(_))),
            "{lifetime}"
        );
    }
}

#[test]
fn a_bearer_credential_is_read_from_the_header_and_nothing_else_is() {
    assert_eq!(bearer(Some("Bearer abc")).unwrap(), "abc");
    assert_eq!(bearer(Some("bearer  abc ")).unwrap(), "abc");
    assert_eq!(bearer(None).unwrap_err().code(), "token_missing");
    for value in ["", "Bearer", "Bearer ", "Basic YTpi", "abc"] {
        assert_eq!(
            bearer(Some(value)).unwrap_err().code(),
            "token_malformed",
            "{value:?}"
        );
    }
}
