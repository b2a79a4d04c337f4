//! `whygate run`: controller and data plane in a cluster.

use std::{fs, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Args;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::{sync::Mutex, time::timeout};

use crate::{
    cause::innermost,
    denials::{
        aggregate::Pace, exchange::Exchange, findings, publish::Publisher, recorder::Recorder,
    },
    gateway::{Gateway, Serving},
    inspect::{Access, missing_right},
    leader::{Identity, Member, Membership, owner},
    log,
    settings::{Name, ServeFlags, Surroundings, name, replica_name, say_default},
    source::cluster::{Cluster, Reach},
    status::{Address, Published, Writer},
};

const EXAMPLES: &str = "\
Examples:
  whygate run
  whygate run --kubeconfig ~/.kube/config --publish-address 198.51.100.7";

/// How long the API server may take to answer for the first time.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// A connection on which nothing came for so long is dead: watches end earlier by themselves.
const SILENCE: Duration = Duration::from_secs(90);

/// Where a pod finds the token of its `ServiceAccount`.
const ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Serve the Ingresses of a cluster
///
/// Watches Ingresses, policies and what they refer to, and serves them. Not one listener for
/// traffic is bound before everything was listed once.
#[derive(Args, Debug)]
#[command(
    after_help = EXAMPLES,
    after_long_help = EXAMPLES,
    mut_args(|flag| say_default(flag, Surroundings::Cluster))
)]
pub(super) struct Run {
    /// The kubeconfig. Default: as kubectl finds it, or the service account of the pod
    #[arg(long, value_name = "FILE", env = "WHYGATE_KUBECONFIG", help_heading = "Cluster")]
    kubeconfig: Option<PathBuf>,

    /// Watch only this namespace. Repeatable. Default: all
    #[arg(
        long,
        value_name = "NS",
        env = "WHYGATE_WATCH_NAMESPACE",
        value_delimiter = ',',
        help_heading = "Cluster"
    )]
    watch_namespace: Vec<String>,

    /// Read Secrets of these namespaces only; `none` reads none. Default: those that are watched
    #[arg(
        long,
        value_name = "NS,…|none",
        env = "WHYGATE_SECRET_NAMESPACES",
        value_delimiter = ',',
        help_heading = "Cluster"
    )]
    secret_namespaces: Option<Vec<String>>,

    /// Read `ConfigMaps` of these namespaces, those with the label `whygate.dev/use`; `all` reads
    /// those of all that are watched. Default: none
    #[arg(
        long,
        value_name = "NS,…|all",
        env = "WHYGATE_CONFIG_MAP_NAMESPACES",
        value_delimiter = ',',
        help_heading = "Cluster"
    )]
    config_map_namespaces: Vec<String>,

    /// Read nothing that has no namespace: neither `IngressClasses` nor Namespaces nor the
    /// definitions of our kinds. For a release with Roles alone; needs --watch-namespace. What these
    /// objects say about postures and classes has no effect then, and the removal of a definition is
    /// taken for deletions
    #[arg(
        long,
        env = "WHYGATE_WITHOUT_CLUSTER_POLICIES",
        requires = "watch_namespace",
        help_heading = "Cluster"
    )]
    without_cluster_policies: bool,

    /// The Service whose addresses Ingresses show as theirs
    #[arg(long, value_name = "NS/NAME", env = "WHYGATE_PUBLISH_SERVICE", value_parser = name, help_heading = "Cluster")]
    publish_service: Option<Name>,

    /// An address or a name that Ingresses show as theirs. Repeatable
    #[arg(
        long,
        value_name = "IP|HOST",
        env = "WHYGATE_PUBLISH_ADDRESS",
        value_delimiter = ',',
        help_heading = "Cluster"
    )]
    publish_address: Vec<String>,

    /// Most Events that are written in a minute; 0 writes none
    #[arg(
        long,
        value_name = "COUNT",
        env = "WHYGATE_EVENT_WRITES_PER_MINUTE",
        default_value_t = 60,
        help_heading = "Refusals"
    )]
    event_writes_per_minute: u32,

    /// The namespace of the Leases by which the replicas of a release know of each other. Without it
    /// this is the only replica
    #[arg(long, value_name = "NS", env = "WHYGATE_LEASE_NAMESPACE", help_heading = "Replicas")]
    lease_namespace: Option<String>,

    /// The name of this replica, which no other has. Default: the name of the host, in a cluster
    /// that of the pod
    #[arg(long, value_name = "NAME", env = "WHYGATE_REPLICA", help_heading = "Replicas")]
    replica: Option<String>,

    #[command(flatten)]
    flags: ServeFlags,
}

impl Run {
    pub(super) async fn execute(self) -> Result<()> {
        let place = Surroundings::Cluster;
        let _log = log::start(self.flags.log_format, self.flags.log_filter(place));
        let client = client(self.kubeconfig.as_deref()).await?;
        let mut gateway = Gateway::open(self.flags.clone(), place).await?;
        let cluster = Cluster::new(client.clone(), self.reach(), gateway.admin.clone());
        let (feed, stores) = cluster.start(&mut gateway.supervisor);
        gateway.connect(&feed);
        let Some(mut serving) = gateway.start().await? else { return Ok(()) };
        open_inspect(&mut serving, &client).await?;
        let outcome = serving.gateway.pipeline.outcome();
        let enforced = serving.enforced();
        let member = self.identity().map(|identity| Member::new(client.clone(), identity));
        let membership = member.as_ref().map_or_else(Membership::of_one, Member::membership);
        let member = member.map(|member| Arc::new(Mutex::new(member)));
        if let Some(member) = member.clone() {
            let enforced = enforced.clone();
            let supervisor = &mut serving.gateway.supervisor;
            supervisor
                .keep("leases", move || Member::follow(Arc::clone(&member), enforced.clone()));
        }
        let hour = Arc::default();
        let with = self.identity().map(|identity| (client.clone(), identity));
        let exchange = Exchange::new(Arc::clone(&hour), with, membership.clone());
        let digests = exchange.digests();
        let exchange = Arc::new(Mutex::new(exchange));
        let followed = Arc::clone(&exchange);
        let supervisor = &mut serving.gateway.supervisor;
        supervisor.keep("denials", move || Exchange::follow(Arc::clone(&followed)));
        let (addresses, known) = (self.published(), membership.clone());
        let writer = Writer::new(client.clone(), stores, addresses, known, digests);
        let supervisor = &mut serving.gateway.supervisor;
        supervisor.keep("status", move || writer.clone().follow(enforced.clone()));
        let window = serving.gateway.denial_window();
        let (told, known) = (Arc::default(), outcome.clone());
        let supervisor = &mut serving.gateway.supervisor;
        supervisor.keep("findings", move || findings::follow(known.clone(), Arc::clone(&told)));
        let collector = serving
            .collector(Pace::of_cluster(window, self.event_writes_per_minute))
            .recording(Recorder::new(hour, outcome.clone()));
        let publisher = Publisher::new(client, collector, outcome, self.replica(), membership);
        let publisher = Arc::new(Mutex::new(publisher));
        let followed = Arc::clone(&publisher);
        let supervisor = &mut serving.gateway.supervisor;
        supervisor.keep("events", move || Publisher::follow(Arc::clone(&followed)));
        serving.announce()?;
        let last = async || {
            Publisher::close(&publisher).await;
            exchange.lock().await.leave().await;
            if let Some(member) = &member {
                member.lock().await.leave().await;
            }
        };
        serving.until_stopped(last).await;
        Ok(())
    }

    fn replica(&self) -> String {
        self.replica.clone().unwrap_or_else(replica_name)
    }

    fn identity(&self) -> Option<Identity> {
        let namespace = self.lease_namespace.clone()?;
        let ingresses = &self.flags.ingresses;
        let (controller, class) = (&ingresses.controller_name, &ingresses.ingress_class);
        // Outside of a pod there is no such file, and the Leases belong to nobody.
        let token = fs::read_to_string(ACCOUNT_TOKEN).unwrap_or_default();
        let owner = owner(&token, &namespace);
        Some(Identity { owner, ..Identity::new(namespace, self.replica(), controller, class) })
    }

    fn reach(&self) -> Reach {
        if self.without_cluster_policies {
            tracing::info!(
                "--without-cluster-policies: the class is that of --ingress-class, every watched namespace counts as known, postures come from --default-posture alone, and the removal of a definition is taken for deletions"
            );
        }
        let secrets = self.secret_namespaces.as_ref().map(|names| {
            if names.iter().any(|name| name == "none") { Vec::new() } else { names.clone() }
        });
        let config_maps = self.config_map_namespaces.clone();
        let all_config_maps = config_maps.iter().any(|name| name == "all");
        Reach {
            namespaces: self.watch_namespace.clone(),
            secrets,
            config_maps: (!all_config_maps).then_some(config_maps),
            without_cluster: self.without_cluster_policies,
        }
    }

    fn published(&self) -> Published {
        let address = |text: &String| {
            text.parse::<IpAddr>().map_or_else(|_| Address::Host(text.clone()), Address::Ip)
        };
        Published {
            controller: self.flags.ingresses.controller_name.clone(),
            addresses: self.publish_address.iter().map(address).collect(),
            service: self.publish_service.clone(),
        }
    }
}

/// A client that has had one answer.
async fn client(kubeconfig: Option<&std::path::Path>) -> Result<Client> {
    let mut config = match kubeconfig {
        Some(path) => {
            let read = Kubeconfig::read_from(path).with_context(|| {
                format!("--kubeconfig `{}` cannot be read; name a kubeconfig", path.display())
            })?;
            Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?
        }
        None => Config::infer().await.context(
            "there is no kubeconfig and no service account of a pod; name one with --kubeconfig",
        )?,
    };
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    // Every call here is tried again by its caller, who knows its budget.
    config.default_retry = false;
    let server = config.cluster_url.clone();
    let client = Client::try_from(config).context("the kubeconfig cannot be used")?;
    let answer = timeout(FIRST_ANSWER, client.apiserver_version()).await;
    match answer {
        // Whoever may not ask for the version has had an answer.
        Ok(Ok(_) | Err(kube::Error::Api(_))) => Ok(client),
        Ok(Err(error)) => bail!(
            "the API server {server} cannot be reached: {}; check the address in the kubeconfig and the network",
            innermost(&error)
        ),
        Err(_) => bail!(
            "the API server {server} does not answer within {} s; check the address in the kubeconfig and the network",
            FIRST_ANSWER.as_secs()
        ),
    }
}

/// Without the right to ask about tokens nobody could be let in, so the port stays closed.
async fn open_inspect(serving: &mut Serving, client: &Client) -> Result<()> {
    let sentence = match timeout(FIRST_ANSWER, missing_right(client)).await {
        Ok(Ok(None)) => return Ok(serving.open_inspect(Access::Token(client.clone())).await?),
        Ok(Ok(Some(right))) => {
            format!("the right to {right} is missing; grant it to the ServiceAccount")
        }
        Ok(Err(error)) => format!("the API server cannot be asked about rights: {error}"),
        Err(_) => "the API server does not say which rights we have".to_owned(),
    };
    tracing::warn!(error = sentence, "The inspect port stays closed");
    Ok(())
}
