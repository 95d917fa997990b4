//! The log's own formats, each alone.

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use flate2::{Compress, Compression, FlushCompress};
use grid_anchor::bundle::{self, LONGEST_ENTRY};
use grid_anchor::checkpoint::{Head, LogKey, LogPublicKey, read_unsigned};
use grid_anchor::entry::{self, Payload};
use grid_anchor::inscription::Inscription;
use grid_anchor::notice::Notice;
use grid_anchor::policy::{Policy, TrailAddress};
use grid_anchor::show::{date, parse_date};
use grid_anchor::succession::{Signed, Statement};
use grid_anchor::tile::{Level, Tile};
use grid_anchor::tree::{tile_bytes, tile_hashes};
use grid_protocol::message::Session;
use sha2::{Digest, Sha256};
use tlog_tiles::Hash;

use super::mutation::{edit, mutated, mutated_text};
use super::proof;
use super::source::Source;
use super::world::world;
use super::{Verdict, require};
use crate::street::{START, name};

/// The fixed part of a bundle's header, before the SHA-256.
const BUNDLE_HEADER: usize = 16;

pub fn hold(bytes: &[u8]) -> Verdict {
    let mut source = Source::new(bytes);
    match source.below(11) {
        0 => an_entry(&mut source),
        1 => a_bundle(&mut source),
        2 => a_path(&mut source),
        3 => a_checkpoint(&mut source),
        4 => a_key(&mut source),
        5 => a_policy(&mut source),
        6 => a_notice(&mut source),
        7 => a_date(&mut source),
        8 => proof::hold(&mut source),
        9 => a_statement(&mut source),
        _ => a_tile(&mut source),
    }
}

fn entries() -> &'static Vec<Vec<u8>> {
    static ENTRIES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    ENTRIES.get_or_init(|| {
        let said = world().said.iter().map(|said| entry::write(START, &said.topic.to_string(), &said.payload));
        let mut all: Vec<Vec<u8>> = said.collect();
        for payload in [b"ON".as_slice(), b"", b"\xff\xfe", "\u{1}ü\"".as_bytes(), &[b'x'; 65_535]] {
            all.push(entry::write(START, "grid/demo/cp-1/set/charging", payload));
        }
        all
    })
}

fn an_entry(source: &mut Source) -> Verdict {
    let bytes = mutated(source, entries());
    let Ok(read) = entry::read(&bytes) else {
        require!(!entries().contains(&bytes), "an entry does not read");
        return Ok(());
    };
    match &read.payload {
        Payload::Bytes(payload) => {
            let written = entry::write(read.received_ms, &read.topic, payload);
            require!(written == bytes, "it is written as {}", String::from_utf8_lossy(&written));
        }
        Payload::Digest { sha256, .. } => {
            let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            require!(sha256.len() == 64 && sha256.bytes().all(digit), "{sha256:?} is no SHA-256");
        }
    }
    Ok(())
}

/// A bundle's file of anything, with the right lengths and sums.
pub fn packed(plain: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(plain.len() + 1024);
    Compress::new(Compression::fast(), false).compress_vec(plain, &mut body, FlushCompress::Finish).unwrap();
    body.extend_from_slice(&crc32fast::hash(plain).to_le_bytes());
    body.extend_from_slice(&u32::try_from(plain.len()).unwrap().to_le_bytes());
    let digest = Sha256::digest(&body);
    [&bundle::pack([])[..BUNDLE_HEADER], digest.as_slice(), &body].concat()
}

fn a_bundle(source: &mut Source) -> Verdict {
    let entries = &entries()[..5 + source.below(5)];
    let valid = bundle::pack(entries.iter().map(Vec::as_slice));
    let mut plain = bundle::unpack(&valid).map_err(|why| format!("a bundle does not unpack: {why}"))?;
    let mut file = valid.clone();
    match source.below(3) {
        0 => {
            edit(source, &mut file, std::slice::from_ref(&valid));
            require!(bundle::unpack(&file).is_err() || file == valid, "a changed file unpacks");
        }
        1 => {
            let whole = [plain.clone()];
            edit(source, &mut plain, &whole);
            file = packed(&plain);
            require!(bundle::unpack(&file).is_ok_and(|unpacked| unpacked == plain), "a bundle unpacks otherwise");
        }
        _ => {
            // What is behind the sums: compressed data and lengths that are wrong.
            edit(source, &mut file, std::slice::from_ref(&valid));
            if file.len() > BUNDLE_HEADER + 32 {
                let digest = Sha256::digest(&file[BUNDLE_HEADER + 32..]);
                file[BUNDLE_HEADER..BUNDLE_HEADER + 32].copy_from_slice(&digest);
            }
        }
    }
    let Ok(plain) = bundle::unpack(&file) else { return Ok(()) };
    require!(plain.len() <= 256 * (LONGEST_ENTRY + 2), "a bundle of {} bytes", plain.len());
    let wanted = u16::try_from(source.below(300)).unwrap();
    if let Ok(entries) = bundle::entries(&plain, wanted) {
        require!(entries.len() == usize::from(wanted), "{} entries instead of {wanted}", entries.len());
        let again = bundle::unpack(&bundle::pack(entries)).map_err(|why| format!("packed anew: {why}"))?;
        require!(again == plain, "the same entries are packed otherwise");
    }
    Ok(())
}

fn a_path(source: &mut Source) -> Verdict {
    let level = if source.rarely(3) { Level::Entries } else { Level::Hashes(source.byte() % 8) };
    let tile = Tile { level, index: source.number(), width: u16::from(source.byte()) + 1 };
    require!(Tile::from_path(&tile.path()) == Some(tile), "{tile:?} does not read back");
    let text = mutated_text(source, &[&tile.path(), "tile/entries/x001/x234/067", "tile/0/273.p/112", "checkpoint"]);
    if let Some(read) = Tile::from_path(&text) {
        require!(read.path() == text, "{text:?} is written as {}", read.path());
        require!(read.needs_size() > 0, "{text} needs no entries");
    }
    let size = source.number();
    for level in Level::of(size) {
        let partial = level.partial_tile(size);
        require!(partial.is_none_or(|tile| tile.needs_size() <= size), "{partial:?} of a tree of {size}");
    }
    Ok(())
}

fn log_key() -> (LogKey, SigningKey) {
    let key = SigningKey::from_bytes(&[9; 32]);
    (LogKey::new("demo.invalid/street", &key).unwrap(), key)
}

fn a_checkpoint(source: &mut Source) -> Verdict {
    let (log, key) = log_key();
    let (size, root) = (source.number(), Hash([source.byte(); 32]));
    let valid = log.sign(size, root).map_err(|why| format!("a checkpoint is not signed: {why}"))?;
    let mut note = valid.clone();
    let signature = valid.iter().position(|byte| *byte == 0xe2).map_or_else(Vec::new, |at| valid[at..].to_vec());
    edit(source, &mut note, &[valid.clone(), signature]);
    let signed_anew = source.rarely(2);
    if signed_anew {
        let text = String::from_utf8_lossy(&note).into_owned();
        let text = format!("{}\n", text.rsplit_once("\n\n").map_or(text.as_str(), |(text, _)| text));
        let id = log.public().vkey().split('+').nth(1).and_then(|id| u32::from_str_radix(id, 16).ok()).unwrap();
        let signature = [&id.to_be_bytes()[..], &key.sign(text.as_bytes()).to_bytes()].concat();
        note = format!("{text}\n— {} {}\n", log.origin(), STANDARD.encode(signature)).into_bytes();
    }
    if let Ok(unsigned) = read_unsigned(&note) {
        require!(!unsigned.keys.is_empty(), "a note without signatures");
    }
    match log.public().open(&note) {
        Ok(head) => {
            require!(signed_anew || note == valid, "a changed checkpoint holds: {head:?}");
            require!(head.origin == log.origin(), "it is {}'s", head.origin);
            // Lines after the root (tlog-checkpoint, "extension lines") are signed, but say nothing to us.
            let text = String::from_utf8_lossy(&note).into_owned();
            let extended = text.split("\n\n").next().is_some_and(|text| text.lines().count() > 3);
            let again = log.sign(head.size, head.root).map_err(|why| format!("not signed again: {why}"))?;
            require!(extended || again == note, "{text} is written as {}", String::from_utf8_lossy(&again));
        }
        Err(why) => require!(note != valid, "a checkpoint does not open: {why}"),
    }
    Ok(())
}

fn a_statement(source: &mut Source) -> Verdict {
    let (log, _) = log_key();
    let old = LogKey::new("demo.invalid/old", &SigningKey::from_bytes(&[8; 32])).unwrap();
    let (trail, ledger) = (format!("0x{}", "5".repeat(64)), format!("0x{}", "a".repeat(64)));
    let trail: TrailAddress = format!("testnet 2304aa97 {trail}").parse()?;
    let continues = trail.trail;
    let head = Head { origin: old.origin().to_owned(), size: source.number(), root: Hash([source.byte(); 32]) };
    let last = source.rarely(2).then(|| (source.number(), head));
    let said = Statement { trail, last, log: log.public().clone(), ledger: ledger.parse().unwrap() };
    let valid = said.sign(&log, Some(&old)).map_err(|why| format!("a statement is not signed: {why}"))?;
    let text = mutated_text(source, &[&valid]);
    match Signed::open(&text, log.public(), continues) {
        // The old log's signature may be missing, or be rubbish: what it is worth is asked separately.
        Ok(signed) => {
            require!(signed.statement == said, "{text:?} says something else");
            let is_signed = signed.is_signed_by(old.public());
            require!(is_signed != Ok(true) || text == valid, "a changed statement holds: {text:?}");
        }
        Err(why) => require!(text != valid, "a statement does not open: {why}"),
    }
    Ok(())
}

fn a_key(source: &mut Source) -> Verdict {
    let (log, _) = log_key();
    let text = mutated_text(source, &[log.public().vkey()]);
    if let Ok(read) = LogPublicKey::read(&text) {
        require!(read.vkey() == text && text.starts_with(read.origin()), "{text:?} is written as {}", read.vkey());
    }
    let text = mutated_text(source, &[log.to_line()]);
    if let Ok(read) = LogKey::read(&text) {
        require!(read.to_line().trim_end() == text.trim_end(), "a private key is written otherwise");
        let note = read.sign(1, Hash([1; 32])).map_err(|why| format!("a key does not sign: {why}"))?;
        let opened = read.public().open(&note);
        require!(opened.is_ok(), "a key does not open what it signs: {opened:?}");
    }
    Ok(())
}

fn a_policy(source: &mut Source) -> Verdict {
    let (log, _) = log_key();
    let policy = Policy {
        site: name("demo"),
        log: log.public().clone(),
        authority: world().street.issuer.authority(),
        trail: None,
    };
    let plain = policy.to_string();
    let trail = format!("{plain}trail testnet 2304aa97 0x{}\n", "5".repeat(64));
    let text = mutated_text(source, &[&plain, &trail]);
    let Ok(read) = Policy::read(&text) else {
        require!(text != plain && text != trail, "a policy does not read");
        return Ok(());
    };
    let written = read.to_string();
    let again = Policy::read(&written).map_err(|why| format!("{written:?} does not read again: {why}"))?;
    require!(again.to_string() == written && again.same_log(&read), "{written:?} reads back otherwise");
    let inscription = Inscription::new(&read, read.trail.as_ref().map(|trail| trail.trail));
    let again = Inscription::read(inscription.name(), &inscription.description());
    require!(again.as_ref() == Ok(&inscription), "{inscription:?} reads back otherwise: {again:?}");
    Ok(())
}

fn a_notice(source: &mut Source) -> Verdict {
    let valid = [
        Notice::NotLogged(source.number()),
        Notice::Certificate { name: name("cp-1"), session: Session(source.number()), der: "AAAA".into() },
        Notice::Revoked("{\"revoked\":[]}".into()),
    ];
    let valid: Vec<Vec<u8>> = valid.iter().map(Notice::write).collect();
    let payload = mutated(source, &valid);
    match Notice::read(&payload) {
        Some(notice) => {
            require!(Notice::read(&notice.write()).as_ref() == Some(&notice), "{notice:?} reads back otherwise");
        }
        None => require!(!valid.contains(&payload), "a notice does not read"),
    }
    Ok(())
}

fn a_date(source: &mut Source) -> Verdict {
    let at = source.number();
    let said = date(grid_protocol::units::UnixMillis(at));
    if !said.ends_with(" ms") {
        require!(parse_date(&said).is_ok_and(|read| read.0 == at), "{said} is not {at}");
    }
    let text = mutated_text(source, &[&said, "2026-05-01T08:00:00.250Z", "2026-05-01", "2026-05-01T08:00:00+02:00"]);
    if let Ok(read) = parse_date(&text) {
        require!(parse_date(&date(read)) == Ok(read), "{text:?} is shown as {}", date(read));
    }
    Ok(())
}

fn a_tile(source: &mut Source) -> Verdict {
    let bytes = vec![source.byte(); source.below(9000)];
    let width = u16::try_from(source.below(300)).unwrap();
    if let Some(hashes) = tile_hashes(&bytes, width) {
        require!(tile_bytes(&hashes) == bytes && hashes.len() == usize::from(width), "a tile reads otherwise");
    }
    Ok(())
}
