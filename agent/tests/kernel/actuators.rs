//! PWM and relay: the safe state at the start, on stop and from outside, and what the kernel has against it.

use std::io::Read;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use grid_protocol::message::Event;

use crate::agent::{INA219, Machine, SIX_AMPERES_UV, Site, TTL, device, is_fed, starves, until};
use crate::emulated::{Channel, EACCES, EBUSY, EINVAL, EIO, ENOENT, Errno, Kernel};
use crate::mosquitto::Process;

const PILOT: &str = "[meter.none]\nbase_ma = [0]\n[actuator.control_pilot]\n";
const RELAY: &str = "[meter.none]\nbase_ma = [0]\n[actuator.relay]\nline = 17\nactive_low = true\n";
const CONSTANT: &str = "[meter.none]\nbase_ma = [2000, 2000, 2000]\n";
const DUTY: &str = "/sys/class/pwm/pwmchip0/pwm0/duty_cycle";

const EXPORT: &str = "/sys/class/pwm/pwmchip0/export";

/// The control pilot of 6 A: a tenth of 1 ms.
const SIX_AMPERES: Channel = Channel { period: 1_000_000, duty_cycle: 100_000, inversed: false, enabled: true };

fn safe(machine: &Machine, actuator: &str) -> (i32, String) {
    machine.result("safe", &device(actuator), &[])
}

/// The kernel closes what a program had open before that has ended; here it takes a moment more.
fn until_free(kernel: &Kernel) {
    until("the line is free", || !kernel.gpio.is_taken(17));
}

#[test]
fn a_channel_that_nobody_used_before_is_exported_and_runs_in_its_safe_state() {
    for inverted in [false, true] {
        let machine = Machine::boot();
        assert_eq!(machine.kernel.sysfs.channel(), None);
        let (code, text) = safe(&machine, &format!("{PILOT}inverted = {inverted}\n"));
        assert_eq!((code, text.as_str()), (0, "cp-1: the safe state is set, 6000 mA per phase\n"));
        let wanted = Channel { inversed: inverted, ..SIX_AMPERES };
        assert_eq!(machine.kernel.sysfs.channel(), Some(wanted), "{:?}", machine.kernel.journal());
    }
}

#[test]
fn a_channel_that_did_something_else_before_is_turned_over_only_while_it_is_off() {
    let machine = Machine::boot();
    assert_eq!(safe(&machine, PILOT).0, 0);
    let lamp = "[meter.none]\nbase_ma = [0]\n[actuator.pwm]\nperiod_ns = 50000\ninverted = true\n";
    let (code, text) = safe(&machine, lamp);
    assert_eq!(code, 0, "{text}");
    let dimmed = Channel { period: 50_000, duty_cycle: 18_750, inversed: true, enabled: true };
    assert_eq!(machine.kernel.sysfs.channel(), Some(dimmed));
    assert_eq!(safe(&machine, PILOT).0, 0);
    assert_eq!(machine.kernel.sysfs.channel(), Some(SIX_AMPERES));
}

#[test]
fn a_lamp_that_is_dark_when_safe_gives_its_channel_back() {
    let machine = Machine::boot();
    let settings =
        device("[meter.none]\nbase_ma = [0]\n[actuator.pwm]\n").replace("failsafe_ma = 6000", "failsafe_ma = 0");
    let (code, text) = machine.result("safe", &settings, &[]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(machine.kernel.sysfs.channel(), None);
    assert!(machine.kernel.journal().contains(&"write /sys/class/pwm/pwmchip0/unexport 0".to_owned()));
}

#[test]
fn what_udev_has_not_given_away_yet_is_waited_for() {
    let machine = Machine::boot();
    refuse_to_export(&machine.kernel, EACCES);
    thread::scope(|scope| {
        let kernel = &machine.kernel;
        scope.spawn(|| {
            until("it is tried", || kernel.journal().contains(&format!("open {EXPORT}")));
            thread::sleep(Duration::from_millis(100));
            kernel.allow(EXPORT);
        });
        let (code, text) = safe(&machine, PILOT);
        assert_eq!(code, 0, "{text}");
    });
    assert_eq!(machine.kernel.sysfs.channel(), Some(SIX_AMPERES));
}

#[test]
fn a_pilot_that_runs_is_not_interrupted_by_a_restart() {
    let machine = Machine::boot();
    let writes = || machine.kernel.journal().into_iter().filter(|entry| entry.starts_with("write")).collect::<Vec<_>>();
    assert_eq!(safe(&machine, PILOT).0, 0);
    let before = writes().len();
    assert_eq!(safe(&machine, PILOT).0, 0);
    let enable = "write /sys/class/pwm/pwmchip0/pwm0/enable 1".to_owned();
    assert_eq!(writes()[before..], [format!("write {DUTY} 100000"), enable], "what it says already");
}

/// What keeps the safe state from being set, and words that must be said of it.
type InTheWay = (&'static str, &'static str, fn(&Kernel), &'static str);

const IN_THE_WAY: [InTheWay; 9] = [
    ("no PWM", PILOT, |kernel| kernel.sysfs.remove_pwm(), "there is no /sys/class/pwm/pwmchip0: enable PWM"),
    ("no channel", CHANNEL_9, |_| (), "/sys/class/pwm/pwmchip0 has no channel 9"),
    (
        "PWM not ours",
        PILOT,
        |kernel| refuse_to_export(kernel, EACCES),
        "pwmchip0/export may not be written: add the agent's user",
    ),
    (
        "duty not ours",
        PILOT,
        |kernel| kernel.refuse(DUTY, EACCES),
        "duty_cycle may not be written: add the agent's user",
    ),
    ("PWM busy", PILOT, |kernel| refuse_to_export(kernel, EBUSY), "pwmchip0/export is busy"),
    ("PWM broken", PILOT, |kernel| kernel.sysfs.break_channels(Some(EIO)), "does not take"),
    ("line busy", RELAY, |kernel| kernel.gpio.take(17, true), "line 17 of /dev/gpiochip0 is busy: `gpioinfo` tells"),
    ("GPIO not ours", RELAY, |kernel| kernel.refuse("/dev/gpiochip0", EACCES), "/dev/gpiochip0 may not be opened: add"),
    ("no GPIO", RELAY, |kernel| kernel.refuse("/dev/gpiochip0", ENOENT), "there is no /dev/gpiochip0: name another"),
];

const CHANNEL_9: &str = "[meter.none]\nbase_ma = [0]\n[actuator.control_pilot]\nchannel = 9\n";

fn refuse_to_export(kernel: &Kernel, errno: Errno) {
    kernel.refuse(EXPORT, errno);
}

#[test]
fn each_thing_that_keeps_the_safe_state_from_being_set_is_told_in_words_of_its_own() {
    for (what, actuator, occurs, words) in IN_THE_WAY {
        let machine = Machine::boot();
        occurs(&machine.kernel);
        let (code, text) = safe(&machine, actuator);
        assert!(code == 1 && text.contains("cp-1 is not in its safe state") && text.contains(words), "{what}: {text}");
    }
    let machine = Machine::boot();
    let (code, text) = safe(&machine, &RELAY.replace("17", "99"));
    assert!(code == 1 && text.contains("line 99 of /dev/gpiochip0 cannot be used so"), "{text}");
    machine.kernel.gpio.is_gone(true);
    let (code, text) = safe(&machine, RELAY);
    assert!(code == 1 && text.contains("line 17 of /dev/gpiochip0: ") && text.contains("No such device"), "{text}");
}

#[test]
fn a_relay_is_open_or_closed_from_the_moment_its_line_is_taken() {
    let machine = Machine::boot();
    // The relay is on while its line is low, and 6 A let it close.
    assert_eq!(safe(&machine, &RELAY.replace("line = 17", "line = 17\non_ma = 9000")).0, 0);
    assert!(machine.kernel.gpio.is_high(17));
    until_free(&machine.kernel);
    assert_eq!(safe(&machine, RELAY).0, 0);
    assert!(!machine.kernel.gpio.is_high(17));
}

#[test]
fn the_safe_state_is_set_before_anything_else_is_touched() {
    let site = Site::new();
    site.kernel().i2c.solder(0x40, SIX_AMPERES_UV);
    let settings =
        site.device(&format!("{}[actuator.control_pilot]\n", INA219), "phases = [\"L1\"]\nfailsafe_ma = 6000\n");
    let _agent = site.run(&settings);
    let opened = || site.kernel().journal().iter().position(|entry| entry == "open /dev/i2c-1");
    until("the meter is opened", || opened().is_some());
    let before = site.kernel().journal()[..opened().unwrap()].to_vec();
    for written in [format!("write {DUTY} 100000"), "write /sys/class/pwm/pwmchip0/pwm0/enable 1".to_owned()] {
        assert!(before.contains(&written), "{before:?}");
    }
    assert!(before.iter().all(|entry| entry.contains("/sys/class/pwm/")), "{before:?}");
}

#[test]
fn a_pilot_follows_the_lease_and_is_left_safe_when_the_agent_is_told_to_end() {
    let site = Site::new();
    let heard = site.hear("cp-1");
    let _transformer = site.transformer(CONSTANT, "[\"L1\"]", "");
    let mut agent = site.run(&site.device(PILOT, "phases = [\"L1\"]\nfailsafe_ma = 6000\n"));
    let duty = || site.kernel().sysfs.channel().map_or(0, |channel| channel.duty_cycle);
    // IEC 61851-1: I / 0.6 per cent of 1 ms.
    let shows = |limit_ma: i64| duty() == u64::try_from(limit_ma * 50 / 3).unwrap();
    heard.measurement(|said| said.limit_ma.0 == 16_000 && shows(16_000));
    site.command("trafo-1", "limit", "6900");
    heard.measurement(|said| (6_001..9_000).contains(&said.limit_ma.0) && shows(said.limit_ma.0));
    site.command("cp-1", "charging", "OFF");
    heard.measurement(|said| said.limit_ma.0 == 0 && duty() == 1_000_000);
    site.command("cp-1", "charging", "ON");
    heard.measurement(|said| said.limit_ma.0 > 6_000 && shows(said.limit_ma.0));
    agent.signal("-TERM");
    assert!(agent.ended().success());
    assert_eq!(site.kernel().sysfs.channel(), Some(SIX_AMPERES));
}

#[test]
fn a_stopped_agent_sets_nothing_and_a_pwm_channel_is_made_safe_from_outside_all_the_same() {
    let site = Site::new();
    let heard = site.hear("cp-1");
    let _transformer = site.transformer(CONSTANT, "[\"L1\"]", "");
    let settings = site.device(PILOT, "phases = [\"L1\"]\nfailsafe_ma = 6000\n");
    let agent = site.run(&settings);
    heard.measurement(|said| said.limit_ma.0 > 12_000);
    agent.signal("-STOP");
    thread::sleep(TTL * 2);
    assert!(site.kernel().sysfs.channel().unwrap().duty_cycle > 200_000, "its own thread is stopped with it");
    let (code, text) = site.machine.result("safe", &settings, &[]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(site.kernel().sysfs.channel(), Some(SIX_AMPERES));
    // Awake again, it knows that its lease is over.
    agent.signal("-CONT");
    heard.measurement(|said| said.limit_ma.0 == 6_000);
}

#[test]
fn a_relay_opens_at_the_end_of_the_lease_when_nobody_leads_it() {
    let site = Site::new();
    let heard = site.hear("cp-1");
    let transformer = site.transformer(CONSTANT, "[\"L1\"]", "");
    let mut agent = site.run(&site.device(RELAY, "phases = [\"L1\"]\n"));
    heard.measurement(|said| said.limit_ma.0 > 6_000);
    let is_closed = || !site.kernel().gpio.is_high(17);
    until("it closes", is_closed);
    drop(transformer);
    until("it opens", || !is_closed());
    let _transformer = site.transformer(CONSTANT, "[\"L1\"]", "");
    until("it closes again", is_closed);
    agent.signal("-TERM");
    assert!(agent.ended().success());
    assert!(!is_closed());
    until_free(site.kernel());
}

#[test]
fn the_watchdog_bites_a_stopped_agent_and_only_then_its_line_is_free_for_the_safe_state() {
    let site = Site::new();
    let heard = site.hear("cp-1");
    let _transformer = site.transformer(CONSTANT, "[\"L1\"]", "");
    let settings = site.device(RELAY, "phases = [\"L1\"]\n");
    let (mut agent, notified) = site.run_watched(&settings, TTL / 2);
    heard.measurement(|said| said.limit_ma.0 > 6_000);
    until("it closes", || !site.kernel().gpio.is_high(17));
    is_fed(&notified);
    agent.signal("-STOP");
    starves(&notified);
    let (code, text) = site.machine.result("safe", &settings, &[]);
    assert!(code == 1 && text.contains("line 17 of /dev/gpiochip0 is busy"), "{text}");
    assert!(!site.kernel().gpio.is_high(17));

    // systemd kills the agent, and `ExecStopPost=` comes after that.
    agent.signal("-KILL");
    agent.ended();
    until_free(site.kernel());
    let (code, text) = site.machine.result("safe", &settings, &[]);
    assert_eq!(code, 0, "{text}");
    assert!(site.kernel().gpio.is_high(17));
}

#[test]
fn a_watchdog_that_would_let_a_hanging_agent_outlast_its_lease_is_warned_of_and_one_that_would_not_is_none() {
    let settings = |site: &Site| site.device(PILOT, "phases = [\"L1\"]\nfailsafe_ma = 6000\n");
    for (watchdog, is_late) in [(TTL / 2 + Duration::from_millis(1), true), (TTL / 2, false)] {
        let site = Site::new();
        let (mut command, notified) = site.watched(&settings(&site), watchdog);
        let mut agent = Process(command.stderr(Stdio::piped()).spawn().unwrap());
        is_fed(&notified);
        agent.0.kill().unwrap();
        let mut said = String::new();
        agent.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said.contains("WatchdogSec=750ms or less"), is_late, "{watchdog:?}: {said}");
    }
}

#[test]
fn an_actuator_that_the_kernel_refuses_is_told_of_and_taken_up_again_when_it_works() {
    let site = Site::new();
    let heard = site.hear("cp-1");
    let _transformer = site.transformer(CONSTANT, "[\"L1\"]", "");
    let _agent = site.run(&site.device(PILOT, "phases = [\"L1\"]\nfailsafe_ma = 6000\n"));
    heard.measurement(|said| said.limit_ma.0 > 12_000);
    site.kernel().sysfs.break_channels(Some(EINVAL));
    let told = heard.event(|event| matches!(event, Event::ActuatorFailed { .. }));
    assert!(matches!(&told, Event::ActuatorFailed { why } if why.contains("duty_cycle does not take")), "{told:?}");
    site.kernel().sysfs.break_channels(None);
    heard.event(|event| *event == Event::Recovered {});
    heard.measurement(|said| said.limit_ma.0 > 12_000);

    // A write that does not come back holds up nothing but itself.
    site.kernel().hang(DUTY);
    let told = heard.event(|event| matches!(event, Event::ActuatorFailed { .. }));
    assert!(matches!(&told, Event::ActuatorFailed { why } if why.contains("does not answer within")), "{told:?}");
    heard.measurement(|_| true);
    site.kernel().go_on(DUTY);
    heard.event(|event| *event == Event::Recovered {});
    heard.measurement(|said| said.limit_ma.0 > 12_000);
}

#[test]
fn a_call_that_does_not_come_back_outlives_no_lease_for_longer_than_the_watchdog_waits() {
    let site = Site::new();
    let heard = site.hear("cp-1");
    let _transformer = site.transformer(CONSTANT, "[\"L1\"]", "");
    let settings = site.device(PILOT, "phases = [\"L1\"]\nfailsafe_ma = 6000\n");
    let (mut agent, notified) = site.run_watched(&settings, TTL / 2);
    heard.measurement(|said| said.limit_ma.0 > 12_000);
    is_fed(&notified);
    site.kernel().hang(DUTY);
    starves(&notified);
    assert!(site.kernel().sysfs.channel().unwrap().duty_cycle > 200_000, "nobody can set it");
    // It goes on measuring and telling meanwhile.
    heard.measurement(|_| true);

    agent.signal("-KILL");
    agent.ended();
    site.kernel().go_on(DUTY);
    let (code, text) = site.machine.result("safe", &settings, &[]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(site.kernel().sysfs.channel(), Some(SIX_AMPERES));
}

#[test]
fn an_actuator_that_fails_is_heard_while_the_meter_says_nothing() {
    let site = Site::new();
    site.kernel().i2c.solder(0x40, SIX_AMPERES_UV);
    let heard = site.hear("cp-1");
    let _transformer = site.transformer(CONSTANT, "[\"L1\"]", "");
    let with_pilot = format!("{INA219}[actuator.control_pilot]\n");
    let _agent = site.run(&site.device(&with_pilot, "phases = [\"L1\"]\nfailsafe_ma = 6000\n"));
    heard.measurement(|said| said.limit_ma.0 > 12_000);
    site.kernel().hang("/dev/i2c-1");
    heard.event(|event| matches!(event, Event::MeterFailed { .. }));
    site.kernel().sysfs.switch_off();
    let told = heard.event(|event| matches!(event, Event::ActuatorFailed { .. }));
    assert!(matches!(&told, Event::ActuatorFailed { why } if why.contains("enable 0")), "{told:?}");
}

#[test]
fn a_relay_whose_chip_was_gone_takes_its_line_again() {
    let site = Site::new();
    let heard = site.hear("cp-1");
    let transformer = site.transformer(CONSTANT, "[\"L1\"]", "");
    let _agent = site.run(&site.device(RELAY, "phases = [\"L1\"]\n"));
    heard.measurement(|said| said.limit_ma.0 > 6_000);
    site.kernel().gpio.is_gone(true);
    let told = heard.event(|event| matches!(event, Event::ActuatorFailed { .. }));
    assert!(matches!(&told, Event::ActuatorFailed { why } if why.contains("line 17 of /dev/gpiochip0")), "{told:?}");
    site.kernel().gpio.is_gone(false);
    heard.event(|event| *event == Event::Recovered {});
    heard.measurement(|said| said.limit_ma.0 > 6_000);
    until("it has its line and closes", || site.kernel().gpio.is_taken(17) && !site.kernel().gpio.is_high(17));
    drop(transformer);
    until("it opens", || site.kernel().gpio.is_high(17));
}
