//! Nothing that is said or written down tells the key: neither logs, errors and debug output, nor any file but its own.

#![allow(clippy::unwrap_used)]

mod support;

use std::fmt::Write as _;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use grid_ledger::{InitSettings, IotaLedger, Ledger, Step, Watch, init};
use support::setting::{Setting, record};
use support::{DESCRIPTION, Mock, NAME, init_in};
use tracing_subscriber::filter::LevelFilter;

#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The forms in which a key could get out.
fn forms(pem: &str, words: &str) -> Vec<String> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(&body).unwrap();
    // The last 32 bytes of the PKCS #8 structure (RFC 8410, section 7).
    let key = &der[der.len() - 32..];
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{key:?}");
    let mut forms = vec![
        body,
        STANDARD.encode(key).trim_end_matches('=').to_owned(),
        URL_SAFE_NO_PAD.encode(key),
        // Halves, as they would stand in a list that is cut or broken over lines.
        hex[..32].to_owned(),
        hex[32..].to_owned(),
        list[1..list.len() / 2].to_owned(),
        format!("{key:#?}").lines().skip(1).take(8).collect::<Vec<_>>().join("\n"),
        "iotaprivkey".to_owned(),
    ];
    let words: Vec<_> = words.split(' ').collect();
    forms.extend(words.windows(3).map(|three| three.join(" ")));
    forms
}

#[tokio::test]
async fn no_output_of_a_run_and_no_other_file_tells_the_key() {
    let said = Said::default();
    let writer = said.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_ansi(false);
    subscriber.with_writer(move || writer.clone()).init();

    let folder = tempfile::tempdir().unwrap();
    let mock = Mock::start(&folder.path().join("mock")).await;
    let mut output = String::new();
    let words = Arc::new(Mutex::new(String::new()));
    let (told, steps) = (Arc::clone(&words), Arc::new(Mutex::new(String::new())));
    let seen = Arc::clone(&steps);
    let watch: Watch = Box::new(move |step| {
        // The one way to get at them, by name.
        if let Step::NewKey { words, .. } = &step {
            told.lock().unwrap().push_str(words.expose());
        }
        writeln!(seen.lock().unwrap(), "{step} {step:?}").unwrap();
        ControlFlow::Continue(())
    });
    let report = init_in(&folder.path().join("data"), &mock, Some(watch)).await.unwrap();
    writeln!(output, "{report:?}").unwrap();
    let setting = Setting { folder, mock, report };
    let pem = std::fs::read_to_string(setting.path("data/ledger.key")).unwrap();

    let mut ledger = setting.open().await.unwrap();
    let receipt = ledger.append(&record("text")).await.unwrap();
    writeln!(output, "{receipt:?} {:?} {:?}", ledger.seal().await, ledger.purse().await).unwrap();
    // Signed and left over, so that the file with the signed bytes is looked at too.
    ledger.watch(Box::new(|_| ControlFlow::Break(())));
    let mut errors = vec![ledger.append(&record("left over")).await.unwrap_err()];
    assert!(setting.has_pending());
    ledger.limit_cost(1);
    errors.push(IotaLedger::open(&setting.path("data"), &setting.mock.endpoints()).await.err().unwrap());
    drop(ledger);
    errors.push(setting.open_at(vec!["http://127.0.0.1:1".to_owned()]).await.err().unwrap());
    let mut files = String::new();
    for entry in std::fs::read_dir(setting.path("data")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap() != "ledger.key" {
            files.push_str(&String::from_utf8_lossy(&std::fs::read(path).unwrap()));
        }
    }
    // A key file that is damaged in several ways: the errors must not quote it.
    for damaged in [pem.replace('-', "+"), pem.replacen("\n", "\n!", 1), pem[..pem.len() / 2].to_owned()] {
        std::fs::write(setting.path("data/ledger.key"), damaged).unwrap();
        errors.push(setting.open().await.err().unwrap());
        let (folder, endpoints) = (setting.path("data"), setting.mock.endpoints());
        let settings = InitSettings { folder: &folder, endpoints: &endpoints, name: NAME, description: DESCRIPTION };
        errors.push(init(settings, None).await.unwrap_err());
    }
    for error in &errors {
        writeln!(output, "{error} {error:?} {error:#?}").unwrap();
    }
    output.push_str(&steps.lock().unwrap());
    output.push_str(&String::from_utf8_lossy(&said.0.lock().unwrap()));
    // It was listened to: the logs are there, down to the finest.
    assert!(output.contains("TRACE") && output.contains("executed"), "{}", output.len());
    for form in forms(&pem, &words.lock().unwrap()) {
        assert!(form.len() > 8);
        assert!(!output.contains(&form), "the output has {form:?}");
        assert!(!files.contains(&form), "a file has {form:?}");
    }
}
