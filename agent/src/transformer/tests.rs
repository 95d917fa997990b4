use super::*;
use crate::lease::Terms;
use grid_protocol::message::{Activity, Capabilities, DeviceKind, Phase, Presence};

use grid_protocol::units::{MilliVolts, MilliWattHours, UnixMillis};

const OURS: Session = Session(7);
const TTL: Millis = Millis(3000);
/// A new transformer has waited long enough.
const READY: u64 = 3190;

#[derive(Default)]
struct Spoken {
    seq: u64,
    setpoints: Vec<(String, Setpoint, u64)>,
    events: Vec<Event>,
    raising: usize,
}

impl Voice for Spoken {
    fn setpoint(&mut self, device: &Name, setpoint: Setpoint) -> u64 {
        self.seq += 1;
        self.setpoints.push((device.to_string(), setpoint, self.seq));
        self.seq
    }

    fn raising(&mut self, _device: &Name, _room: PerPhase) {
        self.raising += 1;
    }

    fn event(&mut self, event: Event) {
        self.events.push(event);
    }
}

/// A transformer of 60 A a phase with two charge points on L1, and the messages it sends.
struct Bench {
    transformer: Transformer,
    voice: Spoken,
    seq: u64,
}

fn header(name: &str, seq: u64) -> Header {
    Header { from: name.parse().unwrap(), session: Session(1), seq: Some(seq), time_ms: UnixMillis(0) }
}

fn status(max: i64, phases: Vec<Phase>) -> Status {
    Status {
        state: Presence::Online,
        part: Part::Device(Capabilities::any_current(DeviceKind::Ev, phases, MilliAmps(6_000), MilliAmps(max))),
        software: String::new(),
        time_factor: 1,
        plant_time_ms: None,
        ends: None,
        previous: None,
        certificate: String::new(),
    }
}

impl Bench {
    fn new() -> Self {
        let enrolment = |name: &str| Enrolment {
            name: name.parse().unwrap(),
            phases: vec![Phase::L1],
            failsafe_ma: MilliAmps(0),
            fuse: None,
        };
        let devices = vec![enrolment("cp-1"), enrolment("cp-2")];
        // 60 A a phase.
        let plan =
            Plan { margin_ma: Some(MilliAmps(1_000)), ..Plan::new(41_400, Terms { ttl: TTL, max_ttl: TTL }, devices) };
        let transformer = Transformer::new(plan, Millis(20), OURS, 1, BootTime(0));
        let mut bench = Self { transformer, voice: Spoken::default(), seq: 0 };
        for name in ["cp-1", "cp-2"] {
            let born = status(32_000, vec![Phase::L1]);
            bench.transformer.on_status(&name.parse().unwrap(), &born, &mut bench.voice);
        }
        bench
    }

    fn read(&mut self, now: u64, load: i64) {
        let load = [MilliAmps(load), MilliAmps(0), MilliAmps(0)];
        self.transformer.on_reading(load, false, BootTime(now), BootTime(now), &mut self.voice);
    }

    /// Readings of the same load until no report looks as if it was changing.
    fn read_calmly(&mut self, from: u64, load: i64) -> u64 {
        (0..=11).for_each(|step| self.read(from + step * 10, load));
        from + 110
    }

    /// `name` says that it draws `current`, wants `demand`, obeys setpoint `obeys` with this limit, and has settled.
    fn hear(&mut self, now: u64, name: &str, current: i64, demand: i64, obeys: Option<(u64, i64)>) {
        self.seq += 1;
        let measurement = Measurement {
            uptime_ms: Millis(0),
            state: Activity::Charging,
            current_ma: vec![MilliAmps(current)],
            voltage_mv: vec![MilliVolts(230_000)],
            stale_ms: None,
            limit_ma: MilliAmps(obeys.map_or(0, |(_, limit)| limit)),
            obeys: obeys.map(|(seq, _)| Reference { session: OURS, seq }),
            settled: true,
            lease_ms: Millis(0),
            demand_ma: MilliAmps(demand),
            energy_mwh: MilliWattHours(0),
            priority: None,
        };
        self.transformer.on_measurement(&header(name, self.seq), measurement, BootTime(now), &mut self.voice);
        self.transformer.settle(BootTime(now), &mut self.voice);
    }

    /// What was sent since the last look: to whom, limit, hold, number.
    fn sent(&mut self) -> Vec<(String, i64, bool, u64)> {
        let sent = std::mem::take(&mut self.voice.setpoints);
        sent.into_iter().map(|(name, setpoint, seq)| (name, setpoint.limit_ma.0, setpoint.hold, seq)).collect()
    }

    /// What was told since the last look.
    fn told(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.voice.events)
    }

    /// A base of `load`, and all leases of earlier transformers are over. Returns the time.
    fn ready(&mut self, load: i64) -> u64 {
        let now = self.read_calmly(READY, load);
        assert_eq!(self.told(), [Event::LeadingBegan {}]);
        now
    }

    /// The car at `name` follows whatever it is sent until it may draw `wanted`, and draws it, on a base of `base`.
    /// Returns the time.
    fn raise(&mut self, mut now: u64, name: &str, wanted: i64, base: i64) -> u64 {
        let mut current = 0;
        self.hear(now, name, current, wanted, None);
        while current < wanted {
            assert!(now < 60_000, "{name} is not raised");
            now += 10;
            self.read(now, base + current);
            for (to, limit, hold, seq) in self.sent() {
                assert!(to == name && !hold && limit >= current, "{to} {limit}");
                current = limit;
                self.hear(now + 1, name, current, wanted, Some((seq, limit)));
            }
        }
        now
    }

    /// cp-1 has been raised to 32 A and draws it, on a base of 20 A. Returns the time and the number of the newest
    /// setpoint.
    fn with_one_car(&mut self) -> (u64, u64) {
        let now = self.ready(20_000);
        let now = self.raise(now, "cp-1", 32_000, 20_000);
        let now = self.read_calmly(now + 10, 52_000);
        // Enough for the ramp to allow another second of rising.
        let now = now + 900;
        self.hear(now, "cp-1", 32_000, 32_000, Some((self.voice.seq, 32_000)));
        self.hear(now + 1, "cp-1", 32_000, 32_000, Some((self.voice.seq, 32_000)));
        let now = self.read_calmly(now + 10, 52_000);
        self.sent();
        assert_eq!(self.told(), []);
        (now, self.voice.seq)
    }
}

#[test]
fn a_second_car_is_raised_only_when_the_decrease_of_the_first_is_proven() {
    let mut bench = Bench::new();
    let (now, newest) = bench.with_one_car();
    bench.hear(now, "cp-2", 0, 32_000, None);
    // 60 A less 20 A base and 1 A margin are 39 A; for lowering half the margin counts: 39.5 A.
    assert_eq!(
        bench.sent(),
        [("cp-2".to_owned(), 7_000, false, newest + 1), ("cp-1".to_owned(), 19_750, false, newest + 2)]
    );
    bench.hear(now + 3, "cp-2", 0, 32_000, Some((newest + 1, 7_000)));
    bench.read(now + 4, 52_000);
    assert_eq!(bench.sent(), []);
    bench.hear(now + 5, "cp-1", 19_750, 32_000, Some((newest + 2, 19_750)));
    assert_eq!(bench.sent(), []);
    bench.read(now + 10, 39_750);
    // 39 A less cp-1's 19.75 A are left, but what the first 7 A left of the ramp's 12 A a second comes first.
    let (name, ramped, hold, seq) = bench.sent().remove(0);
    assert_eq!((name.as_str(), ramped, hold), ("cp-2", 12_120, false));
    bench.hear(now + 12, "cp-2", 0, 32_000, Some((seq, ramped)));
    bench.read(now + 700, 39_750);
    assert_eq!(bench.sent(), [("cp-2".to_owned(), 19_250, false, seq + 1)]);
}

#[test]
fn a_decrease_is_repeated_every_50_ms_until_it_has_arrived() {
    let mut bench = Bench::new();
    let (now, _) = bench.with_one_car();
    for at in (now..now + 200).step_by(10) {
        bench.read(at, 72_000);
    }
    let sent = bench.sent();
    assert_eq!(sent.len(), 4, "{sent:?}");
    assert!(sent.iter().all(|(_, limit, hold, _)| *limit == 19_500 && *hold));
    let (_, _, _, newest) = sent[3].clone();
    bench.hear(now + 201, "cp-1", 19_500, 32_000, Some((newest, 19_500)));
    for at in (now + 205..now + 400).step_by(10) {
        bench.read(at, 59_500);
    }
    assert_eq!(bench.sent(), []);
}

#[test]
fn a_new_transformer_sends_only_holds_at_or_below_what_devices_report() {
    let mut bench = Bench::new();
    bench.read(0, 40_000);
    let mut at = 10;
    while at < READY {
        bench.hear(at, "cp-1", 20_000, 32_000, None);
        bench.read(at + 5, 40_000);
        at += 500;
    }
    let sent = bench.sent();
    assert!(sent.len() >= 3 && sent.iter().all(|(_, limit, hold, _)| *hold && *limit == 0), "{sent:?}");
    assert_eq!(bench.voice.raising, 0);
}

#[test]
fn the_share_of_a_silent_device_goes_to_others_when_its_lease_is_over_and_not_before() {
    let mut bench = Bench::new();
    let (now, _) = bench.with_one_car();
    // It was heard of last at now − 119. Its power is cut; 3 % and 100 ms later than its ttl its lease is over. Until
    // then 39 A less its 32 A are left for the other.
    let over = now - 119 + counted_for(TTL).0;
    let (mut raised_at, mut obeys) = (None, None);
    for at in (now..over + 500).step_by(10) {
        bench.read(at, 20_000);
        bench.transformer.on_tick(BootTime(at), &mut bench.voice);
        bench.hear(at + 1, "cp-2", 0, 32_000, obeys);
        for (name, limit, hold, seq) in bench.sent() {
            if name == "cp-2" && !hold {
                obeys = Some((seq, limit));
                raised_at = raised_at.or((limit > 7_000).then_some(at));
            }
        }
    }
    let raised_at = raised_at.unwrap();
    assert!((over..over + 300).contains(&raised_at), "{raised_at} instead of {over}");
    let device = "cp-1".parse().unwrap();
    assert!(bench.told().contains(&Event::DeviceLost { device }));
    bench.hear(over + 501, "cp-1", 0, 0, None);
    let device = "cp-1".parse().unwrap();
    assert_eq!(bench.told(), [Event::DeviceBack { device }]);
}

#[test]
fn nothing_is_raised_on_an_old_reading_and_a_failed_meter_sends_all_to_failsafe() {
    let mut bench = Bench::new();
    let (now, _) = bench.with_one_car();
    bench.hear(now + 61, "cp-2", 0, 32_000, None);
    assert!(bench.sent().iter().all(|(name, limit, _, _)| name == "cp-1" || *limit == 0));
    bench.hear(now + 2000, "cp-1", 32_000, 32_000, Some((1, 32_000)));
    bench.sent();
    bench.transformer.on_tick(BootTime(now + 2001), &mut bench.voice);
    assert!(bench.voice.events.iter().any(|event| matches!(event, Event::MeterFailed { .. })));
    let sent = bench.sent();
    assert!(sent.iter().any(|(name, limit, _, _)| name == "cp-1" && *limit == 0), "{sent:?}");
    bench.read(now + 2500, 20_000);
    assert!(bench.voice.events.contains(&Event::Recovered {}));
}

#[test]
fn a_saturated_reading_takes_back_a_tenth() {
    let mut bench = Bench::new();
    let (now, newest) = bench.with_one_car();
    let load = [MilliAmps(52_000), MilliAmps(0), MilliAmps(0)];
    bench.transformer.on_reading(load, true, BootTime(now + 10), BootTime(now + 10), &mut bench.voice);
    assert_eq!(bench.sent(), [("cp-1".to_owned(), 28_800, false, newest + 1)]);
    assert_eq!(bench.voice.events, [Event::MeterSaturated {}]);
    bench.hear(now + 12, "cp-1", 28_800, 32_000, Some((newest + 1, 28_800)));
    bench.transformer.on_tick(BootTime(now + 15), &mut bench.voice);
    assert_eq!(bench.sent(), []);
}

#[test]
fn a_finished_car_gives_back_and_is_then_left_alone() {
    let mut bench = Bench::new();
    let (now, newest) = bench.with_one_car();
    bench.hear(now, "cp-1", 0, 0, Some((newest, 32_000)));
    assert_eq!(bench.sent(), [("cp-1".to_owned(), 0, false, newest + 1)]);
    bench.hear(now + 3, "cp-1", 0, 0, Some((newest + 1, 0)));
    bench.read_calmly(now + 5, 20_000);
    bench.hear(now + 3000, "cp-1", 0, 0, Some((newest + 1, 0)));
    assert_eq!(bench.sent(), []);
}

#[test]
fn a_lease_is_renewed_once_a_heartbeat() {
    let mut bench = Bench::new();
    let (mut now, _) = bench.with_one_car();
    let mut renewals = 0;
    for _ in 0..5 {
        now += 1000;
        bench.read(now - 1, 52_000);
        bench.hear(now, "cp-1", 32_000, 32_000, Some((bench.voice.seq, 32_000)));
        let sent = bench.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        bench.hear(now + 2, "cp-1", 32_000, 32_000, Some((bench.voice.seq, 32_000)));
        assert_eq!(bench.sent(), []);
        renewals += 1;
    }
    assert_eq!(renewals, 5);
}

#[test]
fn a_device_on_other_phases_than_enrolled_gets_nothing() {
    let mut bench = Bench::new();
    let name: Name = "cp-1".parse().unwrap();
    bench.transformer.on_status(&name, &status(32_000, vec![Phase::L2]), &mut bench.voice);
    assert!(matches!(&bench.voice.events[..], [Event::EnrolmentDiffers { .. }]));
    let now = bench.read_calmly(READY, 20_000);
    bench.hear(now, "cp-1", 0, 32_000, None);
    assert!(bench.sent().iter().all(|(_, limit, _, _)| *limit == 0));
}

#[test]
fn an_overload_is_told_when_control_did_not_end_it_and_when_it_is_over() {
    let mut bench = Bench::new();
    let now = bench.ready(20_000);
    for at in (now..now + 200).step_by(10) {
        bench.read(at, 61_000);
    }
    assert_eq!(bench.told(), []);
    bench.read(now + 200, 61_000);
    bench.read(now + 210, 59_000);
    bench.read(now + 220, 61_000);
    bench.read(now + 230, 59_000);
    bench.read(now + 430, 59_000);
    let (load_ma, limit_ma) = (MilliAmps(61_000), MilliAmps(60_000));
    let phase = Phase::L1;
    assert_eq!(
        bench.voice.events,
        [Event::OverloadStarted { phase, load_ma, limit_ma }, Event::OverloadEnded { phase }]
    );
}

#[test]
fn the_balance_says_load_and_how_much_is_held_back() {
    let mut bench = Bench::new();
    let (now, _) = bench.with_one_car();
    bench.hear(now, "cp-2", 0, 32_000, None);
    let balance = bench.transformer.balance(BootTime(now)).unwrap();
    assert_eq!(balance.load_ma[0], MilliAmps(52_000));
    assert_eq!(balance.uncontrolled_ma[0], MilliAmps(20_000));
    assert_eq!(balance.headroom_ma[0], MilliAmps(8_000));
    assert_eq!((balance.devices, balance.held_back_percent), (2, 38));
}

#[test]
fn who_draws_more_than_it_may_is_told_of_once() {
    let mut bench = Bench::new();
    let (now, _) = bench.with_one_car();
    let device: Name = "cp-2".parse().unwrap();
    bench.hear(now, "cp-2", 5_000, 5_000, None);
    bench.hear(now + 10, "cp-2", 5_000, 5_000, None);
    let (current_ma, limit_ma) = (MilliAmps(5_000), MilliAmps(0));
    assert_eq!(bench.voice.events, [Event::AboveLimit { device, current_ma, limit_ma }]);
}

#[test]
fn a_reserve_that_does_not_fit_is_told_of_also_when_a_device_says_more_than_enrolled() {
    let mut bench = Bench::new();
    let now = bench.ready(50_000);
    let mut born = status(32_000, vec![Phase::L1]);
    if let Part::Device(Capabilities { failsafe_ma, .. }) = &mut born.part {
        *failsafe_ma = MilliAmps(12_000);
    }
    bench.transformer.on_status(&"cp-1".parse().unwrap(), &born, &mut bench.voice);
    bench.read(now + 10, 50_000);
    let (reserve_ma, room_ma) = (MilliAmps(12_000), MilliAmps(10_000));
    assert!(matches!(bench.voice.events[0], Event::EnrolmentDiffers { .. }));
    assert_eq!(bench.voice.events[1..], [Event::ReserveExceedsRoom { phase: Phase::L1, reserve_ma, room_ma }]);
}

#[test]
fn a_status_that_makes_no_sense_is_not_taken_over() {
    let mut bench = Bench::new();
    let mut born = status(32_000, vec![Phase::L1]);
    if let Part::Device(Capabilities { min_ma, .. }) = &mut born.part {
        *min_ma = MilliAmps(-40_000);
    }
    bench.transformer.on_status(&"cp-1".parse().unwrap(), &born, &mut bench.voice);
    assert!(matches!(&bench.voice.events[..], [Event::EnrolmentDiffers { .. }]));
    let now = bench.read_calmly(READY, 20_000);
    bench.hear(now, "cp-1", 0, 32_000, None);
    assert!(bench.sent().iter().all(|(_, limit, _, _)| *limit == 0));
}

#[test]
fn without_a_meter_devices_share_what_the_configured_load_leaves() {
    let mut bench = Bench::new();
    let base = [MilliAmps(40_000), MilliAmps(0), MilliAmps(0)];
    let lead = |bench: &mut Bench, now| bench.transformer.on_base_load(base, BootTime(now), &mut bench.voice);
    for now in (0..READY).step_by(20) {
        lead(&mut bench, now);
    }
    bench.hear(READY, "cp-1", 0, 32_000, None);
    for now in (READY..READY + 3000).step_by(20) {
        lead(&mut bench, now);
        if let Some((_, limit, _, seq)) = bench.sent().into_iter().rfind(|(name, ..)| name == "cp-1") {
            // It draws all that it may, which is no part of the configured load.
            bench.hear(now + 1, "cp-1", limit, 32_000, Some((seq, limit)));
        }
    }
    let read = bench.transformer.read.unwrap();
    assert_eq!(read.uncontrolled, base);
    // 60 A less the margin of 1 A and the 40 A.
    assert_eq!(read.load[0], MilliAmps(59_000));
    assert_eq!(bench.voice.events, [Event::LeadingBegan {}]);
}
