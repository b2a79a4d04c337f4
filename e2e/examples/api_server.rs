//! Runs a command beside a real API server: `cargo run -p e2e --example api_server -- COMMAND…`.
//!
//! The command has the network of the tests and these variables: `TEST_KUBECONFIG` (the
//! administrator's), `KUBECTL`, `HELM` and `WHYGATE` (the program, built if need be). The server
//! ends with the command.

use std::{
    env,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, ensure};
use e2e::{ApiServer, kubernetes, namespace, program};

fn main() -> anyhow::Result<ExitCode> {
    if !namespace::inside() {
        let settings = [
            (kubernetes::VARIABLE, kubernetes::programs()?.display().to_string()),
            (program::VARIABLE, program::build()?.display().to_string()),
            ("HELM", kubernetes::helm()?.display().to_string()),
        ];
        let scratch = env::temp_dir().join("whygate-api-server");
        match namespace::enter(&settings, &scratch.display().to_string())? {}
    }
    namespace::prepare()?;
    tokio::runtime::Runtime::new()?.block_on(beside())
}

async fn beside() -> anyhow::Result<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    let command = arguments.next().context("say which command to run")?;
    let server = ApiServer::start().await?;
    let kubectl = Path::new(&env::var(kubernetes::VARIABLE)?).join("kubectl");
    let status = Command::new(&command)
        .args(arguments)
        .env("TEST_KUBECONFIG", server.kubeconfig())
        .env("KUBECTL", kubectl)
        .env("WHYGATE", env::var_os(program::VARIABLE).unwrap_or_default())
        .status()
        .with_context(|| format!("cannot run {}", command.display()))?;
    ensure!(status.code().is_some(), "the command was ended by a signal");
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
