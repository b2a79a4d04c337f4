//! `whygate refusal-test`: what `helm test` runs. A request is refused, and its Event is found.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Args;
use decision::code::Code;
use http::{Request, header::HOST};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::{
    core::v1::{Event, Service},
    networking::v1::Ingress,
};
use kube::{Api, Client, api::ListParams};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    output,
    settings::{Name, name},
};

const EXAMPLES: &str = "\
Examples:
  whygate refusal-test --service whygate/whygate --ingress whygate/test --expect MethodRefused
  whygate refusal-test --service edge/whygate --ingress shop/web --expect AddressNotAllowed";

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest time for one try.
const TRY: Duration = Duration::from_secs(5);

/// Send a request that must be refused, and find the Event that tells why
///
/// The request goes to the Service's cluster address, with the first host of the Ingress; no name is
/// looked up. Needs the right to get the Service and the Ingress, and to list Events in its
/// namespace.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, after_long_help = EXAMPLES)]
pub(super) struct RefusalTest {
    /// The Service for traffic, which has a port `http`
    #[arg(long, value_name = "NS/NAME", env = "WHYGATE_SERVICE", value_parser = name)]
    service: Name,

    /// The Ingress that refuses a GET of /
    #[arg(long, value_name = "NS/NAME", env = "WHYGATE_INGRESS", value_parser = name)]
    ingress: Name,

    /// The code of the refusal
    #[arg(long, value_name = "CODE", env = "WHYGATE_EXPECT")]
    expect: String,

    /// How long to try
    #[arg(long, value_name = "SECONDS", env = "WHYGATE_TIMEOUT_SECONDS", default_value_t = 60)]
    timeout_seconds: u64,
}

impl RefusalTest {
    pub(super) async fn execute(self) -> Result<()> {
        if !Code::ALL.iter().any(|code| code.as_str() == self.expect) {
            bail!("--expect `{}`: there is no such code; `whygate code` lists them", self.expect);
        }
        let client = Client::try_default().await.context("the API server cannot be reached")?;
        let end = Instant::now() + Duration::from_secs(self.timeout_seconds);
        let (address, port) = self.address(&client).await?;
        let (host, uid) = self.host(&client).await?;
        output::line(&format!("GET http://{host}/ to {address} port {port}"));
        let expect = self.expect.as_str();
        until(end, async || {
            let answer = timeout(TRY, ask(address, port, &host)).await.context("no answer")??;
            let (status, code) = answer;
            if code.as_deref() != Some(expect) {
                let code = code.unwrap_or_else(|| "no code".to_owned());
                bail!("answered {status} with {code}, not with {expect}");
            }
            output::line(&format!("refused with {status} {expect}"));
            Ok(())
        })
        .await?;
        until(end, async || {
            let event = timeout(TRY, self.event(&client, &uid)).await.context("no answer")??;
            output::line(&format!("Event {}", event.message.unwrap_or_default()));
            Ok(())
        })
        .await
    }

    async fn address(&self, client: &Client) -> Result<(IpAddr, u16)> {
        let Name { namespace, name } = &self.service;
        let api: Api<Service> = Api::namespaced(client.clone(), namespace);
        let service = api.get(name).await.context("--service cannot be read")?;
        let spec = service.spec.unwrap_or_default();
        let address = spec.cluster_ip.and_then(|address| address.parse().ok());
        let mut ports = spec.ports.into_iter().flatten();
        let port = ports.find(|port| port.name.as_deref() == Some("http"));
        let port = port.and_then(|port| u16::try_from(port.port).ok());
        address.zip(port).with_context(|| {
            format!("Service {namespace}/{name} has no cluster address, or no port named `http`")
        })
    }

    /// The host of the Ingress, and which object it is: Events of one that had its name do not count.
    async fn host(&self, client: &Client) -> Result<(String, String)> {
        let Name { namespace, name } = &self.ingress;
        let api: Api<Ingress> = Api::namespaced(client.clone(), namespace);
        let ingress = api.get(name).await.context("--ingress cannot be read")?;
        let mut rules = ingress.spec.and_then(|spec| spec.rules).into_iter().flatten();
        let host = rules.find_map(|rule| rule.host);
        let host = host.with_context(|| format!("Ingress {namespace}/{name} names no host"))?;
        Ok((host, ingress.metadata.uid.unwrap_or_default()))
    }

    async fn event(&self, client: &Client, uid: &str) -> Result<Event> {
        let Name { namespace, name } = &self.ingress;
        let api: Api<Event> = Api::namespaced(client.clone(), namespace);
        let fields = format!(
            "involvedObject.kind=Ingress,involvedObject.name={name},involvedObject.uid={uid},reason={}",
            self.expect
        );
        let events = api.list(&ListParams::default().fields(&fields)).await;
        let events = events.context("Events cannot be listed")?;
        events
            .items
            .into_iter()
            .next()
            .with_context(|| format!("Ingress {namespace}/{name} has no Event {}", self.expect))
    }
}

/// The status of the answer, and the code of the refusal.
async fn ask(address: IpAddr, port: u16, host: &str) -> Result<(u16, Option<String>)> {
    let socket = TcpStream::connect((address, port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let request = Request::get("/").header(HOST, host).body(String::new())?;
    let answered = async {
        let response = sender.send_request(request).await?;
        let code = response.headers().get("whygate-denial-code");
        let code = code.and_then(|code| code.to_str().ok()).map(str::to_owned);
        Ok((response.status().as_u16(), code))
    };
    tokio::select! {
        answer = answered => answer,
        ended = connection => bail!("the connection ended: {ended:?}"),
    }
}

/// Tries until it works or the time is over; then the last reason counts.
async fn until(end: Instant, attempt: impl AsyncFn() -> Result<()>) -> Result<()> {
    loop {
        let Err(error) = attempt().await else { return Ok(()) };
        if timeout_at(end, sleep(PAUSE)).await.is_err() {
            return Err(error.context("the time is over"));
        }
    }
}
