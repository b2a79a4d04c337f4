//! `whygate serve`: the whole program without a cluster.

use std::{path::PathBuf, sync::Arc};

use anyhow::Result;
use clap::Args;
use dataplane::Addresses;
use tokio::sync::Mutex;

use crate::{
    denials::{aggregate::Pace, terminal},
    gateway::{Gateway, Serving},
    inspect::Access,
    log, output,
    settings::{ServeFlags, Surroundings, say_default},
    source::directory::Directory,
};

const EXAMPLES: &str = "\
Examples:
  whygate serve --manifests ./manifests
  whygate serve --manifests ./manifests --http-listen 127.0.0.1:8000 --https-listen off";

/// Serve manifests from a directory, without a cluster
///
/// Reads every *.yaml and *.yml below the directory, enforces what they say, reads them again when
/// a file changes, and prints refusals as `kubectl describe` would show them. A backend is a
/// Service with an `EndpointSlice`, whose addresses may be on loopback.
#[derive(Args, Debug)]
#[command(
    after_help = EXAMPLES,
    after_long_help = EXAMPLES,
    mut_args(|flag| say_default(flag, Surroundings::Directory))
)]
pub(super) struct Serve {
    /// The directory of manifests
    #[arg(long, value_name = "DIR", env = "WHYGATE_MANIFESTS")]
    manifests: PathBuf,

    #[command(flatten)]
    flags: ServeFlags,
}

impl Serve {
    pub(super) async fn execute(self) -> Result<()> {
        let place = Surroundings::Directory;
        let _log = log::start(self.flags.log_format, self.flags.log_filter(place));
        let directory = Directory::open(&self.manifests)?;
        let Some(serving) = serve(self.flags, place, directory).await? else {
            return Ok(());
        };
        if let Some(outcome) = serving.gateway.pipeline.outcome().borrow().as_deref() {
            let (manifests, at) = (self.manifests.display(), listeners(serving.addresses()));
            let counts = terminal::counts(&outcome.ingresses, outcome.routes);
            output::line(&format!("Serving {counts} from {manifests} on {at}"));
        }
        finish(serving).await
    }
}

/// `http://127.0.0.1:8080 and https://[::]:8443`, as they are really bound.
fn listeners(addresses: &Addresses) -> String {
    let http = addresses.http.iter().map(|address| format!("http://{address}"));
    let https = addresses.https.iter().map(|address| format!("https://{address}"));
    let urls: Vec<_> = http.chain(https).collect();
    if urls.is_empty() { "no port".to_owned() } else { urls.join(" and ") }
}

/// Brings up everything that serves a directory.
pub(super) async fn serve(
    flags: ServeFlags,
    place: Surroundings,
    directory: Directory,
) -> Result<Option<Serving>> {
    let mut gateway = Gateway::open(flags, place).await?;
    gateway.connect(&directory.feed());
    let followed = directory.clone();
    gateway.supervisor.keep("directory", move || followed.clone().follow());
    let (outcome, places) = (gateway.pipeline.outcome(), directory.places());
    let shown = Arc::new(Mutex::default());
    gateway.supervisor.keep("findings", move || {
        terminal::findings(outcome.clone(), places.clone(), Arc::clone(&shown))
    });
    let Some(mut serving) = gateway.start().await? else { return Ok(None) };
    serving.open_inspect(Access::Everybody).await?;
    Ok(Some(serving))
}

/// Prints refusals until the program is asked to end.
pub(super) async fn finish(mut serving: Serving) -> Result<()> {
    let window = serving.gateway.denial_window();
    let collector = Arc::new(Mutex::new(serving.collector(Pace::of_terminal(window))));
    let printed = Arc::clone(&collector);
    serving.gateway.supervisor.keep("refusals", move || terminal::refusals(Arc::clone(&printed)));
    serving.announce()?;
    serving.until_stopped(async || terminal::last_refusals(&collector).await).await;
    Ok(())
}
