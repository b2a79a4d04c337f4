//! A release of the chart, and what its pods say.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::cluster::{checkout, get, kubectl, run};

/// How long Helm waits for pods: 2 minutes.
const WAIT: [&str; 3] = ["--wait", "--timeout", "2m"];

const IMAGE: [&str; 4] =
    ["--set", "image.repository=whygate.test/whygate", "--set-string", "image.tag=1"];

/// A release called as its namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Release(pub(crate) &'static str);

impl Release {
    /// Installs the chart with these further arguments of Helm's.
    pub(crate) fn install(self, arguments: &[&str]) -> anyhow::Result<()> {
        self.helm("install", &[&["--create-namespace"], arguments].concat())
    }

    /// Changes values.
    pub(crate) fn upgrade(self, arguments: &[&str]) -> anyhow::Result<()> {
        self.helm("upgrade", &[&["--reuse-values"], arguments].concat())
    }

    fn helm(self, verb: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let chart = checkout().join("charts/whygate");
        let chart = chart.to_str().context("the path of the checkout is no text")?;
        let fixed = [verb, self.0, chart, "--namespace", self.0];
        run("helm", &[&fixed[..], &IMAGE, &WAIT, arguments].concat())?;
        Ok(())
    }

    /// Runs the tests of the chart. Without `--logs`: the pod goes when it has succeeded.
    pub(crate) fn test(self) -> anyhow::Result<String> {
        run("helm", &["test", self.0, "--namespace", self.0])
    }

    /// Removes the release and waits until its pods are gone.
    pub(crate) fn uninstall(self) -> anyhow::Result<()> {
        run("helm", &[&["uninstall", self.0, "--namespace", self.0], &WAIT[..]].concat())?;
        Ok(())
    }

    /// Its pods, also those that end.
    pub(crate) fn pods(self) -> anyhow::Result<Vec<Value>> {
        let selector =
            format!("app.kubernetes.io/instance={},app.kubernetes.io/component=gateway", self.0);
        let mut list = get(&format!("pods --namespace {} --selector {selector}", self.0))?;
        match list.get_mut("items").map(Value::take) {
            Some(Value::Array(pods)) => Ok(pods),
            _ => anyhow::bail!("no list of pods"),
        }
    }

    /// The names of its pods; fails unless there are `count`, all of them ready.
    pub(crate) fn ready(self, count: usize) -> anyhow::Result<Vec<String>> {
        let pods = self.pods()?;
        let ready = |pod: &&Value| {
            let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
            conditions.into_iter().flatten().any(|condition| {
                condition.get("type").is_some_and(|it| it == "Ready")
                    && condition.get("status").is_some_and(|it| it == "True")
            })
        };
        let names: Vec<String> = pods.iter().filter(ready).filter_map(name).collect();
        ensure!(
            names.len() == count && pods.len() == count,
            "{} of {} ready",
            names.len(),
            pods.len()
        );
        Ok(names)
    }

    /// The address that its Service was given.
    pub(crate) fn address(self) -> anyhow::Result<String> {
        let jsonpath = "jsonpath={.status.loadBalancer.ingress[0].ip}";
        kubectl(&format!("get service {0} --namespace {0} --output {jsonpath}", self.0))
    }

    /// What a pod has logged.
    pub(crate) fn log(self, pod: &str) -> anyhow::Result<String> {
        kubectl(&format!("logs {pod} --namespace {}", self.0))
    }
}

fn name(object: &Value) -> Option<String> {
    object.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned)
}
