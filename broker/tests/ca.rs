//! `grid-broker ca` as a person uses it, its certificates judged by webpki, OpenSSL and mosquitto.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use grid_protocol::identity::{Authority, Bundle, Serial, named_in, serial_of};
use grid_protocol::message::Role;
use grid_protocol::revocation::{self, RevocationList};
use grid_service::clock::unix_now;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// A folder with an authority in `ca`, in which commands run.
struct Site(tempfile::TempDir);

struct Done {
    code: Option<i32>,
    text: String,
}

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        let done = site.ca(&["init", "--site", "demo", "--host", "localhost", "--host", "127.0.0.1"]);
        assert_eq!(done.code, Some(0), "{}", done.text);
        site
    }

    /// Runs `grid-broker ca …` and says what it says.
    fn ca(&self, arguments: &[&str]) -> Done {
        let mut command = Command::new(env!("CARGO_BIN_EXE_grid-broker"));
        command.arg("ca").args(arguments).args(["--dir", "ca"]).current_dir(self.0.path());
        let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
        Done { code: status.code(), text: [stdout, stderr].map(|text| String::from_utf8(text).unwrap()).concat() }
    }

    /// The same, which must succeed.
    fn does(&self, arguments: &[&str]) -> String {
        let Done { code, text } = self.ca(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {text}");
        text
    }

    /// The same, which must fail and name all this.
    fn refuses(&self, arguments: &[&str], named: &[&str]) {
        let Done { code, text } = self.ca(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
        for named in named {
            assert!(text.contains(named), "{arguments:?} names {named}: {text}");
        }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn authority(&self) -> Authority {
        Authority::from_der(&certificate(&self.path("ca/ca.pem"))).unwrap()
    }

    fn bundle(&self, name: &str) -> Bundle {
        Bundle::read(&fs::read(self.path(&format!("{name}.bundle"))).unwrap()).unwrap()
    }

    fn serial(&self, name: &str) -> Serial {
        serial_of(&self.bundle(name).certificate).unwrap()
    }

    /// What is published at `grid/demo/ca/revoked`.
    fn revoked(&self) -> RevocationList {
        let payload = fs::read(self.path("ca/revoked.json")).unwrap();
        revocation::read(&payload, &"demo".parse().unwrap(), &self.authority()).unwrap()
    }

    fn issued(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("ca/issued")).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        files
    }

    /// All files of the authority with what is in them.
    fn everything(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(self.path("ca")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.into_iter().filter(|path| path.is_file()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }
}

fn certificate(file: &Path) -> Vec<u8> {
    CertificateDer::from_pem_file(file).unwrap().to_vec()
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}

#[test]
fn private_keys_are_for_their_owner_only_and_stand_nowhere_else() {
    let site = Site::new();
    site.does(&["issue", "cp-1", "--role", "device"]);
    for secret in ["ca/ca.key", "ca/broker.key", "cp-1.bundle"] {
        assert_eq!(mode(&site.path(secret)), 0o600, "{secret}");
    }
    let copy = fs::read_to_string(site.path("ca/issued").join(&site.issued()[0])).unwrap();
    assert!(copy.contains("BEGIN CERTIFICATE") && !copy.contains("KEY"), "{copy}");
    assert!(site.everything().iter().all(|(path, _)| !path.to_string_lossy().contains("unfinished")));
}

#[test]
fn an_authority_is_never_overwritten() {
    let site = Site::new();
    let before = site.everything();
    let again = site.does(&["init", "--site", "demo", "--host", "elsewhere.local"]);
    assert!(again.contains("there already; nothing was changed"), "{again}");
    site.refuses(&["init", "--site", "other"], &["ca holds the authority of the site demo", "--dir"]);
    assert_eq!(site.everything(), before);
    fs::remove_file(site.path("ca/ca.pem")).unwrap();
    site.refuses(&["init", "--site", "demo"], &["ca.key is there, but", "ca.pem is not"]);
}

#[test]
fn a_bundle_says_who_somebody_is_and_the_authority_vouches_for_it() {
    let site = Site::new();
    for role in Role::ALL {
        let name = format!("the-{role}");
        let said = site.does(&["issue", &name, "--role", role.as_str()]);
        let bundle = site.bundle(&name);
        let identity = site.authority().check(&bundle.certificate, unix_now()).unwrap();
        assert_eq!((identity.site.as_str(), identity.name.as_str(), identity.role), ("demo", name.as_str(), role));
        assert_eq!(identity.key, bundle.message_key.verifying_key());
        assert_eq!(bundle.authority, site.authority());
        let serial = site.serial(&name);
        assert_eq!(serial.as_bytes().len(), 16);
        assert!(said.contains(&serial.to_string()), "{said}");
        let copy = site.path(&format!("ca/issued/{name}-{serial}.pem"));
        assert_eq!(certificate(&copy), bundle.certificate);
    }
}

#[test]
fn a_name_has_one_certificate_unless_it_is_renewed_or_the_first_is_revoked() {
    let site = Site::new();
    site.does(&["issue", "cp-1", "--role", "device"]);
    let first = site.serial("cp-1").to_string();
    site.refuses(&["issue", "cp-1", "--role", "device"], &["cp-1 has a valid certificate", &first, "--renew"]);
    let renew = ["issue", "cp-1", "--role", "device", "--renew"];
    site.refuses(&renew, &["cp-1.bundle is there already", "--out"]);
    let said = site.does(&[&renew[..], &["--out", "second.bundle"]].concat());
    assert!(said.contains(&format!("ca revoke {first} --dir ca")), "{said}");
    site.does(&["revoke", "cp-1"]);
    assert_eq!(site.revoked().body.revoked.len(), 2, "a name means all its certificates");
    site.does(&["issue", "cp-1", "--role", "device", "--out", "third.bundle"]);
    assert_eq!(site.issued().len(), 3);
}

#[test]
fn a_bundle_that_cannot_be_written_leaves_no_certificate_behind() {
    let site = Site::new();
    let issue = ["issue", "cp-1", "--role", "device", "--out", "nowhere/cp-1.bundle"];
    site.refuses(&issue, &["cannot write nowhere/cp-1.bundle"]);
    assert_eq!(site.issued(), Vec::<String>::new());
    site.does(&["issue", "cp-1", "--role", "device"]);
}

#[test]
fn the_list_of_revoked_certificates_grows_and_its_number_with_it() {
    let site = Site::new();
    let empty = site.revoked();
    assert_eq!((empty.header.seq, empty.body.revoked.len()), (Some(1), 0));
    for name in ["cp-1", "cp-2", "cp-3"] {
        site.does(&["issue", name, "--role", "device"]);
    }
    let said = site.does(&["revoke", "cp-1"]);
    assert!(said.contains(&format!("revoked cp-1 {}", site.serial("cp-1"))), "{said}");
    assert!(said.contains("[access] revocations = \"ca/revoked.json\"") && said.contains("5 s"), "{said}");
    site.does(&["revoke", &site.serial("cp-3").to_string()]);
    let list = site.revoked();
    assert_eq!((list.header.session, list.header.seq), (empty.header.session, Some(3)));
    let names: Vec<&str> = list.body.revoked.iter().map(|revoked| revoked.name.as_str()).collect();
    assert_eq!(names, ["cp-1", "cp-3"]);
    assert!(list.body.contains(&site.serial("cp-3")) && !list.body.contains(&site.serial("cp-2")));
    let again = site.does(&["revoke", "cp-3"]);
    assert!(again.contains("revoked already"), "{again}");
    assert_eq!(site.revoked(), list);
    site.refuses(&["revoke", "cp-9"], &["\"cp-9\"", "grid-broker ca list"]);
}

#[test]
fn a_list_that_somebody_changed_is_not_gone_on_with() {
    let site = Site::new();
    site.does(&["issue", "cp-1", "--role", "device"]);
    let file = site.path("ca/revoked.json");
    let changed = fs::read_to_string(&file).unwrap().replace("\"seq\":1", "\"seq\":9");
    fs::write(&file, changed).unwrap();
    for command in [&["revoke", "cp-1"][..], &["list"], &["issue", "cp-2", "--role", "device"]] {
        site.refuses(command, &["ca/revoked.json", "not signed by the authority"]);
    }
}

#[test]
fn the_list_shows_people_and_programs_who_has_which_certificate() {
    let site = Site::new();
    site.does(&["issue", "trafo-1", "--role", "transformer"]);
    site.does(&["issue", "cp-1", "--role", "device"]);
    site.does(&["revoke", "cp-1"]);
    let table = site.does(&["list"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0].join(" "), "NAME ROLE SERIAL ISSUED VALID UNTIL REVOKED");
    let (cp_1, trafo_1) = (site.serial("cp-1").to_string(), site.serial("trafo-1").to_string());
    assert_eq!([rows[1][0], rows[1][1], rows[1][2], rows[1][5]], ["cp-1", "device", &cp_1, "revoked"]);
    assert_eq!([rows[2][0], rows[2][1], rows[2][2], rows[2][5]], ["trafo-1", "transformer", &trafo_1, "no"]);
    let list: serde_json::Value = serde_json::from_str(&site.does(&["list", "--json"])).unwrap();
    assert_eq!((&list[0]["serial"], &list[0]["revoked"]), (&cp_1.into(), &true.into()));
    assert_eq!((&list[1]["role"], &list[1]["revoked"]), (&"transformer".into(), &false.into()));
    let (issued, until) = (list[1]["issued_ms"].as_u64().unwrap(), list[1]["valid_until_ms"].as_u64().unwrap());
    assert!(unix_now().0.abs_diff(issued) < 60_000, "{issued}");
    assert_eq!(until - issued, 20 * 365 * 24 * 3600 * 1000);
}

#[test]
fn what_cannot_be_done_is_said_with_file_and_remedy() {
    let empty = Site(tempfile::tempdir().unwrap());
    empty.refuses(&["list"], &["no authority in ca", "grid-broker ca init"]);
    let site = Site::new();
    site.refuses(&["issue", "ca", "--role", "device"], &["the authority itself speaks"]);
    site.refuses(&["issue", "Main Street", "--role", "device"], &["Main Street"]);
    site.refuses(&["issue", "cp-1", "--role", "king"], &["king", "transformer"]);
    site.refuses(&["issue-server", "--host", "my broker"], &["\"my broker\""]);
    fs::write(site.path("ca/issued/notes.pem"), "rubbish").unwrap();
    site.refuses(&["list"], &["ca/issued/notes.pem"]);
    fs::remove_file(site.path("ca/issued/notes.pem")).unwrap();
    let key = fs::read_to_string(site.path("ca/ca.key")).unwrap();
    fs::write(site.path("ca/ca.key"), key.replace("-----END", "-----")).unwrap();
    let Done { code, text } = site.ca(&["issue", "cp-1", "--role", "device"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("ca/ca.key") && !text.contains(key.lines().nth(1).unwrap()), "{text}");
}

#[test]
fn every_command_has_help_with_an_example() {
    let site = Site(tempfile::tempdir().unwrap());
    for command in ["init", "issue-server", "issue", "revoke", "list"] {
        let text = site.does(&[command, "--help"]);
        assert!(text.contains("Example:") && text.contains(&format!("grid-broker ca {command}")), "{text}");
    }
}

#[test]
fn the_broker_gets_a_new_certificate_with_a_new_key_and_the_authority_stays() {
    let site = Site::new();
    let (authority, key) = (site.authority(), fs::read(site.path("ca/broker.key")).unwrap());
    site.does(&["issue-server", "--host", "broker.local", "--host", "192.0.2.7"]);
    assert_ne!(fs::read(site.path("ca/broker.key")).unwrap(), key);
    assert_eq!(mode(&site.path("ca/broker.key")), 0o600);
    assert_eq!(site.authority(), authority);
    assert!(named_in(&certificate(&site.path("ca/broker.pem"))).is_err(), "a server is nobody of the grid");
}

/// Where OpenSSL is installed, it agrees.
#[test]
fn openssl_verifies_what_was_issued_and_reads_both_keys_of_a_bundle() {
    let site = Site::new();
    site.does(&["issue", "cp-1", "--role", "device"]);
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(site.0.path()).output().ok()?;
        Some((output.status.success(), format!("{output:?}")))
    };
    if openssl(&["version"]).is_none() {
        eprintln!("openssl is not installed");
        return;
    }
    let holds = |arguments: &[&str]| {
        let (holds, said) = openssl(arguments).unwrap();
        assert!(holds, "{arguments:?}: {said}");
    };
    holds(&["verify", "-x509_strict", "-CAfile", "ca/ca.pem", "-purpose", "sslclient", "cp-1.bundle"]);
    holds(&[
        "verify",
        "-x509_strict",
        "-CAfile",
        "ca/ca.pem",
        "-purpose",
        "sslserver",
        "-verify_hostname",
        "localhost",
        "ca/broker.pem",
    ]);
    let (is_server, _) = openssl(&["verify", "-CAfile", "ca/ca.pem", "-purpose", "sslserver", "cp-1.bundle"]).unwrap();
    assert!(!is_server, "a device cannot pass for the broker");
    holds(&["pkey", "-in", "cp-1.bundle", "-noout"]);
    let bundle = fs::read_to_string(site.path("cp-1.bundle")).unwrap();
    let message_key = bundle.split("-----BEGIN PRIVATE KEY-----").nth(2).unwrap();
    let message_key = message_key.split("-----END").next().unwrap();
    let message_key = format!("-----BEGIN PRIVATE KEY-----{message_key}-----END PRIVATE KEY-----\n");
    fs::write(site.path("message.key"), message_key).unwrap();
    holds(&["pkey", "-in", "message.key", "-noout"]);
}

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn mosquittos_clients_and_broker_use_the_files_as_they_are() {
    let site = Site::new();
    site.does(&["issue", "anna", "--role", "operator"]);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // As root, mosquitto would become another user and could not read the broker's key.
    let config = format!(
        "user root\nlistener {port} 127.0.0.1\ncafile ca/ca.pem\ncertfile ca/broker.pem\nkeyfile ca/broker.key\n\
         require_certificate true\nuse_identity_as_username true\n"
    );
    fs::write(site.path("conf"), config).unwrap();
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("mosquitto");
    command.env("PATH", path).args(["-c", "conf"]).current_dir(site.0.path());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("mosquitto is installed");
    let _mosquitto = Process(child);
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(began.elapsed() < Duration::from_secs(10), "mosquitto does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    let client = |program: &str, more: &[&str]| {
        let mut command = Command::new(program);
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", "grid/demo/trafo-1/set/limit", "-q", "1"]);
        for option in ["--cafile", "--cert", "--key"] {
            command.args([option, "anna.bundle"]);
        }
        command.args(more).current_dir(site.0.path()).output().unwrap()
    };
    let published = client("mosquitto_pub", &["-r", "-m", "70000"]);
    assert!(published.status.success(), "{published:?}");
    let heard = client("mosquitto_sub", &["-C", "1", "-W", "10"]);
    assert_eq!(String::from_utf8_lossy(&heard.stdout), "70000\n", "{heard:?}");
}

#[test]
fn a_bundle_belongs_to_whoever_issued_it_by_sudo() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root gives files away: not tested");
        return;
    }
    use std::os::unix::fs::MetadataExt;
    let site = Site::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_grid-broker"));
    command.args(["ca", "issue", "cp-1", "--role", "device", "--dir", "ca"]).current_dir(site.0.path());
    let done = command.env("SUDO_UID", "1234").env("SUDO_GID", "1235").output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let bundle = fs::metadata(site.path("cp-1.bundle")).unwrap();
    assert_eq!((bundle.uid(), bundle.gid(), bundle.mode() & 0o777), (1234, 1235, 0o600));
}
