//! What a reload brings, and what it must not break.

use super::*;
use crate::access::{Credentials, Denied, Identity, PasswordHash};
use grid_protocol::identity::{Issuer, serial_of};
use grid_protocol::message::{Header, Message, Role, Session};
use grid_protocol::revocation::{self, Revocations, Revoked};
use grid_service::clock::unix_now;
use std::path::PathBuf;
use tempfile::TempDir;

struct Place {
    folder: TempDir,
    issuer: Issuer,
    hash: PasswordHash,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
            issuer: Issuer::create(&"s".parse().unwrap(), unix_now()).unwrap(),
            hash: PasswordHash::create(b"geheim").unwrap(),
        };
        fs::write(place.file("ca.pem"), place.issuer.certificate_pem()).unwrap();
        place.configure("s", &["anna"], "");
        place
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self, site: &str, users: &[&str], more: &str) {
        let hash = self.hash.as_str();
        let user = |name: &&str| format!("[[user]]\nname = \"{name}\"\nrole = \"guest\"\npassword_hash = \"{hash}\"\n");
        let users: String = users.iter().map(user).collect();
        let folder = self.folder.path().display();
        let settings = format!(
            "site = \"{site}\"\n{more}\n[listen]\nmqtt = \"127.0.0.1:0\"\n[access]\nauthority = \"{folder}/ca.pem\"\n\
             revocations = \"{folder}/revoked.json\"\n{users}"
        );
        fs::write(self.file("broker.toml"), settings).unwrap();
    }

    fn start(&self) -> (Reload, watch::Receiver<Arc<Access>>) {
        let source = Source { config: Some(self.file("broker.toml")), ..Source::default() };
        let settings = source.read().unwrap();
        Reload::start(source, settings).unwrap()
    }

    fn revoke(&self, seq: u64, certificate: &[u8]) {
        let revoked = Revoked { serial: serial_of(certificate).unwrap(), name: "cp-1".parse().unwrap() };
        let header =
            Header { from: revocation::authority_name(), session: Session(1), seq: Some(seq), time_ms: unix_now() };
        let list = Message { header, body: Revocations { revoked: vec![revoked] } };
        let payload = revocation::write(&list, &self.issuer).unwrap();
        grid_service::file::replace(&self.file("revoked.json"), &payload).unwrap();
    }
}

async fn log_in(access: &watch::Receiver<Arc<Access>>, user: &str) -> Result<Identity, Denied> {
    let now = access.borrow().clone();
    let password = Some(b"geheim".to_vec());
    now.identify(&Credentials { certificate: None, user: Some(user.to_owned()), password }).await
}

#[tokio::test]
async fn a_new_user_comes_in_and_one_who_was_there_stays() {
    let place = Place::new();
    let (mut reload, mut access) = place.start();
    let anna = log_in(&access, "anna").await.unwrap();
    assert!(log_in(&access, "berta").await.is_err());
    access.mark_unchanged();
    place.configure("s", &["anna", "berta"], "");
    assert!(reload.reload());
    assert!(access.has_changed().unwrap());
    assert!(log_in(&access, "berta").await.is_ok());
    assert!(access.borrow().rights(&anna).is_some());
}

#[tokio::test]
async fn wrong_settings_change_nothing() {
    let place = Place::new();
    let (mut reload, mut access) = place.start();
    access.mark_unchanged();
    place.configure("s", &["berta", "berta"], "");
    assert!(!reload.reload());
    place.configure("other", &["berta"], "");
    assert!(!reload.reload(), "another site takes a restart");
    place.configure("s", &["berta"], "nonsense = 1");
    assert!(!reload.reload());
    fs::remove_file(place.file("broker.toml")).unwrap();
    assert!(!reload.reload());
    assert!(!access.has_changed().unwrap());
    assert!(log_in(&access, "anna").await.is_ok());
}

#[tokio::test]
async fn a_revocation_counts_without_a_reload_of_the_settings() {
    let place = Place::new();
    let (mut reload, access) = place.start();
    let bundle = place.issuer.issue_bundle("cp-1".parse().unwrap(), Role::Device, unix_now()).unwrap();
    let shown = Credentials { certificate: Some(bundle.certificate.clone()), ..Credentials::default() };
    let now = access.borrow().clone();
    let device = now.identify(&shown).await.unwrap();
    assert!(!reload.reload_if_revocations_changed(), "nothing has changed");

    // Settings that nobody asked to be read again do not count.
    place.configure("s", &["berta"], "");
    place.revoke(1, &bundle.certificate);
    assert!(reload.reload_if_revocations_changed());
    assert!(access.borrow().rights(&device).is_none());
    assert!(access.borrow().revocations().is_some());
    assert!(log_in(&access, "anna").await.is_ok());
    assert!(!reload.reload_if_revocations_changed(), "it is read once");

    let good = fs::read(place.file("revoked.json")).unwrap();
    fs::write(place.file("revoked.json"), "rubbish").unwrap();
    assert!(!reload.reload_if_revocations_changed());
    assert!(access.borrow().rights(&device).is_none(), "the old list stays in force");
    fs::write(place.file("revoked.json"), good).unwrap();
    assert!(reload.reload_if_revocations_changed(), "and is read again when it is repaired");
}

#[test]
fn wrong_files_stop_the_start() {
    let place = Place::new();
    fs::write(place.file("revoked.json"), "rubbish").unwrap();
    let source = Source { config: Some(place.file("broker.toml")), ..Source::default() };
    let settings = source.read().unwrap();
    let error = Reload::start(source, settings).unwrap_err().to_string();
    assert!(error.contains("revoked.json"), "{error}");
}
