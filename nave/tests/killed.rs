//! `nave up --data DIR` is killed a hundred times with `kill -9` while clients create flows. Each
//! request gets one answer, and the same one when repeated. The rules match the answers.

mod process;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use process::Up;
use process::clients::{self, Answers, Progress, ReplaceableProcess};

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
    let (next, progress) = (AtomicUsize::new(0), Progress::default());
    let answers: Mutex<Answers> = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        let _stop = progress.stop_on_drop();
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let _guard = progress.of_client();
                while !progress.is_over() {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let answer = clients::request(&[&up], n, LENGTH);
                    answers.lock().unwrap().insert(n, answer);
                    progress.answered();
                }
            });
        }
        for kill in 1..=KILLS {
            progress.wait_for(kill * BETWEEN);
            up.replace(|| Up::start(&args));
        }
    });
    let requested = next.into_inner();
    let mut answers = answers.into_inner().unwrap();
    assert_eq!(answers.len(), requested, "each request has an answer");
    for (n, answer) in &answers {
        assert_eq!(clients::request(&[&up], *n, LENGTH), *answer, "flow-{n}, repeated");
    }
    clients::wait_until_idle(&up);
    // A flow that no kill disturbs succeeds.
    let undisturbed = clients::request(&[&up], requested, LENGTH);
    assert_eq!(undisturbed.0, 201, "{}", undisturbed.1);
    answers.insert(requested, undisturbed);
    let counts = clients::assert_rules_match(&up.current(), LENGTH, &answers);
    assert!(!counts.contains_key(&200), "a repeat gets the first answer, not that the flow exists: {counts:?}");
    println!("{} of {} flows were created despite {KILLS} kills", counts[&201], answers.len());
}
