//! A TCP proxy that breaks connections on purpose, to be put between the program and what it
//! depends on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What happens to connections now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Bytes go both ways.
    Pass,
    /// Open connections are cut, new ones refused.
    Refuse,
    /// Open connections stay open and carry nothing; new ones are taken and never answered.
    BlackHole,
}

/// The orders to the proxy's tasks.
#[derive(Debug, Clone, Copy)]
struct Orders {
    fault: Fault,
    /// How often all connections have been cut.
    cuts: u64,
}

/// A proxy for one address. Dropping it cuts everything.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    orders: watch::Sender<Orders>,
    /// What the accept loop has done of the orders; a caller waits for it.
    obeyed: watch::Receiver<Fault>,
    accepted: Arc<AtomicU64>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl FaultProxy {
    /// Starts a proxy at `listen` (port 0: any free one) that leads to `target`, and passes.
    ///
    /// # Errors
    /// `listen` can't be bound.
    pub fn start(listen: SocketAddr, target: SocketAddr) -> anyhow::Result<Self> {
        let listener = bind(listen)?.listen(1024)?;
        let address = listener.local_addr()?;
        let (orders, received) = watch::channel(Orders { fault: Fault::Pass, cuts: 0 });
        let (obey, obeyed) = watch::channel(Fault::Pass);
        let accepted = Arc::new(AtomicU64::new(0));
        let acceptor =
            Acceptor { address, target, orders: received, obey, accepted: Arc::clone(&accepted) };
        let task = tokio::spawn(acceptor.run(listener));
        Ok(Self { address, orders, obeyed, accepted, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has taken so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Lets bytes through again. What a black hole held back is delivered.
    ///
    /// # Errors
    /// The proxy lost its port meanwhile.
    pub async fn pass(&mut self) -> anyhow::Result<()> {
        self.order(Fault::Pass).await
    }

    /// Cuts open connections and refuses new ones, as if nobody listened.
    ///
    /// # Errors
    /// The proxy lost its port meanwhile.
    pub async fn refuse(&mut self) -> anyhow::Result<()> {
        self.order(Fault::Refuse).await
    }

    /// Keeps connections open and lets nothing through.
    ///
    /// # Errors
    /// The proxy lost its port meanwhile.
    pub async fn black_hole(&mut self) -> anyhow::Result<()> {
        self.order(Fault::BlackHole).await
    }

    /// Cuts the connections that are open now; new ones are treated as before.
    pub fn cut(&self) {
        self.orders.send_modify(|orders| orders.cuts += 1);
    }

    async fn order(&mut self, fault: Fault) -> anyhow::Result<()> {
        self.orders.send_modify(|orders| orders.fault = fault);
        if self.obeyed.wait_for(|obeyed| *obeyed == fault).await.is_err() {
            (&mut self.task).await?.context("the fault proxy has ended")?;
        }
        Ok(())
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        // The connections' tasks belong to the accept loop's set and end with it.
        self.task.abort();
    }
}

/// A socket that is bound and doesn't listen yet: connections to it are refused, and nobody else
/// can have its port.
fn bind(address: SocketAddr) -> anyhow::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address).with_context(|| format!("cannot listen at {address}"))?;
    Ok(socket)
}

struct Acceptor {
    address: SocketAddr,
    target: SocketAddr,
    orders: watch::Receiver<Orders>,
    obey: watch::Sender<Fault>,
    accepted: Arc<AtomicU64>,
}

impl Acceptor {
    async fn run(mut self, mut listener: TcpListener) -> anyhow::Result<()> {
        let mut connections = JoinSet::new();
        loop {
            self.accept(&listener, &mut connections).await?;
            drop(listener);
            let closed = bind(self.address)?;
            self.obey.send_replace(Fault::Refuse);
            self.orders.wait_for(|orders| orders.fault != Fault::Refuse).await?;
            listener = closed.listen(1024)?;
        }
    }

    /// Takes connections until they are to be refused.
    async fn accept(
        &mut self,
        listener: &TcpListener,
        connections: &mut JoinSet<()>,
    ) -> anyhow::Result<()> {
        loop {
            let fault = self.orders.borrow_and_update().fault;
            if fault == Fault::Refuse {
                return Ok(());
            }
            self.obey.send_replace(fault);
            tokio::select! {
                changed = self.orders.changed() => changed?,
                accepted = listener.accept() => {
                    let (stream, _) = accepted?;
                    self.accepted.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(relay(stream, self.target, self.orders.clone()));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// Carries one connection until a side closes it or it is cut.
async fn relay(client: TcpStream, target: SocketAddr, mut orders: watch::Receiver<Orders>) {
    let cuts = orders.borrow().cuts;
    let gate = orders.clone();
    let carried = async {
        open(&mut gate.clone()).await?;
        let (from_server, to_server) = TcpStream::connect(target).await?.into_split();
        let (from_client, to_client) = client.into_split();
        tokio::try_join!(
            pump(from_client, to_server, gate.clone()),
            pump(from_server, to_client, gate.clone()),
        )?;
        anyhow::Ok(())
    };
    tokio::select! {
        // How a connection ends is the business of its two ends.
        _ = carried => {}
        _ = orders.wait_for(|now| now.cuts != cuts || now.fault == Fault::Refuse) => {}
    }
}

/// Carries one direction. What has been read waits here while the gate is closed.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut gate: watch::Receiver<Orders>,
) -> anyhow::Result<()> {
    let mut buffer = Vec::with_capacity(64 * 1024);
    loop {
        let read = from.read_buf(&mut buffer).await?;
        open(&mut gate).await?;
        if read == 0 {
            to.shutdown().await?;
            return Ok(());
        }
        to.write_all(&buffer).await?;
        buffer.clear();
    }
}

/// Waits until bytes may pass.
async fn open(gate: &mut watch::Receiver<Orders>) -> anyhow::Result<()> {
    gate.wait_for(|orders| orders.fault == Fault::Pass).await?;
    Ok(())
}
