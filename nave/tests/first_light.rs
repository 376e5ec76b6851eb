//! The four requests of the README, in virtual time.

mod support;

use flow_messages::client::Origin;
use flow_messages::codes;
use serde_json::json;
use support::FlowOutcome;

#[test]
fn a_flow_is_created_with_all_its_rules() {
    let mut world = support::world(1);
    let asked = world.request(&json!({"flowid": "test-01", "length": 10, "error": null}));
    world.run_until_idle();
    let FlowOutcome::Up(up) = world.answer(asked) else { panic!("{:?}", world.answer(asked)) };
    assert_eq!(
        (up.message.as_str(), up.flowid.as_str(), up.existed),
        ("all operation is successful", "test-01", false)
    );
    let rules = world.speaker().all_rules();
    assert_eq!(rules.len(), 10);
    assert_eq!((&*rules[7].switch.0, rules[7].number), ("of:08", 8));
    assert_eq!(world.lanes.timers(), 0);
    assert_eq!(world.lanes.unfinished(), [""; 0]);
}

#[test]
fn a_step_lost_in_the_hub_ends_by_its_deadline() {
    let mut world = support::world(2);
    let asked = world.request(&json!({"flowid": "test-01", "length": 10, "error": 0}));
    world.run_until_idle();
    let failed = world.answer(asked).failure();
    assert_eq!(
        (failed.message.as_str(), failed.code, failed.origin),
        ("error in hub by timeout", codes::HUB_TIMEOUT, Origin::Hub)
    );
    assert_eq!(world.speaker().all_rules(), []);
    assert_eq!(world.lanes.timers(), 0);
}

#[test]
fn a_fault_in_worker_or_switch_is_rolled_back() {
    for error in [1, 2] {
        let mut world = support::world(error);
        let asked = world.request(&json!({"flowid": "test-01", "length": 10, "error": error}));
        world.run_until_idle();
        let failed = world.answer(asked).failure();
        assert_eq!(failed.message, "error in worker on rule install");
        assert_eq!((failed.code, failed.degraded, failed.left.len()), (codes::INSTALL_FAILED, false, 0));
        assert_eq!(world.speaker().all_rules(), []);
        assert_eq!(world.lanes.timers(), 0);
    }
}

#[test]
fn the_four_requests_have_their_outcomes_in_any_order() {
    let mut world = support::world(4);
    let mut exists = false;
    for error in [json!(1), json!(0), json!(null), json!(2), json!(0), json!(null), json!(1), json!(null)] {
        let asked = world.request(&json!({"flowid": "test-01", "length": 10, "error": error}));
        world.run_until_idle();
        match world.answer(asked) {
            FlowOutcome::Up(up) => {
                assert_eq!((error.is_null(), up.existed), (true, exists));
                exists = true;
            }
            FlowOutcome::Failed(failed) => {
                let message = if error == 0 { "error in hub by timeout" } else { "error in worker on rule install" };
                assert_eq!(failed.message, message);
            }
            other @ (FlowOutcome::Gone(_) | FlowOutcome::Refused(_) | FlowOutcome::Pending) => {
                panic!("{error}: {other:?}")
            }
        }
        assert_eq!(world.speaker().all_rules().len(), if exists { 10 } else { 0 }, "after {error}");
    }
}
