//! JSON Web Tokens: who may issue them, and what they must say.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Number;

use crate::{
    cel, duration, pattern,
    presence::{at_least_one, exactly_one},
    schema::SCALAR,
};

/// A check of the caller's token.
#[derive(Serialize, Deserialize, Debug, Default, PartialEq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtCheck {
    /// Name of the entry of `spec.jwtProviders` that must have issued the token.
    /// Signature, issuer, audience and validity are judged as that entry says.
    #[schemars(length(min = 1, max = 63), regex(pattern = pattern::LABEL))]
    pub provider: String,

    /// Scopes that the token must carry in its claim `scope` (words separated by
    /// spaces) or `scp`. Left out: any scopes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<ScopeCheck>,

    /// What other claims of the token must say, all of them. At most 16.
    /// Example: `[{path: realm_access.roles, contains: partner}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub claims: Vec<ClaimCheck>,
}

/// Scopes that a token must carry.
#[derive(Serialize, Deserialize, Debug, Default, PartialEq, Eq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-whygate-presence" = at_least_one(&["all", "any"], "give scopes in `all` or `any`, or leave `scopes` out")))]
pub struct ScopeCheck {
    /// Scopes that must all be present. At most 16, of at most 128 characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128)))]
    pub all: Vec<String>,

    /// Scopes of which one is enough. At most 16, of at most 128 characters. With
    /// `all`, both must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128)))]
    pub any: Vec<String>,
}

/// An entry says what one claim of a token must be.
///
/// Exactly one of `equals`, `contains` and `oneOf` says what is compared. A claim
/// that is absent fails the check.
#[derive(Serialize, Deserialize, Debug, PartialEq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-whygate-presence" = exactly_one(&[&["equals"], &["contains"], &["oneOf"]], "a claim is compared in one way: give exactly one of `equals`, `contains`, `oneOf`")))]
pub struct ClaimCheck {
    /// Where the claim stands in the token; names of nested objects are separated
    /// by dots. At most 256 characters. Example: `realm_access.roles`.
    #[schemars(length(min = 1, max = 256), regex(pattern = pattern::CLAIM_PATH))]
    pub path: String,

    /// How the claim is compared.
    #[serde(flatten)]
    pub test: ClaimTest,
}

/// How a claim is compared.
#[derive(Serialize, Deserialize, Debug, PartialEq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ClaimTest {
    /// The claim must be exactly this text, number or boolean. Text of at most 1024
    /// characters; `"1"` and `1` differ. Example: `equals: true`.
    Equals(ClaimValue),
    /// The claim must be a list of texts that holds this entry, or a text that
    /// equals it. At most 256 characters. Example: `contains: partner`.
    Contains(#[schemars(length(max = 256))] String),
    /// The claim must be a text that is one of these. From 1 to 64 entries of at
    /// most 256 characters. Example: `oneOf: [acme, globex]`.
    OneOf(#[schemars(length(min = 1, max = 64), inner(length(max = 256)))] Vec<String>),
}

/// A text, number or boolean that a claim is compared with.
#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
#[serde(untagged)]
pub enum ClaimValue {
    /// `true` or `false`.
    Boolean(bool),
    /// A number, compared as a number.
    Number(Number),
    /// A text, compared byte by byte.
    Text(String),
}

impl JsonSchema for ClaimValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ClaimValue".into()
    }

    /// A structural schema cannot say "text, number or boolean", so the API server
    /// takes anything and the mark lets [`crate::decode`] refuse the rest.
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "x-kubernetes-preserve-unknown-fields": true,
            SCALAR: { "maxLength": 1024 },
        })
    }
}

/// An entry describes one issuer, and how its tokens are verified.
#[derive(Serialize, Deserialize, Debug, PartialEq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-whygate-presence" = exactly_one(&[&["audiences"], &["anyAudience"]], "list the accepted `audiences`, or write `anyAudience: true` to accept tokens for any service; not both")))]
pub struct JwtProvider {
    /// Name by which the `jwt` checks of this policy refer to the entry. Lower-case
    /// letters, digits and `-`, at most 63 characters. Example: `keycloak`.
    #[schemars(length(min = 1, max = 63), regex(pattern = pattern::LABEL))]
    pub name: String,

    /// What the claim `iss` of a token must be, byte for byte. At most 512
    /// characters. Example: `https://id.example.com/realms/shop`.
    #[schemars(length(min = 1, max = 512))]
    pub issuer: String,

    /// Audiences that are served here: the claim `aud` of a token must name one of
    /// them. At most 16, of at most 512 characters. Required unless
    /// `anyAudience: true` is spelled out. Example: `[shop-api]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 512)))]
    pub audiences: Vec<String>,

    /// `true` accepts tokens that were issued for any audience, including other
    /// services. Default `false`. Not together with `audiences`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any_audience: bool,

    /// Where the public keys of the issuer come from: exactly one of `inline` and
    /// `secretRef`.
    pub jwks: Jwks,

    /// Signature algorithms that are accepted. Default: all of the list, RS256,
    /// RS384, RS512, PS256, PS384, PS512, ES256, ES384 and `EdDSA`. Algorithms with a
    /// shared secret (HS256 and the like) and `none` are never accepted.
    #[serde(default = "Algorithm::all")]
    #[schemars(length(min = 1, max = 9), extend("x-kubernetes-list-type" = "set"))]
    pub algorithms: Vec<Algorithm>,

    /// How far the clock of the issuer may be off when `exp` and `nbf` are judged.
    /// A duration such as `30s` or `1m30s`, from `0s` to `5m`. Default `60s`.
    #[serde(default = "default_clock_skew", with = "duration")]
    #[schemars(with = "String", length(max = 16), regex(pattern = pattern::DURATION), extend("x-kubernetes-validations" = cel::clock_skew()))]
    pub clock_skew: Duration,
}

fn default_clock_skew() -> Duration {
    Duration::from_mins(1)
}

/// Where the public keys of an issuer come from.
///
/// Exactly one of `inline` and `secretRef`.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-whygate-presence" = exactly_one(&[&["inline"], &["secretRef"]], "a key set has one source: give exactly one of `inline` and `secretRef`")))]
pub enum Jwks {
    /// The JSON Web Key Set itself, as a JSON document in a string of at most
    /// 65536 characters. Public keys only. Example: `'{"keys":[…]}'`.
    Inline(#[schemars(length(min = 1, max = 65536))] String),
    /// A Secret in the namespace of the policy that holds the key set. While it is
    /// missing the check cannot be judged, so `require` refuses. The Secret
    /// needs the label `whygate.dev/use` to be read.
    SecretRef(SecretKeyRef),
}

/// One key of a Secret in the namespace of the policy.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret. At most 253 characters.
    #[schemars(length(min = 1, max = 253), regex(pattern = pattern::OBJECT_NAME))]
    pub name: String,

    /// Key in the Secret's data. Default `jwks.json`. At most 253 characters.
    #[serde(default = "default_secret_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = pattern::SECRET_KEY))]
    pub key: String,
}

fn default_secret_key() -> String {
    "jwks.json".to_owned()
}

/// Signature algorithms of RFC 7518 and RFC 8037 with a public key.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq, Hash, Clone, Copy, JsonSchema)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    /// Every accepted algorithm: the default of a provider.
    pub fn all() -> Vec<Self> {
        vec![
            Self::RS256,
            Self::RS384,
            Self::RS512,
            Self::PS256,
            Self::PS384,
            Self::PS512,
            Self::ES256,
            Self::ES384,
            Self::EdDsa,
        ]
    }
}
