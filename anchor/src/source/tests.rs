//! A log reads the same from a folder and from a server, and a server cannot do harm.

use super::testing::{Manner, Server};
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
        let plain = read_bundle(&source, bundle).unwrap().0.unwrap();
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
        let plain = |source: &dyn Source| read_bundle(source, tile).unwrap().0.unwrap();
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
        assert!(matches!(refused, Err(ReadError::Failed(SourceError::TooLarge { .. }))), "{path}: {refused:?}");
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
    assert_eq!(web.unpack(packed.finish().unwrap()), Err(BadBundle::Deflate));
}

#[test]
fn what_is_no_url_of_a_log_is_refused() {
    for bad in ["http://", "http://host/log?x=1", "http://user:word@host/", "http://host/#part", "https://a b/"] {
        assert!(matches!(open(bad, None), Err(SourceError::Url(_))), "{bad}");
    }
}
