//! The buses that figures are measured on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use bus::{Bus, Clock, DiskOptions, Embedded, EmbeddedOptions, Kafka, KafkaOptions};
use clap::ValueEnum;

/// Where records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kept {
    /// In the process, in memory
    Memory,
    /// In the process, on disk
    Disk,
    /// An Apache Kafka broker
    Kafka,
}

impl Kept {
    /// As tables name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Kafka => "Kafka",
        }
    }
}

/// Where broker and disk are.
#[derive(Debug, clap::Args)]
pub(crate) struct Places {
    /// The broker [default: the one that `tools/kafka start` left]
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// Where the disk is that is measured
    #[arg(long, default_value = "target/bench")]
    pub(crate) data: PathBuf,
    /// When it is synced
    #[arg(long, value_enum, default_value_t = crate::Synced::Always)]
    pub(crate) sync: crate::Synced,
}

impl Places {
    /// A bus; `name` is the folder of one on disk, which nobody else may have.
    pub(crate) fn open(&self, kept: Kept, clock: &Arc<dyn Clock>, name: &str) -> anyhow::Result<Arc<dyn Bus>> {
        self.open_with(kept, clock, name, EmbeddedOptions::default())
    }

    /// The same, with options where it is in the process.
    pub(crate) fn open_with(
        &self,
        kept: Kept,
        clock: &Arc<dyn Clock>,
        name: &str,
        options: EmbeddedOptions,
    ) -> anyhow::Result<Arc<dyn Bus>> {
        let clock = Arc::clone(clock);
        Ok(match kept {
            Kept::Memory => Arc::new(Embedded::open(clock, options)),
            Kept::Disk => {
                let disk = DiskOptions::new(self.data.join(name)).synced(self.sync.of());
                Arc::new(Embedded::on_disk(clock, options, &disk)?)
            }
            Kept::Kafka => Arc::new(Kafka::open(clock, KafkaOptions::new(self.brokers()?))?),
        })
    }

    /// Removes what a bus left that is closed.
    pub(crate) fn clean(&self, kept: Kept, name: &str) -> anyhow::Result<()> {
        if kept == Kept::Disk {
            std::fs::remove_dir_all(self.data.join(name))?;
        }
        Ok(())
    }

    /// The addresses of the broker.
    pub(crate) fn brokers(&self) -> anyhow::Result<String> {
        if let Some(brokers) = &self.brokers {
            return Ok(brokers.clone());
        }
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.kafka/address");
        let address = std::fs::read_to_string(&file);
        Ok(address
            .with_context(|| {
                format!("no broker: give --brokers, or start one: tools/kafka start ({})", file.display())
            })?
            .trim()
            .to_owned())
    }

    /// The process of the broker that `tools/kafka start` left, where that is the one.
    pub(crate) fn broker(&self) -> Option<u32> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.kafka/1/pid");
        let process = self.brokers.is_none().then(|| std::fs::read_to_string(file).ok()).flatten()?;
        process.trim().parse().ok()
    }
}
