//! A token in its compact form (RFC 7515 section 3.1): three parts, read before anything is believed.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, crypto::aws_lc::DEFAULT_PROVIDER};

use super::{TOKEN_LIMIT, VerificationKey};
use crate::claims::{Claims, Json, JsonProblem};

/// A token whose signature nobody has looked at yet.
pub(crate) struct Unverified<'a> {
    /// `alg` of the header, which only selects among the accepted algorithms.
    pub(crate) algorithm: Box<str>,
    /// `kid` of the header.
    pub(crate) key_id: Option<Box<str>>,
    /// What the token claims.
    pub(crate) claims: Claims,
    message: &'a str,
    signature: Vec<u8>,
}

impl<'a> Unverified<'a> {
    /// Reads a token of at most [`TOKEN_LIMIT`] bytes.
    ///
    /// `jku`, `x5u`, `jwk` and `x5c` are ignored: keys come from the provider alone.
    pub(crate) fn read(token: &'a str) -> Result<Self, &'static str> {
        if token.len() > TOKEN_LIMIT {
            return Err("it is longer than 8192 bytes");
        }
        let parts = "it does not have three parts";
        let (message, signature) = token.rsplit_once('.').ok_or(parts)?;
        let (header, payload) = message.split_once('.').ok_or(parts)?;
        if payload.contains('.') {
            return Err(parts);
        }
        let header = object(header, &HEADER)?;
        if header.get("crit").is_some() {
            return Err("its header has crit, and no extension is understood here");
        }
        let algorithm = header.get("alg").and_then(Json::as_str);
        let algorithm = algorithm.ok_or("its header has no alg that is a text")?.into();
        let key_id = match header.get("kid") {
            None => None,
            Some(id) => Some(id.as_str().ok_or("kid in its header is not a text")?.into()),
        };
        let payload = object(payload, &PAYLOAD)?;
        let signature = URL_SAFE_NO_PAD.decode(signature);
        let signature = signature.map_err(|_| "its signature is not base64url")?;
        Ok(Self { algorithm, key_id, claims: Claims { payload }, message, signature })
    }

    /// Whether `key` made the signature.
    ///
    /// `algorithm` is one that the key set gave to the key; a key of another family verifies nothing.
    /// The provider of the algorithms is named here, so that no start-up order and no feature of
    /// another crate can change it.
    pub(crate) fn is_signed_by(&self, key: &VerificationKey, algorithm: Algorithm) -> bool {
        (DEFAULT_PROVIDER.verifier_factory)(&algorithm, &key.key)
            .is_ok_and(|verifier| verifier.verify(self.message.as_bytes(), &self.signature).is_ok())
    }
}

/// What to say of a part that is not what it should be. No part of a token is ever quoted.
struct Sentences {
    base64: &'static str,
    json: &'static str,
    name_twice: &'static str,
    too_deep: &'static str,
    object: &'static str,
}

const HEADER: Sentences = Sentences {
    base64: "its header is not base64url",
    json: "its header is not JSON",
    name_twice: "its header has a name twice",
    too_deep: "its header is nested too deep",
    object: "its header is not an object",
};

const PAYLOAD: Sentences = Sentences {
    base64: "its payload is not base64url",
    json: "its payload is not JSON",
    name_twice: "its payload has a name twice",
    too_deep: "its payload is nested too deep",
    object: "its payload is not an object",
};

fn object(part: &str, sentences: &Sentences) -> Result<Json, &'static str> {
    let text = URL_SAFE_NO_PAD.decode(part).map_err(|_| sentences.base64)?;
    let value = Json::parse(&text).map_err(|problem| match problem {
        JsonProblem::NotJson => sentences.json,
        JsonProblem::NameTwice => sentences.name_twice,
        JsonProblem::TooDeep => sentences.too_deep,
    })?;
    if matches!(value, Json::Object(_)) { Ok(value) } else { Err(sentences.object) }
}
