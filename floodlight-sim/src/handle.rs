//! A speaker that several hold: the part that serves it, the admin server, a test.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wire::Problem;
use wire::speaker::{Rule, SwitchId};

use crate::faults::Standing;
use crate::{Entry, Fault, FaultPlan, Speaker, Store, StoreError};

/// A speaker to look at and to break. Clones are the same speaker.
///
/// It outlives the [`crate::SpeakerPart`] that serves it, and a new part made from it goes on with the same rules and the
/// same memory.
#[derive(Debug, Clone, Default)]
pub struct SpeakerHandle(Arc<Mutex<Held>>);

/// What is to be done when the speaker dies of a fault.
type OnCrash = Arc<dyn Fn() + Send + Sync>;

/// What is held.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) speaker: Speaker,
    /// It died of a fault, and was not started again.
    down: bool,
    on_crash: Option<OnCrash>,
    /// It answers, and does not say that it lives.
    heart_stopped: bool,
    /// Where rules and memory are kept; none where they go with the process.
    store: Option<Store>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("speaker", &self.speaker).field("down", &self.down).finish_non_exhaustive()
    }
}

impl SpeakerHandle {
    /// A speaker whose switches have no rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// A speaker whose rules and memory are kept in this directory, and stand there from the last time.
    ///
    /// One directory is one process. It is made where it is not there. Two speakers of one group share the requests and
    /// nothing else: a switch whose partition moves from one to the other has the tables of the other from then on. So a
    /// group that is to know its switches has one speaker at a time.
    ///
    /// # Errors
    /// Where the directory is in use, damaged, of another version, or not to be written.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let store = Store::open(directory)?;
        let speaker = Speaker::default().with_tables(store.tables()?);
        let held = Held { speaker, store: Some(store), ..Held::default() };
        Ok(Self(Arc::new(Mutex::new(held))))
    }

    /// True where rules and memory outlive the process.
    pub fn is_kept(&self) -> bool {
        self.lock().store.is_some()
    }

    // ---- what it has --------------------------------------------------------------------------------------------------

    /// The rules of a switch, by cookie.
    pub fn rules(&self, switch: &SwitchId) -> Vec<Rule> {
        self.lock().speaker.switches().rules(switch)
    }

    /// The rules of all switches, by switch and cookie.
    pub fn all_rules(&self) -> Vec<Rule> {
        self.lock().speaker.switches().all_rules()
    }

    /// The switches that have rules, and how many.
    pub fn switches(&self) -> Vec<(SwitchId, usize)> {
        self.lock().speaker.switches().counts()
    }

    /// What was done, oldest first: the newest [`crate::audit::KEPT`] lines.
    pub fn audit(&self) -> Vec<Entry> {
        self.lock().speaker.audit().after(0).cloned().collect()
    }

    /// At most `max` lines of the audit log after `seq`, oldest first.
    pub fn audit_after(&self, seq: u64, max: usize) -> Vec<Entry> {
        self.lock().speaker.audit().after(seq).take(max).cloned().collect()
    }

    /// The newest `max` lines of the audit log, oldest first.
    pub fn audit_newest(&self, max: usize) -> Vec<Entry> {
        let held = self.lock();
        let after = held.speaker.audit().last().saturating_sub(max as u64);
        held.speaker.audit().after(after).cloned().collect()
    }

    /// How many commands and answers are delayed.
    pub fn waiting(&self) -> usize {
        self.lock().speaker.waiting()
    }

    // ---- what is to go wrong ------------------------------------------------------------------------------------------

    /// Puts a fault in, behind those that stand.
    ///
    /// # Errors
    /// Where it would never strike, or where there are too many.
    pub fn inject(&self, fault: Fault) -> Result<(), Problem> {
        self.lock().speaker.faults_mut().inject(fault)
    }

    /// Puts these in, behind those that stand: all of them or none.
    ///
    /// # Errors
    /// As [`SpeakerHandle::inject`], for the first that cannot be put in.
    pub fn inject_all(&self, faults: Vec<Fault>) -> Result<(), Problem> {
        self.lock().speaker.faults_mut().inject_all(faults)
    }

    /// Does as a plan says: its seed, its faults behind those that stand, its heart.
    ///
    /// # Errors
    /// As [`SpeakerHandle::inject_all`]; nothing is changed then.
    pub fn apply(&self, plan: &FaultPlan) -> Result<(), Problem> {
        let mut held = self.lock();
        held.speaker.faults_mut().inject_all(plan.faults.clone())?;
        held.speaker.faults_mut().set_seed(plan.seed);
        held.heart_stopped = plan.heart_stopped;
        let (seed, faults) = (plan.seed, plan.faults.len());
        tracing::info!(seed, faults, "faults were put in; chance is drawn from this seed");
        Ok(())
    }

    /// The faults that stand, each with the times that it has left.
    pub fn faults(&self) -> Vec<Fault> {
        self.lock().speaker.faults().list()
    }

    /// The same, each with how often it has struck.
    pub fn standing(&self) -> Vec<Standing> {
        self.lock().speaker.faults().standing().to_vec()
    }

    /// How often each kind of fault has struck since the start, by its name.
    pub fn struck(&self) -> Vec<(&'static str, u64)> {
        self.lock().speaker.faults().struck().iter().map(|(kind, count)| (*kind, *count)).collect()
    }

    /// Takes all faults away. What they have delayed stays delayed.
    pub fn clear_faults(&self) {
        self.lock().speaker.faults_mut().clear();
    }

    /// What chance is drawn from, for faults with a percentage.
    pub fn seed(&self) -> u64 {
        self.lock().speaker.faults().seed()
    }

    /// Draws chance from this seed from now on.
    pub fn set_seed(&self, seed: u64) {
        self.lock().speaker.faults_mut().set_seed(seed);
        tracing::info!(seed, "chance is drawn from this seed");
    }

    /// Stops the heartbeats while it goes on answering, or lets them go on. (The other way round, silent and beating, is
    /// the fault `silence`.)
    pub fn stop_heart(&self, stopped: bool) {
        self.lock().heart_stopped = stopped;
    }

    /// True where heartbeats are stopped.
    pub fn heart_is_stopped(&self) -> bool {
        self.lock().heart_stopped
    }

    // ---- death --------------------------------------------------------------------------------------------------------

    /// Lets it die at the end of its next turn, as a fault of kind `crash` does; with `told`, after what it owes is told.
    pub fn crash(&self, told: bool) {
        self.lock().speaker.crash_now(told);
    }

    /// True where it died of a fault and was not started again.
    pub fn is_down(&self) -> bool {
        self.lock().down
    }

    /// A new process in its place: it reads again what was not committed. With a directory, rules and memory are those that
    /// were kept there; without one those that it had, as if they had been kept. What was delayed is gone; faults stand, and
    /// the audit log goes on. One that lives goes on as it is.
    ///
    /// # Errors
    /// Where the directory cannot be read; it is down still.
    pub fn restart(&self) -> Result<(), StoreError> {
        let mut held = self.lock();
        if !held.down {
            return Ok(());
        }
        if let Some(store) = &held.store {
            let tables = store.tables()?;
            held.speaker = std::mem::take(&mut held.speaker).with_tables(tables);
        }
        held.speaker.restarted();
        held.down = false;
        Ok(())
    }

    /// Does `callback` when it dies of a fault: a process of its own ends there. Without one the part that serves it stands
    /// still until [`SpeakerHandle::restart`].
    pub fn on_crash(&self, callback: impl Fn() + Send + Sync + 'static) {
        self.lock().on_crash = Some(Arc::new(callback));
    }

    /// Keeps what was changed since the last time, all of it or nothing; without a directory there is nothing to do. Nothing
    /// may be told before.
    pub(crate) fn keep(&self) -> Result<(), StoreError> {
        let mut held = self.lock();
        let Held { speaker, store, .. } = &mut *held;
        let Some(store) = store else { return Ok(()) };
        let changes = speaker.take_changes();
        store.write(&changes).inspect_err(|_| speaker.give_back(changes))
    }

    /// It is dead from here on.
    pub(crate) fn fall(&self) {
        let callback = {
            let mut held = self.lock();
            held.down = true;
            held.on_crash.clone()
        };
        tracing::warn!("the speaker dies of a fault that was asked for");
        if let Some(callback) = callback {
            callback();
        }
    }

    /// The speaker itself. A panic elsewhere does not lock it for ever: each command leaves it whole.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
