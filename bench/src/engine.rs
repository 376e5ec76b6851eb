//! The engine without workflows: tuples within a lane, a word count over topics, and a start.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::Context;
use bus::{Clock, MonoTime};
use nave::SystemClock;
use nave::prelude::stream::*;

/// Waits of a row, at most: the slowest one takes seconds.
const LIMIT: Duration = Duration::from_mins(5);

const SENTENCES: [&str; 3] = ["the cow jumped over the moon", "an apple a day", "four score and seven years ago"];

pub(crate) fn run(tuples: u32, sentences: u32) -> anyhow::Result<()> {
    println!("| work | tuples/s | each | bare queue, each | ratio |\n|---|---|---|---|---|");
    local(tuples)?;
    word_count(sentences)?;
    first_tuple()
}

/// Signals the end of a row.
struct Done(SyncSender<()>);

impl Done {
    fn new() -> (Self, Receiver<()>) {
        let (sender, done) = sync_channel(1);
        (Self(sender), done)
    }

    fn signal(&self) {
        // A second signal has no effect.
        self.0.try_send(()).ok();
    }
}

/// Returns the seconds from the start of a topology until its signal.
fn seconds(topology: &Topology, done: &Receiver<()>) -> anyhow::Result<f64> {
    let clock = SystemClock::default();
    let running = nave::embed(topology)?;
    done.recv_timeout(LIMIT).context("the topology did not end")?;
    let seconds = elapsed(&clock);
    let errors = running.stop();
    anyhow::ensure!(errors.is_empty(), "{errors:?}");
    Ok(seconds)
}

/// Returns the seconds since a clock was created.
fn elapsed(clock: &SystemClock) -> f64 {
    clock.mono().since(MonoTime(0)).as_secs_f64()
}

/// A source, an identity and an end in one lane, beside a push and a pop for each of the two hops.
fn local(tuples: u32) -> anyhow::Result<()> {
    let (signal, done) = Done::new();
    let t = Topology::named("local");
    t.items("const", move || 0..tuples).map("id", |n| n).for_each("null", move |n| {
        if n + 1 == tuples {
            signal.signal();
        }
    });
    let each_ns = seconds(&t.build()?, &done)? * 1e9 / f64::from(tuples);
    let acked_ns = acked(tuples)?;

    let clock = SystemClock::default();
    let (mut first, mut second) = (VecDeque::new(), VecDeque::new());
    for n in 0..tuples {
        first.push_back(black_box(n));
        second.extend(black_box(&mut first).pop_front());
        black_box(black_box(&mut second).pop_front());
    }
    let bare_ns = elapsed(&clock) * 1e9 / f64::from(tuples);
    row("const, id, null in a lane", each_ns, Some(bare_ns));
    row("same, acked", acked_ns, Some(bare_ns));
    Ok(())
}

/// Emits the numbers below `count`, each as a root, and signals when all are acked.
struct Tracked {
    count: u32,
    acked: u32,
    done: Arc<Done>,
}

impl Spout for Tracked {
    type Out = u32;
    type Position = u32;
    const TRACKS: bool = true;

    fn next(&mut self, next: &mut u32, out: &mut Emitter<u32>) -> bool {
        if *next == self.count {
            return false;
        }
        let number = *next;
        *next += 1;
        out.track(number.into(), |out| out.emit(number));
        true
    }

    fn ack(&mut self, _id: u64, _next: &mut u32) {
        self.acked += 1;
        if self.acked == self.count {
            self.done.signal();
        }
    }
}

/// Returns the nanoseconds for each acked tuple of a source, an identity and an end in one lane.
fn acked(tuples: u32) -> anyhow::Result<f64> {
    let (signal, done) = Done::new();
    let signal = Arc::new(signal);
    let t = Topology::named("acked");
    t.spout("const", move || Tracked { count: tuples, acked: 0, done: Arc::clone(&signal) })
        .max_pending(5_000)
        .local()
        .map("id", |n| n)
        .for_each("null", drop);
    Ok(seconds(&t.build()?, &done)? * 1e9 / f64::from(tuples))
}

/// Words by topic to four lanes; the state of each word is saved.
fn word_count(sentences: u32) -> anyhow::Result<()> {
    let sentences = usize::try_from(sentences)?;
    let words: usize = SENTENCES.iter().cycle().take(sentences).map(|s| s.split(' ').count()).sum();
    let words = u32::try_from(words)?;
    let (signal, done) = Done::new();
    let counted = AtomicU32::new(0);
    let t = Topology::named("words");
    t.items("sentences", move || SENTENCES.into_iter().cycle().take(sentences))
        .flat_map("split", |sentence| sentence.split(' ').map(str::to_owned).collect())
        .fields(|word| word.as_str())
        .fold("count", 0_usize, |count, _word| *count += 1)
        .lanes(4)
        .for_each("end", move |_count| {
            if counted.fetch_add(1, Ordering::Relaxed) + 1 == words {
                signal.signal();
            }
        });
    let each_ns = seconds(&t.build()?, &done)? * 1e9 / f64::from(words);
    row("word count, 4 lanes by topic", each_ns, None);
    Ok(())
}

/// From the call of `embed` to the first tuple.
fn first_tuple() -> anyhow::Result<()> {
    let (signal, done) = Done::new();
    let t = Topology::named("first");
    t.items("one", || [1]).for_each("null", move |_| signal.signal());
    println!("\nstart to first tuple: {:.1} ms", seconds(&t.build()?, &done)? * 1e3);
    Ok(())
}

fn row(work: &str, each_ns: f64, bare_ns: Option<f64>) {
    let per_s = 1e3 / each_ns;
    match bare_ns {
        Some(bare) => println!("| {work} | {per_s:.1} M | {each_ns:.0} ns | {bare:.0} ns | {:.1} |", each_ns / bare),
        None => println!("| {work} | {per_s:.2} M | {each_ns:.0} ns | - | - |"),
    }
}
