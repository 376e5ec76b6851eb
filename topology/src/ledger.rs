//! The ack trees of a lane: which tuples of its tracking spouts are still in work.
//!
//! Each call of [`crate::Emitter::track`] opens a root. An entry counts the references to it: one for
//! each queued tuple, for each held tuple, and for the step that opened it. At zero, all tuples of the
//! root are done. A tuple that is anchored to several others refers to a join, which refers to their
//! roots.
//!
//! Storm combines random ids by XOR, since its acker is another task. Here one thread owns the whole
//! tree, so it counts: exact, without collisions, without hashing, and without an allocation per tuple,
//! since entries are reused.

use bus::MonoTime;

use crate::place::Place;
use crate::wheel::{Handle, Wheel};

/// Refers to an entry of the ledger: its index plus one, or 0 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Anchor(u32);

impl Anchor {
    /// The anchor of tuples that nothing tracks.
    pub(crate) const NONE: Self = Self(0);

    #[inline]
    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// The limits of a spout that tracks its tuples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Maximum number of its roots that are neither acked nor failed: the spout is not called beyond.
    pub(crate) max_pending: u32,
    /// Time to ack a root, in milliseconds; `None` without a deadline.
    pub(crate) timeout_ms: Option<u64>,
}

impl Default for Limits {
    /// 1,024 roots: enough to fill a commit, and a failed process repeats no more. 30 s is Storm's
    /// default.
    fn default() -> Self {
        Self { max_pending: 1_024, timeout_ms: Some(30_000) }
    }
}

/// A root that was acked or failed, for its spout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) spout: u16,
    /// The number that the spout gave it.
    pub(crate) id: u64,
    /// The place and the reason of its failure; `None` if it was acked.
    pub(crate) failure: Option<Box<(Place, String)>>,
}

#[derive(Debug)]
struct Root {
    spout: u16,
    id: u64,
    phase: RootPhase,
    /// Its deadline, and the time in milliseconds that it was given.
    deadline: Option<(Handle, u64)>,
    /// The component that held a tuple of it last.
    holder: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RootPhase {
    Open,
    /// Its failure was reported, or the call that opened it has panicked. Its tuples may still be in
    /// work.
    Settled,
}

#[derive(Debug)]
enum Kind {
    Free,
    Root(Root),
    /// The roots that a tuple with several anchors refers to.
    Join(Vec<Anchor>),
}

#[derive(Debug)]
struct Entry {
    references: u32,
    kind: Kind,
}

/// The roots of one lane.
#[derive(Debug)]
pub(crate) struct Ledger {
    entries: Vec<Entry>,
    free: Vec<Anchor>,
    /// The roots that the current step opened. The step has a reference to each.
    opened: Vec<Anchor>,
    /// The held tuples that the current call has acked, and their holders.
    acked: Vec<(Anchor, u16)>,
    /// Not yet reported to the spouts. Pending roots are bounded, and so are these.
    outcomes: Vec<Outcome>,
    /// The limits and the number of pending roots of each component.
    spouts: Vec<Option<(Limits, u32)>>,
    deadlines: Wheel<Anchor>,
    /// The time of the current step.
    now: MonoTime,
    /// Acks of roots that had failed before.
    late: u64,
}

impl Ledger {
    /// Makes the ledger of a lane from the limits of each component that tracks its tuples.
    pub(crate) fn new(spouts: Vec<Option<Limits>>) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            opened: Vec::new(),
            acked: Vec::new(),
            outcomes: Vec::new(),
            spouts: spouts.into_iter().map(|limits| Some((limits?, 0))).collect(),
            deadlines: Wheel::new(0),
            now: MonoTime::default(),
            late: 0,
        }
    }

    /// True if the component is a spout that tracks its tuples.
    pub(crate) fn tracks(&self, component: u16) -> bool {
        self.spouts[usize::from(component)].is_some()
    }

    /// True if the spout may open another root.
    #[inline]
    pub(crate) fn may_open(&self, spout: u16) -> bool {
        self.spouts[usize::from(spout)].is_none_or(|(limits, pending)| pending < limits.max_pending)
    }

    /// Opens a root. The step has a reference to it until [`Ledger::end_step`].
    pub(crate) fn open(&mut self, spout: u16, id: u64) -> Anchor {
        if let Some((_, pending)) = &mut self.spouts[usize::from(spout)] {
            *pending += 1;
        }
        let root = self.insert(Kind::Root(Root { spout, id, phase: RootPhase::Open, deadline: None, holder: None }));
        self.opened.push(root);
        root
    }

    fn insert(&mut self, kind: Kind) -> Anchor {
        let entry = Entry { references: 1, kind };
        if let Some(free) = self.free.pop() {
            self.entries[free.0 as usize - 1] = entry;
            return free;
        }
        self.entries.push(entry);
        Anchor(u32::try_from(self.entries.len()).expect("pending roots and their tuples are far fewer than 2^32"))
    }

    #[inline]
    fn entry(&mut self, anchor: Anchor) -> &mut Entry {
        &mut self.entries[anchor.0 as usize - 1]
    }

    /// Adds a reference.
    #[inline]
    pub(crate) fn retain(&mut self, anchor: Anchor) {
        if !anchor.is_none() {
            self.entry(anchor).references += 1;
        }
    }

    /// Removes a reference. The last one acks a root that has not failed.
    #[inline]
    pub(crate) fn release(&mut self, anchor: Anchor) {
        if anchor.is_none() {
            return;
        }
        let entry = self.entry(anchor);
        entry.references -= 1;
        if entry.references == 0 {
            self.end(anchor);
        }
    }

    fn end(&mut self, anchor: Anchor) {
        self.free.push(anchor);
        match std::mem::replace(&mut self.entry(anchor).kind, Kind::Free) {
            Kind::Free => unreachable!("an entry without references has no references to release"),
            Kind::Join(roots) => roots.into_iter().for_each(|root| self.release(root)),
            Kind::Root(Root { phase: RootPhase::Settled, .. }) => {}
            Kind::Root(Root { spout, id, deadline, .. }) => {
                if let Some((deadline, _)) = deadline {
                    self.deadlines.cancel(deadline);
                }
                self.outcomes.push(Outcome { spout, id, failure: None });
            }
        }
    }

    /// Returns an anchor to the roots of all of these, with a reference of its own. It refers to roots
    /// alone, so that joins of joins do not nest.
    pub(crate) fn join(&mut self, anchors: &[Anchor]) -> Anchor {
        let mut roots = Vec::new();
        for anchor in anchors {
            self.each_root(*anchor, |_, root| roots.push(root));
        }
        roots.sort_unstable();
        roots.dedup();
        for root in &roots {
            self.retain(*root);
        }
        match roots[..] {
            [] => Anchor::NONE,
            [one] => one,
            _ => self.insert(Kind::Join(roots)),
        }
    }

    /// Calls `change` for each root that an anchor refers to.
    fn each_root(&mut self, anchor: Anchor, mut change: impl FnMut(&mut Self, Anchor)) {
        if anchor.is_none() {
            return;
        }
        match &self.entry(anchor).kind {
            Kind::Join(roots) => roots.clone().into_iter().for_each(|root| change(self, root)),
            Kind::Root(_) => change(self, anchor),
            Kind::Free => unreachable!("a reference keeps its entry"),
        }
    }

    fn root(&mut self, anchor: Anchor) -> &mut Root {
        let Kind::Root(root) = &mut self.entry(anchor).kind else { unreachable!("the anchor of a root") };
        root
    }

    /// Fails the roots of an anchor. The first failure of a root counts.
    pub(crate) fn fail(&mut self, anchor: Anchor, place: &Place, reason: &str) {
        self.each_root(anchor, |ledger, anchor| {
            let root = ledger.root(anchor);
            if root.phase == RootPhase::Open {
                root.phase = RootPhase::Settled;
                let (spout, id, deadline) = (root.spout, root.id, root.deadline.take());
                if let Some((deadline, _)) = deadline {
                    ledger.deadlines.cancel(deadline);
                }
                ledger.outcomes.push(Outcome {
                    spout,
                    id,
                    failure: Some(Box::new((place.clone(), reason.to_owned()))),
                });
            }
        });
    }

    /// Adds the reference of a tuple that a component holds.
    pub(crate) fn hold(&mut self, anchor: Anchor, holder: u16) {
        self.retain(anchor);
        self.each_root(anchor, |ledger, anchor| ledger.root(anchor).holder = Some(holder));
    }

    /// Acks a held tuple. Its reference remains until the end of the call, which may panic.
    pub(crate) fn ack_held(&mut self, anchor: Anchor, holder: u16) {
        let mut is_late = false;
        self.each_root(anchor, |ledger, anchor| is_late |= ledger.root(anchor).phase == RootPhase::Settled);
        self.late += u64::from(is_late);
        if !anchor.is_none() {
            self.acked.push((anchor, holder));
        }
    }

    /// Returns the number of held tuples that were acked in a call that has not ended.
    pub(crate) fn acked(&self) -> usize {
        self.acked.len()
    }

    /// Removes the references of the held tuples that the call has acked.
    #[inline]
    pub(crate) fn release_acked(&mut self) {
        if !self.acked.is_empty() {
            let acked = std::mem::take(&mut self.acked);
            for (anchor, _) in acked {
                self.release(anchor);
            }
        }
    }

    /// Fails the held tuples that were acked since there were `acked`: the call has panicked, and what it
    /// emitted for them was removed.
    pub(crate) fn fail_acked(&mut self, acked: usize, reason: &str) {
        for (anchor, holder) in self.acked.split_off(acked) {
            self.fail(anchor, &Place::Component(holder), reason);
            self.release(anchor);
        }
    }

    /// Moves the deadline of the roots to `timeout_ms` milliseconds from now. No effect on roots
    /// without a deadline.
    pub(crate) fn extend(&mut self, anchor: Anchor, timeout_ms: u64) {
        self.each_root(anchor, |ledger, anchor| {
            let Root { spout, phase, ref mut deadline, .. } = *ledger.root(anchor);
            let armed = deadline.take();
            if let Some((deadline, _)) = armed {
                ledger.deadlines.cancel(deadline);
            }
            // The deadline of a root that this step opened is not armed yet.
            if phase == RootPhase::Open && ledger.timeout_ms(spout).is_some() {
                ledger.arm(anchor, timeout_ms);
            }
        });
    }

    fn arm(&mut self, root: Anchor, timeout_ms: u64) {
        let due = self.now.plus_ms(timeout_ms);
        let deadline = self.deadlines.insert(due.0.div_ceil(NANOS_PER_TICK), root);
        self.root(root).deadline = Some((deadline, timeout_ms));
    }

    /// Returns the number of roots that the current step has opened.
    pub(crate) fn opened(&self) -> usize {
        self.opened.len()
    }

    /// Forgets the roots that were opened since there were `opened`: the call has panicked, and its
    /// tuples were removed.
    pub(crate) fn forget_opened(&mut self, opened: usize) {
        for root in self.opened.split_off(opened) {
            let Root { spout, ref mut phase, ref mut deadline, .. } = *self.root(root);
            let (phase, deadline) = (std::mem::replace(phase, RootPhase::Settled), deadline.take());
            if let Some((deadline, _)) = deadline {
                self.deadlines.cancel(deadline);
            }
            // The outcome of a root that has failed is counted when it is reported.
            if phase == RootPhase::Open {
                self.reported(spout);
            }
            self.release(root);
        }
    }

    /// Begins a step.
    pub(crate) fn begin_step(&mut self, now: MonoTime) {
        self.now = now;
    }

    /// Ends a step: acks the roots whose tuples are all done, and arms the deadlines of the others.
    pub(crate) fn end_step(&mut self) {
        let mut opened = std::mem::take(&mut self.opened);
        for root in opened.drain(..) {
            if self.entry(root).references > 1 {
                let Root { spout, phase, ref deadline, .. } = *self.root(root);
                let is_due = phase == RootPhase::Open && deadline.is_none();
                if let Some(timeout_ms) = self.timeout_ms(spout).filter(|_| is_due) {
                    self.arm(root, timeout_ms);
                }
            }
            self.release(root);
        }
        self.opened = opened;
    }

    fn timeout_ms(&self, spout: u16) -> Option<u64> {
        self.spouts[usize::from(spout)].and_then(|(limits, _)| limits.timeout_ms)
    }

    /// Fails the roots whose deadlines have passed.
    pub(crate) fn expire(&mut self, now: MonoTime) {
        self.now = now;
        let mut due = Vec::new();
        self.deadlines.advance(now.0 / NANOS_PER_TICK, |root| due.push(root));
        for anchor in due {
            let root = self.root(anchor);
            let place = Place::Component(root.holder.unwrap_or(root.spout));
            let after_ms = root.deadline.take().map_or(0, |(_, after_ms)| after_ms);
            let reason = format!("not acked within {after_ms} ms");
            self.fail(anchor, &place, &reason);
        }
    }

    /// Returns the earliest deadline.
    pub(crate) fn next_deadline(&self) -> Option<MonoTime> {
        self.deadlines.next().map(|tick| MonoTime(tick.saturating_mul(NANOS_PER_TICK)))
    }

    /// True if outcomes wait to be reported.
    pub(crate) fn has_outcomes(&self) -> bool {
        !self.outcomes.is_empty()
    }

    /// Returns and clears the outcomes, in the order in which they occurred.
    pub(crate) fn take_outcomes(&mut self) -> Vec<Outcome> {
        let outcomes = std::mem::take(&mut self.outcomes);
        for outcome in &outcomes {
            self.reported(outcome.spout);
        }
        outcomes
    }

    /// A root of the spout is no longer pending.
    fn reported(&mut self, spout: u16) {
        if let Some((_, pending)) = &mut self.spouts[usize::from(spout)] {
            *pending -= 1;
        }
    }

    /// Returns and clears the number of late acks.
    pub(crate) fn take_late(&mut self) -> u64 {
        std::mem::take(&mut self.late)
    }

    /// Returns the number of roots that are neither reported as acked nor as failed.
    pub(crate) fn pending(&self) -> u32 {
        self.spouts.iter().flatten().map(|(_, pending)| pending).sum()
    }
}

/// The wheel counts milliseconds, as the timers of a lane do.
const NANOS_PER_TICK: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const SPOUT: u16 = 0;
    const BOLT: u16 = 1;

    /// An action on the tuples in work; a number chooses one of them.
    #[derive(Debug, Clone)]
    enum Action {
        /// The spout emits a root of that many tuples.
        Open(usize),
        /// A bolt handles a tuple and emits that many for it.
        Execute(usize, usize),
        /// A bolt holds a tuple: it counts until it is acked.
        Hold(usize),
        /// A bolt emits a tuple for two others.
        Join(usize, usize),
        Fail(usize),
        /// The tuple is done.
        Ack(usize),
        EndStep,
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            (0..4_usize).prop_map(Action::Open),
            (any::<usize>(), 0..3_usize).prop_map(|(tuple, emits)| Action::Execute(tuple, emits)),
            any::<usize>().prop_map(Action::Hold),
            (any::<usize>(), any::<usize>()).prop_map(|(one, other)| Action::Join(one, other)),
            any::<usize>().prop_map(Action::Fail),
            any::<usize>().prop_map(Action::Ack),
            Just(Action::EndStep),
        ]
    }

    /// The model: each tuple knows the ids of all its roots.
    #[derive(Default)]
    struct Model {
        tuples: Vec<(Anchor, Vec<u64>)>,
        /// The roots of the current step.
        opened: Vec<u64>,
        /// True once the root has failed.
        roots: BTreeMap<u64, bool>,
        acked: Vec<u64>,
        failed: Vec<u64>,
    }

    impl Model {
        fn settle(&mut self) {
            let (tuples, opened) = (&self.tuples, &self.opened);
            let is_done = |id: &u64| !opened.contains(id) && !tuples.iter().any(|(_, roots)| roots.contains(id));
            for (id, failed) in self.roots.extract_if(.., |id, _| is_done(id)) {
                if !failed {
                    self.acked.push(id);
                }
            }
        }

        fn fail(&mut self, tuple: usize) {
            for id in self.tuples[tuple].1.clone() {
                if !std::mem::replace(self.roots.get_mut(&id).expect("a tuple keeps its roots"), true) {
                    self.failed.push(id);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_ledger_agrees_with_a_model_under_any_order_of_events(actions in prop::collection::vec(action(), 1..80)) {
            let limits = Limits { max_pending: 1_000, timeout_ms: None };
            let mut ledger = Ledger::new(vec![Some(limits), None]);
            let (mut model, mut next_id) = (Model::default(), 0);
            let finish = (0..400).flat_map(|_| [Action::EndStep, Action::Ack(0)]);
            for action in actions.into_iter().chain(finish) {
                let count = model.tuples.len();
                match action {
                    Action::Open(tuples) => {
                        let root = ledger.open(SPOUT, next_id);
                        model.roots.insert(next_id, false);
                        model.opened.push(next_id);
                        for _ in 0..tuples {
                            ledger.retain(root);
                            model.tuples.push((root, vec![next_id]));
                        }
                        next_id += 1;
                    }
                    Action::EndStep => {
                        ledger.end_step();
                        model.opened.clear();
                    }
                    _ if count == 0 => {}
                    Action::Execute(tuple, emits) => {
                        let (anchor, roots) = model.tuples.swap_remove(tuple % count);
                        for _ in 0..emits {
                            ledger.retain(anchor);
                            model.tuples.push((anchor, roots.clone()));
                        }
                        ledger.release(anchor);
                    }
                    Action::Hold(tuple) => {
                        let (anchor, _) = model.tuples[tuple % count];
                        ledger.hold(anchor, BOLT);
                        ledger.release(anchor);
                    }
                    Action::Join(one, other) => {
                        let anchors = [one, other].map(|tuple| model.tuples[tuple % count].0);
                        let joined = ledger.join(&anchors);
                        let roots = [one, other].iter().flat_map(|tuple| model.tuples[tuple % count].1.clone()).collect();
                        model.tuples.push((joined, roots));
                    }
                    Action::Fail(tuple) => {
                        ledger.fail(model.tuples[tuple % count].0, &Place::Component(BOLT), "it fails");
                        model.fail(tuple % count);
                    }
                    Action::Ack(tuple) => {
                        ledger.ack_held(model.tuples.swap_remove(tuple % count).0, BOLT);
                        ledger.release_acked();
                    }
                }
                model.settle();
                let (mut acked, mut failed) = (Vec::new(), Vec::new());
                for Outcome { id, failure, .. } in ledger.take_outcomes() {
                    if failure.is_none() { acked.push(id) } else { failed.push(id) }
                }
                acked.sort_unstable();
                model.acked.sort_unstable();
                failed.sort_unstable();
                model.failed.sort_unstable();
                prop_assert_eq!(acked, std::mem::take(&mut model.acked));
                prop_assert_eq!(failed, std::mem::take(&mut model.failed));
            }
            prop_assert_eq!(ledger.pending(), 0);
            prop_assert_eq!(ledger.free.len(), ledger.entries.len(), "no entry is left in use");
        }
    }

    #[test]
    fn a_root_of_a_step_that_panicked_has_no_outcome() {
        let mut ledger = Ledger::new(vec![Some(Limits::default())]);
        let kept = ledger.open(SPOUT, 1);
        let before = ledger.opened();
        ledger.open(SPOUT, 2);
        ledger.forget_opened(before);
        ledger.retain(kept);
        ledger.end_step();
        assert!(!ledger.has_outcomes(), "a tuple of the first root is in work");
        ledger.release(kept);
        assert_eq!(ledger.take_outcomes(), [Outcome { spout: SPOUT, id: 1, failure: None }]);
        assert_eq!(ledger.pending(), 0);
    }
}
