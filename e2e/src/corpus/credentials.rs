//! Credentials made for one run: keys of an issuer, tokens, API keys.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, SanType};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Authority, Certificate};

/// A token to make. What is left out is as the cases' provider wants it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TokenSpec {
    /// `RS256` (default), `ES256`, `EdDSA`; `HS256` and `none` are what attackers write.
    pub algorithm: Option<String>,
    /// `kid`; by default the one of the key that signs.
    pub key_id: Option<String>,
    /// Claims, over the default ones.
    pub claims: serde_json::Map<String, Value>,
    /// Seconds from now to `exp`; 300 by default.
    pub expires_in: Option<i64>,
    /// Seconds from now to `nbf`; none by default.
    pub not_before_in: Option<i64>,
    /// Whether another key of the same kind signs.
    pub forged: bool,
}

/// A client's certificate to make.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct CertificateSpec {
    /// The name of the authority that issues it.
    pub issuer: String,
    /// Its subject alternative names: URIs.
    pub uris: Vec<String>,
    /// The same: hosts.
    pub dns_names: Vec<String>,
    /// The same: addresses of electronic mail.
    pub emails: Vec<String>,
    /// Seconds from now to its end; 300 by default.
    pub expires_in: Option<i64>,
    /// Seconds from now to its beginning; -3600 by default.
    pub begins_in: Option<i64>,
    /// Whether it is for servers alone.
    pub of_server: bool,
}

/// An issuer's key pairs.
#[derive(Debug)]
struct Keys {
    rsa: RsaKeyPair,
    ecdsa: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

/// Everything that the cases' placeholders stand for.
#[derive(Debug)]
pub struct Credentials {
    issuer: Keys,
    forger: Keys,
    authority: Authority,
    certificates: RefCell<HashMap<String, Certificate>>,
    authorities: RefCell<HashMap<String, Arc<Authority>>>,
}

impl Credentials {
    /// Makes new keys.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            issuer: Keys::new()?,
            forger: Keys::new()?,
            authority: Authority::new("corpus")?,
            certificates: RefCell::default(),
            authorities: RefCell::default(),
        })
    }

    /// Replaces the placeholders of a text.
    ///
    /// # Errors
    /// A placeholder names nothing that there is.
    pub fn fill(&self, text: &str) -> anyhow::Result<String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').context("a placeholder ends with }")?;
            filled.push_str(before);
            filled.push_str(&self.value(name)?);
            rest = after;
        }
        Ok(filled + rest)
    }

    fn value(&self, placeholder: &str) -> anyhow::Result<String> {
        Ok(match placeholder.split_once(':') {
            None if placeholder == "jwks" => self.jwks(),
            Some(("id", name)) => key_id(name),
            Some(("sha256", name)) => hex(digest(&SHA256, Self::api_key(name).as_bytes()).as_ref()),
            Some(("crt", host)) => BASE64_STANDARD.encode(self.certificate(host)?.certificate),
            Some(("ca", name)) => BASE64_STANDARD.encode(self.issuer_of_clients(name)?.pem()),
            Some(("pem", host)) => BASE64_STANDARD.encode(self.certificate(host)?.key),
            _ => bail!("nothing is called {placeholder}"),
        })
    }

    /// The certificate of a host: the same at every call.
    fn certificate(&self, host: &str) -> anyhow::Result<Certificate> {
        let mut certificates = self.certificates.borrow_mut();
        if let Some(certificate) = certificates.get(host) {
            return Ok(certificate.clone());
        }
        let certificate = self.authority.server(&[host])?;
        certificates.insert(host.to_owned(), certificate.clone());
        Ok(certificate)
    }

    /// The authority of this name: the same at every call.
    fn issuer_of_clients(&self, name: &str) -> anyhow::Result<Arc<Authority>> {
        let mut authorities = self.authorities.borrow_mut();
        if let Some(authority) = authorities.get(name) {
            return Ok(Arc::clone(authority));
        }
        let authority = Arc::new(Authority::new(name)?);
        authorities.insert(name.to_owned(), Arc::clone(&authority));
        Ok(authority)
    }

    /// Makes a client's certificate.
    ///
    /// # Errors
    /// A name cannot stand in a certificate.
    pub fn client_certificate(&self, spec: &CertificateSpec) -> anyhow::Result<Certificate> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, "a client");
        let uris = spec.uris.iter().map(|uri| Ok(SanType::URI(uri.as_str().try_into()?)));
        let emails =
            spec.emails.iter().map(|email| Ok(SanType::Rfc822Name(email.as_str().try_into()?)));
        let names =
            spec.dns_names.iter().map(|name| Ok(SanType::DnsName(name.as_str().try_into()?)));
        parameters.subject_alt_names =
            uris.chain(emails).chain(names).collect::<Result<_, rcgen::Error>>()?;
        parameters.extended_key_usages = vec![if spec.of_server {
            ExtendedKeyUsagePurpose::ServerAuth
        } else {
            ExtendedKeyUsagePurpose::ClientAuth
        }];
        parameters.not_before = from_now(spec.begins_in.unwrap_or(-3600)).into();
        parameters.not_after = from_now(spec.expires_in.unwrap_or(300)).into();
        self.issuer_of_clients(&spec.issuer)?.sign(&parameters)
    }

    /// Who signed the certificates.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The API key of this name: always the same.
    pub fn api_key(name: &str) -> String {
        let secret = digest(&SHA256, format!("secret of {name}").as_bytes());
        format!("wg_{}_{}", key_id(name), BASE64_URL_SAFE_NO_PAD.encode(secret))
    }

    /// The issuer's key set (RFC 7517).
    pub fn jwks(&self) -> String {
        let (modulus, exponent) = self.issuer.rsa_components();
        let point = self.issuer.ecdsa.public_key().as_ref();
        let (x, y) = (point.get(1..33).unwrap_or_default(), point.get(33..).unwrap_or_default());
        json!({ "keys": [
            { "kty": "RSA", "kid": "RS256", "use": "sig", "alg": "RS256", "n": encode(modulus), "e": encode(exponent) },
            { "kty": "EC", "kid": "ES256", "crv": "P-256", "x": encode(x), "y": encode(y) },
            { "kty": "OKP", "kid": "EdDSA", "crv": "Ed25519", "x": encode(self.issuer.ed25519.public_key().as_ref()) },
        ]})
        .to_string()
    }

    /// Makes a token.
    ///
    /// # Errors
    /// The algorithm is none that cases may ask for.
    pub fn token(&self, spec: &TokenSpec) -> anyhow::Result<String> {
        let algorithm = spec.algorithm.as_deref().unwrap_or("RS256");
        let header = json!({ "alg": algorithm, "typ": "JWT", "kid": spec.key_id.as_deref().unwrap_or(algorithm) });
        let message =
            format!("{}.{}", encode(header.to_string()), encode(claims(spec)?.to_string()));
        let keys = if spec.forged { &self.forger } else { &self.issuer };
        let signature = keys.sign(algorithm, message.as_bytes())?;
        Ok(format!("{message}.{}", encode(signature)))
    }
}

/// The moment so many seconds from now, which may be negative.
fn from_now(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let (now, later) = (SystemTime::now(), seconds >= 0);
    let moment = if later { now.checked_add(distance) } else { now.checked_sub(distance) };
    moment.unwrap_or(now)
}

fn claims(spec: &TokenSpec) -> anyhow::Result<Value> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let mut claims = json!({
        "iss": "https://id.example.com",
        "aud": "shop-api",
        "sub": "somebody",
        "exp": now.saturating_add(spec.expires_in.unwrap_or(300)),
    });
    let object = claims.as_object_mut().context("an object")?;
    if let Some(seconds) = spec.not_before_in {
        object.insert("nbf".into(), now.saturating_add(seconds).into());
    }
    object.extend(spec.claims.clone());
    Ok(claims)
}

impl Keys {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048)?,
            ecdsa: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?,
            ed25519: Ed25519KeyPair::generate()?,
        })
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let random = SystemRandom::new();
        Ok(match algorithm {
            "RS256" => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                signature
            }
            "ES256" => self.ecdsa.sign(&random, message)?.as_ref().to_vec(),
            "EdDSA" => self.ed25519.sign(message).as_ref().to_vec(),
            // The confusion attack: the public key serves as the secret.
            "HS256" => {
                let key = aws_lc_rs::hmac::Key::new(
                    aws_lc_rs::hmac::HMAC_SHA256,
                    self.rsa.public_key().as_ref(),
                );
                aws_lc_rs::hmac::sign(&key, message).as_ref().to_vec()
            }
            "none" => Vec::new(),
            other => bail!("no case may ask for the algorithm {other}"),
        })
    }

    /// Modulus and exponent of the 2,048-bit key, cut out of its DER form (RFC 8017 appendix A.1.1),
    /// whose lengths are fixed.
    fn rsa_components(&self) -> (&[u8], &[u8]) {
        let der = self.rsa.public_key().as_ref();
        (der.get(9..265).unwrap_or_default(), der.get(267..).unwrap_or_default())
    }
}

fn key_id(name: &str) -> String {
    hex(digest(&SHA256, name.as_bytes()).as_ref()).chars().take(8).collect()
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
