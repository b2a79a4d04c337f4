//! Bytes that are no request, on every port that the program has.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::client::connect;
use e2e::manifests::Ingress;
use e2e::{Client, Protocol, raw};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::world::{SILENCE, Shop, upstream_of};

/// So long is waited for what comes back; most of it never ends by itself.
const PATIENCE: Duration = Duration::from_millis(300);

/// How many lots of random bytes each port gets, and how long each is.
const RANDOM: [usize; 6] = [1, 5, 64, 500, 5_000, 100_000];

/// What is no request, not a whole one, or one that nobody can obey.
const BROKEN: [&[u8]; 16] = [
    b"",
    b"\r\n",
    b"\0",
    b"GET",
    b"GET / HTTP/1.1\r\nhost: free.garb",
    b"GET / HTTP/9.9\r\nhost: free.garbage.test\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: free.garbage.test\r\ncontent-length: 100\r\n\r\nshort",
    b"POST / HTTP/1.1\r\nhost: free.garbage.test\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x05\x01\x05\0\0\0\x01\xff\xff\xff\xff\xff",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a b\r\nhost:\r\n\r\n",
    b"GET /%00/%2e%2e/%zz HTTP/1.1\r\nhost: free.garbage.test\r\n\r\n",
    b"\xff\xfe / HTTP/1.1\r\nhost: free.garbage.test\r\n\r\n",
    b"\x16\x03\x01\xff\xff\x01\0\xff\xff\xff",
    b"\x15\x03\x03\0\x02\x02\x28",
];

/// Longer than any limit of a head.
const HEAD: usize = 1 << 20;

pub(crate) async fn garbage_on_any_port_neither_ends_nor_blocks_the_program() -> anyhow::Result<()>
{
    let _noise = SILENCE.read().await;
    let shop = Shop::open("garbage", 19).await?;
    let whygate = &shop.world.whygate;
    let certificate = shop.world.authority.server(&[&shop.host])?;
    let ingress = Ingress {
        namespace: shop.namespace,
        name: "web",
        host: &shop.host,
        paths: &[("/", "api")],
        requires: None,
        tls: Some("certificate"),
    };
    let free = shop.ingress_named("free", "free.garbage.test", None);
    let secret = certificate.secret(shop.namespace, "certificate");
    shop.world.apply(&(secret + &ingress.manifest() + &free))?;
    e2e::shop::until(&shop.world.client(shop.address(3))?, "free.garbage.test", "/", (200, ""))
        .await?;
    honest(&shop).await?;

    let ports = [whygate.http()?, whygate.https()?, whygate.admin()?, whygate.inspect()?];
    let before = shop.upstream.requests();
    let seed = RandomState::new();
    let mut senders = JoinSet::new();
    for port in ports {
        for (number, length) in RANDOM.into_iter().enumerate() {
            senders.spawn(send(port, random(&seed, number, length)));
        }
        for bytes in BROKEN {
            senders.spawn(send(port, bytes.to_vec()));
        }
        senders.spawn(send(port, format!("GET /{}", "a".repeat(HEAD)).into_bytes()));
    }
    // Plain text to TLS is among the above; here is TLS to plain text.
    let authority = &shop.world.authority;
    for port in [whygate.http()?, whygate.admin()?, whygate.inspect()?] {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let client = Client::new(port).trusting(authority)?.speaking(protocol);
            ensure!(client.get(&shop.host, "/").await.is_err(), "{port} speaks TLS");
        }
    }
    // Half a request on each port stays open while honest ones are answered.
    let mut open: Vec<TcpStream> = Vec::new();
    for port in ports {
        let mut stream = connect(port, None).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: ").await?;
        open.push(stream);
    }
    honest(&shop).await?;
    while let Some(sent) = senders.join_next().await {
        let (port, bytes, received) = sent??;
        let start: String = String::from_utf8_lossy(&bytes).chars().take(60).collect();
        ensure!(!received.statuses().contains(&200), "{port} took {start:?}: {}", received.text());
    }
    ensure!(shop.upstream.requests() == before + 2, "garbage reached the upstream");
    honest(&shop).await?;
    let output = whygate.output();
    ensure!(!output.contains("panicked"), "{output}");
    Ok(())
}

type Sent = (SocketAddr, Vec<u8>, raw::Received);

async fn send(port: SocketAddr, bytes: Vec<u8>) -> anyhow::Result<Sent> {
    let received = raw::send(port, &bytes, PATIENCE).await;
    let received = received.with_context(|| format!("{port} takes no connection"))?;
    Ok((port, bytes, received))
}

/// Asks each port what it is for, and whether every task and data thread lives.
async fn honest(shop: &Shop) -> anyhow::Result<()> {
    let whygate = &shop.world.whygate;
    let plain = shop.world.client(shop.address(3))?;
    upstream_of(&plain.get("free.garbage.test", "/").await?).context("plain HTTP")?;
    let tls = Client::new(whygate.https()?).trusting(&shop.world.authority)?;
    upstream_of(&tls.from(shop.address(3)).get(&shop.host, "/").await?).context("TLS")?;
    let live = Client::new(whygate.admin()?).get("127.0.0.1", "/livez").await?;
    ensure!(live.status == 200, "not alive: {}", live.text());
    // It answers whom it doesn't know, too: with no.
    let inspected = Client::new(whygate.inspect()?).get("127.0.0.1", "/snapshot").await?;
    ensure!(inspected.status == 401, "{} {}", inspected.status, inspected.text());
    Ok(())
}

/// Bytes that nobody chose.
fn random(seed: &RandomState, number: usize, length: usize) -> Vec<u8> {
    let words = (0..length.div_ceil(8)).map(|word| seed.hash_one((number, word)).to_le_bytes());
    words.flatten().take(length).collect()
}
