//! A deployment on Kafka.

use tempfile::TempDir;
use wire::topics::Topics;

use super::{Up, any_ports, nave};

/// A unique prefix on a broker with the topology `flows` submitted.
pub(crate) struct Site {
    /// Arguments of all its processes.
    args: Vec<String>,
    /// Topology settings, for processes that submit it.
    settings: Vec<String>,
    /// The rules and memory of the simulated controller outlive its process, like those of
    /// switches.
    sim_dir: TempDir,
}

impl Site {
    /// Submits the topology with `copies` replicas of each record and these settings, in
    /// milliseconds.
    pub(crate) fn submitted(brokers: &str, copies: usize, settings: &[(&str, u64)]) -> Self {
        let (prefix, copies) =
            (format!("t{}", uuid::Uuid::new_v4().simple()), format!("bus.kafka.replication={copies}"));
        let args = ["--bus", "kafka", "--brokers", brokers, "--prefix", &prefix, "--set", &copies];
        let set = |(path, ms): &(&str, u64)| format!("--set=topologies.flows.settings.{path}={ms}");
        let settings: Vec<String> = settings.iter().map(set).collect();
        let submit = nave(&["submit", "flows"]).args(args).args(&settings).output().expect("the binary starts");
        assert!(submit.status.success(), "{}", String::from_utf8_lossy(&submit.stderr));
        Self { args: args.map(str::to_owned).to_vec(), settings, sim_dir: TempDir::new().expect("a folder") }
    }

    /// The names of its topics.
    pub(crate) fn topics(&self) -> Topics {
        let prefix = self.args.iter().skip_while(|arg| *arg != "--prefix").nth(1);
        Topics::new(prefix.expect("the arguments contain a prefix"))
    }

    /// Starts a process with one role.
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

    /// Starts a process that submits and runs everything, with additional arguments.
    pub(crate) fn up(&self, more: &[&str]) -> Up {
        let mut args = vec!["up"];
        args.extend(self.settings.iter().map(String::as_str));
        args.extend(more);
        self.start(args)
    }

    fn start<'a>(&'a self, mut command: Vec<&'a str>) -> Up {
        command.extend(any_ports(&command));
        command.extend(self.args.iter().map(String::as_str));
        Up::start(&command)
    }
}
