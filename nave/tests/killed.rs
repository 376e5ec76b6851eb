//! `nave up --data DIR` is killed a hundred times, as `kill -9` does, while clients create flows: one answer for each, the same
//! when it is asked again, and the rules are what the answers say.

mod process;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use process::Up;
use process::clients::{self, Answers, Over, Part};

const KILLS: usize = 100;
const CLIENTS: usize = 4;
/// So many flows are answered between two kills: fewer than there are clients, so that some are always in the air.
const BETWEEN: usize = 3;
const LENGTH: u32 = 3;

#[test]
fn a_process_killed_a_hundred_times_answers_every_client_once_and_leaves_no_rule_that_was_not_promised() {
    let dir = tempfile::tempdir().unwrap();
    let any = "127.0.0.1:0";
    let args = ["up", "--rest", any, "--admin", any, "--data", dir.path().to_str().unwrap()];
    let up = Part::new(Up::start(&args));
    let (next, done, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let answers: Mutex<Answers> = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        let _over = Over(&over);
        let client = || {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let answer = clients::ask(&[&up], n, LENGTH);
                    answers.lock().unwrap().insert(n, answer);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| client()).collect();
        for kill in 1..=KILLS {
            // A client that has ended has failed: the scope says why.
            let all_ask = || clients.iter().all(|client| !client.is_finished());
            while done.load(Ordering::Relaxed) < kill * BETWEEN && all_ask() {
                std::thread::yield_now();
            }
            up.replace(|| Up::start(&args));
        }
    });
    let answers = answers.into_inner().unwrap();
    println!("{} flows over {KILLS} kills", answers.len());
    for (n, answer) in answers.iter().rev().step_by(7) {
        assert_eq!(clients::ask(&[&up], *n, LENGTH), *answer, "flow-{n}, asked once more");
    }
    clients::until_nothing_is_open(&up);
    let counts = clients::rules_are_as_told(&up.now(), LENGTH, &answers);
    assert!(counts[&201] > answers.len() / 2, "{counts:?}");
}
