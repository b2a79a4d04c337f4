//! Rules on client certificates: their authorities from Secrets, and the names that they ask for.

use decision::host::Host;

use crate::world::{World, api, check_findings, policy};

/// A certificate in PEM, of an authority or not.
fn certificate(is_authority: bool) -> String {
    let mut wanted = rcgen::CertificateParams::default();
    if is_authority {
        wanted.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    }
    let key = rcgen::KeyPair::generate().expect("a key");
    wanted.self_signed(&key).expect("a certificate").pem()
}

/// The policy, and its Secret with some metadata and one key of data.
fn text(names: &str, metadata: &str, key: &str, content: &str) -> String {
    let check = format!("clientCertificate: {{ caSecretRef: {{ name: ca }}{names} }}");
    let content = serde_json::json!(content);
    api()
        + &policy("partners", &format!("  require: [{{ name: partner, {check} }}]"))
        + &format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{ name: ca, namespace: shop{metadata} }}\nstringData: {{ {key}: {content} }}\n"
        )
}

const LABEL: &str = ", labels: { whygate.dev/use: ca }";
const REQUEST: &str = "GET http://api.example.com/";

/// How many authorities the handshakes of the host ask for.
fn asked(world: &World) -> usize {
    let host = Host::parse("api.example.com").expect("a host");
    world.compiled.snapshot.routes.certificate_authorities(Some(&host)).len()
}

#[test]
fn a_secret_with_authorities_resolves_and_its_host_asks() {
    let text = text("", LABEL, "ca.crt", &(certificate(true) + &certificate(true)));
    check_findings(&text, &[]);
    let world = World::of(&text);
    assert_eq!((world.ask(REQUEST), asked(&world)), ("CertificateMissing".to_owned(), 1));
}

#[test]
fn a_secret_that_cannot_vouch_is_told_and_admits_nobody() {
    let good = certificate(true);
    for (metadata, key, content, message) in [
        ("", "ca.crt", &*good, "it does not exist, or it has no label `whygate.dev/use`"),
        (LABEL, "tls.crt", &good, "it has no key `ca.crt`"),
        (LABEL, "ca.crt", "", "`ca.crt` holds no certificate"),
        (LABEL, "ca.crt", &certificate(false), "certificate 1 of `ca.crt` is not one of an"),
        (LABEL, "ca.crt", &good.replace("-----END", ""), "certificate 1 of `ca.crt` cannot be"),
    ] {
        let text = text("", metadata, key, content);
        let place = "AccessPolicy shop/partners at spec.require[0].clientCertificate.caSecretRef";
        check_findings(&text, &[&format!("{place}: Secret shop/ca: {message}")]);
        let world = World::of(&text);
        assert_eq!((world.ask(REQUEST), asked(&world)), ("CertificateMissing".to_owned(), 1));
    }
}

#[test]
fn a_name_that_cannot_be_asked_for_closes_the_routes() {
    for (names, entry, message) in [
        ("uris: ['spiffe://acme/*', 'acme/*']", "uris[1]", "it has no scheme"),
        ("uris: ['spiffe://*/web']", "uris[0]", "`*` stands for one whole element of the path"),
        ("dnsNames: ['a.*.test']", "dnsNames[0]", "`*` stands for the whole first label"),
        ("emails: ['a*@b.test']", "emails[0]", "`*` stands for all that is before the `@`"),
    ] {
        let names = format!(", subjectAltNames: {{ {names} }}");
        let text = text(&names, LABEL, "ca.crt", &certificate(true));
        let found = World::of(&text).findings();
        let place = format!("spec.require[0].clientCertificate.subjectAltNames.{entry}: `");
        let fits = found.len() == 1
            && found.iter().all(|found| found.contains(&place) && found.ends_with(message));
        assert!(fits, "{found:?}");
        assert_eq!(World::of(&text).ask(REQUEST), "PolicyInvalid");
    }
}
