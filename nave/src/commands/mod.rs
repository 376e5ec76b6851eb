//! The command line.
//!
//! Every command exits with one of these codes:
//!
//! | code | meaning |
//! |---|---|
//! | 0 | success |
//! | 1 | the command or its request failed; the message has the reason and a code for `nave explain` |
//! | 2 | the command line, the configuration or a file that they name is invalid |
//! | 3 | nothing listens at `--url`; an incomplete answer is 1 |
//! | 130 | a second Ctrl-C stopped the process immediately |
//!
//! Read in this order: this file (the commands), `options` (options that set configuration), `up`
//! (processes), `submit` and `topics` (topologies and topics on the bus), `describe`, `topologies`,
//! `top`, `operations`, `spokes` and `why` (queries to a running system), `sim` (a topology in virtual
//! time), `output` (tables and JSON).

mod describe;
mod operations;
mod options;
mod output;
mod sim;
mod spokes;
mod submit;
mod top;
mod topics;
mod topologies;
mod up;
mod why;

use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use topology::{BuildErrors, Topology};

use self::output::Output;
use crate::client::{self, Client};
use crate::config::ConfigErrors;
use crate::explain;
use crate::program::{About, Program, ProgramError};

/// Nave: workflows that call external services, and show what each operation waits for.
#[derive(Debug, Parser)]
#[command(arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 success; 1 failure; 2 invalid command line or configuration; 3 nothing listens at \
                        --url; 130 second Ctrl-C"
)]
struct Cli {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Submit every topology and run everything in one process
    Up(up::UpArgs),
    /// Run some stages, roles or spokes in a process of their own
    Run(up::RunArgs),
    /// Submit a topology: write its name, graph, lanes, settings and topics to the control topic
    Submit(submit::SubmitArgs),
    /// List, describe, activate, deactivate, rebalance and kill submitted topologies
    #[command(subcommand)]
    Topologies(topologies::Topologies),
    /// Show the components of a running topology, with rates, failures and backlogs, until interrupted
    Top(top::TopArgs),
    /// Start, list, show, signal and cancel operations
    #[command(subcommand)]
    Operations(operations::Operations),
    /// Operations that violated a rule and wait for a person to resume or abort them
    #[command(subcommand)]
    Parked(operations::Parked),
    /// Services that workflows call, and their instances
    #[command(subcommand)]
    Spokes(spokes::Spokes),
    /// Explain what an operation waits for, until when, and what happens next
    Why(why::WhyArgs),
    /// Explain a code: what happened, what was done, what to try
    Explain {
        /// The code, like NAVE-0101 [default: list all codes]
        code: Option<String>,
    },
    /// Run a topology in virtual time under random faults, one run per seed
    Sim(sim::SimArgs),
    /// List the topics that topologies need, with their settings
    #[command(subcommand)]
    Topics(topics::Topics),
    /// Print or draw a topology of this program: stages, guarantees, components, streams, groupings
    Describe(describe::DescribeArgs),
    /// Print a completion script for a shell: `source <(nave completion bash)`
    Completion {
        /// Shell
        shell: clap_complete::Shell,
    },
}

/// How to reach the REST interface.
#[derive(Debug, Args)]
struct RemoteArgs {
    /// URL of the REST interface
    #[arg(long, env = "NAVE_URL", default_value = "http://127.0.0.1:8088")]
    url: String,
    /// File with the token for the REST interface
    #[arg(long, env = "NAVE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<std::path::PathBuf>,
}

impl RemoteArgs {
    fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&self.url, self.token_file.as_deref())?)
    }
}

/// Runs the command line over these topologies, each built by a function or a closure. `about` is
/// the name and the version of the binary: `nave::main(nave::about!(), [orders])`.
pub fn main<F>(about: About, topologies: impl IntoIterator<Item = F>) -> ExitCode
where
    F: FnOnce() -> Result<Topology, BuildErrors>,
{
    run(Program::of(about, topologies))
}

/// Runs the command line over a program with spokes or scenarios; see [`Program::spoke`].
pub fn run(program: Result<Program, ProgramError>) -> ExitCode {
    let about = program.as_ref().map_or(Program::nave(), Program::about);
    crate::program::set_name(about.name);
    let cli = Cli::from_arg_matches(&command(about).get_matches()).unwrap_or_else(|error| error.exit());
    let json = cli.json;
    let outcome = program.map_err(anyhow::Error::from).and_then(|program| perform(cli, &program));
    match outcome {
        Ok(output) => {
            print!("{}", output.text(json));
            ExitCode::SUCCESS
        }
        Err(error) => {
            if json {
                eprintln!("{}", output::error_json(&error));
            } else {
                eprintln!("error: {error:#}");
            }
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Returns the parser of the command line, with the name and version of the program.
fn command(about: About) -> clap::Command {
    Cli::command().name(about.name).version(about.version)
}

/// Returns the exit code of an error; see the table at the top of this file.
fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigErrors>() || error.is::<output::Usage>() || error.is::<client::Unusable>() {
        2
    } else if error.is::<client::Unreachable>() {
        3
    } else {
        1
    }
}

fn perform(cli: Cli, program: &Program) -> anyhow::Result<Output> {
    match cli.command {
        Command::Up(args) => up::up(&args, program),
        Command::Run(args) => up::run(&args, program),
        Command::Submit(args) => submit::submit(&args, program),
        Command::Topologies(command) => topologies::perform(&command),
        Command::Top(args) => top::top(&args, cli.json),
        Command::Operations(command) => operations::perform(&command),
        Command::Parked(command) => operations::parked(&command),
        Command::Spokes(command) => spokes::perform(&command),
        Command::Why(args) => why::why(&args),
        Command::Explain { code } => explained(code.as_deref()),
        Command::Sim(args) => sim::sim(&args, program),
        Command::Topics(command) => topics::perform(&command, program),
        Command::Describe(args) => describe::local(&args, program),
        Command::Completion { shell } => Ok(completion(shell, program.about())),
    }
}

fn explained(code: Option<&str>) -> anyhow::Result<Output> {
    let Some(code) = code else {
        let rows = explain::pages().iter().map(|page| vec![page.code.to_owned(), page.title.to_owned()]);
        let rows: Vec<_> = rows.collect();
        return Ok(Output::table(&["CODE", "WHAT HAPPENED"], &rows, serde_json::to_value(explain::pages())?));
    };
    let page = explain::page(code).map_err(|unknown| output::Usage(unknown.to_string()))?;
    Ok(Output::Text { text: page.to_string(), json: serde_json::to_value(page)? })
}

fn completion(shell: clap_complete::Shell, about: About) -> Output {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(about), about.name, &mut script);
    Output::Raw(String::from_utf8_lossy(&script).into_owned())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn the_command_line_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_command_line_has_the_name_and_version_of_its_program() {
        let about = About { name: "trip", version: "7.1.0" };
        assert_eq!(command(about).render_version(), "trip 7.1.0\n");
        assert!(completion(clap_complete::Shell::Bash, about).text(false).contains("_trip()"));
    }

    #[test]
    fn every_shell_completes_every_command() {
        for shell in clap_complete::Shell::value_variants() {
            let script = completion(*shell, Program::nave()).text(false);
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell} does not complete {}", command.get_name());
            }
        }
    }
}
