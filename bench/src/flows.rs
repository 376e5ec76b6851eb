//! Flows of length 10 on the embedded bus: each enters as a record of the inbox; each call passes the bus as JSON with its
//! headers to the simulator and back. Load generator, hub and simulator share the machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bus::{Bus, Clock, DiskOptions, Embedded, EmbeddedOptions, MonoTime, Outgoing, Part, Reader, Record, Writer};
use floodlight_sim::{SpeakerHandle, SpeakerPart};
use nave::clock::SystemClock;
use nave::system::{HUB, System, SystemOptions};
use topology::driver::Threads;
use wire::{Envelope, Kind, OperationId};

pub(crate) fn run(flows: usize, data: Option<&Path>, sync: bus::Sync) -> anyhow::Result<()> {
    println!("| in flight | flows/s | p50 | p99 | p99.9 |\n|---|---|---|---|---|");
    for in_flight in [1, 64, 1024] {
        let dir = data.map(|data| data.join(format!("flows-{in_flight}")));
        let disk = dir.as_ref().map(|dir| DiskOptions::new(dir).synced(sync));
        let row = Load::new(disk)?.run(flows, in_flight)?;
        dir.map_or(Ok(()), std::fs::remove_dir_all)?;
        println!("{row}");
    }
    Ok(())
}

struct Load {
    clock: Arc<dyn Clock>,
    system: Arc<System>,
    parts: Threads,
    writer: Box<dyn Writer>,
    answers: Box<dyn Reader>,
}

impl Load {
    fn new(disk: Option<DiskOptions>) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let options = EmbeddedOptions::default();
        let bus: Arc<dyn Bus> = match disk {
            Some(disk) => Arc::new(Embedded::on_disk(Arc::clone(&clock), options, &disk)?),
            None => Arc::new(Embedded::open(Arc::clone(&clock), options)),
        };
        let mut options = SystemOptions::default();
        options.hub.live = 4_096;
        let system = Arc::new(System::new(Arc::clone(&bus), options)?);
        let mut parts = Threads::default();
        let speaker = SpeakerPart::join(&*bus, &system.speaker_topic(), "speaker", SpeakerHandle::new())?;
        parts.spawn("speaker", Arc::clone(&clock), Box::new(move || Ok(Box::new(speaker) as Box<dyn Part>)))?;
        let of = Arc::clone(&system);
        let make = Box::new(move || of.shard(HUB, "hub").map(|shard| Box::new(shard) as Box<dyn Part>));
        parts.spawn("lanes", Arc::clone(&clock), make)?;
        let egress = system.options.topics.egress(system.topology.name(), HUB);
        let mut answers = bus.reader()?;
        for lane in 0..system.options.lanes {
            answers.assign(&egress, lane, 0)?;
        }
        Ok(Self { clock, writer: bus.writer("load")?, answers, system, parts })
    }

    fn run(mut self, flows: usize, in_flight: usize) -> anyhow::Result<String> {
        let inbox = self.system.options.topics.inbox(self.system.topology.name(), HUB);
        let mut sent: BTreeMap<OperationId, MonoTime> = BTreeMap::new();
        let mut latencies = Vec::with_capacity(flows);
        let mut answers: Vec<Record> = Vec::new();
        let (mut begun, mut next) = (self.clock.mono(), 0);
        // The first tenth warms up, and is not counted.
        let warm = flows / 10;
        while latencies.len() < flows {
            let mut batch = Vec::new();
            while sent.len() < in_flight && next < flows + warm {
                let (id, request) = request(&inbox, next)?;
                sent.insert(id, self.clock.mono());
                batch.push(request);
                next += 1;
            }
            self.writer.append(&batch)?;
            answers.clear();
            self.answers.poll(10_000, Duration::from_secs(10), &mut answers)?;
            anyhow::ensure!(!answers.is_empty(), "no answer for 10 s");
            let now = self.clock.mono();
            for answer in &answers {
                let operation = answer.headers.envelope()?.operation.context("an answer names its operation")?;
                let at = sent.remove(&operation).context("an answer to something that was asked, and one")?;
                anyhow::ensure!(answer.value.windows(6).any(|w| w == b"\"done\""), "a flow failed");
                if next > warm && at >= begun {
                    latencies.push(now.since(at));
                }
            }
            if next <= warm {
                begun = now;
                latencies.clear();
            }
            if next >= flows + warm && sent.is_empty() {
                break;
            }
        }
        let took = self.clock.mono().since(begun);
        self.parts.stop();
        latencies.sort_unstable();
        let at = |per_mille: usize| latencies[(latencies.len() - 1) * per_mille / 1_000].as_secs_f64() * 1_000.0;
        #[expect(clippy::cast_precision_loss, reason = "a count of flows")]
        let rate = latencies.len() as f64 / took.as_secs_f64();
        Ok(format!("| {in_flight} | {rate:.0} | {:.2} ms | {:.2} ms | {:.2} ms |", at(500), at(990), at(999)))
    }
}

fn request(inbox: &str, n: usize) -> anyhow::Result<(OperationId, Outgoing)> {
    let flow = format!("flow-{n}");
    let id = OperationId::new(&format!("op-{n}"))?;
    let mut envelope = Envelope::new(Kind::Request, id.as_str(), "/bench");
    envelope.operation = Some(id.clone());
    let body = serde_json::json!({"workflow": "create-flow", "request": {"flowid": flow, "length": 10, "error": null}});
    Ok((id, Outgoing::keyed(inbox, flow, body.to_string()).with(&envelope)))
}
