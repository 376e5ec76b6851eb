//! The command line.

mod up;
mod why;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Nave: workflows that talk to the outside world, and nothing ever stuck unseen.
#[derive(Debug, Parser)]
#[command(name = "nave", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything in one process: hub, workers, northbound, and a simulated switch controller
    Up(UpArgs),
    /// Say why an operation is where it is: what it waits for, until when, and what happens then
    Why(WhyArgs),
    /// Print the components, streams and groupings of the flow topology
    Describe,
}

/// Where records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BusKind {
    /// In this process, in memory: nothing to install, and gone with the process
    Embedded,
    /// An Apache Kafka cluster
    Kafka,
}

#[derive(Debug, Args)]
struct UpArgs {
    /// Where records are kept
    #[arg(long, value_enum, default_value = "embedded")]
    bus: BusKind,
    /// With `--bus kafka`: the brokers, like 127.0.0.1:9092
    #[arg(long, value_name = "HOST:PORT", required_if_eq("bus", "kafka"))]
    brokers: Option<String>,
    /// Lanes of the hub stage: what runs side by side. Fixed for the life of its topics
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    lanes: u32,
    /// Hub and worker in 1 stage, or in 2 with a topic between them [default: 1 embedded, 2 on Kafka]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=2))]
    stages: Option<u32>,
    /// Threads that run the lanes of each stage
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
    /// Address of the REST interface; loopback alone
    #[arg(long, default_value = "127.0.0.1:8088", value_parser = loopback)]
    rest: SocketAddr,
    /// Address of the simulated switch controller's admin interface; loopback alone
    #[arg(long, default_value = "127.0.0.1:8089", value_parser = loopback)]
    admin: SocketAddr,
    /// First word of every topic's name, to keep two installations on one cluster apart
    #[arg(long, default_value = wire::topics::DEFAULT_PREFIX, value_parser = prefix)]
    prefix: String,
    /// What is logged, like `info` or `warn,topology=debug`; also in `NAVE_LOG`
    #[arg(long)]
    log: Option<String>,
}

#[derive(Debug, Args)]
struct WhyArgs {
    /// The operation, as an answer or a 202 named it
    operation: String,
    /// Where the REST interface is
    #[arg(long, default_value = "http://127.0.0.1:8088")]
    url: String,
    /// Print the operation as JSON
    #[arg(long)]
    json: bool,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "an address and a port, like 127.0.0.1:8088".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("only loopback addresses (127.0.0.0/8, [::1]): calls are not authenticated yet".to_owned())
    }
}

fn prefix(text: &str) -> Result<String, String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    if (1..=64).contains(&text.len()) && text.bytes().all(good) {
        Ok(text.to_owned())
    } else {
        Err("1 to 64 characters of A-Z a-z 0-9 _ -".to_owned())
    }
}

/// Runs the command line.
pub fn run() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Up(args) => up::up(&args),
        Command::Why(args) => why::why(&args),
        Command::Describe => describe(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn describe() -> anyhow::Result<()> {
    print!("{}", flows::flow_topology()?.describe());
    Ok(())
}
