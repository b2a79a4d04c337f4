//! A refusal: which rule, which fact, which remedy, and how much of it the client learns.

#[cfg(test)]
mod samples;
mod sentence;

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Method, StatusCode};
use ipnet::IpNet;

use crate::{
    certificate::Untimely,
    client::ClientAddress,
    code::Code,
    disclosure::{Disclosure, OnDeny},
    escape::printable,
    host::Host,
    lack::Lack,
    refs::{FieldRef, ResourceRef, RouteName, Site},
    uncovered::ClosedBy,
};

/// Why a request was refused, with the facts that were observed.
///
/// A closed enum: a new variant breaks every `match` until it has its code, sentence and remedy.
/// No fact is a secret; texts that a stranger wrote are cut short, and escaped where they are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each field is a fact named after itself; the code's page explains the variant"
)]
pub enum DenialReason {
    /// See [`Code::AddressDenied`]; `entry` is the position in `cidrs`.
    AddressDenied { client: ClientAddress, network: IpNet, entry: usize },
    /// See [`Code::AddressNotAllowed`].
    AddressNotAllowed { client: ClientAddress, networks: usize, nearest: Option<IpNet> },
    /// See [`Code::ClientAddressUnknown`].
    ClientAddressUnknown { client: ClientAddress },
    /// See [`Code::TokenMissing`]; `or_key`: an API key alone would do as well.
    TokenMissing { provider: Arc<str>, or_key: bool },
    /// See [`Code::TokenMalformed`].
    TokenMalformed { problem: &'static str },
    /// See [`Code::TokenAlgorithmNotAllowed`].
    TokenAlgorithmNotAllowed { algorithm: Box<str>, allowed: Arc<str> },
    /// See [`Code::TokenKeyUnknown`].
    TokenKeyUnknown { key_id: Option<Box<str>>, keys: usize },
    /// See [`Code::TokenSignatureInvalid`].
    TokenSignatureInvalid { key_id: Option<Box<str>>, issuer: Arc<str> },
    /// See [`Code::TokenExpired`].
    TokenExpired { ago: Duration, skew: Duration },
    /// See [`Code::TokenNotYetValid`].
    TokenNotYetValid { ahead: Duration, skew: Duration },
    /// See [`Code::TokenIssuerMismatch`].
    TokenIssuerMismatch { expected: Arc<str>, got: Option<Box<str>> },
    /// See [`Code::TokenAudienceMismatch`].
    TokenAudienceMismatch { expected: Arc<str>, got: Box<str> },
    /// See [`Code::TokenScopeMissing`].
    TokenScopeMissing { asked: Box<str>, had: Box<str> },
    /// See [`Code::TokenClaimMismatch`]; `entry` is the position in `claims`.
    TokenClaimMismatch { path: Arc<str>, asked: Arc<str>, found: &'static str, entry: usize },
    /// See [`Code::KeyMissing`]; `or_token`: a bearer token alone would do as well.
    KeyMissing { header: HeaderName, or_token: bool },
    /// See [`Code::KeyUnknown`]; `id` is the start of the key's public part.
    KeyUnknown { id: Option<Box<str>> },
    /// See [`Code::SubscriptionExpired`].
    SubscriptionExpired { subscription: ResourceRef, ago: Duration },
    /// See [`Code::SubscriptionSuspended`].
    SubscriptionSuspended { subscription: ResourceRef },
    /// See [`Code::SubscriptionInvalid`].
    SubscriptionInvalid { subscription: ResourceRef, problem: Arc<str>, remedy: Arc<str> },
    /// See [`Code::PlanNotAccepted`].
    PlanNotAccepted { subscription: ResourceRef, plan: ResourceRef, accepted: Box<[ResourceRef]> },
    /// See [`Code::CertificateMissing`]; `secret` holds the authorities that could vouch for one.
    CertificateMissing { secret: ResourceRef, encrypted: bool },
    /// See [`Code::CertificateUntrusted`].
    CertificateUntrusted {
        subject: Box<str>,
        issuer: Box<str>,
        secret: ResourceRef,
        problem: &'static str,
    },
    /// See [`Code::CertificateExpired`].
    CertificateExpired { subject: Box<str>, untimely: Untimely },
    /// See [`Code::CertificateNameMismatch`].
    CertificateNameMismatch { subject: Box<str>, names: Box<str>, wanted: Box<str> },
    /// See [`Code::MethodRefused`].
    MethodRefused { method: Method, allowed: Box<str> },
    /// See [`Code::OriginNotAllowed`]; `field` lists those that are.
    OriginNotAllowed { origin: Box<str>, field: FieldRef },
    /// See [`Code::RuleMatched`]; `matched` says which fields held what.
    RuleMatched { matched: Box<str> },
    /// See [`Code::PolicyRequired`].
    PolicyRequired { by: ClosedBy },
    /// See [`Code::PolicyInvalid`].
    PolicyInvalid { field: FieldRef, problem: Arc<str>, remedy: Option<Arc<str>> },
    /// See [`Code::PolicyMissing`].
    PolicyMissing { policy: ResourceRef, field: FieldRef, lack: Arc<Lack> },
    /// See [`Code::PolicyUnenforceable`].
    PolicyUnenforceable { field: FieldRef, problem: Arc<str>, remedy: Arc<str> },
    /// See [`Code::RouteInvalid`].
    RouteInvalid { field: FieldRef, problem: Arc<str>, remedy: Option<Arc<str>> },
    /// See [`Code::CredentialStoreUnavailable`].
    CredentialStoreUnavailable { resource: ResourceRef, problem: Arc<str>, remedy: Arc<str> },
    /// See [`Code::JudgementFailed`].
    JudgementFailed,
    /// See [`Code::MisdirectedRequest`].
    MisdirectedRequest { sni: Option<Host>, host: Host, cause: Misdirection },
    /// See [`Code::RequestMalformed`]; `rule` is the name of the broken rule.
    RequestMalformed { rule: &'static str },
    /// See [`Code::BodyTooLarge`]; `length` is unknown of a body that does not tell it.
    BodyTooLarge { length: Option<u64>, limit: u64, field: FieldRef },
    /// See [`Code::UriTooLong`].
    UriTooLong { length: usize, limit: usize },
    /// See [`Code::HeadersTooLarge`].
    HeadersTooLarge { count: usize, limit: usize },
    /// See [`Code::RequestTimeout`].
    RequestTimeout { slow: Slow },
    /// See [`Code::EncodingNotSupported`].
    EncodingNotSupported { encoding: Box<str> },
}

/// In which way a connection was opened for something else than its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misdirection {
    /// For a host of another namespace.
    Namespace,
    /// For a host whose clients are asked for other certificates, or for none.
    Certificate,
    /// Before clients of the host were asked for certificates.
    NotAsked,
}

/// In which way a request's body was too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slow {
    /// It paused for this long: `--body-idle-seconds`.
    Paused(Duration),
    /// It came in fewer bytes a second than this: `--body-rate-bytes-per-second`.
    Trickled(u64),
}

/// A refusal of one request.
#[derive(Clone, Debug)]
pub struct Denial {
    /// Why.
    pub reason: DenialReason,
    /// The check that headlines, if a rule refused.
    pub site: Option<Arc<Site>>,
    /// The route, if one was found.
    pub route: Option<Arc<RouteName>>,
    /// What the client may be told: the strictest of all policies of the request.
    pub disclosure: Disclosure,
    /// The hint of the headlined rule, else of its policy.
    pub hint: Option<Arc<str>>,
    /// What else would have refused the request, in the order of judging.
    pub others: Vec<Failure>,
}

/// One more rule that would have refused the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub reason: DenialReason,
    /// The check.
    pub site: Arc<Site>,
}

impl Failure {
    /// The one field to look at.
    pub fn field(&self) -> Option<FieldRef> {
        self.reason.field(Some(&self.site))
    }
}

impl DenialReason {
    /// Its code.
    pub fn code(&self) -> Code {
        match self {
            Self::AddressDenied { .. } => Code::AddressDenied,
            Self::AddressNotAllowed { .. } => Code::AddressNotAllowed,
            Self::ClientAddressUnknown { .. } => Code::ClientAddressUnknown,
            Self::TokenMissing { .. } => Code::TokenMissing,
            Self::TokenMalformed { .. } => Code::TokenMalformed,
            Self::TokenAlgorithmNotAllowed { .. } => Code::TokenAlgorithmNotAllowed,
            Self::TokenKeyUnknown { .. } => Code::TokenKeyUnknown,
            Self::TokenSignatureInvalid { .. } => Code::TokenSignatureInvalid,
            Self::TokenExpired { .. } => Code::TokenExpired,
            Self::TokenNotYetValid { .. } => Code::TokenNotYetValid,
            Self::TokenIssuerMismatch { .. } => Code::TokenIssuerMismatch,
            Self::TokenAudienceMismatch { .. } => Code::TokenAudienceMismatch,
            Self::TokenScopeMissing { .. } => Code::TokenScopeMissing,
            Self::TokenClaimMismatch { .. } => Code::TokenClaimMismatch,
            Self::KeyMissing { .. } => Code::KeyMissing,
            Self::KeyUnknown { .. } => Code::KeyUnknown,
            Self::SubscriptionExpired { .. } => Code::SubscriptionExpired,
            Self::SubscriptionSuspended { .. } => Code::SubscriptionSuspended,
            Self::SubscriptionInvalid { .. } => Code::SubscriptionInvalid,
            Self::PlanNotAccepted { .. } => Code::PlanNotAccepted,
            Self::CertificateMissing { .. } => Code::CertificateMissing,
            Self::CertificateUntrusted { .. } => Code::CertificateUntrusted,
            Self::CertificateExpired { .. } => Code::CertificateExpired,
            Self::CertificateNameMismatch { .. } => Code::CertificateNameMismatch,
            Self::MethodRefused { .. } => Code::MethodRefused,
            Self::OriginNotAllowed { .. } => Code::OriginNotAllowed,
            Self::RuleMatched { .. } => Code::RuleMatched,
            Self::PolicyRequired { .. } => Code::PolicyRequired,
            Self::PolicyInvalid { .. } => Code::PolicyInvalid,
            Self::PolicyMissing { .. } => Code::PolicyMissing,
            Self::PolicyUnenforceable { .. } => Code::PolicyUnenforceable,
            Self::RouteInvalid { .. } => Code::RouteInvalid,
            Self::CredentialStoreUnavailable { .. } => Code::CredentialStoreUnavailable,
            Self::JudgementFailed => Code::JudgementFailed,
            Self::MisdirectedRequest { .. } => Code::MisdirectedRequest,
            Self::RequestMalformed { .. } => Code::RequestMalformed,
            Self::BodyTooLarge { .. } => Code::BodyTooLarge,
            Self::UriTooLong { .. } => Code::UriTooLong,
            Self::HeadersTooLarge { .. } => Code::HeadersTooLarge,
            Self::RequestTimeout { .. } => Code::RequestTimeout,
            Self::EncodingNotSupported { .. } => Code::EncodingNotSupported,
        }
    }

    /// Adds that the credential of another alternative would do as well, if neither was presented.
    pub(crate) fn or(&mut self, other: &Self) {
        match (self, other) {
            (Self::TokenMissing { or_key: either, .. }, Self::KeyMissing { .. })
            | (Self::KeyMissing { or_token: either, .. }, Self::TokenMissing { .. }) => {
                *either = true;
            }
            _ => {}
        }
    }

    /// Whether a token and an API key are missing of which one would be enough.
    fn asks_for_either(&self) -> bool {
        matches!(
            self,
            Self::TokenMissing { or_key: true, .. } | Self::KeyMissing { or_token: true, .. }
        )
    }

    /// The field that the reason itself names, below the check's or on its own.
    fn field(&self, site: Option<&Site>) -> Option<FieldRef> {
        let below = |suffix: &str| {
            site.map(|site| FieldRef::new(site.policy.clone(), format!("{}{suffix}", site.field)))
        };
        match self {
            Self::AddressDenied { entry, .. } => below(&format!(".cidrs[{entry}]")),
            Self::AddressNotAllowed { .. } => below(".cidrs"),
            Self::TokenScopeMissing { .. } => below(".scopes"),
            Self::TokenClaimMismatch { entry, .. } => below(&format!(".claims[{entry}]")),
            Self::PlanNotAccepted { .. } => below(".plans"),
            Self::CertificateUntrusted { .. } => below(".caSecretRef"),
            Self::CertificateNameMismatch { .. } => below(".subjectAltNames"),
            Self::PolicyRequired { by: ClosedBy::Flag }
            | Self::ClientAddressUnknown { .. }
            | Self::TokenMissing { .. }
            | Self::TokenMalformed { .. }
            | Self::TokenAlgorithmNotAllowed { .. }
            | Self::TokenKeyUnknown { .. }
            | Self::TokenSignatureInvalid { .. }
            | Self::TokenExpired { .. }
            | Self::TokenNotYetValid { .. }
            | Self::TokenIssuerMismatch { .. }
            | Self::TokenAudienceMismatch { .. }
            | Self::KeyMissing { .. }
            | Self::KeyUnknown { .. }
            | Self::SubscriptionExpired { .. }
            | Self::SubscriptionSuspended { .. }
            | Self::SubscriptionInvalid { .. }
            | Self::CertificateMissing { .. }
            | Self::CertificateExpired { .. }
            | Self::MethodRefused { .. }
            | Self::RuleMatched { .. }
            | Self::CredentialStoreUnavailable { .. }
            | Self::JudgementFailed
            | Self::MisdirectedRequest { .. }
            | Self::RequestMalformed { .. }
            | Self::UriTooLong { .. }
            | Self::HeadersTooLarge { .. }
            | Self::RequestTimeout { .. }
            | Self::EncodingNotSupported { .. } => below(""),
            Self::PolicyInvalid { field, .. }
            | Self::PolicyMissing { field, .. }
            | Self::PolicyUnenforceable { field, .. }
            | Self::RouteInvalid { field, .. }
            | Self::BodyTooLarge { field, .. }
            | Self::OriginNotAllowed { field, .. }
            | Self::PolicyRequired { by: ClosedBy::Annotation(field) } => Some(field.clone()),
        }
    }
}

impl Denial {
    /// A refusal that no rule made: the request itself, or what the route lacks.
    pub fn of_request(reason: DenialReason) -> Self {
        let OnDeny { disclosure, hint } = OnDeny::default();
        Self { reason, site: None, route: None, disclosure, hint, others: Vec::new() }
    }

    /// The code of the headline.
    pub fn code(&self) -> Code {
        self.reason.code()
    }

    /// The one field to look at.
    pub fn field(&self) -> Option<FieldRef> {
        self.reason.field(self.site.as_deref())
    }

    /// The policy that refused, if one did.
    pub fn policy(&self) -> Option<&ResourceRef> {
        if let DenialReason::PolicyInvalid { field: FieldRef { resource: policy, .. }, .. }
        | DenialReason::PolicyMissing { policy, .. } = &self.reason
        {
            return Some(policy);
        }
        self.site.as_ref().map(|site| &site.policy)
    }

    /// The rule that refused, if one did.
    pub fn rule(&self) -> Option<&str> {
        self.site.as_ref().map(|site| &*site.rule)
    }

    /// What was observed, for the operator: one sentence without a final period.
    pub fn operator_sentence(&self) -> String {
        printable(&sentence::observed(&self.reason)).to_string()
    }

    /// What to do, with the values of this refusal where they are known.
    pub fn remedy(&self) -> String {
        printable(&sentence::remedy(&self.reason, self.field().as_ref())).to_string()
    }

    /// What the client is told under disclosure `Reason`.
    pub fn client_sentence(&self) -> &'static str {
        if self.reason.asks_for_either() {
            return "A bearer token or an API key is required.";
        }
        self.code().client_sentence()
    }

    /// The challenge of a 401 (RFC 9110 section 11.6.1, RFC 6750 section 3), and of a 403 that
    /// another token could turn (RFC 6750 section 3.1). Under disclosure `None` it is the scheme
    /// alone, which a 401 must have, and a 403 has none: its error would tell the cause. Of two
    /// credentials that are both missing and would both do, each has its challenge.
    pub fn challenge(&self) -> Option<HeaderValue> {
        let value = if self.disclosure == Disclosure::None {
            return self.bare_challenge();
        } else if self.reason.asks_for_either() {
            "Bearer, ApiKey header=\"x-api-key\""
        } else if let DenialReason::TokenMissing { .. } = &self.reason {
            "Bearer"
        } else if let DenialReason::TokenScopeMissing { .. } = &self.reason {
            "Bearer error=\"insufficient_scope\""
        } else if self.code().status() != StatusCode::UNAUTHORIZED {
            return None;
        } else if let DenialReason::KeyMissing { .. } | DenialReason::KeyUnknown { .. } =
            &self.reason
        {
            "ApiKey header=\"x-api-key\""
        } else {
            "Bearer error=\"invalid_token\""
        };
        Some(HeaderValue::from_static(value))
    }

    fn bare_challenge(&self) -> Option<HeaderValue> {
        let asks_for_key = matches!(self.code(), Code::KeyMissing | Code::KeyUnknown);
        let scheme = match (self.reason.asks_for_either(), asks_for_key) {
            (true, _) => "Bearer, ApiKey",
            (false, true) => "ApiKey",
            (false, false) => "Bearer",
        };
        (self.code().status() == StatusCode::UNAUTHORIZED).then(|| HeaderValue::from_static(scheme))
    }
}
