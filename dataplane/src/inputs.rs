//! What changes while the process runs: snapshot, endpoints, certificates.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use decision::{endpoint::EndpointAddress, route::ServicePort, snapshot::Snapshot};
use tokio::sync::watch;

use crate::tls::Certificates;

/// The three inputs, each replaced by itself and as a whole.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Routes, policies, subscriptions.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// Where the Services' pods are.
    pub endpoints: watch::Receiver<Arc<EndpointTable>>,
    /// The certificates by host.
    pub certificates: watch::Receiver<Arc<Certificates>>,
}

/// The ready endpoints of every Service port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointTable(pub HashMap<ServicePort, Arc<[EndpointAddress]>>);

/// One thread's own reference to the newest value of an input.
///
/// Reading it touches no reference count that threads share; between two changes it costs one load
/// of the channel's version.
pub(crate) struct Current<T> {
    channel: RefCell<watch::Receiver<Arc<T>>>,
    value: RefCell<Arc<T>>,
}

impl<T> Current<T> {
    pub(crate) fn new(mut channel: watch::Receiver<Arc<T>>) -> Self {
        let value = Arc::clone(&channel.borrow_and_update());
        Self { channel: RefCell::new(channel), value: RefCell::new(value) }
    }

    /// Lets `look` see the newest value; nothing of it can be kept.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        self.refresh();
        look(&self.value.borrow())
    }

    /// Gives an old value up as soon as there is a newer one, even if no request asks. Ends when
    /// the sender is gone. `see` looks at the first value and at each newer one.
    pub(crate) async fn follow(&self, see: impl Fn(&T)) {
        let mut channel = self.channel.borrow().clone();
        loop {
            self.with(&see);
            if channel.changed().await.is_err() {
                return;
            }
        }
    }

    fn refresh(&self) {
        if self.channel.borrow().has_changed().unwrap_or(false) {
            let newest = Arc::clone(&self.channel.borrow_mut().borrow_and_update());
            drop(self.value.replace(newest));
        }
    }
}
