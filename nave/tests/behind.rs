//! A lane without an owner is reported with the number of records that wait for it, computed from
//! the positions that the engine publishes.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bus::{Clock, Task};
use nave::testing::{HUB, System, SystemOptions};
use northbound::{Directory, Gateway, Lag, Outlet, Submission};
use support::{FlowWorld, flow, one_lane};
use uuid::Uuid;
use wire::OperationId;

#[test]
fn a_lane_without_an_owner_is_reported_silent_until_its_takeover() {
    let mut world = one_lane(1, |_| {});
    let asked = world.request(&flow("before", 3));
    world.run_ms(5_000);
    assert!(world.answer(asked).is_done());

    // A northbound that starts now knows only what lanes published before.
    let (bus, clock) = (Arc::clone(&world.lanes.bus), Arc::clone(&world.lanes.clock) as Arc<dyn Clock>);
    let options = SystemOptions { lanes: 1, ..support::options() };
    let system = System::new(Arc::clone(&bus), options).unwrap();
    let gateway = Arc::new(Gateway::new(system.gateway_options(), Arc::clone(&clock)));
    let mut outlet = Outlet::open(Arc::clone(&bus), Arc::clone(&gateway)).unwrap();
    let mut lag = Lag::new(bus, Arc::new(Directory::of(Arc::clone(&gateway), clock)));
    outlet.poll(Duration::ZERO).unwrap();

    world.lanes.kill(HUB);
    let mut tickets = Vec::new();
    for n in 0..7 {
        let name = format!("flow-{n}");
        let submission = Submission::new("create-flow", &name, flow(&name, 3), Uuid::from_u128(n));
        tickets.push(gateway.submit(submission).unwrap());
    }
    let records: Vec<_> = tickets.iter().map(|ticket| ticket.record.clone()).collect();
    world.lanes.write(&records);
    let mut pass = |world: &mut FlowWorld, ms: u64| {
        world.run_ms(ms);
        outlet.poll(Duration::ZERO).unwrap();
        lag.poll(Duration::ZERO).unwrap();
    };
    (0..5).for_each(|_| pass(&mut world, 1_000));
    // The seven requests, and the offset of the marker of the lane's last commit.
    let line = "lane 0: silent for 5.0 s, 8 records behind; it has no owner, or its owner cannot commit";
    let silent = |gateway: &Gateway| gateway.silent_lanes().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(silent(&gateway), [line]);
    let id: &OperationId = &gateway.progress(&tickets[0], "create-flow", "flow-0").operation;
    assert_eq!(gateway.operation(id).unwrap().until.unwrap().what, line, "shown by `nave why`");

    world.lanes.start(HUB);
    (0..5).for_each(|_| pass(&mut world, 1_000));
    assert_eq!(silent(&gateway), [""; 0]);
}
