//! What retention left holds by itself, judged by what the anchor repeats.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::notice::Notice;
use crate::testing::Speaker;

fn certificate(speaker: &Speaker) -> Notice {
    let (name, session) = (speaker.author.name().clone(), speaker.author.session());
    Notice::Certificate { name, session, der: STANDARD.encode(&speaker.certificate) }
}

/// 600 entries of one device whose birth is the first, and notices at the end.
fn log(notices: impl FnOnce(&StreetLog, &Speaker) -> Vec<Vec<u8>>) -> StreetLog {
    let log = StreetLog::new();
    let mut device = log.street.speaker("cp-1", Role::Device, 1);
    log.record(201, |desk| {
        desk.say(&device.birth());
        (0..598).for_each(|_| desk.say(&device.measurement()));
    });
    let entries = [log.entries(), notices(&log, &device)].concat();
    log.rewrite(&entries, &log.key());
    log
}

#[test]
fn the_rest_is_judged_by_the_certificates_that_the_anchor_repeats() {
    let log = log(|log, device| vec![log.notice(&certificate(device))]);
    assert_eq!(log.verify().messages.verified, 600);
    for dropped in [1, 2] {
        log.drop_bundles_from(dropped - 1, dropped);
        let report = log.verify();
        assert!(report.holds, "{:?}", report.failure);
        let left = 601 - dropped * 256;
        assert_eq!((report.minimum_index, report.entries), (dropped * 256, left));
        let messages = report.messages;
        assert_eq!((messages.verified, messages.unverified, messages.repeated), (left - 1, 0, 1));
        assert_eq!((messages.missing, messages.dropped), (0, dropped * 256));
    }
}

#[test]
fn without_them_it_holds_but_nobody_vouches_for_its_messages() {
    let log = log(|_, _| Vec::new());
    log.drop_bundles(1);
    let report = log.verify();
    assert!(report.holds);
    assert_eq!((report.messages.verified, report.messages.unverified), (1, 343));
}

#[test]
fn a_certificate_that_the_authority_did_not_issue_is_no_help_in_a_notice() {
    let log = log(|log, _| {
        let stranger = crate::testing::Street::new().speaker("cp-1", Role::Device, 1);
        vec![log.notice(&certificate(&stranger))]
    });
    log.drop_bundles(1);
    let messages = log.verify().messages;
    assert_eq!((messages.verified, messages.repeated, messages.unverified), (1, 0, 344));
}

#[test]
fn a_list_that_stood_in_what_was_dropped_counts_from_the_beginning_of_the_rest() {
    let log = log(|log, device| {
        let list = String::from_utf8(log.revoking(1, &[device])).unwrap();
        vec![log.notice(&certificate(device)), log.notice(&Notice::Revoked(list))]
    });
    log.drop_bundles(1);
    let messages = log.verify().messages;
    assert_eq!((messages.verified, messages.revoked, messages.repeated), (1, 343, 2));
}

#[test]
fn a_list_that_stands_in_the_rest_counts_from_there() {
    let log = log(|log, device| {
        let list = log.revoking(1, &[device]);
        let topic = "grid/demo/ca/revoked";
        let repeated = Notice::Revoked(String::from_utf8(list.clone()).unwrap());
        vec![crate::entry::write(START, topic, &list), log.notice(&certificate(device)), log.notice(&repeated)]
    });
    log.drop_bundles(1);
    let messages = log.verify().messages;
    assert_eq!((messages.verified, messages.revoked, messages.revocations), (344, 0, 1));
}

#[test]
fn what_is_missing_with_gaps_or_by_halves_was_not_dropped_by_retention() {
    let log = log(|log, device| vec![log.notice(&certificate(device))]);
    let remove = |tile: Tile| {
        let path = log.path().join(tile.path());
        let kept = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        kept
    };
    for index in [0, 1] {
        for level in [Level::Entries, Level::Hashes(0)] {
            let tile = Tile::full(level, index);
            let kept = remove(tile);
            notices(&log, &tile.path(), "removed");
            fs::write(log.path().join(tile.path()), kept).unwrap();
        }
    }
    let bundle = remove(Tile::full(Level::Entries, 0));
    let hashes = remove(Tile::full(Level::Hashes(0), 0));
    assert!(log.verify().holds);
    log.drop_bundles_from(1, 2);
    fs::write(log.path().join("tile/entries/000"), bundle).unwrap();
    notices(&log, "tile/entries/000", "left behind");
    fs::remove_file(log.path().join("tile/entries/000")).unwrap();
    fs::write(log.path().join("tile/0/000"), hashes).unwrap();
    notices(&log, "tile/entries/000", "a gap");
}

#[test]
fn what_is_left_of_the_hashes_is_still_checked() {
    let log = log(|log, device| vec![log.notice(&certificate(device))]);
    log.drop_bundles(1);
    let path = log.path().join("tile/1/000.p/2");
    let good = fs::read(&path).unwrap();
    for at in [0, 40] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, bad).unwrap();
        assert!(log.verify().failure.is_some(), "byte {at}");
    }
    fs::write(&path, good).unwrap();
    assert!(log.verify().holds);
}

#[test]
fn roots_within_what_was_dropped_are_told_at_the_edges_of_bundles() {
    let log = StreetLog::of(600);
    let sizes = [0, 100, 256, 300, 512, 513, 600, 700];
    let roots = |log: &StreetLog| {
        let questions = Questions { sizes: sizes.into(), ..Questions::default() };
        verify(&Folder::new(log.path()), &questions).unwrap().1
    };
    let whole = roots(&log);
    assert_eq!(whole.values().filter(|root| root.is_some()).count(), 7);
    log.drop_bundles(2);
    for (size, root) in roots(&log) {
        let expected = if [100, 300].contains(&size) { None } else { whole[&size] };
        assert_eq!(root, expected, "{size}");
    }
}
