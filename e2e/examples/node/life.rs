//! The steps in the order of a release's life.

use std::{path::PathBuf, pin::Pin};

use anyhow::Context as _;
use e2e::say;
use tokio::time::Instant;

use crate::{release::Release, steps};

const RELEASE: Release = Release("whygate");

/// Goes through all steps; the first that fails ends it. `folder` is the cluster's.
pub(crate) async fn live(folder: PathBuf, updates: usize) -> anyhow::Result<()> {
    step("two replicas are installed and ready", async { steps::install(RELEASE) }).await?;
    step("the demo works from outside", steps::demo(RELEASE)).await?;
    step("both replicas tell their refusals, counted exactly", steps::counts()).await?;
    step("helm test", async { RELEASE.test().map(|_| "passed".to_owned()) }).await?;
    let authority = steps::serve_load()?;
    for update in 1..=updates {
        let name = format!("helm upgrade {update} of {updates} under load");
        step(&name, steps::upgrade(&folder, RELEASE, &authority, update)).await?;
    }
    step("a replica is killed under load", steps::kill(RELEASE, &authority)).await?;
    step("a release with Roles alone", steps::roles_alone()).await?;
    step("helm uninstall leaves the definitions alone", steps::uninstall(RELEASE)).await
}

/// In a box, because futures of this size do not belong on a stack.
fn step<'a>(
    name: &'a str,
    step: impl Future<Output = anyhow::Result<String>> + 'a,
) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>> {
    Box::pin(async move {
        let begun = Instant::now();
        let measured = step.await.with_context(|| format!("failed: {name}"))?;
        say(&format!("{:6.1} s  {name}: {measured}", begun.elapsed().as_secs_f64()));
        Ok(())
    })
}
