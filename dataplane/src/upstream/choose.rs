//! Which endpoint a request goes to.

use decision::{endpoint::EndpointAddress, transport::Transport};
use tokio::time::Instant;

use super::{Affinity, Choice, Upstream, UpstreamError, pool::Endpoint};
use crate::id::Ids;

impl Upstream {
    /// The endpoint that was asked for; else of two picked at random the one with fewer requests of
    /// this thread.
    pub(crate) fn choose(
        &self,
        addresses: &[EndpointAddress],
        transport: &Transport,
        affinity: Option<Affinity>,
        ids: &Ids,
    ) -> Option<Choice> {
        // Most of the time nobody is ejected, and nothing is copied.
        let (first, second) = if self.ejected.get() == 0 || addresses.len() < 2 {
            self.pick(addresses, affinity.as_ref(), ids)?
        } else {
            self.pick(&self.sound(addresses, ids), affinity.as_ref(), ids)?
        };
        // If only one is sound, any other is better than none.
        let other = || addresses.iter().copied().find(|address| *address != first);
        let (second, transport) = (second.or_else(other), transport.clone());
        Some(Choice { first, second, transport, affinity })
    }

    fn pick(
        &self,
        addresses: &[EndpointAddress],
        affinity: Option<&Affinity>,
        ids: &Ids,
    ) -> Option<(EndpointAddress, Option<EndpointAddress>)> {
        match affinity.and_then(|affinity| affinity.pick(addresses)) {
            Some(first) => Some((first, None)),
            None => self.lighter(addresses, ids),
        }
    }

    /// Two different ones, if there are two; the one with fewer requests first.
    fn lighter(
        &self,
        addresses: &[EndpointAddress],
        ids: &Ids,
    ) -> Option<(EndpointAddress, Option<EndpointAddress>)> {
        let count = addresses.len();
        let one = ids.below(count);
        let first = *addresses.get(one)?;
        if count == 1 {
            return Some((first, None));
        }
        let second = *addresses.get((one + 1 + ids.below(count - 1)) % count)?;
        if self.in_flight(second) < self.in_flight(first) {
            return Some((second, Some(first)));
        }
        Some((first, Some(second)))
    }

    fn in_flight(&self, address: EndpointAddress) -> usize {
        self.endpoints.borrow().get(&address).map_or(0, |endpoint| endpoint.in_flight.get())
    }

    /// Those that are not ejected, and of those that come back a part. At least half of all.
    fn sound(&self, addresses: &[EndpointAddress], ids: &Ids) -> Vec<EndpointAddress> {
        let (endpoints, now) = (self.endpoints.borrow(), Instant::now());
        let (mut sound, mut ejected) = (Vec::with_capacity(addresses.len()), Vec::new());
        for address in addresses {
            let health = endpoints.get(address).map(|endpoint| &endpoint.health);
            let share = health.map_or(1, |health| health.share(now));
            if let Some(until) = health.and_then(|health| health.ejected_until(now)) {
                ejected.push((until, *address));
            } else if ids.number().is_multiple_of(share) {
                sound.push(*address);
            } else {
                // Before the ejected: it is better than any of them.
                ejected.push((now, *address));
            }
        }
        // Who is back first is asked first, if too many are away.
        ejected.sort_unstable();
        let missing = addresses.len().div_ceil(2).saturating_sub(sound.len());
        sound.extend(ejected.into_iter().take(missing).map(|(_, address)| address));
        sound
    }

    /// Remembers how it went with an endpoint.
    pub(super) fn note(&self, endpoint: &Endpoint, ended: Result<(), &UpstreamError>) {
        let failed = match ended {
            Ok(()) => return endpoint.health.succeeded(),
            Err(error) => error.speaks_against_endpoint(),
        };
        if !failed {
            return;
        }
        if let Some(time) = endpoint.health.failed(Instant::now()) {
            self.ejected.set(self.ejected.get() + 1);
            self.counts.upstream_ejections.add();
            tracing::warn!(
                upstream.addr = %endpoint.address,
                duration_ms = time.as_millis(),
                "Endpoint left alone for a while"
            );
        }
    }
}
