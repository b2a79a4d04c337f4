//! Issuers of tokens: one key of each kind, made anew at every run.

use std::sync::LazyLock;

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RSA_PSS_SHA256, RsaKeyPair, RsaPublicKeyComponents,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// A private key that signs tokens.
pub(crate) enum Signer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

pub(crate) static RSA: LazyLock<Signer> = LazyLock::new(|| rsa(KeySize::Rsa2048));
pub(crate) static EC: LazyLock<Signer> =
    LazyLock::new(|| Signer::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()));
pub(crate) static ED: LazyLock<Signer> = LazyLock::new(ed);

pub(crate) fn rsa(size: KeySize) -> Signer {
    Signer::Rsa(RsaKeyPair::generate(size).unwrap())
}

pub(crate) fn ed() -> Signer {
    Signer::Ed(Ed25519KeyPair::generate().unwrap())
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    /// The algorithm that this key signs with.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Ec(_) => "ES256",
            Self::Ed(_) => "EdDSA",
        }
    }

    /// The public key as an entry of a key set; `more` is put behind its members.
    pub(crate) fn jwk(&self, more: &str) -> String {
        match self {
            Self::Rsa(pair) => {
                let RsaPublicKeyComponents { n, e } =
                    RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                format!(r#"{{"kty":"RSA","n":"{}","e":"{}"{more}}}"#, encode(n), encode(e))
            }
            Self::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref().split_at(33);
                let x = x.split_at(1).1;
                format!(
                    r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"{more}}}"#,
                    encode(x),
                    encode(y)
                )
            }
            Self::Ed(pair) => {
                let x = encode(pair.public_key());
                format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"{more}}}"#)
            }
        }
    }

    /// A token with the header that belongs to the key.
    pub(crate) fn token(&self, payload: &str) -> String {
        self.token_with(&format!(r#"{{"alg":"{}"}}"#, self.algorithm()), payload)
    }

    /// A token with any header; the signature is always the key's own kind.
    pub(crate) fn token_with(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", encode(header), encode(payload));
        let signature = self.sign(message.as_bytes());
        format!("{message}.{}", encode(signature))
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Self::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// A token signed by RSASSA-PSS, for keys that were given out for PKCS #1 alone.
    pub(crate) fn pss_token(&self, payload: &str) -> String {
        let Self::Rsa(pair) = self else { return String::new() };
        let message = format!("{}.{}", encode(r#"{"alg":"PS256"}"#), encode(payload));
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PSS_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)
            .unwrap();
        format!("{message}.{}", encode(signature))
    }
}

/// A token signed by HMAC with a secret.
pub(crate) fn hmac_token(header: &str, payload: &str, secret: &[u8]) -> String {
    let message = format!("{}.{}", encode(header), encode(payload));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", encode(signature))
}
