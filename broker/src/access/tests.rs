//! Who is let in, as whom, and who may stay after a reload.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use grid_protocol::identity::{Bundle, Issuer};
use grid_protocol::message::{Header, Message, Session};
use grid_protocol::revocation::{self, Revoked};
use grid_protocol::units::UnixMillis;
use tempfile::TempDir;

use super::*;
use crate::settings::{Listen, TlsSettings, Transformer, User};

/// A site with its authority, and a folder for the broker's files.
struct Site {
    folder: TempDir,
    issuer: Issuer,
}

impl Site {
    fn new() -> Self {
        let site = Self {
            folder: tempfile::tempdir().unwrap(),
            issuer: Issuer::create(&"s".parse().unwrap(), unix_now()).unwrap(),
        };
        fs::write(site.file("ca.pem"), site.issuer.certificate_pem()).unwrap();
        site
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings::for_site("s".parse().unwrap());
        settings.listen = Listen { mqtt: Some("127.0.0.1:0".parse().unwrap()), ..Listen::default() };
        settings.access.authority = Some(self.file("ca.pem"));
        settings.access.revocations = Some(self.file("revoked.json"));
        settings.transformer = vec![Transformer { name: "trafo-1".parse().unwrap(), devices: None }];
        settings.user = vec![User::new("anna", Role::Operator, PasswordHash::create(b"geheim").unwrap())];
        settings
    }

    fn access(&self) -> Access {
        Access::load(&self.settings()).unwrap()
    }

    fn issue(&self, name: &str, role: Role) -> Bundle {
        self.issuer.issue_bundle(name.parse().unwrap(), role, unix_now()).unwrap()
    }

    /// Writes list `seq` of revoked certificates.
    fn revoke(&self, seq: u64, bundles: &[&Bundle]) {
        let revoked = bundles
            .iter()
            .map(|bundle| Revoked { serial: serial_of(&bundle.certificate).unwrap(), name: "cp-1".parse().unwrap() })
            .collect();
        let header = Header {
            from: revocation::authority_name(),
            session: Session(1),
            seq: Some(seq),
            time_ms: UnixMillis(1_800_000_000_000),
        };
        let list = Message { header, body: revocation::Revocations { revoked } };
        fs::write(self.file("revoked.json"), revocation::write(&list, &self.issuer).unwrap()).unwrap();
    }
}

fn certificate(bundle: &Bundle) -> Credentials {
    Credentials { certificate: Some(bundle.certificate.clone()), ..Credentials::default() }
}

fn password(user: &str, password: &str) -> Credentials {
    Credentials { certificate: None, user: Some(user.to_owned()), password: Some(password.into()) }
}

#[tokio::test]
async fn who_has_a_certificate_of_the_site_is_who_it_names() {
    let site = Site::new();
    let access = site.access();
    for (name, role) in [("cp-1", Role::Device), ("trafo-1", Role::Transformer), ("anchor-1", Role::Anchor)] {
        let identity = access.identify(&certificate(&site.issue(name, role))).await.unwrap();
        assert_eq!((identity.publisher(), identity.role()), (Some(name), Some(role)));
        assert!(access.rights(&identity).unwrap().may_publish(&format!("grid/s/{name}/status")));
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_count_is_refused_even_with_the_right_password() {
    let site = Site::new();
    let access = site.access();
    let elsewhere = Site::new().issue("cp-1", Role::Device);
    for refused in [elsewhere.certificate, b"rubbish".to_vec()] {
        let credentials = Credentials { certificate: Some(refused), ..password("anna", "geheim") };
        assert!(matches!(access.identify(&credentials).await, Err(Denied::Certificate(_))));
    }
    let unknown = access.identify(&certificate(&site.issue("trafo-9", Role::Transformer))).await;
    assert_eq!(unknown, Err(Denied::UnknownTransformer("trafo-9".parse().unwrap())));
}

#[tokio::test]
async fn a_certificate_for_another_site_of_the_same_authority_is_refused() {
    let site = Site::new();
    let key = site.issue("cp-1", Role::Device).message_key.verifying_key();
    let other: grid_protocol::topic::Name = "other".parse().unwrap();
    let named = grid_protocol::identity::Identity {
        site: other.clone(),
        role: Role::Device,
        name: "cp-1".parse().unwrap(),
        key,
    };
    let (der, _) = site.issuer.issue(&named, unix_now()).unwrap();
    let shown = Credentials { certificate: Some(der), ..Credentials::default() };
    let refused = site.access().identify(&shown).await;
    assert_eq!(refused, Err(Denied::OtherSite { name: "cp-1".parse().unwrap(), site: other }));
}

#[tokio::test]
async fn a_user_is_known_by_the_password_and_others_are_not_told_apart_in_the_answer() {
    let access = Site::new().access();
    let anna = access.identify(&password("anna", "geheim")).await.unwrap();
    assert_eq!((anna.publisher(), anna.role()), (Some("anna"), Some(Role::Operator)));
    for (credentials, expected) in [
        (password("anna", "Geheim"), Denied::WrongPassword("anna".to_owned())),
        (password("berta", "geheim"), Denied::UnknownUser("berta".to_owned())),
        (Credentials { password: None, ..password("anna", "") }, Denied::WrongPassword("anna".to_owned())),
    ] {
        let denied = access.identify(&credentials).await.unwrap_err();
        assert!(denied.is_bad_login());
        assert_eq!(denied, expected);
    }
    let nothing = access.identify(&Credentials::default()).await.unwrap_err();
    assert!(nothing == Denied::Nothing && !nothing.is_bad_login());
}

#[tokio::test]
async fn a_password_is_checked_for_an_unknown_user_too_so_that_the_time_does_not_tell_who_is_known() {
    let access = Site::new().access();
    let another_check = users::ONE_AT_A_TIME.acquire().await.unwrap();
    for user in ["anna", "berta"] {
        let credentials = password(user, "wrong");
        let waiting = tokio::time::timeout(Duration::from_millis(100), access.identify(&credentials)).await;
        assert!(waiting.is_err(), "{user} did not wait for the other check");
    }
    drop(another_check);
    assert!(access.identify(&password("berta", "wrong")).await.is_err());
}

#[tokio::test]
async fn who_is_revoked_is_not_let_in_and_may_not_stay_while_a_new_certificate_counts() {
    let site = Site::new();
    let (lost, kept) = (site.issue("cp-1", Role::Device), site.issue("cp-2", Role::Device));
    let before = site.access();
    assert_eq!(before.revocations(), None);
    let [lost_device, kept_device] =
        [before.identify(&certificate(&lost)).await.unwrap(), before.identify(&certificate(&kept)).await.unwrap()];
    site.revoke(1, &[&lost]);
    let after = before.load_again(&site.settings()).unwrap();
    assert!(before.rights(&lost_device).is_some() && after.rights(&lost_device).is_none());
    assert!(after.rights(&kept_device).is_some());
    assert!(matches!(after.identify(&certificate(&lost)).await, Err(Denied::Revoked { .. })));
    let renewed = after.identify(&certificate(&site.issue("cp-1", Role::Device))).await.unwrap();
    assert_eq!(renewed.owner(), lost_device.owner(), "its session goes on");
    let (topic, payload) = after.revocations().unwrap();
    assert_eq!(topic, "grid/s/ca/revoked");
    assert_eq!(*payload, fs::read(site.file("revoked.json")).unwrap());
}

#[tokio::test]
async fn who_was_removed_or_has_another_role_or_password_may_not_stay() {
    let site = Site::new();
    let before = site.access();
    let anna = before.identify(&password("anna", "geheim")).await.unwrap();
    let trafo = before.identify(&certificate(&site.issue("trafo-1", Role::Transformer))).await.unwrap();
    let same = site.settings();
    // The same hash: loading it again changes nothing.
    let same = Settings { user: vec![user_of(&anna)], ..same };
    assert!(before.load_again(&same).unwrap().rights(&anna).is_some());
    let changes: [fn(&mut Settings); 3] = [
        |settings| settings.user[0].name = "berta".to_owned(),
        |settings| settings.user[0].role = Role::Guest,
        |settings| settings.user[0].password_hash = PasswordHash::create(b"geheim").unwrap(),
    ];
    for change in changes {
        let mut settings = same.clone();
        change(&mut settings);
        let after = before.load_again(&settings).unwrap();
        assert!(after.rights(&anna).is_none());
        assert!(after.rights(&trafo).is_some());
    }
    let without = Settings { transformer: Vec::new(), ..same };
    assert!(before.load_again(&without).unwrap().rights(&trafo).is_none());
}

fn user_of(identity: &Identity) -> User {
    match identity {
        Identity::User { name, role, password_hash } => User::new(name, *role, password_hash.clone()),
        Identity::Anyone | Identity::Certified { .. } => panic!("{identity:?}"),
    }
}

#[tokio::test]
async fn another_authority_ends_what_the_old_one_vouched_for() {
    let site = Site::new();
    let before = site.access();
    let device = before.identify(&certificate(&site.issue("cp-1", Role::Device))).await.unwrap();
    fs::write(site.file("ca.pem"), Site::new().issuer.certificate_pem()).unwrap();
    assert!(before.load_again(&site.settings()).unwrap().rights(&device).is_none());
}

#[tokio::test]
async fn an_open_broker_asks_nobody() {
    let open = Access::open().borrow().clone();
    let anyone = open.identify(&password("anna", "wrong")).await.unwrap();
    assert_eq!(anyone, Identity::Anyone);
    assert!(open.rights(&anyone).unwrap().may_publish("grid/s/cp-1/setpoint"));
    assert!(Site::new().access().rights(&anyone).is_none(), "closed again");
}

#[test]
fn every_wrong_file_is_reported_at_once() {
    let site = Site::new();
    let mut settings = site.settings();
    fs::write(site.file("ca.pem"), "rubbish").unwrap();
    settings.tls = Some(TlsSettings { certificate: site.file("nowhere.pem"), key: site.file("nowhere.key") });
    settings.user[0].name = String::new();
    let error = Access::load(&settings).unwrap_err().to_string();
    for named in ["access.authority", "ca.pem", "tls.certificate", "nowhere.pem", "user[0].name"] {
        assert!(error.contains(named), "{named} in {error}");
    }
}

#[test]
fn a_list_of_revocations_counts_only_as_the_authority_signed_it() {
    let site = Site::new();
    site.revoke(1, &[&site.issue("cp-1", Role::Device)]);
    let good = fs::read_to_string(site.file("revoked.json")).unwrap();
    let other = Site::new();
    other.revoke(1, &[]);
    let forged = fs::read_to_string(other.file("revoked.json")).unwrap();
    for bad in [forged, good.replace("cp-1", "cp-2"), String::new()] {
        fs::write(site.file("revoked.json"), bad).unwrap();
        let error = Access::load(&site.settings()).unwrap_err().to_string();
        assert!(error.contains("access.revocations") && error.contains("revoked.json"), "{error}");
    }
}

#[test]
fn a_list_of_revocations_is_not_replaced_by_an_older_one_or_by_none() {
    let site = Site::new();
    let bundle = site.issue("cp-1", Role::Device);
    site.revoke(2, &[&bundle]);
    let access = site.access();
    site.revoke(1, &[]);
    let error = access.load_again(&site.settings()).unwrap_err().to_string();
    assert!(error.contains("list 1 is older than list 2"), "{error}");
    fs::remove_file(site.file("revoked.json")).unwrap();
    let error = access.load_again(&site.settings()).unwrap_err().to_string();
    assert!(error.contains("is not there any more"), "{error}");
}

#[test]
fn the_broker_speaks_tls_with_its_certificate_and_needs_the_key_to_it() {
    let site = Site::new();
    let server = site.issuer.issue_server(&["localhost"], unix_now()).unwrap();
    let other = site.issuer.issue_server(&["localhost"], unix_now()).unwrap();
    fs::write(site.file("broker.pem"), &server.certificate).unwrap();
    fs::write(site.file("broker.key"), server.key_pem()).unwrap();
    let mut settings = site.settings();
    assert!(Access::load(&settings).unwrap().tls().is_none());
    settings.tls = Some(TlsSettings { certificate: site.file("broker.pem"), key: site.file("broker.key") });
    assert!(Access::load(&settings).unwrap().tls().is_some());
    fs::write(site.file("broker.key"), other.key_pem()).unwrap();
    let error = Access::load(&settings).unwrap_err().to_string();
    assert!(error.contains("tls.key") && error.contains("does not go with tls.certificate"), "{error}");
    assert!(!error.contains(other.key_pem().lines().nth(1).unwrap()), "{error}");
}

/// A handshake with what [`Access::tls`] says, between two ends in memory. Returns the certificate that the broker saw.
async fn shake_hands(access: &Access, site: &Site, client: Option<&Bundle>) -> Result<Option<Vec<u8>>, std::io::Error> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(site.issuer.authority().der().to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match client {
        Some(bundle) => {
            let chain = vec![CertificateDer::from(bundle.certificate.clone())];
            config.with_client_auth_cert(chain, PrivateKeyDer::from(bundle.tls_key.clone_key())).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    let (near, far) = tokio::io::duplex(16 * 1024);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let acceptor = tokio_rustls::TlsAcceptor::from(access.tls().unwrap());
    let connecting = connector.connect(ServerName::try_from("localhost").unwrap(), near);
    let (accepted, connected) = tokio::join!(acceptor.accept(far), connecting);
    let accepted = accepted?;
    connected?;
    Ok(accepted.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec()))
}

#[tokio::test]
async fn over_tls_a_client_may_show_a_certificate_of_the_site_or_none_but_no_other() {
    let site = Site::new();
    let server = site.issuer.issue_server(&["localhost"], unix_now()).unwrap();
    fs::write(site.file("broker.pem"), &server.certificate).unwrap();
    fs::write(site.file("broker.key"), server.key_pem()).unwrap();
    let mut settings = site.settings();
    settings.tls = Some(TlsSettings { certificate: site.file("broker.pem"), key: site.file("broker.key") });
    let access = Access::load(&settings).unwrap();
    let device = site.issue("cp-1", Role::Device);
    let seen = shake_hands(&access, &site, Some(&device)).await.unwrap();
    assert_eq!(seen.as_ref(), Some(&device.certificate));
    let shown = Credentials { certificate: seen, ..Credentials::default() };
    assert_eq!(access.identify(&shown).await.unwrap().publisher(), Some("cp-1"));
    assert_eq!(shake_hands(&access, &site, None).await.unwrap(), None);
    let stranger = Site::new().issue("cp-1", Role::Device);
    assert!(shake_hands(&access, &site, Some(&stranger)).await.is_err());
}
