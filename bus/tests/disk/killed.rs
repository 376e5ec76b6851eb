//! A process that is killed during its work, repeatedly.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use bus::{Bus, Cleanup, Outgoing, TopicSpec};

use super::fixture::{Home, all, at, left, numbers, owner};

/// Environment variable with the directory for the child process.
const DIR: &str = "NAVE_KILLED_DIR";
/// Number of keys of the compacted topic.
const KEYS: u64 = 50;

#[test]
fn confirmed_records_survive_a_kill() {
    if let Some(dir) = std::env::var_os(DIR) {
        work(&dir);
    }
    let mut home = Home::new();
    home.disk.file_bytes = 64 << 10;
    let mut before = 0;
    for round in 1..=6 {
        let confirmed = until_killed(&home, round * 40);
        let bus = home.open();
        let next = left(&bus, "g", "in").committed.expect("a position").next;
        assert!(next >= confirmed && next > before, "{next} found; {confirmed} confirmed");
        // Each batch is there completely or not at all: the position, and a record in each of two
        // topics.
        for topic in ["one", "two"] {
            assert_eq!(numbers(&all(&bus, topic, 0)), (0..next).collect::<Vec<_>>(), "of `{topic}`");
        }
        let expected: Vec<u64> = (next.saturating_sub(KEYS)..next).collect();
        assert_eq!(numbers(&all(&bus, "view", 0)), expected, "the last record of each key");
        before = next;
    }
}

/// Starts the child process, kills it after `batches` confirmed batches, and returns the last batch
/// that it confirmed.
fn until_killed(home: &Home, batches: usize) -> u64 {
    let test = "killed::confirmed_records_survive_a_kill";
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(DIR, &home.disk.dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut confirmed = Vec::new();
    for line in lines {
        // The last line may be cut off.
        let Ok(line) = line else { break };
        let Some((_, number)) = line.split_once("confirmed ") else { continue };
        let Some(number) = number.strip_suffix('.') else { continue };
        confirmed.push(number.parse().expect("a number"));
        if confirmed.len() == batches {
            child.kill().expect("a kill");
        }
    }
    assert!(!child.wait().expect("it is dead").success());
    *confirmed.last().expect("it confirmed something")
}

/// The child process: commits until it is killed.
fn work(dir: &OsStr) -> ! {
    let mut home = Home::of_another(Path::new(dir));
    home.disk.file_bytes = 64 << 10;
    home.options.keep_bytes = Some(10_000);
    let bus = home.open();
    for topic in ["in", "one", "two"] {
        bus.ensure_topic(&TopicSpec::log(topic, 1)).expect("a topic");
    }
    let mut next = left(&bus, "g", "in").committed.map_or(0, |left| left.next);
    bus.ensure_topic(&TopicSpec::log("view", 1).with_cleanup(Cleanup::Compact)).expect("a topic");
    // Groups without commits, so that nothing of these topics is ever cut.
    drop((owner(&bus, "1", "one"), owner(&bus, "2", "two")));
    let mut member = owner(&bus, "g", "in");
    let mut writer = bus.writer("w").expect("a writer");
    bus.ensure_topic(&TopicSpec::log("sync", 1)).expect("a topic");
    loop {
        let record = |topic| Outgoing::keyed(topic, "k", format!("{next:0200}"));
        let view = Outgoing::keyed("view", format!("k{}", next % KEYS), format!("{next:05000}"));
        let records = vec![record("one"), view, record("two")];
        next += 1;
        member.commit(&at(next, 0, records)).expect("a commit");
        // A successful append is durable, and so is everything before it.
        writer.append(&[Outgoing::keyed("sync", "k", "v")]).expect("an append");
        let mut out = std::io::stdout().lock();
        writeln!(out, "confirmed {next}.").and_then(|()| out.flush()).expect("a line");
    }
}
