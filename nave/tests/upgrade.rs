//! A topology with running operations and its next build: the build continues them, or holds their
//! lanes and changes nothing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;

use std::time::Duration;

use bus::{Bus, Outgoing};
use cluster::Cluster;
use hub::SavedWorkflow;
use nave::node::StageSelection;
use nave::node::submission::Change;
use nave::prelude::workflow::*;
use nave::program::Program;
use nave::serde_json::{self, Value, json};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use topology::{BuildErrors, Settings, Topology};
use wire::{Envelope, Kind};
use workers::{WorkerBolt, WorkerSettings};

states! {
    /// The state of an order.
    enum OrderState { New = "-", Packing = "packing", Paying = "paying", Over = "over" }
}
use OrderState::{New, Over, Packing, Paying};

/// A build of the program: the version and state of the workflow, and whether it calls the bank.
trait Build: 'static {
    const VERSION: u32;
    type Body: Serialize + DeserializeOwned + Default + Clone + 'static;
    const SERVICES: &'static [CalledService] = &[CalledService::of(SHOP)];
    const CALLS_BANK: bool = false;
    fn migrate(from: u32, _: SavedWorkflow) -> Result<SavedWorkflow, String> {
        Err(format!("unknown version {from}"))
    }
}
#[derive(Serialize, Deserialize, Default, Clone)]
struct Item {
    item: String,
}

#[derive(Serialize, Deserialize, Default, Clone)]
struct Priced {
    item: String,
    price: u32,
}

struct First;
impl Build for First {
    const VERSION: u32 = 1;
    type Body = Item;
}

/// Adds a field without a new version.
struct Careless;
impl Build for Careless {
    const VERSION: u32 = 1;
    type Body = Priced;
}

/// Adds a field and a service, with a new version and a migration.
struct Careful;
impl Build for Careful {
    const VERSION: u32 = 2;
    type Body = Priced;
    const SERVICES: &'static [CalledService] = &[CalledService::of(SHOP), CalledService::of(BANK)];
    const CALLS_BANK: bool = true;
    fn migrate(_: u32, mut saved: SavedWorkflow) -> Result<SavedWorkflow, String> {
        saved.body["price"] = json!(7);
        Ok(saved)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Order<B: Build>(B::Body);

const SHOP: Service<(), Value> = Service::named("shop");
const BANK: Service<(), Value> = Service::named("bank");

fn call(service: Service<(), Value>, tag: u32) -> StepSpec {
    let call = service.call(tag, "k", &(), format!("ask the {}", service.name()), 3_600_000);
    StepSpec::new("ask", 3_600_000).call(call)
}

impl<B: Build> Workflow for Order<B> {
    const NAME: &'static str = "order";
    const VERSION: u32 = B::VERSION;
    const SERVICES: &'static [CalledService] = B::SERVICES;
    type State = OrderState;
    type Request = String;
    type Lane = ();

    fn migrate(from: u32, saved: SavedWorkflow) -> Result<SavedWorkflow, String> {
        B::migrate(from, saved)
    }

    fn begin(_: &OperationId, _: &str, _: String) -> Result<Self, Problem> {
        Ok(Self(B::Body::default()))
    }

    fn on(&mut self, state: OrderState, event: &Event, fx: &mut Fx<'_, Self>) -> Result<OrderState, Illegal> {
        Ok(match (state, event) {
            (New, Event::Requested) => {
                fx.step(call(SHOP, 1));
                Packing
            }
            (Packing, Event::AllReplied) if B::CALLS_BANK => {
                fx.step(call(BANK, 2));
                Paying
            }
            (Packing | Paying, Event::AllReplied) => {
                fx.answer(Answer::Done(json!("sent")));
                fx.end();
                Over
            }
            (Packing | Paying, Event::Replied { .. }) => state,
            (New | Packing | Paying | Over, _) => return Err(Illegal),
        })
    }
}

fn orders<B: Build>() -> Result<Topology, BuildErrors> {
    // A single attempt with a long timeout: a call in the topic twice was decided twice.
    let single_attempt = WorkerSettings { attempts: 1, timeout_ms: 3_000_000, ..WorkerSettings::default() };
    let with = |settings: Settings, service: &CalledService| {
        settings.with(&WorkerBolt::settings_name(service.name()), &single_attempt)
    };
    let settings = B::SERVICES.iter().fold(Settings::default(), with);
    nave::hub_and_spokes::<Order<B>>("orders")?.with_settings(&settings)
}

struct UpgradeTest {
    cluster: Cluster,
    inbox: String,
}

impl UpgradeTest {
    fn new() -> Self {
        let cluster = Cluster::new();
        let inbox = cluster.topics.inbox("orders", &orders::<First>().unwrap().workflows()[0].stage);
        Self { cluster, inbox }
    }

    /// Submits the topology of this build and starts a process with it.
    fn start<B: Build>(&mut self) -> (Change, usize) {
        let program = Program::of(nave::about!(), [orders::<B>]).unwrap();
        let change = self.cluster.submit(program.topology("orders").unwrap()).unwrap();
        let process = self.cluster.start(&program, StageSelection::Everything);
        // Steps of a second: the session of a killed process ends when another polls.
        (0..15).for_each(|_| self.cluster.run_ms(1_000));
        (change, process)
    }

    fn append(&self, topic: &str, key: &str, body: String, envelope: &Envelope) {
        let record = Outgoing::keyed(topic, key.to_owned(), body).with(envelope);
        self.cluster.bus.writer("test").unwrap().append(&[record]).unwrap();
    }

    fn order(&self, name: &str) {
        let envelope = Envelope::new(Kind::Request, name, "/test");
        self.append(&self.inbox, name, json!({"workflow": "order", "request": "tea"}).to_string(), &envelope);
    }

    fn records(&self, topic: &str) -> Vec<bus::Record> {
        let mut reader = self.cluster.bus.reader().unwrap();
        for partition in 0..self.cluster.bus.topic(topic).unwrap().unwrap().partitions {
            reader.assign(topic, partition, self.cluster.bus.bounds(topic, partition).unwrap().low).unwrap();
        }
        let mut records = Vec::new();
        reader.poll(100_000, Duration::ZERO, &mut records).unwrap();
        records
    }

    /// The operations of all calls to a service, with duplicates.
    fn called(&self, service: &str) -> Vec<String> {
        let calls = self.records(&self.cluster.topics.spoke(service));
        let of = |call: &bus::Record| call.headers.envelope().unwrap().operation.unwrap();
        let all = names(0, 100);
        let named = |call: &bus::Record| all.iter().find(|name| operation(name) == of(call)).unwrap().clone();
        let mut called: Vec<String> = calls.iter().map(named).collect();
        called.sort();
        called
    }

    /// Writes the service's reply to the first call of each of these orders.
    fn reply(&mut self, service: &str, orders: &[String]) {
        let calls = self.records(&self.cluster.topics.spoke(service));
        for name in orders {
            let of = |call: &&bus::Record| call.headers.envelope().unwrap().operation.unwrap() == operation(name);
            let call = calls.iter().find(of).unwrap().headers.envelope().unwrap();
            let reply = Envelope {
                operation: call.operation.clone(),
                call: call.call.clone(),
                causation: Some(call.id.clone()),
                ..Envelope::new(Kind::Reply, format!("reply-{}", call.id), "/test")
            };
            let (topic, partition) = (call.reply_to.clone().unwrap(), call.reply_partition.unwrap());
            let record = Outgoing::keyed(&topic, "k", "null").to(partition).with(&reply);
            self.cluster.bus.writer("test").unwrap().append(&[record]).unwrap();
        }
        self.cluster.run_ms(5_000);
    }

    fn answered(&self) -> usize {
        let egress = self.inbox.strip_suffix(".in").unwrap().to_owned() + ".out";
        let answers = self.records(&egress);
        let outcome = |record: &&bus::Record| {
            serde_json::from_slice::<serde_json::Value>(&record.value).unwrap()["outcome"] == "done"
        };
        answers.iter().filter(outcome).count()
    }
}

/// The operation of an order.
fn operation(name: &str) -> OperationId {
    Envelope::new(Kind::Request, name, "/test").requested_operation("orders", name)
}

fn names(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| format!("order-{n}")).collect()
}

/// Twelve orders are done and eight wait for the shop. The previous build was shut down or killed.
#[test]
fn an_incompatible_build_neither_loses_nor_repeats_operations() {
    for killed in [false, true] {
        let mut world = UpgradeTest::new();
        let (_, process) = world.start::<First>();
        for name in names(0, 20) {
            world.order(&name);
        }
        world.cluster.run_ms(1_000);
        world.reply("shop", &names(0, 12));
        assert_eq!((world.answered(), world.called("shop").len()), (12, 20));
        if killed {
            world.cluster.crash(process);
        } else {
            assert_eq!(world.cluster.stop_amid_work(process), 8);
        }

        let (change, careless) = world.start::<Careless>();
        assert_eq!(change, Change::Same, "the version is the same");
        let waiting = world.cluster.waiting(careless);
        assert!(!waiting.is_empty() && waiting.iter().all(|line| line.contains("NAVE-0061")), "{waiting:?}");
        world.cluster.run_ms(600_000);
        assert_eq!((world.answered(), world.called("shop").len()), (12, 20), "nothing changes");
        world.cluster.crash(careless);

        let (_, again) = world.start::<First>();
        assert_eq!(world.cluster.waiting(again), [""; 0]);
        world.reply("shop", &names(12, 14));
        assert_eq!(world.answered(), 14);
        assert_eq!(world.cluster.stop_amid_work(again), 6);

        let (change, careful) = world.start::<Careful>();
        assert_eq!(
            (change, world.cluster.waiting(careful)),
            (Change::Graph, vec![]),
            "the new build calls one more service"
        );
        world.reply("shop", &names(14, 20));
        assert_eq!(world.called("bank"), names(14, 20), "each order continues in the new version");
        world.reply("bank", &names(14, 20));
        assert_eq!(world.answered(), 20);
        assert_eq!(world.called("shop").len(), 20, "no order called the shop twice");
        world.cluster.stop(careful);

        let program = Program::of(nave::about!(), [orders::<First>]).unwrap();
        let fewer = world.cluster.submit(program.topology("orders").unwrap()).unwrap_err();
        assert!(fewer.code == wire::Code::OtherGraph && fewer.detail.contains("bank"), "{}", fewer.detail);
    }
}
