//! How a trail says that it continues another: its first record, a C2SP signed note that people can read.
//!
//! ```text
//! This trail continues another
//! trail testnet 2304aa97 0x385307…                              the old trail: network, chain, id
//! record 4711                                                   its newest record that is a checkpoint
//! checkpoint demo-1f00aa21.invalid 912044 CsUYapGGPo4dkMgI…     what that says: origin, tree size, root hash
//! log demo-77aa0b13.invalid+3c2b1a00+AQmN…                      the vkey of the log that the new trail is for
//! ledger 0x5f1e…                                                the address that adds to the new trail
//!
//! — demo-77aa0b13.invalid Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+…  by the new log's key
//! — demo-1f00aa21.invalid 9xKd0vVpVJtBAZ2r3gg8yq/5IZniMpm8np+…  by the old log's key, if it survives
//! ```
//!
//! Where the old trail holds no checkpoint, it is `record none` and `checkpoint none`. A log that only changes its trail
//! signs once. No log can be called what the first line says, so a statement can never be taken for a checkpoint.
//!
//! The new log's key proves that the new trail's maker says this. Only the old log's key proves that whoever kept the old
//! log says so too: without it, anybody could claim to continue any trail.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use grid_ledger::{Address, ObjectId};
use signed_note::{Note, is_key_name_valid};
use tlog_tiles::Hash;

use crate::checkpoint::{Head, LogKey, LogPublicKey, sign_note, signers};
use crate::policy::TrailAddress;

const TITLE: &str = "This trail continues another";
/// No record is longer.
const LONGEST: usize = 16 * 1024;

/// What the first record of a trail says that continues another.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// The old trail.
    pub trail: TrailAddress,
    /// Its newest record that is a checkpoint: number and head.
    pub last: Option<(u64, Head)>,
    /// The key of the log that the new trail is for.
    pub log: LogPublicKey,
    /// The address that adds to the new trail.
    pub ledger: Address,
}

/// A statement that the new log's key signed.
#[derive(Clone, Debug, PartialEq)]
pub struct Signed {
    /// What it says.
    pub statement: Statement,
    note: Vec<u8>,
}

/// Why a text is not how a trail may continue another.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadStatement {
    /// It is longer than any record.
    #[error("a text of {0} bytes is no statement: at most {LONGEST}")]
    TooLong(usize),
    /// Not a signed note.
    #[error("{0:?} is not a signed note")]
    NotANote(String),
    /// A line does not say what it must.
    #[error("its line {line} is {found:?}; expected {expected}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What it says.
        found: String,
        /// What it must say.
        expected: &'static str,
    },
    /// It says the same in other bytes than this program writes.
    #[error("it is not written as this program writes it, but {0:?}")]
    Spelling(String),
    /// It names another log than that of the trail it is in.
    #[error("it is for the log {named}, and this trail is that of {ours}")]
    OtherLog {
        /// The vkey that it names.
        named: String,
        /// That of the trail.
        ours: String,
    },
    /// It names another trail than the description of the trail that it is in.
    #[error("it names the trail {named}, and the description of this trail names {described}")]
    OtherTrail {
        /// Which it names.
        named: ObjectId,
        /// Which the description names.
        described: ObjectId,
    },
    /// Its signatures are not those that it must have.
    #[error("it must be signed by {expected} (the signatures are of {found:?})")]
    Signatures {
        /// Whose they must be.
        expected: String,
        /// Whose they say they are.
        found: Vec<String>,
    },
}

impl Statement {
    /// The text that is signed.
    fn text(&self) -> String {
        let Self { trail, last, log, ledger } = self;
        let (record, checkpoint) = match last {
            Some((record, Head { origin, size, root })) => (record.to_string(), format!("{origin} {size} {root}")),
            None => ("none".to_owned(), "none".to_owned()),
        };
        let vkey = log.vkey();
        format!("{TITLE}\ntrail {trail}\nrecord {record}\ncheckpoint {checkpoint}\nlog {vkey}\nledger {ledger}\n")
    }

    /// The record's text, signed by the new log's key and, if it is another one and survives, by the old one's.
    pub fn sign(&self, new: &LogKey, old: Option<&LogKey>) -> Result<String, BadStatement> {
        let keys: Vec<&LogKey> = std::iter::once(new).chain(old.filter(|old| old.public() != new.public())).collect();
        let text = self.text();
        let note = sign_note(text.as_bytes(), &keys).ok_or_else(|| BadStatement::NotANote(shortened(&text)))?;
        let note = String::from_utf8_lossy(&note).into_owned();
        // Records are there for good: what would not be accepted later is not made.
        Signed::open(&note, new.public(), self.trail.trail)?;
        Ok(note)
    }

    fn parse(text: &str) -> Result<Self, BadStatement> {
        let mut lines = (1..).zip(text.lines());
        let mut after = |word: &str, expected| {
            let (line, found) = lines.next().unwrap_or((0, ""));
            let wrong = move || BadStatement::Line { line, found: shortened(found), expected };
            let value = found.strip_prefix(word).map(str::to_owned).ok_or_else(wrong)?;
            Ok((value, wrong))
        };
        after(TITLE, TITLE).map(drop)?;
        let (trail, wrong) = after("trail ", "trail <network> <chain> <id>")?;
        let trail = trail.parse().map_err(|_| wrong())?;
        let (record, wrong) = after("record ", "record <number>, or record none")?;
        let record = match record.as_str() {
            "none" => None,
            number => Some(number.parse().map_err(|_| wrong())?),
        };
        let (checkpoint, wrong) =
            after("checkpoint ", "checkpoint <origin> <tree size> <root hash>, or none as above")?;
        let last = match (record, checkpoint.as_str()) {
            (None, "none") => None,
            (Some(number), checkpoint) => Some((number, read_head(checkpoint).ok_or_else(wrong)?)),
            (None, _) => return Err(wrong()),
        };
        let (log, wrong) = after("log ", "log <vkey>")?;
        let log = LogPublicKey::read(&log).map_err(|_| wrong())?;
        let (ledger, wrong) = after("ledger ", "ledger <address>")?;
        let ledger = ledger.parse().map_err(|_| wrong())?;
        let read = Self { trail, last, log, ledger };
        if read.text() == text { Ok(read) } else { Err(BadStatement::Spelling(shortened(text))) }
    }
}

impl Signed {
    /// Reads a record and checks that the log `new` of the trail it is in signed it, and that it names the trail that
    /// this one `continues`. Who else signed it is for [`Self::is_signed_by`] to say.
    pub fn open(record: &str, new: &LogPublicKey, continues: ObjectId) -> Result<Self, BadStatement> {
        if record.len() > LONGEST {
            return Err(BadStatement::TooLong(record.len()));
        }
        let not_a_note = || BadStatement::NotANote(shortened(record));
        let note = Note::from_bytes(record.as_bytes()).map_err(|_| not_a_note())?;
        let text = std::str::from_utf8(note.text()).map_err(|_| not_a_note())?;
        let statement = Statement::parse(text)?;
        if note.to_bytes() != record.as_bytes() {
            return Err(BadStatement::Spelling(shortened(record)));
        }
        if statement.log != *new {
            let (named, ours) = (statement.log.vkey().to_owned(), new.vkey().to_owned());
            return Err(BadStatement::OtherLog { named, ours });
        }
        let signed = Self { statement, note: record.as_bytes().to_vec() };
        signed.check(new, 0)?;
        match signed.statement.trail.trail {
            named if named == continues => Ok(signed),
            named => Err(BadStatement::OtherTrail { named, described: continues }),
        }
    }

    /// Whether the `old` log's key signed it, too. Nobody but the two may have signed.
    pub fn is_signed_by(&self, old: &LogPublicKey) -> Result<bool, BadStatement> {
        let expected = if *old == self.statement.log { 1 } else { 2 };
        match signers(&self.note).len() {
            1 => Ok(expected == 1),
            2 if expected == 2 => self.check(old, 1).map(|()| true),
            _ => Err(self.wrong_signatures(old)),
        }
    }

    /// The signature at this place must be this key's, and hold.
    fn check(&self, key: &LogPublicKey, place: usize) -> Result<(), BadStatement> {
        let is_there = signers(&self.note).get(place).is_some_and(|signer| signer == key.short());
        let holds = Note::from_bytes(&self.note).is_ok_and(|note| key.has_signed(&note));
        if is_there && holds { Ok(()) } else { Err(self.wrong_signatures(key)) }
    }

    fn wrong_signatures(&self, key: &LogPublicKey) -> BadStatement {
        BadStatement::Signatures { expected: key.vkey().to_owned(), found: signers(&self.note) }
    }
}

/// Whether a record is meant as a statement, good or bad.
pub fn is_statement(record: &str) -> bool {
    record.lines().next() == Some(TITLE)
}

fn read_head(text: &str) -> Option<Head> {
    let words: Vec<&str> = text.split(' ').collect();
    let [origin, size, root] = words[..] else { return None };
    let root = Hash(STANDARD.decode(root).ok()?.try_into().ok()?);
    is_key_name_valid(origin).then_some(())?;
    Some(Head { origin: origin.to_owned(), size: size.parse().ok()?, root })
}

/// As much of a text as an error shows.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::read_unsigned;
    use ed25519_dalek::SigningKey;
    use grid_ledger::Network;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    fn key(origin: &str, byte: u8) -> LogKey {
        LogKey::new(origin, &SigningKey::from_bytes(&[byte; 32])).unwrap()
    }

    fn new_log() -> LogKey {
        key("demo-new.invalid", 1)
    }

    fn old_log() -> LogKey {
        key("demo-old.invalid", 2)
    }

    fn id(digit: char) -> ObjectId {
        format!("0x{}", digit.to_string().repeat(64)).parse().unwrap()
    }

    fn statement() -> Statement {
        let trail = TrailAddress { network: Network::Testnet, chain: "2304aa97".to_owned(), trail: id('5') };
        let head = Head { origin: "demo-old.invalid".to_owned(), size: 912_044, root: Hash([7; 32]) };
        let ledger = format!("0x{}", "a".repeat(64)).parse().unwrap();
        Statement { trail, last: Some((4711, head)), log: new_log().public().clone(), ledger }
    }

    fn open(note: &str) -> Result<Signed, BadStatement> {
        Signed::open(note, new_log().public(), id('5'))
    }

    #[test]
    fn a_statement_is_written_as_it_always_was_and_reads_back() {
        let note = statement().sign(&new_log(), Some(&old_log())).unwrap();
        assert_eq!(note, include_str!("../tests/golden/succession.note"));
        let signed = open(&note).unwrap();
        assert_eq!(signed.statement, statement());
        assert_eq!(signed.is_signed_by(old_log().public()), Ok(true));

        let nothing_there = Statement { last: None, ..statement() };
        let note = nothing_there.sign(&new_log(), None).unwrap();
        assert!(note.contains("\nrecord none\ncheckpoint none\n"), "{note}");
        let signed = open(&note).unwrap();
        assert_eq!(signed.statement, nothing_there);
        assert_eq!(signed.is_signed_by(old_log().public()), Ok(false));
    }

    #[test]
    fn a_log_that_changes_its_trail_signs_once_and_that_is_the_old_logs_signature() {
        let note = statement().sign(&new_log(), Some(&new_log())).unwrap();
        let signed = open(&note).unwrap();
        assert_eq!((note.matches('—').count(), signed.is_signed_by(new_log().public())), (1, Ok(true)));
        // A second signature would have to be somebody else's.
        let twice = statement().sign(&new_log(), Some(&old_log())).unwrap();
        let refused = open(&twice).unwrap().is_signed_by(new_log().public());
        assert!(matches!(refused, Err(BadStatement::Signatures { .. })), "{refused:?}");
    }

    #[test]
    fn a_statement_is_no_checkpoint_and_a_checkpoint_no_statement() {
        let note = statement().sign(&new_log(), None).unwrap();
        assert!(is_statement(&note) && read_unsigned(note.as_bytes()).is_err());
        assert!(new_log().public().open(note.as_bytes()).is_err());
        let checkpoint = String::from_utf8(new_log().sign(5, Hash([1; 32])).unwrap()).unwrap();
        assert!(!is_statement(&checkpoint));
        assert!(matches!(open(&checkpoint), Err(BadStatement::Line { line: 1, .. })));
    }

    #[test]
    fn another_key_another_trail_and_signatures_of_others_are_refused() {
        let note = statement().sign(&new_log(), Some(&old_log())).unwrap();
        let other = key("demo-new.invalid", 3);
        let refused = Signed::open(&note, other.public(), id('5'));
        assert!(matches!(refused, Err(BadStatement::OtherLog { .. })), "{refused:?}");
        let refused = Signed::open(&note, new_log().public(), id('6'));
        assert_eq!(refused, Err(BadStatement::OtherTrail { named: id('5'), described: id('6') }));
        let by_another = statement().sign(&new_log(), Some(&key("demo-old.invalid", 4))).unwrap();
        let refused = open(&by_another).unwrap().is_signed_by(old_log().public());
        assert!(matches!(refused, Err(BadStatement::Signatures { .. })), "{refused:?}");

        let (text, signatures) = note.split_once("\n\n").unwrap();
        let lines: Vec<&str> = signatures.lines().collect();
        let (first, second) = (lines[0], lines[1]);
        for signatures in [format!("{second}\n"), format!("{second}\n{first}\n")] {
            let refused = open(&format!("{text}\n\n{signatures}"));
            assert!(matches!(refused, Err(BadStatement::Signatures { .. })), "{signatures}: {refused:?}");
        }
        for signatures in [format!("{first}\n{first}\n"), format!("{first}\n{second}\n{second}\n")] {
            let refused = open(&format!("{text}\n\n{signatures}")).unwrap().is_signed_by(old_log().public());
            assert!(matches!(refused, Err(BadStatement::Signatures { .. })), "{signatures}: {refused:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let text = statement().text();
        let size = "912044 BwcH";
        for (from, to, line) in [
            ("continues another", "continues", 1),
            ("trail testnet", "trail moonnet", 2),
            ("trail testnet", "trail", 2),
            ("record 4711", "record -1", 3),
            ("record 4711", "record none", 4),
            (size, "BwcH", 4),
            (size, "912044 Bwc", 4),
            ("log demo", "log +demo", 5),
            ("ledger 0x", "ledger x", 6),
        ] {
            let changed = text.replacen(from, to, 1);
            match Statement::parse(&changed) {
                Err(BadStatement::Line { line: found, .. }) => assert_eq!(found, line, "{changed}"),
                other => panic!("{changed}: {other:?}"),
            }
        }
        for (from, to) in [
            ("record 4711", "record 04711"),
            ("testnet 2304", "testnet  2304"),
            ("checkpoint", "checkpoint "),
            ("another\n", "another!\n"),
            (&format!("0x{}", "5".repeat(64)), "0x5"),
        ] {
            let changed = text.replacen(from, to, 1);
            let refused = Statement::parse(&changed);
            assert!(matches!(refused, Err(BadStatement::Spelling(_) | BadStatement::Line { .. })), "{changed}");
        }
        assert_eq!(Statement::parse(&format!("{text}more\n")), Err(BadStatement::Spelling(shortened(&text))));
        assert_eq!(open(&"x".repeat(LONGEST + 1)), Err(BadStatement::TooLong(LONGEST + 1)));
    }

    #[test]
    fn every_changed_bit_is_noticed_and_rubbish_is_refused() {
        let note = statement().sign(&new_log(), Some(&old_log())).unwrap();
        let holds = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).ok();
            text.is_some_and(|text| open(text).is_ok_and(|signed| signed.is_signed_by(old_log().public()).is_ok()))
        };
        assert!(holds(note.as_bytes()));
        for at in 0..note.len() {
            for bit in 0..8 {
                let mut changed = note.clone().into_bytes();
                changed[at] ^= 1 << bit;
                assert!(!holds(&changed), "bit {bit} of byte {at}");
            }
        }
        let mut chance = StdRng::seed_from_u64(1);
        for _ in 0..5_000 {
            let mut bytes = note.clone().into_bytes();
            for _ in 0..chance.gen_range(1..8) {
                let (from, to) = (chance.gen_range(0..bytes.len()), chance.gen_range(0..bytes.len()));
                match chance.gen_range(0..3) {
                    0 => bytes[from] = chance.r#gen(),
                    1 => bytes.copy_within(from.min(to)..from.max(to), 0),
                    _ => drop(bytes.drain(from.min(to)..from.max(to))),
                }
                if bytes.is_empty() {
                    break;
                }
            }
            assert!(bytes == note.as_bytes() || !holds(&bytes), "{}", String::from_utf8_lossy(&bytes));
        }
    }
}
