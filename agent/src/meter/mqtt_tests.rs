use super::*;
use grid_protocol::units::MilliAmps;

fn settings(phases: &[(&str, Option<&str>)]) -> MqttSettings {
    let phase = phases
        .iter()
        .map(|(topic, pointer)| PhaseTopic { topic: (*topic).to_owned(), pointer: pointer.map(str::to_owned) });
    MqttSettings {
        unit: Unit::W,
        invert: false,
        nominal_mv: MilliVolts(230_000),
        interval_ms: Millis(1_000),
        client: None,
        identity: None,
        broker: BrokerSettings::plain("127.0.0.1", 1),
        phase: phase.collect(),
    }
}

fn meter(phases: &[(&str, Option<&str>)]) -> MqttMeter {
    let client = "cp-1-meter".parse().unwrap();
    let mut meter = MqttMeter::new(settings(phases), Broker::plain("127.0.0.1", 1), client);
    meter.lost = None;
    meter
}

fn said(topic: &str, payload: &str) -> Received {
    Received { topic: topic.to_owned(), payload: payload.as_bytes().to_vec().into(), retained: false, publisher: None }
}

#[test]
fn a_reading_is_complete_when_each_phase_was_published_anew_and_is_as_old_as_the_oldest() {
    let mut meter = meter(&[("em/0", None), ("em/1", None)]);
    meter.on_message(&said("em/0", "2300"), 1_000).unwrap();
    assert_eq!(meter.complete(), None);
    meter.on_message(&said("em/1", " -230.0\n"), 2_000).unwrap();
    let reading = meter.complete().unwrap();
    assert_eq!(reading.currents(), [MilliAmps(10_000), MilliAmps(-1_000)]);
    assert_eq!(reading.taken_us, 1_000);
    meter.on_message(&said("em/1", "0"), 3_000).unwrap();
    assert_eq!(meter.complete(), None);
}

#[test]
fn one_topic_may_hold_all_phases_at_json_pointers() {
    let mut meter = meter(&[("em", Some("/em/0/power")), ("em", Some("/em/1/power")), ("em", Some("/a~1b"))]);
    let payload = r#"{"em":[{"power":230.0},{"power":"4.6e2"}],"a/b":-23,"em2":{}}"#;
    meter.on_message(&said("em", payload), 1_000).unwrap();
    let currents = meter.complete().unwrap().currents();
    assert_eq!(currents, [MilliAmps(1_000), MilliAmps(2_000), MilliAmps(-100)]);
}

#[test]
fn a_retained_value_and_another_topic_are_not_taken() {
    let mut meter = meter(&[("em", None)]);
    meter.on_message(&Received { retained: true, ..said("em", "2300") }, 1_000).unwrap();
    meter.on_message(&said("em/x", "2300"), 1_000).unwrap();
    assert_eq!(meter.complete(), None);
}

#[test]
fn nonsense_is_shown_with_what_was_expected() {
    let mut plain = meter(&[("em", None)]);
    for payload in ["", "on", "1,5", "NaN", "{\"power\":1}"] {
        let error = plain.on_message(&said("em", payload), 1_000).unwrap_err().to_string();
        assert!(error.contains(&format!("{payload:?}")) && error.contains("a decimal number"), "{error}");
    }
    let mut json = meter(&[("em", Some("/power"))]);
    for payload in ["12", "{\"power\":null}", "{\"power\":{}}", "{\"current\":1}", "{\"power\":1", "[1]"] {
        let error = json.on_message(&said("em", payload), 1_000).unwrap_err().to_string();
        assert!(error.contains("number at /power"), "{error}");
    }
    assert_eq!(json.complete(), None);
}

#[test]
fn a_silent_topic_and_a_lost_broker_are_told_apart() {
    let mut meter = meter(&[("em/0", None), ("em/1", None)]);
    meter.heard_at = vec![5_000_000, 1_000_000];
    assert!(meter.trouble(3_999_000).is_none());
    let silent = meter.trouble(5_000_000).unwrap().to_string();
    assert!(silent.contains("em/1 for 4000 ms") && silent.contains("every 1000 ms"), "{silent}");
    let lost = meter.on_incoming(Incoming::Lost(Loss::Broken("refused".to_owned()))).unwrap_err().to_string();
    assert!(lost.contains("127.0.0.1:1") && lost.contains("refused"), "{lost}");
    assert_eq!(meter.trouble(5_000_000).unwrap().to_string(), lost);
    meter.on_incoming(Incoming::Connected).unwrap();
    assert!(matches!(meter.trouble(5_000_000), Some(MeterError::TopicSilent { .. })));
}

#[test]
fn every_wrong_value_is_reported_at_once() {
    let wrong = MqttSettings {
        nominal_mv: MilliVolts(0),
        interval_ms: Millis(10),
        ..settings(&[("em/#", None), ("em", Some("power")), ("em", Some("power"))])
    };
    let problems = wrong.problems(&"a".repeat(30).parse().unwrap()).join("\n");
    for named in ["nominal_mv = 0", "interval_ms = 10", "\"em/#\"", "\"power\"", "stands for two phases", "mqtt.client"]
    {
        assert!(problems.contains(named), "{named} in {problems}");
    }
}
