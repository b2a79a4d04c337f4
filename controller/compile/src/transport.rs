//! How endpoints are to be spoken to: what annotations and the ports of Services say.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use decision::{
    host::Host,
    lack::Lack,
    refs::{Kind, ResourceRef},
    route::ServicePort,
    transport::{Authorities, HttpVersion, Roots, Tls, Transport},
};

use crate::{authorities, finding::Problem, index::Index, metadata::annotation_path};

const PROTOCOL: &str = "whygate.dev/upstream-protocol";
const AUTHORITY: &str = "whygate.dev/upstream-ca";
const SERVER_NAME: &str = "whygate.dev/upstream-server-name";

/// The annotations that are read here.
pub(crate) const KEYS: &[&str] = &[PROTOCOL, AUTHORITY, SERVER_NAME];

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
        meant_protocol(annotations.get(PROTOCOL).map_or("", |text| text.trim())),
    );
    let authority = value(
        AUTHORITY,
        &|text| authority_of(text).is_some(),
        "Write `secret/NAME` or `configmap/NAME`: an object of this namespace with PEM certificates under `ca.crt`.",
    );
    let is_name = |text: &str| {
        !text.starts_with('[') && text.parse::<IpAddr>().is_err() && Host::parse(text).is_ok()
    };
    let remedy =
        "Write the DNS name that the certificate of the endpoints has; an address is none.";
    let server_name = value(SERVER_NAME, &is_name, remedy);
    Wish {
        protocol: protocol.and_then(|text| Protocol::parse(&text)),
        authority: authority.and_then(|text| authority_of(&text)),
        server_name: server_name.map(|name| name.to_ascii_lowercase().into()),
    }
}

/// What to write for a protocol that is none; some are called otherwise elsewhere.
fn meant_protocol(text: &str) -> &'static str {
    match text.to_ascii_lowercase().as_str() {
        "grpc" => "Write `h2c`: gRPC without TLS.",
        "grpcs" => "Write `h2`: gRPC over TLS.",
        "http" => "Write `http`.",
        "https" => "Write `https`.",
        _ => "Write `http`, `https`, `h2` (HTTP/2 over TLS) or `h2c` (HTTP/2 without TLS).",
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
            Some(name) => Roots::Given(Arc::new(given(ingress, name, index)?)),
            None => Roots::Machine,
        };
        let of_service = || format!("{}.{}.svc", port.service.name, port.service.namespace).into();
        let default = || external.map_or_else(of_service, Arc::clone);
        let server_name = self.server_name.clone().unwrap_or_else(default);
        Ok(Transport { http, tls: Some(Arc::new(Tls { server_name, roots })) })
    }
}

/// The authorities of an object in the namespace of the Ingress.
fn given(
    ingress: &ResourceRef,
    (kind, name): &(Kind, String),
    index: &Index<'_>,
) -> Result<Authorities, Problem> {
    let resource = ResourceRef::new(*kind, Arc::clone(&ingress.namespace), name.as_str());
    authorities::read(&resource, index).map_err(|Lack { problem, remedy }| {
        Problem::new(annotation_path(AUTHORITY), format!("{resource}: {problem}"), &*remedy)
    })
}
