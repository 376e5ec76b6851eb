//! The measured buses.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use bus::{Bus, Clock, DiskOptions, Embedded, EmbeddedOptions, Kafka, KafkaOptions};
use clap::ValueEnum;
use nave::spoke::Delivery;

/// The kind of a bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BusKind {
    /// In the process, in memory
    Memory,
    /// In the process, on disk
    Disk,
    /// An Apache Kafka broker
    Kafka,
}

impl BusKind {
    /// The name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Kafka => "Kafka",
        }
    }

    /// How a speaker sends its answers, as in `nave up`: it remembers its calls, so it needs no
    /// Kafka transactions.
    pub(crate) fn delivery(self) -> Delivery {
        match self {
            Self::Memory | Self::Disk => Delivery::Transactional,
            Self::Kafka => Delivery::immediate(),
        }
    }
}

/// The locations of the broker and of the disk.
#[derive(Debug, clap::Args)]
pub(crate) struct Locations {
    /// The broker [default: the one of `tools/kafka start`]
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// The directory on the measured disk
    #[arg(long, default_value = "target/bench")]
    pub(crate) data: PathBuf,
    /// When the disk is synced
    #[arg(long, value_enum, default_value_t = crate::Synced::Always)]
    pub(crate) sync: crate::Synced,
}

impl Locations {
    /// Opens a bus. On disk, `name` is its directory, which must be unused.
    pub(crate) fn open(&self, bus_kind: BusKind, clock: &Arc<dyn Clock>, name: &str) -> anyhow::Result<Arc<dyn Bus>> {
        self.open_with(bus_kind, clock, name, EmbeddedOptions::default())
    }

    /// Opens a bus with options for an embedded one.
    pub(crate) fn open_with(
        &self,
        bus_kind: BusKind,
        clock: &Arc<dyn Clock>,
        name: &str,
        options: EmbeddedOptions,
    ) -> anyhow::Result<Arc<dyn Bus>> {
        let clock = Arc::clone(clock);
        Ok(match bus_kind {
            BusKind::Memory => Arc::new(Embedded::open(clock, options)),
            BusKind::Disk => {
                let disk = DiskOptions::new(self.data.join(name)).synced(self.sync.of());
                Arc::new(Embedded::on_disk(clock, options, &disk)?)
            }
            BusKind::Kafka => Arc::new(Kafka::open(clock, KafkaOptions::new(self.brokers()?))?),
        })
    }

    /// Removes the data of a closed bus.
    pub(crate) fn clean(&self, bus_kind: BusKind, name: &str) -> anyhow::Result<()> {
        if bus_kind == BusKind::Disk {
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
            .with_context(|| format!("no broker: use --brokers, or run tools/kafka start ({})", file.display()))?
            .trim()
            .to_owned())
    }

    /// The process id of the broker, if `tools/kafka start` started it.
    pub(crate) fn broker(&self) -> Option<u32> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.kafka/1/pid");
        let process = self.brokers.is_none().then(|| std::fs::read_to_string(file).ok()).flatten()?;
        process.trim().parse().ok()
    }
}
