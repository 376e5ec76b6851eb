//! Two hubs, two workers, two northbounds and the simulated switch controller over a Kafka broker of their own, while at random,
//! from a printed seed, processes and broker are killed, stopped and woken. Each client gets one answer, the same when it asks
//! again; the rules are what the answers say; nothing is open in the end. How long the system took to recover is printed.
//!
//! In `./test` there are 34 faults; `./test chaos --minutes N [--seed S]` goes on for as long as it is told,
//! with three brokers that keep three copies, of which two are enough.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and is told how long it goes on"
)]

mod process;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bus::{Clock, MonoTime};
use nave::clock::SystemClock;
use process::clients::{self, Answers, Over, Part};
use process::site::Site;
use rustix::process::{Pid, Signal, kill_process};

const LENGTH: u32 = 3;
const CLIENTS: usize = 4;
/// Asked for when a fault has struck, on keys of every lane: when all are answered, the system has recovered.
const PROBES: usize = 8;
/// A recovery that takes longer says which request it was that took so long, and how it went.
const SLOW: Duration = Duration::from_secs(9);
/// A process that is stopped for a moment is not missed: less than any session.
const MOMENT: &str = "1";
/// Longer than the session of a member (6 s), and than that of a broker with its controller (9 s): one broker alone is fenced by itself
/// when it goes on, and tells its clients of no broker at all for a moment.
const LONGER_THAN_A_SESSION: &str = "12";

const PARTS: [(&str, &str); 7] = [
    ("hub-1", "hub"),
    ("hub-2", "hub"),
    ("worker-1", "worker"),
    ("worker-2", "worker"),
    ("northbound-1", "northbound"),
    ("northbound-2", "northbound"),
    ("sim", "floodlight-sim"),
];

/// What goes wrong, to which of the parts.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// `kill -9`, and another is started in its place.
    Kill(usize),
    /// It stands still for a moment.
    Stop(usize),
    /// It stands still until others have its lanes; then it goes on as if it still owned them.
    Zombie(usize),
    KillBroker(usize),
    StopBroker(usize),
}

impl Fault {
    fn name(self) -> String {
        match self {
            Self::Kill(part) => format!("kill -9 of a {}", PARTS[part].1),
            Self::Stop(part) => format!("a {} stopped for {MOMENT} s", PARTS[part].1),
            Self::Zombie(part) => format!("a {} stopped until it is replaced, and woken", PARTS[part].1),
            Self::KillBroker(_) => "kill -9 of a broker, and restart".to_owned(),
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

    /// A round: each kind of fault at least once, in any order.
    fn round(&mut self, brokers: usize) -> Vec<Fault> {
        let mut faults: Vec<Fault> = (0..PARTS.len()).map(Fault::Kill).collect();
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

/// Brokers of its own: others are not to be disturbed.
struct Brokers {
    home: PathBuf,
    count: usize,
}

impl Drop for Brokers {
    fn drop(&mut self) {
        for broker in 1..=self.count {
            // It may stand still.
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

/// A fault lasts so long: nothing is waited for here.
fn lasts(seconds: &str) {
    assert!(Command::new("sleep").arg(seconds).status().unwrap().success());
}

/// How long the slowest of some requests took, and which it was.
type Probed = (Duration, usize);

struct Cluster {
    site: Site,
    parts: Vec<Part>,
    brokers: Brokers,
    clock: SystemClock,
}

impl Cluster {
    fn start(brokers: usize) -> Self {
        let brokers = Brokers::start(brokers);
        let site = Site::submitted(&brokers.address(), brokers.count, &[]);
        let parts = PARTS.iter().map(|(_, role)| Part::new(site.run(role))).collect();
        Self { site, parts, brokers, clock: SystemClock::default() }
    }

    fn ask(&self, n: usize) -> (u16, serde_json::Value) {
        clients::ask(&[&self.parts[4], &self.parts[5]], n, LENGTH)
    }

    /// How it went with what a client was told of.
    fn story(&self, (status, answer): &(u16, serde_json::Value)) -> String {
        let operation = answer["operation"].as_str().unwrap_or_default();
        let (_, shown) = self.parts[4].now().get(&format!("/v1/operations/{operation}"));
        let history = shown["history"].as_array().cloned().unwrap_or_default();
        let lines = history.iter().map(|line| format!("\n    {line}"));
        format!("{status} {answer}{}", lines.collect::<String>())
    }

    /// Lets a fault happen: from when on the system is to recover, which is at once, or when what stood still goes on.
    fn strike(&self, fault: Fault, probe: &dyn Fn() -> Probed) -> MonoTime {
        let mut since = self.clock.mono();
        match fault {
            Fault::Kill(part) => self.parts[part].replace(|| self.site.run(PARTS[part].1)),
            Fault::Stop(part) => {
                let up = self.parts[part].now();
                up.signal(Signal::STOP);
                lasts(MOMENT);
                up.signal(Signal::CONT);
            }
            Fault::Zombie(part) => {
                let up = self.parts[part].now();
                up.signal(Signal::STOP);
                // Its lanes answer: they are another's.
                probe();
                up.signal(Signal::CONT);
                since = self.clock.mono();
            }
            Fault::KillBroker(broker) => {
                let broker = broker.to_string();
                assert!(self.brokers.tool(&["crash", &broker]), "the broker was not killed");
                // Where there are others, they go on without it.
                if self.brokers.count > 1 {
                    probe();
                }
                assert!(self.brokers.tool(&["restart", &broker]), "the broker does not come back");
                since = self.clock.mono();
            }
            Fault::StopBroker(broker) => {
                assert!(self.brokers.signal(Signal::STOP, broker));
                lasts(LONGER_THAN_A_SESSION);
                assert!(self.brokers.signal(Signal::CONT, broker));
                since = self.clock.mono();
            }
        }
        since
    }
}

fn number(name: &str) -> Option<u64> {
    let said = std::env::var(name).ok()?;
    Some(said.parse().unwrap_or_else(|_| panic!("{name} is `{said}`; allowed is a whole number")))
}

#[test]
fn whatever_is_killed_stopped_or_woken_over_kafka_each_client_gets_one_answer_and_the_rules_are_as_told() {
    let (seed, minutes) = (number("CHAOS_SEED").unwrap_or(20_181_121), number("CHAOS_MINUTES"));
    let brokers = if minutes.is_some() { 3 } else { 1 };
    println!("seed {seed}, {brokers} brokers");
    let mut dice = Dice(seed | 1);
    let cluster = Cluster::start(brokers);
    let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
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
        let _over = Over(&over);
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    ask_next();
                }
            });
        }
        let until = cluster.clock.mono().plus_ms(minutes.unwrap_or(0) * 60_000);
        let mut rounds = 0;
        while rounds < 2 || cluster.clock.mono() < until {
            for fault in dice.round(brokers) {
                println!("{}", fault.name());
                let since = cluster.strike(fault, &probe);
                let (slowest, n) = probe();
                let took = cluster.clock.mono().since(since);
                println!("  recovered after {:.2} s", took.as_secs_f64());
                if took > SLOW {
                    let answer = answers.lock().unwrap()[&n].clone();
                    println!("  flow-{n} took {:.2} s: {}", slowest.as_secs_f64(), cluster.story(&answer));
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
        assert_eq!(cluster.ask(*n), answers[n], "flow-{n}, asked once more");
    }
    clients::until_nothing_is_open(&cluster.parts[4]);
    let counts = clients::rules_are_as_told(&cluster.parts[6].now(), LENGTH, &answers);
    assert!(counts[&201] > answers.len() / 2, "most go through: {counts:?}");
}
