//! A log reads the same from a folder and from a server, and a server cannot do harm.

use super::testing::{Manner, Server};
use std::fs;

use super::*;
use crate::bundle::pack;
use crate::testing::folder;

fn entry(index: u64) -> Vec<u8> {
    format!("{{\"entry\":{index}}}").into_bytes()
}

/// The files of some log; nobody signed its checkpoint.
fn log(size: u64, from: u64) -> tempfile::TempDir {
    let folder = folder();
    let write = |path: &str, bytes: &[u8]| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    for index in from / 256..size.div_ceil(256) {
        let width = (size - index * 256).min(256) as u16;
        let entries: Vec<Vec<u8>> = (0..u64::from(width)).map(|at| entry(index * 256 + at)).collect();
        let tile = Tile { level: Level::Entries, index, width };
        write(&tile.path(), &pack(entries.iter().map(Vec::as_slice)));
        let hashes: Vec<u8> = entries.iter().flat_map(|entry| tlog_tiles::record_hash(entry).0).collect();
        write(&Tile { level: Level::Hashes(0), ..tile }.path(), &hashes);
    }
    let key = crate::checkpoint::LogKey::generate(&"demo".parse().unwrap(), None).unwrap();
    write("checkpoint", &key.sign(size, tlog_tiles::EMPTY_HASH).unwrap());
    folder
}

#[test]
fn a_partial_tile_that_is_gone_is_the_beginning_of_the_fuller_one() {
    let log = log(300, 0);
    let source = Folder::new(log.path());
    let full = source.read("tile/0/000").unwrap();
    let wider = source.read("tile/0/001.p/44").unwrap();
    for (tile, expected) in [
        (Tile { level: Level::Hashes(0), index: 0, width: 7 }, &full[..7 * 32]),
        (Tile { level: Level::Hashes(0), index: 1, width: 43 }, &wider[..43 * 32]),
    ] {
        assert_eq!(read_hashes(&source, tile).unwrap(), expected, "{}", tile.path());
        let bundle = Tile { level: Level::Entries, ..tile };
        let plain = read_bundle(&source, bundle).unwrap().plain;
        let entries = bundle::entries(&plain, tile.width).unwrap();
        assert_eq!(entries.last(), Some(&entry(tile.index * 256 + u64::from(tile.width) - 1).as_slice()));
    }
    for (index, width) in [(1, 45), (2, 1)] {
        let tile = Tile { level: Level::Hashes(0), index, width };
        assert!(matches!(read_hashes(&source, tile), Err(ReadError::Missing)), "{}", tile.path());
    }
}

#[test]
fn what_was_dropped_in_front_is_found_by_what_is_missing() {
    for (size, dropped) in [(1, 0), (256, 0), (300, 0), (300, 1), (5000, 0), (5000, 1), (5000, 7), (5000, 19)] {
        let log = log(size, dropped * 256);
        assert_eq!(dropped_bundles(&Folder::new(log.path()), size).unwrap(), dropped, "{size}");
        // Cut short: the next one's entries are gone, its hashes are still there.
        if size == 5000 && dropped < 19 {
            fs::remove_file(log.path().join(Tile::full(Level::Entries, dropped).path())).unwrap();
            assert_eq!(dropped_bundles(&Folder::new(log.path()), size).unwrap(), dropped + 1);
        }
    }
    let nothing = log(512, 512);
    assert_eq!(dropped_bundles(&Folder::new(nothing.path()), 512).unwrap(), 1, "the last one must be there");
}

#[test]
fn a_server_gives_what_is_in_the_folder_packed_or_not() {
    let log = log(300, 0);
    for unpacks in [false, true] {
        let server = Server::start(log.path(), Manner { unpacks, ..Manner::default() });
        let web = open(&format!("{}/", server.url()), None).unwrap();
        let local = Folder::new(log.path());
        assert_eq!(web.read("checkpoint").unwrap(), local.read("checkpoint").unwrap());
        let tile = Tile::full(Level::Entries, 0);
        let plain = |source: &dyn Source| read_bundle(source, tile).unwrap().plain;
        assert_eq!(plain(web.as_ref()), plain(&local));
        assert!(matches!(web.read("tile/0/007"), Err(ReadError::Missing)));
        assert_eq!(web.files().unwrap(), None);
    }
}

#[test]
fn entries_need_the_token_and_nothing_else_is_shown_it() {
    let log = log(300, 0);
    let server = Server::start(log.path(), Manner { token: Some("s3cret"), ..Manner::default() });
    let stranger = Web::new(&server.url(), None).unwrap();
    assert!(stranger.read("tile/0/000").is_ok());
    let refused = stranger.read("tile/entries/000").unwrap_err().to_string();
    assert!(refused.contains("401") && refused.contains("--token-file"), "{refused}");
    let known = Web::new(&server.url(), Some("s3cret\n")).unwrap();
    assert!(known.read("tile/entries/000").is_ok() && known.read("checkpoint").is_ok());
    for (request, authorization) in server.requests.lock().unwrap().iter() {
        assert!(authorization.is_none() || request.contains("tile/entries/"), "{request}");
    }
    for bad in ["", "two words", "line\nbreak"] {
        assert!(matches!(Web::new(&server.url(), Some(bad)), Err(SourceError::Token)), "{bad:?}");
    }
}

#[test]
fn a_server_that_fails_for_a_moment_is_asked_again_and_one_that_is_gone_is_named() {
    let log = log(5, 0);
    let server = Server::start(log.path(), Manner { fails_first: 2, ..Manner::default() });
    assert!(Web::new(&server.url(), None).unwrap().read("checkpoint").is_ok());
    assert_eq!(server.requests.lock().unwrap().len(), 3);
    let url = server.url();
    drop(server);
    let gone = Web::new(&url, None).unwrap().read("checkpoint").unwrap_err().to_string();
    assert!(gone.starts_with(&format!("cannot fetch {url}/checkpoint: ")), "{gone}");
}

#[test]
fn more_bytes_than_a_file_can_have_are_not_taken() {
    let log = log(300, 0);
    let instead = Some(vec![b'x'; 70_000]);
    let server = Server::start(log.path(), Manner { instead, ..Manner::default() });
    let web = Web::new(&server.url(), None).unwrap();
    for path in ["checkpoint", "tile/0/000"] {
        let refused = web.read(path);
        assert!(matches!(refused, Err(ReadError::TooLarge(_))), "{path}: {refused:?}");
    }
}

#[test]
fn a_bundle_that_grows_without_end_when_unpacked_is_refused() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..=bundle::LARGEST >> 20 {
        std::io::Write::write_all(&mut packed, &zeros).unwrap();
    }
    let web = Web::new("http://127.0.0.1:1", None).unwrap();
    let packed = packed.finish().unwrap();
    assert_eq!(web.unpack(packed.clone(), bundle::LARGEST), Err(BadBundle::Deflate));
    assert_eq!(web.unpack(packed, 1000), Ok(None));
}

/// 40 bundles of which each is as large as can be would be over 600 MiB.
#[test]
fn of_large_bundles_only_one_is_in_memory_at_a_time() {
    let entry = vec![b' '; bundle::LONGEST_ENTRY];
    let large = pack(std::iter::repeat_n(entry.as_slice(), 256));
    assert!(large.len() < 100_000, "it is small while it is packed");
    let folder = folder();
    fs::create_dir_all(folder.path().join("tile/entries")).unwrap();
    (0..40).for_each(|index| {
        let path = folder.path().join(Tile::full(Level::Entries, index).path());
        fs::write(path, &large).unwrap();
    });
    let server = Server::start(folder.path(), Manner::default());
    let web = Web::new(&server.url(), None).unwrap();
    for source in [&web as &dyn Source, &Folder::new(folder.path())] {
        let mut seen = Vec::new();
        let read = |tile, most| read_bundle_at_most(source, tile, most);
        in_batches((40 * 256, 0), source.readers(), read, |batch| {
            assert_eq!(batch.len(), 1);
            assert_eq!(bundle::entries(&batch[0].1.plain, 256).unwrap().len(), 256);
            seen.push(batch[0].0.index);
            Ok(std::ops::ControlFlow::Continue(()))
        })
        .unwrap();
        assert_eq!(seen, (0..40).collect::<Vec<u64>>());
    }
}

#[test]
fn what_is_no_url_of_a_log_is_refused() {
    for bad in ["http://", "http://host/log?x=1", "http://user:word@host/", "http://host/#part", "https://a b/"] {
        assert!(matches!(open(bad, None), Err(SourceError::Url(_))), "{bad}");
    }
}
