//! A hostile client tries to reach a protected path unjudged: by spelling it, and by framing it.
//!
//! Whatever it sends, the upstream sees no request for the path in any reading, every request that
//! it sees has a permit, and every byte that it gets is strict HTTP/1.1.

mod framings;
mod spellings;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::strict::SEEN;
use e2e::{Client, Protocol, StrictUpstream, Whygate, eventually, raw};
use tokio::task::JoinSet;

use crate::framings::Framing;
use crate::spellings::{ODD, SPELLINGS, escapes, reads_as_protected};

/// How long a connection may be silent before a variant counts as answered.
const PATIENCE: Duration = Duration::from_millis(300);

/// How the upstream calls a request whose body ends before its framing says so.
const BROKEN_OFF: &str = "the connection ended within a body";

/// How long nothing more may come before a framing counts as answered.
const QUIET: Duration = Duration::from_millis(50);

/// How many framings are tried at once.
const LANES: usize = 8;

/// How long what a client broke off may take to end everywhere.
const SETTLED: Duration = Duration::from_secs(10);

/// The host is open but for `/admin` and [`ODD`], which admit a network that no test comes from.
const MANIFESTS: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: web, namespace: shop }
spec:
  ingressClassName: whygate
  rules:
  - host: api.example.com
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: api, port: { number: 80 } } } }] }
---
apiVersion: v1
kind: Service
metadata: { name: api, namespace: shop }
spec: { ports: [{ port: 80 }] }
---
apiVersion: whygate.dev/v1alpha1
kind: AccessPolicy
metadata: { name: admins, namespace: shop }
spec:
  targetRefs: [{ group: networking.k8s.io, kind: Ingress, name: web, paths: [/admin, ODD] }]
  require: [{ name: nobody-here, ip: { cidrs: [203.0.113.0/24] } }]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: api, namespace: shop, labels: { kubernetes.io/service-name: api } }
addressType: IPv4
endpoints: [{ addresses: [127.0.0.1] }]
ports: [{ name: '', port: PORT }]
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_spelling_of_a_protected_path_reaches_the_upstream() -> anyhow::Result<()> {
    let line = Line::start(0).await?;
    for spelling in SPELLINGS {
        line.attack(&format!(
            "GET {spelling} HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n"
        ))
        .await?;
    }
    line.check_nothing_got_through().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_escape_in_a_protected_path_leads_around_its_policy() -> anyhow::Result<()> {
    let line = Line::start(0).await?;
    let over_http2 = Client::new(line.whygate.http()?).speaking(Protocol::Http2);
    for path in escapes(ODD) {
        for target in [path.clone(), format!("{path}/secret"), format!("/x/..{path}?q")] {
            for form in ["", "http://api.example.com"] {
                let request = format!(
                    "GET {form}{target} HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n"
                );
                let received =
                    raw::send(line.whygate.http()?, request.as_bytes(), PATIENCE).await?;
                ensure!(received.statuses() == [403], "{request}{}", received.text());
            }
            let status = over_http2.get("api.example.com", &target).await?.status;
            ensure!(status == 403, "HTTP/2 {target}: {status}");
        }
    }
    line.check_nothing_got_through().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_framing_smuggles_a_request_past_its_judgement() -> anyhow::Result<()> {
    let framings = framings::all();
    ensure!(framings.len() >= 800, "only {} framings", framings.len());
    let count = |end| framings.iter().map(|framing| framing.count(end)).sum::<u64>();
    let (whole, cut) = (count("200") + framings.len() as u64, count("cut"));
    let line = Arc::new(Line::start(cut).await?);
    let framings = Arc::new(framings);
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let (line, framings) = (Arc::clone(&line), Arc::clone(&framings));
        lanes.spawn(async move {
            let mut wrong = Vec::new();
            for (number, framing) in framings.iter().enumerate().skip(lane).step_by(LANES) {
                wrong.extend(line.try_framing(framing, number).await?);
            }
            anyhow::Ok(wrong)
        });
    }
    let mut wrong = Vec::new();
    while let Some(lane) = lanes.join_next().await {
        wrong.extend(lane??);
    }
    ensure!(
        wrong.is_empty(),
        "{} of {} framings:\n{}",
        wrong.len(),
        framings.len(),
        wrong.join("\n")
    );
    line.check_nothing_got_through().await?;
    // One request more is from the start.
    let seen = line.upstream.requests().len() as u64;
    ensure!(seen == whole + 1, "the upstream saw {seen} requests, not {whole} and one");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_encoding_other_than_chunked_is_refused_by_name() -> anyhow::Result<()> {
    let line = Line::start(0).await?;
    let request = "POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n";
    let received = raw::send(line.whygate.http()?, request.as_bytes(), PATIENCE).await?;
    ensure!(received.statuses() == [501], "{}", received.text());
    ensure!(
        received.text().contains("whygate-denial-code: EncodingNotSupported"),
        "{}",
        received.text()
    );
    Ok(())
}

/// The proxy and a strict upstream behind it.
struct Line {
    whygate: Whygate,
    upstream: StrictUpstream,
    /// How many requests the attacks begin and never finish.
    broken_off: u64,
    _folder: tempfile::TempDir,
}

impl Line {
    async fn start(broken_off: u64) -> anyhow::Result<Self> {
        let upstream = StrictUpstream::start(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let folder = tempfile::tempdir()?;
        let manifests = MANIFESTS.replace("PORT", &upstream.address().port().to_string());
        let manifests = manifests.replace("ODD", &format!("\"{ODD}\""));
        std::fs::write(folder.path().join("line.yaml"), manifests)?;
        let whygate = Whygate::serve(folder.path(), &["--threads", "1"]).await?;
        let line = Self { whygate, upstream, broken_off, _folder: folder };
        line.check_open_and_closed().await?;
        Ok(line)
    }

    /// The line works at all: an honest request passes, one for the protected path does not.
    async fn check_open_and_closed(&self) -> anyhow::Result<()> {
        let client = Client::new(self.whygate.http()?);
        let open = client.get("api.example.com", "/open").await?;
        ensure!(open.status == 200, "an open path answers {}", open.status);
        let closed = client.get("api.example.com", "/admin/secret").await?;
        ensure!(closed.status == 403, "the protected path answers {}", closed.status);
        let odd = client.get("api.example.com", ODD).await?;
        ensure!(odd.status == 403, "the path of odd characters answers {}", odd.status);
        ensure!(
            self.upstream.requests().len() == 1,
            "the upstream saw something else than the open request"
        );
        Ok(())
    }

    /// Sends a framing, and an honest request behind it, which may go over the same connection to the
    /// upstream. Tells what is wrong with the answers.
    async fn try_framing(&self, framing: &Framing, number: usize) -> anyhow::Result<Vec<String>> {
        let expected = framing.statuses();
        let sent = raw::send_for(self.whygate.http()?, &framing.bytes, expected.len(), QUIET);
        let received = sent.await.with_context(|| framing.name.clone())?;
        let mut wrong = Vec::new();
        if received.statuses() != expected {
            wrong.push(format!(
                "{}: {:?}, not {}",
                framing.name,
                received.statuses(),
                framing.ends
            ));
        }
        let honest = format!("/honest/{number}");
        let answer = Client::new(self.whygate.http()?).get("api.example.com", &honest).await?;
        let seen = answer.headers.get(SEEN).and_then(|seen| seen.to_str().ok());
        if seen != Some(honest.as_str()) {
            wrong.push(format!("{}: behind it came the answer to {seen:?}", framing.name));
        }
        Ok(wrong)
    }

    async fn attack(&self, bytes: &str) -> anyhow::Result<()> {
        raw::send(self.whygate.http()?, bytes.as_bytes(), PATIENCE)
            .await
            .with_context(|| bytes.to_owned())?;
        Ok(())
    }

    /// Every request at the upstream has a permit. A permit without a request at the upstream belongs
    /// to a client that broke its body off: then the upstream's request is never whole, and may not
    /// even begin.
    async fn account(&self) -> anyhow::Result<()> {
        let (cut, violations): (Vec<_>, Vec<_>) =
            self.upstream.violations().into_iter().partition(|violation| violation == BROKEN_OFF);
        ensure!(violations.is_empty(), "not strict HTTP/1.1: {violations:?}");
        let (whole, cut) = (self.upstream.requests().len() as u64, cut.len() as u64);
        let permits = self.whygate.metric("whygate_permits_total").await?;
        let sent = self.whygate.metric("whygate_upstream_requests_total").await?;
        let abandoned = self.whygate.metric("whygate_upstream_abandoned_total").await?;
        ensure!(
            permits == sent + abandoned,
            "{permits} permits, {sent} sent, {abandoned} abandoned"
        );
        ensure!(
            whole + cut <= sent,
            "{sent} sent, but the upstream saw {whole} and {cut} broken off"
        );
        ensure!(
            self.broken_off > 0 || whole == permits,
            "{permits} permits, {whole} requests upstream"
        );
        ensure!(
            permits - whole <= self.broken_off,
            "{permits} permits, {whole} whole requests upstream"
        );
        Ok(())
    }

    async fn check_nothing_got_through(&self) -> anyhow::Result<()> {
        let requests = self.upstream.requests();
        let protected: Vec<_> =
            requests.iter().filter(|request| reads_as_protected(&request.target)).collect();
        ensure!(protected.is_empty(), "reached the upstream unjudged: {protected:?}");
        eventually(SETTLED, "every permit is accounted for", async || self.account().await).await?;
        let host = |value: &str| value == "api.example.com";
        let foreign: Vec<_> = requests
            .iter()
            .filter(|request| {
                !request
                    .headers
                    .iter()
                    .any(|(name, value)| name.eq_ignore_ascii_case("host") && host(value))
            })
            .collect();
        ensure!(foreign.is_empty(), "for another host: {foreign:?}");
        Ok(())
    }
}
