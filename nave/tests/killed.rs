//! `nave up --data DIR` is killed a hundred times with `kill -9` while clients create flows. Each
//! request gets one answer, and the same one when repeated. The rules match the answers.

mod process;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use process::Up;
use process::clients::{self, Answers, ReplaceableProcess, StopOnDrop};

const KILLS: usize = 100;
const CLIENTS: usize = 4;
/// Flows answered between two kills: fewer than clients, so that some requests are always in
/// progress.
const BETWEEN: usize = 3;
const LENGTH: u32 = 3;

#[test]
fn a_hundred_kills_lose_no_answer_and_leave_no_unpromised_rule() {
    let dir = tempfile::tempdir().unwrap();
    let any = "127.0.0.1:0";
    let args = ["up", "--rest", any, "--admin", any, "--data", dir.path().to_str().unwrap()];
    let up = ReplaceableProcess::new(Up::start(&args));
    let (next, done, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let answers: Mutex<Answers> = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&over);
        let client = || {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let answer = clients::request(&[&up], n, LENGTH);
                    answers.lock().unwrap().insert(n, answer);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| client()).collect();
        for kill in 1..=KILLS {
            // A finished client has failed: the scope reports why.
            let all_run = || clients.iter().all(|client| !client.is_finished());
            while done.load(Ordering::Relaxed) < kill * BETWEEN && all_run() {
                std::thread::yield_now();
            }
            up.replace(|| Up::start(&args));
        }
    });
    let answers = answers.into_inner().unwrap();
    println!("{} flows over {KILLS} kills", answers.len());
    for (n, answer) in answers.iter().rev().step_by(7) {
        assert_eq!(clients::request(&[&up], *n, LENGTH), *answer, "flow-{n}, repeated");
    }
    clients::wait_until_idle(&up);
    let counts = clients::assert_rules_match(&up.current(), LENGTH, &answers);
    assert!(counts[&201] > answers.len() / 2, "{counts:?}");
}
