//! Lets ten requests a second through, with a cycle: `cargo run -p nave --example rate_limiter -- up`.
//! `curl -d 7 http://127.0.0.1:8088/v1/topologies/rate-limiter/sources/requests` sends request 7.
//!
//! The limiter sends a request that exceeds the rate to `wait`, which returns it after a second.

use std::process::ExitCode;

use nave::prelude::stream::*;

/// Requests over the rate.
const DELAYED: Side<u64> = Side::named("delayed");
const PER_SECOND: u64 = 10;
const SECOND_MS: u64 = 1_000;

/// Counts the requests that passed in the current second.
#[derive(Default)]
struct Limiter(StateValue<u64>);

impl Bolt for Limiter {
    type In = u64;
    type Out = u64;

    fn declare(declarer: &mut Declarer<u64>) {
        declarer.side(DELAYED);
    }

    fn state(&mut self, saved: &mut SavedState<'_>) {
        saved.value("passed", &mut self.0);
    }

    fn execute(&mut self, request: u64, out: &mut Emitter<u64>) {
        if *self.0 == PER_SECOND {
            return out.side(DELAYED, request);
        }
        if *self.0 == 0 {
            out.after(0, SECOND_MS);
        }
        *self.0 += 1;
        out.emit(request);
    }

    fn on_timer(&mut self, _: u64, _: &mut Emitter<u64>) {
        *self.0 = 0;
    }
}

/// Returns each request after a second. Its number is the key of its timer.
struct Wait;

impl Bolt for Wait {
    type In = u64;
    type Out = u64;

    fn execute(&mut self, request: u64, out: &mut Emitter<u64>) {
        out.after(request, SECOND_MS);
    }

    fn on_timer(&mut self, request: u64, out: &mut Emitter<u64>) {
        out.emit(request);
    }
}

pub(crate) fn rate_limiter(passed: impl Fn(u64) + Send + Sync + 'static) -> Result<Topology, BuildErrors> {
    let t = Topology::named("rate-limiter");
    let requests = t.http_source::<u64>("requests");
    let limiter = t.bolt("limiter", Limiter::default);
    let waiting = t.bolt("wait", || Wait).reads(limiter.side(DELAYED).global());
    limiter.reads(requests.global()).reads(waiting.global()).for_each("passed", passed);
    t.build()
}

fn main() -> ExitCode {
    nave::main(nave::about!(), [|| rate_limiter(|request| println!("{request} passed"))])
}
