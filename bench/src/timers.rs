//! The timing wheel alone: what a timer costs.

use bus::Clock;
use nave::clock::SystemClock;
use topology::wheel::Wheel;

pub(crate) fn run(timers: u64) {
    let clock = SystemClock::default();
    let mut wheel = Wheel::new(0);
    let begun = clock.mono();
    // Spread over a minute by a multiplicative hash, so that slots are hit in no order.
    let handles: Vec<_> = (0..timers).map(|i| wheel.insert(i.wrapping_mul(0x9e37_79b9) % 60_000 + 1, i)).collect();
    let inserted = clock.mono();
    for handle in handles.iter().step_by(2) {
        wheel.cancel(*handle);
    }
    let cancelled = clock.mono();
    let mut fired = 0_u64;
    wheel.advance(60_001, |_| fired += 1);
    let ended = clock.mono();
    let each = |from: bus::MonoTime, to: bus::MonoTime, n: u64| to.since(from).as_nanos() / u128::from(n.max(1));
    println!("| timers | register | cancel | fire |\n|---|---|---|---|");
    println!(
        "| {timers} | {} ns | {} ns | {} ns |",
        each(begun, inserted, timers),
        each(inserted, cancelled, timers.div_ceil(2)),
        each(cancelled, ended, fired),
    );
}
