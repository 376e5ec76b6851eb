//! Wake-ups of a thread that waits in a poll.
//!
//! Each test sends [`HOPS`] signals to a thread that waits for each of them in polls of [`WAIT`].
//! On the embedded bus one missed wake-up costs all of [`WAIT`]. On Kafka a wait ends by itself
//! after a second, so there only all missed wake-ups together take longer than [`WAIT`].

use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::{self, Thread};
use std::time::Duration;

use bus::{Arrival, FaultInjector, Member, Outgoing, Reader};

use super::fixture::{Fixture, OnFaulty};

const HOPS: usize = 200;

/// Longest wait of a poll, and time limit of all hops: a hop takes some milliseconds.
const WAIT: Duration = Duration::from_secs(30);

pub(crate) fn a_thread_that_waits_in_a_member_is_woken_for_a_reader(on: &impl Fixture) {
    let (own, other) = (on.topic(1), on.topic(1));
    let (mut member, mut reader) = (member(on, &own, 1), reader(on, &other));
    let receive = || {
        let found = poll_reader(&mut *reader, Duration::ZERO);
        if found == 0 {
            assert_eq!(poll_member(&mut *member, WAIT), 0);
        }
        found
    };
    appended(on, &other, receive);
}

pub(crate) fn a_thread_that_waits_in_a_reader_is_woken_for_a_member(on: &impl Fixture) {
    let (own, other) = (on.topic(1), on.topic(1));
    let (mut member, mut reader) = (member(on, &own, 1), reader(on, &other));
    let receive = || {
        let found = poll_member(&mut *member, Duration::ZERO);
        if found == 0 {
            assert_eq!(poll_reader(&mut *reader, WAIT), 0);
        }
        found
    };
    appended(on, &own, receive);
}

pub(crate) fn a_thread_that_waits_in_a_member_can_be_unparked(on: &impl Fixture) {
    let mut member = member(on, &on.topic(1), 1);
    unparked(on, || assert_eq!(poll_member(&mut *member, WAIT), 0));
}

pub(crate) fn a_thread_that_waits_in_a_reader_can_be_unparked(on: &impl Fixture) {
    let mut reader = reader(on, &on.topic(1));
    unparked(on, || assert_eq!(poll_reader(&mut *reader, WAIT), 0));
}

/// Each signal follows a record that the bus delivers and fault injection holds back.
#[test]
fn a_record_that_is_held_back_does_not_use_up_the_wake_up() {
    let on = &OnFaulty::with(StalledPartition0);
    let (own, other) = (on.topic(2), on.topic(1));
    let (mut member, mut reader) = (member(on, &own, 2), reader(on, &other));
    let receive = || {
        let found = poll_member(&mut *member, Duration::ZERO);
        if found == 0 {
            assert_eq!(poll_reader(&mut *reader, WAIT), 0);
        }
        found
    };
    let mut writer = on.bus().writer("w").expect("a writer");
    let [held_back, signal] = [0, 1].map(|partition| [Outgoing::keyed(&own, "k", "v").to(partition)]);
    let send = |_: &Thread| [&held_back, &signal].iter().for_each(|one| writer.append(*one).expect("an append"));
    hops(on, send, receive);
}

struct StalledPartition0;

impl FaultInjector for StalledPartition0 {
    fn stalls(&self, _: &str, partition: u32) -> bool {
        partition == 0
    }
}

/// The signal is a record in a topic.
fn appended(on: &impl Fixture, topic: &str, receive: impl FnMut() -> usize + Send) {
    let mut writer = on.bus().writer("w").expect("a writer");
    let record = Outgoing::keyed(topic, "k", "v").to(0);
    hops(on, |_| writer.append(slice::from_ref(&record)).expect("an append"), receive);
}

/// The signal is unknown to the bus: a number, and an unpark.
fn unparked(on: &impl Fixture, mut wait: impl FnMut() + Send) {
    let signals = AtomicUsize::new(0);
    let send = |thread: &Thread| {
        signals.fetch_add(1, Ordering::AcqRel);
        thread.unpark();
    };
    let receive = || {
        let found = signals.swap(0, Ordering::AcqRel);
        if found == 0 {
            wait();
        }
        found
    };
    hops(on, send, receive);
}

/// Sends one signal after the other. The thread that receives them returns how many it found.
fn hops(on: &impl Fixture, mut send: impl FnMut(&Thread), mut receive: impl FnMut() -> usize + Send) {
    let clock = on.bus().clock();
    let begun = clock.mono();
    thread::scope(|scope| {
        let (found, received) = sync_channel(HOPS);
        let receiving = scope.spawn(move || {
            let mut total = 0;
            while total < HOPS && clock.mono().since(begun) < WAIT {
                let signals = receive();
                total += signals;
                if signals > 0 {
                    found.send(total).expect("the sender waits for it");
                }
            }
        });
        for hop in 1..=HOPS {
            send(receiving.thread());
            assert_eq!(received.recv(), Ok(hop), "not within {WAIT:?}");
        }
    });
}

/// Returns a member that reads all partitions of a topic.
fn member(on: &impl Fixture, topic: &str, partitions: usize) -> Box<dyn Member> {
    let mut member = on.join(&on.name("g"), topic);
    member.auto_start = true;
    member.until_owned(partitions);
    member.member
}

/// Returns a reader of partition 0.
fn reader(on: &impl Fixture, topic: &str) -> Box<dyn Reader> {
    let mut reader = on.bus().reader().expect("a reader");
    reader.assign(topic, 0, 0).expect("an offset");
    reader
}

fn poll_member(member: &mut dyn Member, wait: Duration) -> usize {
    let mut out = Vec::new();
    member.poll(1, wait, &mut out).expect("a poll");
    assert!(out.iter().all(|arrival| matches!(arrival, Arrival::Record(_))), "{out:?}");
    out.len()
}

fn poll_reader(reader: &mut dyn Reader, wait: Duration) -> usize {
    let mut out = Vec::new();
    reader.poll(1, wait, &mut out).expect("a poll");
    out.len()
}
