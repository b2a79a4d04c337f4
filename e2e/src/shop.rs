//! What most tests on an API server begin with: a namespace with a Service, its upstream, and the
//! manifests of an Ingress and policies for it.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::ensure;

use crate::api_server::ApiServer;
use crate::client::{Answer, Client, code};
use crate::manifests::{self, Ingress, backend};
use crate::namespace::address;
use crate::upstream::Upstream;
use crate::wait::eventually;
use crate::whygate::Whygate;

/// Longest time until an answer is the expected one: 30 s, because a watch comes back at growing
/// distances after an error.
const LIMIT: Duration = Duration::from_secs(30);

/// One namespace with a Service `api` and an upstream of the same name.
#[derive(Debug)]
pub struct Shop {
    /// The namespace, which belongs to one test alone.
    pub namespace: &'static str,
    /// The host of its Ingress: `NAMESPACE.test`.
    pub host: String,
    /// The one endpoint of the Service.
    pub upstream: Upstream,
    third: u8,
}

impl Shop {
    /// Starts the upstream and applies namespace and Service. `third` is the third octet of the
    /// addresses that belong to this test alone.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn open(
        server: &ApiServer,
        namespace: &'static str,
        third: u8,
    ) -> anyhow::Result<Self> {
        let upstream = Upstream::start((address(third, 1), 0).into(), "api").await?;
        let service = backend(namespace, "api", upstream.address());
        server.apply(&(manifests::namespace(namespace) + &service))?;
        Ok(Self { namespace, host: format!("{namespace}.test"), upstream, third })
    }

    /// An address of this test alone.
    pub fn address(&self, fourth: u8) -> IpAddr {
        address(self.third, fourth).into()
    }

    /// An Ingress `web` for the shop's host that leads to its Service.
    pub fn ingress(&self, requires: Option<&str>) -> String {
        self.ingress_named("web", &self.host, requires)
    }

    /// The same for another name and host.
    pub fn ingress_named(&self, name: &str, host: &str, requires: Option<&str>) -> String {
        let (namespace, paths) = (self.namespace, [("/", "api")]);
        Ingress { namespace, name, host, paths: &paths, requires, tls: None }.manifest()
    }

    /// A policy on `web`; `rules` are the lines of its spec, as for [`manifests::policy`].
    pub fn policy(&self, name: &str, paths: &[&str], rules: &str) -> String {
        manifests::policy(self.namespace, name, "web", paths, rules)
    }

    /// A policy `office` on an Ingress that admits one address of this test and no other.
    pub fn office(&self, ingress: &str, fourth: u8) -> String {
        let cidr = format!("{}/32", self.address(fourth));
        let rules = format!("  require: [{{ name: office, ip: {{ cidrs: [{cidr}] }} }}]");
        manifests::policy(self.namespace, "office", ingress, &[], &rules)
    }

    /// A client over plain HTTP from an address of this test.
    ///
    /// # Errors
    /// The program isn't ready.
    pub fn client(&self, whygate: &Whygate, fourth: u8) -> anyhow::Result<Client> {
        Ok(Client::new(whygate.http()?).from(self.address(fourth)))
    }

    /// Waits until a GET on the shop's host is answered with this status and this code (none: "").
    ///
    /// # Errors
    /// It isn't within 30 s; the error shows the last answer.
    pub async fn until(
        &self,
        whygate: &Whygate,
        fourth: u8,
        path: &str,
        expected: (u16, &str),
    ) -> anyhow::Result<Answer> {
        until(&self.client(whygate, fourth)?, &self.host, path, expected).await
    }
}

/// Waits until a GET is answered with this status and this code (none: "").
///
/// # Errors
/// It isn't within 30 s; the error shows the last answer.
pub async fn until(
    client: &Client,
    host: &str,
    path: &str,
    expected: (u16, &str),
) -> anyhow::Result<Answer> {
    let sentence = format!("{host} answers {path} with {expected:?}");
    eventually(LIMIT, &sentence, async || {
        let answer = client.get(host, path).await?;
        ensure!(code(&answer) == expected, "{:?} {}", code(&answer), answer.text());
        Ok(answer)
    })
    .await
}
