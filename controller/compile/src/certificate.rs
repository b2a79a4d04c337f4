//! Certificates for handshakes, from Secrets of type `kubernetes.io/tls`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use decision::{
    host::HostPattern,
    refs::{Kind, ResourceRef},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    finding::{Effect, Findings, Problem, Reason},
    index::Index,
    ingress::{Selected, Tls},
    map::{Map, Set},
    owners::Owners,
    settings::Settings,
};

/// Which certificate a handshake gets.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    /// Certificates by host. An exact host goes before the wildcard above it.
    pub hosts: Vec<(HostPattern, Certificate)>,
    /// Hosts whose handshake fails although a wildcard or the default certificate would fit: their
    /// Secret is missing or cannot be used, or the wildcard is another namespace's.
    pub refused: Vec<HostPattern>,
    /// For handshakes without a name, and with one that no Ingress has.
    pub default: Option<Certificate>,
}

impl Certificates {
    /// When what handshakes get expires, by Secret.
    pub fn expiries(&self) -> BTreeMap<ResourceRef, Timestamp> {
        let served = self.hosts.iter().map(|(_, certificate)| certificate).chain(&self.default);
        served.map(|certificate| (certificate.secret.clone(), certificate.not_after)).collect()
    }
}

/// A certificate as handshakes get it.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The chain and its key.
    pub key: Arc<CertifiedKey>,
    /// Where it was read.
    pub secret: ResourceRef,
    /// `notAfter` of the first certificate (RFC 5280 section 4.1.2.5); the end of the year 9999 if it
    /// never expires.
    pub not_after: Timestamp,
    /// Its Secret is gone or cannot be used any more: it is served until then, and not longer.
    /// `None` as long as the Secret is good, whatever the certificate says about its time.
    pub until: Option<Timestamp>,
}

/// A certificate that was read from its Secret, and may outlive it.
#[derive(Clone, Debug)]
struct Loaded {
    key: Arc<CertifiedKey>,
    /// `notAfter` of the first certificate (RFC 5280 section 4.1.2.5).
    not_after: Timestamp,
}

/// The certificates that are in use, by Secret: what a later compilation serves when it finds a
/// Secret missing or unusable. A Secret that nothing names any more is forgotten.
#[derive(Clone, Debug, Default)]
pub struct InUse(HashMap<ResourceRef, Loaded>);

/// Certificates and the hosts that are served over TLS at all.
#[derive(Default)]
pub(crate) struct Served {
    pub(crate) certificates: Certificates,
    hosts: Set<HostPattern>,
}

impl Served {
    /// The hosts that entries of `spec.tls` name.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &HostPattern> {
        self.hosts.iter()
    }

    /// Whether a host is served over TLS, by its own entry or by that of the same owner's wildcard.
    pub(crate) fn has(&self, host: &HostPattern, owners: &Owners<'_>) -> bool {
        let above = || {
            owners.wildcard_above(host).is_some_and(|wildcard| {
                self.hosts.contains(wildcard) && owners.of(wildcard) == owners.of(host)
            })
        };
        self.hosts.contains(host) || above()
    }
}

/// Reads the certificates of all Ingresses, which stand in the order of their age: the older
/// entry of a host wins.
pub(crate) fn serve<'r>(
    ingresses: &'r [Selected<'_>],
    owners: &Owners<'_>,
    index: &'r Index<'_>,
    settings: &'r Settings,
    before: &'r InUse,
    findings: &mut Findings,
) -> (Served, InUse) {
    let mut reader = Reader { index, before, read: Map::default() };
    let mut served = Served::default();
    let mut chosen: Map<HostPattern, ResourceRef> = Map::default();
    for ingress in ingresses {
        for tls in &ingress.tls {
            let secret = tls.secret.map(|name| reader.read(ingress.namespace(), name));
            if let Some((_, read @ Read { problem: Some(problem), .. })) = secret {
                let effect = effect(read);
                let problem = Problem { path: secret_field(tls), ..problem.clone() };
                findings.add(&ingress.resource, Reason::CertificateInvalid, effect, problem);
            }
            for host in &tls.hosts {
                if !owners.may_use(host, ingress.namespace()) {
                    continue;
                }
                served.hosts.insert(host.clone());
                let Some((resource, read)) = secret else { continue };
                match chosen.get(host) {
                    Some(older) if older != resource => {
                        findings.add(
                            &ingress.resource,
                            Reason::HostConflict,
                            Effect::Rejects,
                            second_certificate(tls, host, older),
                        );
                        continue;
                    }
                    Some(_) => continue,
                    None => chosen.insert(host.clone(), resource.clone()),
                };
                match read.certificate(resource) {
                    Some(found) => served.certificates.hosts.push((host.clone(), found)),
                    None => served.certificates.refused.push(host.clone()),
                }
            }
        }
    }
    served.certificates.default = default(&mut reader, settings, findings);
    let in_use = reader.in_use();
    keep_apart(&mut served.certificates, &chosen, owners);
    served.certificates.hosts.sort_by(|one, two| one.0.cmp(&two.0));
    served.certificates.refused.sort();
    (served, in_use)
}

/// A wildcard's certificate is not for a name below it that another namespace owns: that gets the
/// default one, or none. So does a name with an entry of `spec.tls` that names no Secret: `chosen` are
/// the hosts whose entry names one.
fn keep_apart(
    certificates: &mut Certificates,
    chosen: &Map<HostPattern, ResourceRef>,
    owners: &Owners<'_>,
) {
    let Certificates { hosts, refused, default } = certificates;
    for (host, _) in owners.apart() {
        let above = owners.wildcard_above(host);
        let covered = above.is_some_and(|wildcard| chosen.contains_key(wildcard));
        if covered && !chosen.contains_key(host) {
            match default {
                Some(default) => hosts.push((host.clone(), default.clone())),
                None => refused.push(host.clone()),
            }
        }
    }
}

fn secret_field(tls: &Tls<'_>) -> String {
    format!("spec.tls[{}].secretName", tls.index)
}

fn second_certificate(tls: &Tls<'_>, host: &HostPattern, older: &ResourceRef) -> Problem {
    Problem::new(
        secret_field(tls),
        format!("an older Ingress serves `{host}` with {older}"),
        "Name one Secret for a host, in one Ingress.",
    )
}

fn default<'r>(
    reader: &mut Reader<'r, '_>,
    settings: &'r Settings,
    findings: &mut Findings,
) -> Option<Certificate> {
    let (namespace, name) = settings.default_tls_secret.as_ref()?;
    let (resource, read) = reader.read(namespace, name);
    if let Some(problem) = &read.problem {
        let problem = Problem { path: "data".to_owned(), ..problem.clone() };
        findings.add(resource, Reason::CertificateInvalid, effect(read), problem);
    }
    read.certificate(resource)
}

/// What a bad Secret costs: nothing yet, if the last good certificate is served.
fn effect(read: &Read) -> Effect {
    if read.loaded.is_some() { Effect::Rejects } else { Effect::Closes }
}

/// What is known of a Secret.
struct Read {
    /// Its certificate, or the last good one that it had.
    loaded: Option<Loaded>,
    /// What is wrong with it now.
    problem: Option<Problem>,
}

impl Read {
    /// The certificate of a Secret; with one that is bad now, that of before goes on being served.
    fn new(read: Result<Loaded, Problem>, before: Option<&Loaded>) -> Self {
        let problem = match read {
            Ok(loaded) => return Self { loaded: Some(loaded), problem: None },
            Err(problem) => problem,
        };
        let cost = match before {
            Some(Loaded { not_after, .. }) => {
                format!("its last good certificate is served until {not_after} or a restart")
            }
            None => "handshakes for its hosts fail".to_owned(),
        };
        let message = format!("{}; {cost}", problem.message);
        Self { loaded: before.cloned(), problem: Some(Problem { message, ..problem }) }
    }

    /// What handshakes get; nothing lets them fail.
    fn certificate(&self, secret: &ResourceRef) -> Option<Certificate> {
        let Loaded { key, not_after } = self.loaded.as_ref()?;
        let (secret, not_after) = (secret.clone(), *not_after);
        let until = self.problem.is_some().then_some(not_after);
        Some(Certificate { key: Arc::clone(key), secret, not_after, until })
    }
}

/// Reads each Secret once.
struct Reader<'r, 'a> {
    index: &'r Index<'a>,
    before: &'r InUse,
    /// By namespace and name.
    read: Map<(&'r str, &'r str), (ResourceRef, Read)>,
}

impl<'r> Reader<'r, '_> {
    fn read(&mut self, namespace: &'r str, name: &'r str) -> &(ResourceRef, Read) {
        self.read.entry((namespace, name)).or_insert_with(|| {
            let resource = ResourceRef::new(Kind::Secret, namespace, name);
            let read = certificate(namespace, name, &resource, self.index);
            let read = Read::new(read, self.before.0.get(&resource));
            (resource, read)
        })
    }

    fn in_use(self) -> InUse {
        let read = self.read.into_values();
        InUse(read.filter_map(|(secret, read)| Some((secret, read.loaded?))).collect())
    }
}

fn certificate(
    namespace: &str,
    name: &str,
    resource: &ResourceRef,
    index: &Index<'_>,
) -> Result<Loaded, Problem> {
    let problem =
        |message: String, remedy: &str| Problem::new("", format!("{resource}: {message}"), remedy);
    let Some(secret) = index.secrets.get(&(namespace, name)) else {
        return Err(if let Some(surplus) = index.surplus_of(Kind::Secret, (namespace, name)) {
            problem(surplus.message, &surplus.remedy)
        } else if let Some((unread, remedy)) = index.unread_secret(namespace) {
            problem(unread, &remedy)
        } else {
            problem(
                "it does not exist, or is not of type kubernetes.io/tls".to_owned(),
                "Create it with `kubectl create secret tls`.",
            )
        });
    };
    load(secret).map_err(|message| {
        problem(
            message,
            "Put the certificate chain into `tls.crt` and its private key into `tls.key`, both as PEM.",
        )
    })
}

/// What is wrong with a PEM text, in words of ours: those of the library quote the text, and a key on
/// one line is all in that line.
fn unreadable(name: &str, error: &pem::Error) -> String {
    let problem = if matches!(error, pem::Error::NoItemsFound) {
        "nothing of the kind is in it"
    } else if matches!(error, pem::Error::MissingSectionEnd { .. }) {
        "its END line is missing, or is on the line of its BEGIN"
    } else if matches!(error, pem::Error::IllegalSectionStart { .. }) {
        "its BEGIN line does not stand by itself"
    } else {
        "its content is no base64"
    };
    format!("`{name}` is not readable: {problem}")
}

fn load(secret: &Secret) -> Result<Loaded, String> {
    if secret.type_.as_deref() != Some("kubernetes.io/tls") {
        return Err("it is not of type kubernetes.io/tls".to_owned());
    }
    let part = |name: &str| {
        let data = secret.data.as_ref().and_then(|data| data.get(name));
        data.map(|data| data.0.as_slice()).ok_or_else(|| format!("it has no `{name}`"))
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(part("tls.crt")?).collect();
    let chain = chain.map_err(|error| unreadable("tls.crt", &error))?;
    let Some(first) = chain.first() else {
        return Err("`tls.crt` holds no certificate".to_owned());
    };
    let not_after = not_after(first).ok_or("the certificate in `tls.crt` is not readable")?;
    let key = PrivateKeyDer::from_pem_slice(part("tls.key")?);
    let key = key.map_err(|error| unreadable("tls.key", &error))?;
    let key = any_supported_type(&key).map_err(|_| "the key in `tls.key` cannot be used")?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // A key that does not tell its public half can't be compared; that is no fault of it.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Loaded { key: Arc::new(certified), not_after })
        }
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err("the key in `tls.key` is not that of the certificate in `tls.crt`".to_owned())
        }
        Err(_) => Err("the certificate in `tls.crt` is not readable".to_owned()),
    }
}

/// When a certificate expires. The end of the year 9999, which stands for "never", is the last moment
/// that there is.
fn not_after(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let seconds = parsed.validity().not_after.timestamp();
    Some(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX))
}
