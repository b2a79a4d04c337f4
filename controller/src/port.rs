//! Small HTTP ports for people, probes and scrapers: few connections, none of them for long, and
//! whoever holds many loses them to whoever comes.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

/// Most connections of a port; a further one closes the oldest.
const CONNECTIONS: usize = 64;
/// Most connections of one address; a further one closes the oldest of that address.
const CONNECTIONS_OF_PEER: usize = 8;
/// Longest time until a request's head is whole, from the beginning of the connection or from the
/// response before.
const HEAD: Duration = Duration::from_secs(5);
/// Longest life of a connection. Scrapers open a new one then.
const LIFE: Duration = Duration::from_mins(1);
/// Pause after a connection could not be accepted, for want of file descriptors mostly.
const PAUSE: Duration = Duration::from_millis(200);

/// Answers on a port, for ever. Nobody waits for a place: a probe that waited would be taken for one
/// that failed.
///
/// # Errors
/// Never.
pub(crate) async fn serve(listener: Arc<TcpListener>, router: Router) -> Result<(), Infallible> {
    // They end with this call.
    let mut connections = JoinSet::new();
    let mut places = Places::default();
    loop {
        let (stream, peer) = accept(&listener).await;
        while connections.try_join_next().is_some() {}
        let task = connections.spawn(answer(stream, router.clone()));
        places.take(Place { peer: peer.ip().to_canonical(), task });
    }
}

/// The next connection.
pub(crate) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn answer(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // Whoever asked knows best how it ended.
    let _ = timeout(LIFE, connection).await;
}

/// The connections there are, the oldest first.
#[derive(Default)]
struct Places(VecDeque<Place>);

struct Place {
    peer: IpAddr,
    task: AbortHandle,
}

impl Places {
    fn take(&mut self, place: Place) {
        self.0.retain(|place| !place.task.is_finished());
        let of_peer = |other: &Place| other.peer == place.peer;
        if self.0.iter().filter(|other| of_peer(other)).count() >= CONNECTIONS_OF_PEER {
            let oldest = self.0.iter().position(of_peer);
            self.close(oldest);
        }
        if self.0.len() >= CONNECTIONS {
            self.close(Some(0));
        }
        self.0.push_back(place);
    }

    fn close(&mut self, index: Option<usize>) {
        if let Some(place) = index.and_then(|index| self.0.remove(index)) {
            place.task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpSocket,
        time::Instant,
    };

    use super::*;

    async fn open() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/livez", get(async || "alive"));
        tokio::spawn(serve(Arc::new(listener), router));
        address
    }

    /// A connection from a loopback address.
    async fn from(last: u8, port: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into()).unwrap();
        socket.connect(port).await.unwrap()
    }

    /// What is answered until the connection is closed.
    async fn ask(mut stream: TcpStream) -> String {
        let mut answer = String::new();
        stream.write_all(b"GET /livez HTTP/1.0\r\n\r\n").await.unwrap();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn probes_are_answered_at_once_whoever_holds_connections() {
        let port = open().await;
        let mut silent = Vec::new();
        for _ in 0..200 {
            silent.push(from(9, port).await);
        }
        for last in 100..164 {
            silent.push(from(last, port).await);
        }
        let answer = timeout(HEAD / 2, ask(from(1, port).await)).await.expect("no answer in time");
        assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with("alive"), "{answer}");
    }

    #[tokio::test]
    async fn an_address_that_holds_too_many_connections_loses_its_own_oldest() {
        let port = open().await;
        let other = from(2, port).await;
        let mut greedy = Vec::new();
        for _ in 0..=CONNECTIONS_OF_PEER {
            greedy.push(from(3, port).await);
        }
        let mut oldest = greedy.remove(0);
        let read = timeout(HEAD / 2, oldest.read(&mut [0])).await.expect("it is still open");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        for stream in [other].into_iter().chain(greedy) {
            assert!(ask(stream).await.ends_with("alive"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_sends_no_whole_request_is_closed_soon() {
        let port = open().await;
        for sent in ["", "GET /livez HTTP/1.1\r\nhost: a\r\n"] {
            let begun = Instant::now();
            let mut stream = from(1, port).await;
            stream.write_all(sent.as_bytes()).await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
            let life = begun.elapsed();
            assert!((HEAD..LIFE / 2).contains(&life), "after {life:?}, sent {sent:?}");
        }
    }
}
