//! Key sets (RFC 7517) to keys that can verify signatures. Keys of other uses and kinds are left out.

use std::fmt::Write;

use aws_lc_rs::{
    digest,
    encoding::{AsDer, PublicKeyX509Der},
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
        RsaPublicKeyComponents, VerificationAlgorithm,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};

use super::{KeySet, VerificationKey, algorithm, algorithm_name};
use crate::claims::{Json, JsonProblem};

/// Longest key set that is read, in bytes.
pub const KEY_SET_LIMIT: usize = 256 * 1024;
/// Most keys of a set, those that are left out counted.
pub const KEY_COUNT_LIMIT: usize = 64;

impl KeySet {
    /// Reads a key set and keeps the keys that can verify signatures by one of `algorithms`.
    ///
    /// Left out, one by one, are keys of an unknown `kty`, `crv` or `alg`, symmetric keys, RSA keys
    /// below 2,048 bits, keys whose `use` is not `sig` or whose `key_ops` lack `verify`, keys with a
    /// `kid` that is no text, and points that lie on no curve.
    ///
    /// The generation is a hash of the text and the algorithms: whoever verified a token by this set
    /// may go on to believe that result exactly as long as neither changes.
    ///
    /// # Errors
    /// One sentence without a final period: the set is too large, cannot be read, or has no key left.
    pub fn from_jwks(text: &str, algorithms: &[Algorithm]) -> Result<Self, String> {
        let keys: Box<[_]> =
            entries(text)?.iter().filter_map(|entry| verification_key(entry, algorithms)).collect();
        if keys.is_empty() {
            return Err(no_key(algorithms));
        }
        Ok(Self { generation: generation(text, algorithms), keys })
    }
}

fn entries(text: &str) -> Result<Box<[Json]>, String> {
    if text.len() > KEY_SET_LIMIT {
        return Err(format!("the key set is longer than {KEY_SET_LIMIT} bytes"));
    }
    let document = Json::parse(text.as_bytes()).map_err(|problem| match problem {
        JsonProblem::NotJson => "the key set is not JSON",
        JsonProblem::NameTwice => "the key set has an object with a name that occurs twice",
        JsonProblem::TooDeep => "the key set is nested too deep",
    })?;
    let Some(Json::Array(entries)) = document.get("keys") else {
        return Err("the key set is not an object with a list `keys` (RFC 7517 section 5)".into());
    };
    if entries.len() > KEY_COUNT_LIMIT {
        return Err(format!("the key set has more than {KEY_COUNT_LIMIT} keys"));
    }
    Ok(entries.clone())
}

fn no_key(algorithms: &[Algorithm]) -> String {
    let names: Vec<_> = algorithms.iter().map(|algorithm| algorithm_name(*algorithm)).collect();
    let mut sentence = String::from("the key set has no key that can verify signatures by ");
    // Writing to a String cannot fail.
    let _ = match names.as_slice() {
        [] => write!(sentence, "any algorithm, because none is accepted"),
        names => write!(sentence, "{}", names.join(", ")),
    };
    sentence
}

/// 64 bits of SHA-256 over the algorithms, each ended by a byte that no name holds, and the text.
fn generation(text: &str, algorithms: &[Algorithm]) -> u64 {
    let mut hash = digest::Context::new(&digest::SHA256);
    for algorithm in algorithms {
        hash.update(algorithm_name(*algorithm).as_bytes());
        hash.update(&[0]);
    }
    hash.update(&[0]);
    hash.update(text.as_bytes());
    let hash = hash.finish();
    hash.as_ref().iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

fn verification_key(entry: &Json, accepted: &[Algorithm]) -> Option<VerificationKey> {
    let id = match entry.get("kid") {
        None => None,
        Some(id) => Some(id.as_str()?.into()),
    };
    if !is_for_verifying(entry) {
        return None;
    }
    let (key, possible) = material(entry)?;
    let named = match entry.get("alg") {
        None => None,
        Some(name) => Some(algorithm(name.as_str()?)?),
    };
    let fits = |algorithm: &Algorithm| {
        accepted.contains(algorithm) && named.is_none_or(|named| named == *algorithm)
    };
    let algorithms: Box<[_]> = possible.iter().copied().filter(fits).collect();
    (!algorithms.is_empty()).then_some(VerificationKey { id, algorithms, key })
}

/// Whether neither `use` nor `key_ops` keeps the key from verifying (RFC 7517 sections 4.2 and 4.3).
fn is_for_verifying(entry: &Json) -> bool {
    let used = entry.get("use").is_none_or(|used| used.as_str() == Some("sig"));
    let verifies = |operations: &Json| {
        let operations = operations.as_array().unwrap_or_default();
        operations.iter().any(|operation| operation.as_str() == Some("verify"))
    };
    used && entry.get("key_ops").is_none_or(verifies)
}

/// The key, and the algorithms that its kind can be used with.
fn material(entry: &Json) -> Option<(DecodingKey, &'static [Algorithm])> {
    let text = |name: &str| entry.get(name).and_then(Json::as_str);
    let bytes = |name: &str| text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let is_key = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
        ParsedPublicKey::new(algorithm, key).is_ok()
    };
    match (text("kty")?, text("crv")) {
        ("RSA", _) => rsa(&bytes("n")?, &bytes("e")?),
        ("EC", Some("P-256")) => {
            let point = point(&bytes("x")?, &bytes("y")?, 32)?;
            is_key(&ECDSA_P256_SHA256_FIXED, &point)
                .then(|| (DecodingKey::from_ec_der(&point), [Algorithm::ES256].as_slice()))
        }
        ("EC", Some("P-384")) => {
            let point = point(&bytes("x")?, &bytes("y")?, 48)?;
            is_key(&ECDSA_P384_SHA384_FIXED, &point)
                .then(|| (DecodingKey::from_ec_der(&point), [Algorithm::ES384].as_slice()))
        }
        ("OKP", Some("Ed25519")) => {
            let key = bytes("x").filter(|key| key.len() == 32)?;
            is_key(&ED25519, &key)
                .then(|| (DecodingKey::from_ed_der(&key), [Algorithm::EdDSA].as_slice()))
        }
        _ => None,
    }
}

/// An uncompressed point (SEC 1 section 2.3.3).
fn point(x: &[u8], y: &[u8], length: usize) -> Option<Vec<u8>> {
    (x.len() == length && y.len() == length).then(|| [&[4], x, y].concat())
}

fn rsa(n: &[u8], e: &[u8]) -> Option<(DecodingKey, &'static [Algorithm])> {
    const ALGORITHMS: [Algorithm; 6] = [
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
    ];
    if !(2_048..=8_192).contains(&bits(n)) {
        return None;
    }
    let key: Result<PublicKeyX509Der<'_>, _> = RsaPublicKeyComponents { n, e }.as_der();
    key.is_ok().then(|| (DecodingKey::from_rsa_raw_components(n, e), ALGORITHMS.as_slice()))
}

/// The length of a number in bits, leading zeros left out.
fn bits(number: &[u8]) -> usize {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let number = number.get(first..).unwrap_or_default();
    let zeros = number.first().map_or(0, |byte| byte.leading_zeros());
    (number.len() * 8).saturating_sub(usize::try_from(zeros).unwrap_or(0))
}
