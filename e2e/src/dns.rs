//! A DNS server over UDP that answers what a test tells it (RFC 1035 section 4).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Types and class of records.
const A: u16 = 1;
const AAAA: u16 = 28;
const IN: u16 = 1;

/// A name that says where it was in the message: at the beginning of the question.
const SAME_NAME: [u8; 2] = [0xc0, 12];

/// A server. Dropping it closes its port.
#[derive(Debug)]
pub struct Dns {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Zone {
    /// Addresses and seconds to live; what is not in here does not exist.
    names: BTreeMap<String, (Vec<IpAddr>, u32)>,
    /// How often each name was asked for, per type.
    asked: BTreeMap<String, u64>,
}

impl Dns {
    /// Starts a server that knows nothing.
    ///
    /// # Errors
    /// The address can't be bound.
    pub async fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind(address).await?;
        let address = socket.local_addr()?;
        let zone = Arc::default();
        let task = tokio::spawn(serve(socket, Arc::clone(&zone)));
        Ok(Self { address, zone, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on a name has these addresses.
    pub fn set(&self, name: &str, addresses: impl IntoIterator<Item = IpAddr>, seconds: u32) {
        let addresses = addresses.into_iter().collect();
        lock(&self.zone).names.insert(name.to_owned(), (addresses, seconds));
    }

    /// From now on a name does not exist.
    pub fn remove(&self, name: &str) {
        lock(&self.zone).names.remove(name);
    }

    /// How many questions there were for a name.
    pub fn asked(&self, name: &str) -> u64 {
        lock(&self.zone).asked.get(name).copied().unwrap_or_default()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(zone: &Mutex<Zone>) -> std::sync::MutexGuard<'_, Zone> {
    zone.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0; 1_500];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let question = buffer.get(..length).and_then(|message| answer(message, &zone));
        if let Some(answer) = question {
            // Who does not hear it asks again.
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

/// The answer to a message with one question; none to anything else.
fn answer(message: &[u8], zone: &Mutex<Zone>) -> Option<Vec<u8>> {
    let (id, rest) = (message.get(..2)?, message.get(12..)?);
    let (name, length) = name(rest)?;
    let question = rest.get(..length.checked_add(4)?)?;
    let kind = u16::from_be_bytes(question.get(length..length + 2)?.try_into().ok()?);
    let mut zone = lock(zone);
    *zone.asked.entry(name.clone()).or_default() += 1;
    let known = zone.names.get(&name);
    let (addresses, seconds) = known.cloned().unwrap_or_default();
    let octets = addresses.into_iter().filter_map(|address| match (address, kind) {
        (IpAddr::V4(address), A) => Some(address.octets().to_vec()),
        (IpAddr::V6(address), AAAA) => Some(address.octets().to_vec()),
        (IpAddr::V4(_) | IpAddr::V6(_), _) => None,
    });
    let records: Vec<_> = octets.collect();
    // An answer, with recursion desired and available; 3 says that there is no such name.
    let code = if known.is_some() { 0 } else { 3 };
    let count = u16::try_from(records.len()).ok()?;
    let mut answer = [id, &[0x85, 0x80 | code, 0, 1]].concat();
    answer.extend(count.to_be_bytes());
    answer.extend([0; 4]);
    answer.extend(question);
    for octets in records {
        answer.extend(SAME_NAME);
        answer.extend(kind.to_be_bytes());
        answer.extend(IN.to_be_bytes());
        answer.extend(seconds.to_be_bytes());
        answer.extend(u16::try_from(octets.len()).ok()?.to_be_bytes());
        answer.extend(octets);
    }
    Some(answer)
}

/// A name in lower case and without a final dot, and how many bytes it takes.
fn name(mut bytes: &[u8]) -> Option<(String, usize)> {
    let (mut labels, mut taken) = (Vec::new(), 0);
    loop {
        let (&length, rest) = bytes.split_first()?;
        let length = usize::from(length);
        taken += length + 1;
        if length == 0 {
            return Some((labels.join("."), taken));
        }
        let (label, rest) = rest.split_at_checked(length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        bytes = rest;
    }
}
