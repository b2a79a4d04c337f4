//! `whygate demo`: a small shop with a backend of its own, and five requests to try.

mod token;

use std::{net::Ipv4Addr, sync::Arc};

use anyhow::{Context, Result};
use clap::Args;
use dataplane::Addresses;
use tokio::net::TcpListener;

use super::{
    key::ApiKey,
    serve::{finish, serve},
};
use crate::{
    backend, log,
    output::{self, Style, styled},
    settings::{ServeFlags, Surroundings, say_default},
    source::directory::{Directory, Files},
};
use token::Issuer;

const EXAMPLES: &str = "\
Examples:
  whygate demo
  whygate demo --http-listen 127.0.0.1:8000";

/// The manifests, with places for what is made at the start.
const MANIFESTS: [(&str, &str); 3] = [
    ("demo/shop.yaml", include_str!("../../demo/shop.yaml")),
    ("demo/policies.yaml", include_str!("../../demo/policies.yaml")),
    ("demo/subscription.yaml", include_str!("../../demo/subscription.yaml")),
];

/// Try it out on built-in manifests
///
/// Serves a small shop on loopback with a backend of its own, prints five requests to try with what
/// each will answer, and shows every refusal as the Event that a cluster would hold.
#[derive(Args, Debug)]
#[command(
    after_help = EXAMPLES,
    after_long_help = EXAMPLES,
    mut_args(|flag| say_default(flag, Surroundings::Demo))
)]
pub(super) struct Demo {
    #[command(flatten)]
    flags: ServeFlags,
}

impl Demo {
    pub(super) async fn execute(self) -> Result<()> {
        let place = Surroundings::Demo;
        let _log = log::start(self.flags.log_format, self.flags.log_filter(place));
        let issuer = Issuer::new()?;
        let key = ApiKey::new()?;
        let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let backend = Arc::new(backend.context("the demo's backend cannot listen")?);
        let port = backend.local_addr().context("the backend has no address")?.port();
        let directory = Directory::fixed(manifests(&issuer, &key, port));
        let Some(mut serving) = serve(self.flags, place, directory).await? else {
            return Ok(());
        };
        let answer = move || backend::serve(Arc::clone(&backend));
        serving.gateway.supervisor.keep("backend", answer);
        introduce(serving.addresses(), &issuer.token()?, &key)?;
        finish(serving).await
    }
}

fn manifests(issuer: &Issuer, key: &ApiKey, port: u16) -> Files {
    let fill = |text: &str| {
        text.replace("${jwks}", &issuer.key_set())
            .replace("${id}", &key.id)
            .replace("${sha256}", &key.sha256)
            .replace("${port}", &port.to_string())
    };
    MANIFESTS.iter().map(|(name, text)| ((*name).to_owned(), fill(text))).collect()
}

/// Prints the requests to try.
fn introduce(addresses: &Addresses, token: &str, key: &ApiKey) -> Result<()> {
    let address = addresses.http.first().context(
        "the demo shows plain HTTP, which --http-listen has switched off; leave the flag out",
    )?;
    let url = |path: &str| format!("http://demo.localhost:{}{path}", address.port());
    let steps = [
        (format!("curl -i {}", url("/")), "200, the backend's answer".to_owned()),
        (
            format!("curl -i {}", url("/office")),
            "403 AddressNotAllowed: only the office's network may come here".to_owned(),
        ),
        (
            format!("curl -i {}", url("/orders")),
            format!(
                "401 TokenMissing; with this header it is 200:\n     -H 'authorization: Bearer {token}'"
            ),
        ),
        (
            format!("curl -i {}", url("/partners")),
            format!(
                "401 KeyMissing; with this header it is 200:\n     -H 'x-api-key: {}'",
                key.text
            ),
        ),
        (
            format!("curl -i -X DELETE {}", url("/")),
            "403 MethodRefused: the shop is read-only".to_owned(),
        ),
    ];
    output::line(&format!(
        "{}\n",
        styled("Whygate serves a small shop. Try, in another terminal:", Style::Strong)
    ));
    for (command, answer) in steps {
        output::line(&styled(&command, Style::Good));
        output::line(&format!("  -> {answer}\n"));
    }
    output::line(&styled(
        "Refusals appear below, as `kubectl describe` would show them. Ctrl-C ends the demo.\n",
        Style::Faint,
    ));
    Ok(())
}
