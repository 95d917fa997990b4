//! The table of behaviours, and what a driver is told of it.
//!
//! `behaviours.json` leaves out what goes without saying. Here each row becomes a list of complete steps: repeated
//! steps are written out, topics get a first level that no other row uses, and every value that a driver looks at is
//! there. A key that does not belong to its step is refused, so that a slip of the pen does not weaken a row.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};

pub type Step = Map<String, Value>;

/// One row of the table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// A sentence.
    pub name: String,
    /// The protocol versions that it holds for: `3.1.1`, `5`.
    pub mqtt: Vec<String>,
    /// Which brokers must show it.
    pub shown_by: ShownBy,
    /// Why mosquitto does not show it.
    pub because: Option<String>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShownBy {
    Both,
    Ours,
}

/// What one client library cannot do, and why, by kind of step as [`kinds`] names them.
pub type Lacks = BTreeMap<String, String>;

/// Steps: the key that names the step (its value is the client), and the keys that may come with it.
const STEPS: &[(&str, &[&str])] = &[
    (
        "connect",
        &[
            "id",
            "mqtt",
            "session",
            "session_expiry",
            "keep_alive",
            "pings",
            "will",
            "receive_maximum",
            "maximum_packet_size",
            "authentication_method",
            "holds_acknowledgements",
            "again",
            "session_present",
            "announced",
            "refused",
        ],
    ),
    ("subscribe", &["to", "qos", "granted", "no_local", "retain_as_published", "retain_handling", "identifier"]),
    ("unsubscribe", &["from", "answer"]),
    ("publish", &["topic", "payload", "payload_bytes", "qos", "retain", "properties", "unanswered"]),
    ("finished", &[]),
    (
        "receive",
        &["topic", "payload", "payload_bytes", "qos", "retain", "repeated", "properties", "identifiers", "any_order"],
    ),
    ("nothing_more", &["after", "topic"]),
    ("acknowledge", &[]),
    ("lose", &["packet"]),
    ("leave", &["with_will"]),
    ("cut", &[]),
    ("gone", &["reason"]),
    ("wait_ms", &[]),
];

/// More messages than this one by one are too many for a client that starts a process for each.
const MANY: u64 = 60;

/// Reads the table.
pub fn read(text: &str) -> Vec<Row> {
    let rows: Vec<Row> = serde_json::from_str(text).unwrap_or_else(|error| panic!("behaviours.json: {error}"));
    let mut names = BTreeSet::new();
    for row in &rows {
        let name = &row.name;
        assert!(names.insert(name), "two rows are called {name:?}");
        assert!(
            !row.mqtt.is_empty() && row.mqtt.iter().all(|version| matches!(&**version, "3.1.1" | "5")),
            "{name:?}: mqtt {:?}",
            row.mqtt
        );
        assert_eq!(
            row.because.is_some(),
            row.shown_by == ShownBy::Ours,
            "{name:?}: `because` says why it is ours alone"
        );
        for step in &row.steps {
            let (verb, keys) = verb(step);
            for key in step.keys().filter(|key| *key != verb && *key != "times") {
                assert!(keys.contains(&&**key), "{name:?}: a step {verb:?} has no {key:?}");
            }
        }
    }
    rows
}

fn verb(step: &Step) -> (&'static str, &'static [&'static str]) {
    let found = STEPS.iter().find(|(verb, _)| step.contains_key(*verb));
    *found.unwrap_or_else(|| panic!("this is no step: {step:?}"))
}

fn text<'a>(step: &'a Step, key: &str) -> &'a str {
    step[key].as_str().unwrap_or_else(|| panic!("{key:?} is not a text in {step:?}"))
}

/// What a driver must be able to do for this row: each step (`lose`), each of its keys (`lose.packet`), and what is
/// unusual in a value or in how the steps go together.
pub fn kinds(row: &Row) -> BTreeSet<String> {
    let mut kinds = BTreeSet::new();
    let mut roles: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    let mut published = 0;
    for step in &row.steps {
        let (verb, _) = verb(step);
        kinds.insert(verb.to_owned());
        for key in step.keys().filter(|key| *key != verb && *key != "times") {
            kinds.insert(format!("{verb}.{key}"));
        }
        if let Some(client) = step[verb].as_str() {
            *roles.entry(client).or_default().entry(verb).or_default() += 1;
        }
        match verb {
            "connect" if step.get("id").is_some_and(|id| id == "") => {
                kinds.insert("connect without an id".to_owned());
            }
            "connect" if step.get("will").is_some_and(|will| will.get("properties").is_some()) => {
                kinds.insert("connect.will.properties".to_owned());
            }
            "subscribe" => {
                for filter in texts(&step["to"]).iter().filter(|filter| is_bad(filter)) {
                    kinds.insert(
                        if filter.is_empty() { "subscribe to nothing" } else { "subscribe to an invalid filter" }
                            .to_owned(),
                    );
                }
            }
            "publish" => {
                published += step.get("times").and_then(Value::as_u64).unwrap_or(1);
                let topic = text(step, "topic");
                if topic.is_empty() {
                    kinds.insert("publish to an empty topic".to_owned());
                } else if topic.contains(['#', '+', '\0']) {
                    kinds.insert("publish to an invalid topic".to_owned());
                }
            }
            "receive" if step.get("identifiers").and_then(Value::as_array).is_some_and(|all| all.len() > 1) => {
                kinds.insert("receive several identifiers".to_owned());
            }
            _ => {}
        }
    }
    if published > MANY {
        kinds.insert(format!("more than {MANY} messages"));
    }
    for does in roles.values() {
        let count = |verb| does.get(verb).copied().unwrap_or(0);
        if count("subscribe") > 1 {
            kinds.insert("a client that subscribes twice".to_owned());
        }
        if count("subscribe") > 0 && count("publish") > 0 {
            kinds.insert("a client that subscribes and publishes".to_owned());
        }
        if count("subscribe") == 0 && count("publish") == 0 {
            kinds.insert("a client that neither subscribes nor publishes".to_owned());
        }
        if count("leave") + count("cut") > 0 && count("subscribe") == 0 {
            kinds.insert("a client that stays without a subscription".to_owned());
        }
    }
    kinds
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(all) => all.iter().map(|one| one.as_str().unwrap().to_owned()).collect(),
        one => vec![one.as_str().unwrap().to_owned()],
    }
}

/// Not valid by section 4.7 of both specifications.
fn is_bad(filter: &str) -> bool {
    let mut levels = filter.split('/').rev();
    let last = levels.next().unwrap_or_default();
    filter.is_empty()
        || levels.any(|level| level.contains('#'))
        || (last.contains('#') && last != "#")
        || filter.split('/').any(|level| level.contains('+') && level != "+")
}

/// The row as a driver performs it. `place` is a topic level that no other row has.
pub fn plan(row: &Row, version: &str, place: &str) -> Value {
    let mut steps = Vec::new();
    let last_word = highest_qos(row);
    for step in &row.steps {
        match step.get("times").map(|times| times.as_u64().unwrap()) {
            None => steps.extend(complete(step, version, place, last_word)),
            Some(times) => {
                for number in 1..=times {
                    steps.extend(complete(&substituted(step, "{n}", &number.to_string()), version, place, last_word));
                }
            }
        }
    }
    json!({ "name": title(row, version), "steps": steps })
}

/// The QoS of a message that nothing of this row comes after: a client hands a message at QoS 2 to its application later
/// than one at QoS 1 that it received after it.
fn highest_qos(row: &Row) -> u64 {
    let published = row.steps.iter().filter(|step| step.contains_key("publish"));
    published.map(|step| step["qos"].as_u64().unwrap()).max().unwrap_or(0).max(1)
}

/// How a row is called in a driver's output.
pub fn title(row: &Row, version: &str) -> String {
    format!("{} (MQTT {version})", row.name)
}

fn substituted(step: &Step, what: &str, by: &str) -> Step {
    fn replace(value: &Value, what: &str, by: &str) -> Value {
        match value {
            Value::String(text) => Value::String(text.replace(what, by)),
            Value::Array(all) => all.iter().map(|one| replace(one, what, by)).collect(),
            Value::Object(all) => all.iter().map(|(key, one)| (key.clone(), replace(one, what, by))).collect(),
            other => other.clone(),
        }
    }
    step.iter().map(|(key, value)| (key.clone(), replace(value, what, by))).collect()
}

/// The topic or filter at its row's place. Where `{row}` is in it, it has its place already.
fn placed(topic: &str, place: &str) -> String {
    if topic.is_empty() || topic.starts_with("$SYS/") || topic.contains("{row}") {
        topic.replace("{row}", place)
    } else {
        format!("{place}/{topic}")
    }
}

/// The value of a step, or of its entry for this version if it differs between them; `null` without one.
fn by_version(value: Option<&Value>, version: &str) -> Value {
    match value {
        Some(Value::Object(versions)) => versions.get(version).cloned().unwrap_or(Value::Null),
        Some(value) => value.clone(),
        None => Value::Null,
    }
}

fn payload(step: &Step) -> Value {
    match step.get("payload_bytes") {
        Some(length) => "x".repeat(usize::try_from(length.as_u64().unwrap()).unwrap()).into(),
        None => step.get("payload").unwrap_or_else(|| panic!("no payload in {step:?}")).clone(),
    }
}

/// The step with everything that the table leaves out.
fn complete(step: &Step, version: &str, place: &str, last_word: u64) -> Vec<Value> {
    let (verb, _) = verb(step);
    let client = &step[verb];
    let or = |key: &str, default: Value| step.get(key).cloned().unwrap_or(default);
    let head = json!({ "do": verb, "client": client });
    let rest = match verb {
        "connect" => connect(step, version, place),
        "subscribe" => {
            let filters = texts(&step["to"]);
            let granted = match by_version(step.get("granted"), version) {
                Value::Null => filters.iter().map(|_| step["qos"].clone()).collect(),
                granted => granted,
            };
            let mut rest = json!({
                "to": filters.iter().map(|filter| placed(filter, place)).collect::<Vec<_>>(),
                "qos": step["qos"],
                "granted": granted,
                "no_local": or("no_local", false.into()),
                "retain_as_published": or("retain_as_published", false.into()),
                "retain_handling": or("retain_handling", 0.into()),
            });
            if let Some(identifier) = step.get("identifier") {
                rest["identifier"] = identifier.clone();
            }
            rest
        }
        "unsubscribe" => json!({
            "from": placed(text(step, "from"), place),
            "answer": by_version(step.get("answer"), version),
        }),
        "publish" => json!({
            "topic": placed(text(step, "topic"), place),
            "payload": payload(step),
            "qos": step["qos"],
            "retain": or("retain", false.into()),
            "properties": or("properties", json!({})),
            "unanswered": or("unanswered", false.into()),
        }),
        "receive" => json!({
            "topic": placed(text(step, "topic"), place),
            "payload": payload(step),
            "qos": step["qos"],
            "retain": or("retain", false.into()),
            "repeated": or("repeated", Value::Null),
            "properties": or("properties", json!({})),
            "identifiers": or("identifiers", json!([])),
            "any_order": or("any_order", false.into()),
        }),
        // What comes next is a message that was published after all others.
        "nothing_more" => {
            let (topic, payload) = (placed(text(step, "topic"), place), "nothing more before this");
            return vec![
                json!({
                    "do": "publish", "client": step["after"], "topic": topic, "payload": payload, "qos": last_word,
                    "retain": false, "properties": {}, "unanswered": false,
                }),
                json!({
                    "do": "receive", "client": client, "topic": topic, "payload": payload, "any_order": false,
                }),
            ];
        }
        "lose" => json!({ "packet": step["packet"] }),
        "leave" => json!({ "with_will": or("with_will", false.into()) }),
        "gone" => json!({ "reason": by_version(step.get("reason"), version) }),
        "wait_ms" => return vec![json!({ "do": verb, "milliseconds": client })],
        _ => json!({}),
    };
    vec![merged(head, rest)]
}

fn connect(step: &Step, version: &str, place: &str) -> Value {
    let or = |key: &str, default: Value| step.get(key).cloned().unwrap_or(default);
    let session = or("session", "new".into());
    let id = match step.get("id") {
        Some(id) => id.as_str().unwrap().replace("{row}", place),
        None => format!("{place}-{}", text(step, "connect")),
    };
    let mut rest = json!({
        "mqtt": or("mqtt", version.into()),
        "id": id,
        "session": session,
        "keep_alive": or("keep_alive", 60.into()),
        "pings": or("pings", true.into()),
        "holds_acknowledgements": or("holds_acknowledgements", false.into()),
        "again": or("again", false.into()),
        "session_present": or("session_present", Value::Null),
        "announced": or("announced", json!({})),
        "refused": or("refused", 0.into()),
    });
    if let Some(will) = step.get("will") {
        let topic = placed(will["topic"].as_str().unwrap(), place);
        let given = json!({ "retain": false, "properties": {} });
        rest["will"] = merged(merged(given, will.clone()), json!({ "topic": topic }));
    }
    for key in ["receive_maximum", "maximum_packet_size", "authentication_method"] {
        if let Some(value) = step.get(key) {
            rest[key] = value.clone();
        }
    }
    if version == "5" && session == "kept" {
        rest["session_expiry_interval"] = 60.into();
    }
    if let Some(expiry) = step.get("session_expiry") {
        rest["session_expiry_interval"] = expiry.clone();
    }
    rest
}

/// Both objects in one; the second one's entries count.
fn merged(mut first: Value, second: Value) -> Value {
    let (Some(all), Value::Object(more)) = (first.as_object_mut(), second) else {
        panic!("two objects");
    };
    all.extend(more);
    first
}
