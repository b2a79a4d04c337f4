//! The demo's own identity provider: a key made at the start, and a token signed with it.

use anyhow::{Context, Result};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::json;

/// How long a token of the demo is valid.
const HOURS: i64 = 12;

/// A key pair for ES256 (RFC 7518 section 3.4).
pub(super) struct Issuer(EcdsaKeyPair);

impl Issuer {
    pub(super) fn new() -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        pair.ok().map(Self).context("the system gives no random numbers")
    }

    /// The key set that the manifests hold (RFC 7517), as JSON on one line.
    pub(super) fn key_set(&self) -> String {
        let point = self.0.public_key().as_ref();
        // 0x04, then 32 bytes each of x and y (SEC 1 section 2.3.3).
        let (x, y) = point.get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let key = json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "demo",
            "x": encode(x), "y": encode(y),
        });
        json!({ "keys": [key] }).to_string()
    }

    /// A token that the demo's policy admits.
    pub(super) fn token(&self) -> Result<String> {
        let now = Timestamp::now().as_second();
        let head = json!({ "alg": "ES256", "typ": "JWT", "kid": "demo" });
        let claims = json!({
            "iss": "https://id.demo.localhost", "aud": "demo-shop", "sub": "ana",
            "scope": "orders.read", "iat": now, "exp": now + HOURS * 3_600,
        });
        let encode = |value: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&head), encode(&claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.ok().context("the demo's token cannot be signed")?;
        Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }
}
