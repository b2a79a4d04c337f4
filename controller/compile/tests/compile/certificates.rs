//! Certificates, and hosts that are served over TLS.

use std::fmt::Write;

use compile::{
    Settings,
    finding::{Effect, Reason},
};

use crate::world::{SERVICES, World, aged, check, rule, settings};

/// A Secret with a certificate, in which a part may be replaced.
fn secret(name: &str, certificate: &str, key: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("a namespace");
    let mut text = format!(
        "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {{ name: {name}, namespace: {namespace} }}\nstringData:\n"
    );
    for (name, pem) in [("tls.crt", certificate), ("tls.key", key)] {
        let _ = writeln!(text, "  {name}: |\n    {}", pem.trim().replace('\n', "\n    "));
    }
    text + "---\n"
}

fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["a.example.com".to_owned()]).expect("a key");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// When the certificate of [`expiring`] does.
const EXPIRY: &str = "2031-02-03T00:00:00Z";

fn expiring() -> (String, String) {
    expiring_on(2031, 2, 3)
}

fn expiring_on(year: i32, month: u8, day: u8) -> (String, String) {
    let mut wanted = rcgen::CertificateParams::new(["a.example.com".to_owned()]).expect("a name");
    wanted.not_after = rcgen::date_time_ymd(year, month, day);
    let key = rcgen::KeyPair::generate().expect("a key");
    let made = wanted.self_signed(&key).expect("a certificate");
    (made.pem(), key.serialize_pem())
}

fn with_tls(name: &str, created: u8, annotations: &str, host: &str, secret: &str) -> String {
    let ingress = aged(name, created, annotations, &[rule(host, "/")]);
    ingress.replace(
        "rules: [",
        &format!("tls: [{{ hosts: ['{host}'], secretName: {secret} }}], rules: ["),
    )
}

fn hosts(world: &World) -> (Vec<String>, Vec<String>) {
    let certificates = &world.compiled.certificates;
    let served = certificates.hosts.iter().map(|(host, _)| host.to_string());
    let refused = certificates.refused.iter().map(ToString::to_string);
    (served.collect(), refused.collect())
}

#[test]
fn a_host_with_a_certificate_is_served_and_redirects_plain_requests() {
    let (certificate, key) = pair();
    let text = SERVICES.to_owned()
        + &secret("shop/a", &certificate, &key)
        + &with_tls("shop/a", 1, "", "a.example.com", "a");
    let world = World::of(&text);
    assert_eq!(hosts(&world), (vec!["a.example.com".to_owned()], vec![]), "{:?}", world.findings());
    check(&text, &[("GET http://a.example.com/", "308"), ("GET a.example.com/", "shop/web:80")]);
    let plain =
        text.replace("annotations: {  }", "annotations: { whygate.dev/ssl-redirect: 'false' }");
    check(&plain, &[("GET http://a.example.com/", "shop/web:80")]);
}

#[test]
fn a_host_with_tls_redirects_though_its_rule_names_a_wildcard_or_no_host() {
    for (host, other) in [("", "b.example.org"), ("*.example.com", "b.example.com")] {
        let text = with_tls("shop/a", 1, "", "a.example.com", "a")
            .replace("host: 'a.example.com'", &format!("host: '{host}'"));
        let other = format!("GET http://{other}/");
        check(
            &(SERVICES.to_owned() + &text),
            &[
                ("GET http://a.example.com/", "308"),
                ("GET a.example.com/", "shop/web:80"),
                (&other, "shop/web:80"),
            ],
        );
    }
}

#[test]
fn a_certificate_that_cannot_be_used_fails_the_handshake_and_opens_nothing_plain() {
    let ((certificate, key), (_, other)) = (pair(), pair());
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
    for (secret, message) in [
        (String::new(), "it does not exist"),
        (self::secret("shop/a", "no", &key), "`tls.crt` holds no certificate"),
        (self::secret("shop/a", broken, &key), "the certificate in `tls.crt` is not readable"),
        (self::secret("shop/a", &certificate, "no"), "`tls.key` is not readable"),
        (self::secret("shop/a", &certificate, &other), "the key in `tls.key` is not that of"),
        (
            self::secret("shop/a", &certificate, &key).replace("kubernetes.io/tls", "Opaque"),
            "it is not of type kubernetes.io/tls",
        ),
    ] {
        let text = format!("{SERVICES}{secret}{}", with_tls("shop/a", 1, "", "a.example.com", "a"));
        let world = World::of(&text);
        assert_eq!(hosts(&world), (vec![], vec!["a.example.com".to_owned()]));
        let expected =
            format!("Ingress shop/a at spec.tls[0].secretName: Secret shop/a: {message}");
        assert!(world.findings()[0].starts_with(&expected), "{:?}\n{expected}", world.findings());
        assert_eq!(world.ask("GET http://a.example.com/"), "308");
    }
}

#[test]
fn only_certificates_that_handshakes_get_are_told_to_expire() {
    let ((early, early_key), (late, late_key)) = (expiring(), expiring_on(2032, 1, 1));
    let text = SERVICES.to_owned()
        + &secret("shop/a", &early, &early_key)
        + &secret("shop/second", &late, &late_key)
        + &secret("shop/idle", &late, &late_key)
        + &secret("edge/default", &late, &late_key)
        + &with_tls("shop/a", 1, "", "a.example.com", "a")
        + &with_tls("shop/b", 2, "", "a.example.com", "second")
        + &with_tls("shop/c", 3, "", "c.example.com", "a");
    let default = Some(("edge".to_owned(), "default".to_owned()));
    let settings = Settings { default_tls_secret: default, ..settings() };
    let world = World::with(&text, &settings);
    let expiries = world.compiled.certificates.expiries().into_iter();
    let told: Vec<_> = expiries.map(|(secret, time)| format!("{secret} {time}")).collect();
    let expected = ["Secret edge/default 2032-01-01T00:00:00Z", &format!("Secret shop/a {EXPIRY}")];
    assert_eq!(told, expected, "{:?}", world.findings());
    // What is served though its Secret is gone expires all the same.
    let before = World::of(&text);
    let mut bereft =
        World::of(&text.replace("name: a, namespace: shop }", "name: z, namespace: shop }"));
    bereft.compile_after(&before.compiled.next);
    let kept = bereft.compiled.certificates.expiries();
    assert_eq!(kept, before.compiled.certificates.expiries(), "{:?}", bereft.findings());
}

#[test]
fn a_certificate_in_use_outlives_its_secret_until_it_expires() {
    let (certificate, key) = expiring();
    let ingress = SERVICES.to_owned() + &with_tls("shop/a", 1, "", "a.example.com", "a");
    let good = World::of(&(ingress.clone() + &secret("shop/a", &certificate, &key)));
    assert!(good.compiled.certificates.hosts[0].1.until.is_none());
    for (bad, message) in [
        (String::new(), "it does not exist, or is not of type kubernetes.io/tls"),
        (secret("shop/a", "no", &key), "`tls.crt` holds no certificate"),
        (secret("shop/a", &certificate, &pair().1), "the key in `tls.key` is not that of"),
    ] {
        let mut world = World::of(&(ingress.clone() + &bad));
        world.compile_after(&good.compiled.next);
        assert_eq!(hosts(&world), (vec!["a.example.com".to_owned()], vec![]));
        let kept = &world.compiled.certificates.hosts[0].1;
        assert_eq!(kept.until.map(|until| until.to_string()).as_deref(), Some(EXPIRY));
        let finding = &world.compiled.findings[0];
        assert!(finding.message.contains(message), "{finding}");
        let told = format!("its last good certificate is served until {EXPIRY} or a restart");
        assert!(finding.message.ends_with(&told), "{finding}");
        assert_eq!((finding.reason, finding.effect), (Reason::CertificateInvalid, Effect::Rejects));
        assert_eq!(world.ask("GET http://a.example.com/"), "308");
        // However often something else changes.
        world.compile_after(&world.compiled.next.clone());
        assert_eq!(hosts(&world), (vec!["a.example.com".to_owned()], vec![]));
    }
}

#[test]
fn a_certificate_without_an_end_is_served() {
    let (certificate, key) = expiring_on(9999, 12, 31);
    let text = SERVICES.to_owned()
        + &with_tls("shop/a", 1, "", "a.example.com", "a")
        + &secret("shop/a", &certificate, &key);
    assert_eq!(hosts(&World::of(&text)), (vec!["a.example.com".to_owned()], vec![]));
}

#[test]
fn a_certificate_is_forgotten_with_the_last_entry_that_names_its_secret() {
    let (certificate, key) = expiring();
    let named = SERVICES.to_owned() + &with_tls("shop/a", 1, "", "a.example.com", "a");
    let other = SERVICES.to_owned() + &with_tls("shop/a", 1, "", "a.example.com", "b");
    let good = World::of(&(named.clone() + &secret("shop/a", &certificate, &key)));
    let mut world = World::of(&other);
    world.compile_after(&good.compiled.next);
    assert_eq!(hosts(&world), (vec![], vec!["a.example.com".to_owned()]), "another Secret");
    let next = world.compiled.next.clone();
    let mut world = World::of(&named);
    world.compile_after(&next);
    assert_eq!(hosts(&world), (vec![], vec!["a.example.com".to_owned()]), "nothing is left");
}

#[test]
fn another_namespace_gets_no_certificate_for_an_owned_host() {
    let (certificate, key) = pair();
    let text = SERVICES.to_owned()
        + &secret("other/b", &certificate, &key)
        + &with_tls("other/b", 2, "", "a.example.com", "b")
        + &aged("shop/a", 1, "", &[rule("a.example.com", "/")]);
    let world = World::of(&text);
    assert_eq!(hosts(&world), (vec![], vec![]), "{:?}", world.findings());
    assert_eq!(world.ask("GET http://a.example.com/"), "shop/web:80");
}

#[test]
fn the_wildcard_of_another_namespace_has_no_certificate_for_an_owned_host() {
    let (certificate, key) = pair();
    let text = SERVICES.to_owned()
        + &secret("other/b", &certificate, &key)
        + &with_tls("other/b", 2, "", "*.example.com", "b")
        + &aged("shop/a", 1, "", &[rule("a.example.com", "/")]);
    let world = World::of(&text);
    let expected = (vec!["*.example.com".to_owned()], vec!["a.example.com".to_owned()]);
    assert_eq!(hosts(&world), expected, "{:?}", world.findings());
    assert_eq!(world.ask("GET http://a.example.com/"), "shop/web:80");
}

#[test]
fn an_entry_without_a_secret_gets_no_certificate_of_another_namespace() {
    let (certificate, key) = pair();
    let text = SERVICES.to_owned()
        + &secret("other/b", &certificate, &key)
        + &with_tls("other/b", 2, "", "*.example.com", "b")
        + &with_tls("shop/a", 1, "", "a.example.com", "").replace(", secretName: ", "");
    let refused = (vec!["*.example.com".to_owned()], vec!["a.example.com".to_owned()]);
    assert_eq!(hosts(&World::of(&text)), refused);
    let default_tls_secret = Some(("shop".to_owned(), "default".to_owned()));
    let settings = Settings { default_tls_secret, ..settings() };
    let (certificate, key) = pair();
    let world = World::with(&(text + &secret("shop/default", &certificate, &key)), &settings);
    let certificates = &world.compiled.certificates;
    let of = |host: &str| {
        let found = certificates.hosts.iter().find(|(pattern, _)| pattern.to_string() == host);
        found.map(|(_, certificate)| certificate.key.cert.clone())
    };
    let default = certificates.default.as_ref().expect("a certificate").key.cert.clone();
    assert_eq!(of("a.example.com"), Some(default.clone()));
    assert_ne!(of("*.example.com"), Some(default));
}

#[test]
fn the_default_certificate_comes_from_the_settings() {
    let (certificate, key) = pair();
    let settings =
        Settings { default_tls_secret: Some(("shop".to_owned(), "a".to_owned())), ..settings() };
    let world = World::with(&secret("shop/a", &certificate, &key), &settings);
    assert!(world.compiled.certificates.default.is_some(), "{:?}", world.findings());
    let world = World::with("", &settings);
    assert!(world.findings()[0].starts_with("Secret shop/a at data: "), "{:?}", world.findings());
}
