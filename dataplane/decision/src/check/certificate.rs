//! `clientCertificate`: an authority vouches for the certificate of the client, and it has a name
//! that is asked for.

use std::{fmt, sync::Arc};

use super::{Evidence, Facts, Outcome, unavailable};
use crate::{
    canonical::Scheme,
    certificate::{ClientCertificate, Doubt, Name, Shown},
    denial::DenialReason,
    lack::Lack,
    refs::ResourceRef,
    transport::Authorities,
};

/// `clientCertificate` of a rule.
#[derive(Debug)]
pub struct CertificateCheck {
    /// The Secret of `caSecretRef`.
    pub secret: ResourceRef,
    /// Who may vouch for certificates, or what keeps the Secret from saying so.
    pub authorities: Result<Arc<Authorities>, Lack>,
    /// The names of `subjectAltNames`, of which one is enough. Empty: any certificate will do.
    pub names: Box<[NamePattern]>,
}

/// An entry of `subjectAltNames`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// A URI, compared character by character; `*` stands for one element of its path.
    Uri(Box<str>),
    /// A host, whatever its case; `*` stands for its first label.
    Dns(Box<str>),
    /// An address of electronic mail; `*` stands for all that is before the `@`. The part behind it is
    /// compared whatever its case.
    Email(Box<str>),
}

impl NamePattern {
    /// Reads an entry of `uris`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn uri(text: &str) -> Result<Self, &'static str> {
        let Some((scheme, _)) = text.split_once(':') else { return Err("it has no scheme") };
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if scheme.is_empty() || !scheme.bytes().all(is_scheme) {
            return Err("it has no scheme");
        }
        check(text)?;
        // `spiffe:`, nothing, and the trust domain come before the path.
        let has_authority = text.contains("://");
        let elements = text.split('/').enumerate().filter(|(_, element)| element.contains('*'));
        let mut stars = elements.map(|(at, element)| has_authority && at > 2 && element == "*");
        if stars.all(|whole| whole) {
            Ok(Self::Uri(text.into()))
        } else {
            Err("`*` stands for one whole element of the path")
        }
    }

    /// Reads an entry of `dnsNames`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn dns(text: &str) -> Result<Self, &'static str> {
        check(text)?;
        let rest = text.strip_prefix("*.").unwrap_or(text);
        if rest.contains('*') {
            return Err("`*` stands for the whole first label");
        }
        if rest.contains(['/', ':', '@']) || rest.split('.').any(str::is_empty) {
            return Err("it is not a host");
        }
        Ok(Self::Dns(text.into()))
    }

    /// Reads an entry of `emails`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn email(text: &str) -> Result<Self, &'static str> {
        check(text)?;
        let Some((before, behind)) = text.rsplit_once('@') else { return Err("it has no `@`") };
        if before.is_empty() || behind.is_empty() {
            return Err("something is missing before or behind the `@`");
        }
        if behind.contains('*') || (before.contains('*') && before != "*") {
            return Err("`*` stands for all that is before the `@`");
        }
        Ok(Self::Email(text.into()))
    }

    /// Whether a name of a certificate is meant. A `*` in the name itself means nothing.
    pub fn matches(&self, name: &Name) -> bool {
        match (self, name) {
            (Self::Uri(pattern), Name::Uri(name)) => is_uri(pattern, name),
            (Self::Dns(pattern), Name::Dns(name)) => is_host(pattern, name),
            (Self::Email(pattern), Name::Email(name)) => is_email(pattern, name),
            (Self::Uri(_) | Self::Dns(_) | Self::Email(_), _) => false,
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Uri(text) | Self::Dns(text) | Self::Email(text)) = self;
        f.write_str(text)
    }
}

fn check(text: &str) -> Result<(), &'static str> {
    let fine = !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21..=0x7e));
    if fine { Ok(()) } else { Err("it has a character that no such name has") }
}

fn is_uri(pattern: &str, name: &str) -> bool {
    let stands_for =
        |element: &str| !matches!(element, "" | "." | "..") && !element.contains(['*', '?', '#']);
    let (mut asked, mut had) = (pattern.split('/'), name.split('/'));
    loop {
        match (asked.next(), had.next()) {
            (None, None) => return true,
            (Some("*"), Some(element)) if stands_for(element) => {}
            (Some(one), Some(other)) if one == other && one != "*" => {}
            _ => return false,
        }
    }
}

fn is_host(pattern: &str, name: &str) -> bool {
    if name.contains('*') {
        return false;
    }
    match pattern.strip_prefix("*.") {
        None => pattern.eq_ignore_ascii_case(name),
        Some(parent) => name
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent)),
    }
}

fn is_email(pattern: &str, name: &str) -> bool {
    let (Some(asked), Some(had)) = (pattern.rsplit_once('@'), name.rsplit_once('@')) else {
        return false;
    };
    let before = if asked.0 == "*" { !had.0.is_empty() } else { asked.0 == had.0 };
    before && asked.1.eq_ignore_ascii_case(had.1)
}

impl CertificateCheck {
    /// Who sent nothing to look at is refused as such, whatever the Secret lacks.
    pub(super) fn judge(&self, facts: Facts<'_>) -> Outcome {
        let connection = &facts.request.line().connection;
        let Shown::Certificate(certificate) = &connection.certificate else {
            let encrypted = connection.scheme == Scheme::Https;
            let secret = self.secret.clone();
            return unmet(DenialReason::CertificateMissing { secret, encrypted });
        };
        let authorities = match &self.authorities {
            Ok(authorities) => authorities,
            Err(lack) => return Outcome::Unknown(Box::new(unavailable(&self.secret, lack))),
        };
        match certificate.verify(authorities, facts.now) {
            Err(doubt) => unmet(self.doubted(certificate, doubt)),
            Ok(()) if self.is_meant(certificate) => Outcome::Met(Evidence::Certificate),
            Ok(()) => unmet(self.another(certificate)),
        }
    }

    fn is_meant(&self, certificate: &ClientCertificate) -> bool {
        let names = certificate.identity().map_or(&[][..], |identity| &identity.names);
        self.names.is_empty()
            || names.iter().any(|name| self.names.iter().any(|pattern| pattern.matches(name)))
    }

    fn doubted(&self, certificate: &ClientCertificate, doubt: Doubt) -> DenialReason {
        let identity = certificate.identity();
        let subject = identity.map(|identity| identity.subject.clone()).unwrap_or_default();
        match doubt {
            Doubt::Untimely(untimely) => DenialReason::CertificateExpired { subject, untimely },
            Doubt::Untrusted(problem) => {
                let issuer = identity.map(|identity| identity.issuer.clone()).unwrap_or_default();
                let secret = self.secret.clone();
                DenialReason::CertificateUntrusted { subject, issuer, secret, problem }
            }
        }
    }

    fn another(&self, certificate: &ClientCertificate) -> DenialReason {
        let identity = certificate.identity();
        let names = identity.map_or(&[][..], |identity| &identity.names);
        let names = names.iter().map(Name::as_str).take(8).collect::<Vec<_>>().join(", ");
        let wanted = self.names.iter().map(ToString::to_string).take(8).collect::<Vec<_>>();
        DenialReason::CertificateNameMismatch {
            subject: identity.map(|identity| identity.subject.clone()).unwrap_or_default(),
            names: names.chars().take(256).collect::<String>().into(),
            wanted: wanted.join(", ").into(),
        }
    }
}

fn unmet(reason: DenialReason) -> Outcome {
    Outcome::Unmet(Box::new(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_in_a_uri_stands_for_one_element_of_its_path() {
        let pattern = NamePattern::uri("spiffe://acme/ns/*/sa/web").unwrap();
        let matches = |name: &str| pattern.matches(&Name::Uri(name.into()));
        assert!(matches("spiffe://acme/ns/shop/sa/web"));
        for other in [
            "spiffe://acme/ns//sa/web",
            "spiffe://acme/ns/a/b/sa/web",
            "spiffe://acme/ns/../sa/web",
            "spiffe://acme/ns/*/sa/web",
            "spiffe://acme/ns/a?/sa/web",
            "spiffe://acme/ns/shop/sa/web/",
            "spiffe://acme/ns/shop/sa/Web",
            "spiffe://acme.evil/ns/shop/sa/web",
        ] {
            assert!(!matches(other), "{other}");
        }
        assert!(!pattern.matches(&Name::Dns("spiffe://acme/ns/shop/sa/web".into())));
    }

    #[test]
    fn a_star_in_a_host_stands_for_its_first_label_and_in_an_address_for_the_mailbox() {
        let host = NamePattern::dns("*.example.com").unwrap();
        for (name, expected) in [
            ("a.Example.com", true),
            ("a.b.example.com", false),
            ("example.com", false),
            (".example.com", false),
            ("*.example.com", false),
        ] {
            assert_eq!(host.matches(&Name::Dns(name.into())), expected, "{name}");
        }
        let email = NamePattern::email("*@example.com").unwrap();
        for (name, expected) in [
            ("ann@EXAMPLE.com", true),
            ("@example.com", false),
            ("ann@example.com@evil.com", false),
            ("ann@a.example.com", false),
        ] {
            assert_eq!(email.matches(&Name::Email(name.into())), expected, "{name}");
        }
        let exact = NamePattern::email("Ann@example.com").unwrap();
        assert!(!exact.matches(&Name::Email("ann@example.com".into())));
    }

    #[test]
    fn a_pattern_that_means_more_than_it_seems_is_none() {
        for text in ["", "acme/*", "spiffe://*/web", "spiffe://acme/web-*", "urn:*", "spiffe://a b"]
        {
            assert!(NamePattern::uri(text).is_err(), "{text}");
        }
        for text in ["", "*", "a.*.com", "*.*.com", "a*.com", "a..com", "https://a.com"] {
            assert!(NamePattern::dns(text).is_err(), "{text}");
        }
        for text in ["", "a", "@a.com", "a@", "a*@b.com", "*@*.com"] {
            assert!(NamePattern::email(text).is_err(), "{text}");
        }
    }
}
