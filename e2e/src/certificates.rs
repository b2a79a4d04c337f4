//! Certificates for tests: an authority that nobody else trusts, and what it signs.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate authority with a key of its own.
#[derive(Debug)]
pub struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as text.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its private key, PKCS#8 in PEM.
    pub key: String,
}

impl Authority {
    /// Makes an authority called `name`.
    ///
    /// # Errors
    /// No key can be made.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let certificate = parameters.self_signed(&key)?;
        Ok(Self { certificate, issuer: Issuer::new(parameters, key) })
    }

    /// The authority's certificate, PEM: what a client has to trust.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A server's certificate for `names` (hosts, wildcards, addresses).
    ///
    /// # Errors
    /// A name isn't one.
    pub fn server(&self, names: &[&str]) -> anyhow::Result<Certificate> {
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        let mut parameters = CertificateParams::new(names)?;
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&parameters)
    }

    /// A client's certificate with this common name.
    ///
    /// # Errors
    /// No key can be made.
    pub fn client(&self, name: &str) -> anyhow::Result<Certificate> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&parameters)
    }

    /// A certificate whose parameters the test sets itself: one that has expired, say.
    ///
    /// # Errors
    /// The parameters contradict themselves.
    pub fn sign(&self, parameters: &CertificateParams) -> anyhow::Result<Certificate> {
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        Ok(Certificate { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

impl Certificate {
    /// The manifest of a TLS Secret that holds it.
    pub fn secret(&self, namespace: &str, name: &str) -> String {
        // JSON is YAML, and needs no thought about indentation.
        let manifest = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": { "namespace": namespace, "name": name },
            "stringData": { "tls.crt": self.certificate, "tls.key": self.key },
        });
        format!("---\n{manifest}\n")
    }

    /// The certificate and its key, decoded.
    ///
    /// # Errors
    /// The text isn't PEM.
    pub fn decoded(
        &self,
    ) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()?;
        Ok((chain, PrivateKeyDer::from_pem_slice(self.key.as_bytes())?))
    }
}

/// The name of a host or an address as TLS wants it.
pub(crate) fn server_name(name: &str) -> anyhow::Result<rustls::pki_types::ServerName<'static>> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(address.into());
    }
    Ok(rustls::pki_types::ServerName::try_from(name.to_owned())?)
}
