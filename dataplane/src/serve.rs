//! One connection of a client: which protocol it speaks, how long it may wait, how it ends.

mod announced;
mod cork;
mod single;
mod stream;

use std::{
    cell::Cell,
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use decision::{
    address::canonical,
    canonical::{Connection, Scheme},
    certificate::{ClientCertificate, Shown},
    client::Remote,
    host::Host,
};
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::Service};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{ServerConnection, server::Acceptor};
use tokio::{net::TcpStream, time::sleep_until};
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor, server::TlsStream};

use self::{
    cork::{Cork, Corked},
    stream::{Stream, tell_protocol},
};
use crate::{
    download::ResponseBody,
    executor::LocalExecutor,
    frames::{cause, is_exhausted},
    handle::{Handled, handle},
    headers::Peer,
    metrics::Rejected,
    origin::Origin,
    progress::{Close, Due, InFlight, Progress},
    tls::Manners,
    wire::{READ_BYTES, Wire},
    worker::{Guest, Worker},
};

/// How far an HTTP/2 client may send ahead on one stream, in bytes,
const STREAM_WINDOW: u32 = 128 * 1024;
/// and on all. Half of it is also what h2 allows for small frames that an endpoint does not take, each
/// counted as 256 bytes, before it ends the connection: a stream full of messages of 30 bytes.
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;

/// How long a client may go on sending what we no longer read, to get at our answer.
const LINGER: Duration = Duration::from_secs(2);

/// Serves a connection until it ends.
pub(crate) async fn serve(
    guest: Guest,
    mut socket: TcpStream,
    peer: SocketAddr,
    tls: Option<Manners>,
) {
    guest.listen().await;
    let Guest { worker, progress } = &guest;
    // Without it small responses wait for acknowledgements; a socket that cannot is broken anyway.
    let _ = socket.set_nodelay(true);
    let served = async {
        let remote = remote(worker, &mut socket, peer, progress).await?;
        match tls {
            None => serve_plain(worker, socket, remote, progress).await,
            Some(tls) => serve_tls(worker, socket, remote, progress, tls).await,
        }
    };
    let ended = match served.await {
        Err(Close::Rejected(rejected)) => Some(rejected),
        Err(Close::Rested) | Ok(()) => None,
    };
    if let Some(rejected) = progress.cut_for().or(ended) {
        worker.record.counts.rejected(rejected);
    }
}

/// Who is at the other end. A trusted proxy says so first, if that was agreed on; from anybody else
/// its words would be garbage.
async fn remote(
    worker: &Rc<Worker>,
    socket: &mut TcpStream,
    peer: SocketAddr,
    progress: &Rc<Progress>,
) -> Result<Remote, Close> {
    let source = &worker.settings.address_source;
    if !source.proxy_protocol || !source.trusted_proxies.contains(canonical(peer.ip())) {
        return Ok(Remote::Socket(peer));
    }
    // Boxed: few installations need it, and every connection would be larger.
    let mut header = Box::pin(announced::read(socket, peer));
    let read = attend(header.as_mut(), |_| (), progress, worker).await?;
    read.map_err(|_| Close::Rejected(Rejected::ProxyHeader))
}

async fn serve_plain(
    worker: &Rc<Worker>,
    socket: TcpStream,
    remote: Remote,
    progress: &Rc<Progress>,
) -> Result<(), Close> {
    let told = attend(pin!(tell_protocol(&socket)), |_| (), progress, worker).await?;
    let Ok((ahead, multiplexed)) = told else { return Ok(()) };
    if ahead.is_empty() {
        return Ok(());
    }
    progress.bytes_arrived();
    let connection =
        Connection { remote, scheme: Scheme::Http, sni: None, certificate: Shown::NotAsked };
    let stream = Stream::plain(socket, ahead, Rc::clone(progress));
    converse(worker, stream, connection, progress, multiplexed).await
}

async fn serve_tls(
    worker: &Rc<Worker>,
    socket: TcpStream,
    remote: Remote,
    progress: &Rc<Progress>,
    tls: Manners,
) -> Result<(), Close> {
    progress.handshake_began();
    let mut handshake = Box::pin(greet(worker, Wire(socket), tls));
    let ended = attend(handshake.as_mut(), |_| (), progress, worker).await?;
    let (socket, was_asked) = ended.map_err(|_| Close::Rejected(Rejected::Tls))?;
    progress.handshake_ended();
    let (_, session) = socket.get_ref();
    let multiplexed = session.alpn_protocol() == Some(b"h2");
    let sni = session.server_name().and_then(|name| Host::parse(name).ok());
    let certificate = if was_asked { shown(session) } else { Shown::NotAsked };
    let connection = Connection { remote, scheme: Scheme::Https, sni, certificate };
    let stream = Stream::tls(socket, Rc::clone(progress));
    converse(worker, stream, connection, progress, multiplexed).await
}

/// The handshake, and whether it asked for a certificate: only clients of hosts with a rule on
/// certificates are asked. Where there is no such host nobody looks for the name first.
async fn greet(
    worker: &Rc<Worker>,
    socket: Wire,
    tls: Manners,
) -> io::Result<(TlsStream<Wire>, bool)> {
    if !worker.snapshot.with(|snapshot| snapshot.routes.asks_for_certificates()) {
        return Ok((TlsAcceptor::from(tls.silent).accept(socket).await?, false));
    }
    let greeting = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
    let host = greeting.client_hello().server_name().map(Host::parse).transpose();
    // What is no host gets no certificate either.
    let asks = worker.snapshot.with(|snapshot| {
        let host = host.as_ref().ok().and_then(Option::as_ref);
        !snapshot.routes.certificate_authorities(host).is_empty()
    });
    let config = if asks { tls.asking } else { tls.silent };
    Ok((greeting.into_stream(config).await?, asks))
}

fn shown(session: &ServerConnection) -> Shown {
    match session.peer_certificates() {
        Some(chain) if !chain.is_empty() => {
            let chain = chain.iter().map(|certificate| certificate.clone().into_owned());
            Shown::Certificate(Rc::new(ClientCertificate::new(chain)))
        }
        Some(_) | None => Shown::Nothing,
    }
}

/// Speaks HTTP on a connection.
async fn converse(
    worker: &Rc<Worker>,
    stream: Stream,
    connection: Connection,
    progress: &Rc<Progress>,
    multiplexed: bool,
) -> Result<(), Close> {
    let peer = Peer::new(connection.remote.address());
    let (tls, progress, tunnel) = (stream.tls_version(), Rc::clone(progress), Cell::new(None));
    let origin = Rc::new(Origin { connection, peer, tls, progress, tunnel });
    let progress = &origin.progress;
    if !multiplexed {
        return single::serve(worker, stream, &origin).await;
    }
    progress.becomes_multiplexed();
    let requests = Requests { worker: Rc::clone(worker), origin: Rc::clone(&origin) };
    let (executor, cork) = (LocalExecutor(worker.tasks.clone()), Cork::new(stream));
    let connection = http2(worker, executor).serve_connection(TokioIo::new(cork.clone()), requests);
    let mut connection = Corked::new(connection, cork);
    let ended = attend(Pin::new(&mut connection), say_farewell, progress, worker).await?;
    ended.map_err(|error| rejected(&error))
}

/// HTTP/2 as it is served.
type Multiplexed = http2::Connection<TokioIo<Cork<Stream>>, Requests, LocalExecutor>;

fn say_farewell(mut connection: Pin<&mut Corked<Multiplexed, Stream>>) {
    connection.connection().graceful_shutdown();
}

fn http2(worker: &Worker, executor: LocalExecutor) -> http2::Builder<LocalExecutor> {
    let limits = &worker.settings.limits;
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams.get())
        .max_header_list_size(limits.header_bytes)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(READ_BYTES)
        .enable_connect_protocol();
    builder
}

/// Hands each request of a connection to [`handle`].
struct Requests {
    worker: Rc<Worker>,
    origin: Rc<Origin>,
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Handled;

    fn call(&self, request: Request<Incoming>) -> Handled {
        let Self { worker, origin } = self;
        let flight = InFlight::new(&origin.progress, &worker.record.counts);
        handle(worker, origin, flight, request)
    }
}

/// Runs something on a connection beside the connection's one timer. `farewell` asks it to end once
/// its requests are served.
async fn attend<F: Future>(
    mut future: Pin<&mut F>,
    farewell: impl Fn(Pin<&mut F>),
    progress: &Progress,
    worker: &Worker,
) -> Result<F::Output, Close> {
    let limits = &worker.settings.limits;
    let mut timer = pin!(sleep_until(progress.deadline(limits)));
    std::future::poll_fn(|context| {
        loop {
            if let Poll::Ready(ended) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(ended));
            }
            match progress.due(limits) {
                Due::Farewell => farewell(future.as_mut()),
                Due::Close(close) => return Poll::Ready(Err(close)),
                Due::Nothing(deadline) => {
                    if deadline < timer.deadline() || timer.is_elapsed() {
                        timer.as_mut().reset(deadline);
                    }
                    std::task::ready!(timer.as_mut().poll(context));
                }
            }
        }
    })
    .await
}

/// What hyper refused by itself. Connections that clients broke off are nobody's concern.
fn rejected(error: &hyper::Error) -> Close {
    if error.is_parse_too_large() {
        return Close::Rejected(Rejected::HeadersTooLarge);
    }
    if cause(error).is_some_and(is_exhausted) {
        return Close::Rejected(Rejected::Flood);
    }
    if error.is_parse() { Close::Rejected(Rejected::Malformed) } else { Close::Rested }
}
