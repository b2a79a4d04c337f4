//! Certificates of clients: who is asked for one, and what becomes of who shows one.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use dataplane::{Certificate, Certificates};
use decision::{
    check::{Demand, certificate::CertificateCheck},
    host::HostPattern,
    policy::Enforcement,
    protection::Posture,
    refs::{Kind, ResourceRef},
    transport::Authorities,
    uncovered::OpenBy,
};
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper::{body::Bytes, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::{
    ClientConfig, RootCertStore, SignatureScheme, SupportedProtocolVersion,
    client::ResolvesClientCert,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    secure::certificate,
    support::{HANGS, Plan, Proxy, Upstream, demand, snapshot},
};

/// Issues certificates of clients.
struct Authority {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, "partners");
        let key = KeyPair::generate().unwrap();
        let der = parameters.self_signed(&key).unwrap().der().clone();
        Self { der, issuer: Issuer::new(parameters, key) }
    }

    /// A certificate, with its own key or with one that is not.
    fn client(&self, is_stolen: bool) -> Arc<CertifiedKey> {
        let mut parameters = CertificateParams::default();
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let own = KeyPair::generate().unwrap();
        let made = parameters.signed_by(&own, &self.issuer).unwrap();
        let key = if is_stolen { KeyPair::generate().unwrap() } else { own };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
        Arc::new(CertifiedKey::new(vec![made.der().clone()], key))
    }

    fn demanded(&self) -> Posture {
        let secret = ResourceRef::new(Kind::Secret, "shop", "partner-ca");
        let authorities = Authorities::new(secret.clone(), [self.der.as_ref().into()]);
        let (authorities, names) = (Ok(Arc::new(authorities)), Box::default());
        let check = CertificateCheck { secret, authorities, names };
        demand(Demand::Certificate(check), Enforcement::Enforce)
    }
}

/// Counts how often it was asked, and shows what it has.
#[derive(Debug, Default)]
struct Wallet {
    certificate: Option<Arc<CertifiedKey>>,
    asked: AtomicUsize,
}

impl ResolvesClientCert for Wallet {
    fn resolve(&self, hints: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        assert!(hints.is_empty(), "no authority is named to strangers");
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.certificate.clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A client that trusts the one certificate of the proxy.
struct Client {
    address: SocketAddr,
    trusted: CertificateDer<'static>,
    wallet: Arc<Wallet>,
}

impl Client {
    fn showing(&self, certificate: Option<Arc<CertifiedKey>>) -> Self {
        let wallet = Arc::new(Wallet { certificate, ..Wallet::default() });
        Self { address: self.address, trusted: self.trusted.clone(), wallet }
    }

    fn was_asked(&self) -> bool {
        self.wallet.asked.load(Ordering::SeqCst) > 0
    }

    async fn connect(
        &self,
        host: &'static str,
        version: &'static SupportedProtocolVersion,
        protocol: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.trusted.clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::clone(&self.wallet) as Arc<dyn ResolvesClientCert>);
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let socket = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(host).unwrap();
        timeout(HANGS, TlsConnector::from(Arc::new(config)).connect(name, socket)).await.unwrap()
    }

    /// The answer to a request on a connection of its own; empty if there is none.
    async fn get(&self, host: &'static str, version: &'static SupportedProtocolVersion) -> String {
        let Ok(mut stream) = self.connect(host, version, "http/1.1").await else {
            return String::new();
        };
        ask(&mut stream, host, "connection: close\r\n").await;
        let mut answer = Vec::new();
        // With TLS 1.3 a client learns of a handshake that failed only when it reads.
        let _ = timeout(HANGS, stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8(answer).unwrap()
    }
}

async fn ask(stream: &mut TlsStream<TcpStream>, host: &str, headers: &str) {
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n");
    let _ = stream.write_all(request.as_bytes()).await;
}

async fn answer(stream: &mut TlsStream<TcpStream>) -> String {
    let mut answer = String::new();
    while !answer.contains("\r\n\r\n") {
        let mut bytes = [0; 4096];
        let read = timeout(HANGS, stream.read(&mut bytes)).await.unwrap().unwrap();
        assert!(read > 0, "closed after {answer}");
        answer.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    answer
}

/// `www.shop.test` is open, and `partners.shop.test` is as `posture` says; one certificate serves both.
fn start(upstream: &Upstream, posture: Posture) -> (Proxy, Client) {
    let (key, trusted) = certificate("*.shop.test");
    let [shop, partners] = ["www.shop.test", "partners.shop.test"].map(|host| {
        let certificate = Certificate { key: Arc::clone(&key), until: None };
        (HostPattern::parse(host).unwrap(), certificate)
    });
    let mut plan = Plan::new(&[upstream.address]);
    plan.certificates = Certificates::new([shop, partners], None);
    plan.routes.push(("www.shop.test", Posture::Open(OpenBy::Flag)));
    plan.routes.push(("partners.shop.test", posture));
    let proxy = plan.start();
    let client = Client { address: proxy.https(), trusted, wallet: Arc::default() };
    (proxy, client)
}

#[tokio::test]
async fn only_clients_of_hosts_with_such_a_rule_are_asked_for_a_certificate() {
    let (upstream, authority) = (Upstream::echo().await, Authority::new());
    let (_proxy, client) = start(&upstream, authority.demanded());
    for version in [&TLS12, &TLS13] {
        let shopper = client.showing(Some(authority.client(false)));
        let answer = shopper.get("www.shop.test", version).await;
        assert!(answer.starts_with("HTTP/1.1 200") && !shopper.was_asked(), "{answer}");
        let partner = client.showing(Some(authority.client(false)));
        let answer = partner.get("partners.shop.test", version).await;
        assert!(answer.starts_with("HTTP/1.1 200") && partner.was_asked(), "{answer}");
    }
}

#[tokio::test]
async fn the_handshake_of_who_cannot_pass_succeeds_so_that_the_refusal_can_say_why() {
    let (upstream, authority) = (Upstream::echo().await, Authority::new());
    let (proxy, client) = start(&upstream, authority.demanded());
    for version in [&TLS12, &TLS13] {
        for (certificate, code) in [
            (None, "CertificateMissing"),
            (Some(Authority::new().client(false)), "CertificateUntrusted"),
        ] {
            let client = client.showing(certificate);
            let answer = client.get("partners.shop.test", version).await;
            let header = format!("whygate-denial-code: {code}\r\n");
            assert!(answer.starts_with("HTTP/1.1 403") && answer.contains(&header), "{answer}");
        }
    }
    assert_eq!((upstream.requests(), proxy.metric("whygate_permits_total")), (0, 0));
}

#[tokio::test]
async fn a_certificate_without_its_key_ends_the_handshake() {
    let (upstream, authority) = (Upstream::echo().await, Authority::new());
    let (proxy, client) = start(&upstream, authority.demanded());
    for (version, rejected) in [(&TLS12, 1), (&TLS13, 2)] {
        let thief = client.showing(Some(authority.client(true)));
        assert_eq!(thief.get("partners.shop.test", version).await, "");
        assert!(thief.was_asked());
        proxy.metric_becomes("whygate_hyper_rejected_total{reason=\"tls\"}", rejected).await;
    }
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn more_than_16_kib_of_certificates_end_the_handshake() {
    const LARGEST: usize = 16 * 1024;
    let (upstream, authority) = (Upstream::echo().await, Authority::new());
    let (proxy, client) = start(&upstream, authority.demanded());
    let own = authority.client(false);
    let together = |bytes: usize| {
        let other = CertificateDer::from(vec![0; bytes - own.cert[0].len()]);
        let all = vec![own.cert[0].clone(), other];
        client.showing(Some(Arc::new(CertifiedKey::new(all, Arc::clone(&own.key)))))
    };
    for (version, rejected) in [(&TLS12, 1), (&TLS13, 2)] {
        let answer = together(LARGEST).get("partners.shop.test", version).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let heavy = together(LARGEST + 1);
        assert_eq!(heavy.get("partners.shop.test", version).await, "");
        assert!(heavy.was_asked());
        proxy.metric_becomes("whygate_hyper_rejected_total{reason=\"tls\"}", rejected).await;
    }
    assert_eq!(upstream.requests(), 2);
}

#[tokio::test]
async fn a_connection_from_before_the_rule_is_closed_and_the_next_one_is_asked() {
    let (upstream, authority) = (Upstream::echo().await, Authority::new());
    let (proxy, client) = start(&upstream, Posture::Open(OpenBy::Flag));
    let client = client.showing(Some(authority.client(false)));
    let mut stream = client.connect("partners.shop.test", &TLS13, "http/1.1").await.unwrap();
    ask(&mut stream, "partners.shop.test", "").await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    assert!(!client.was_asked());
    let rules = snapshot(2, vec![("partners.shop.test", authority.demanded())]);
    proxy.snapshot.send_replace(Arc::new(rules));
    ask(&mut stream, "partners.shop.test", "").await;
    let refused = answer(&mut stream).await;
    assert!(refused.starts_with("HTTP/1.1 421"), "{refused}");
    assert!(refused.contains("connection: close\r\n"), "{refused}");
    let admitted = client.get("partners.shop.test", &TLS13).await;
    assert!(admitted.starts_with("HTTP/1.1 200") && client.was_asked(), "{admitted}");
}

#[tokio::test]
async fn a_connection_that_browsers_share_between_hosts_does_not_carry_a_certificate_over() {
    let (upstream, authority) = (Upstream::echo().await, Authority::new());
    let (_proxy, client) = start(&upstream, authority.demanded());
    let client = client.showing(Some(authority.client(false)));
    for (opened_for, other) in
        [("www.shop.test", "partners.shop.test"), ("partners.shop.test", "www.shop.test")]
    {
        let stream = client.connect(opened_for, &TLS13, "h2").await.unwrap();
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        for (host, status) in [
            (opened_for, StatusCode::OK),
            (other, StatusCode::MISDIRECTED_REQUEST),
            (opened_for, StatusCode::OK),
        ] {
            let request = Request::get(format!("https://{host}/"));
            let request = request.body(Full::new(Bytes::new())).unwrap();
            let response = timeout(HANGS, sender.send_request(request)).await.unwrap().unwrap();
            assert_eq!(response.status(), status, "{host} on the connection of {opened_for}");
        }
    }
}
