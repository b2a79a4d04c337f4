//! The command line: one command a file, and one sentence when something cannot be done.

mod check;
mod code;
mod demo;
mod key;
mod run;
mod serve;

use std::{future::Future, process::ExitCode};

use clap::{Parser, Subcommand, error::ErrorKind};

use crate::output;

/// The Kubernetes ingress that says why: every refusal names the policy, the rule, the observed
/// fact and the remedy.
#[derive(Debug, Parser)]
#[command(name = "whygate", version, max_term_width = 100)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Serve(serve::Serve),
    Demo(demo::Demo),
    Check(check::Check),
    #[command(subcommand)]
    Key(key::Key),
    Code(code::Code),
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(error) => return misunderstood(&error),
    };
    match line.command {
        Command::Run(run) => ended(serving(run.execute())),
        Command::Serve(serve) => ended(serving(serve.execute())),
        Command::Demo(demo) => ended(serving(demo.execute())),
        Command::Check(check) => check.execute(),
        Command::Key(key) => ended(key.execute()),
        Command::Code(code) => code.execute(),
    }
}

/// Help and version are results; anything else is one sentence and exit code 1.
fn misunderstood(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        let text = error.render();
        output::text(&if output::has_colour() {
            text.ansi().to_string()
        } else {
            text.to_string()
        });
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    let said = text.lines().take_while(|line| !line.starts_with("Usage:"));
    let said = said.map(str::trim).filter(|line| !line.is_empty());
    let sentence: Vec<_> = said.filter(|line| !line.starts_with("For more information")).collect();
    let sentence = sentence.join(" ");
    let sentence = sentence.trim_start_matches("error: ");
    output::error(&format!("{sentence}; `--help` shows what is possible"));
    ExitCode::FAILURE
}

/// Runs a command on the threads of the control plane, apart from those of the data plane.
fn serving(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()?;
    let result = runtime.block_on(command);
    runtime.shutdown_background();
    result
}

fn ended(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, each of them once.
fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !sentence.contains(&cause) {
            if !sentence.is_empty() {
                sentence.push_str(": ");
            }
            sentence.push_str(&cause);
        }
    }
    sentence
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Line::command().debug_assert();
    }

    #[test]
    fn the_help_of_every_command_ends_with_two_examples() {
        for command in Line::command().get_subcommands_mut() {
            let help = command.clone().render_long_help().to_string();
            let examples = help.split("Examples:\n").nth(1).unwrap_or_default();
            let lines = examples.lines().filter(|line| line.starts_with("  whygate "));
            assert_eq!(lines.count(), 2, "{}:\n{help}", command.get_name());
        }
    }

    #[test]
    fn every_flag_has_its_environment_variable() {
        for command in Line::command().get_subcommands() {
            for flag in command.get_arguments().filter(|it| it.get_long().is_some()) {
                let long = flag.get_long().unwrap_or_default();
                let expected = format!("WHYGATE_{}", long.to_uppercase().replace('-', "_"));
                let found = flag.get_env().map(|name| name.to_string_lossy().into_owned());
                if long != "help" {
                    assert_eq!(found, Some(expected), "{} --{long}", command.get_name());
                }
            }
        }
    }
}
