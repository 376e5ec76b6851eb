//! The speaker as a service of a [`SpokeTask`], which reads the topic and sends the answers.
//!
//! A request is answered at least once: after a crash the speaker reads uncommitted requests again
//! and answers them from memory. The offset of a request does not wait for its delayed answer: a
//! crash loses that answer.

use std::collections::VecDeque;

use bus::{Bus, BusError, MonoTime, Outgoing, Record};
use spoke::{InjectedCrash, RecordService, ServicePoll, SpokeOptions, SpokeTask};
use wire::topics::Topics;

use crate::flaw::Flaw;
use crate::{Answer, Request, Speaker, SpeakerHandle};

/// At this size of uncommitted answers, in bytes, the fault `oversized` has no effect, to bound the
/// memory.
const MAX_OVERSIZED_BYTES: usize = 64 << 20;

/// Serves a [`SpeakerHandle`] in one task.
pub struct SpeakerService {
    handle: SpeakerHandle,
    /// Requests that are not handled: those of this poll, or those after the request that crashes
    /// the speaker.
    accepted: VecDeque<Record>,
    /// It crashed by fault injection and was not restarted.
    down: bool,
}

impl SpeakerHandle {
    /// Joins the group of `service` as `member`, with the default options; see
    /// [`SpokeTask::join`].
    ///
    /// # Errors
    /// The bus rejects the member.
    pub fn join(
        &self,
        bus: &dyn Bus,
        names: &Topics,
        service: &str,
        member: &str,
    ) -> Result<SpokeTask<SpeakerService>, BusError> {
        self.join_with(bus, names, service, member, &SpokeOptions::default())
    }

    /// As [`SpeakerHandle::join`], with options. The speaker remembers its calls, so its answers
    /// need no transactions.
    ///
    /// # Errors
    /// The bus rejects the member or a writer.
    pub fn join_with(
        &self,
        bus: &dyn Bus,
        names: &Topics,
        service: &str,
        member: &str,
        options: &SpokeOptions,
    ) -> Result<SpokeTask<SpeakerService>, BusError> {
        let served = SpeakerService { handle: self.clone(), accepted: VecDeque::new(), down: false };
        SpokeTask::serve(bus, names, service, member, served, options)
    }
}

impl RecordService for SpeakerService {
    fn is_durable(&self) -> bool {
        self.handle.is_persistent()
    }

    fn room(&self) -> usize {
        // The next process reads the requests after a crash.
        if self.handle.lock().speaker.crash().is_some() { 0 } else { usize::MAX }
    }

    fn accept(&mut self, record: Record, _: &mut ServicePoll<'_>) {
        self.accepted.push_back(record);
    }

    fn advance(&mut self, poll: &mut ServicePoll<'_>) -> bool {
        let mut shared = self.handle.lock();
        let speaker = &mut shared.speaker;
        if speaker.crash().is_none() {
            let due = speaker.due(poll.now, poll.wall);
            queue(due, poll);
        }
        while speaker.crash().is_none()
            && let Some(record) = self.accepted.pop_front()
        {
            handle(speaker, &record, poll);
        }
        false
    }

    fn save(&mut self) -> Result<(), BusError> {
        self.handle.persist().map_err(|error| BusError::Refused(error.to_string()))
    }

    fn oldest_unanswered(&self, partition: u32) -> Option<u64> {
        self.accepted.iter().find(|record| record.partition == partition).map(|record| record.offset)
    }

    fn forget(&mut self, partition: u32) {
        self.accepted.retain(|record| record.partition != partition);
    }

    fn next_due(&self) -> Option<MonoTime> {
        self.handle.lock().speaker.next_due()
    }

    fn unfinished(&self) -> Option<String> {
        let waiting = self.handle.waiting();
        (waiting > 0).then(|| format!("{waiting} commands or answers are still delayed by a fault"))
    }

    fn heartbeats_stopped(&self) -> bool {
        self.handle.heartbeats_stopped()
    }

    fn crash(&self) -> Option<InjectedCrash> {
        let crash = self.handle.lock().speaker.crash()?;
        Some(if crash.answered { InjectedCrash::AfterAnswers } else { InjectedCrash::Now })
    }

    fn crashed(&mut self) {
        self.accepted.clear();
        self.down = true;
        self.handle.mark_crashed();
    }

    fn is_down(&mut self) -> bool {
        self.down = self.down && self.handle.is_down();
        self.down
    }
}

fn handle(speaker: &mut Speaker, record: &Record, poll: &mut ServicePoll<'_>) {
    match Request::read(record) {
        Ok(request) => {
            let answers = speaker.on(poll.now, poll.wall, request);
            queue(answers, poll);
        }
        Err(unreadable) => {
            poll.unreadable(record.partition, record.offset, &unreadable.detail);
            let answer = speaker.unreadable(*unreadable);
            queue(answer, poll);
        }
    }
}

fn queue(answers: impl IntoIterator<Item = Answer>, poll: &mut ServicePoll<'_>) {
    for mut answer in answers {
        if matches!(answer.flaw, Some(Flaw::Oversized(_)))
            && poll.answers.iter().map(Outgoing::size).sum::<usize>() >= MAX_OVERSIZED_BYTES
        {
            answer.flaw = None;
        }
        match answer.outgoing(poll.wall) {
            Some(record) => poll.answers.push(record),
            None => poll.no_address(),
        }
    }
}
