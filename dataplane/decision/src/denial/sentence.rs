//! From facts to sentences. What a client may have written is quoted; all the rest is escaped where
//! the sentences leave [`super::Denial`].

use std::{net::IpAddr, time::Duration};

use super::{DenialReason, Misdirection, Slow};
use crate::{
    certificate::Untimely,
    client::{ClientAddress, Derivation},
    escape::quoted,
    host::Host,
    refs::{FieldRef, ResourceRef},
    uncovered::ClosedBy,
};

/// What was observed, without a final period.
pub(super) fn observed(reason: &DenialReason) -> String {
    use DenialReason as R;
    match reason {
        R::AddressDenied { client, network, .. } => {
            format!("client address {client} is in {network}")
        }
        R::AddressNotAllowed { client, networks, nearest } => {
            not_allowed(client, *networks, *nearest)
        }
        R::ClientAddressUnknown { client } => {
            format!("the client's address is not known: {client}")
        }
        R::KeyMissing { header, or_token: false } => format!("no API key in {header}"),
        R::KeyMissing { header, or_token: true } => {
            format!("no API key in {header}, and no bearer token; one of them is enough")
        }
        R::KeyUnknown { id: Some(id) } => format!("no subscription has the API key wg_{id}…"),
        R::KeyUnknown { id: None } => "the API key is not of the form wg_ID_SECRET".into(),
        R::SubscriptionExpired { subscription, ago } => {
            format!("{subscription} expired {} ago", human(*ago))
        }
        R::SubscriptionSuspended { subscription } => format!("{subscription} is suspended"),
        R::SubscriptionInvalid { subscription, problem, .. } => {
            format!("{subscription} is invalid: {problem}")
        }
        R::PlanNotAccepted { subscription, plan, accepted } => {
            let accepted: Vec<_> = accepted.iter().map(|plan| plan.path().to_string()).collect();
            format!("{subscription} is for plan {}, accepted: {}", plan.path(), accepted.join(", "))
        }
        R::MethodRefused { method, allowed } => {
            format!("method {} is none of {allowed}", quoted(method.as_str(), 32))
        }
        R::RuleMatched { matched } => format!("the rule matched: {matched}"),
        R::TokenMissing { .. }
        | R::TokenMalformed { .. }
        | R::TokenAlgorithmNotAllowed { .. }
        | R::TokenKeyUnknown { .. }
        | R::TokenSignatureInvalid { .. }
        | R::TokenExpired { .. }
        | R::TokenNotYetValid { .. }
        | R::TokenIssuerMismatch { .. }
        | R::TokenAudienceMismatch { .. }
        | R::TokenScopeMissing { .. }
        | R::TokenClaimMismatch { .. } => token(reason),
        R::CertificateMissing { .. }
        | R::CertificateUntrusted { .. }
        | R::CertificateExpired { .. }
        | R::CertificateNameMismatch { .. } => certificate(reason),
        R::PolicyRequired { .. }
        | R::PolicyInvalid { .. }
        | R::PolicyMissing { .. }
        | R::PolicyUnenforceable { .. }
        | R::RouteInvalid { .. }
        | R::CredentialStoreUnavailable { .. }
        | R::JudgementFailed => configuration(reason),
        R::MisdirectedRequest { .. }
        | R::RequestMalformed { .. }
        | R::OriginNotAllowed { .. }
        | R::BodyTooLarge { .. }
        | R::UriTooLong { .. }
        | R::HeadersTooLarge { .. }
        | R::RequestTimeout { .. }
        | R::EncodingNotSupported { .. } => request(reason),
    }
}

fn not_allowed(client: &ClientAddress, networks: usize, nearest: Option<ipnet::IpNet>) -> String {
    let nearest = nearest.map(|network| format!(", the nearest is {network}")).unwrap_or_default();
    match networks {
        1 => format!("client address {client} is not in the 1 allowed network{nearest}"),
        _ => format!(
            "client address {client} is in none of the {networks} allowed networks{nearest}"
        ),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "`observed` lists every variant and sends the others elsewhere"
)]
fn token(reason: &DenialReason) -> String {
    use DenialReason as R;
    match reason {
        R::TokenMissing { provider, or_key: false } => {
            format!("no bearer token for provider {provider} in authorization")
        }
        R::TokenMissing { provider, or_key: true } => {
            format!(
                "no bearer token for provider {provider}, and no API key in x-api-key; one of them is enough"
            )
        }
        R::TokenMalformed { problem } => format!("the token cannot be read: {problem}"),
        R::TokenAlgorithmNotAllowed { algorithm, allowed } => {
            format!("the token's algorithm {} is none of {allowed}", quoted(algorithm, 32))
        }
        R::TokenKeyUnknown { key_id, keys } => {
            format!(
                "none of the {keys} keys of the provider fits the token, which names {}",
                key_name(key_id.as_deref())
            )
        }
        R::TokenSignatureInvalid { key_id, issuer } => {
            format!("the signature was not made by {} of {issuer}", key_name(key_id.as_deref()))
        }
        R::TokenExpired { ago, skew } => {
            format!("the token expired {} ago, a skew of {} is allowed", human(*ago), human(*skew))
        }
        R::TokenNotYetValid { ahead, skew } => {
            format!(
                "the token is valid in {}, a skew of {} is allowed",
                human(*ahead),
                human(*skew)
            )
        }
        R::TokenIssuerMismatch { expected, got: Some(got) } => {
            format!("the token's issuer is {}, expected {expected}", quoted(got, 128))
        }
        R::TokenIssuerMismatch { expected, got: None } => {
            format!("the token names no issuer, expected {expected}")
        }
        R::TokenAudienceMismatch { expected, got } if got.is_empty() => {
            format!("the token names no audience, accepted: {expected}")
        }
        R::TokenAudienceMismatch { expected, got } => {
            format!("the token's audience is {}, accepted: {expected}", quoted(got, 128))
        }
        R::TokenScopeMissing { asked, had } => {
            format!("the token's scopes are {}, required: {asked}", quoted(had, 128))
        }
        R::TokenClaimMismatch { path, asked, found, .. } => {
            format!("claim {path} is {found}, required: {asked}")
        }
        _ => reason.code().meaning().trim_end_matches('.').into(),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "`observed` lists every variant and sends the others elsewhere"
)]
fn certificate(reason: &DenialReason) -> String {
    use DenialReason as R;
    match reason {
        R::CertificateMissing { encrypted: true, .. } => {
            "the client was asked for a certificate and showed none".into()
        }
        R::CertificateMissing { encrypted: false, .. } => {
            "the request came without TLS, so there is no client certificate".into()
        }
        R::CertificateUntrusted { subject, issuer, secret, problem } => {
            format!(
                "the certificate of {}, issued by {}, is not vouched for by {secret}: {problem}",
                quoted(subject, 128),
                quoted(issuer, 128)
            )
        }
        R::CertificateExpired { subject, untimely: Untimely::Expired(ago) } => {
            format!(
                "the certificate of {}, or one that vouches for it, expired {} ago",
                quoted(subject, 128),
                human(*ago)
            )
        }
        R::CertificateExpired { subject, untimely: Untimely::NotYetValid(ahead) } => {
            format!(
                "the certificate of {}, or one that vouches for it, is valid in {}",
                quoted(subject, 128),
                human(*ahead)
            )
        }
        R::CertificateNameMismatch { subject, names, wanted } if names.is_empty() => {
            format!(
                "the certificate of {} has no alternative name, wanted: {wanted}",
                quoted(subject, 128)
            )
        }
        R::CertificateNameMismatch { subject, names, wanted } => {
            format!(
                "the certificate of {} is for {}, wanted: {wanted}",
                quoted(subject, 128),
                quoted(names, 128)
            )
        }
        _ => reason.code().meaning().trim_end_matches('.').into(),
    }
}

/// Why a connection is the wrong one for a request.
fn misdirected(sni: Option<&Host>, host: &Host, cause: Misdirection) -> String {
    let opened_for = sni.map_or("no host", Host::as_str);
    match cause {
        Misdirection::Namespace => format!(
            "the connection was opened for {opened_for}, the request is for {host} of another namespace"
        ),
        Misdirection::Certificate => format!(
            "the connection was opened for {opened_for}, the request is for {host}, whose clients are asked for other certificates"
        ),
        Misdirection::NotAsked => format!(
            "the connection was opened before clients of {host} were asked for certificates"
        ),
    }
}

fn key_name(key_id: Option<&str>) -> String {
    key_id.map_or_else(|| "no key".into(), |key_id| format!("key {}", quoted(key_id, 64)))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "`observed` lists every variant and sends the others elsewhere"
)]
fn configuration(reason: &DenialReason) -> String {
    use DenialReason as R;
    match reason {
        R::PolicyRequired { by: ClosedBy::Flag } => {
            "no policy with a require rule covers the request, and --default-posture is closed"
                .into()
        }
        R::PolicyRequired { by: ClosedBy::Annotation(field) } => {
            format!(
                "no policy with a require rule covers the request, and {} closes such routes",
                field.resource
            )
        }
        R::PolicyInvalid { field, problem, .. } | R::RouteInvalid { field, problem, .. } => {
            format!("{}: {problem}", field.path)
        }
        R::PolicyMissing { policy, lack, .. } => format!("{policy} is required: {}", lack.problem),
        R::PolicyUnenforceable { field, problem, .. } => format!("{}: {problem}", field.path),
        R::CredentialStoreUnavailable { resource, problem, .. } => {
            format!("{resource} cannot be used: {problem}")
        }
        _ => reason.code().meaning().trim_end_matches('.').into(),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "`observed` lists every variant and sends the others elsewhere"
)]
fn request(reason: &DenialReason) -> String {
    use DenialReason as R;
    match reason {
        R::MisdirectedRequest { sni, host, cause } => misdirected(sni.as_ref(), host, *cause),
        R::RequestMalformed { rule } => format!("the request breaks the rule {rule}"),
        R::OriginNotAllowed { origin, .. } => {
            format!("pages of the origin {} may not call this route", quoted(origin, 128))
        }
        R::BodyTooLarge { length: Some(length), limit, .. } => {
            format!("the body has {length} bytes, the limit is {limit}")
        }
        R::BodyTooLarge { length: None, limit, .. } => {
            format!("the body has more bytes than the limit of {limit}")
        }
        R::UriTooLong { length, limit } => {
            format!("the target has {length} bytes, the limit is {limit}")
        }
        R::HeadersTooLarge { count, limit } => {
            format!("the request has {count} header fields, the limit is {limit}")
        }
        R::RequestTimeout { slow: Slow::Paused(limit) } => {
            format!("the body made no progress for {}", human(*limit))
        }
        R::RequestTimeout { slow: Slow::Trickled(rate) } => {
            format!("the body came in fewer than {rate} bytes a second")
        }
        R::EncodingNotSupported { encoding } => format!("Transfer-Encoding is {encoding}"),
        _ => reason.code().meaning().trim_end_matches('.').into(),
    }
}

/// What to do about it, concrete where the facts allow.
pub(super) fn remedy(reason: &DenialReason, field: Option<&FieldRef>) -> String {
    use DenialReason as R;
    match (reason, field) {
        (R::AddressNotAllowed { client: ClientAddress::Known(address, from), .. }, Some(field)) => {
            admit(*address, from, field)
        }
        (R::AddressDenied { .. }, Some(field)) => {
            format!("Remove or narrow {} if it should pass.", field.path)
        }
        (R::TokenScopeMissing { asked, .. }, Some(field)) => {
            format!(
                "Grant {asked} to the client at the identity provider, or change {}.",
                field.path
            )
        }
        (R::TokenClaimMismatch { path, .. }, Some(field)) => {
            format!("Let the identity provider issue {path}, or change {}.", field.path)
        }
        (R::CertificateMissing { secret, encrypted: true }, _) => {
            format!("Show a certificate that an authority of {secret} issued.")
        }
        (R::CertificateMissing { secret, encrypted: false }, _) => {
            format!("Use https, with a certificate that an authority of {secret} issued.")
        }
        (R::CertificateUntrusted { secret, .. }, _) => {
            format!("Let an authority of {secret} issue the certificate, or add its issuer there.")
        }
        (R::CertificateNameMismatch { .. }, Some(field)) => {
            format!("Let the authority issue a certificate with such a name, or change {}.", field.path)
        }
        (R::PlanNotAccepted { subscription, plan, accepted }, Some(field)) => {
            subscribe(subscription, plan, accepted, field)
        }
        (R::TokenMissing { or_key: true, .. } | R::KeyMissing { or_token: true, .. }, _) => {
            "Send the token as `Authorization: Bearer TOKEN`, or the key as `x-api-key: KEY`.".into()
        }
        (R::MethodRefused { method, .. }, Some(field)) => {
            format!("Add {} to {} to admit it.", quoted(method.as_str(), 32), field.path)
        }
        (R::SubscriptionExpired { subscription, .. }, _) => {
            format!("Set a later spec.expiresAt on {subscription}.")
        }
        (R::SubscriptionSuspended { subscription }, _) => {
            format!("Set spec.suspend: false on {subscription}.")
        }
        (
            R::SubscriptionInvalid { remedy, .. }
            | R::CredentialStoreUnavailable { remedy, .. }
            | R::PolicyUnenforceable { remedy, .. }
            | R::PolicyInvalid { remedy: Some(remedy), .. }
            | R::RouteInvalid { remedy: Some(remedy), .. },
            _,
        ) => remedy.to_string(),
        (R::PolicyMissing { lack, .. }, _) => lack.remedy.to_string(),
        (R::PolicyInvalid { field, .. } | R::RouteInvalid { field, .. }, _) => {
            format!("Correct {field}.")
        }
        (R::OriginNotAllowed { field, .. }, _) => {
            format!("Add the origin to {field} if its pages should call.")
        }
        (R::BodyTooLarge { field, .. }, _) => format!("Send a smaller body, or raise {field}."),
        (R::RequestTimeout { slow: Slow::Paused(_) }, _) => {
            "Send the body without pauses; a slow network needs a higher `--body-idle-seconds`."
                .into()
        }
        (R::RequestTimeout { slow: Slow::Trickled(_) }, _) => {
            "Send the body faster; a slow network needs a lower `--body-rate-bytes-per-second` or a higher `--body-rate-grace-seconds`."
                .into()
        }
        _ => reason.code().remedy().into(),
    }
}

/// A rule accepts plans of its policy's namespace alone, so only such a plan can be added to it.
fn subscribe(
    subscription: &ResourceRef,
    plan: &ResourceRef,
    accepted: &[ResourceRef],
    field: &FieldRef,
) -> String {
    if plan.namespace == field.resource.namespace {
        return format!("Add {} to {}.", plan.name, field.path);
    }
    match accepted.iter().find(|accepted| accepted.name == plan.name) {
        Some(meant) => {
            format!("Set spec.planRef.namespace to {} on {subscription}.", meant.namespace)
        }
        None => format!("Name an accepted plan in spec.planRef of {subscription}."),
    }
}

/// An address of the machine itself is no client's: to admit it would admit whatever runs beside
/// the gateway, a forwarded port among it.
fn admit(address: IpAddr, from: &Derivation, field: &FieldRef) -> String {
    if address.is_loopback() {
        return "Send the request from another machine; behind a proxy on this one set `--client-address` and `--trusted-proxies`."
            .into();
    }
    let length = if address.is_ipv4() { 32 } else { 128 };
    let doubt = match from {
        Derivation::Peer => {
            " If it is a node's or a balancer's, set externalTrafficPolicy: Local or trusted proxies instead."
        }
        Derivation::ProxyProtocol | Derivation::Header(_) => "",
    };
    format!("Add {address}/{length} to {} to admit it.{doubt}", field.path)
}

/// The two largest units of a duration: `1d 4h`, `35s`.
fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, unit) in units {
        if rest >= size {
            parts.push(format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    parts.truncate(2);
    if parts.is_empty() { "0s".into() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        assert_eq!(human(Duration::from_secs(0)), "0s");
        assert_eq!(human(Duration::from_secs(95)), "1m 35s");
        assert_eq!(human(Duration::from_secs(90_061)), "1d 1h");
    }
}
