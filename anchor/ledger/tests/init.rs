//! A trail is made, sealed, and made once however often making it is interrupted.

#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::fs::PermissionsExt;

use grid_ledger::{DeletionWindow, HUNDRED_YEARS, IotaLedger, Ledger, LedgerError, Permission, TimeLock, TrailReader};
use support::{DESCRIPTION, Mock, NAME, init_in, stop_at};

#[tokio::test]
async fn a_trail_is_made_sealed_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let mock = Mock::start(&folder.path().join("mock")).await;
    let data = folder.path().join("data");
    let (watch, _) = stop_at(usize::MAX - 1);
    let report = init_in(&data, &mock, Some(watch)).await.unwrap();

    let seal = &report.seal;
    assert_eq!((seal.name.as_deref(), seal.description.as_deref()), (Some(NAME), Some(DESCRIPTION)));
    assert_eq!(seal.deletion_window, DeletionWindow::TimeBased { seconds: HUNDRED_YEARS });
    assert_eq!((seal.trail_lock, seal.write_lock), (TimeLock::Infinite, TimeLock::None));
    assert_eq!((seal.creator, seal.records), (report.address, 0));
    assert!(seal.admin_capabilities.is_empty());
    let recorder = seal.roles.iter().find(|role| role.name == "Recorder").unwrap();
    assert_eq!(recorder.permissions, [Permission::AddRecord]);

    // 732 bytes in IOTA's own VM for names of 27 bytes together; what ours have more costs 7,600 NANOS a byte.
    let more = (NAME.len() + DESCRIPTION.len()) as i64 - 27;
    assert_eq!(report.create.nanos + report.sealing.nanos, 7_563_200 + 7600 * more);

    let reader = TrailReader::open(&mock.endpoints(), Some(&report.chain), report.trail).await.unwrap();
    assert_eq!(reader.seal().await.unwrap(), *seal);
    assert!(reader.records(0).await.unwrap().is_empty());
    for file in ["ledger.key", "ledger.json"] {
        assert_eq!(std::fs::metadata(data.join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
    assert!(!data.join("ledger.pending").exists());
    for link in [&report.links.trail, &report.links.create, &report.links.seal, &report.links.address] {
        let path = link.strip_prefix(&format!("http://{}", mock.listens)).unwrap();
        let page = mock.page(path).await;
        assert!(page.starts_with("HTTP/1.1 200") && page.contains("NOT IOTA"), "{link}: {page}");
    }
    assert!(mock.page(&format!("/object/{}", report.trail)).await.contains(NAME));
}

#[tokio::test]
async fn init_again_reports_the_same_trail() {
    let folder = tempfile::tempdir().unwrap();
    let mock = Mock::start(&folder.path().join("mock")).await;
    let data = folder.path().join("data");
    let first = init_in(&data, &mock, None).await.unwrap();
    let again = init_in(&data, &mock, None).await.unwrap();
    assert_eq!((first.trail, first.recorder, first.create), (again.trail, again.recorder, again.create));
    assert_eq!(mock.trails().await, 1);
}

#[tokio::test]
async fn init_stopped_anywhere_ends_with_one_sealed_trail() {
    let folder = tempfile::tempdir().unwrap();
    for at in 0.. {
        let folder = folder.path().join(at.to_string());
        let mut mock = Mock::start(&folder.join("mock")).await;
        let data = folder.join("data");
        let (watch, steps) = stop_at(at);
        let stopped = init_in(&data, &mock, Some(watch)).await;
        let last = steps.lock().unwrap().last().unwrap().clone();
        if stopped.is_ok() {
            assert!(at >= 10, "only {at} steps");
            return;
        }
        assert!(matches!(stopped, Err(LedgerError::Stopped(_))), "{last}: {stopped:?}");
        if at % 2 == 0 {
            mock.restart().await;
        }
        let report = init_in(&data, &mock, None).await.unwrap_or_else(|error| panic!("after {last}: {error}"));
        assert_eq!(mock.trails().await, 1, "after {last}");
        let ledger = IotaLedger::open(&data, &mock.endpoints()).await.unwrap();
        assert_eq!(ledger.seal().await.unwrap(), report.seal);
        mock.stop().await;
    }
}

#[tokio::test]
async fn init_whose_mock_dies_under_it_ends_with_one_sealed_trail() {
    let folder = tempfile::tempdir().unwrap();
    // The third transaction is the sealing one; each time the node dies when its bytes are on disk.
    for purpose in ["merging coins", "creating the trail", "sealing the trail"] {
        let folder = folder.path().join(purpose.replace(' ', "-"));
        let mut mock = Mock::start(&folder.join("mock")).await;
        let data = folder.join("data");
        let (signed, mut was_signed) = tokio::sync::mpsc::unbounded_channel();
        let watch: grid_ledger::Watch = Box::new(move |step| {
            if let grid_ledger::Step::Signed { purpose: signing, .. } = step
                && signing == purpose
            {
                signed.send(()).unwrap();
            }
            std::ops::ControlFlow::Continue(())
        });
        let endpoints = mock.endpoints();
        let settings =
            grid_ledger::InitSettings { folder: &data, endpoints: &endpoints, name: NAME, description: DESCRIPTION };
        // Dropped as soon as the transaction may be under way: perhaps before, perhaps after it is executed.
        tokio::select! {
            _ = was_signed.recv() => {}
            result = grid_ledger::init(settings, Some(watch)) => panic!("{result:?}"),
        }
        mock.restart().await;
        init_in(&data, &mock, None).await.unwrap();
        assert_eq!(mock.trails().await, 1, "{purpose}");
        mock.stop().await;
    }
}

#[tokio::test]
async fn the_words_are_shown_before_there_is_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let mock = Mock::start(&folder.path().join("mock")).await;
    let data = folder.path().join("data");
    let (watch, steps) = stop_at(0);
    init_in(&data, &mock, Some(watch)).await.unwrap_err();
    assert!(steps.lock().unwrap()[0].starts_with("made a key"));
    assert!(!data.join("ledger.key").exists());
    let (watch, steps) = stop_at(1);
    init_in(&data, &mock, Some(watch)).await.unwrap_err();
    assert!(steps.lock().unwrap()[0].starts_with("made a key") && data.join("ledger.key").exists());
    let (watch, steps) = stop_at(0);
    init_in(&data, &mock, Some(watch)).await.unwrap_err();
    assert!(!steps.lock().unwrap()[0].starts_with("made a key"));
}

#[tokio::test]
async fn a_folder_belongs_to_one_trail() {
    let folder = tempfile::tempdir().unwrap();
    let mock = Mock::start(&folder.path().join("mock")).await;
    let data = folder.path().join("data");
    assert!(matches!(IotaLedger::open(&data, &mock.endpoints()).await, Err(LedgerError::NotInitialised(_))));
    init_in(&data, &mock, None).await.unwrap();
    let endpoints = mock.endpoints();
    let other = grid_ledger::InitSettings { folder: &data, endpoints: &endpoints, name: "other", description: "" };
    assert!(matches!(grid_ledger::init(other, None).await, Err(LedgerError::Different { what: "name", .. })));
    let open = IotaLedger::open(&data, &endpoints).await.unwrap();
    assert!(matches!(IotaLedger::open(&data, &endpoints).await, Err(LedgerError::File(_))));
    drop(open);
    let another = Mock::start(&folder.path().join("another mock")).await;
    assert!(matches!(IotaLedger::open(&data, &another.endpoints()).await, Err(LedgerError::WrongChain { .. })));
}

#[tokio::test]
async fn without_a_faucet_init_waits_for_somebody_to_send_gas() {
    let folder = tempfile::tempdir().unwrap();
    let mock = Mock::start(&folder.path().join("mock")).await;
    let data = folder.path().join("data");
    let endpoints = grid_ledger::Endpoints { faucet: None, ..mock.endpoints() };
    let settings =
        grid_ledger::InitSettings { folder: &data, endpoints: &endpoints, name: NAME, description: DESCRIPTION };
    let address = match grid_ledger::init(settings, None).await {
        Err(LedgerError::Unfunded { address, balance: 0, .. }) => address,
        other => panic!("{other:?}"),
    };
    mock.give(address).await;
    assert_eq!(grid_ledger::init(settings, None).await.unwrap().address, address);
    assert_eq!(mock.trails().await, 1);
}

#[tokio::test]
async fn a_faucet_that_gives_nothing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mock = Mock::start(&folder.path().join("mock")).await;
    let data = folder.path().join("data");
    let endpoints =
        grid_ledger::Endpoints { faucet: Some(format!("http://{}/none", mock.listens)), ..mock.endpoints() };
    let settings =
        grid_ledger::InitSettings { folder: &data, endpoints: &endpoints, name: NAME, description: DESCRIPTION };
    match grid_ledger::init(settings, None).await {
        Err(LedgerError::Faucet { reason, .. }) => assert!(reason.contains("404"), "{reason}"),
        other => panic!("{other:?}"),
    }
}
