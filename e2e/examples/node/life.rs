//! The steps in the order of a release's life.

use std::{path::PathBuf, pin::Pin};

use anyhow::Context as _;
use e2e::say;
use tokio::time::Instant;

use crate::{release::Release, steps};

const RELEASE: Release = Release("whygate");

/// Goes through all steps; the first that fails ends it. `folder` is the cluster's. With words only
/// the steps after the first are taken that have one of them in their names.
pub(crate) async fn live(folder: PathBuf, updates: usize, words: &[String]) -> anyhow::Result<()> {
    step("two replicas are installed and ready", async { steps::install(RELEASE) }).await?;
    let authority = steps::serve_demo()?;
    let is_wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    let mut steps: Vec<(String, Step<'_>)> = vec![
        ("the demo works from outside".into(), Box::pin(steps::demo(RELEASE))),
        (
            "both replicas tell their refusals, counted exactly".into(),
            Box::pin(steps::counts(RELEASE)),
        ),
        ("helm test".into(), Box::pin(async { RELEASE.test().map(|_| "passed".to_owned()) })),
    ];
    for update in 1..=updates {
        let name = format!("helm upgrade {update} of {updates} under load");
        steps.push((name, Box::pin(steps::upgrade(&folder, RELEASE, &authority, update))));
    }
    let rest: [(&str, Step<'_>); 3] = [
        ("a replica is killed under load", Box::pin(steps::kill(RELEASE, &authority))),
        ("a release with Roles alone", Box::pin(steps::roles_alone())),
        ("helm uninstall leaves the definitions alone", Box::pin(steps::uninstall(RELEASE))),
    ];
    steps.extend(rest.map(|(name, step)| (name.to_owned(), step)));
    for (name, taken) in steps.into_iter().filter(|(name, _)| is_wanted(name)) {
        step(&name, taken).await?;
    }
    Ok(())
}

/// In a box, because futures of this size do not belong on a stack.
type Step<'a> = Pin<Box<dyn Future<Output = anyhow::Result<String>> + 'a>>;

async fn step(
    name: &str,
    step: impl Future<Output = anyhow::Result<String>>,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let measured = step.await.with_context(|| format!("failed: {name}"))?;
    say(&format!("{:6.1} s  {name}: {measured}", begun.elapsed().as_secs_f64()));
    Ok(())
}
