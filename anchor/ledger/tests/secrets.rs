//! Nothing that is said or written down tells the key: neither logs, errors and debug output, nor any file but its own.

#![allow(clippy::unwrap_used)]

mod support;

use std::fmt::Write as _;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use grid_ledger::{InitSettings, IotaLedger, Ledger, Step, Watch, init};
use support::forms::{forms, key_in_pem};
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

/// Words that stand one after the other.
fn threes(words: &str) -> Vec<String> {
    let words: Vec<_> = words.split(' ').collect();
    words.windows(3).map(|three| three.join(" ")).collect()
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
    let secrets = [forms(&key_in_pem(&pem)), threes(&words.lock().unwrap()), vec!["iotaprivkey".to_owned()]];
    for form in secrets.concat() {
        assert!(form.len() > 8);
        assert!(!output.contains(&form), "the output has {form:?}");
        assert!(!files.contains(&form), "a file has {form:?}");
    }
}
