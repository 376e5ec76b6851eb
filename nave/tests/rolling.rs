//! Every process over a real Kafka is stopped in order and started again, one at a time, under constant load: no request fails, none
//! is answered twice, and the pause is printed.

mod process;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bus::Clock;
use nave::clock::SystemClock;
use process::brokers;
use process::clients::{self, Over, Part};
use process::site::Site;

const LENGTH: u32 = 3;
const CLIENTS: usize = 4;
/// So many flows are answered before the next process is stopped.
const BETWEEN: usize = 40;

/// Two of each. The simulated switch controller is the outside world: it stays.
const ROLES: [&str; 6] = ["hub", "hub", "worker", "worker", "northbound", "northbound"];

#[test]
fn every_process_over_kafka_is_restarted_in_turn_and_no_request_fails() {
    let site = Site::submitted(&brokers(), 1, &clients::PATIENT);
    let sim = site.run("floodlight-sim");
    let parts: Vec<Part> = ROLES.iter().map(|role| Part::new(site.run(role))).collect();
    let northbounds = [&parts[4], &parts[5]];
    // From here on every lane has its owner.
    for n in 0..16 {
        assert_eq!(clients::ask(&northbounds, n, LENGTH).0, 201);
    }
    let clock = SystemClock::default();
    let (next, done, over) = (AtomicUsize::new(100), AtomicUsize::new(0), AtomicBool::new(false));
    let (answers, slowest) = (Mutex::new(BTreeMap::new()), Mutex::new(Duration::ZERO));
    std::thread::scope(|scope| {
        let _over = Over(&over);
        let client = || {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let (n, asked) = (next.fetch_add(1, Ordering::Relaxed), clock.mono());
                    let answer = clients::ask_who_listens(|| northbounds.map(Part::now).to_vec(), n, LENGTH);
                    let mut slowest = slowest.lock().unwrap();
                    *slowest = (*slowest).max(clock.mono().since(asked));
                    drop(slowest);
                    assert_eq!(answer.0, 201, "flow-{n}: {}", answer.1);
                    answers.lock().unwrap().insert(n, answer);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| client()).collect();
        // A client that has ended has failed: the scope says why.
        let until = |count: usize| {
            while done.load(Ordering::Relaxed) < count && clients.iter().all(|client| !client.is_finished()) {
                std::thread::yield_now();
            }
        };
        for (part, role) in parts.iter().zip(ROLES) {
            until(done.load(Ordering::Relaxed) + BETWEEN);
            let calm = std::mem::take(&mut *slowest.lock().unwrap());
            part.restart(if role == "northbound" { "REST" } else { "health" }, || site.run(role));
            until(done.load(Ordering::Relaxed) + BETWEEN);
            let pause = std::mem::take(&mut *slowest.lock().unwrap());
            println!("a {role} restarted: the slowest request took {pause:.2?}, before it {calm:.2?}");
        }
    });
    clients::until_nothing_is_open(northbounds[0]);
    let mut answers = answers.into_inner().unwrap();
    println!("{} flows", answers.len());
    answers.extend((0..16).map(|n| (n, clients::ask(&northbounds, n, LENGTH))));
    clients::rules_are_as_told(&sim, LENGTH, &answers);
}
