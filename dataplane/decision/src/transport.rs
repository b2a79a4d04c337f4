//! How the endpoints of a backend are spoken to: which HTTP, and whether over TLS.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use aws_lc_rs::digest;

use crate::refs::ResourceRef;

/// The version of HTTP that endpoints get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/1.1, the default.
    #[default]
    One,
    /// HTTP/2: without TLS by prior knowledge (RFC 9113 section 3.3), with it by agreement.
    Two,
}

/// How endpoints are spoken to. By default in HTTP/1.1 without TLS.
///
/// Equal ones share connections, whatever route they belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Transport {
    /// The version of HTTP.
    pub http: HttpVersion,
    /// TLS, which always verifies whom it speaks to; none without it.
    pub tls: Option<Arc<Tls>>,
}

/// TLS towards endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tls {
    /// The name that the endpoint's certificate must have, and that it is told.
    pub server_name: Arc<str>,
    /// Who may vouch for it.
    pub roots: Roots,
}

/// Who may vouch for the certificates of endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Roots {
    /// The authorities of the machine or image that the program runs on.
    Machine,
    /// These and no others.
    Given(Arc<Authorities>),
}

/// Certificates of authorities, from one object. Compared by what they are, not by where they stood.
#[derive(Clone)]
pub struct Authorities {
    /// Where they stand.
    pub resource: ResourceRef,
    certificates: Box<[Box<[u8]>]>,
    digest: [u8; 32],
}

impl Authorities {
    /// Authorities by their certificates (DER).
    pub fn new(resource: ResourceRef, certificates: impl IntoIterator<Item = Box<[u8]>>) -> Self {
        let certificates: Box<[Box<[u8]>]> = certificates.into_iter().collect();
        let mut context = digest::Context::new(&digest::SHA256);
        for certificate in &certificates {
            // Lengths first, so that no two lists run together.
            context.update(&certificate.len().to_be_bytes());
            context.update(certificate);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Self { resource, certificates, digest }
    }

    /// The certificates (DER).
    pub fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.certificates.iter().map(|certificate| &**certificate)
    }
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Authorities {}

impl Hash for Authorities {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities").field("resource", &self.resource).finish_non_exhaustive()
    }
}
