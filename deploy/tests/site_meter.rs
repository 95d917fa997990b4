//! An existing meter that publishes to the site's own broker, over TLS, read as a user and as a guest with a certificate.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use grid_agent::meter::{Meter, MeterError, MeterSettings, MqttSettings, PhaseTopic, Reading, Unit};
use grid_broker::{Limits, PasswordHash, Reload, Sockets, Source};
use grid_protocol::identity::Issuer;
use grid_protocol::message::Role;
use grid_protocol::topic::Name;
use grid_protocol::units::{MilliAmps, MilliVolts, Millis};
use grid_service::broker::BrokerSettings;
use grid_service::clock::unix_now;
use grid_service::identity::IdentitySettings;
use tokio::runtime::Runtime;

const SOON: Duration = Duration::from_secs(20);
const TOPIC: &str = "shellies/em3/status";

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// The site's broker with a meter `shelly`, whom `cp-1-meter` may hear and `stranger` may not. It ends with the runtime.
struct Site {
    folder: tempfile::TempDir,
    issuer: Issuer,
    address: SocketAddr,
    _reload: Reload,
    _runtime: Runtime,
}

impl Site {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let issuer = Issuer::create(&name("demo"), unix_now()).unwrap();
        let server = issuer.issue_server(&["localhost"], unix_now()).unwrap();
        let path = |file: &str| folder.path().join(file);
        fs::write(path("ca.pem"), issuer.certificate_pem()).unwrap();
        fs::write(path("broker.pem"), &server.certificate).unwrap();
        fs::write(path("broker.key"), server.key_pem()).unwrap();
        let user = |name: &str| {
            fs::write(path(&format!("{name}.password")), format!("{name} opens\n")).unwrap();
            let hash = PasswordHash::create(format!("{name} opens").as_bytes()).unwrap();
            format!("[[user]]\nname = {name:?}\nrole = \"guest\"\npassword_hash = {:?}\n", hash.as_str())
        };
        let settings = format!(
            "site = \"demo\"\nlisten.mqtts = \"127.0.0.1:0\"\n\
             [tls]\ncertificate = {:?}\nkey = {:?}\n[access]\nauthority = {:?}\n{}{}{}\
             [[grant]]\nto = \"shelly\"\npublish = [\"shellies/#\"]\n\
             [[grant]]\nto = \"cp-1-meter\"\nsubscribe = [{TOPIC:?}]\n",
            path("broker.pem"),
            path("broker.key"),
            path("ca.pem"),
            user("shelly"),
            user("cp-1-meter"),
            user("stranger"),
        );
        fs::write(path("broker.toml"), settings).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let entered = runtime.enter();
        let source = Source { config: Some(path("broker.toml")), ..Source::default() };
        let (reload, access) = Reload::start(source.clone(), source.read().unwrap()).unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let sockets = Sockets { mqtts: Some(listener), ..Sockets::default() };
        runtime.spawn(grid_broker::run(sockets, Limits::default(), access, std::future::pending()));
        drop(entered);
        Self { folder, issuer, address, _reload: reload, _runtime: runtime }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The meter says what it counts.
    fn shelly_says(&self, payload: &str) {
        let port = self.address.port().to_string();
        let mut says = Command::new("mosquitto_pub");
        says.args(["-h", "localhost", "-p", &port, "-V", "5", "-i", "shelly", "-u", "shelly", "-P", "shelly opens"]);
        says.arg("--cafile").arg(self.path().join("ca.pem"));
        assert!(says.args(["-q", "1", "-t", TOPIC, "-m", payload]).status().unwrap().success());
    }

    /// Files without a key for TLS: whoever logs in with a password shows no certificate.
    fn without_tls_key(&self) -> IdentitySettings {
        let (message_key, certificate) = (self.path().join("cp-1.key"), self.path().join("cp-1.der"));
        let key = SigningKey::from_bytes(&[3; 32]);
        let identity = grid_protocol::identity::Identity {
            site: name("demo"),
            role: Role::Device,
            name: name("cp-1"),
            key: key.verifying_key(),
        };
        fs::write(&message_key, key.to_pkcs8_pem(LineEnding::LF).unwrap()).unwrap();
        fs::write(&certificate, self.issuer.issue(&identity, unix_now()).unwrap().0).unwrap();
        IdentitySettings::Files { message_key, certificate, authority: self.path().join("ca.pem"), tls_key: None }
    }

    fn bundle(&self, who: &str) -> IdentitySettings {
        let file = self.path().join(format!("{who}.bundle"));
        let bundle = self.issuer.issue_bundle(name(who), Role::Guest, unix_now()).unwrap();
        fs::write(&file, bundle.to_pem().unwrap()).unwrap();
        IdentitySettings::Bundle(file)
    }

    /// A meter that reads it as this user, or as this certificate's owner.
    fn meter(&self, client: &str, user: Option<&str>, identity: IdentitySettings) -> Box<dyn Meter> {
        let plain = BrokerSettings::plain("localhost", self.address.port());
        let password_file = user.map(|user| self.path().join(format!("{user}.password")));
        let settings = MqttSettings {
            unit: Unit::W,
            invert: false,
            nominal_mv: MilliVolts(230_000),
            interval_ms: Millis(100),
            client: Some(name(client)),
            broker: BrokerSettings { tls: true, user: user.map(str::to_owned), password_file, ..plain },
            identity: Some(identity),
            phase: vec![PhaseTopic { topic: TOPIC.to_owned(), pointer: Some("/a_act_power".to_owned()) }],
        };
        MeterSettings::Mqtt(Box::new(settings)).meter(&name("cp-1"), &self.without_tls_key()).unwrap()
    }
}

/// Reads, while the shelly says this, until it reads what is wanted.
fn until(site: &Site, meter: &mut dyn Meter, wanted: impl Fn(&Result<Reading, MeterError>) -> bool) {
    let end = Instant::now() + SOON;
    loop {
        site.shelly_says("{\"a_act_power\":3680.0}");
        let reading = meter.read(Duration::from_millis(300));
        if wanted(&reading) {
            return;
        }
        assert!(Instant::now() < end, "{reading:?}");
    }
}

#[test]
fn a_meter_on_the_sites_own_broker_is_read_by_whom_a_grant_lets_read_it() {
    let site = Site::start();
    let reads_16_a = |reading: &Result<Reading, MeterError>| {
        reading.as_ref().is_ok_and(|reading| reading.currents() == [MilliAmps(16_000)])
    };
    let mut as_user = site.meter("as-user", Some("cp-1-meter"), site.without_tls_key());
    until(&site, as_user.as_mut(), reads_16_a);
    let mut as_guest = site.meter("cp-1-meter", None, site.bundle("cp-1-meter"));
    until(&site, as_guest.as_mut(), reads_16_a);
    let mut stranger = site.meter("stranger", Some("stranger"), site.without_tls_key());
    until(&site, stranger.as_mut(), |reading| {
        assert!(reading.is_err(), "{reading:?}");
        matches!(reading, Err(error @ MeterError::TopicSilent { .. }) if error.to_string().contains("[[grant]]"))
    });
}
