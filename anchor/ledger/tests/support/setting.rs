//! A mock with a sealed trail, and what may happen to its folder.

use std::path::PathBuf;

use grid_ledger::{Endpoints, InitReport, IotaLedger, LedgerError, NewRecord, TrailReader};
use tempfile::TempDir;

use super::owner::Owner;
use super::{Mock, init_in};

pub struct Setting {
    pub folder: TempDir,
    pub mock: Mock,
    pub report: InitReport,
}

impl Setting {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mock = Mock::start(&folder.path().join("mock")).await;
        let report = init_in(&folder.path().join("data"), &mock, None).await.unwrap();
        Self { folder, mock, report }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub async fn open(&self) -> Result<IotaLedger, LedgerError> {
        self.open_at(vec![format!("http://{}", self.mock.listens)]).await
    }

    /// Opens the trail through these nodes.
    pub async fn open_at(&self, grpc: Vec<String>) -> Result<IotaLedger, LedgerError> {
        IotaLedger::open(&self.path("data"), &Endpoints { grpc, ..self.mock.endpoints() }).await
    }

    pub async fn texts(&self) -> Vec<String> {
        let reader = TrailReader::open(&self.mock.endpoints(), None, self.report.trail).await.unwrap();
        reader.records(0).await.unwrap().into_iter().map(|record| record.text).collect()
    }

    pub fn has_pending(&self) -> bool {
        self.path("data/ledger.pending").exists()
    }

    /// A copy of the anchor's files, as a backup or a second machine has them.
    pub fn copy(&self, name: &str) -> PathBuf {
        let copy = self.path(name);
        std::fs::create_dir_all(&copy).unwrap();
        for file in ["ledger.key", "ledger.json"] {
            std::fs::copy(self.path("data").join(file), copy.join(file)).unwrap();
        }
        copy
    }

    /// Somebody with the anchor's key and a wallet program.
    pub fn owner(&self) -> Owner {
        Owner::new(&self.path("data"), format!("http://{}", self.mock.listens))
    }
}

pub fn record(text: &str) -> NewRecord {
    NewRecord { text: text.to_owned(), metadata: None }
}
