//! What retention left holds by itself, judged by what the anchor repeats.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::notice::Notice;
use crate::pruning::dropped_with;
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

/// The broker keeps the list, and an anchor that knows nothing of it writes it down once more.
#[test]
fn a_list_that_is_logged_again_behind_its_notice_changes_nothing() {
    let log = log(|log, device| {
        let list = log.revoking(1, &[device]);
        let repeated = Notice::Revoked(String::from_utf8(list.clone()).unwrap());
        let again = crate::entry::write(START, "grid/demo/ca/revoked", &list);
        vec![log.notice(&certificate(device)), log.notice(&repeated), again]
    });
    log.drop_bundles(1);
    let messages = log.verify().messages;
    assert_eq!((messages.verified, messages.revoked, messages.revocations), (1, 343, 1));
}

/// Each file that retention drops is removed in its order; a kill, or a power cut on a disk that keeps the order, may come
/// after any of them.
#[test]
fn a_drop_that_was_cut_short_anywhere_leaves_a_log_that_holds() {
    let log = log(|log, device| vec![log.notice(&certificate(device))]);
    let steps: Vec<Tile> = [0, 1].into_iter().flat_map(dropped_with).collect();
    for (done, tile) in steps.iter().enumerate() {
        fs::remove_file(log.path().join(tile.path())).unwrap();
        let report = log.verify();
        assert!(report.holds, "after {}: {:?}", tile.path(), report.failure);
        assert_eq!(report.minimum_index, (done as u64 / 2 + 1) * 256);
        let left = (tile.level == Level::Entries).then(|| Tile::full(Level::Hashes(0), tile.index).path());
        assert_eq!(report.beside.left_over.first, left);
        let shown = crate::show::Extent::of(&log.path()).unwrap();
        assert_eq!(shown.first, report.minimum_index);
        shown.entries(|_, _| true).unwrap();
    }
}

#[test]
fn what_no_drop_leaves_does_not_hold() {
    let log = log(|log, device| vec![log.notice(&certificate(device))]);
    let remove = |tile: Tile| {
        let path = log.path().join(tile.path());
        let kept = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        kept
    };
    let [entries, hashes] = [Level::Entries, Level::Hashes(0)].map(|level| move |index| Tile::full(level, index));
    for tile in [hashes(0), entries(1), hashes(1)] {
        let kept = remove(tile);
        notices(&log, &tile.path(), "removed");
        fs::write(log.path().join(tile.path()), kept).unwrap();
    }
    let bundles = [0, 1].map(|index| remove(entries(index)));
    notices(&log, &entries(1).path(), "removed before the hashes of the bundle in front of it");
    fs::write(log.path().join(entries(1).path()), &bundles[1]).unwrap();
    let first_hashes = remove(hashes(0));
    assert!(log.verify().holds);
    log.drop_bundles_from(1, 2);
    fs::write(log.path().join(entries(0).path()), &bundles[0]).unwrap();
    notices(&log, &entries(0).path(), "left behind");
    remove(entries(0));
    fs::write(log.path().join(hashes(0).path()), first_hashes).unwrap();
    notices(&log, &entries(1).path(), "a gap");
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
