//! The program with the feature `otlp`: a collector gets a span of each sampled request.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the first surprise ends the test"
)]

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;

/// Nothing on loopback takes this long unless it hangs.
const HANGS: Duration = Duration::from_secs(20);

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0b1902b7";

/// A server that answers every request with 200, and shows what it got.
fn server() -> (SocketAddr, mpsc::Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, received) = mpsc::channel();
    drop(thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, sender) = (stream.unwrap(), sender.clone());
            drop(thread::spawn(move || serve(stream, &sender)));
        }
    }));
    (address, received)
}

fn serve(stream: TcpStream, sender: &mpsc::Sender<(String, String)>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        reader.read_exact(&mut body).unwrap();
        if sender.send((head, String::from_utf8(body).unwrap())).is_err() {
            return;
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        reader.get_mut().write_all(answer).unwrap();
    }
}

/// A program that ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only if it has gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(manifests: &Path, collector: SocketAddr) -> (Program, SocketAddr) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_whygate"))
        .args(["serve", "--http-listen", "127.0.0.1:0", "--https-listen", "off"])
        .args(["--admin-listen", "off", "--inspect-listen", "off"])
        .args(["--otlp-endpoint", &format!("http://{collector}"), "--manifests"])
        .arg(manifests)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let program = Program(child);
    let mut lines = output.lines().map(Result::unwrap);
    let serving = lines.find(|line| line.starts_with("Serving ")).unwrap();
    let (_, address) = serving.rsplit_once("http://").unwrap();
    (program, address.parse().unwrap())
}

fn get(address: SocketAddr, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn manifests(upstream: SocketAddr) -> String {
    format!(
        "apiVersion: v1
kind: Namespace
metadata: {{name: shop}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec: {{ports: [{{port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{port: {port}}}]
endpoints: [{{addresses: [{address}]}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: web, namespace: shop}}
spec:
  ingressClassName: whygate
  rules:
  - host: shop.test
    http:
      paths:
      - {{path: /orders, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}
      - {{path: /closed, pathType: Prefix, backend: {{service: {{name: none, port: {{number: 80}}}}}}}}
",
        port = upstream.port(),
        address = upstream.ip(),
    )
}

/// The spans of messages until there are so many.
fn spans(messages: &mpsc::Receiver<(String, String)>, many: usize) -> Vec<Value> {
    let mut spans = Vec::new();
    while spans.len() < many {
        let (head, body) = messages.recv_timeout(HANGS).unwrap();
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("content-type: application/json\r\n"), "{head}");
        let message: Value = serde_json::from_str(&body).unwrap();
        let resource = &message["resourceSpans"][0];
        let service = &resource["resource"]["attributes"][0];
        assert_eq!(service["value"]["stringValue"], "whygate", "{body}");
        spans.extend_from_slice(resource["scopeSpans"][0]["spans"].as_array().unwrap());
    }
    spans
}

fn attributes(span: &Value) -> HashMap<&str, &str> {
    let attributes = span["attributes"].as_array().unwrap().iter();
    let pairs = attributes.map(|it| {
        let value = it["value"]["stringValue"].as_str().or(it["value"]["intValue"].as_str());
        (it["key"].as_str().unwrap(), value.unwrap())
    });
    pairs.collect()
}

#[test]
fn a_collector_gets_a_span_of_each_sampled_request_between_its_sender_and_its_upstream() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("spans");
    fs::create_dir_all(&folder).unwrap();
    let ((collector, messages), (upstream, requests)) = (server(), server());
    fs::write(folder.join("shop.yaml"), manifests(upstream)).unwrap();
    let (_program, gateway) = start(&folder, collector);

    let sampled = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n");
    let unsampled = format!("traceparent: 00-{TRACE}-{PARENT}-00\r\n");
    get(gateway, "/orders/7?secret=x", &unsampled);
    get(gateway, "/orders/7?secret=x", &sampled);
    get(gateway, "/closed", &sampled);
    get(gateway, "/nowhere", "");
    let mut spans = spans(&messages, 3);
    spans.sort_by_key(|span| span["name"].as_str().unwrap().to_owned());
    let [nowhere, closed, orders] = &spans[..] else { panic!("{spans:?}") };

    assert_eq!((&orders["name"], &orders["kind"]), (&"GET /orders".into(), &2.into()));
    assert_eq!((&orders["traceId"], &orders["parentSpanId"]), (&TRACE.into(), &PARENT.into()));
    let told = attributes(orders);
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/orders"),
        ("url.path", "/orders/7"),
        ("url.scheme", "http"),
        ("server.address", "shop.test"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("http.response.status_code", "200"),
        ("http.response.body.size", "2"),
        ("whygate.route", "shop/web shop.test/orders"),
        ("whygate.upstream.address", &upstream.to_string()),
    ] {
        assert_eq!(told.get(name), Some(&value), "{name} in {orders}");
    }
    assert!(!orders.to_string().contains("secret") && orders.get("status").is_none(), "{orders}");
    let time = |name: &str| orders[name].as_str().unwrap().parse::<u64>().unwrap();
    assert!(time("startTimeUnixNano") < time("endTimeUnixNano"), "{orders}");

    let upstreams: Vec<String> = requests.try_iter().map(|(head, _)| head).collect();
    let span = orders["spanId"].as_str().unwrap();
    assert!(upstreams[0].contains(&unsampled), "{upstreams:?}");
    assert!(
        upstreams[1].contains(&format!("traceparent: 00-{TRACE}-{span}-01\r\n")),
        "{upstreams:?}"
    );

    assert_eq!(closed["status"]["code"], 2, "{closed}");
    assert_eq!(attributes(closed).get("error.type"), Some(&"BackendMissing"), "{closed}");
    assert_eq!((&nowhere["name"], nowhere.get("parentSpanId")), (&"GET".into(), None));
    assert_eq!(attributes(nowhere).get("whygate.denial.code"), Some(&"RouteNotFound"));
    assert!(
        nowhere.get("status").is_none(),
        "that a client is wrong is no error of ours: {nowhere}"
    );
}
