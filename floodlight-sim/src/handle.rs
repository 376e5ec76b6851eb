//! Shared access to a speaker: for the task that serves it, the admin server, and tests.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flow_messages::speaker::{Rule, SwitchId};
use wire::Problem;

use crate::faults::ActiveFault;
use crate::{AuditEntry, Fault, FaultPlan, Speaker, Store, StoreError};

/// A handle to inspect a speaker and to inject faults. Clones share one speaker.
///
/// The speaker outlives the task that serves it ([`SpeakerHandle::join`]). A new task over the same handle
/// continues with the same rules and the same memory.
#[derive(Debug, Clone, Default)]
pub struct SpeakerHandle(Arc<Mutex<Shared>>);

/// The callback for a crash by fault injection.
type OnCrash = Arc<dyn Fn() + Send + Sync>;

/// The shared state.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) speaker: Speaker,
    /// It crashed by fault injection and was not restarted.
    down: bool,
    on_crash: Option<OnCrash>,
    /// It answers without sending heartbeats.
    heartbeats_stopped: bool,
    /// The store of rules and memory; `None` if they end with the process.
    store: Option<Store>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("speaker", &self.speaker).field("down", &self.down).finish_non_exhaustive()
    }
}

impl SpeakerHandle {
    /// Creates a speaker without rules, in memory only.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens a speaker that stores its rules and memory in this directory, and creates the
    /// directory.
    ///
    /// One process uses a directory at a time. Two speakers of one group do not share tables: when
    /// the partition of a switch moves, the switch has the tables of its new speaker. So run one
    /// speaker per group if rules must survive.
    ///
    /// # Errors
    /// The directory is in use, damaged, of another version, or not writable.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let store = Store::open(directory)?;
        let speaker = Speaker::default().with_tables(store.tables()?);
        let shared = Shared { speaker, store: Some(store), ..Shared::default() };
        Ok(Self(Arc::new(Mutex::new(shared))))
    }

    /// Returns true if rules and memory outlive the process.
    pub fn is_persistent(&self) -> bool {
        self.lock().store.is_some()
    }

    // ---- inspection -----------------------------------------------------------------------------

    /// The rules of a switch, by cookie.
    pub fn rules(&self, switch: &SwitchId) -> Vec<Rule> {
        self.lock().speaker.switches().rules(switch)
    }

    /// The rules of all switches, by switch and cookie.
    pub fn all_rules(&self) -> Vec<Rule> {
        self.lock().speaker.switches().all_rules()
    }

    /// The switches with rules, and the number of rules of each.
    pub fn switches(&self) -> Vec<(SwitchId, usize)> {
        self.lock().speaker.switches().counts()
    }

    /// The newest [`crate::audit::MAX_ENTRIES`] audit entries, oldest first.
    pub fn audit(&self) -> Vec<AuditEntry> {
        self.lock().speaker.audit().after(0).cloned().collect()
    }

    /// At most `max` audit entries after `seq`, oldest first.
    pub fn audit_after(&self, seq: u64, max: usize) -> Vec<AuditEntry> {
        self.lock().speaker.audit().after(seq).take(max).cloned().collect()
    }

    /// The newest `max` audit entries, oldest first.
    pub fn audit_newest(&self, max: usize) -> Vec<AuditEntry> {
        let shared = self.lock();
        let after = shared.speaker.audit().last().saturating_sub(max as u64);
        shared.speaker.audit().after(after).cloned().collect()
    }

    /// The number of delayed commands and answers.
    pub fn waiting(&self) -> usize {
        self.lock().speaker.waiting()
    }

    // ---- fault injection ------------------------------------------------------------------------

    /// Injects a fault, after the active ones.
    ///
    /// # Errors
    /// The fault can never apply, or [`crate::faults::MAX_FAULTS`] are active.
    pub fn inject(&self, fault: Fault) -> Result<(), Problem> {
        self.lock().speaker.faults_mut().inject(fault)
    }

    /// Injects all these faults, after the active ones, or none of them.
    ///
    /// # Errors
    /// As [`SpeakerHandle::inject`], for the first invalid fault.
    pub fn inject_all(&self, faults: Vec<Fault>) -> Result<(), Problem> {
        self.lock().speaker.faults_mut().inject_all(faults)
    }

    /// Applies a plan: injects its faults, sets its seed and switches the heartbeats.
    ///
    /// # Errors
    /// As [`SpeakerHandle::inject_all`]; nothing changes then.
    pub fn apply(&self, plan: &FaultPlan) -> Result<(), Problem> {
        let mut shared = self.lock();
        shared.speaker.faults_mut().inject_all(plan.faults.clone())?;
        shared.speaker.faults_mut().set_seed(plan.seed);
        shared.heartbeats_stopped = plan.heartbeats_stopped;
        let (seed, faults) = (plan.seed, plan.faults.len());
        tracing::info!(seed, faults, "injected faults; random choices use this seed");
        Ok(())
    }

    /// The active faults, with their remaining `times`.
    pub fn faults(&self) -> Vec<Fault> {
        self.lock().speaker.faults().list()
    }

    /// The active faults, with their counters.
    pub fn active(&self) -> Vec<ActiveFault> {
        self.lock().speaker.faults().active().to_vec()
    }

    /// The number of commands hit since the start, by the name of the kind of fault.
    pub fn struck(&self) -> Vec<(&'static str, u64)> {
        self.lock().speaker.faults().struck().iter().map(|(kind, count)| (*kind, *count)).collect()
    }

    /// Removes all faults. Delayed commands and answers stay delayed.
    pub fn clear_faults(&self) {
        self.lock().speaker.faults_mut().clear();
    }

    /// The seed of random choices, for faults with a percentage.
    pub fn seed(&self) -> u64 {
        self.lock().speaker.faults().seed()
    }

    /// Sets the seed of all later random choices.
    pub fn set_seed(&self, seed: u64) {
        self.lock().speaker.faults_mut().set_seed(seed);
        tracing::info!(seed, "set the seed of random choices");
    }

    /// Stops or resumes the heartbeats; the speaker answers in either case. The fault `silence` is
    /// the opposite: heartbeats without answers.
    pub fn stop_heartbeats(&self, stopped: bool) {
        self.lock().heartbeats_stopped = stopped;
    }

    /// Returns true if heartbeats are stopped.
    pub fn heartbeats_stopped(&self) -> bool {
        self.lock().heartbeats_stopped
    }

    // ---- crash and restart ----------------------------------------------------------------------

    /// Crashes the speaker after its next poll, like the fault `crash`; with `answered`,
    /// after it sent all pending answers.
    pub fn crash(&self, answered: bool) {
        self.lock().speaker.crash_now(answered);
    }

    /// Returns true if the speaker crashed by fault injection and was not restarted.
    pub fn is_down(&self) -> bool {
        self.lock().down
    }

    /// Restarts a crashed speaker, as if by a new process. It does nothing to a running one.
    ///
    /// The speaker reads uncommitted requests again. It loads rules and memory from its directory,
    /// if it has one, and otherwise keeps them. Delayed commands and answers are lost. Faults and
    /// the audit log stay.
    ///
    /// # Errors
    /// The directory cannot be read; the speaker stays down.
    pub fn restart(&self) -> Result<(), StoreError> {
        let mut shared = self.lock();
        if !shared.down {
            return Ok(());
        }
        if let Some(store) = &shared.store {
            let tables = store.tables()?;
            shared.speaker = std::mem::take(&mut shared.speaker).with_tables(tables);
        }
        shared.speaker.restarted();
        shared.down = false;
        Ok(())
    }

    /// Sets a callback for a crash by fault injection, which can end the process. Without a
    /// callback the task is idle until [`SpeakerHandle::restart`].
    pub fn on_crash(&self, callback: impl Fn() + Send + Sync + 'static) {
        self.lock().on_crash = Some(Arc::new(callback));
    }

    /// Writes all changes since the last call to the store, in one transaction. Answers must not be
    /// sent before. Does nothing without a store.
    pub(crate) fn persist(&self) -> Result<(), StoreError> {
        let mut shared = self.lock();
        let Shared { speaker, store, .. } = &mut *shared;
        let Some(store) = store else { return Ok(()) };
        let changes = speaker.take_changes();
        store.write(&changes).inspect_err(|_| speaker.put_back(changes))
    }

    /// Marks the speaker as crashed and calls the callback.
    pub(crate) fn mark_crashed(&self) {
        let callback = {
            let mut shared = self.lock();
            shared.down = true;
            shared.on_crash.clone()
        };
        tracing::warn!("the speaker crashes by fault injection");
        if let Some(callback) = callback {
            callback();
        }
    }

    /// Locks the shared state. It ignores a poisoned lock: every command leaves the speaker
    /// consistent.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
