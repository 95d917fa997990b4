//! Proofs of single entries: of all that can be proven with a small log, changed as files and in what they say.

use std::sync::OnceLock;

use grid_anchor::intake::Arrival;
use grid_anchor::policy::Policy;
use grid_anchor::proof::{Proof, check_proof, prove};
use grid_anchor::source::Folder;
use grid_anchor::verify::Bracket;
use grid_protocol::message::{Event, Role};

use super::mutation::{edit, mutated};
use super::source::Source;
use super::world::world;
use super::{Verdict, require};
use crate::street::{at, folder, receive};

/// A command, which nobody signs: any certificate may stand beside it.
const COMMAND: u64 = 3;

struct Proofs {
    policy: Policy,
    all: Vec<Proof>,
    files: Vec<Vec<u8>>,
}

/// Proofs of all entries of a small log.
fn proofs() -> &'static Proofs {
    static PROOFS: OnceLock<Proofs> = OnceLock::new();
    PROOFS.get_or_init(|| {
        let (kept, street) = (folder(), &world().street);
        let mut recorder = street.recorder(kept.path(), 100, at(0)).unwrap();
        let mut device = street.speaker("cp-1", Role::Device, 1);
        receive(&mut recorder, &device.birth(), at(0));
        receive(&mut recorder, &device.measurement(), at(0));
        receive(&mut recorder, &device.event(Event::MeterFailed { why: "\u{1}ü".into() }), at(0));
        let command = Arrival { topic: "grid/demo/cp-1/set/charging", payload: b"\xff", retained: false };
        recorder.receive(command, at(0)).unwrap();
        receive(&mut recorder, &device.will(1), at(0));
        recorder.settle(at(60_000)).unwrap();
        let policy = std::fs::read_to_string(kept.path().join("site.policy")).unwrap();
        let log = kept.path().join("log");
        let checkpoint = std::fs::read(log.join("checkpoint")).unwrap();
        let prove = |index| {
            let certificate = Some(device.certificate.clone()).filter(|_| index != COMMAND);
            Proof { certificate, ..prove(&Folder::new(&log), &checkpoint, index).unwrap() }
        };
        let all: Vec<Proof> = (0..5).map(prove).collect();
        let files = all.iter().map(Proof::write).collect();
        Proofs { policy: Policy::read(&policy).unwrap(), all, files }
    })
}

/// A proof has one spelling, and holds only for what stands in the log and whoever signed it.
pub fn hold(source: &mut Source) -> Verdict {
    let Proofs { policy, all, files } = proofs();
    let file = if source.rarely(3) {
        // Right in its form, with another content.
        let mut proof = source.one_of(all).clone();
        match source.below(5) {
            0 => edit(source, &mut proof.entry, files),
            1 => proof.index = source.number(),
            2 => drop(proof.path.pop()),
            3 => edit(source, &mut proof.checkpoint, files),
            _ => proof.certificate = Some(source.one_of(&world().people).certificate.clone()),
        }
        proof.write()
    } else {
        mutated(source, files)
    };
    let Ok(read) = Proof::read(&file) else {
        require!(!files.contains(&file), "a proof does not read");
        return Ok(());
    };
    require!(read.write() == file, "it is written as {}", String::from_utf8_lossy(&read.write()));
    match check_proof(&read, policy, Bracket::default()) {
        Ok(proven) => {
            // Who signed may have more than one certificate; a birth and a will bring their own.
            let same = |proof: &Proof| Proof { certificate: read.certificate.clone(), ..proof.clone() } == read;
            require!(all.iter().any(same), "a changed proof holds: {}", String::from_utf8_lossy(&file));
            let signed = proven.spoken.map(|spoken| (spoken.from.to_string(), spoken.role, spoken.session.0));
            let who = ("cp-1".to_owned(), Role::Device, 1);
            let expected = Some(who).filter(|_| read.index != COMMAND);
            require!(signed == expected, "entry {} is said to be of {signed:?}", read.index);
        }
        Err(why) => require!(!files.contains(&file), "a proof does not hold: {why}"),
    }
    Ok(())
}
