//! Describes a topology as text: what its components save, what its stages guarantee, how tuples
//! travel.

use std::fmt;

use wire::control::DeliveryMode;
use wire::graph::Graph;
use wire::topics::Topics;

use crate::plan::{Stage, Topology};

impl Topology {
    /// Describes the topology as text: one line for each stage, component and edge, and the number of
    /// topics that it needs.
    pub fn describe(&self) -> String {
        let (graph, stages) = (self.graph(), self.stages());
        let mut lines = vec![format!("topology {}", self.name())];
        for stage in &stages {
            let lanes = if stage.lanes == 1 { "1 lane".to_owned() } else { format!("{} lanes", stage.lanes) };
            let guarantee = Guarantee::of(stage, &stages, &graph);
            let how = if guarantee.is_a_mode() {
                format!("({lanes}, {guarantee})")
            } else {
                format!("({lanes}): {guarantee}")
            };
            lines.push(format!("stage {} {how}", stage.name));
            for component in graph.of_stage(&stage.name) {
                let line = format!("  {} {}   {}", component.kind.as_str(), component.name, component.state());
                lines.push(line.trim_end().to_owned());
            }
        }
        for edge in &graph.edges {
            lines.push(format!("{} --{}--> {}   {}", edge.from, edge.stream, edge.to, edge.how()));
        }
        lines.push(format!("creates {} topics\n", self.topics(&Topics::default()).len()));
        lines.join("\n")
    }
}

/// The guarantee that follows for a stage from its mode and from everything upstream of it.
struct Guarantee<'a> {
    mode: DeliveryMode,
    /// Other stages on the way to it that are at-least-once, and spouts that may emit tuples again.
    repeating: Vec<&'a str>,
    /// Spouts without a position, in it or upstream of it.
    starting_anew: Vec<&'a str>,
}

impl<'a> Guarantee<'a> {
    fn of(stage: &Stage, stages: &'a [Stage], graph: &'a Graph) -> Self {
        let upstream = graph.upstream_of(&stage.name);
        let repeats = |other: &&Stage| {
            other.mode == DeliveryMode::AtLeastOnce
                && other.name != stage.name
                && upstream.iter().any(|component| *component.stage == *other.name)
        };
        let replaying = upstream.iter().filter(|component| component.tracks && !component.starts_anew());
        let replaying = replaying.map(|component| component.name.as_str());
        let starting_anew = upstream.iter().filter(|component| component.starts_anew());
        Self {
            mode: stage.mode,
            repeating: stages.iter().filter(repeats).map(|stage| &*stage.name).chain(replaying).collect(),
            starting_anew: starting_anew.map(|component| component.name.as_str()).collect(),
        }
    }

    /// True if it is the guarantee that the mode of the stage promises.
    fn is_a_mode(&self) -> bool {
        self.starting_anew.is_empty() && (self.mode == DeliveryMode::AtLeastOnce || self.repeating.is_empty())
    }
}

impl fmt::Display for Guarantee<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_a_mode() {
            return f.write_str(self.mode.as_str());
        }
        let quoted = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        if self.starting_anew.is_empty() {
            return write!(f, "at-least-once, since {} may repeat tuples", quoted(&self.repeating));
        }
        let is_once = self.mode == DeliveryMode::ExactlyOnce && self.repeating.is_empty();
        let times = if is_once { "once" } else { "at least once" };
        let spouts = quoted(&self.starting_anew);
        write!(f, "each committed tuple {times}; a takeover may lose or repeat tuples of {spouts}")
    }
}

#[cfg(test)]
mod tests {
    use std::marker::PhantomData;

    use wire::EnvelopeRef;

    use super::*;
    use crate::{Bolt, Builder, Delivery, Emitter, InboxSpout, SavedState, Spout, StateMap, Unreadable};

    /// A spout with this position.
    struct Source<P>(PhantomData<P>);

    impl<P: Default + serde::Serialize + serde::de::DeserializeOwned + 'static> Spout for Source<P> {
        type Out = u32;
        type Position = P;
        fn next(&mut self, _: &mut P, _: &mut Emitter<u32>) -> bool {
            false
        }
    }

    struct Inbox;
    impl InboxSpout for Inbox {
        type Out = u32;
        fn accepts(&self, _: &EnvelopeRef<'_>) -> bool {
            false
        }
        fn receive(&mut self, _: &Delivery<'_>, _: &mut Emitter<u32>) -> Result<(), Unreadable> {
            Ok(())
        }
    }

    #[derive(Default)]
    struct Count(StateMap<u32, u32>);
    impl Bolt for Count {
        type In = u32;
        type Out = u32;
        fn state(&mut self, saved: &mut SavedState<'_>) {
            saved.map("counts", &mut self.0);
        }
        fn execute(&mut self, _: u32, _: &mut Emitter<u32>) {}
    }

    struct Pass;
    impl Bolt for Pass {
        type In = u32;
        type Out = u32;
        fn execute(&mut self, _: u32, _: &mut Emitter<u32>) {}
    }

    const ALO: DeliveryMode = DeliveryMode::AtLeastOnce;

    fn plain() -> Source<()> {
        Source(PhantomData)
    }

    fn positioned() -> Source<u64> {
        Source(PhantomData)
    }

    /// Returns what follows the name of each stage.
    fn guarantees(declare: impl FnOnce(&Builder)) -> Vec<String> {
        let t = Topology::named("t");
        declare(&t);
        let text = t.build().unwrap().describe();
        let stages = text.lines().filter_map(|line| line.strip_prefix("stage "));
        stages.map(|line| line.replace("1 lane, ", "").replace(" (1 lane)", "")).collect()
    }

    #[test]
    fn a_description_names_what_is_saved_and_counts_topics() {
        let t = Topology::named("t");
        let numbers = t.spout("numbers", positioned);
        let count = t.bolt("count", Count::default).reads(numbers.local());
        t.bolt("end", || Pass).lanes(2).reads(count.fields(|n| n)).may_be_unread();
        assert_eq!(
            t.build().unwrap().describe(),
            "\
topology t
stage numbers (1 lane, exactly-once)
  spout numbers   position saved
  bolt count   saved: counts
stage end (2 lanes, exactly-once)
  bolt end
numbers --default--> count   local, in the lane
count --default--> end   fields, by topic
creates 9 topics
"
        );
    }

    #[test]
    fn positions_and_inboxes_keep_exactly_once() {
        let found = guarantees(|t| {
            let numbers = t.spout("numbers", positioned);
            let commands = t.inbox_spout("commands", || Inbox);
            t.bolt("end", || Pass).reads(numbers.shuffle()).reads(commands.shuffle()).may_be_unread();
        });
        assert_eq!(found, ["numbers (exactly-once)", "commands (exactly-once)", "end (exactly-once)"]);
    }

    #[test]
    fn a_spout_without_a_position_weakens_every_stage_downstream() {
        let found = guarantees(|t| {
            let (a, b) = (t.spout("a", plain), t.spout("b", plain).mode(ALO));
            let first = t.bolt("first", || Pass).reads(a.shuffle());
            t.bolt("second", Count::default).reads(first.shuffle()).may_be_unread();
            t.bolt("both", || Pass).reads(first.shuffle()).reads(b.shuffle()).may_be_unread();
        });
        assert_eq!(
            found,
            [
                "a: each committed tuple once; a takeover may lose or repeat tuples of `a`",
                "b: each committed tuple at least once; a takeover may lose or repeat tuples of `b`",
                "first: each committed tuple once; a takeover may lose or repeat tuples of `a`",
                "second: each committed tuple once; a takeover may lose or repeat tuples of `a`",
                "both: each committed tuple at least once; a takeover may lose or repeat tuples of `a`, `b`",
            ]
        );
    }

    #[test]
    fn an_at_least_once_stage_weakens_every_stage_downstream() {
        let found = guarantees(|t| {
            let numbers = t.spout("numbers", positioned).mode(ALO);
            let first = t.bolt("first", || Pass).reads(numbers.shuffle());
            t.bolt("second", || Pass).reads(first.shuffle()).mode(ALO).may_be_unread();
        });
        let first = "first: at-least-once, since `numbers` may repeat tuples";
        assert_eq!(found, ["numbers (at-least-once)", first, "second (at-least-once)"]);
    }

    #[test]
    fn each_stage_of_a_cycle_is_upstream_of_the_others() {
        let found = guarantees(|t| {
            let numbers = t.spout("numbers", positioned);
            let back = t.stream::<u32>("pong", "default");
            let ping = t.bolt("ping", || Pass).reads(numbers.shuffle()).reads(back.shuffle());
            t.bolt("pong", || Pass).reads(ping.shuffle()).mode(ALO);
        });
        let ping = "ping: at-least-once, since `pong` may repeat tuples";
        assert_eq!(found, ["numbers (exactly-once)", ping, "pong (at-least-once)"]);
    }

    #[test]
    fn a_spout_that_tracks_its_tuples_may_repeat_them() {
        struct Tracking;
        impl Spout for Tracking {
            type Out = u32;
            type Position = u64;
            const TRACKS: bool = true;
            fn next(&mut self, _: &mut u64, _: &mut Emitter<u32>) -> bool {
                false
            }
        }
        let found = guarantees(|t| {
            let numbers = t.spout("numbers", || Tracking);
            t.bolt("next", || Pass).reads(numbers.shuffle()).may_be_unread();
        });
        let repeats = "at-least-once, since `numbers` may repeat tuples";
        assert_eq!(found, [format!("numbers: {repeats}"), format!("next: {repeats}")]);
    }

    /// Both spouts feed the first stage, but only one of them feeds the second.
    #[test]
    fn a_source_weakens_only_what_reads_its_tuples() {
        let found = guarantees(|t| {
            let (good, bad) = (t.spout("good", positioned), t.spout("bad", plain));
            t.bolt("join", || Pass).reads(good.local()).reads(bad.local()).may_be_unread();
            t.bolt("next", || Pass).reads(good.shuffle()).may_be_unread();
        });
        let join = "good: each committed tuple once; a takeover may lose or repeat tuples of `bad`";
        assert_eq!(found, [join, "next (exactly-once)"]);
    }
}
