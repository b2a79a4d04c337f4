//! Certificates of authorities in Secrets and `ConfigMaps`: who may vouch for endpoints and clients.

use std::sync::Arc;

use decision::{
    lack::Lack,
    refs::{Kind, ResourceRef},
    transport::Authorities,
};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    index::Index,
    keys::{USE_LABEL, is_labelled},
};

/// Secrets of this type are read for their certificates anyway.
const TLS_TYPE: &str = "kubernetes.io/tls";

/// Under which key an object holds certificates of authorities.
const CERTIFICATES: &str = "ca.crt";

/// Reads the certificates of a Secret or `ConfigMap`; each of them must be able to vouch for others.
///
/// # Errors
/// What keeps the object from being used.
pub(crate) fn read(resource: &ResourceRef, index: &Index<'_>) -> Result<Authorities, Lack> {
    let text = if resource.kind == Kind::ConfigMap {
        in_config_map(resource, index)
    } else {
        in_secret(resource, index)
    };
    let text = text.map_err(|(wrong, remedy)| lack(wrong, remedy))?;
    let remedy =
        || format!("Put the authority's certificates there under `{CERTIFICATES}`, in PEM.");
    let text = text.ok_or_else(|| lack(format!("it has no key `{CERTIFICATES}`"), remedy()))?;
    let mut certificates = Vec::new();
    for (position, certificate) in CertificateDer::pem_slice_iter(text).enumerate() {
        let at = format!("certificate {} of `{CERTIFICATES}`", position.saturating_add(1));
        let certificate =
            certificate.map_err(|error| lack(format!("{at} cannot be read: {error}"), remedy()))?;
        if !is_authority(&certificate) {
            let remedy = "Put the certificate of the authority there, not one that it issued.";
            return Err(lack(format!("{at} is not one of an authority"), remedy.to_owned()));
        }
        certificates.push(certificate.as_ref().into());
    }
    if certificates.is_empty() {
        return Err(lack(format!("`{CERTIFICATES}` holds no certificate"), remedy()));
    }
    Ok(Authorities::new(resource.clone(), certificates))
}

fn lack(problem: String, remedy: String) -> Lack {
    Lack { problem: problem.into(), remedy: remedy.into() }
}

/// What an object holds under our key, if it has that; or what is wrong with it, and the remedy.
type Held<'a> = Result<Option<&'a [u8]>, (String, String)>;

fn in_secret<'a>(resource: &ResourceRef, index: &Index<'a>) -> Held<'a> {
    let place = (&*resource.namespace, &*resource.name);
    let for_us =
        |secret: &&Arc<Secret>| is_labelled(secret) || secret.type_.as_deref() == Some(TLS_TYPE);
    let Some(secret) = index.secrets.get(&place).copied().filter(for_us) else {
        if let Some(surplus) = index.surplus_of(Kind::Secret, place) {
            return Err((surplus.message, surplus.remedy));
        }
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
