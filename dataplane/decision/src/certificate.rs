//! The certificate that a client showed in its handshake, and who vouches for it.

use std::{cell::RefCell, fmt, rc::Rc, sync::Arc, time::Duration};

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::{time::Timestamp, transport::Authorities};

/// How far the clock of an authority may be off: 60 s before a certificate begins and after it ends.
pub const LEEWAY: Duration = Duration::from_mins(1);

/// Most certificates that may come with a client's own, to be looked through for a way from it to an
/// authority: 3. Each costs checks of signatures, and where all have one name, each order of them does.
pub const LONGEST_CHAIN: usize = 3;

/// Longest text that is kept of a name that a stranger may have written, in characters.
const NAME_LIMIT: usize = 256;

/// Most authorities whose word on one certificate is kept.
const KEPT: usize = 16;

/// How a client answered when it was asked for a certificate.
#[derive(Clone, Debug, Default)]
pub enum Shown {
    /// Nobody asked: the connection is plain, or its handshake was for a host that does not ask.
    #[default]
    NotAsked,
    /// It was asked and showed none.
    Nothing,
    /// A certificate, and it has proven that the key is its own. Who issued it, nobody judged yet.
    Certificate(Rc<ClientCertificate>),
}

/// A client's certificate with what came along to vouch for it.
///
/// One for a connection: what an authority says of it is found out once and kept here.
pub struct ClientCertificate {
    chain: Box<[CertificateDer<'static>]>,
    identity: Option<Identity>,
    vouched: RefCell<Vec<(Arc<Authorities>, Vouched)>>,
}

/// When a certificate counts by what an authority says, or why it does not count.
type Vouched = Result<Period, &'static str>;

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its subject as a text; may be empty (RFC 5280 section 4.1.2.6).
    pub subject: Box<str>,
    /// Who issued it, as a text.
    pub issuer: Box<str>,
    /// Its subject alternative names (RFC 5280 section 4.2.1.6); those of other kinds are left out.
    pub names: Box<[Name]>,
    period: Period,
}

/// A subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A URI, as SPIFFE has it.
    Uri(Box<str>),
    /// A host.
    Dns(Box<str>),
    /// An address of electronic mail.
    Email(Box<str>),
}

impl Name {
    /// The name without its kind.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Uri(text) | Self::Dns(text) | Self::Email(text) => text,
        }
    }
}

/// In which way it is not the time of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untimely {
    /// It, or one that vouches for it, ended so long ago.
    Expired(Duration),
    /// It begins in so long.
    NotYetValid(Duration),
}

/// Why a certificate does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// No authority that was asked vouches for it.
    Untrusted(&'static str),
    /// It is not its time.
    Untimely(Untimely),
}

/// From when to when a certificate counts, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Period {
    from: Timestamp,
    to: Timestamp,
}

impl Period {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        let [from, to] = [validity.not_before, validity.not_after].map(|time| time.timestamp());
        Self { from: Timestamp(from), to: Timestamp(to) }
    }

    fn of_der(der: &[u8]) -> Option<Self> {
        X509Certificate::from_der(der).ok().map(|(_, certificate)| Self::of(&certificate))
    }

    fn and(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), to: self.to.min(other.to) }
    }

    /// The moment within that is closest to `now`.
    fn closest(self, now: Timestamp) -> Timestamp {
        now.min(self.to).max(self.from)
    }

    fn judge(self, now: Timestamp) -> Result<(), Untimely> {
        if self.to.plus(LEEWAY) < now {
            Err(Untimely::Expired(self.to.until(now)))
        } else if now.plus(LEEWAY) < self.from {
            Err(Untimely::NotYetValid(now.until(self.from)))
        } else {
            Ok(())
        }
    }
}

impl Identity {
    fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let alternative = certificate.subject_alternative_name().ok()?;
        let general = alternative.iter().flat_map(|extension| &extension.value.general_names);
        Some(Self {
            subject: shortened(&certificate.subject().to_string()),
            issuer: shortened(&certificate.issuer().to_string()),
            names: general.filter_map(name).collect(),
            period: Period::of(&certificate),
        })
    }
}

fn name(general: &GeneralName<'_>) -> Option<Name> {
    if let GeneralName::URI(text) = general {
        Some(Name::Uri((*text).into()))
    } else if let GeneralName::DNSName(text) = general {
        Some(Name::Dns((*text).into()))
    } else if let GeneralName::RFC822Name(text) = general {
        Some(Name::Email((*text).into()))
    } else {
        None
    }
}

fn shortened(text: &str) -> Box<str> {
    text.chars().take(NAME_LIMIT).collect::<String>().into()
}

impl ClientCertificate {
    /// A certificate (DER), the client's own first, whose key the client has proven to have.
    pub fn new(chain: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        let chain: Box<[_]> = chain.into_iter().collect();
        let identity = chain.first().and_then(|own| Identity::read(own));
        Self { chain, identity, vouched: RefCell::default() }
    }

    /// What it says of itself; nothing if it cannot be read.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Whether authorities vouch for it, and it is the time of it and of all that vouch.
    ///
    /// Signatures are checked once for each connection and set of authorities, time at each call.
    /// Lists of revoked certificates are not asked for.
    ///
    /// # Errors
    /// [`Doubt`], and why.
    pub fn verify(&self, authorities: &Arc<Authorities>, now: Timestamp) -> Result<(), Doubt> {
        let known = self.known(authorities);
        let vouched = known.unwrap_or_else(|| {
            let vouched = self.prove(authorities, now);
            let mut all = self.vouched.borrow_mut();
            all.truncate(KEPT - 1);
            all.insert(0, (Arc::clone(authorities), vouched));
            vouched
        });
        vouched.map_err(Doubt::Untrusted)?.judge(now).map_err(Doubt::Untimely)
    }

    fn known(&self, authorities: &Authorities) -> Option<Vouched> {
        let all = self.vouched.borrow();
        all.iter().find(|(asked, _)| **asked == *authorities).map(|(_, vouched)| *vouched)
    }

    /// Looks for a way to an authority (RFC 5280 section 6.1) as it was when the certificate counted.
    fn prove(&self, authorities: &Authorities, now: Timestamp) -> Vouched {
        let (Some((own, others)), Some(identity)) = (self.chain.split_first(), &self.identity)
        else {
            return Err("it cannot be read");
        };
        if others.len() > LONGEST_CHAIN {
            return Err("more than 3 other certificates come with it");
        }
        let given: Vec<_> = authorities.certificates().map(CertificateDer::from).collect();
        let trusted = |der| Some((anchor_from_trusted_cert(der).ok()?, Period::of_der(der)?));
        let (anchors, periods): (Vec<_>, Vec<_>) = given.iter().filter_map(trusted).unzip();
        let seconds = u64::try_from(identity.period.closest(now).0).unwrap_or(0);
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let end = EndEntityCert::try_from(own).map_err(|error| problem(&error))?;
        let usage = KeyUsage::client_auth();
        let path = end
            .verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, others, at, usage, None, None)
            .map_err(|error| problem(&error))?;
        let mut period = identity.period.and(latest(&anchors, &periods, path.anchor())?);
        for between in path.intermediate_certificates() {
            period = period.and(Period::of_der(&between.der()).ok_or("it cannot be read")?);
        }
        Ok(period)
    }
}

/// When an authority counts. One that was renewed with its key stands there twice.
fn latest(anchors: &[TrustAnchor<'_>], periods: &[Period], anchor: &TrustAnchor<'_>) -> Vouched {
    let same = anchors.iter().zip(periods).filter(|(other, _)| *other == anchor);
    let latest = same.map(|(_, period)| *period).max_by_key(|period| period.to);
    latest.ok_or("no certificate of the authority issued it")
}

/// What speaks against a certificate, in words of ours.
fn problem(error: &Error) -> &'static str {
    if matches!(error, Error::UnknownIssuer) {
        "no certificate of the authority issued it"
    } else if matches!(error, Error::InvalidSignatureForPublicKey) {
        "a signature on the way to the authority is not valid"
    } else if matches!(error, Error::CertExpired { .. } | Error::CertNotValidYet { .. }) {
        "it is not the time of a certificate between it and the authority"
    } else if matches!(error, Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension) {
        "its extended key usage does not allow client authentication"
    } else if matches!(error, Error::CaUsedAsEndEntity) {
        "it is a certificate of an authority, not of a client"
    } else if matches!(error, Error::NameConstraintViolation) {
        "the authority may not vouch for its names"
    } else {
        "it breaks a rule of RFC 5280, or is signed with an algorithm that is not accepted"
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}
