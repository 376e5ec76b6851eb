//! A separate broker for one test, and a clock.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bus::{Clock, MonoTime};
use rustix::process::{Pid, Signal, kill_process};
use wire::WallTime;

/// The clocks of this process.
pub(crate) struct RealClock(pub(crate) Instant);

impl Clock for RealClock {
    fn mono(&self) -> MonoTime {
        MonoTime(u64::try_from(self.0.elapsed().as_nanos()).expect("less than 500 years"))
    }

    fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        WallTime(u64::try_from(since.as_millis()).expect("before the year 500,000,000"))
    }
}

/// A broker for one test, so that its faults do not disturb other tests.
pub(crate) struct Broker(PathBuf);

impl Broker {
    /// Starts a broker whose data is in a directory of this name.
    pub(crate) fn start(name: &str) -> Self {
        let broker = Self(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.kafka").join(name));
        broker.tool("start");
        broker
    }

    /// Runs a command of `tools/kafka` on it.
    pub(crate) fn tool(&self, what: &str) {
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/kafka");
        let status = Command::new(tool).arg(what).env("NAVE_KAFKA_HOME", &self.0).status();
        assert!(status.expect("tools/kafka runs").success(), "tools/kafka {what} failed");
    }

    /// Returns the broker's address.
    pub(crate) fn address(&self) -> String {
        std::fs::read_to_string(self.0.join("address")).expect("an address").trim().to_owned()
    }

    /// Sends a signal to the broker process: `STOP` suspends it, `CONT` resumes it.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = std::fs::read_to_string(self.0.join("1/pid")).expect("a pid");
        let pid = pid.trim().parse().ok().and_then(Pid::from_raw).expect("a pid is a positive number");
        kill_process(pid, signal).expect("the broker runs");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
        self.tool("stop");
    }
}
