//! How endpoints are to be spoken to: what annotations and the ports of Services say.

use std::{collections::BTreeMap, sync::Arc};

use decision::{
    host::Host,
    refs::{Kind, ResourceRef},
    route::ServicePort,
    transport::{Authorities, HttpVersion, Roots, Tls, Transport},
};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    finding::Problem,
    index::Index,
    keys::{USE_LABEL, is_labelled},
    metadata::annotation_path,
};

const PROTOCOL: &str = "whygate.dev/upstream-protocol";
const AUTHORITY: &str = "whygate.dev/upstream-ca";
const SERVER_NAME: &str = "whygate.dev/upstream-server-name";

/// The annotations that are read here.
pub(crate) const KEYS: &[&str] = &[PROTOCOL, AUTHORITY, SERVER_NAME];

/// Secrets of this type are read for their certificates anyway.
const TLS_TYPE: &str = "kubernetes.io/tls";

/// Under which key a Secret holds certificates of authorities.
const CERTIFICATES: &str = "ca.crt";

/// How a port is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 over TLS.
    Https,
    /// HTTP/2 over TLS.
    H2,
    /// HTTP/2 without TLS.
    H2c,
}

impl Protocol {
    const NAMES: [(&'static str, Self); 4] =
        [("http", Self::Http), ("https", Self::Https), ("h2", Self::H2), ("h2c", Self::H2c)];

    fn parse(text: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(name, _)| *name == text).map(|(_, protocol)| protocol)
    }

    /// What `appProtocol` of a Service's port means: names of Kubernetes and of IANA. Others say
    /// nothing to us.
    pub(crate) fn of_port(name: &str) -> Option<Self> {
        match name {
            "http" | "kubernetes.io/ws" => Some(Self::Http),
            "https" | "kubernetes.io/wss" => Some(Self::Https),
            "kubernetes.io/h2c" => Some(Self::H2c),
            _ => None,
        }
    }

    fn http(self) -> HttpVersion {
        match self {
            Self::Http | Self::Https => HttpVersion::One,
            Self::H2 | Self::H2c => HttpVersion::Two,
        }
    }

    fn is_encrypted(self) -> bool {
        matches!(self, Self::Https | Self::H2)
    }
}

/// What an Ingress asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    protocol: Option<Protocol>,
    /// Kind and name of the object with the authorities.
    authority: Option<(Kind, String)>,
    server_name: Option<Arc<str>>,
}

/// Reads what an Ingress asks for; what cannot be read closes it.
pub(crate) fn read(annotations: &BTreeMap<String, String>, problems: &mut Vec<Problem>) -> Wish {
    let mut value = |key: &str, known: &dyn Fn(&str) -> bool, remedy: &str| {
        let text = annotations.get(key)?.trim();
        if !known(text) {
            let message = format!("`{text}` is not a value of `{key}`");
            problems.push(Problem::new(annotation_path(key), message, remedy));
            return None;
        }
        Some(text.to_owned())
    };
    let protocol = value(
        PROTOCOL,
        &|text| Protocol::parse(text).is_some(),
        "Write `http`, `https`, `h2` (HTTP/2 over TLS) or `h2c` (HTTP/2 without TLS).",
    );
    let authority = value(
        AUTHORITY,
        &|text| authority_of(text).is_some(),
        "Write `secret/NAME` or `configmap/NAME`: an object of this namespace with PEM certificates under `ca.crt`.",
    );
    let is_name = |text: &str| !text.starts_with('[') && Host::parse(text).is_ok();
    let remedy = "Write the DNS name that the certificate of the endpoints has.";
    let server_name = value(SERVER_NAME, &is_name, remedy);
    Wish {
        protocol: protocol.and_then(|text| Protocol::parse(&text)),
        authority: authority.and_then(|text| authority_of(&text)),
        server_name: server_name.map(|name| name.to_ascii_lowercase().into()),
    }
}

/// Kind and name of an object that may hold authorities.
fn authority_of(text: &str) -> Option<(Kind, String)> {
    let (kind, name) = text.split_once('/')?;
    let kind = match kind {
        "secret" => Kind::Secret,
        "configmap" => Kind::ConfigMap,
        _ => return None,
    };
    Host::parse(name).is_ok().then(|| (kind, name.to_owned()))
}

impl Wish {
    /// How the endpoints of a port are spoken to; the annotation goes before the port.
    ///
    /// # Errors
    /// If their certificates could not be verified as asked for, or TLS is meant to be and is not.
    pub(crate) fn transport(
        &self,
        ingress: &ResourceRef,
        (port, external): (&ServicePort, Option<&Arc<str>>),
        of_port: Option<Protocol>,
        index: &Index<'_>,
    ) -> Result<Transport, Problem> {
        let protocol = self.protocol.or(of_port).unwrap_or(Protocol::Http);
        let http = protocol.http();
        if !protocol.is_encrypted() {
            return match [
                (AUTHORITY, self.authority.is_some()),
                (SERVER_NAME, self.server_name.is_some()),
            ]
            .into_iter()
            .find(|(_, asked)| *asked)
            {
                Some((key, _)) => Err(Problem::new(
                    annotation_path(key),
                    format!("`{key}` is for TLS, and {port} is spoken to without it"),
                    format!("Set `{PROTOCOL}` to `https` or `h2`, or remove this annotation."),
                )),
                None => Ok(Transport { http, tls: None }),
            };
        }
        let roots = match &self.authority {
            Some(name) => Roots::Given(Arc::new(authorities(ingress, name, index)?)),
            None => Roots::Machine,
        };
        let of_service = || format!("{}.{}.svc", port.service.name, port.service.namespace).into();
        let default = || external.map_or_else(of_service, Arc::clone);
        let server_name = self.server_name.clone().unwrap_or_else(default);
        Ok(Transport { http, tls: Some(Arc::new(Tls { server_name, roots })) })
    }
}

/// Reads the certificates of an object; each of them must be able to vouch for others.
fn authorities(
    ingress: &ResourceRef,
    (kind, name): &(Kind, String),
    index: &Index<'_>,
) -> Result<Authorities, Problem> {
    let resource = ResourceRef::new(*kind, Arc::clone(&ingress.namespace), name.as_str());
    let problem = |problem: String, remedy: String| {
        Problem::new(annotation_path(AUTHORITY), format!("{resource}: {problem}"), remedy)
    };
    let text = if *kind == Kind::ConfigMap {
        in_config_map(&resource, index)
    } else {
        in_secret(&resource, index)
    };
    let text = text.map_err(|(wrong, remedy)| problem(wrong, remedy))?;
    let remedy =
        || format!("Put the authority's certificates there under `{CERTIFICATES}`, in PEM.");
    let text = text.ok_or_else(|| problem(format!("it has no key `{CERTIFICATES}`"), remedy()))?;
    let mut certificates = Vec::new();
    for (position, certificate) in CertificateDer::pem_slice_iter(text).enumerate() {
        let at = format!("certificate {} of `{CERTIFICATES}`", position.saturating_add(1));
        let certificate = certificate
            .map_err(|error| problem(format!("{at} cannot be read: {error}"), remedy()))?;
        if !is_authority(&certificate) {
            let remedy = "Put the certificate of the authority there, not that of the endpoints.";
            return Err(problem(format!("{at} is not one of an authority"), remedy.to_owned()));
        }
        certificates.push(certificate.as_ref().into());
    }
    if certificates.is_empty() {
        return Err(problem(format!("`{CERTIFICATES}` holds no certificate"), remedy()));
    }
    Ok(Authorities::new(resource.clone(), certificates))
}

/// What an object holds under our key, if it has that; or what is wrong with it, and the remedy.
type Held<'a> = Result<Option<&'a [u8]>, (String, String)>;

fn in_secret<'a>(resource: &ResourceRef, index: &Index<'a>) -> Held<'a> {
    let found = index.secrets.get(&(&*resource.namespace, &*resource.name)).copied();
    let for_us =
        |secret: &&Arc<Secret>| is_labelled(secret) || secret.type_.as_deref() == Some(TLS_TYPE);
    let Some(secret) = found.filter(for_us) else {
        return Err(index.unread_secret(&resource.namespace).unwrap_or_else(absent));
    };
    let data = secret.data.as_ref().and_then(|data| data.get(CERTIFICATES));
    Ok(data.map(|data| data.0.as_slice()))
}

fn in_config_map<'a>(resource: &ResourceRef, index: &Index<'a>) -> Held<'a> {
    let found = index.config_maps.get(&(&*resource.namespace, &*resource.name)).copied();
    let for_us = |map: &&Arc<ConfigMap>| {
        map.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(USE_LABEL))
    };
    let Some(map) = found.filter(for_us) else {
        return Err(index.unread_config_map(&resource.namespace).unwrap_or_else(absent));
    };
    let data = map.data.as_ref().and_then(|data| data.get(CERTIFICATES));
    Ok(data.map(String::as_bytes))
}

fn absent() -> (String, String) {
    (
        format!("it does not exist, or it has no label `{USE_LABEL}`"),
        format!("Create it with the label `{USE_LABEL}: ca`; without the label it is not read."),
    )
}

/// Whether a certificate may vouch for others (RFC 5280 section 4.2.1.9).
fn is_authority(certificate: &CertificateDer<'_>) -> bool {
    let usable = RootCertStore::empty().add(certificate.clone().into_owned()).is_ok();
    let read = X509Certificate::from_der(certificate).ok();
    usable && read.is_some_and(|(_, certificate)| certificate.is_ca())
}
