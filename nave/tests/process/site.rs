//! An installation over Kafka.

use tempfile::TempDir;
use wire::topics::Topics;

use super::{Up, any_ports, nave};

/// A prefix of its own on a broker, with the topology `flows` submitted.
pub(crate) struct Site {
    /// What every process of it is told.
    place: Vec<String>,
    /// Settings of the topology, for processes that submit it.
    settings: Vec<String>,
    /// Rules and memory of the simulated controller outlive its process, as those of switches do.
    sim_dir: TempDir,
}

impl Site {
    /// So many copies are kept of each record. Settings of the topology by their paths, with so many milliseconds.
    pub(crate) fn submitted(brokers: &str, copies: usize, settings: &[(&str, u64)]) -> Self {
        let (prefix, copies) =
            (format!("t{}", uuid::Uuid::new_v4().simple()), format!("bus.kafka.replication={copies}"));
        let place = ["--bus", "kafka", "--brokers", brokers, "--prefix", &prefix, "--set", &copies];
        let set = |(path, ms): &(&str, u64)| format!("--set=topologies.flows.settings.{path}={ms}");
        let settings: Vec<String> = settings.iter().map(set).collect();
        let submit = nave(&["submit", "flows"]).args(place).args(&settings).output().expect("the binary starts");
        assert!(submit.status.success(), "{}", String::from_utf8_lossy(&submit.stderr));
        Self { place: place.map(str::to_owned).to_vec(), settings, sim_dir: TempDir::new().expect("a folder") }
    }

    /// What its topics are called.
    pub(crate) fn topics(&self) -> Topics {
        let prefix = self.place.iter().skip_while(|word| *word != "--prefix").nth(1);
        Topics::new(prefix.expect("it has a prefix of its own"))
    }

    /// Starts a process of it.
    pub(crate) fn run(&self, role: &str) -> Up {
        self.run_all(&[role])
    }

    /// Starts a process with several roles.
    pub(crate) fn run_all(&self, roles: &[&str]) -> Up {
        let mut args = vec!["run"];
        args.extend(roles.iter().flat_map(|role| ["--role", role]));
        let dir = format!("sim.data={}", self.sim_dir.path().display());
        if roles.contains(&"floodlight-sim") {
            args.extend(["--set", &dir]);
        }
        self.start(args)
    }

    /// Starts a process that submits and runs everything, with these arguments besides.
    pub(crate) fn up(&self, more: &[&str]) -> Up {
        let mut args = vec!["up"];
        args.extend(self.settings.iter().map(String::as_str));
        args.extend(more);
        self.start(args)
    }

    fn start<'a>(&'a self, mut args: Vec<&'a str>) -> Up {
        args.extend(any_ports(&args));
        args.extend(self.place.iter().map(String::as_str));
        Up::start(&args)
    }
}
