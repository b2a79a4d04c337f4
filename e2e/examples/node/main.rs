//! The chart's life on a cluster with a real node: `cargo run -p e2e --example node`, as root.
//!
//! It starts the cluster of `e2e/cluster/ring-b`, installs the chart there, and goes through what a
//! platform team would see: a demo reached from outside, Events of two replicas, updates and kills
//! under load, a release with Roles alone, and what an uninstallation leaves. Each step prints a
//! line with what it measured. With words as arguments it takes only the first step and those that
//! have one of the words in their names. The cluster ends with the program.

mod balancer;
mod cluster;
mod life;
mod load;
mod release;
mod steps;

use std::{env, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, ensure};
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::NodeCluster;

/// How many updates under load; default 1.
const UPDATES: &str = "WHYGATE_UPDATES";

/// The image's archive, if it is built already; its name must be `whygate.test/whygate:1`.
const IMAGE: &str = "WHYGATE_IMAGE";

/// Set for the process on the host beside the node.
const INSIDE: &str = "WHYGATE_BESIDE_NODE";

fn main() -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new()?;
    if let Some(folder) = env::var_os(INSIDE) {
        let updates = env::var(UPDATES).map_or(Ok(1), |text| text.parse());
        let updates = updates.with_context(|| format!("{UPDATES} is no number"))?;
        let wanted: Vec<String> = env::args().skip(1).collect();
        let lived = runtime.block_on(life::live(PathBuf::from(folder), updates, &wanted));
        return Ok(match lived {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                e2e::say(&format!("{error:#}"));
                ExitCode::FAILURE
            }
        });
    }
    runtime.block_on(around())
}

/// Starts the cluster and runs this very program on the host beside its node.
async fn around() -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let image = env::var_os(IMAGE).map(PathBuf::from);
    let cluster = NodeCluster::up(image.as_deref())?;
    let program = env::current_exe().context("cannot tell where this program is")?;
    let mut beside = cluster.beside(&program);
    let mut beside = beside.args(env::args_os().skip(1)).env(INSIDE, cluster.folder()).spawn()?;
    // A signal drops the cluster, and with it everything that runs there.
    let status = tokio::select! {
        status = tokio::task::spawn_blocking(move || beside.wait()) => status??,
        _ = interrupt.recv() => return Ok(ExitCode::FAILURE),
        _ = terminate.recv() => return Ok(ExitCode::FAILURE),
    };
    if !status.success() {
        cluster.report();
    }
    ensure!(status.code().is_some(), "the steps were ended by a signal");
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
