//! TLS towards endpoints: one configuration for all that trust the same and ask for the same name.

use std::{cell::RefCell, collections::HashMap, io, sync::Arc};

use decision::transport::{HttpVersion, Roots, Tls};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{sync::OnceCell, task::spawn_blocking};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::wire::Wire;

/// What the machine trusts, read when it is needed for the first time.
static MACHINE: OnceCell<Arc<RootCertStore>> = OnceCell::const_new();

/// One thread's configurations.
#[derive(Default)]
pub(super) struct Configurations(RefCell<Table>);

type Table = HashMap<(Arc<Tls>, HttpVersion), Arc<ClientConfig>>;

impl Configurations {
    /// Shakes hands with an endpoint and verifies whom it speaks for.
    pub(super) async fn connect(
        &self,
        tls: &Arc<Tls>,
        http: HttpVersion,
        stream: Wire,
    ) -> io::Result<TlsStream<Wire>> {
        let config = self.config(tls, http).await?;
        let name = ServerName::try_from(tls.server_name.to_string()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        let agreed = stream.get_ref().1.alpn_protocol();
        if http == HttpVersion::Two && agreed != Some(b"h2") {
            return Err(io::Error::other("it did not agree on HTTP/2"));
        }
        Ok(stream)
    }

    /// Forgets what no connection was opened with and none is kept for.
    pub(super) fn forget_unused(&self) {
        // The table itself holds one reference, each connection another.
        self.0.borrow_mut().retain(|_, config| Arc::strong_count(config) > 1);
    }

    async fn config(&self, tls: &Arc<Tls>, http: HttpVersion) -> io::Result<Arc<ClientConfig>> {
        let key = (Arc::clone(tls), http);
        if let Some(known) = self.0.borrow().get(&key) {
            return Ok(Arc::clone(known));
        }
        let roots = match &tls.roots {
            Roots::Machine => machine().await?,
            Roots::Given(authorities) => {
                let mut roots = RootCertStore::empty();
                for certificate in authorities.certificates() {
                    let certificate = CertificateDer::from(certificate.to_vec());
                    roots.add(certificate).map_err(io::Error::other)?;
                }
                Arc::new(roots)
            }
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let protocol: &[u8] = match http {
            HttpVersion::One => b"http/1.1",
            HttpVersion::Two => b"h2",
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        let config = Arc::new(config);
        self.0.borrow_mut().insert(key, Arc::clone(&config));
        Ok(config)
    }
}

async fn machine() -> io::Result<Arc<RootCertStore>> {
    let read = || async {
        // Files: not on a thread that serves requests.
        let loaded = spawn_blocking(rustls_native_certs::load_native_certs);
        let loaded = loaded.await.map_err(io::Error::other)?;
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(loaded.certs);
        if added == 0 {
            return Err(io::Error::other(
                "this machine has no authorities that could vouch for it",
            ));
        }
        Ok(Arc::new(roots))
    };
    MACHINE.get_or_try_init(read).await.map(Arc::clone)
}
