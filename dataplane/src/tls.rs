//! TLS towards clients: which certificate for which host, replaced while connections run.

use std::{collections::HashMap, fmt, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use decision::host::{Host, HostPattern};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::sync::watch;

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

    /// The certificate for a handshake at `now`; none lets it fail.
    fn find(
        &self,
        host: Option<&Host>,
        now: impl FnOnce() -> SystemTime,
    ) -> Option<&Arc<CertifiedKey>> {
        let own = host.and_then(|host| {
            let wildcard = || host.parent().and_then(|parent| self.wildcard.get(parent));
            self.exact.get(host).or_else(wildcard)
        });
        let Certificate { key, until } = own.unwrap_or(&self.default).as_ref()?;
        until.is_none_or(|until| now() < until).then_some(key)
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
}

impl Resolver {
    pub(crate) fn new(channel: &watch::Receiver<Arc<Certificates>>) -> Arc<Self> {
        Arc::new(Self { table: ArcSwap::new(Arc::clone(&channel.borrow())) })
    }

    /// Puts each new table in place. Ends when the sender is gone.
    pub(crate) async fn follow(self: Arc<Self>, mut channel: watch::Receiver<Arc<Certificates>>) {
        while channel.changed().await.is_ok() {
            self.table.store(Arc::clone(&channel.borrow_and_update()));
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = match hello.server_name() {
            Some(name) => Some(Host::parse(name).ok()?),
            None => None,
        };
        self.table.load().find(host.as_ref(), SystemTime::now).cloned()
    }
}

/// How we speak TLS: 1.2 and 1.3, HTTP/2 preferred.
///
/// Sessions are never resumed and early data is never taken: a ticket of one host would open
/// another, and a request in early data can be replayed.
pub(crate) fn server_config(resolver: Arc<Resolver>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}
