//! The corpus of bad tokens. Every one of them gets the same answer, but for a token that was good
//! until its end.

use jsonwebtoken::crypto::sign;
use jsonwebtoken::{EncodingKey, Header};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::*;
use crate::clock::Fixed;
use crate::identity::token_key::TokenAlgorithm;

const START: i64 = 1_800_000_000;

fn keys(letter: &str) -> SigningKeys {
    SigningKeys::from_secret(&letter.repeat(32).into()).unwrap()
}

struct World {
    tokens: AccessTokens,
    clock: Arc<Fixed>,
    rows: Vec<KeyRow>,
}

fn with(root: SigningKeys, algorithm: TokenAlgorithm) -> World {
    let start = DateTime::from_timestamp(START, 0).unwrap();
    let (clock, hands) = Clock::fixed(start, 1);
    let rows = vec![KeyRow::new(&clock, algorithm, TimeDelta::zero())];
    let tokens = AccessTokens::new(root, ACCESS_TOKEN_LIFETIME, clock).unwrap();
    tokens.adopt(&rows).unwrap();
    World {
        tokens,
        clock: hands,
        rows,
    }
}

fn tokens() -> World {
    with(keys("a"), TokenAlgorithm::Hs256)
}

fn user() -> UserId {
    UserId(Uuid::from_u128(1))
}

fn tenant() -> TenantId {
    TenantId(Uuid::from_u128(2))
}

fn session() -> FamilyId {
    FamilyId(Uuid::from_u128(7))
}

/// A session that ends so many seconds after the start.
fn family(seconds: i64) -> Family {
    Family {
        id: session(),
        tenant: tenant(),
        roaming: false,
        user: user(),
        expires_at: DateTime::from_timestamp(START + seconds, 0).unwrap(),
    }
}

fn good_claims() -> Value {
    json!({
        "iss": "crm", "aud": "crm-api", "sub": user(), "tid": tenant(), "sid": session(),
        "iat": START, "exp": START + 600, "jti": Uuid::from_u128(3),
    })
}

impl World {
    fn issue(&self) -> String {
        let issued = self.tokens.issue(&family(86_400 * 30)).unwrap();
        issued.0.expose_secret().to_owned()
    }

    fn key<T>(&self, read: impl FnOnce(&super::super::key_set::SetKey) -> T) -> T {
        let keys = self.tokens.keys.read().clone();
        read(keys.signing(self.tokens.clock.now()).unwrap())
    }

    fn kid(&self) -> String {
        let token = self.issue();
        jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
    }

    /// A token with any encoded header and any claims, signed with the real key.
    fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = self.key(|key| sign(message.as_bytes(), &key.encoding, key.algorithm));
        format!("{message}.{}", signature.unwrap())
    }

    fn forge(&self, header: &Value, claims: &Value) -> String {
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        self.sign(&header, &claims.to_string())
    }

    fn forge_claims(&self, claims: &str) -> String {
        self.sign(&self.key(|key| key.header.clone()), claims)
    }

    fn good_header(&self) -> Value {
        json!({"typ": "at+jwt", "alg": "HS256", "kid": self.kid()})
    }

    #[track_caller]
    fn code(&self, token: &str) -> &'static str {
        match self.tokens.verify(token) {
            Ok(claims) => panic!("{token} was accepted: {claims:?}"),
            Err(error) => error.code(),
        }
    }

    #[track_caller]
    fn refuses(&self, token: &str) {
        assert_eq!(self.code(token), "token_invalid", "{token}");
    }
}

#[test]
fn an_issued_token_verifies_to_what_was_asked_for_under_every_algorithm() {
    for algorithm in [
        TokenAlgorithm::Hs256,
        TokenAlgorithm::EdDsa,
        TokenAlgorithm::Es256,
    ] {
        let world = with(keys("a"), algorithm);
        let token = world.issue();
        // The second time it is known to verify.
        for _ in 0..2 {
            let claims = world.tokens.verify(&token).unwrap();
            assert_eq!(
                (claims.user, claims.tenant, claims.session),
                (user(), Some(tenant()), session())
            );
        }
        let header = jsonwebtoken::decode_header(&token).unwrap();
        assert_eq!(header.alg, algorithm.jwt());
        assert_eq!(header.typ.as_deref(), Some("at+jwt"), "RFC 9068 §2.1");
        assert_eq!(header.kid.map(|kid| kid.len()), Some(12));
    }
}

#[test]
fn a_published_key_verifies_a_token_elsewhere() {
    for algorithm in [TokenAlgorithm::EdDsa, TokenAlgorithm::Es256] {
        let world = with(keys("a"), algorithm);
        let token = world.issue();
        let published = world.tokens.published();
        let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(published).unwrap();
        let jwk = set.find(&world.kid()).unwrap();
        let key = jsonwebtoken::DecodingKey::from_jwk(jwk).unwrap();
        let mut rules = jsonwebtoken::Validation::new(algorithm.jwt());
        rules.set_audience(&["crm-api"]);
        rules.validate_exp = false;
        let read = jsonwebtoken::decode::<Value>(&token, &key, &rules).unwrap();
        assert_eq!(read.claims["sid"], json!(session()));
        let text = serde_json::to_string(&set).unwrap();
        assert!(!text.contains("\"d\""), "no private part: {text}");
    }
}

#[test]
fn a_key_of_hs256_is_never_published() {
    assert_eq!(tokens().tokens.published(), json!({"keys": []}));
}

#[test]
fn xc_05_a_token_ends_with_its_lifetime_by_the_injected_clock() {
    let world = tokens();
    let token = world.issue();
    world
        .clock
        .advance(ACCESS_TOKEN_LIFETIME + LEEWAY - TimeDelta::microseconds(1));
    assert!(world.tokens.verify(&token).is_ok());
    world.clock.advance(TimeDelta::microseconds(1));
    assert_eq!(world.code(&token), "token_expired");
}

#[test]
fn a_token_ends_with_its_session_at_the_latest() {
    let world = tokens();
    let (token, end) = world.tokens.issue(&family(60)).unwrap();
    assert_eq!(end, DateTime::from_timestamp(START + 60, 0).unwrap());
    world.clock.advance(TimeDelta::seconds(65));
    assert_eq!(world.code(token.expose_secret()), "token_expired");
}

#[test]
fn bad_token_of_the_future_by_iat_or_nbf() {
    let world = tokens();
    for name in ["iat", "nbf"] {
        let mut claims = good_claims();
        claims[name] = json!(START + 5);
        let within = world.forge_claims(&claims.to_string());
        assert!(world.tokens.verify(&within).is_ok(), "{name}");
        claims[name] = json!(START + 6);
        world.refuses(&world.forge_claims(&claims.to_string()));
    }
}

#[test]
fn bad_token_with_algorithm_none() {
    let world = tokens();
    let payload = URL_SAFE_NO_PAD.encode(good_claims().to_string());
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        for header in [
            json!({"alg": alg, "typ": "at+jwt"}),
            json!({"alg": alg, "typ": "at+jwt", "kid": world.kid()}),
        ] {
            let none = URL_SAFE_NO_PAD.encode(header.to_string());
            world.refuses(&format!("{none}.{payload}."));
            world.refuses(&format!("{none}.{payload}.AA"));
            world.refuses(&world.forge(&header, &good_claims()));
        }
    }
    let real = world.key(|key| key.header.clone());
    world.refuses(&format!("{real}.{payload}."));
}

#[test]
fn bad_token_whose_header_names_another_algorithm_or_type() {
    let world = tokens();
    for (name, value) in [
        ("alg", json!("HS512")),
        ("alg", json!("RS256")),
        ("alg", json!("ES256")),
        ("alg", json!("EdDSA")),
        ("alg", json!(["HS256"])),
        ("typ", json!("JWT")),
        ("typ", json!("rt+jwt")),
        ("jwk", json!({"kty": "oct", "k": "AAAA"})),
        ("jku", json!("https://example.com/keys")),
        ("x5u", json!("https://example.com/chain")),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
    ] {
        let mut header = world.good_header();
        header[name] = value;
        world.refuses(&world.forge(&header, &good_claims()));
    }
    for absent in ["typ", "kid", "alg"] {
        let mut header = world.good_header();
        header.as_object_mut().unwrap().remove(absent);
        world.refuses(&world.forge(&header, &good_claims()));
    }
}

/// The classic confusion: a public key, which everybody has, taken for the secret of an HMAC.
#[test]
fn bad_token_signed_with_the_public_key_as_a_secret() {
    for algorithm in [TokenAlgorithm::EdDsa, TokenAlgorithm::Es256] {
        let world = with(keys("a"), algorithm);
        let jwk = world.tokens.published()["keys"][0].clone();
        let point = jwk["x"].as_str().unwrap().to_owned();
        let raw = URL_SAFE_NO_PAD.decode(&point).unwrap();
        let secrets = [jwk.to_string().into_bytes(), point.into_bytes(), raw];
        let own = world.key(|key| key.header.clone());
        for secret in secrets {
            let hs = json!({"typ": "at+jwt", "alg": "HS256", "kid": world.kid()});
            for header in [URL_SAFE_NO_PAD.encode(hs.to_string()), own.clone()] {
                let payload = URL_SAFE_NO_PAD.encode(good_claims().to_string());
                let message = format!("{header}.{payload}");
                let key = EncodingKey::from_secret(&secret);
                let hs256 = jsonwebtoken::Algorithm::HS256;
                let signature = sign(message.as_bytes(), &key, hs256).unwrap();
                world.refuses(&format!("{message}.{signature}"));
            }
        }
    }
}

#[test]
fn bad_token_of_a_kid_that_is_a_path_or_sql() {
    let world = tokens();
    for kid in [
        "../../dev/null",
        "/dev/null",
        "file:///etc/passwd",
        "' OR '1'='1",
        "x'; DROP TABLE signing_keys; --",
        "",
        "AAAAAAAAAAAA",
        "*",
        "\u{0}",
    ] {
        let mut header = world.good_header();
        header["kid"] = json!(kid);
        world.refuses(&world.forge(&header, &good_claims()));
        header["kid"] = json!([kid]);
        world.refuses(&world.forge(&header, &good_claims()));
    }
}

#[test]
fn bad_token_of_unknown_kids_at_volume_costs_no_signature_and_no_memory() {
    let world = tokens();
    let good = world.issue();
    world.tokens.verify(&good).unwrap();
    let (_, rest) = good.split_once('.').unwrap();
    for number in 0..100_000 {
        let header = json!({"typ": "at+jwt", "alg": "HS256", "kid": format!("kid-{number}")});
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        world.refuses(&format!("{header}.{rest}"));
    }
    // Neither is any of them remembered, nor do they drive out what is.
    assert_eq!(world.tokens.verified.len(), 1);
    world.tokens.verify(&good).unwrap();
}

#[test]
fn bad_token_of_another_installation() {
    let foreign = with(keys("b"), TokenAlgorithm::Hs256);
    tokens().refuses(&foreign.issue());
}

#[test]
fn bad_token_with_any_changed_character() {
    for algorithm in [TokenAlgorithm::Hs256, TokenAlgorithm::EdDsa] {
        let world = with(keys("a"), algorithm);
        let token = world.issue();
        for index in 0..token.len() {
            let mut bytes = token.as_bytes().to_vec();
            bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(world.tokens.verify(&changed).is_err(), "{changed}");
        }
    }
}

#[test]
fn bad_token_with_claims_of_another_issuer_audience_or_type() {
    let world = tokens();
    let mut all = Vec::new();
    for (name, value) in [
        ("iss", json!("someone")),
        ("aud", json!("crm-admin")),
        ("aud", json!(["crm-api"])),
        ("sub", json!("root")),
        ("sub", json!(null)),
        ("tid", json!(null)),
        ("tid", json!("acme")),
        ("sid", json!(null)),
        ("sid", json!(7)),
        ("exp", json!("1800000600")),
        ("exp", json!(1_800_000_600.5)),
        ("exp", json!(i64::MAX)),
        ("iat", json!(i64::MIN)),
        ("iat", json!(null)),
        ("nbf", json!(null)),
        ("nbf", json!("now")),
        ("jti", json!("")),
    ] {
        let mut claims = good_claims();
        claims[name] = value;
        all.push(claims.to_string());
    }
    for absent in ["iss", "aud", "sub", "sid", "iat", "exp", "jti"] {
        let mut claims = good_claims();
        claims.as_object_mut().unwrap().remove(absent);
        all.push(claims.to_string());
    }
    let twice = good_claims().to_string().replace('{', "{\"sub\":\"x\",");
    all.extend([twice, "{}".into(), "null".into(), "[]".into(), "no".into()]);
    for claims in all {
        world.refuses(&world.forge_claims(&claims));
    }
}

#[test]
fn bad_token_that_is_no_jwt_or_too_long() {
    let world = tokens();
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
        world.refuses(text);
    }
    let header = world.key(|key| key.header.clone());
    world.refuses(&format!("{header}.{}.AA", "A".repeat(MAX_TOKEN_BYTES)));
    world.refuses(&"A.".repeat(5_000_000));
}

#[test]
fn a_rotated_key_verifies_until_its_end_and_the_next_one_signs_from_its_beginning() {
    let mut world = tokens();
    let (old, first) = (world.issue(), world.kid());
    let clock = world.tokens.clock.clone();
    let next = KeyRow::new(&clock, TokenAlgorithm::Es256, TimeDelta::seconds(10));
    world.rows[0].ends_at = Some(next.starts_at + TimeDelta::minutes(5));
    world.rows.push(next);
    world.tokens.adopt(&world.rows).unwrap();
    assert_eq!(world.kid(), first, "the next one waits for its time");
    let published = world.tokens.published();
    assert_eq!(published["keys"].as_array().unwrap().len(), 1, "already");

    world.clock.advance(TimeDelta::seconds(10));
    assert_ne!(world.kid(), first);
    let new = world.issue();
    world
        .clock
        .advance(TimeDelta::minutes(5) - TimeDelta::microseconds(1));
    assert!(world.tokens.verify(&old).is_ok());
    world.clock.advance(TimeDelta::microseconds(1));
    world.refuses(&old);
    assert!(world.tokens.verify(&new).is_ok());
}

#[test]
fn a_revoked_key_kills_its_tokens_also_those_known_to_verify() {
    let mut world = tokens();
    let token = world.issue();
    assert!(world.tokens.verify(&token).is_ok());
    world.rows[0].revoked_at = Some(world.tokens.clock.now());
    let clock = world.tokens.clock.clone();
    let next = KeyRow::new(&clock, TokenAlgorithm::Hs256, TimeDelta::zero());
    world.rows.push(next);
    world.tokens.adopt(&world.rows).unwrap();
    world.refuses(&token);
    assert!(world.tokens.verify(&world.issue()).is_ok());
}

#[test]
fn a_clock_put_back_before_all_keys_still_signs() {
    let world = tokens();
    world.clock.step_back(TimeDelta::hours(1));
    assert!(world.tokens.verify(&world.issue()).is_ok());
}

#[test]
fn a_token_of_the_previous_secret_is_accepted_while_the_secret_is_replaced() {
    for algorithm in [TokenAlgorithm::Hs256, TokenAlgorithm::EdDsa] {
        let old = with(keys("a"), algorithm);
        let token = old.issue();
        let both = keys("b").with_previous(&"a".repeat(32).into()).unwrap();
        let new = with(both, algorithm);
        new.tokens.adopt(&old.rows).unwrap();
        assert!(new.tokens.verify(&token).is_ok());
        old.refuses(&new.issue());
    }
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
        let refused = AccessTokens::new(keys("a"), lifetime, clock.clone());
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
            "token_invalid",
            "{value:?}"
        );
    }
}

#[test]
fn bad_token_under_a_header_written_otherwise() {
    let world = tokens();
    let header = Header {
        typ: Some("at+jwt".into()),
        kid: Some(world.kid()),
        cty: Some("JWT".into()),
        ..Header::default()
    };
    world.refuses(&world.forge(&serde_json::to_value(header).unwrap(), &good_claims()));
}
