//! A log on a server is verified as one in a folder is.

use super::*;
use crate::source::testing::{Manner, Server};
use crate::source::{Web, open};

fn verify_at(log: &StreetLog, place: &str, token: Option<&str>) -> Result<Report, VerifyError> {
    let policy = log.policy();
    let questions = Questions { policy: Some(&policy), ..Questions::default() };
    verify(open(place, token).unwrap().as_ref(), &questions).map(|(report, _)| report)
}

#[test]
fn the_report_is_the_same_from_folder_and_server() {
    let log = StreetLog::of_a_street();
    for dropped in [0, 1] {
        log.drop_bundles(dropped);
        for manner in [Manner::default(), Manner { unpacks: true, token: Some("s3cret"), ..Manner::default() }] {
            let server = Server::start(&log.path(), manner);
            assert_eq!(verify_at(&log, &server.url(), Some("s3cret")).unwrap(), log.verify());
        }
    }
}

#[test]
fn what_a_server_changed_is_named_and_what_it_withholds_cannot_be_told() {
    let log = StreetLog::of_a_street();
    let server = Server::start(&log.path(), Manner { token: Some("s3cret"), ..Manner::default() });
    let refused = verify_at(&log, &server.url(), None).unwrap_err().to_string();
    assert!(refused.contains("401"), "{refused}");
    let path = log.path().join("tile/0/001");
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let failure = verify_at(&log, &server.url(), Some("s3cret")).unwrap().failure.unwrap();
    assert_eq!((failure.file.as_str(), failure.entries), ("tile/0/001", Some((256, 511))));
    fs::remove_file(path).unwrap();
    assert_eq!(verify_at(&log, &server.url(), Some("s3cret")).unwrap().failure.unwrap().file, "tile/0/001");
}

#[test]
fn a_server_without_a_log_has_none() {
    let folder = crate::testing::folder();
    let server = Server::start(folder.path(), Manner::default());
    let nothing = verify(&Web::new(&server.url(), None).unwrap(), &Questions::default());
    assert!(matches!(nothing, Err(VerifyError::NoLog(_))));
}
