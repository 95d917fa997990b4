use super::*;

const RATINGS: Ratings = Ratings {
    min_ma: MilliAmps(6_000),
    max_ma: MilliAmps(32_000),
    failsafe_ma: MilliAmps(0),
    min_on: Millis(0),
    min_off: Millis(0),
    phases: 3,
    max_ttl: Millis(10_000),
};

fn read(text: &str) -> ActuatorSection {
    #[derive(Deserialize)]
    struct Whole {
        actuator: ActuatorSection,
    }
    toml::from_str::<Whole>(text).unwrap().actuator
}

/// What is wrong with this section, in words.
fn complaints(text: &str, ratings: Ratings) -> String {
    let identity = IdentitySettings::Bundle("/nowhere".into());
    let mut wrong = Problems::default();
    read(text).check(&ratings, &identity, &mut wrong);
    wrong.check().err().map(|error| error.to_string()).unwrap_or_default()
}

const CHARGER: &str = "[actuator.mqtt]\ntopic = \"wb/limit\"\npayload = \"{{amps}}\"\n";

#[test]
fn each_kind_needs_little_more_than_its_name() {
    for text in ["[actuator.pwm]", "[actuator.control_pilot]", "[actuator.relay]\nline = 17"] {
        assert_eq!(complaints(text, RATINGS), "", "{text}");
    }
    let fed = format!("{CHARGER}charger_fallback_ms = 5000");
    assert_eq!(complaints(&fed, RATINGS), "");
}

#[test]
fn a_charger_that_never_falls_back_must_have_its_maximum_reserved() {
    let said = complaints(CHARGER, RATINGS);
    assert!(said.contains("device.failsafe_ma = 0: expected max_ma = 32000"), "{said}");
    assert!(said.contains("charger_fallback_ms") && said.contains("reserved"), "{said}");
    assert_eq!(complaints(CHARGER, Ratings { failsafe_ma: MilliAmps(32_000), ..RATINGS }), "");
}

#[test]
fn every_wrong_value_of_a_charger_is_named() {
    let text = "[actuator.mqtt]\ntopic = \"wb/#\"\npayload = \"{{amps}}\"\non_payload = \"1\"\nrepeat_ms = 4000\n\
                change_time_ms = 6000\ncharger_fallback_ms = 6000\n[actuator.mqtt.read_back]\ntopic = \"wb/state\"\n\
                pointer = \"amps\"\n[actuator.mqtt.broker]\nuser = \"cp-2\"\n";
    let said = complaints(text, RATINGS);
    for named in [
        "actuator.mqtt.topic = \"wb/#\"",
        "without off_payload",
        "pointer = \"amps\"",
        "change_time_ms = 6000: expected at most 5000",
        "charger_fallback_ms = 6000: expected at most 5000",
        "repeat_ms = 4000: expected at most half",
        "broker.password_file",
    ] {
        assert!(said.contains(named), "{named} in {said}");
    }
}

#[test]
fn what_a_pilot_a_relay_or_a_lamp_cannot_do_is_refused() {
    let little = Ratings { min_ma: MilliAmps(5_000), max_ma: MilliAmps(100_000), ..RATINGS };
    let said = complaints("[actuator.control_pilot]", little);
    assert!(said.contains("6000 at least") && said.contains("80000 at most"), "{said}");
    let said = complaints("[actuator.relay]\nline = 17\non_ma = 40000", RATINGS);
    assert!(said.contains("on_ma = 40000: expected 1 to max_ma = 32000"), "{said}");
    let said = complaints("[actuator.pwm]\nperiod_ns = 10", RATINGS);
    assert!(said.contains("period_ns = 10"), "{said}");
}

#[test]
fn a_charger_has_a_name_of_its_own_at_the_broker_however_long_the_agents_is() {
    assert_eq!(client(&"cp-2".parse().unwrap()).as_str(), "cp-2-charger");
    let long = client(&"a".repeat(32).parse().unwrap());
    assert_eq!(long.as_str().len(), 32);
    assert!(long.as_str().ends_with("a-charger"));
}
