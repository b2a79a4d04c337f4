//! `ip`: the client's address is in a list of networks.

use super::{Evidence, Facts, Outcome};
use crate::{address::NetworkSet, client::ClientAddress, denial::DenialReason};

/// `ip` of a rule. An empty list holds nobody.
#[derive(Debug)]
pub struct AddressCheck {
    /// The networks of `cidrs`, in the order of the manifest.
    pub networks: NetworkSet,
    /// Whether a peer inside the infrastructure may be the client. Default false.
    pub infrastructure: bool,
}

impl AddressCheck {
    pub(super) fn judge(&self, facts: Facts<'_>) -> Outcome {
        let client = &facts.request.line().client;
        let address = match client {
            ClientAddress::Known(address, _) => *address,
            ClientAddress::Infrastructure(address) if self.infrastructure => *address,
            ClientAddress::Infrastructure(_) | ClientAddress::Unknown(..) => {
                return Outcome::Unknown(Box::new(DenialReason::ClientAddressUnknown {
                    client: client.clone(),
                }));
            }
        };
        match self.networks.find(address) {
            Some(network) => Outcome::Met(Evidence::Network(network)),
            None => Outcome::Unmet(Box::new(DenialReason::AddressNotAllowed {
                client: client.clone(),
                networks: self.networks.networks().len(),
                nearest: self.networks.nearest(address),
            })),
        }
    }
}
