//! A hostile client tries to reach a protected path unjudged: by spelling it, and by framing it.
//!
//! Whatever it sends, the upstream sees no request for the path in any reading, every request that
//! it sees has a permit, and every byte that it gets is strict HTTP/1.1.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::{Client, Protocol, StrictUpstream, Whygate, eventually, raw};

/// How long a connection may be silent before a variant counts as answered.
const PATIENCE: Duration = Duration::from_millis(300);

/// How the upstream calls a request whose body ends before its framing says so.
const BROKEN_OFF: &str = "the connection ended within a body";

/// How many of the framings announce a body that never comes whole.
const UNFINISHED: u64 = 7;

/// How long what a client broke off may take to end everywhere.
const SETTLED: Duration = Duration::from_secs(10);

/// A protected path with everything that a path may hold unescaped besides `;`.
const ODD: &str = "/@a:b+c!$&'()*,=-._~z";

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

const SPELLINGS: [&str; 91] = [
    "/admin/secret",
    "/admin",
    "/admin/",
    "//admin/secret",
    "///admin//secret",
    "/./admin/secret",
    "/.//admin/secret",
    "/x/../admin/secret",
    "/x/y/../../admin/secret",
    "/x/.././admin/secret",
    "/x//../admin/secret",
    "/%61dmin/secret",
    "/%61%64%6d%69%6e/secret",
    "/%41/../admin/secret",
    "/adm%69n/secret",
    "/admi%6E/secret",
    "/%2e/admin/secret",
    "/%2E/admin/secret",
    "/x/%2e%2e/admin/secret",
    "/x/%2E%2e/admin/secret",
    "/x/.%2e/admin/secret",
    "/x/%2e./admin/secret",
    "/%2fadmin/secret",
    "/%2Fadmin%2fsecret",
    "/admin%2fsecret",
    "/admin%2Fsecret",
    "/x%2f..%2fadmin/secret",
    "/x/..%2fadmin/secret",
    "/x/%2e%2e%2fadmin/secret",
    "/%5cadmin/secret",
    "/admin%5csecret",
    "/x/..%5cadmin/secret",
    "/\\admin/secret",
    "/admin\\secret",
    "/x\\..\\admin/secret",
    "\\admin/secret",
    "/x/..;/admin/secret",
    "/x/..;a=b/admin/secret",
    "/;/admin/secret",
    "/;a=b/admin/secret",
    "/x/.;/../admin/secret",
    "/admin;/secret",
    "/admin;a=b/secret",
    "/admin;a=b",
    "/x/%2e%2e;/admin/secret",
    "/admin%3b/secret",
    "/admin%3Ba=b/secret",
    "/x/..%3b/admin/secret",
    "/x/%2e%2e%3Ba=b/admin/secret",
    "/%3b/admin/secret",
    "/%2561dmin/secret",
    "/%252fadmin/secret",
    "/x/%252e%252e/admin/secret",
    "/x/%252e%252e%252fadmin/secret",
    "/%25%36%31dmin/secret",
    "/%2500/admin/secret",
    "/admin%00/secret",
    "/admin%0a/secret",
    "/admin%0d%0a/secret",
    "/admin%09/secret",
    "/%00admin/secret",
    "/admin%7f/secret",
    "/%u0061dmin/secret",
    "/%c1%a1dmin/secret",
    "/%c0%afadmin/secret",
    "/x/%c0%ae%c0%ae/admin/secret",
    "/%e0%80%afadmin/secret",
    "/%ff/../admin/secret",
    "/../admin/secret",
    "/../../admin/secret",
    "/%2e%2e/admin/secret",
    "/admin?x=1",
    "/admin/secret?/../../x",
    "/admin#x",
    "http://api.example.com/admin/secret",
    "http://api.example.com:80//admin/secret",
    "http://other.example.com/admin/secret",
    "/%40a%3Ab%2Bc%21%24%26%27%28%29%2A%2C%3D%2D%2E%5F%7Ez",
    "/%40a%3ab%2bc%21%24%26%27%28%29%2a%2c%3d%2d%2e%5f%7ez",
    "/%40a:b%2bc!$&'()*,=-._~z/secret",
    "/@a%3Ab+c!$&'()*,=-._~z;x=1",
    "/@a%3Ab+c!$&'()*,=-._~z%3Bx=1",
    "//@a:b+c%21$&'()*,=-._~z",
    "/x/../%40a:b+c!%24&'()*,=-._~z",
    "/x/%2e%2e/@a:b+c!$%26'()*,=-._~z",
    "/%2f@a:b+c!$&%27()*,=-._~z",
    "/%5c@a:b+c!$&'%28)*,=-._~z",
    "/%2540a:b+c!$&'()*,=-._~z",
    "/%25%34%30a:b+c!$&'()*,=-._~z",
    "http://api.example.com/%40a:b+c!$&'()%2a,=-._~z",
    "http://api.example.com:80//%40a:b+c!$&'()*%2C%3D-._~z?x",
];

/// Requests that two servers could cut differently. `{ADMIN}` is a whole request for the path.
const FRAMINGS: [&str; 36] = [
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 200\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 0\r\nContent-Length: 60\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 60\r\nContent-Length: 0\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 0, 60\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: +0\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: -1\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 0x10\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 1 0\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length : 60\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent_Length: 60\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: xchunked\r\nContent-Length: 60\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding:\x0bchunked\r\nContent-Length: 60\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding : chunked\r\nContent-Length: 60\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer_Encoding: chunked\r\nContent-Length: 60\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nX: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 60\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nX: y\nTransfer-Encoding: chunked\r\nContent-Length: 60\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n0;x=y\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n0\n\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n{ADMIN}",
    "POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 60\r\n\r\n{ADMIN}",
    "POST / HTTP/1.0\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{ADMIN}",
    "GET / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 60\r\n\r\n{ADMIN}",
    "GET / HTTP/1.1\r\nHost: api.example.com\r\nHost: other.example.com\r\n\r\n{ADMIN}",
    "GET / HTTP/1.1\r\nHost: api.example.com@other\r\n\r\n{ADMIN}",
    "GET / HTTP/1.1\r\n\r\n{ADMIN}",
    "GET / HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n{ADMIN}",
    "GET / HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n{ADMIN}",
    "GET /\r\n\r\n{ADMIN}",
    "GET / HTTP/1.1\r\nHost: api.example.com\r\nX: a\rb\r\nY: \0\r\n\r\n{ADMIN}",
];

const ADMIN: &str = "GET /admin/secret HTTP/1.1\r\nHost: api.example.com\r\n\r\n";

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
    let line = Line::start(UNFINISHED).await?;
    for framing in FRAMINGS {
        line.attack(&framing.replace("{ADMIN}", ADMIN)).await?;
    }
    line.check_nothing_got_through().await
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
        let whygate = Whygate::serve(folder.path(), &[]).await?;
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

/// A path with each of its characters escaped, and with all of them, in both cases of digits.
fn escapes(path: &str) -> Vec<String> {
    let upper = |byte: u8| format!("%{byte:02X}");
    let lower = |byte: u8| format!("%{byte:02x}");
    let with = |escape: &dyn Fn(u8) -> String, escaped: &dyn Fn(usize, u8) -> bool| {
        let bytes = path.bytes().enumerate();
        let spelled = bytes.map(|(at, byte)| match byte {
            b'/' => "/".to_owned(),
            _ if escaped(at, byte) => escape(byte),
            _ => char::from(byte).to_string(),
        });
        spelled.collect::<String>()
    };
    let mut spellings = vec![path.to_owned()];
    for escape in [&upper as &dyn Fn(u8) -> String, &lower] {
        spellings.push(with(escape, &|_, _| true));
        spellings.push(with(escape, &|_, byte| !byte.is_ascii_alphanumeric()));
        spellings.extend((1..path.len()).map(|only| with(escape, &|at, _| at == only)));
    }
    spellings
}

/// Whether some careless server would take a target for a protected path: decoded twice, with
/// backslashes for slashes, without parameters, with dot segments resolved.
fn reads_as_protected(target: &str) -> bool {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let once = percent_decode(path);
    let twice = percent_decode(&once);
    [path.to_owned(), once, twice].iter().any(|reading| {
        let path = resolve(reading);
        path.starts_with("/admin") || path.starts_with(ODD)
    })
}

fn percent_decode(text: &str) -> String {
    let mut decoded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) => decoded.push(char::from(byte)),
            None => decoded.push('%'),
        }
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    decoded + rest
}

fn resolve(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.replace('\\', "/").split('/') {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(kept.pop()),
            name => kept.push(name.trim_end_matches(|c: char| c.is_control()).to_owned()),
        }
    }
    format!("/{}", kept.join("/"))
}
