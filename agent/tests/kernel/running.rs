//! Agents that run while wires come off: what they tell, what their actuators do, and that they go on by themselves.

use grid_agent::simulated_ina219::Fault;
use grid_protocol::message::Event;

use crate::agent::{INA219, SIX_AMPERES_UV, Site, until};
use crate::emulated::EAGAIN;
use crate::faults::{Happening, fails, fault, mend, overflow, taken_away};
use crate::mosquitto::Heard;

const DEVICE: &str = "phases = [\"L1\"]\nfailsafe_ma = 6000\n";
const CONSTANT: &str = "[meter.none]\nbase_ma = [2000, 2000, 2000]\n";

fn with_pilot() -> String {
    format!("{INA219}[actuator.control_pilot]\n")
}

#[track_caller]
fn trouble(heard: &Heard, fault: &str, words: &str) {
    let told = heard.event(|event| matches!(event, Event::MeterTrouble { .. }));
    assert!(matches!(&told, Event::MeterTrouble { why } if why.contains(words)), "{fault}: {told:?}");
}

#[test]
fn a_device_whose_meter_is_lost_goes_to_its_failsafe_limit_and_on_when_the_wire_is_back() {
    let site = Site::new();
    site.kernel().i2c.solder(0x40, SIX_AMPERES_UV);
    let heard = site.hear("cp-1");
    let _transformer = site.transformer(CONSTANT, "[\"L1\"]", "");
    let _agent = site.run(&site.device(&with_pilot(), DEVICE));
    let duty = || site.kernel().sysfs.channel().map_or(0, |channel| channel.duty_cycle);
    let said = heard.measurement(|said| said.limit_ma.0 > 12_000 && duty() > 200_000);
    assert_eq!(said.current_ma[0].0, 6_000);

    site.kernel().i2c.set_fault(0x40, Fault::Absent);
    trouble(&heard, "absent", "no chip answers at 0x40 on /dev/i2c-1");
    let told = heard.event(|event| !matches!(event, Event::MeterTrouble { .. }));
    assert!(matches!(&told, Event::MeterFailed { why } if why.contains("no chip answers at 0x40")), "{told:?}");
    until("the pilot tells 6 A", || duty() == 100_000);

    site.kernel().i2c.set_fault(0x40, Fault::None);
    assert_eq!(heard.event(|_| true), Event::Recovered {});
    heard.measurement(|said| said.limit_ma.0 > 12_000 && duty() > 200_000);
}

#[test]
fn a_bus_whose_calls_never_come_back_is_a_meter_that_is_lost_and_keeps_nobody_from_ending() {
    let site = Site::new();
    site.kernel().i2c.solder(0x40, SIX_AMPERES_UV);
    let heard = site.hear("cp-1");
    let _transformer = site.transformer(CONSTANT, "[\"L1\"]", "");
    let mut agent = site.run(&site.device(&with_pilot(), DEVICE));
    let duty = || site.kernel().sysfs.channel().map_or(0, |channel| channel.duty_cycle);
    heard.measurement(|said| said.limit_ma.0 > 12_000);
    for ends in [false, true] {
        site.kernel().hang("/dev/i2c-1");
        let told = heard.event(|event| matches!(event, Event::MeterFailed { .. }));
        assert!(matches!(&told, Event::MeterFailed { why } if why.contains("no reading for")), "{told:?}");
        until("the pilot tells 6 A", || duty() == 100_000);
        if ends {
            agent.signal("-TERM");
            assert!(agent.ended().success());
        }
        site.kernel().go_on("/dev/i2c-1");
        if !ends {
            assert_eq!(heard.event(|_| true), Event::Recovered {});
            heard.measurement(|said| said.limit_ma.0 > 12_000);
        }
    }
}

/// Each kind of complaint is told once a minute, so none comes twice here: a chip that was swapped also converts nothing.
const STEPS: [Happening; 8] = [
    ("brown-out", |kernel| kernel.i2c.brown_out(0x40), "had lost its configuration"),
    ("calibrated by others", overflow, "reports an overflow (OVF)"),
    ("gone in a read", |kernel| fault(kernel, Fault::DisappearsAfter(3)), "no chip answers"),
    ("data held", |kernel| fails(kernel, EAGAIN), "is stuck (arbitration is lost"),
    ("converts nothing", |kernel| fault(kernel, Fault::NoConversion), "has converted nothing"),
    ("swapped", |kernel| fault(kernel, Fault::OtherKind), "is not an INA219"),
    ("no permission", taken_away, "sudo usermod -aG i2c USER"),
    ("unplugged", |kernel| kernel.i2c.unplug(), "there is no /dev/i2c-1"),
];

#[test]
fn each_fault_is_an_event_while_the_agent_runs_and_it_measures_again_when_it_is_over() {
    let site = Site::new();
    let shunt = site.kernel().i2c.solder(0x40, 160_000);
    let heard = site.hear("cp-1");
    let _agent = site.run(&site.device(INA219, DEVICE));
    heard.measurement(|said| said.current_ma[0].0 == 24_000);
    for (fault, occurs, words) in STEPS {
        occurs(site.kernel());
        eprintln!("{fault}");
        heard.event(|event| matches!(event, Event::MeterTrouble { why } if why.contains(words)));
        mend(site.kernel());
        // Anything that is measured from here on is new: it differs from what was measured before.
        for amperes in [15_000, 24_000] {
            shunt.becomes(amperes * 100 / 15);
            heard.measurement(|said| said.stale_ms.is_none() && said.current_ma[0].0 == amperes);
        }
    }
    shunt.becomes(400_000);
    heard.event(|event| *event == Event::MeterSaturated {});
}

#[test]
fn a_transformer_whose_meter_is_lost_takes_everybody_to_failsafe_and_leads_again_when_it_is_back() {
    let site = Site::new();
    let [shunt, ..] = [0x40, 0x41, 0x44].map(|address| site.kernel().i2c.solder(address, 20_000));
    let meter =
        [0x40, 0x41, 0x44].map(|address| format!("[[meter.ina219]]\naddress = {address}\nscale = 15\n")).concat();
    let (heard, of_device) = (site.hear("trafo-1"), site.hear("cp-1"));
    let _transformer = site.transformer(&meter, "[\"L1\"]", "");
    let _agent = site.run(&site.device("[meter.none]\nbase_ma = [0]\n", DEVICE));
    of_device.measurement(|said| said.limit_ma.0 > 12_000);

    site.kernel().i2c.unplug();
    trouble(&heard, "unplugged", "the adapter of /dev/i2c-1 is gone");
    heard.event(|event| matches!(event, Event::MeterStale { .. }));
    heard.event(|event| matches!(event, Event::MeterFailed { .. }));
    of_device.measurement(|said| said.limit_ma.0 == 6_000);
    site.kernel().i2c.plug_in();
    heard.event(|event| *event == Event::Recovered {});
    of_device.measurement(|said| said.limit_ma.0 > 12_000);

    // 60 A where 48 A can be measured, and 25 A may flow.
    shunt.becomes(400_000);
    heard.event(|event| *event == Event::MeterSaturated {});
    of_device.measurement(|said| said.limit_ma.0 == 0);
}

#[test]
fn a_contact_between_a_line_and_ground_dims_and_a_line_that_is_lost_changes_nothing() {
    let site = Site::new();
    let (heard, of_device) = (site.hear("trafo-1"), site.hear("cp-1"));
    let contact = "[transformer.dimming_contact]\nline = 27\nlimit_w = 4200\n";
    let phases = "[\"L1\", \"L2\", \"L3\"]";
    let _transformer = site.transformer(CONSTANT, phases, contact);
    let on_three_phases = format!("phases = {phases}\nfailsafe_ma = 6000\n");
    let _agent = site.run(&site.device("[meter.none]\nbase_ma = [0, 0, 0]\n", &on_three_phases));
    of_device.measurement(|said| said.limit_ma.0 > 12_000);

    site.kernel().gpio.hold(27, Some(false));
    let told = heard.event(|event| matches!(event, Event::DimmingChanged { .. }));
    assert!(matches!(told, Event::DimmingChanged { old_w: None, new_w: Some(4_200), .. }), "{told:?}");
    // 4.2 kW on three phases.
    of_device.measurement(|said| (6_000..=6_087).contains(&said.limit_ma.0));

    site.kernel().gpio.is_gone(true);
    let told = heard.event(|_| true);
    assert!(matches!(&told, Event::ContactFailed { why } if why.contains("line 27 of /dev/gpiochip0")), "{told:?}");
    site.kernel().gpio.hold(27, None);
    site.kernel().gpio.is_gone(false);
    assert_eq!(heard.event(|_| true), Event::ContactRecovered {});
    let told = heard.event(|_| true);
    assert!(matches!(told, Event::DimmingChanged { old_w: Some(4_200), new_w: None, .. }), "{told:?}");
    of_device.measurement(|said| said.limit_ma.0 > 12_000);
}

#[test]
fn a_contact_whose_line_is_taken_at_the_start_is_named() {
    let site = Site::new();
    site.kernel().gpio.take(27, true);
    let contact = "[transformer.dimming_contact]\nline = 27\nlimit_w = 4200\n";
    let (code, text) = site.machine.result("run", &site.transformer_settings(CONSTANT, "[\"L1\"]", contact), &[]);
    assert!(code == 1 && text.contains("line 27 of /dev/gpiochip0 is busy"), "{text}");
}
