//! Groupings over the bus: which lane receives which tuples, and in which order.
#![expect(clippy::unwrap_used, clippy::disallowed_types, reason = "tests panic and share collected data")]

use std::sync::{Arc, Mutex};

use topology::stream::Read;
use topology::testing::Lanes;
use topology::{Bolt, Declared, Emitter, LaneInfo, Spout, Topology};

/// The tuples that bolts received, in order.
type Seen<T> = Arc<Mutex<Vec<T>>>;

struct Numbers(u32);

impl Spout for Numbers {
    type Out = u32;
    type Position = ();
    fn next(&mut self, (): &mut (), out: &mut Emitter<u32>) -> bool {
        if self.0 == 60 {
            return false;
        }
        out.emit(self.0);
        self.0 += 1;
        true
    }
}

/// Records lane and tuple; panics at 13.
struct Note {
    lane: u32,
    seen: Seen<(u32, u32)>,
}

impl Bolt for Note {
    type In = u32;
    type Out = ();
    fn prepare(&mut self, lane: &LaneInfo) {
        self.lane = lane.lane;
    }
    fn execute(&mut self, n: u32, _: &mut Emitter<()>) {
        assert!(n != 13, "thirteen");
        self.seen.lock().unwrap().push((self.lane, n));
    }
}

/// Returns the tuples of each of three lanes, and the number of panics.
fn seen_through<G>(read: impl FnOnce(&Declared<(), u32>) -> Read<u32, G>) -> ([Vec<u32>; 3], u64) {
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    let t = Topology::named("numbers");
    let numbers = t.spout("numbers", || Numbers(0));
    t.bolt("note", move || Note { lane: 0, seen: Arc::clone(&noted) }).lanes(3).reads(read(&numbers));
    let mut lanes = Lanes::of(t.build().unwrap(), 1);
    lanes.join();
    assert!(lanes.run_ms(1_000), "no work is left");
    let seen = seen.lock().unwrap().clone();
    let of = |lane: u32| seen.iter().filter(|(at, _)| *at == lane).map(|(_, n)| *n).collect();
    ([of(0), of(1), of(2)], lanes.count(topology::names::PANICS))
}

fn all_but_13(keep: impl Fn(u32) -> bool) -> Vec<u32> {
    (0..60).filter(|n| *n != 13 && keep(*n)).collect()
}

/// A panic fails only its tuple.
#[test]
fn shuffle_shares_evenly_and_keeps_the_order_in_each_lane() {
    let (seen, panics) = seen_through(Declared::shuffle);
    assert_eq!(seen, [0, 1, 2].map(|lane| all_but_13(|n| n % 3 == lane)));
    assert_eq!(panics, 1);
}

#[test]
fn all_reaches_each_lane_exactly_once() {
    let (seen, panics) = seen_through(Declared::all);
    assert_eq!(seen, [0, 1, 2].map(|_| all_but_13(|_| true)));
    assert_eq!(panics, 3);
}

#[test]
fn global_goes_to_lane_0() {
    let (seen, _) = seen_through(Declared::global);
    assert_eq!(seen, [all_but_13(|_| true), vec![], vec![]]);
}

#[test]
fn direct_goes_to_the_lane_that_the_tuple_names() {
    let (seen, _) = seen_through(|numbers| numbers.out().direct(|n| u32::from(*n >= 30)));
    assert_eq!(seen, [all_but_13(|n| n < 30), all_but_13(|n| n >= 30), vec![]]);
}

#[test]
fn fields_send_equal_keys_to_one_lane() {
    let (seen, _) = seen_through(|numbers| numbers.fields_with(|n| n % 7));
    for (lane, seen) in (0..).zip(&seen) {
        assert!(!seen.is_empty());
        assert!(seen.iter().all(|n| wire::routing::lane_of((n % 7).to_string().as_bytes(), 3) == lane));
    }
    assert_eq!(seen.iter().map(Vec::len).sum::<usize>(), 59);
}

#[test]
fn partial_key_uses_two_lanes_for_a_key() {
    let (seen, _) = seen_through(|numbers| numbers.out().partial_key(|n| if *n < 100 { &0 } else { &1 }));
    let lanes: Vec<usize> = seen.iter().map(Vec::len).filter(|count| *count > 0).collect();
    assert_eq!(lanes.len(), 2, "{lanes:?}");
    assert!(lanes[0].abs_diff(lanes[1]) <= 2, "{lanes:?}");
}

#[test]
fn a_custom_grouping_decides_the_lanes_of_each_tuple() {
    let (seen, _) =
        seen_through(|numbers| numbers.out().custom(|n, lanes| if n % 2 == 0 { vec![0, lanes - 1] } else { vec![] }));
    let even = all_but_13(|n| n % 2 == 0);
    assert_eq!(seen, [even.clone(), vec![], even]);
}
