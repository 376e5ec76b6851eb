//! The embedded bus on disk: the cost of a record in atomic batches of several sizes, and of a
//! sync.

use std::path::Path;
use std::sync::Arc;

use bus::{Batch, Bus, Clock, DiskOptions, Embedded, EmbeddedOptions, Outgoing, Sync, TopicSpec};
use nave::SystemClock;

/// The size of a record with its key, in bytes.
const BYTES: usize = 300;
/// The number of synced appends.
const SYNCS: usize = 200;

pub(crate) fn run(dir: &Path, records: usize) -> anyhow::Result<()> {
    println!("| records in a batch | in memory | on disk | append and sync |\n|---|---|---|---|");
    for size in [2, 20, 200] {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let memory = Embedded::open(Arc::clone(&clock), EmbeddedOptions::default());
        let in_memory = commits(&memory, records, size)?;
        // One directory per row, so that rows do not affect each other.
        let data = dir.join(format!("store-{size}"));
        anyhow::ensure!(!data.exists(), "{} already exists", data.display());
        let open = |sync| {
            let disk = DiskOptions::new(&data).synced(sync);
            Embedded::on_disk(Arc::clone(&clock), EmbeddedOptions::default(), &disk)
        };
        let on_disk = commits(&open(Sync::Never)?, records, size)?;
        let sync = syncs(&open(Sync::Always)?, size)?;
        std::fs::remove_dir_all(&data)?;
        println!("| {size} | {in_memory:.2} us | {on_disk:.2} us | {sync:.2} ms |");
    }
    Ok(())
}

fn batch(size: usize) -> Batch {
    let record = |i: usize| {
        // As compressible as JSON with ids.
        let body: String =
            (0..BYTES).map(|j| char::from(b'a' + u8::try_from((i * 31 + j * j) % 26).unwrap_or(0))).collect();
        Outgoing::keyed("out", format!("{i:08}"), body[8..].to_owned())
    };
    Batch { records: (0..size).map(record).collect(), positions: Vec::new() }
}

/// The time per record, in microseconds, if each batch is a commit that does not wait for a sync.
fn commits(bus: &Embedded, records: usize, size: usize) -> anyhow::Result<f64> {
    bus.ensure_topic(&TopicSpec::log("in", 1))?;
    bus.ensure_topic(&TopicSpec::log("out", 4))?;
    let mut member = bus.member(&bus::MemberSpec::new("g", "in", "m"))?;
    // No reader consumes this topic, so the memory stays at its limit, as in a running system.
    let mut reader = bus.member(&bus::MemberSpec::new("readers", "out", "r"))?;
    reader.poll(10, std::time::Duration::ZERO, &mut Vec::new())?;
    let batch = batch(size);
    let clock = bus.clock();
    let begun = clock.mono();
    for _ in 0..records / size {
        member.commit(&batch)?;
    }
    let took = clock.mono().since(begun);
    #[expect(clippy::cast_precision_loss, reason = "a count of records")]
    let each = took.as_secs_f64() * 1e6 / (records / size * size) as f64;
    Ok(each)
}

/// The time of a durable append, in milliseconds.
fn syncs(bus: &Embedded, size: usize) -> anyhow::Result<f64> {
    let (mut writer, batch, clock) = (bus.writer("bench")?, batch(size), bus.clock());
    let begun = clock.mono();
    for _ in 0..SYNCS {
        writer.append(&batch.records)?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of appends")]
    let each = clock.mono().since(begun).as_secs_f64() * 1e3 / SYNCS as f64;
    Ok(each)
}
