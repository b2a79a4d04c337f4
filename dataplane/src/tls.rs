//! TLS towards clients: which certificate for which host, replaced while connections run.

use std::{collections::HashMap, fmt, sync::Arc};

use arc_swap::ArcSwap;
use decision::host::{Host, HostPattern};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::sync::watch;

/// The certificates of all hosts.
#[derive(Clone, Default)]
pub struct Certificates {
    exact: HashMap<Host, Option<Arc<CertifiedKey>>>,
    wildcard: HashMap<Host, Option<Arc<CertifiedKey>>>,
    default: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    /// A table of certificates. An exact host goes before a wildcard one label above it; `default`
    /// serves handshakes without a host name and those for hosts that the table does not know. Of
    /// two entries for one host the first wins. An entry for any host is a default behind `default`.
    pub fn new(
        hosts: impl IntoIterator<Item = (HostPattern, Arc<CertifiedKey>)>,
        default: Option<Arc<CertifiedKey>>,
    ) -> Self {
        let mut table = Self { default, ..Self::default() };
        for (pattern, key) in hosts {
            table.insert(pattern, Some(key));
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

    fn insert(&mut self, pattern: HostPattern, key: Option<Arc<CertifiedKey>>) {
        match pattern {
            HostPattern::Exact(host) => drop(self.exact.entry(host).or_insert(key)),
            HostPattern::Wildcard(suffix) => drop(self.wildcard.entry(suffix).or_insert(key)),
            HostPattern::Any => self.default = self.default.take().or(key),
        }
    }

    /// The certificate for a handshake; none lets it fail.
    fn find(&self, host: Option<&Host>) -> Option<&Arc<CertifiedKey>> {
        let Some(host) = host else { return self.default.as_ref() };
        let wildcard = || host.parent().and_then(|parent| self.wildcard.get(parent));
        match self.exact.get(host).or_else(wildcard) {
            Some(key) => key.as_ref(),
            None => self.default.as_ref(),
        }
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
        self.table.load().find(host.as_ref()).cloned()
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
