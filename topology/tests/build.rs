//! Errors of `build()`: all of them at once, with names.

use topology::{Bolt, BuildError, Declarer, Emitter, SavedState, Side, Spout, StateMap, StateValue, Topology};

struct Numbers;
const ODD: Side<u32> = Side::named("odd");

impl Spout for Numbers {
    type Out = u32;
    type Position = ();
    fn declare(d: &mut Declarer<()>) {
        d.side(ODD);
    }
    fn next(&mut self, (): &mut (), _: &mut Emitter<u32>) -> bool {
        false
    }
}

struct Pass;

impl Bolt for Pass {
    type In = u32;
    type Out = u32;
    fn execute(&mut self, n: u32, out: &mut Emitter<u32>) {
        out.emit(n);
    }
}

struct End;

impl Bolt for End {
    type In = u32;
    type Out = ();
    fn execute(&mut self, _: u32, _: &mut Emitter<()>) {}
}

fn errors(declare: impl FnOnce(&topology::Builder)) -> Vec<BuildError> {
    let t = Topology::named("t");
    declare(&t);
    t.build().err().map(|errors| errors.errors).unwrap_or_default()
}

#[test]
fn all_build_errors_are_reported_at_once() {
    let t = Topology::named("no spaces");
    let numbers = t.spout("numbers", || Numbers).lanes(0);
    t.bolt("pass", || Pass).reads(numbers.local());
    t.bolt("pass", || Pass).reads(t.stream::<u32>("numbers", "even").local());
    t.bolt("", || End).reads(t.stream::<u32>("letters", "default").local());
    t.bolt("words", || End).reads(t.stream::<u32>("pass", "default").shuffle()).lanes(2);
    t.bolt("idle", || End);
    let errors = t.build().err().unwrap();
    assert_eq!(
        errors.to_string(),
        "NAVE-0031: topology \"no spaces\" cannot be built (9 errors)\n  \
         1  component `` has a bad name: allowed are 1 to 64 characters of A-Z a-z 0-9 _ -\n  \
         2  topology `no spaces` has a bad name: allowed are 1 to 64 characters of A-Z a-z 0-9 _ -\n  \
         3  two components have the name `pass`\n  \
         4  component `numbers` has 0 lanes; at least 1 is needed\n  \
         5  `` reads `letters`, which does not exist; existing components: numbers, pass, pass, , words, idle\n  \
         6  `pass` reads stream `even` of `numbers`, which has only: default, odd\n  \
         7  stream `odd` of `numbers` has no reader; read it, or mark it with `may_be_unread`\n  \
         8  stream `default` of `pass` has no reader; read it, or mark it with `may_be_unread`\n  \
         9  bolt `idle` reads no stream"
    );
}

#[test]
fn a_stream_read_as_another_type_is_refused() {
    struct Text;
    impl Bolt for Text {
        type In = String;
        type Out = ();
        fn execute(&mut self, _: String, _: &mut Emitter<()>) {}
    }
    let found = errors(|t| {
        t.spout("numbers", || Numbers).side_may_be_unread(ODD).may_be_unread();
        t.bolt("text", || Text).reads(t.stream::<String>("numbers", "default").local());
    });
    assert!(
        matches!(&found[..], [BuildError::WrongType { expected, found, .. }] if expected.ends_with("String") && *found == "u32")
    );
}

#[test]
fn saved_states_of_a_component_have_different_names() {
    #[derive(Default)]
    struct Sums(StateValue<u32>, StateValue<u32>, StateMap<u32, u32>);
    impl Bolt for Sums {
        type In = u32;
        type Out = ();
        fn state(&mut self, saved: &mut SavedState<'_>) {
            saved.value("sum", &mut self.0);
            saved.value("sum", &mut self.1);
            saved.map("by day/hour", &mut self.2);
        }
        fn execute(&mut self, _: u32, _: &mut Emitter<()>) {}
    }
    let found = errors(|t| {
        let numbers = t.spout("numbers", || Numbers).side_may_be_unread(ODD);
        t.bolt("sums", Sums::default).reads(numbers.shuffle());
    });
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "component `sums` lists two saved states `sum`; give each a name of its own in `Bolt::state`",
            "saved state `by day/hour` has a bad name: allowed are 1 to 64 characters of A-Z a-z 0-9 _ -"
        ]
    );
}

/// Calls of a plain spout are not replayed, so a state that they change in a lane would be wrong
/// after a crash.
#[test]
fn a_spout_does_not_feed_saved_state_within_a_lane() {
    #[derive(Default)]
    struct Sum(StateValue<u32>);
    impl Bolt for Sum {
        type In = u32;
        type Out = ();
        fn state(&mut self, saved: &mut SavedState<'_>) {
            saved.value("sum", &mut self.0);
        }
        fn execute(&mut self, _: u32, _: &mut Emitter<()>) {}
    }
    let found = errors(|t| {
        let numbers = t.spout("numbers", || Numbers).side_may_be_unread(ODD);
        let passed = t.bolt("pass", || Pass).reads(numbers.local());
        t.bolt("sum", Sum::default).reads(passed.local());
    });
    assert_eq!(found, [BuildError::SpoutFeedsState { spout: "numbers".into(), component: "sum".into() }]);
    let found = errors(|t| {
        let numbers = t.spout("numbers", || Numbers).side_may_be_unread(ODD);
        let passed = t.bolt("pass", || Pass).reads(numbers.local());
        t.bolt("sum", Sum::default).reads(passed.shuffle());
    });
    assert_eq!(found, []);
}

/// The other lanes would do nothing.
#[test]
fn a_spout_that_reads_in_one_lane_is_refused_in_several() {
    let found = errors(|t| {
        let (_sender, receiver) = topology::channel::<u32>(1);
        t.channel_source("sent", receiver).lanes(2).for_each("a", drop);
        t.file_source("lines", "/some/file").for_each("b", drop).lanes(3);
        t.file_source("more", "/some/file").shuffle().for_each("c", drop).lanes(3);
    });
    let one_lane = |name: &str, lanes| BuildError::OneLane { spout: name.into(), stage: name.into(), lanes };
    assert_eq!(found, [one_lane("lines", 3), one_lane("sent", 2)]);
    assert_eq!(
        found[1].to_string(),
        "spout `sent` reads in one lane, but its stage `sent` has 2; give the stage 1 lane, and read the spout by topic \
         in a stage with 2 lanes, with `shuffle` or `fields`"
    );
}

#[test]
fn components_joined_by_local_edges_share_stage_and_lanes() {
    let found = errors(|t| {
        let numbers = t.spout("numbers", || Numbers).side_may_be_unread(ODD).lanes(2);
        t.bolt("end", || End).reads(numbers.local()).lanes(3);
    });
    assert_eq!(found, [BuildError::LanesDiffer { stage: "numbers".into(), lanes: vec![2, 3] }]);
}

#[test]
fn an_unread_stream_that_is_marked_is_accepted() {
    assert_eq!(errors(|t| drop(t.spout("numbers", || Numbers).may_be_unread().side_may_be_unread(ODD))), []);
}

#[test]
fn a_topology_without_components_is_refused() {
    assert_eq!(errors(|_| {}), [BuildError::Empty]);
}
