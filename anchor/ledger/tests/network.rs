//! What a client meets on the way to a node, and what else is served on the mock's port.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::Ipv4Addr;
use std::time::Duration;

use grid_ledger::mock::{self, MockError, NOT_IOTA};
use grid_ledger::{Endpoints, InitSettings, LedgerError, Network, ObjectId, TrailReader, init};
use iota_sdk::grpc_client::tonic::Code;
use iota_sdk::grpc_client::{GrpcClient, GrpcError};
use support::{Mock, init_in};
use tokio::net::TcpListener;
use tokio::time::timeout;

#[tokio::test]
async fn a_node_that_speaks_no_tls_is_unreachable() {
    // Also shows that there is one TLS implementation, which needs no choice at run time.
    let folder = tempfile::tempdir().unwrap();
    let mock = Mock::start(&folder.path().join("mock")).await;
    let endpoints = Endpoints { grpc: vec![format!("https://{}", mock.listens)], ..mock.endpoints() };
    let result = timeout(Duration::from_secs(20), TrailReader::open(&endpoints, None, ObjectId::ZERO)).await.unwrap();
    assert!(matches!(result, Err(LedgerError::Unreachable { .. })), "{result:?}");
    let endpoints = Endpoints { faucet: Some(format!("https://{}/gas", mock.listens)), ..mock.endpoints() };
    let folder = folder.path().join("data");
    let settings = InitSettings { folder: &folder, endpoints: &endpoints, name: "", description: "" };
    let result = timeout(Duration::from_secs(20), init(settings, None)).await.unwrap();
    assert!(matches!(result, Err(LedgerError::Faucet { .. })), "{result:?}");
}

#[tokio::test]
async fn a_mock_is_not_taken_for_testnet() {
    let folder = tempfile::tempdir().unwrap();
    let mock = Mock::start(&folder.path().join("mock")).await;
    let endpoints = Endpoints { grpc: mock.endpoints().grpc, ..Network::Testnet.endpoints() };
    match TrailReader::open(&endpoints, None, ObjectId::ZERO).await {
        Err(LedgerError::WrongChain { expected, .. }) => assert_eq!(expected, "2304aa97"),
        other => panic!("{other:?}"),
    }
    let data = folder.path().join("data");
    let settings = InitSettings { folder: &data, endpoints: &endpoints, name: "", description: "" };
    assert!(matches!(init(settings, None).await, Err(LedgerError::WrongChain { .. })));
    assert!(!data.join("ledger.key").exists());
}

#[tokio::test]
async fn a_localnet_needs_to_be_told_its_packages() {
    let folder = tempfile::tempdir().unwrap();
    let endpoints = Network::Localnet.endpoints();
    let settings = InitSettings { folder: folder.path(), endpoints: &endpoints, name: "", description: "" };
    assert!(matches!(init(settings, None).await, Err(LedgerError::NoPackages(Network::Localnet))));
}

#[tokio::test]
async fn every_page_says_that_this_is_not_iota() {
    let folder = tempfile::tempdir().unwrap();
    let mock = Mock::start(&folder.path().join("mock")).await;
    let report = init_in(&folder.path().join("data"), &mock, None).await.unwrap();
    for (path, status) in [
        ("/".to_owned(), 200),
        (format!("/object/{}", report.trail), 200),
        (format!("/object/{}", report.recorder), 200),
        (format!("/txblock/{}", report.sealing.transaction), 200),
        (format!("/address/{}", report.address), 200),
        (format!("/object/{}", ObjectId::ZERO), 404),
        ("/txblock/nonsense".to_owned(), 404),
        ("/address/nonsense".to_owned(), 404),
        ("/nowhere".to_owned(), 404),
    ] {
        let page = mock.page(&path).await;
        assert!(page.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {page}");
        assert!(page.contains(&format!("<p class=note>{NOT_IOTA}</p>")), "{path}: {page}");
    }
}

#[tokio::test]
async fn what_the_mock_does_not_serve_is_unimplemented() {
    let folder = tempfile::tempdir().unwrap();
    let mock = Mock::start(&folder.path().join("mock")).await;
    let node = GrpcClient::new(mock.endpoints().grpc[0].as_str()).unwrap();
    let missing = [
        node.package_versions(ObjectId::FRAMEWORK).await.map(|_| ()),
        node.dynamic_fields(ObjectId::CLOCK).await.map(|_| ()),
    ];
    for result in missing {
        match result {
            Err(GrpcError::Grpc(status)) => {
                assert_eq!(status.code(), Code::Unimplemented);
                assert!(status.message().contains(NOT_IOTA), "{status:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn several_mocks_share_a_process_but_not_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let first = Mock::start(&folder.path().join("first")).await;
    let second = Mock::start(&folder.path().join("second")).await;
    let report = init_in(&folder.path().join("data"), &first, None).await.unwrap();
    let reader = TrailReader::open(&second.endpoints(), None, report.trail).await.unwrap();
    assert!(matches!(reader.seal().await, Err(LedgerError::NoSuchTrail { .. })));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let taken = mock::run(listener, &folder.path().join("first"), std::future::pending()).await;
    assert!(matches!(taken, Err(MockError::Locked(_))), "{taken:?}");
}
