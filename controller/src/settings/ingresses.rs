//! Which Ingresses are ours and what their routes are without a policy: the flags that decide what
//! manifests mean, wherever they are read.

use std::{num::NonZeroUsize, sync::Arc};

use clap::{Args, ValueEnum};
use compile::settings::{CONTROLLER, ExternalNames, MAX_OBJECTS_PER_NAMESPACE};

use super::{
    Name, Owner, Surroundings, name,
    parse::{from_one, owner},
};

/// Flags of everything that compiles manifests.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Ingresses")]
pub struct IngressFlags {
    /// Name of the class whose Ingresses are ours, besides those that name our controller in an
    /// `IngressClass`
    #[arg(long, value_name = "NAME", env = "WHYGATE_INGRESS_CLASS", default_value = "whygate")]
    pub ingress_class: String,

    /// Name of the controller that our `IngressClasses` name. Give each release of a cluster its own
    #[arg(long, value_name = "NAME", env = "WHYGATE_CONTROLLER_NAME", default_value = CONTROLLER)]
    pub controller_name: String,

    /// Serve Ingresses without any class, too
    #[arg(long, env = "WHYGATE_WATCH_INGRESS_WITHOUT_CLASS")]
    pub watch_ingress_without_class: bool,

    /// What happens with routes without a policy
    #[arg(long, value_enum, env = "WHYGATE_DEFAULT_POSTURE", default_value_t = PostureFlag::Open)]
    pub default_posture: PostureFlag,

    /// Who owns a host, whatever the age of its Ingresses: `PATTERN=NAMESPACE`, separated by commas
    #[arg(long, value_name = "PATTERN=NS", env = "WHYGATE_HOST_NAMESPACES", value_delimiter = ',', value_parser = owner)]
    pub host_namespaces: Vec<Owner>,

    /// The TLS Secret for handshakes without a name that we know. Without it they fail
    #[arg(long, value_name = "NS/NAME", env = "WHYGATE_DEFAULT_TLS_SECRET", value_parser = name)]
    pub default_tls_secret: Option<Name>,

    /// How many objects of a kind a namespace may have: Ingresses of ours, policies, plans,
    /// subscriptions, Secrets for TLS and key sets. The youngest beyond that are not compiled, and
    /// what they would have protected is refused
    #[arg(long, value_name = "N", env = "WHYGATE_MAX_OBJECTS_PER_NAMESPACE", value_parser = from_one::<NonZeroUsize>, default_value_t = MAX_OBJECTS_PER_NAMESPACE)]
    pub max_objects_per_namespace: NonZeroUsize,

    /// Serve Services of type `ExternalName`: their names are asked for in the DNS, and may lead to
    /// public addresses
    #[arg(long, env = "WHYGATE_ALLOW_EXTERNAL_NAME")]
    pub allow_external_name: bool,
}

/// The value of `--default-posture`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PostureFlag {
    /// They pass.
    Open,
    /// They are refused.
    Closed,
}

impl IngressFlags {
    /// What manifests mean here.
    pub fn compile(&self, place: Surroundings) -> compile::Settings {
        compile::Settings {
            ingress_class: self.ingress_class.clone(),
            controller_name: self.controller_name.clone(),
            watch_ingress_without_class: self.watch_ingress_without_class,
            default_posture: match self.default_posture {
                PostureFlag::Open => compile::settings::Posture::Open,
                PostureFlag::Closed => compile::settings::Posture::Closed,
            },
            host_namespaces: self
                .host_namespaces
                .iter()
                .map(|owner| (owner.pattern.clone(), owner.namespace.clone()))
                .collect(),
            default_tls_secret: self
                .default_tls_secret
                .clone()
                .map(|secret| (secret.namespace, secret.name)),
            namespaces_are_known: place != Surroundings::Cluster,
            max_objects_per_namespace: self.max_objects_per_namespace,
            external_names: if self.allow_external_name {
                ExternalNames::Allowed(Arc::default())
            } else {
                ExternalNames::Refused
            },
        }
    }
}
