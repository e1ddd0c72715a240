//! Tokens that are not what they should be, one by one; and the four kinds of keys.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::{rsa, signature};
use jsonwebtoken::EncodingKey;
use jsonwebtoken::jwk::Jwk;
use serde_json::json;

use super::*;

const NOW: i64 = 1_800_000_000;

struct Signer {
    kid: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl Signer {
    fn ed(kid: &'static str) -> Self {
        let der = signature::Ed25519KeyPair::generate().unwrap();
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = der.as_der().unwrap();
        let key = EncodingKey::from_ed_der(der.as_ref());
        Self {
            kid,
            algorithm: Algorithm::EdDSA,
            key,
        }
    }

    fn ec(kid: &'static str) -> Self {
        let pair = signature::EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING);
        let der = pair.unwrap().to_pkcs8v1().unwrap();
        Self {
            kid,
            algorithm: Algorithm::ES256,
            key: EncodingKey::from_ec_der(der.as_ref()),
        }
    }

    fn rsa(kid: &'static str, algorithm: Algorithm) -> Self {
        let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
        // PKCS #8 is a header of 26 bytes before the PKCS #1 key that is asked for.
        let key = EncodingKey::from_rsa_der(&der.as_ref()[26..]);
        Self {
            kid,
            algorithm,
            key,
        }
    }

    fn public(&self) -> Json {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.kid.to_owned());
        serde_json::to_value(jwk).unwrap()
    }

    fn sign(&self, header: &Json, claims: &Json) -> String {
        let part = |json: &Json| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }

    fn header(&self) -> Json {
        json!({"alg": format!("{:?}", self.algorithm), "kid": self.kid, "typ": "JWT"})
    }
}

fn claims() -> Json {
    json!({
        "iss": "https://id.example", "sub": "ada", "aud": "crm", "nonce": "n",
        "iat": NOW, "exp": NOW + 300,
        "email": "Ada@Acme.example", "email_verified": true, "name": "Ada", "amr": ["pwd", "mfa"],
    })
}

fn set(keys: &[Json]) -> Keys {
    Keys::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn judge(keys: &Keys, token: &str) -> Result<Subject, Refused> {
    let token = IdToken::parse(token)?;
    let key = keys.find(&token).ok_or(Refused("kid"))?;
    let expected = Expected {
        issuer: "https://id.example",
        client_id: "crm",
        nonce: "n",
        now: DateTime::from_timestamp(NOW, 0).unwrap(),
    };
    token.verify(key, &expected)
}

#[test]
fn the_four_algorithms_are_verified_each_with_its_own_keys() {
    for signer in [
        Signer::ed("1"),
        Signer::ec("1"),
        Signer::rsa("1", Algorithm::RS256),
        Signer::rsa("1", Algorithm::PS256),
    ] {
        let keys = set(&[signer.public()]);
        let token = signer.sign(&signer.header(), &claims());
        let subject = judge(&keys, &token).unwrap();
        let expected = Subject {
            id: "ada".into(),
            email: Some("ada@acme.example".into()),
            email_verified: true,
            name: Some("Ada".into()),
            second_factor: true,
        };
        assert_eq!(subject, expected, "{:?}", signer.algorithm);
        let (head, tail) = token.rsplit_once('.').unwrap();
        for altered in [
            format!(
                "{head}.{}",
                tail.replace(|c: char| c.is_ascii_lowercase(), "A")
            ),
            format!("{}.{tail}", head.replacen('.', ".e30", 1)),
        ] {
            assert_eq!(judge(&keys, &altered), Err(Refused("signature")));
        }
    }
}

#[test]
fn asvs_9_1_2_other_algorithms_and_confused_keys_are_refused() {
    let signer = Signer::rsa("1", Algorithm::RS256);
    let (keys, public) = (set(&[signer.public()]), signer.public());
    let claims = claims();
    for alg in [
        "none", "None", "NONE", "", "HS256", "HS384", "HS512", "RS384", "RS512", "PS512", "ES384",
        "rs256",
    ] {
        let header = json!({"alg": alg, "kid": "1"});
        let token = signer.sign(&header, &claims);
        assert_eq!(judge(&keys, &token), Err(Refused("alg")), "{alg}");
    }
    // A public key is no secret, whatever form of it is taken for one.
    for secret in [public.to_string(), public["n"].as_str().unwrap().to_owned()] {
        let forger = Signer {
            kid: "1",
            algorithm: Algorithm::HS256,
            key: EncodingKey::from_secret(secret.as_bytes()),
        };
        for alg in ["HS256", "RS256"] {
            let token = forger.sign(&json!({"alg": alg, "kid": "1"}), &claims);
            assert!(judge(&keys, &token).is_err(), "{alg}");
        }
    }
    // A key that the token brings along, or of another kind than it says.
    let other = Signer::rsa("1", Algorithm::RS256);
    let mut header = other.header();
    header["jwk"] = other.public();
    header["jku"] = json!("https://evil.example/jwks");
    let token = other.sign(&header, &claims);
    assert_eq!(judge(&keys, &token), Err(Refused("signature")));
    let ec = Signer::ec("1");
    let token = ec.sign(&json!({"alg": "ES256", "kid": "1"}), &claims);
    assert_eq!(judge(&keys, &token), Err(Refused("kid")));
    let mut named = signer.public();
    named["alg"] = json!("PS256");
    let token = signer.sign(&signer.header(), &claims);
    assert_eq!(judge(&set(&[named]), &token), Err(Refused("kid")));
}

#[test]
fn claims_that_do_not_fit_are_refused() {
    let signer = Signer::ed("1");
    let keys = set(&[signer.public()]);
    let with = |name: &str, value: Json| {
        let mut claims = claims();
        match value {
            Json::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value,
        }
        judge(&keys, &signer.sign(&signer.header(), &claims)).map_err(|refused| refused.0)
    };
    for (name, values) in [
        (
            "iss",
            vec![
                json!("https://id.example/"),
                json!("https://evil.example"),
                json!(""),
            ],
        ),
        (
            "aud",
            vec![
                json!("other"),
                json!([]),
                json!(["other"]),
                json!(["crm", "other"]),
                json!(""),
            ],
        ),
        ("azp", vec![json!("other"), json!("")]),
        (
            "exp",
            vec![json!(NOW - 60), json!(0), json!(-1), json!(1e300)],
        ),
        ("nonce", vec![json!("m"), json!(""), json!("nn")]),
        (
            "sub",
            vec![json!(""), json!("a".repeat(256)), json!("a\nb"), json!("ä")],
        ),
    ] {
        for value in values {
            assert_eq!(with(name, value.clone()), Err(name), "{name}: {value}");
        }
    }
    for name in ["iat", "nbf"] {
        assert_eq!(with(name, json!(NOW + 61)), Err("iat or nbf"));
    }
    for name in ["iss", "sub", "aud", "exp", "iat", "nonce"] {
        assert_eq!(with(name, Json::Null), Err("claims"), "without {name}");
        assert_eq!(
            with(name, json!({"x": 1})),
            Err("claims"),
            "{name} of another type"
        );
    }
    for (name, value) in [
        ("aud", json!(["crm"])),
        ("azp", json!("crm")),
        ("exp", json!(NOW - 59)),
        ("exp", json!(NOW as f64 + 0.5)),
        ("iat", json!(NOW + 60)),
        ("nbf", json!(NOW)),
        ("amr", json!("mfa")),
    ] {
        assert!(with(name, value.clone()).is_ok(), "{name}: {value}");
    }
    let mut many = claims();
    many["aud"] = json!(["other", "crm"]);
    many["azp"] = json!("crm");
    assert!(judge(&keys, &signer.sign(&signer.header(), &many)).is_ok());
}

#[test]
fn an_address_counts_only_as_verified_when_the_provider_says_true() {
    let signer = Signer::ed("1");
    let keys = set(&[signer.public()]);
    for word in [json!(false), json!("true"), json!(1), json!(null)] {
        let mut claims = claims();
        claims["email_verified"] = word.clone();
        let subject = judge(&keys, &signer.sign(&signer.header(), &claims)).unwrap();
        assert!(!subject.email_verified, "{word}");
    }
    let mut claims = claims();
    claims["email"] = json!("no address");
    let subject = judge(&keys, &signer.sign(&signer.header(), &claims)).unwrap();
    assert_eq!((subject.email, subject.email_verified), (None, false));
}

#[test]
fn texts_that_are_no_tokens_are_refused() {
    let signer = Signer::ed("1");
    let keys = set(&[signer.public()]);
    let good = signer.sign(&signer.header(), &claims());
    let parts: Vec<&str> = good.split('.').collect();
    let long = format!("{}.{}.{}", parts[0], "A".repeat(MOST_BYTES), parts[2]);
    for text in [
        "",
        "a",
        "..",
        "a.b.c",
        &good[..good.len() / 2],
        &format!("{}.{}.", parts[0], parts[1]),
        &format!("{good}.{}", parts[2]),
        &format!(".{good}"),
        &format!("{good}="),
        &long,
    ] {
        assert!(judge(&keys, text).is_err(), "{text:.40}");
    }
    for (name, value) in [
        ("typ", json!("at+jwt")),
        ("crit", json!(["exp"])),
        ("kid", json!("2")),
        ("kid", json!(1)),
        ("alg", json!(["EdDSA"])),
    ] {
        let mut header = signer.header();
        header[name] = value;
        assert!(
            judge(&keys, &signer.sign(&header, &claims())).is_err(),
            "{header}"
        );
    }
}

#[test]
fn keys_of_no_use_are_left_out_and_sets_are_bounded() {
    let (signer, other) = (Signer::ed("1"), Signer::ed("2"));
    let token = |header: &Json| signer.sign(header, &claims());
    let unnamed = json!({"alg": "EdDSA"});
    assert!(judge(&set(&[signer.public()]), &token(&unnamed)).is_ok());
    let both = set(&[signer.public(), other.public()]);
    assert_eq!(judge(&both, &token(&unnamed)), Err(Refused("kid")));
    let mut encrypts = signer.public();
    encrypts["use"] = json!("enc");
    let broken = [
        encrypts,
        json!({"kty": "oct", "kid": "1", "k": "c2VjcmV0"}),
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "1", "x": "AA"}),
        json!({"kty": "EC", "crv": "P-256", "kid": "1", "x": "AA", "y": "AA"}),
        json!({"kty": "RSA", "kid": "1", "n": "AQAB", "e": "AQAB"}),
        json!({"kty": "EC", "crv": "P-384", "kid": "1"}),
        json!("no key"),
    ];
    assert_eq!(
        judge(&set(&broken), &token(&signer.header())),
        Err(Refused("kid"))
    );
    let mut crowd = vec![other.public(); MOST_KEYS];
    crowd.push(signer.public());
    assert_eq!(
        judge(&set(&crowd), &token(&signer.header())),
        Err(Refused("kid"))
    );
    for json in ["", "[]", "{}", "{\"keys\": 1}"] {
        assert!(Keys::parse(json.as_bytes()).is_none(), "{json}");
    }
}
