//! Lanes move between processes that come and go: every process that runs is ready, and no request is refused. In virtual time, in every
//! order of start and stop.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;

use std::collections::BTreeSet;
use std::sync::Arc;

use bus::{BusError, Faulty, Script, TopicFate};
use cluster::{Cluster, flow_topology, has_live_lanes, program, stages};
use nave::node::Wanted;

/// Longer than a rebalance and a takeover.
const SETTLED_MS: u64 = 3_000;

/// Every order of three.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// Asks for flows, and sees to it that those that are ready are ready all the time.
fn busy(cluster: &mut Cluster, asked: &mut usize, ready: &[usize]) {
    for _ in 0..4 {
        cluster.ask(&format!("flow-{asked}"));
        *asked += 1;
    }
    let waited_for = cluster.run_watched(SETTLED_MS, ready);
    assert_eq!(waited_for, BTreeSet::new(), "of the processes {:?}", cluster.running());
}

#[test]
fn every_process_stays_ready_while_others_come_and_go_in_any_order() {
    for start in ORDERS {
        for stop in ORDERS {
            let mut cluster = Cluster::new();
            cluster.submit(&flow_topology(true)).unwrap();
            cluster.start_speaker();
            // Two that run everything, and one with the hub and the worker.
            let wanted = [Wanted::Everything, stages(&["hub", "speaker"]), Wanted::Everything];
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
fn a_process_without_lanes_is_ready_and_names_none() {
    let mut cluster = Cluster::new();
    cluster.submit(&flow_topology(false)).unwrap();
    cluster.start_speaker();
    // Four lanes and five processes: one has none.
    for _ in 0..5 {
        cluster.start(&program(), Wanted::Everything);
        cluster.run_ms(SETTLED_MS);
    }
    let mut asked = 0;
    let all = cluster.running();
    busy(&mut cluster, &mut asked, &all);
    cluster.crash(0);
    let left = cluster.running();
    busy(&mut cluster, &mut asked, &left);
    // Nobody asks to be woken when the session of the dead process is over.
    (0..30).for_each(|_| cluster.run_ms(1_000));
    assert_eq!(cluster.answers(), vec!["done"; asked]);
}

#[test]
fn a_takeover_of_a_running_process_is_named_when_it_takes_too_long() {
    let mut cluster = Cluster::new();
    cluster.submit(&flow_topology(false)).unwrap();
    let script = Arc::new(Script::default());
    let bus = Faulty::new(Arc::new(cluster.bus.clone()), Arc::clone(&script) as _);
    let process = cluster.start_on(Arc::new(bus), &program(), Wanted::Everything);
    let inbox = cluster.topics.inbox("flows", "hub");
    let away = TopicFate::Fails(BusError::Unavailable("as the script says".into()));
    let recovering = |lines: &[String]| lines.len() == 4 && lines.iter().all(|line| line.contains("recovering"));

    cluster.run_ms(SETTLED_MS);
    assert!(has_live_lanes(&cluster, process));

    // Its group gives it up and takes it back; it cannot read where its inboxes end.
    script.topic(&inbox, away);
    cluster.bus.expel(&inbox);
    cluster.run_ms(3_900);
    assert_eq!(cluster.waiting(process), [""; 0], "others would take lanes over like that while everybody is ready");
    cluster.run_ms(200);
    assert!(recovering(&cluster.waiting(process)), "{:?}", cluster.waiting(process));
    script.topic(&inbox, TopicFate::Stays);
    cluster.run_ms(10_000);
    assert!(has_live_lanes(&cluster, process), "{:?}", cluster.waiting(process));
}
