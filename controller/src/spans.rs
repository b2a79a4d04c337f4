//! Spans of finished exchanges, told to a collector by OTLP over HTTP in its JSON encoding
//! (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).
//!
//! A span is made of what the data plane tells anyway once an exchange has ended, so a library that
//! follows a request on its way would only be in the way. The encoding is stable.

mod span;

use std::{io, time::Duration};

use dataplane::AccessReader;
use http::{Request, StatusCode, header};
use http_body::Body;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpStream, runtime, time::timeout};

use self::span::span;
use crate::{
    following::Following,
    settings::{Collector, replica_name},
};

/// Most spans of one message.
const MESSAGE: usize = 512;

/// How long a collector may take for one.
const PATIENCE: Duration = Duration::from_secs(5);

/// Begins to tell.
///
/// # Errors
/// If no thread can be started.
pub(crate) fn follow(collector: Collector, mut reader: AccessReader) -> io::Result<Following> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    Following::start("spans", move || {
        let mut teller = Teller { collector, replica: replica_name(), kept: None, fails: false };
        let (mut spans, mut is_open) = (Vec::new(), true);
        while is_open {
            is_open = reader.read(|access| spans.extend(span(access)));
            for message in spans.chunks(MESSAGE) {
                if !runtime.block_on(teller.tell(message)) {
                    reader.dropped(u64::try_from(message.len()).unwrap_or(u64::MAX));
                }
            }
            spans.clear();
        }
    })
}

/// Why spans were not taken.
#[derive(Debug, thiserror::Error)]
enum TellError {
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Slow,
    #[error("the answer is {0}")]
    Refused(StatusCode),
}

struct Teller {
    collector: Collector,
    replica: String,
    /// The connection of the last message.
    kept: Option<http1::SendRequest<String>>,
    fails: bool,
}

impl Teller {
    /// False if the collector did not take them.
    async fn tell(&mut self, spans: &[Value]) -> bool {
        let message = self.message(spans);
        let told = match self.kept.take() {
            // It may have been closed meanwhile.
            Some(kept) => match self.send(kept, message.clone()).await {
                Err(TellError::Http(_)) => self.send_anew(message).await,
                told => told,
            },
            None => self.send_anew(message).await,
        };
        let collector = &self.collector.authority;
        match &told {
            Err(error) if !self.fails => {
                tracing::warn!(%error, %collector, "Spans are not taken");
            }
            Ok(()) if self.fails => tracing::info!(%collector, "Spans are taken again"),
            Ok(()) | Err(_) => {}
        }
        self.fails = told.is_err();
        told.is_ok()
    }

    fn message(&self, spans: &[Value]) -> String {
        let of = |name: &str, value: &str| json!({"key": name, "value": {"stringValue": value}});
        let resource = [of("service.name", "whygate"), of("service.instance.id", &self.replica)];
        let scope = json!({"name": "whygate", "version": env!("CARGO_PKG_VERSION")});
        json!({"resourceSpans": [{
            "resource": {"attributes": resource},
            "scopeSpans": [{"scope": scope, "spans": spans}],
        }]})
        .to_string()
    }

    async fn send_anew(&mut self, message: String) -> Result<(), TellError> {
        let connecting = timeout(PATIENCE, TcpStream::connect(&*self.collector.authority));
        let socket = connecting.await.map_err(|_| TellError::Slow)??;
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        // How it ends is told to whoever sends the next message.
        drop(tokio::spawn(connection));
        self.send(sender, message).await
    }

    async fn send(
        &mut self,
        mut sender: http1::SendRequest<String>,
        message: String,
    ) -> Result<(), TellError> {
        let mut request = Request::new(message);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.collector.target.clone().into();
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.collector.host.clone());
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        let exchange = async {
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            let status = response.status();
            let read = read_to_end(response.into_body()).await;
            read.map(|()| status)
        };
        let status = timeout(PATIENCE, exchange).await.map_err(|_| TellError::Slow)??;
        if !status.is_success() {
            return Err(TellError::Refused(status));
        }
        self.kept = Some(sender);
        Ok(())
    }
}

/// What a collector has to say is of no use, but the next answer comes behind it.
async fn read_to_end(mut body: Incoming) -> Result<(), hyper::Error> {
    while let Some(frame) =
        std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await
    {
        frame?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    fn teller(address: std::net::SocketAddr) -> Teller {
        let collector = Collector {
            authority: address.to_string(),
            host: header::HeaderValue::try_from(address.to_string()).unwrap(),
            target: http::uri::PathAndQuery::from_static("/v1/traces"),
        };
        Teller { collector, replica: "a".to_owned(), kept: None, fails: false }
    }

    /// Reads one message of a connection and answers.
    async fn answer(stream: &mut TcpStream, status: &str) {
        let mut read = Vec::new();
        while !read.ends_with(b"]}") {
            assert!(stream.read_buf(&mut read).await.unwrap() > 0, "the message is cut off");
        }
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    #[tokio::test]
    async fn a_collector_that_closes_a_kept_connection_gets_the_next_message_on_another() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut teller = teller(listener.local_addr().unwrap());
        let collector = async {
            let (mut first, _) = listener.accept().await.unwrap();
            answer(&mut first, "200 OK").await;
            answer(&mut first, "200 OK").await;
            drop(first);
            let (mut second, _) = listener.accept().await.unwrap();
            answer(&mut second, "200 OK").await;
            answer(&mut second, "503 Service Unavailable").await;
        };
        let told = async {
            let mut told = Vec::new();
            for _ in 0..4 {
                told.push(teller.tell(&[json!({})]).await);
            }
            told
        };
        let ((), told) = tokio::join!(collector, told);
        assert_eq!((told, teller.fails), (vec![true, true, true, false], true));
    }

    #[tokio::test]
    async fn a_collector_that_is_away_is_told_of_as_failing() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let mut teller = teller(gone);
        assert!(!teller.tell(&[json!({})]).await && teller.fails);
    }
}
