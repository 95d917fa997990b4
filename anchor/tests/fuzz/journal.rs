//! The journal, and what the intake knew.

use std::io::Read;
use std::sync::OnceLock;

use flate2::read::GzDecoder;
use grid_anchor::entry;
use grid_anchor::intake::{Admitted, Arrival, Intake};
use grid_anchor::journal::{Record, Records, Standing, header};
use tlog_tiles::Hash;

use super::mutation::{edit, mutated};
use super::source::Source;
use super::world::world;
use super::{Verdict, require};
use crate::street::{START, at};

pub fn hold(bytes: &[u8]) -> Verdict {
    let mut source = Source::new(bytes);
    if source.rarely(3) { snapshot(&mut source) } else { journal(&mut source) }
}

/// Records with right sums, in right order or not, and then edits.
fn journal(source: &mut Source) -> Verdict {
    let first = source.number();
    let mut bytes = header(first, Hash([source.byte(); 32]));
    let mut next = first;
    for _ in 0..source.below(8) {
        let index = if source.rarely(12) { source.number() } else { next };
        let synced = if source.rarely(4) { source.number() } else { first };
        let standing = if source.rarely(2) { Standing::Verified } else { Standing::Unverified };
        let entry = entry::write(START, "grid/demo/cp-1/set/limit", &vec![b'7'; source.below(300)]);
        Record { index, synced, standing, entry }.write(&mut bytes);
        next = next.wrapping_add(1);
    }
    if source.rarely(2) {
        let whole = [bytes.clone()];
        edit(source, &mut bytes, &whole);
    }
    let Ok(mut records) = Records::open(bytes.as_slice()) else { return Ok(()) };
    let mut again = header(records.first_index(), records.root());
    let mut expected = records.first_index();
    while let Ok(Some(record)) = records.read() {
        require!(record.index == expected, "entry {} stands at {expected}", record.index);
        expected = expected.wrapping_add(1);
        record.write(&mut again);
        require!(records.offset() == again.len() as u64, "{} bytes are good, not {}", records.offset(), again.len());
    }
    require!(bytes.starts_with(&again), "what was read is written otherwise");
    require!(records.next_index() == expected, "the next is {}", records.next_index());
    Ok(())
}

fn snapshots() -> &'static Vec<Vec<u8>> {
    static SNAPSHOTS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SNAPSHOTS.get_or_init(|| {
        let mut intake = Intake::new(world().speakers());
        let (mut admitted, mut taken) = (Vec::new(), vec![inflated(&intake.snapshot())]);
        for said in &world().said {
            let topic = said.topic.to_string();
            intake.receive(Arrival { topic: &topic, payload: &said.payload, retained: false }, at(0), &mut admitted);
            intake.durable(taken.len() as u64);
            taken.push(inflated(&intake.snapshot()));
        }
        taken
    })
}

/// The JSON of a snapshot.
pub fn inflated(snapshot: &[u8]) -> Vec<u8> {
    let mut json = Vec::new();
    GzDecoder::new(snapshot).read_to_end(&mut json).unwrap();
    json
}

fn snapshot(source: &mut Source) -> Verdict {
    let mut bytes = mutated(source, snapshots());
    if source.rarely(8) {
        bytes = Intake::new(world().speakers()).snapshot();
        let whole = [bytes.clone()];
        edit(source, &mut bytes, &whole);
    }
    let size = source.number();
    let Ok(mut intake) = Intake::restore(world().speakers(), &bytes, size, START) else {
        require!(!snapshots().contains(&bytes), "a snapshot does not read");
        return Ok(());
    };
    let again = intake.snapshot();
    let restored = Intake::restore(world().speakers(), &again, size, START)
        .map_err(|why| format!("a snapshot does not read again: {why}"))?;
    require!(restored.snapshot() == again, "a snapshot reads back otherwise");
    require!(!snapshots().contains(&bytes) || inflated(&again) == bytes, "a snapshot is written otherwise");
    // It works with what it was told.
    let mut admitted: Vec<Admitted> = Vec::new();
    for said in &world().said {
        let topic = said.topic.to_string();
        intake.receive(Arrival { topic: &topic, payload: &said.payload, retained: false }, at(0), &mut admitted);
    }
    intake.tick(at(100_000), &mut admitted);
    intake.durable(size);
    for (_, ack) in intake.acks(at(100_000).boot) {
        let missing = ack.missing.iter().all(|(first, last)| first <= last && *last <= ack.through);
        require!(missing, "it acknowledges {ack:?}");
    }
    Ok(())
}
