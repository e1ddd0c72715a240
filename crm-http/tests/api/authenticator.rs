//! A device with passkeys, in software: ES256 keys, attestation `none` (Web Authentication Level 3,
//! §6 and §8.7), CBOR by hand. It does what it is told, also what no honest device does.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SystemRandom, fill};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

pub(crate) const ORIGIN: &str = "https://crm.example";

/// Somebody touched the device.
pub(crate) const PRESENT: u8 = 1;
/// The device asked them for a finger, a face or a PIN.
pub(crate) const VERIFIED: u8 = 4;
const ATTESTED: u8 = 64;

/// How a device and its browser answer; honestly unless told otherwise.
#[derive(Clone)]
pub(crate) struct Manner {
    pub(crate) origin: String,
    pub(crate) kind: Option<&'static str>,
    pub(crate) challenge: Option<String>,
    pub(crate) rp_id: Option<&'static str>,
    pub(crate) cross_origin: bool,
    pub(crate) flags: u8,
    /// Who the device says that it belongs to.
    pub(crate) handle: Option<Vec<u8>>,
    /// How far the signature counter moves.
    pub(crate) step: i64,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            origin: ORIGIN.into(),
            kind: None,
            challenge: None,
            rp_id: None,
            cross_origin: false,
            flags: PRESENT | VERIFIED,
            handle: None,
            step: 1,
        }
    }
}

impl Manner {
    fn client_data(&self, kind: &str, options: &Value) -> Vec<u8> {
        let challenge = options["challenge"].as_str().unwrap();
        let data = json!({
            "type": self.kind.unwrap_or(kind),
            "challenge": self.challenge.as_deref().unwrap_or(challenge),
            "origin": self.origin, "crossOrigin": self.cross_origin,
        });
        data.to_string().into_bytes()
    }

    fn head(&self, rp_id: &str, flags: u8, counter: i64) -> Vec<u8> {
        let mut data = sha256(self.rp_id.unwrap_or(rp_id).as_bytes());
        data.push(self.flags | flags);
        data.extend(u32::try_from(counter).unwrap().to_be_bytes());
        data
    }
}

/// A passkey on the device.
pub(crate) struct Key {
    id: Vec<u8>,
    pair: EcdsaKeyPair,
    pub(crate) handle: Vec<u8>,
    counter: i64,
}

impl Key {
    /// Makes one, and what the browser answers.
    pub(crate) fn create(options: &Value, manner: &Manner) -> (Self, Value) {
        let mut id = vec![0; 32];
        fill(&mut id).unwrap();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
        let key = Self {
            id,
            pair: EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref()).unwrap(),
            handle: bytes(&options["user"]["id"]),
            counter: 0,
        };
        let answer = key.attest(options, manner);
        (key, answer)
    }

    /// The answer to a registration, with this key.
    pub(crate) fn attest(&self, options: &Value, manner: &Manner) -> Value {
        let rp_id = options["rp"]["id"].as_str().unwrap();
        let mut data = manner.head(rp_id, ATTESTED, self.counter);
        data.extend([0; 16]);
        data.extend(u16::try_from(self.id.len()).unwrap().to_be_bytes());
        data.extend(&self.id);
        data.extend(self.cose());
        // {"fmt": "none", "attStmt": {}, "authData": data}
        let mut object = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x59".to_vec();
        object.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        object.extend(data);
        let client_data = manner.client_data("webauthn.create", options);
        json!({
            "id": text(&self.id), "rawId": text(&self.id), "type": "public-key",
            "authenticatorAttachment": "platform", "clientExtensionResults": {},
            "response": {
                "clientDataJSON": text(&client_data), "attestationObject": text(&object),
                "transports": ["internal"], "publicKeyAlgorithm": -7,
            },
        })
    }

    /// The answer to a request.
    pub(crate) fn sign(&mut self, options: &Value, manner: &Manner) -> Value {
        self.counter += manner.step;
        let rp_id = options["rpId"].as_str().unwrap();
        let data = manner.head(rp_id, 0, self.counter);
        let client_data = manner.client_data("webauthn.get", options);
        let message = [data.clone(), sha256(&client_data)].concat();
        let signature = self.pair.sign(&SystemRandom::new(), &message).unwrap();
        let handle = manner.handle.as_ref().unwrap_or(&self.handle);
        json!({
            "id": text(&self.id), "rawId": text(&self.id), "type": "public-key",
            "authenticatorAttachment": "platform", "clientExtensionResults": {},
            "response": {
                "clientDataJSON": text(&client_data), "authenticatorData": text(&data),
                "signature": text(signature.as_ref()), "userHandle": text(handle),
            },
        })
    }

    /// Its public half, as RFC 9053 §7.1.1 writes it.
    fn cose(&self) -> Vec<u8> {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (&point[1..33], &point[33..65]);
        [
            b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20",
            x,
            b"\x22\x58\x20",
            y,
        ]
        .concat()
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn bytes(text: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap()
}
