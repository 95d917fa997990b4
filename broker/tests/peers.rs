//! The broker as clients see it that others wrote: Eclipse paho-mqtt (Python), MQTT.js over TCP and WebSocket, and
//! mosquitto's own programs.
//!
//! `peers/behaviours.json` says what must happen, `peers/table.rs` how it is read; each client library has a driver
//! that performs it. Every row runs against our broker, and against a mosquitto where both must agree, which shows that
//! the row is right. `peers/README.md` says more.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

#[path = "peers/mosquitto.rs"]
mod mosquitto;
mod support;
#[path = "peers/table.rs"]
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use grid_broker::{Access, Limits, Sockets};
use mosquitto::{ForeignBroker, free_address};
use serde_json::{Value, json};
use support::Broker;
use table::{Lacks, Row, ShownBy};
use tokio::net::TcpListener;

/// How long a driver may take for all rows; each of its steps has a limit of its own.
const TIME_LIMIT: Duration = Duration::from_secs(180);

/// A program that performs the table with one client library.
struct Driver {
    /// As in `drivers.json`.
    library: &'static str,
    /// In the folder that `prepare` fills, or on the path.
    program: &'static str,
    arguments: &'static [&'static str],
    websocket: bool,
}

const PAHO: Driver =
    Driver { library: "paho-mqtt", program: "venv/bin/python", arguments: &["-B", "paho_mqtt.py"], websocket: false };
const MQTT_JS: Driver =
    Driver { library: "MQTT.js", program: "node", arguments: &["mqttjs.mjs", "mqtt"], websocket: false };
const MQTT_JS_WEBSOCKET: Driver =
    Driver { library: "MQTT.js", program: "node", arguments: &["mqttjs.mjs", "ws"], websocket: true };
const MOSQUITTO_CLIENTS: Driver = Driver {
    library: "mosquitto_pub and mosquitto_sub",
    program: "venv/bin/python",
    arguments: &["-B", "mosquitto_clients.py"],
    websocket: false,
};

#[tokio::test(flavor = "multi_thread")]
async fn paho_sees_what_the_table_says() {
    perform_table(&PAHO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mqtt_js_sees_what_the_table_says() {
    perform_table(&MQTT_JS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mqtt_js_sees_what_the_table_says_over_websocket() {
    perform_table(&MQTT_JS_WEBSOCKET).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquittos_own_clients_see_what_the_table_says() {
    perform_table(&MOSQUITTO_CLIENTS).await;
}

#[test]
fn every_row_is_performed_by_some_library_and_every_excuse_is_needed() {
    let (rows, lacks) = (rows(), lacks());
    let mut excused = BTreeSet::new();
    for (row, version) in versions(&rows) {
        let kinds = table::kinds(row);
        let performed = lacks.values().any(|lacks| !lacks.keys().any(|kind| kinds.contains(kind)));
        assert!(performed, "nobody performs {:?}", table::title(row, version));
        excused.extend(kinds);
    }
    for (library, lacks) in &lacks {
        for kind in lacks.keys() {
            assert!(excused.contains(kind), "{library} lacks {kind:?}, which no row needs");
        }
    }
}

#[test]
fn a_row_counts_only_if_the_driver_says_that_it_went_well() {
    let rows = ["good", "bad", "left out"].map(|name| json!({ "name": name }));
    let failures = judge("ok\tgood\nfailed\tbad\tstep 1: why\nok\tunheard of\n", &rows);
    assert_eq!(failures, ["failed\tbad\tstep 1: why", "ok\tunheard of", "not performed: left out"]);
}

fn rows() -> Vec<Row> {
    table::read(include_str!("peers/behaviours.json"))
}

fn lacks() -> BTreeMap<String, Lacks> {
    serde_json::from_str(include_str!("peers/drivers.json")).unwrap()
}

/// Each row with each version that it holds for.
fn versions(rows: &[Row]) -> impl Iterator<Item = (&Row, &str)> {
    rows.iter().flat_map(|row| row.mqtt.iter().map(move |version| (row, &**version)))
}

/// Performs all rows that this driver can, against both brokers, and fails if one does not end as it says.
async fn perform_table(driver: &'static Driver) {
    let folder = prepared();
    let (rows, all_lacks) = (rows(), lacks());
    let lacks = &all_lacks[driver.library];
    let (mut for_both, mut for_ours) = (Vec::new(), Vec::new());
    for (place, (row, version)) in versions(&rows).enumerate() {
        let kinds = table::kinds(row);
        let missing: Vec<&str> = lacks.keys().filter(|kind| kinds.contains(*kind)).map(|kind| &**kind).collect();
        if missing.is_empty() {
            let plan = table::plan(row, version, &format!("row-{place}"));
            if row.shown_by == ShownBy::Both { for_both.push(plan) } else { for_ours.push(plan) }
        } else {
            println!("{} cannot perform {:?}: {missing:?}", driver.library, table::title(row, version));
        }
    }
    for_ours.extend(for_both.iter().cloned());

    let (broker, address) = ours(driver.websocket).await;
    let (_data, _mosquitto, foreign_address) = foreign(driver.websocket);
    let ours = tokio::task::spawn_blocking(move || perform(driver, folder, address, &for_ours));
    let foreign = tokio::task::spawn_blocking(move || perform(driver, folder, foreign_address, &for_both));
    let (ours, foreign) = tokio::join!(ours, foreign);
    let failures = [("our broker", ours.unwrap()), ("mosquitto", foreign.unwrap())]
        .into_iter()
        .flat_map(|(broker, failures)| failures.into_iter().map(move |failure| format!("{broker}: {failure}")))
        .collect::<Vec<_>>();
    assert!(failures.is_empty(), "{} rows failed:\n{}", failures.len(), failures.join("\n"));
    broker.stop().await;
}

/// Our broker, and where it listens for what the driver speaks.
async fn ours(websocket: bool) -> (Broker, SocketAddr) {
    let [mqtt, ws] = [bound().await, bound().await];
    let [address, web] = [&mqtt, &ws].map(|listener| listener.local_addr().unwrap());
    let sockets = Sockets { mqtt: Some(mqtt), ws: Some(ws), ..Sockets::default() };
    let broker = Broker::start_at(sockets, address, Limits::default(), Access::open()).await;
    (broker, if websocket { web } else { address })
}

async fn bound() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// The folder that a mosquitto works in, that mosquitto, and where it listens for what the driver speaks.
fn foreign(websocket: bool) -> (tempfile::TempDir, ForeignBroker, SocketAddr) {
    let (tcp, web) = (free_address(), free_address());
    let configuration = format!(
        "allow_anonymous true\nset_tcp_nodelay true\nsys_interval 1\nallow_duplicate_messages false\nmax_inflight_messages 1000\n\
         listener {} 127.0.0.1\nmax_topic_alias 0\nlistener {} 127.0.0.1\nprotocol websockets\nmax_topic_alias 0\n",
        tcp.port(),
        web.port(),
    );
    let folder = tempfile::tempdir().unwrap();
    let broker = ForeignBroker::start(folder.path(), &configuration, tcp);
    (folder, broker, if websocket { web } else { tcp })
}

/// Runs the driver with these rows; returns those that failed, and why.
fn perform(driver: &Driver, folder: &Path, address: SocketAddr, rows: &[Value]) -> Vec<String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
    let prepared = folder.join(driver.program);
    let program = if prepared.exists() { prepared } else { PathBuf::from(driver.program) };
    let mut arguments = driver.arguments.iter().map(|argument| {
        let file = here.join(argument);
        if file.exists() { file } else { PathBuf::from(argument) }
    });
    let mut running = Running(
        Command::new(&program)
            .args(&mut arguments)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Of its own, so that what it starts can be ended with it.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display())),
    );
    let plan = json!({ "host": address.ip(), "port": address.port(), "rows": rows });
    running.0.stdin.take().unwrap().write_all(plan.to_string().as_bytes()).unwrap();
    let mut stdout = running.0.stdout.take().unwrap();
    let (done, finished) = std::sync::mpsc::channel();
    let reading = std::thread::spawn(move || {
        let mut output = String::new();
        stdout.read_to_string(&mut output).unwrap();
        let _ = done.send(());
        output
    });
    let in_time = finished.recv_timeout(TIME_LIMIT).is_ok();
    drop(running);
    let output = reading.join().unwrap();
    assert!(in_time, "{} took longer than {TIME_LIMIT:?}; it said:\n{output}", driver.library);
    judge(&output, rows)
}

/// What is wrong with a driver's output: rows that failed, and rows that it says nothing about.
fn judge(output: &str, rows: &[Value]) -> Vec<String> {
    let mut open: BTreeSet<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    let mut failures = Vec::new();
    for line in output.lines() {
        let mut fields = line.split('\t');
        let (result, name) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let known = open.remove(name);
        if result != "ok" || !known {
            failures.push(line.to_owned());
        }
    }
    failures.extend(open.into_iter().map(|name| format!("not performed: {name}")));
    failures
}

/// A driver; ended with all that it started.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.0.wait();
    }
}

/// The folder with the client libraries, which `prepare` has put there.
fn prepared() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = here.join("../target/peers");
        let prepare = Command::new(here.join("tests/peers/prepare")).arg(&folder).output().unwrap();
        let said = [prepare.stdout, prepare.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(prepare.status.success(), "{said}");
        folder.canonicalize().unwrap()
    })
}
