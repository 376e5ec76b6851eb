//! `nave spokes`: the services that workflows call, and their instances.

use clap::Subcommand;

use super::RemoteArgs;
use super::output::{Output, fields, listing};

#[derive(Debug, Subcommand)]
pub(super) enum Spokes {
    /// List all services
    List {
        #[command(flatten)]
        at: RemoteArgs,
    },
    /// Print a service: its instances, and when each last sent a heartbeat
    Show {
        /// Name of the service, like speaker
        service: String,
        #[command(flatten)]
        at: RemoteArgs,
    },
}

pub(super) fn perform(command: &Spokes) -> anyhow::Result<Output> {
    match command {
        Spokes::List { at } => {
            let columns = [("SERVICE", "/service"), ("UP", "/up"), ("INSTANCES", "/instances")];
            Ok(listing(at.client()?.spokes()?, &columns))
        }
        Spokes::Show { service, at } => Ok(fields(at.client()?.spoke(service)?)),
    }
}
