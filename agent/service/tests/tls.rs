//! TLS to a broker that others wrote (mosquitto), with certificates of a site's authority.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use grid_protocol::identity::Issuer;
use grid_protocol::message::Role;
use grid_protocol::topic::Name;
use grid_service::broker::BrokerSettings;
use grid_service::clock::unix_now;
use grid_service::identity::{IdentityFiles, IdentitySettings};
use grid_service::link::{Delivery, Incoming, Link, Loss};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn authority() -> Issuer {
    Issuer::create(&name("demo"), unix_now()).unwrap()
}

/// A mosquitto with TLS, which ends with the test.
struct Mosquitto {
    folder: tempfile::TempDir,
    port: u16,
    process: Child,
}

impl Mosquitto {
    /// It is reached under `host`, and asks clients for a certificate or for a password.
    fn start(issuer: &Issuer, host: &str, admission: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = issuer.issue_server(&[host], unix_now()).unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.certificate_pem()).unwrap();
        fs::write(folder.path().join("broker.pem"), &server.certificate).unwrap();
        fs::write(folder.path().join("broker.key"), server.key_pem()).unwrap();
        fs::write(folder.path().join("users"), format!("cp-3:{PASSWORD_HASH}\n")).unwrap();
        let path = folder.path().display();
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let config = format!(
                "user root\nlistener {port} 127.0.0.1\ncafile {path}/ca.pem\ncertfile {path}/broker.pem\nkeyfile {path}/broker.key\n\
                 {}\n",
                admission.replace("FOLDER", &path.to_string())
            );
            fs::write(folder.path().join("conf"), config).unwrap();
            let mut command = Command::new("mosquitto");
            let path = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{path}:/usr/sbin")).arg("-c").arg(folder.path().join("conf"));
            let mut process =
                command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("mosquitto is installed");
            let since = Instant::now();
            while since.elapsed() < PATIENCE && process.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self { folder, port, process };
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            // Somebody else took the port meanwhile.
            process.kill().and_then(|()| process.wait()).unwrap();
        }
        panic!("mosquitto does not start");
    }

    fn settings(&self) -> BrokerSettings {
        BrokerSettings { tls: true, ..BrokerSettings::plain("127.0.0.1", self.port) }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const BY_CERTIFICATE: &str = "require_certificate true\nuse_identity_as_username true";
const BY_PASSWORD: &str = "allow_anonymous false\npassword_file FOLDER/users";
/// Of `correct horse`, made with `mosquitto_passwd`.
const PASSWORD_HASH: &str =
    "$7$101$qPioeXWP1kIE+DT1$gHkhTaGI2Zsfh78Vp9QsMrTrwWS5tWXtztofoB6SJtMKG3ieG/R4wkoh8QRf53kQtnk2WNh2brxnyBKXkH1T9g==";

/// What cp-3 reads from the bundle that `issuer` made for it.
fn cp_3(issuer: &Issuer) -> IdentityFiles {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cp-3.bundle");
    let bundle = issuer.issue_bundle(name("cp-3"), Role::Device, unix_now()).unwrap();
    fs::write(&file, bundle.to_pem().unwrap()).unwrap();
    IdentitySettings::Bundle(file).read().unwrap()
}

/// Connects and sends a message to itself, or says why that cannot be.
async fn try_out(settings: &BrokerSettings, identity: &IdentityFiles) -> Result<(), String> {
    let broker = settings.resolve(identity).unwrap();
    let (link, mut incoming) = Link::open(&broker, &name("cp-3"), vec!["grid/demo/#".to_owned()]);
    let hear = async {
        while let Some(happened) = incoming.recv().await {
            match happened {
                Incoming::Dialing(_) => {}
                Incoming::Connected => link.publish("grid/demo/cp-3/event", vec![7], Delivery::Assured).unwrap(),
                Incoming::Message(received) => {
                    assert_eq!((received.topic.as_str(), &received.payload[..]), ("grid/demo/cp-3/event", &[7][..]));
                    return Ok(());
                }
                Incoming::Lost(Loss::Broken(why)) => return Err(why),
                Incoming::Lost(Loss::ThrownOut) => return Err("thrown out".to_owned()),
            }
        }
        Err("the link ended".to_owned())
    };
    timeout(PATIENCE, hear).await.unwrap()
}

#[tokio::test]
async fn broker_and_agent_of_one_site_know_each_other_by_their_certificates() {
    let site = authority();
    let mosquitto = Mosquitto::start(&site, "127.0.0.1", BY_CERTIFICATE);
    assert_eq!(try_out(&mosquitto.settings(), &cp_3(&site)).await, Ok(()));
}

#[tokio::test]
async fn a_broker_of_another_authority_is_refused_in_words() {
    let (site, stranger) = (authority(), authority());
    let mosquitto = Mosquitto::start(&stranger, "127.0.0.1", BY_CERTIFICATE);
    let why = try_out(&mosquitto.settings(), &cp_3(&site)).await.unwrap_err();
    assert!(why.contains("not of this site's authority") && why.contains("grid-broker ca init"), "{why}");
}

#[tokio::test]
async fn a_broker_whose_certificate_names_another_host_is_refused_in_words() {
    let site = authority();
    let mosquitto = Mosquitto::start(&site, "elsewhere.local", BY_CERTIFICATE);
    let why = try_out(&mosquitto.settings(), &cp_3(&site)).await.unwrap_err();
    assert!(why.contains("does not name 127.0.0.1") && why.contains("ca issue-server --host 127.0.0.1"), "{why}");
}

#[tokio::test]
async fn a_device_cannot_pass_for_the_broker() {
    let site = authority();
    let mosquitto = Mosquitto::start(&site, "127.0.0.1", BY_CERTIFICATE);
    let thief = site.issue_bundle(name("cp-4"), Role::Device, unix_now()).unwrap().to_pem().unwrap();
    fs::write(mosquitto.folder.path().join("broker.pem"), &thief).unwrap();
    fs::write(mosquitto.folder.path().join("broker.key"), &thief).unwrap();
    // At SIGHUP mosquitto reads its certificate again.
    assert!(Command::new("kill").args(["-HUP", &mosquitto.process.id().to_string()]).status().unwrap().success());
    let since = Instant::now();
    while try_out(&mosquitto.settings(), &cp_3(&site)).await.is_ok() {
        assert!(since.elapsed() < PATIENCE, "the thief passed for the broker");
    }
}

#[tokio::test]
async fn an_agent_that_the_broker_refuses_is_told_why() {
    let (site, stranger) = (authority(), authority());
    let mosquitto = Mosquitto::start(&site, "127.0.0.1", BY_CERTIFICATE);
    let foreign = IdentityFiles { authority: site.authority(), ..cp_3(&stranger) };
    let why = try_out(&mosquitto.settings(), &foreign).await.unwrap_err();
    assert!(why.contains("the broker refuses our certificate"), "{why}");
    let nobody = IdentityFiles { tls_key: None, ..cp_3(&site) };
    let why = try_out(&mosquitto.settings(), &nobody).await.unwrap_err();
    assert!(why.contains("the broker wants a certificate"), "{why}");
}

#[tokio::test]
async fn a_broker_that_goes_by_passwords_lets_in_who_knows_one() {
    let site = authority();
    let mosquitto = Mosquitto::start(&site, "127.0.0.1", BY_PASSWORD);
    let password_file = mosquitto.folder.path().join("password");
    let user = Some("cp-3".to_owned());
    let settings = BrokerSettings { user, password_file: Some(password_file.clone()), ..mosquitto.settings() };
    let identity = IdentityFiles { tls_key: None, ..cp_3(&site) };
    fs::write(&password_file, "correct horse\n").unwrap();
    assert_eq!(try_out(&settings, &identity).await, Ok(()));
    fs::write(&password_file, "wrong horse\n").unwrap();
    assert!(try_out(&settings, &identity).await.is_err());
    let shown = format!("{:?}", settings.resolve(&identity).unwrap());
    assert!(!shown.contains("horse"), "{shown}");
}

#[tokio::test]
async fn a_broker_that_speaks_no_tls_is_told_from_one_that_is_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut client, _) = listener.accept().unwrap();
        let read = client.read(&mut [0; 16]).unwrap();
        client.write_all(b"\x20\x03\x00\x84\x00").unwrap();
        read
    });
    let settings = BrokerSettings { tls: true, ..BrokerSettings::plain("127.0.0.1", port) };
    let identity = cp_3(&authority());
    let why = try_out(&settings, &identity).await.unwrap_err();
    assert!(why.contains("does not speak TLS"), "{why}");
    assert!(answers.join().unwrap() > 0);
    let why = try_out(&settings, &identity).await.unwrap_err();
    assert!(!why.contains("TLS listener"), "{why}");
}
