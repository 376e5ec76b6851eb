//! Lanes move between processes that start and stop: every running process is ready, and no request
//! is refused. In virtual time, in every order of start and stop.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;

use std::collections::BTreeSet;
use std::sync::Arc;

use bus::{BusError, FaultScript, FaultyBus, TopicFault};
use cluster::{Cluster, flow_topology, has_live_lanes, program, stages};
use nave::node::StageSelection;

/// Longer than a rebalance and a takeover.
const SETTLED_MS: u64 = 3_000;

/// The permutations of three.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// Requests flows and checks that the processes `ready` stay ready all the time.
fn busy(cluster: &mut Cluster, asked: &mut usize, ready: &[usize]) {
    for _ in 0..4 {
        cluster.request(&format!("flow-{asked}"));
        *asked += 1;
    }
    let not_ready = cluster.run_watched(SETTLED_MS, ready);
    assert_eq!(not_ready, BTreeSet::new(), "of the processes {:?}", cluster.running());
}

#[test]
fn every_process_stays_ready_while_others_start_and_stop() {
    for start in ORDERS {
        for stop in ORDERS {
            let mut cluster = Cluster::new();
            cluster.submit(&flow_topology(true)).unwrap();
            cluster.start_speaker();
            // Two processes that run everything, and one with hub and worker.
            let wanted = [StageSelection::Everything, stages(&["hub", "speaker"]), StageSelection::Everything];
            let (mut asked, mut processes) = (0, [usize::MAX; 3]);
            for which in start {
                let before = cluster.running();
                processes[which] = cluster.start(&program(), wanted[which].clone());
                busy(&mut cluster, &mut asked, &before);
                assert!(has_live_lanes(&cluster, processes[which]), "{:?}", cluster.waiting(processes[which]));
            }
            for which in [stop[0], stop[1]] {
                cluster.stop(processes[which]);
                let left = cluster.running();
                busy(&mut cluster, &mut asked, &left);
            }
            cluster.run_ms(30_000);
            assert_eq!(cluster.answers(), vec!["done"; asked], "{start:?}, {stop:?}");
        }
    }
}

#[test]
fn a_process_without_lanes_is_ready() {
    let mut cluster = Cluster::new();
    cluster.submit(&flow_topology(false)).unwrap();
    cluster.start_speaker();
    // Four lanes and five processes: one has no lane.
    for _ in 0..5 {
        cluster.start(&program(), StageSelection::Everything);
        cluster.run_ms(SETTLED_MS);
    }
    let mut asked = 0;
    let all = cluster.running();
    busy(&mut cluster, &mut asked, &all);
    cluster.crash(0);
    let left = cluster.running();
    busy(&mut cluster, &mut asked, &left);
    // No task schedules a poll for the end of the crashed process's session.
    (0..30).for_each(|_| cluster.run_ms(1_000));
    assert_eq!(cluster.answers(), vec!["done"; asked]);
}

#[test]
fn a_slow_takeover_of_a_running_process_is_reported() {
    let mut cluster = Cluster::new();
    cluster.submit(&flow_topology(false)).unwrap();
    let script = Arc::new(FaultScript::default());
    let bus = FaultyBus::new(Arc::new(cluster.bus.clone()), Arc::clone(&script) as _);
    let process = cluster.start_on(Arc::new(bus), &program(), StageSelection::Everything);
    let inbox = cluster.topics.inbox("flows", "hub");
    let unavailable = TopicFault::Fails(BusError::Unavailable("as the script says".into()));
    let recovering = |lines: &[String]| lines.len() == 4 && lines.iter().all(|line| line.contains("recovering"));

    cluster.run_ms(SETTLED_MS);
    assert!(has_live_lanes(&cluster, process));

    // The group expels the process and assigns its lanes again, but it cannot read the ends of its
    // inboxes.
    script.topic(&inbox, unavailable);
    cluster.bus.expel(&inbox);
    cluster.run_ms(3_900);
    assert_eq!(cluster.waiting(process), [""; 0], "a takeover within 4 s does not affect readiness");
    cluster.run_ms(200);
    assert!(recovering(&cluster.waiting(process)), "{:?}", cluster.waiting(process));
    script.topic(&inbox, TopicFault::None);
    cluster.run_ms(10_000);
    assert!(has_live_lanes(&cluster, process), "{:?}", cluster.waiting(process));
}
