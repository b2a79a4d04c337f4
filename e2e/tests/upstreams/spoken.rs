//! How the other side is spoken to: switched protocols, gRPC, TLS.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use e2e::client::{code, empty, full, request};
use e2e::manifests::{backend, namespace};
use e2e::{Authority, Client, Protocol, Whygate, eventually};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::LONG;

const HOST: &str = "shop.test";

/// A route to Service `shop/web`, with these annotations.
fn write(
    folder: &Path,
    upstream: SocketAddr,
    annotations: &[(&str, &str)],
    more: &str,
) -> anyhow::Result<()> {
    let annotations: serde_json::Map<_, _> =
        annotations.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": { "name": "web", "namespace": "shop", "annotations": annotations },
        "spec": {
            "ingressClassName": "whygate",
            "rules": [{ "host": HOST, "http": { "paths": [{
                "path": "/",
                "pathType": "Prefix",
                "backend": { "service": { "name": "web", "port": { "number": 80 } } },
            }] } }],
        },
    });
    let text = namespace("shop") + &backend("shop", "web", upstream);
    fs::write(folder.join("shop.yaml"), format!("{text}---\n{ingress}\n{more}"))?;
    Ok(())
}

/// The bytes up to the end of a head.
async fn head(stream: &mut TcpStream) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(bytes)?)
}

pub(crate) async fn a_websocket_goes_through_both_ways() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let folder = tempfile::tempdir()?;
    write(folder.path(), listener.local_addr()?, &[], "")?;
    let mut echo = JoinSet::new();
    echo.spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let asked = head(&mut stream).await?;
        let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        stream.write_all(answer.as_bytes()).await?;
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut reader, &mut writer).await?;
        anyhow::Ok(asked)
    });
    let whygate = Whygate::serve(folder.path(), &[]).await?;
    let mut client = TcpStream::connect(whygate.http()?).await?;
    let wish = "GET /chat HTTP/1.1\r\nhost: shop.test\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.write_all(wish.as_bytes()).await?;
    let switched = head(&mut client).await?;
    assert!(switched.starts_with("HTTP/1.1 101 "), "{switched}");
    assert!(switched.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{switched}");
    // A masked text and a binary frame (RFC 6455 section 5.2), whole and in two parts.
    let text = [&[0x81, 0x85, 1, 2, 3, 4][..], &[b'h' ^ 1, b'e' ^ 2, b'l' ^ 3, b'l' ^ 4, b'o' ^ 1]]
        .concat();
    for parts in [text.chunks(text.len()), text.chunks(3)] {
        for part in parts {
            client.write_all(part).await?;
        }
        let mut back = vec![0; text.len()];
        client.read_exact(&mut back).await?;
        assert_eq!(back, text);
    }
    assert_eq!(whygate.metric("whygate_tunnels").await?, 1);
    client.shutdown().await?;
    let asked = echo.join_next().await.unwrap()??;
    assert!(asked.starts_with("GET /chat HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), "{asked}");
    Ok(())
}

/// Serves each connection by HTTP/2 with trailers, as gRPC does.
async fn serve_grpc(listener: TcpListener) {
    let mut open = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let answering = service_fn(async |request: Request<Incoming>| {
            let path = request.uri().path().to_owned();
            let kind = request.headers().get("content-type").cloned();
            let message = request.into_body().collect().await.unwrap().to_bytes();
            let status = if path == "/shop.Orders/Get" { "0" } else { "12" };
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static(status));
            trailers.insert("grpc-message", HeaderValue::from_static("as asked"));
            let body = Full::new(message).with_trailers(async move { Some(Ok(trailers)) });
            let mut response = Response::new(body);
            response.headers_mut().extend(kind.map(|kind| (http::header::CONTENT_TYPE, kind)));
            Ok::<_, Infallible>(response)
        });
        open.spawn(async move {
            let served = http2::Builder::new(TokioExecutor::new());
            drop(served.serve_connection(TokioIo::new(stream), answering).await);
        });
    }
}

pub(crate) async fn a_call_of_grpc_goes_through_with_its_trailers() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let folder = tempfile::tempdir()?;
    write(folder.path(), listener.local_addr()?, &[("whygate.dev/upstream-protocol", "h2c")], "")?;
    let mut upstream = JoinSet::new();
    upstream.spawn(serve_grpc(listener));
    let whygate = Whygate::serve(folder.path(), &[]).await?;
    let client = Client::new(whygate.http()?).speaking(Protocol::Http2);
    // A message of five bytes, not compressed.
    let message = Bytes::from_static(b"\0\0\0\0\x05hello");
    for (path, status) in [("/shop.Orders/Get", "0"), ("/shop.Orders/None", "12")] {
        let call = request(Method::POST, HOST, path)
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let answer = client.send(call.body(full(message.clone()))?).await?;
        assert_eq!((answer.status.as_u16(), &answer.body), (200, &message));
        assert_eq!(answer.header("content-type"), "application/grpc");
        let trailers = answer.trailers.unwrap_or_default();
        let trailer = |name| trailers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        assert_eq!(
            (trailer("grpc-status"), trailer("grpc-message")),
            (Some(status), Some("as asked"))
        );
    }
    // A refusal is a status of gRPC, too.
    let call = request(Method::POST, "nobody.test", "/shop.Orders/Get");
    let call = call.header("content-type", "application/grpc").header("te", "trailers");
    let refused = client.send(call.body(empty())?).await?;
    assert_eq!(
        (refused.status.as_u16(), refused.header("whygate-denial-code")),
        (200, "RouteNotFound")
    );
    assert_eq!(refused.header("grpc-status"), "12");
    Ok(())
}

/// Serves each connection over TLS and says hello.
async fn serve_tls(listener: TcpListener, acceptor: TlsAcceptor) {
    let mut open = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        open.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let name = stream.get_ref().1.server_name().unwrap_or_default().to_owned();
            let answering = service_fn(move |_: Request<Incoming>| {
                let name = name.clone();
                async move { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(name))) }
            });
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), answering).await);
        });
    }
}

/// An object that holds an authority.
fn held(kind: &str, data: &str, pem: &str) -> String {
    let object = json!({
        "apiVersion": "v1",
        "kind": kind,
        "metadata": { "name": "trusted", "namespace": "shop", "labels": { "whygate.dev/use": "ca" } },
        data: { "ca.crt": pem },
    });
    format!("---\n{object}\n")
}

pub(crate) async fn an_upstream_over_tls_is_verified_by_the_authorities_of_its_ingress()
-> anyhow::Result<()> {
    let (authority, other) = (Authority::new("upstreams")?, Authority::new("somebody else")?);
    let (chain, key) = authority.server(&["web.shop.svc"])?.decoded()?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let mut upstream = JoinSet::new();
    upstream.spawn(serve_tls(listener, TlsAcceptor::from(Arc::new(config))));

    let folder = tempfile::tempdir()?;
    let protocol = ("whygate.dev/upstream-protocol", "https");
    let trusting = |kind: &'static str| [protocol, ("whygate.dev/upstream-ca", kind)];
    let (secret, config_map) = (trusting("secret/trusted"), trusting("configmap/trusted"));
    write(folder.path(), address, &secret, &held("Secret", "stringData", &authority.pem()))?;
    let whygate = Whygate::serve(folder.path(), &[]).await?;
    let client = Client::new(whygate.http()?);
    let becomes = async |status: u16, expected: &str| {
        eventually(LONG, &format!("{status} {expected}"), async || {
            let answer = client.get(HOST, "/").await?;
            let text = if status == 200 { answer.text() } else { code(&answer).1.to_owned() };
            let found = (answer.status.as_u16(), text);
            anyhow::ensure!(found == (status, expected.to_owned()), "{found:?}");
            Ok(())
        })
        .await
    };
    becomes(200, "web.shop.svc").await?;

    write(folder.path(), address, &config_map, &held("ConfigMap", "data", &other.pem()))?;
    becomes(502, "UpstreamConnectFailed").await?;
    whygate.line(LONG, "is not trusted as `web.shop.svc` over TLS").await?;

    write(folder.path(), address, &config_map, &held("ConfigMap", "data", &authority.pem()))?;
    becomes(200, "web.shop.svc").await?;

    let leaf = authority.server(&["web.shop.svc"])?.certificate;
    write(folder.path(), address, &config_map, &held("ConfigMap", "data", &leaf))?;
    becomes(503, "RouteInvalid").await?;
    let finding = whygate.line(LONG, "is not one of an authority").await?;
    assert!(finding.contains("ConfigMap shop/trusted: certificate 1 of `ca.crt`"), "{finding}");

    // The authorities of the machine do not know it.
    write(folder.path(), address, &[protocol], "")?;
    becomes(502, "UpstreamConnectFailed").await
}
