//! A speaker that several hold: the part that serves it, the admin server, a test.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wire::Problem;
use wire::speaker::{Rule, SwitchId};

use crate::{Entry, Fault, Speaker};

/// A speaker to look at and to break. Clones are the same speaker.
///
/// It outlives the [`crate::SpeakerPart`] that serves it, and a new part made from it goes on with the same rules and the
/// same memory.
#[derive(Debug, Clone, Default)]
pub struct SpeakerHandle(Arc<Mutex<Speaker>>);

impl SpeakerHandle {
    /// A speaker whose switches have no rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// The rules of a switch, by cookie.
    pub fn rules(&self, switch: &SwitchId) -> Vec<Rule> {
        self.lock().switches().rules(switch)
    }

    /// The rules of all switches, by switch and cookie.
    pub fn all_rules(&self) -> Vec<Rule> {
        self.lock().switches().all_rules()
    }

    /// The switches that have rules, and how many.
    pub fn switches(&self) -> Vec<(SwitchId, usize)> {
        self.lock().switches().counts()
    }

    /// What was done, oldest first: the newest [`crate::audit::KEPT`] lines.
    pub fn audit(&self) -> Vec<Entry> {
        self.lock().audit().after(0).cloned().collect()
    }

    /// At most `max` lines of the audit log after `seq`, oldest first.
    pub fn audit_after(&self, seq: u64, max: usize) -> Vec<Entry> {
        self.lock().audit().after(seq).take(max).cloned().collect()
    }

    /// The newest `max` lines of the audit log, oldest first.
    pub fn audit_newest(&self, max: usize) -> Vec<Entry> {
        let speaker = self.lock();
        let after = speaker.audit().last().saturating_sub(max as u64);
        speaker.audit().after(after).cloned().collect()
    }

    /// How many commands and answers are delayed.
    pub fn waiting(&self) -> usize {
        self.lock().waiting()
    }

    /// Puts a fault in, behind those that stand.
    ///
    /// # Errors
    /// Where it would never strike, or where there are too many.
    pub fn inject(&self, fault: Fault) -> Result<(), Problem> {
        self.lock().faults().inject(fault)
    }

    /// The faults that stand.
    pub fn faults(&self) -> Vec<Fault> {
        self.lock().faults().list().to_vec()
    }

    /// Takes all faults away. What they have delayed stays delayed.
    pub fn clear_faults(&self) {
        self.lock().faults().clear();
    }

    /// The speaker itself. A panic elsewhere does not lock it for ever: each command leaves it whole.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Speaker> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
