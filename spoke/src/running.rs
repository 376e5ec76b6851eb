//! Calls that were accepted and are not answered yet: in order for each key, up to a limit at once.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};
use wire::{Envelope, WallTime};

use crate::memory::Answer;
use crate::service::{Handler, HandlerFuture, SpokeService, Started};

/// Maximum number of calls that wait for a handler: four polls. Beyond it the topic holds them.
const WAITING: usize = 1_024;

/// A call that was read from the topic.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    /// The key of the record, for the answer.
    pub(crate) record_key: Option<Bytes>,
    pub(crate) key: String,
    pub(crate) envelope: Envelope,
    pub(crate) body: Bytes,
}

struct InFlight {
    accepted: Accepted,
    future: HandlerFuture,
}

/// Wakes the thread of the task when a future can make progress.
struct Woken {
    flag: AtomicBool,
    thread: Thread,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.flag.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// The calls of one task. Made on the thread that polls it.
pub(crate) struct Running {
    waiting: VecDeque<Accepted>,
    in_flight: Vec<InFlight>,
    max_in_flight: usize,
    /// Timers and sockets of the futures.
    runtime: Option<Runtime>,
    woken: Arc<Woken>,
}

impl Running {
    /// Runs at most this many calls at once; `None` if handlers return at once.
    ///
    /// # Errors
    /// If the system gives no thread for the runtime.
    pub(crate) fn new(max_in_flight: Option<usize>) -> io::Result<Self> {
        // One thread waits for timers and sockets; the task polls the futures itself.
        let runtime = || Builder::new_multi_thread().worker_threads(1).thread_name("spoke").enable_all().build();
        let runtime = max_in_flight.map(|_| runtime()).transpose()?;
        let woken = Arc::new(Woken { flag: AtomicBool::new(false), thread: std::thread::current() });
        let (waiting, in_flight) = (VecDeque::new(), Vec::new());
        Ok(Self { waiting, in_flight, max_in_flight: max_in_flight.unwrap_or(1), runtime, woken })
    }

    /// Number of calls that can be accepted.
    pub(crate) fn room(&self) -> usize {
        WAITING.saturating_sub(self.waiting.len())
    }

    /// Accepts a call. It starts with the next [`Running::advance`].
    pub(crate) fn push(&mut self, accepted: Accepted) {
        self.waiting.push_back(accepted);
    }

    /// Number of calls in their handlers.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The offset of the oldest call of `partition` that is not answered.
    pub(crate) fn oldest(&self, partition: u32) -> Option<u64> {
        let all = self.waiting.iter().chain(self.in_flight.iter().map(|call| &call.accepted));
        all.filter(|accepted| accepted.partition == partition).map(|accepted| accepted.offset).min()
    }

    /// Drops the calls of a partition that another instance handles from now on.
    pub(crate) fn drop_partition(&mut self, partition: u32) {
        self.waiting.retain(|accepted| accepted.partition != partition);
        self.in_flight.retain(|call| call.accepted.partition != partition);
    }

    /// Polls the handlers that run, and starts those that can. Appends each call that ended, with its answer.
    pub(crate) fn advance<S: Handler>(
        &mut self,
        service: &SpokeService<S>,
        now: WallTime,
        ended: &mut Vec<(Accepted, Option<Answer>)>,
    ) {
        let runtime = self.runtime.take();
        let context = runtime.as_ref().map(Runtime::enter);
        self.poll(service, ended);
        // A call that ends lets the next one of its key start.
        while self.start(service, now, ended) && !self.waiting.is_empty() {}
        drop(context);
        self.runtime = runtime;
    }

    /// Polls the handlers without starting more, for a task that stops.
    pub(crate) fn finish<S: Handler>(
        &mut self,
        service: &SpokeService<S>,
        ended: &mut Vec<(Accepted, Option<Answer>)>,
    ) {
        let runtime = self.runtime.take();
        let context = runtime.as_ref().map(Runtime::enter);
        self.poll(service, ended);
        drop(context);
        self.runtime = runtime;
    }

    fn poll<S: Handler>(&mut self, service: &SpokeService<S>, ended: &mut Vec<(Accepted, Option<Answer>)>) {
        if self.in_flight.is_empty() || !self.woken.flag.swap(false, Ordering::AcqRel) {
            return;
        }
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut context = Context::from_waker(&waker);
        let mut i = 0;
        while i < self.in_flight.len() {
            match self.in_flight[i].future.as_mut().poll(&mut context) {
                Poll::Ready(handled) => {
                    let InFlight { accepted, .. } = self.in_flight.swap_remove(i);
                    let id = accepted.envelope.call.clone().expect("only a call with an id is started");
                    let answer = service.finish(id, handled);
                    ended.push((accepted, answer));
                }
                Poll::Pending => i += 1,
            }
        }
    }

    /// Starts the calls whose key is free, up to the limit. True if one was started.
    fn start<S: Handler>(
        &mut self,
        service: &SpokeService<S>,
        now: WallTime,
        ended: &mut Vec<(Accepted, Option<Answer>)>,
    ) -> bool {
        let mut busy: BTreeSet<String> = self.in_flight.iter().map(|call| call.accepted.key.clone()).collect();
        let mut blocked = VecDeque::new();
        let mut started = false;
        while let Some(accepted) = self.waiting.pop_front() {
            if self.in_flight.len() >= self.max_in_flight || busy.contains(&accepted.key) {
                busy.insert(accepted.key.clone());
                blocked.push_back(accepted);
                continue;
            }
            started = true;
            match service.start(&accepted, now) {
                Started::Answered(answer) => ended.push((accepted, answer)),
                Started::Running(future) => {
                    busy.insert(accepted.key.clone());
                    self.in_flight.push(InFlight { accepted, future });
                    // The first poll of a future is ours; its waker asks for all others.
                    self.woken.flag.store(true, Ordering::Release);
                }
            }
        }
        self.waiting = blocked;
        if started {
            self.poll(service, ended);
        }
        started
    }
}

impl Drop for Running {
    /// Does not wait for blocking work that a handler started.
    fn drop(&mut self) {
        self.in_flight.clear();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
