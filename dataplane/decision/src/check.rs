//! Checks: the smallest demands that a rule is made of. One kind a file, all of the same shape.

pub mod address;
pub mod certificate;
pub mod method;
pub mod subscription;
pub mod token;

use std::sync::Arc;

use http::HeaderName;

use crate::{
    canonical::{API_KEY, CanonicalRequest},
    denial::DenialReason,
    lack::Lack,
    refs::{ResourceRef, Site},
    remembered::{Recording, Remembered},
    spelling::same_name,
    subscription::Subscriptions,
    time::Timestamp,
    token::VerifiedTokens,
};

static KEYS: [HeaderName; 1] = [API_KEY];

static METHODS: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

static CERTIFICATES: [HeaderName; 9] = [
    HeaderName::from_static("client-cert"),
    HeaderName::from_static("client-cert-chain"),
    HeaderName::from_static("ssl-client-cert"),
    HeaderName::from_static("ssl-client-issuer-dn"),
    HeaderName::from_static("ssl-client-subject-dn"),
    HeaderName::from_static("ssl-client-verify"),
    HeaderName::from_static("x-client-cert"),
    HeaderName::from_static("x-forwarded-client-cert"),
    HeaderName::from_static("x-ssl-client-cert"),
];

/// One check of a rule.
#[derive(Debug)]
pub struct Check {
    /// Where it stands.
    pub site: Arc<Site>,
    /// What it asks for.
    pub demand: Demand,
}

/// What a check asks for.
#[derive(Debug)]
pub enum Demand {
    /// `ip`: the client's address is in a list of networks.
    Address(address::AddressCheck),
    /// `methods`: the request's method is in a list.
    Method(method::MethodCheck),
    /// `jwt`: a token of a provider is valid and says what is asked.
    Token(token::TokenCheck),
    /// `subscription`: an API key belongs to an active subscription of a plan.
    Subscription(subscription::SubscriptionCheck),
    /// `clientCertificate`: an authority vouches for the certificate that the client showed.
    Certificate(certificate::CertificateCheck),
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Met(Evidence),
    /// It does not hold.
    Unmet(Box<DenialReason>),
    /// It cannot be told: unmet in `require`, matched in `deny`.
    Unknown(Box<DenialReason>),
    /// Left out, because it costs and the request is refused already.
    NotJudged,
}

/// Why a check holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The entry of `cidrs`, from 0, that holds the address.
    Network(usize),
    /// The method is listed.
    Method,
    /// The token was verified.
    Token,
    /// The API key is of an active subscription.
    Subscription,
    /// The certificate was verified.
    Certificate,
}

/// Everything that checks look at, for one request.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The request.
    pub request: &'a CanonicalRequest,
    /// When it is judged.
    pub now: Timestamp,
    /// Tokens that this thread has verified before.
    pub tokens: &'a dyn VerifiedTokens,
    /// The API keys of the installation.
    pub subscriptions: &'a Subscriptions,
    /// Whether a browser asks ahead of the request that counts: no credentials come with that, and
    /// its method is not the one that rules require.
    pub preflight: bool,
    /// Whether the request is refused already, so that nothing costly is done any more.
    pub refused: bool,
    /// What is known of its credentials, if it was admitted before and is judged again.
    pub remembered: Option<&'a Remembered>,
    /// Who notes what its credentials are found to be.
    pub recording: Option<&'a Recording>,
}

impl std::fmt::Debug for Facts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts")
            .field("request", self.request)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl Check {
    /// Judges the request by this check alone.
    pub fn judge(&self, facts: Facts<'_>) -> Outcome {
        match &self.demand {
            Demand::Address(check) => check.judge(facts),
            Demand::Method(check) => check.judge(facts),
            Demand::Token(check) => check.judge(facts),
            Demand::Subscription(check) => check.judge(facts),
            Demand::Certificate(check) => check.judge(facts),
        }
    }
}

impl Demand {
    /// The place in the order of judging: what costs less comes first.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Address(_) => 0,
            Self::Method(_) => 1,
            Self::Subscription(_) => 2,
            Self::Certificate(_) => 3,
            Self::Token(_) => 4,
        }
    }

    /// Headers that must not reach the upstream of a judged route: a consumed API key, what some
    /// frameworks take for the method instead of the one that was judged, and in what proxies tell
    /// of a client's certificate: nobody tells of the one that was judged.
    pub(crate) fn withholds(&self) -> &'static [HeaderName] {
        match self {
            Self::Subscription(_) => &KEYS,
            Self::Method(_) => &METHODS,
            Self::Certificate(_) => &CERTIFICATES,
            Self::Address(_) | Self::Token(_) => &[],
        }
    }

    /// Whether there is a kind of demand that withholds this header, in any spelling.
    pub(crate) fn withholds_for_some(name: &str) -> bool {
        let mut withheld = KEYS.iter().chain(&METHODS).chain(&CERTIFICATES);
        withheld.any(|withheld| same_name(name, withheld.as_str()))
    }

    /// Whether the check looks at a credential.
    pub fn needs_credential(&self) -> bool {
        match self {
            Self::Address(_) | Self::Method(_) => false,
            Self::Token(_) | Self::Subscription(_) | Self::Certificate(_) => true,
        }
    }

    /// Whether the check looks at the client's address.
    pub fn is_address(&self) -> bool {
        matches!(self, Self::Address(_))
    }
}

/// The refusal of who presented a credential that only `resource` could verify.
fn unavailable(resource: &ResourceRef, lack: &Lack) -> DenialReason {
    let (problem, remedy) = (Arc::clone(&lack.problem), Arc::clone(&lack.remedy));
    DenialReason::CredentialStoreUnavailable { resource: resource.clone(), problem, remedy }
}
