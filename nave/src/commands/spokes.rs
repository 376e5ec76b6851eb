//! `nave spokes`: the services that work is sent to, and which of their instances live.

use clap::Subcommand;

use super::RemoteArgs;
use super::told::{Told, fields, listing};

#[derive(Debug, Subcommand)]
pub(super) enum Spokes {
    /// List every service
    List {
        #[command(flatten)]
        at: RemoteArgs,
    },
    /// Print a service: its instances, and when each was last heard
    Show {
        /// The service, like speaker
        service: String,
        #[command(flatten)]
        at: RemoteArgs,
    },
}

pub(super) fn perform(command: &Spokes) -> anyhow::Result<Told> {
    match command {
        Spokes::List { at } => {
            let columns = [("SERVICE", "/service"), ("UP", "/up"), ("INSTANCES", "/instances")];
            Ok(listing(at.client()?.spokes()?, &columns))
        }
        Spokes::Show { service, at } => Ok(fields(at.client()?.spoke(service)?)),
    }
}
