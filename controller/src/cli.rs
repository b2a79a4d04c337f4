//! The command line: one command a file, and one sentence when something cannot be done.

mod check;
mod code;
mod demo;
mod echo;
mod key;
mod refusal_test;
mod run;
mod serve;

use std::{future::Future, process::ExitCode};

use clap::{Parser, Subcommand, error::ErrorKind};

use crate::{gateway::GatewayError, output};

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
    Echo(echo::Echo),
    RefusalTest(refusal_test::RefusalTest),
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
        Command::Echo(echo) => ended(serving(echo.execute())),
        Command::RefusalTest(test) => ended(serving(test.execute())),
    }
}

/// The exit code of a command line that cannot be followed, as shells have it.
const USAGE: u8 = 2;

/// Help and version are results; anything else is one sentence and exit code 2.
fn misunderstood(error: &clap::Error) -> ExitCode {
    let text = error.render();
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        output::text(&if output::has_colour() {
            text.ansi().to_string()
        } else {
            text.to_string()
        });
        return ExitCode::SUCCESS;
    }
    output::error(&in_one_line(&text.to_string()));
    ExitCode::from(USAGE)
}

/// What clap says in several lines, as one sentence.
fn in_one_line(text: &str) -> String {
    let said = text.lines().take_while(|line| !line.starts_with("Usage:")).map(str::trim);
    let said = said.filter(|line| !line.is_empty() && !line.starts_with("For more information"));
    let mut sentence = String::new();
    for line in said {
        let line = line.trim_start_matches("error: ");
        if let Some(tip) = line.strip_prefix("tip: ") {
            let tip = tip.replacen(" exists: ", " is ", 1).replacen(" exist: ", " are ", 1);
            sentence.push_str("; ");
            sentence.push_str(&tip);
        } else {
            let gap = if sentence.is_empty() { "" } else { " " };
            sentence.push_str(gap);
            sentence.push_str(line);
        }
    }
    sentence + "; `--help` shows what is possible"
}

/// Runs a command on the threads of the control plane, apart from those of the data plane.
fn serving(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .on_thread_start(stand_back)
        .enable_all()
        .build()?;
    let result = runtime.block_on(command);
    runtime.shutdown_background();
    result
}

/// Data threads go first where there is less processor than work, so that no request waits for a
/// compile; a tenth is left to us even then. A thread that may not is as it was.
fn stand_back() {
    let _ = rustix::process::nice(10);
}

fn ended(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&sentence(&error));
            if is_about_flags(&error) { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

/// Whether flags that are readable one by one do not go together.
fn is_about_flags(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<GatewayError>();
    error.is_some_and(|it| matches!(it, GatewayError::Settings(_) | GatewayError::OpenInspect(_)))
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
    use anyhow::Context;
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Line::command().debug_assert();
    }

    #[test]
    fn what_compiles_stands_back_behind_what_serves() {
        let nice = || {
            let told = std::fs::read_to_string("/proc/thread-self/stat")?;
            let (_, fields) = told.rsplit_once(')').context("no name")?;
            Ok(fields.split_whitespace().nth(16).context("no such field")?.parse::<i32>()?)
        };
        let before: anyhow::Result<i32> = nice();
        serving(async move {
            let compiling = tokio::task::spawn_blocking(nice).await??;
            let before = before?;
            assert_eq!((nice()?, compiling), (before, (before + 10).min(19)));
            Ok(())
        })
        .unwrap();
    }

    /// What is said about a line that cannot be read.
    fn said(line: &[&str]) -> String {
        let error = Line::try_parse_from([&["whygate"], line].concat()).unwrap_err();
        in_one_line(&error.render().to_string())
    }

    #[test]
    fn a_typing_error_is_one_sentence_with_what_was_meant() {
        assert_eq!(
            said(&["run", "--http-listn", "off"]),
            "unexpected argument '--http-listn' found; a similar argument is '--http-listen'; \
             `--help` shows what is possible"
        );
        let said = said(&["serv"]);
        assert!(
            said.contains("unrecognized subcommand 'serv'; ") && said.contains("'serve'"),
            "{said}"
        );
    }

    #[test]
    fn flags_that_do_not_go_together_count_as_a_wrong_command_line() {
        let flags = GatewayError::Settings(crate::settings::SettingsError::NoHeader);
        assert!(is_about_flags(&flags.into()));
        assert!(!is_about_flags(&anyhow::anyhow!("the network is down")));
    }

    #[test]
    fn the_help_of_a_command_names_its_own_defaults() {
        let help = |name| {
            let mut line = Line::command();
            let command = line.find_subcommand_mut(name).unwrap();
            command.render_long_help().to_string()
        };
        let (run, demo) = (help("run"), help("demo"));
        assert!(run.contains("`[::]:8080`") && !run.contains("`127.0.0.1:8080`"), "{run}");
        assert!(demo.contains("`127.0.0.1:8080`") && !demo.contains("`[::]:8080`"), "{demo}");
        assert!(run.contains("list accesspolicies"), "{run}");
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
