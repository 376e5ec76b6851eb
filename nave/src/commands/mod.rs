//! The command line.
//!
//! Every command exits with one of these codes:
//!
//! | code | meaning |
//! |---|---|
//! | 0 | it did what was asked |
//! | 1 | it failed, or what it asked for failed: the error says why, with a code for `nave explain` |
//! | 2 | the command line, the configuration, or a file that they name cannot be used |
//! | 3 | nothing listens at `--url`; an answer that breaks off is 1 |
//! | 130 | a second Ctrl-C ended it at once |
//!
//! Read in this order: this file (which commands there are), `said` (options that are configuration), `up` (processes), `submit`
//! and `topics` (what is written to the bus, and what it needs), `topologies`, `operations`, `spokes` and `why` (questions to a
//! running system), `sim` (a topology in virtual time), `told` (what is printed).

mod operations;
mod said;
mod sim;
mod spokes;
mod submit;
mod told;
mod topics;
mod topologies;
mod up;
mod why;

use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use self::said::ConfigArgs;
use self::told::Told;
use crate::client::{self, Client};
use crate::config::Faults;
use crate::explain;
use crate::program::{About, Program, ProgramError};

/// Nave: workflows that talk to the outside world, and nothing ever stuck unseen.
#[derive(Debug, Parser)]
#[command(arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done; 1 failed; 2 the command line or the configuration cannot be used; 3 nobody answers \
                        at --url; 130 a second Ctrl-C"
)]
struct Cli {
    /// Print JSON, for programs
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Submit every topology and run everything in one process
    Up(up::UpArgs),
    /// Run some stages, or roles of the flow topology, in a process of their own
    Run(up::RunArgs),
    /// Submit a topology: write its name, graph, lanes, settings and edges to the control topic
    Submit(submit::SubmitArgs),
    /// What was submitted
    #[command(subcommand)]
    Topologies(topologies::Topologies),
    /// Start operations, look at them, and take them in hand
    #[command(subcommand)]
    Operations(operations::Operations),
    /// Operations that broke a rule and wait for a person
    #[command(subcommand)]
    Parked(operations::Parked),
    /// The services that work is sent to
    #[command(subcommand)]
    Spokes(spokes::Spokes),
    /// Say why an operation is where it is: what it waits for, until when, and what happens then
    Why(why::WhyArgs),
    /// Say what a code means: what happened, what was done, what to try
    Explain {
        /// The code, like NAVE-0101; all of them where it is left out
        code: Option<String>,
    },
    /// Run a topology in virtual time with everything going wrong, seed by seed
    Sim(sim::SimArgs),
    /// Topics, for those who create them by hand
    #[command(subcommand)]
    Topics(topics::Topics),
    /// Print the components, streams and groupings of a topology of this program
    Describe {
        /// Its name; all of them where it is left out
        name: Option<String>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Print what a shell needs to complete these commands: `source <(nave completion bash)`
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Where the REST interface is, and how to be let in.
#[derive(Debug, Args)]
struct RemoteArgs {
    /// Where the REST interface is
    #[arg(long, env = "NAVE_URL", default_value = "http://127.0.0.1:8088")]
    url: String,
    /// A file with the token that the REST interface asks for
    #[arg(long, env = "NAVE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<std::path::PathBuf>,
}

impl RemoteArgs {
    fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&self.url, self.token_file.as_deref())?)
    }
}

/// Runs the command line of this process over a program.
pub fn run(program: Result<Program, ProgramError>) -> ExitCode {
    let about = program.as_ref().map_or(Program::nave(), Program::about);
    let cli = Cli::from_arg_matches(&command(about).get_matches()).unwrap_or_else(|error| error.exit());
    let json = cli.json;
    let outcome = program.map_err(anyhow::Error::from).and_then(|program| perform(cli, &program));
    match outcome {
        Ok(told) => {
            print!("{}", told.text(json));
            ExitCode::SUCCESS
        }
        Err(error) => {
            if json {
                eprintln!("{}", told::fault(&error));
            } else {
                eprintln!("error: {error:#}");
            }
            ExitCode::from(exit_code(&error))
        }
    }
}

/// The command line, under the name of its program.
fn command(about: About) -> clap::Command {
    Cli::command().name(about.name).version(about.version)
}

/// What is said of an error in a number; the table is at the head of this file.
fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Faults>() || error.is::<told::Usage>() || error.is::<client::Unusable>() {
        2
    } else if error.is::<client::Unreachable>() {
        3
    } else {
        1
    }
}

fn perform(cli: Cli, program: &Program) -> anyhow::Result<Told> {
    match cli.command {
        Command::Up(args) => up::up(&args, program),
        Command::Run(args) => up::run(&args, program),
        Command::Submit(args) => submit::submit(&args, program),
        Command::Topologies(command) => topologies::perform(&command),
        Command::Operations(command) => operations::perform(&command),
        Command::Parked(command) => operations::parked(&command),
        Command::Spokes(command) => spokes::perform(&command),
        Command::Why(args) => why::why(&args),
        Command::Explain { code } => explained(code.as_deref()),
        Command::Sim(args) => sim::sim(&args, program),
        Command::Topics(command) => topics::perform(&command, program),
        Command::Describe { name, config } => submit::describe(name.as_deref(), &config, program),
        Command::Completion { shell } => Ok(completion(shell, program.about())),
    }
}

fn explained(code: Option<&str>) -> anyhow::Result<Told> {
    let Some(code) = code else {
        let rows = explain::pages().iter().map(|page| vec![page.code.to_owned(), page.title.to_owned()]);
        let rows: Vec<_> = rows.collect();
        return Ok(Told::table(&["CODE", "WHAT HAPPENED"], &rows, serde_json::to_value(explain::pages())?));
    };
    let page = explain::page(code).map_err(|unknown| told::Usage(unknown.to_string()))?;
    Ok(Told::Text { text: page.to_string(), json: serde_json::to_value(page)? })
}

fn completion(shell: clap_complete::Shell, about: About) -> Told {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(about), about.name, &mut script);
    Told::Raw(String::from_utf8_lossy(&script).into_owned())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_program_has_its_own_name_and_version_on_the_command_line() {
        let about = About { name: "trip", version: "7.1.0" };
        assert_eq!(command(about).render_version(), "trip 7.1.0\n");
        assert!(completion(clap_complete::Shell::Bash, about).text(false).contains("_trip()"));
    }

    #[test]
    fn every_shell_can_complete_every_command() {
        for shell in clap_complete::Shell::value_variants() {
            let script = completion(*shell, Program::nave()).text(false);
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell} does not know {}", command.get_name());
            }
        }
    }
}
