//! TLS towards clients: which certificate for which host, replaced while connections run.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use decision::{
    escape::quoted,
    host::{Host, HostPattern},
};
use rustls::{
    CipherSuite, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use tokio::{
    sync::watch,
    time::{Instant, interval},
};

use crate::possession::Possession;

/// At most one line of the log in so long tells of handshakes without a certificate.
const TOLD_EVERY: Duration = Duration::from_mins(1);
/// Longest part of a client's host name in the log, in bytes.
const NAME_LIMIT: usize = 64;

/// What a handshake agrees on if the client can do it, whatever else it likes better.
const CHEAP: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];

/// A certificate with its key, and how long handshakes get it.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The chain and its key.
    pub key: Arc<CertifiedKey>,
    /// Handshakes fail from then on. `None`: no such moment, the client judges the certificate.
    pub until: Option<SystemTime>,
}

impl From<Arc<CertifiedKey>> for Certificate {
    fn from(key: Arc<CertifiedKey>) -> Self {
        Self { key, until: None }
    }
}

/// The certificates of all hosts.
#[derive(Clone, Default)]
pub struct Certificates {
    exact: HashMap<Host, Option<Certificate>>,
    wildcard: HashMap<Host, Option<Certificate>>,
    default: Option<Certificate>,
}

impl Certificates {
    /// A table of certificates. An exact host goes before a wildcard one label above it; `default`
    /// serves handshakes without a host name and those for hosts that the table does not know. Of
    /// two entries for one host the first wins. An entry for any host is a default behind `default`.
    pub fn new(
        hosts: impl IntoIterator<Item = (HostPattern, Certificate)>,
        default: Option<Certificate>,
    ) -> Self {
        let mut table = Self { default, ..Self::default() };
        for (pattern, certificate) in hosts {
            table.insert(pattern, Some(certificate));
        }
        table
    }

    /// Lets the handshakes of these hosts fail, unless the table has a certificate for them: their
    /// own is missing, and the default one would not be theirs.
    #[must_use]
    pub fn without(mut self, hosts: impl IntoIterator<Item = HostPattern>) -> Self {
        for pattern in hosts {
            self.insert(pattern, None);
        }
        self
    }

    fn insert(&mut self, pattern: HostPattern, certificate: Option<Certificate>) {
        let (table, host) = match pattern {
            HostPattern::Exact(host) => (&mut self.exact, host),
            HostPattern::Wildcard(suffix) => (&mut self.wildcard, suffix),
            HostPattern::Any => {
                self.default = self.default.take().or(certificate);
                return;
            }
        };
        table.entry(host).or_insert(certificate);
    }

    /// The certificate for a handshake at `now`, or why it fails.
    fn find(
        &self,
        host: Option<&Host>,
        now: impl FnOnce() -> SystemTime,
    ) -> Result<&Arc<CertifiedKey>, Missing> {
        let own = host.and_then(|host| {
            let wildcard = || host.parent().and_then(|parent| self.wildcard.get(parent));
            self.exact.get(host).or_else(wildcard)
        });
        let missing = if host.is_some() { Missing::OfName } else { Missing::Name };
        let certificate = own.unwrap_or(&self.default).as_ref();
        let Certificate { key, until } = certificate.ok_or(missing)?;
        until.is_none_or(|until| now() < until).then_some(key).ok_or(Missing::Expired)
    }
}

/// Why a handshake gets no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// No certificate has the name, and there is no default one.
    OfName,
    /// The client names no host, and there is no default certificate.
    Name,
    /// What the client names is no host.
    Host,
    /// The certificate is served no longer.
    Expired,
}

impl Missing {
    fn as_str(self) -> &'static str {
        match self {
            Self::OfName => "no certificate has this name; list the host in spec.tls of an Ingress",
            Self::Name => "the client names no host, and there is no default certificate",
            Self::Host => "what the client names is no host",
            Self::Expired => "the certificate of this name has expired; renew its Secret",
        }
    }
}

/// Handshakes that failed for want of a certificate, and what the log was told of them.
#[derive(Debug, Default)]
struct Failed {
    /// How many the log does not know of yet.
    count: u64,
    /// The first of those: why, and the name that the client gave.
    example: Option<(Missing, String)>,
    told: Option<Instant>,
}

impl Failed {
    fn add(&mut self, missing: Missing, name: Option<&str>) {
        self.count += 1;
        // What a stranger sent is cut and escaped; of all names but one nothing is kept.
        self.example.get_or_insert_with(|| {
            (missing, name.map(|name| quoted(name, NAME_LIMIT).to_string()).unwrap_or_default())
        });
    }

    /// How many there were, with an example, if it is time to tell.
    fn due(&mut self, now: Instant) -> Option<(u64, Missing, String)> {
        let early = self.told.is_some_and(|told| now.duration_since(told) < TOLD_EVERY);
        if early {
            return None;
        }
        let (missing, name) = self.example.take()?;
        self.told = Some(now);
        Some((std::mem::take(&mut self.count), missing, name))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("exact", &self.exact.keys())
            .field("wildcard", &self.wildcard.keys())
            .field("default", &self.default.is_some())
            .finish()
    }
}

/// Looks certificates up in the newest table; shared by all threads, used at handshakes only.
pub(crate) struct Resolver {
    table: ArcSwap<Certificates>,
    failed: Mutex<Failed>,
}

impl Resolver {
    pub(crate) fn new(channel: &watch::Receiver<Arc<Certificates>>) -> Arc<Self> {
        let table = ArcSwap::new(Arc::clone(&channel.borrow()));
        Arc::new(Self { table, failed: Mutex::default() })
    }

    /// Puts each new table in place, and tells the log of failed handshakes that it has not been
    /// told of. Ends when the sender is gone.
    pub(crate) async fn follow(self: Arc<Self>, mut channel: watch::Receiver<Arc<Certificates>>) {
        let mut minutes = interval(TOLD_EVERY);
        loop {
            tokio::select! {
                changed = channel.changed() => match changed {
                    Ok(()) => self.table.store(Arc::clone(&channel.borrow_and_update())),
                    Err(_) => return,
                },
                _ = minutes.tick() => self.tell(|_| ()),
            }
        }
    }

    /// Takes note of failures, and tells the log if it is time to.
    fn tell(&self, note: impl FnOnce(&mut Failed)) {
        let due = {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            note(&mut failed);
            failed.due(Instant::now())
        };
        if let Some((handshakes, missing, name)) = due {
            tracing::info!(
                handshakes,
                request.host = (!name.is_empty()).then_some(name),
                error = missing.as_str(),
                "Handshakes failed for want of a certificate"
            );
        }
    }

    fn certificate(&self, name: Option<&str>) -> Result<Arc<CertifiedKey>, Missing> {
        let host = name.map(Host::parse).transpose().map_err(|_| Missing::Host)?;
        self.table.load().find(host.as_ref(), SystemTime::now).cloned()
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        let tell = |missing: &Missing| self.tell(|failed| failed.add(*missing, name));
        self.certificate(name).inspect_err(tell).ok()
    }
}

/// How we speak TLS: with clients that are asked for a certificate, and with all others.
#[derive(Clone)]
pub(crate) struct Manners {
    /// Nobody asks: a browser would bother its user with a dialog.
    pub(crate) silent: Arc<ServerConfig>,
    /// The client is asked for a certificate, and may show none.
    pub(crate) asking: Arc<ServerConfig>,
}

impl Manners {
    pub(crate) fn new(resolver: &Arc<Resolver>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(provider());
        let possession = Arc::new(Possession::new(&provider));
        Ok(Self {
            silent: server_config(&provider, resolver, None)?,
            asking: server_config(&provider, resolver, Some(possession))?,
        })
    }
}

/// The cryptography, with the suites that cost least first.
///
/// OpenSSL's clients ask for 256 bits of AES before 128, and so for SHA-384, which few processors
/// have in hardware: that alone was a tenth of a handshake. Browsers prefer 128 bits, too.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| !CHEAP.contains(&suite.suite()));
    provider
}

/// TLS 1.2 and 1.3, HTTP/2 preferred.
///
/// Sessions are never resumed and early data is never taken: a ticket of one host would open
/// another, past the certificate that its clients are asked for, and a request in early data can be
/// replayed.
fn server_config(
    provider: &Arc<CryptoProvider>,
    resolver: &Arc<Resolver>,
    possession: Option<Arc<Possession>>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?;
    let builder = match possession {
        Some(verifier) => {
            builder.with_client_cert_verifier(verifier as Arc<dyn ClientCertVerifier>)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::clone(resolver) as _);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.ignore_client_order = true;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_handshakes_are_told_at_once_then_counted_for_a_minute() {
        let (mut failed, start) = (Failed::default(), Instant::now());
        assert_eq!(failed.due(start), None);
        failed.add(Missing::OfName, Some("a.example"));
        assert_eq!(failed.due(start), Some((1, Missing::OfName, "`a.example`".to_owned())));
        for name in [None, Some("b.example"), Some("c.example")] {
            failed.add(Missing::Name, name);
        }
        assert_eq!(failed.due(start + TOLD_EVERY - Duration::from_millis(1)), None);
        assert_eq!(failed.due(start + TOLD_EVERY), Some((3, Missing::Name, String::new())));
        assert_eq!(failed.due(start + 2 * TOLD_EVERY), None, "nothing came since");
    }

    #[test]
    fn a_name_that_a_stranger_sent_is_cut_and_cannot_break_the_line() {
        let mut failed = Failed::default();
        failed.add(Missing::Host, Some(&"x\n\u{1b}".repeat(10_000)));
        let (_, _, name) = failed.due(Instant::now()).unwrap();
        assert!(name.len() < 10 * NAME_LIMIT && !name.contains(char::is_control), "{name}");
    }

    #[test]
    fn a_handshake_without_a_certificate_has_a_reason() {
        let (sender, channel) = watch::channel(Arc::new(Certificates::default()));
        let resolver = Resolver::new(&channel);
        let missing = |name| resolver.certificate(name).map(drop).unwrap_err();
        assert_eq!(missing(Some("shop.example")), Missing::OfName);
        assert_eq!(missing(None), Missing::Name);
        assert_eq!(missing(Some("no host")), Missing::Host);
        drop(sender);
    }
}
