//! The order of headlines: of several refusals, which one speaks.

use crate::code::Code;

/// The stages of judging, the one that speaks first on top: nobody outside of the network is told
/// to fetch a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Refused before any rule, or by no rule at all.
    BeforeRules,
    /// A `deny` rule by address.
    AddressDenied,
    /// Another `deny` rule.
    RuleMatched,
    /// A rule asks for an address that cannot be told.
    AddressUnknown,
    /// A requirement that no credential could meet.
    WithoutCredential,
    /// Who is it?
    Authentication,
    /// Does its subscription count?
    Subscription,
    /// May it?
    Authorization,
}

/// The stage that a code belongs to.
pub(crate) fn stage(code: Code) -> Stage {
    match code {
        Code::AddressDenied => Stage::AddressDenied,
        Code::RuleMatched => Stage::RuleMatched,
        Code::ClientAddressUnknown => Stage::AddressUnknown,
        Code::AddressNotAllowed | Code::MethodRefused => Stage::WithoutCredential,
        Code::TokenMissing
        | Code::TokenMalformed
        | Code::TokenAlgorithmNotAllowed
        | Code::TokenKeyUnknown
        | Code::TokenSignatureInvalid
        | Code::TokenExpired
        | Code::TokenNotYetValid
        | Code::TokenIssuerMismatch
        | Code::TokenAudienceMismatch
        | Code::KeyMissing
        | Code::KeyUnknown
        | Code::CertificateMissing
        | Code::CertificateUntrusted
        | Code::CertificateExpired
        | Code::CredentialStoreUnavailable => Stage::Authentication,
        Code::SubscriptionExpired
        | Code::SubscriptionSuspended
        | Code::SubscriptionInvalid
        | Code::PlanNotAccepted => Stage::Subscription,
        Code::TokenScopeMissing | Code::TokenClaimMismatch | Code::CertificateNameMismatch => {
            Stage::Authorization
        }
        Code::PolicyRequired
        | Code::PolicyInvalid
        | Code::PolicyMissing
        | Code::PolicyUnenforceable
        | Code::RouteInvalid
        | Code::JudgementFailed
        | Code::MisdirectedRequest
        | Code::RequestMalformed
        | Code::OriginNotAllowed
        | Code::BodyTooLarge
        | Code::UriTooLong
        | Code::HeadersTooLarge
        | Code::RequestTimeout
        | Code::EncodingNotSupported
        | Code::RouteNotFound
        | Code::BackendMissing
        | Code::NoEndpoints
        | Code::UpstreamConnectFailed
        | Code::UpstreamOverloaded
        | Code::UpstreamReset
        | Code::UpstreamTimeout
        | Code::UpstreamMalformed => Stage::BeforeRules,
    }
}

/// Whether a caller who hears this code presented a credential: such an alternative got further
/// than one for which there was none.
pub(crate) fn presented(code: Code) -> bool {
    let none_came =
        matches!(code, Code::TokenMissing | Code::KeyMissing | Code::CertificateMissing);
    !none_came && stage(code) >= Stage::Authentication
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_speaks_before_the_next() {
        let order = [
            Code::AddressDenied,
            Code::RuleMatched,
            Code::ClientAddressUnknown,
            Code::AddressNotAllowed,
            Code::TokenMissing,
            Code::SubscriptionExpired,
            Code::TokenScopeMissing,
        ];
        assert!(order.is_sorted_by(|one, two| stage(*one) < stage(*two)));
    }

    #[test]
    fn who_presented_a_bad_credential_got_further_than_who_presented_none() {
        assert!(presented(Code::TokenExpired) && presented(Code::KeyUnknown));
        assert!(presented(Code::CertificateUntrusted) && !presented(Code::CertificateMissing));
        assert!(presented(Code::CredentialStoreUnavailable));
        assert!(!presented(Code::TokenMissing) && !presented(Code::AddressNotAllowed));
    }
}
