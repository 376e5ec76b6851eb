//! Every process over a real Kafka is shut down and restarted, one at a time, under constant load.
//! No request fails and none is answered twice. The test prints the pauses.

mod process;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bus::Clock;
use nave::SystemClock;
use process::brokers;
use process::clients::{self, Progress, ReplaceableProcess};
use process::site::Site;

const LENGTH: u32 = 3;
const CLIENTS: usize = 4;
/// Flows answered before the next process is stopped.
const BETWEEN: usize = 40;

/// Two of each. The simulated switch controller represents the outside world, so it keeps running.
const ROLES: [&str; 6] = ["hub", "hub", "worker", "worker", "northbound", "northbound"];

#[test]
fn a_rolling_restart_on_kafka_fails_no_request() {
    let site = Site::submitted(&brokers(), 1, &clients::LONG_DEADLINES);
    let sim = site.run("floodlight-sim");
    let processes: Vec<ReplaceableProcess> = ROLES.iter().map(|role| ReplaceableProcess::new(site.run(role))).collect();
    let northbounds = [&processes[4], &processes[5]];
    // Afterwards every lane has an owner.
    for n in 0..16 {
        assert_eq!(clients::request(&northbounds, n, LENGTH).0, 201);
    }
    let clock = SystemClock::default();
    let (next, progress) = (AtomicUsize::new(100), Progress::default());
    let (answers, slowest) = (Mutex::new(BTreeMap::new()), Mutex::new(Duration::ZERO));
    std::thread::scope(|scope| {
        let _stop = progress.stop_on_drop();
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let _guard = progress.of_client();
                while !progress.is_over() {
                    let (n, asked) = (next.fetch_add(1, Ordering::Relaxed), clock.mono());
                    let answer = clients::request_at_listening(
                        || northbounds.map(ReplaceableProcess::current).to_vec(),
                        n,
                        LENGTH,
                    );
                    let mut slowest = slowest.lock().unwrap();
                    *slowest = (*slowest).max(clock.mono().since(asked));
                    drop(slowest);
                    assert_eq!(answer.0, 201, "flow-{n}: {}", answer.1);
                    answers.lock().unwrap().insert(n, answer);
                    progress.answered();
                }
            });
        }
        for (process, role) in processes.iter().zip(ROLES) {
            progress.wait_for(progress.count() + BETWEEN);
            let before = std::mem::take(&mut *slowest.lock().unwrap());
            process.restart(if role == "northbound" { "REST" } else { "health" }, || site.run(role));
            progress.wait_for(progress.count() + BETWEEN);
            let pause = std::mem::take(&mut *slowest.lock().unwrap());
            println!("restart of a {role}: slowest request {pause:.2?}, before the restart {before:.2?}");
        }
    });
    clients::wait_until_idle(northbounds[0]);
    let mut answers = answers.into_inner().unwrap();
    println!("{} flows", answers.len());
    answers.extend((0..16).map(|n| (n, clients::request(&northbounds, n, LENGTH))));
    clients::assert_rules_match(&sim, LENGTH, &answers);
}
