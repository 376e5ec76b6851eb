//! Two hubs, two workers, two northbounds and the simulated switch controller on a separate Kafka
//! cluster. At random, from a printed PRNG seed, the test kills, stops and resumes processes and
//! brokers. Each client gets one answer, and the same one when it repeats the request. The rules
//! match the answers, and no operation stays live. The test prints the recovery times.
//!
//! `./test` injects 34 faults. `./test chaos --minutes N [--seed S]` runs for N minutes, with three
//! brokers, three replicas and `min.insync.replicas` of two.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and reads its duration from the environment"
)]

mod process;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bus::{Clock, MonoTime};
use nave::SystemClock;
use process::clients::{self, Answers, Progress, ReplaceableProcess};
use process::site::Site;
use rustix::process::{Pid, Signal, kill_process};

const LENGTH: u32 = 3;
const CLIENTS: usize = 4;
/// Requests sent after each fault, with keys of every lane. The system has recovered when all are
/// answered.
const PROBES: usize = 8;
/// Recoveries that take longer print the history of the slowest request.
const SLOW: Duration = Duration::from_secs(9);
/// Duration of a short stop, in seconds: less than any session timeout.
const MOMENT: &str = "1";
/// Duration of a long stop, in seconds: longer than the session of a member (6 s) and of a broker
/// with its controller (9 s). A single broker is fenced when it resumes and briefly announces no
/// broker to its clients.
const LONGER_THAN_A_SESSION: &str = "12";

const PROCESSES: [(&str, &str); 7] = [
    ("hub-1", "hub"),
    ("hub-2", "hub"),
    ("worker-1", "worker"),
    ("worker-2", "worker"),
    ("northbound-1", "northbound"),
    ("northbound-2", "northbound"),
    ("sim", "floodlight-sim"),
];

/// A fault and its target: an index into [`PROCESSES`] or the number of a broker.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// `kill -9` and restart.
    Kill(usize),
    /// Stops a process for a moment.
    Stop(usize),
    /// Stops a process until others own its lanes. When it resumes, it still believes that it owns
    /// them.
    Zombie(usize),
    KillBroker(usize),
    StopBroker(usize),
}

impl Fault {
    fn name(self) -> String {
        match self {
            Self::Kill(part) => format!("kill -9 of a {}", PROCESSES[part].1),
            Self::Stop(part) => format!("a {} stopped for {MOMENT} s", PROCESSES[part].1),
            Self::Zombie(part) => format!("a {} stopped until it is replaced, then resumed", PROCESSES[part].1),
            Self::KillBroker(_) => "kill -9 and restart of a broker".to_owned(),
            Self::StopBroker(_) => format!("a broker stopped for {LONGER_THAN_A_SESSION} s"),
        }
    }
}

/// Xorshift64 (Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % sides as u64).unwrap()
    }

    /// A round: each kind of fault at least once, in random order.
    fn round(&mut self, brokers: usize) -> Vec<Fault> {
        let mut faults: Vec<Fault> = (0..PROCESSES.len()).map(Fault::Kill).collect();
        faults.extend([Fault::Kill(4 + self.roll(2)), Fault::Kill(6)]);
        faults.extend([0, 2, 4].map(|first| Fault::Stop(first + self.roll(2))));
        faults.push(Fault::Stop(6));
        faults.extend([0, 2].map(|first| Fault::Zombie(first + self.roll(2))));
        faults.extend([Fault::KillBroker(1 + self.roll(brokers)), Fault::StopBroker(1 + self.roll(brokers))]);
        for last in (1..faults.len()).rev() {
            faults.swap(last, self.roll(last + 1));
        }
        faults
    }
}

/// A separate cluster, so that other tests are not disturbed.
struct Brokers {
    home: PathBuf,
    count: usize,
}

impl Drop for Brokers {
    fn drop(&mut self) {
        for broker in 1..=self.count {
            // The broker may be stopped.
            self.signal(Signal::CONT, broker);
        }
        self.tool(&["stop"]);
    }
}

impl Brokers {
    fn start(count: usize) -> Self {
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.kafka/chaos");
        let brokers = Self { home, count };
        assert!(brokers.tool(&["start", "--brokers", &count.to_string()]), "the brokers do not start");
        brokers
    }

    fn tool(&self, args: &[&str]) -> bool {
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/kafka");
        Command::new(tool).args(args).env("NAVE_KAFKA_HOME", &self.home).status().unwrap().success()
    }

    fn address(&self) -> String {
        std::fs::read_to_string(self.home.join("address")).unwrap().trim().to_owned()
    }

    /// Returns false if the broker has no process.
    fn signal(&self, signal: Signal, broker: usize) -> bool {
        let pid = std::fs::read_to_string(self.home.join(broker.to_string()).join("pid")).unwrap_or_default();
        let pid = pid.trim().parse().ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
    }
}

/// Waits for the duration of a fault.
fn sleep(seconds: &str) {
    assert!(Command::new("sleep").arg(seconds).status().unwrap().success());
}

/// Duration and number of the slowest probe.
type SlowestProbe = (Duration, usize);

struct Cluster {
    site: Site,
    processes: Vec<ReplaceableProcess>,
    brokers: Brokers,
    clock: SystemClock,
}

impl Cluster {
    fn start(brokers: usize) -> Self {
        let brokers = Brokers::start(brokers);
        let site = Site::submitted(&brokers.address(), brokers.count, &[]);
        let processes = PROCESSES.iter().map(|(_, role)| ReplaceableProcess::new(site.run(role))).collect();
        Self { site, processes, brokers, clock: SystemClock::default() }
    }

    fn ask(&self, n: usize) -> (u16, serde_json::Value) {
        clients::request(&[&self.processes[4], &self.processes[5]], n, LENGTH)
    }

    /// The history of the operation of an answer.
    fn history(&self, (status, answer): &(u16, serde_json::Value)) -> String {
        let operation = answer["operation"].as_str().unwrap_or_default();
        let (_, shown) = self.processes[4].current().get(&format!("/v1/operations/{operation}"));
        let history = shown["history"].as_array().cloned().unwrap_or_default();
        let lines = history.iter().map(|line| format!("\n    {line}"));
        format!("{status} {answer}{}", lines.collect::<String>())
    }

    /// Injects a fault. Returns the time from which the recovery is measured: now, or the end of a
    /// stop.
    fn inject(&self, fault: Fault, probe: &dyn Fn() -> SlowestProbe) -> MonoTime {
        let mut since = self.clock.mono();
        match fault {
            Fault::Kill(part) => self.processes[part].replace(|| self.site.run(PROCESSES[part].1)),
            Fault::Stop(part) => {
                let up = self.processes[part].current();
                up.signal(Signal::STOP);
                sleep(MOMENT);
                up.signal(Signal::CONT);
            }
            Fault::Zombie(part) => {
                let up = self.processes[part].current();
                up.signal(Signal::STOP);
                // Answers mean that its lanes have other owners.
                probe();
                up.signal(Signal::CONT);
                since = self.clock.mono();
            }
            Fault::KillBroker(broker) => {
                let broker = broker.to_string();
                assert!(self.brokers.tool(&["crash", &broker]), "the broker was not killed");
                // The other brokers must serve requests without it.
                if self.brokers.count > 1 {
                    probe();
                }
                assert!(self.brokers.tool(&["restart", &broker]), "the broker does not come back");
                since = self.clock.mono();
            }
            Fault::StopBroker(broker) => {
                assert!(self.brokers.signal(Signal::STOP, broker));
                sleep(LONGER_THAN_A_SESSION);
                assert!(self.brokers.signal(Signal::CONT, broker));
                since = self.clock.mono();
            }
        }
        since
    }
}

fn number(name: &str) -> Option<u64> {
    let said = std::env::var(name).ok()?;
    Some(said.parse().unwrap_or_else(|_| panic!("{name} is `{said}`; allowed: a whole number")))
}

#[test]
fn each_client_gets_one_answer_despite_kills_and_pauses_on_kafka() {
    let (seed, minutes) = (number("CHAOS_SEED").unwrap_or(20_181_121), number("CHAOS_MINUTES"));
    let brokers = if minutes.is_some() { 3 } else { 1 };
    println!("seed {seed}, {brokers} brokers");
    let mut dice = Dice(seed | 1);
    let cluster = Cluster::start(brokers);
    let (next, progress) = (AtomicUsize::new(0), Progress::default());
    let answers: Mutex<Answers> = Mutex::new(BTreeMap::new());
    let ask_next = || {
        let (n, begun) = (next.fetch_add(1, Ordering::Relaxed), cluster.clock.mono());
        let answer = cluster.ask(n);
        answers.lock().unwrap().insert(n, answer);
        (cluster.clock.mono().since(begun), n)
    };
    let probe = || {
        std::thread::scope(|scope| {
            let asked: Vec<_> = (0..PROBES).map(|_| scope.spawn(ask_next)).collect();
            asked.into_iter().map(|probe| probe.join().unwrap()).max().unwrap()
        })
    };
    probe();
    let mut recoveries: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    std::thread::scope(|scope| {
        let _stop = progress.stop_on_drop();
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !progress.is_over() {
                    ask_next();
                }
            });
        }
        let until = cluster.clock.mono().plus_ms(minutes.unwrap_or(0) * 60_000);
        let mut rounds = 0;
        while rounds < 2 || cluster.clock.mono() < until {
            for fault in dice.round(brokers) {
                println!("{}", fault.name());
                let since = cluster.inject(fault, &probe);
                let (slowest, n) = probe();
                let took = cluster.clock.mono().since(since);
                println!("  recovered after {:.2} s", took.as_secs_f64());
                if took > SLOW {
                    let answer = answers.lock().unwrap()[&n].clone();
                    println!("  flow-{n} took {:.2} s: {}", slowest.as_secs_f64(), cluster.history(&answer));
                }
                recoveries.entry(fault.name()).or_default().push(took);
            }
            rounds += 1;
        }
    });
    let answers = answers.into_inner().unwrap();
    println!("\n| fault | times | recovered after p50 | p99 | max |\n|---|---|---|---|---|");
    for (fault, mut took) in recoveries {
        took.sort_unstable();
        let at = |percent: usize| format!("{:.2} s", took[(took.len() - 1) * percent / 100].as_secs_f64());
        println!("| {fault} | {} | {} | {} | {} |", took.len(), at(50), at(99), at(100));
    }
    for n in answers.keys().rev().step_by(11) {
        assert_eq!(cluster.ask(*n), answers[n], "flow-{n}, repeated");
    }
    clients::wait_until_idle(&cluster.processes[4]);
    let counts = clients::assert_rules_match(&cluster.processes[6].current(), LENGTH, &answers);
    assert!(counts[&201] > answers.len() / 2, "most flows succeed: {counts:?}");
}
