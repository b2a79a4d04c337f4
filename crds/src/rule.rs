//! A rule of a policy: one conjunction of checks, or alternatives of them.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    client_certificate::ClientCertificateCheck,
    enforcement::Enforcement,
    jwt::JwtCheck,
    pattern,
    presence::{at_least_one, exactly_one},
};

/// A rule is one named demand.
///
/// It holds either checks (`ip`, `jwt`, `subscription`, `clientCertificate`,
/// `methods`), all of which must hold, or `anyOf`, a list of alternatives of which
/// one must hold; never both. Its name is the explanation of a refusal.
#[derive(Serialize, Debug, PartialEq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-whygate-presence" = exactly_one(&[&["ip", "jwt", "subscription", "clientCertificate", "methods"], &["anyOf"]], "a rule has either checks (`ip`, `jwt`, `subscription`, `clientCertificate`, `methods`) or `anyOf`: give one of the two; to combine them, repeat the checks in each alternative of `anyOf` or write two rules")))]
pub struct Rule {
    /// Name of the rule, unique in its list. Refusals, Events and metrics carry
    /// it, so say what is demanded: `office-or-vpn`, `partner`. Lower-case
    /// letters, digits and `-`, at most 63 characters.
    #[schemars(length(min = 1, max = 63), regex(pattern = pattern::LABEL))]
    pub name: String,

    /// Overrides the policy's `enforcement` for this rule: `Enforce` or `Shadow`.
    /// Default: what the policy says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Enforcement")]
    pub enforcement: Option<Enforcement>,

    /// The checks of the rule itself; empty if the rule has `any_of`.
    #[serde(flatten)]
    pub checks: Checks,

    /// Alternatives, of which one is enough. From 1 to 8; each is an object of one
    /// or more checks, all of which must hold. Not together with checks in the
    /// rule itself.
    /// Example: `[{methods: [GET, HEAD]}, {jwt: {provider: keycloak}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 8))]
    pub any_of: Vec<Checks>,

    /// What a caller whom this rule refuses is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub respond: Option<Respond>,
}

/// A rule as it is written, with the checks among its own fields. To read them by `flatten` costs
/// several times as much: serde copies every field into a buffer first.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    name: String,
    enforcement: Option<Enforcement>,
    ip: Option<IpCheck>,
    jwt: Option<JwtCheck>,
    subscription: Option<SubscriptionCheck>,
    client_certificate: Option<ClientCertificateCheck>,
    #[serde(default)]
    methods: Vec<String>,
    #[serde(default)]
    any_of: Vec<Checks>,
    respond: Option<Respond>,
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let it = Written::deserialize(deserializer)?;
        let Written { ip, jwt, subscription, client_certificate, methods, .. } = it;
        let checks = Checks { ip, jwt, subscription, client_certificate, methods };
        let Written { name, enforcement, any_of, respond, .. } = it;
        Ok(Self { name, enforcement, checks, any_of, respond })
    }
}

/// What a rule demands.
#[derive(Debug, PartialEq, Clone, Copy)]
pub enum Demand<'a> {
    /// All checks, written in the rule itself.
    Checks(&'a Checks),
    /// One of the alternatives under `anyOf`.
    AnyOf(&'a [Checks]),
}

impl Rule {
    /// What the rule demands: its own checks, unless it lists alternatives.
    ///
    /// A rule that was decoded by [`crate::decode`] has exactly one of the two.
    pub fn demand(&self) -> Demand<'_> {
        if self.any_of.is_empty() {
            Demand::Checks(&self.checks)
        } else {
            Demand::AnyOf(&self.any_of)
        }
    }
}

/// Checks that must hold together.
#[derive(Serialize, Deserialize, Debug, Default, PartialEq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-whygate-presence" = at_least_one(&["ip", "jwt", "subscription", "clientCertificate", "methods"], "an alternative without a check would admit everybody: give at least one of `ip`, `jwt`, `subscription`, `clientCertificate`, `methods`")))]
pub struct Checks {
    /// Holds if the address of the client is in one of the networks.
    /// Example: `{cidrs: [198.51.100.0/24]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpCheck>,

    /// Holds if the request carries a valid JSON Web Token as
    /// `Authorization: Bearer …`, with the scopes and claims named here.
    /// Example: `{provider: keycloak, scopes: {all: [orders.read]}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtCheck>,

    /// Holds if the request carries the API key of an active `AccessSubscription` to
    /// one of the plans, in the header `x-api-key`.
    /// Example: `{plans: [gold, silver]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<SubscriptionCheck>,

    /// Holds if the client showed a certificate in the TLS handshake that an
    /// authority vouches for, with one of the names given here.
    /// Example: `{caSecretRef: {name: partner-ca}, subjectAltNames: {uris: ["spiffe://acme/*"]}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificateCheck>,

    /// Holds if the method of the request is one of these. From 1 to 16 upper-case
    /// names of at most 32 characters. `GET` does not include `HEAD`.
    /// Example: `[GET, HEAD]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 32), regex(pattern = pattern::METHOD))
    )]
    pub methods: Vec<String>,
}

impl Checks {
    /// Whether there is no check at all.
    pub fn is_empty(&self) -> bool {
        self.ip.is_none()
            && self.jwt.is_none()
            && self.subscription.is_none()
            && self.client_certificate.is_none()
            && self.methods.is_empty()
    }
}

/// A check of the client's address.
#[derive(Serialize, Deserialize, Debug, Default, PartialEq, Eq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IpCheck {
    /// Networks in CIDR notation, IPv4 or IPv6, at most 4096. The bits behind the
    /// prefix must be zero: `10.0.0.0/8`, not `10.0.0.1/8`; a single address is
    /// `203.0.113.7/32` or `2001:db8::1/128`. An empty list holds for nobody.
    #[schemars(length(max = 4096), extend("items" = { "type": "string", "format": "cidr", "maxLength": 43 }))]
    pub cidrs: Vec<String>,

    /// Whether addresses of the cluster's own infrastructure (nodes, pods, load
    /// balancers, as the operator listed them) may count as a client here. Default
    /// `false`: such a peer hides the real client, so the check cannot be judged
    /// and the request is refused with `ClientAddressUnknown`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub infrastructure: bool,
}

/// A check of the caller's subscription.
#[derive(Serialize, Deserialize, Debug, Default, PartialEq, Eq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionCheck {
    /// Names of `AccessPlan` objects in the namespace of the policy. An active subscription
    /// to one of them is enough. From 1 to 16.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 253), regex(pattern = pattern::OBJECT_NAME))
    )]
    pub plans: Vec<String>,
}

/// What a caller whom a rule refuses is told.
#[derive(Serialize, Deserialize, Debug, Default, PartialEq, Eq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Respond {
    /// One sentence that tells the caller what to do, shown when `disclosure` is
    /// `Reason`. At most 256 characters.
    /// Example: `"Connect to the VPN and try again."`
    #[schemars(length(min = 1, max = 256))]
    pub hint: String,
}
