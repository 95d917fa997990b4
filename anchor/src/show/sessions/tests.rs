//! Charging sessions from what devices, transformer and anchor said, in order and out of order.

use super::*;
use crate::entry;
use crate::testing::{START, Speaker, Street, name};
use grid_protocol::author::Signed;
use grid_protocol::message::{Activity, Phase, Reason, Role};
use grid_protocol::units::{MilliAmps, MilliVolts, MilliWattHours};

/// Entries as an anchor would write them; times are milliseconds after the start.
struct Log {
    street: Street,
    entries: Vec<Vec<u8>>,
}

/// What a device measures; by default it is idle.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    pub(super) demand: i64,
    pub(super) limit: i64,
    pub(super) draws: i64,
    pub(super) energy: i64,
    pub(super) obeys: Option<Reference>,
}

pub(super) const IDLE: Reading = Reading { demand: 0, limit: 0, draws: 0, energy: 0, obeys: None };
pub(super) const FULL: Reading = Reading { demand: 16_000, limit: 16_000, draws: 15_900, energy: 0, obeys: None };

impl Log {
    fn new() -> Self {
        Self { street: Street::new(), entries: Vec::new() }
    }

    fn device(&self) -> Speaker {
        self.street.speaker("cp-1", Role::Device, 1)
    }

    fn receive(&mut self, ms: u64, said: &Signed) {
        let received = UnixMillis(START.0 + ms);
        self.entries.push(entry::write(received, &said.topic.to_string(), &said.payload));
    }

    /// Received as soon as said.
    fn live(&mut self, ms: u64, said: impl FnOnce(UnixMillis) -> Signed) {
        let said = said(UnixMillis(START.0 + ms));
        self.receive(ms, &said);
    }

    fn sessions(&self) -> Vec<ChargingSession> {
        self.sessions_of(&self.entries, true)
    }

    fn sessions_of(&self, entries: &[Vec<u8>], whole: bool) -> Vec<ChargingSession> {
        let mut sessions = Sessions::new(whole);
        entries.iter().for_each(|bytes| sessions.add(&entry::read(bytes).unwrap()));
        sessions.finish()
    }
}

pub(super) fn started(device: &mut Speaker, mwh: i64) -> impl FnOnce(UnixMillis) -> Signed {
    move |at| device.author.say(Kind::Event, Event::ChargingStarted { energy_mwh: MilliWattHours(mwh) }, at).unwrap()
}

pub(super) fn ended(device: &mut Speaker, mwh: i64) -> impl FnOnce(UnixMillis) -> Signed {
    move |at| device.author.say(Kind::Event, Event::ChargingEnded { energy_mwh: MilliWattHours(mwh) }, at).unwrap()
}

pub(super) fn measured(device: &mut Speaker, reading: Reading) -> impl FnOnce(UnixMillis) -> Signed {
    move |at| {
        let state = match reading {
            Reading { demand: 0, .. } => Activity::Idle,
            Reading { obeys: None, limit: 0, .. } => Activity::Failsafe,
            Reading { draws: 0, .. } => Activity::Waiting,
            Reading { .. } => Activity::Charging,
        };
        let body = Measurement {
            uptime_ms: Millis(1),
            state,
            current_ma: vec![MilliAmps(reading.draws)],
            voltage_mv: vec![MilliVolts(230_000)],
            stale_ms: None,
            limit_ma: MilliAmps(reading.limit),
            obeys: reading.obeys,
            settled: true,
            lease_ms: Millis(1000),
            demand_ma: MilliAmps(reading.demand),
            energy_mwh: MilliWattHours(reading.energy),
            priority: None,
        };
        device.author.say(Kind::Measurement, body, at).unwrap()
    }
}

fn allowed(transformer: &mut Speaker, limit: i64, reason: Reason) -> (Reference, impl FnOnce(UnixMillis) -> Signed) {
    let setpoint = Reference { session: transformer.author.session(), seq: transformer.author.last_seq() + 1 };
    let say = move |at| {
        let body = Setpoint {
            answers: Reference { session: Session(1), seq: 1 },
            limit_ma: MilliAmps(limit),
            ttl_ms: Millis(3000),
            hold: false,
            epoch: 1,
            reason,
        };
        transformer.author.say_to(&name("cp-1"), Kind::Setpoint, body, at).unwrap()
    };
    (setpoint, say)
}

/// A car comes, waits ten seconds for its turn, charges 30 s as it likes and 60 s held back by a phase, and leaves.
fn evening(log: &mut Log, device: &mut Speaker) {
    let mut transformer = log.street.speaker("trafo-1", Role::Transformer, 2);
    let second = |second: u64| second * 1000;
    log.live(0, |_| device.birth());
    log.live(0, measured(device, IDLE));
    let (turn, say) = allowed(&mut transformer, 0, Reason::Turn);
    log.live(10_000, say);
    for at in 10..20 {
        log.live(second(at), measured(device, Reading { demand: 16_000, obeys: Some(turn), ..IDLE }));
    }
    let (free, say) = allowed(&mut transformer, 16_000, Reason::Demand);
    log.live(second(20), say);
    log.live(second(20), started(device, 1_000_000));
    for at in 20..50 {
        let energy = 1_000_000 + 1000 * (at as i64 - 20);
        log.live(second(at), measured(device, Reading { obeys: Some(free), energy, ..FULL }));
    }
    let (phase, say) = allowed(&mut transformer, 8_000, Reason::Phase(Phase::L2));
    log.live(second(50), say);
    for at in 50..110 {
        let energy = 1_030_000 + 500 * (at as i64 - 50);
        let reading = Reading { limit: 8_000, draws: 7_900, obeys: Some(phase), energy, ..FULL };
        log.live(second(at), measured(device, reading));
    }
    log.live(second(110), ended(device, 1_060_000));
    log.live(second(110), measured(device, Reading { energy: 1_060_000, ..IDLE }));
}

fn shares(session: &ChargingSession) -> Vec<(&str, u64, u64)> {
    session.held_back_by.iter().map(|share| (share.reason.as_str(), share.ms.0, share.percent)).collect()
}

fn evening_session() -> ChargingSession {
    let mut log = Log::new();
    let mut device = log.device();
    evening(&mut log, &mut device);
    let sessions = log.sessions();
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    sessions.into_iter().next().unwrap()
}

#[test]
fn a_session_says_when_how_much_and_what_held_it_back() {
    let session = evening_session();
    assert_eq!((session.start_ms.0 - START.0, session.end_ms.0 - START.0), (20_000, 110_000));
    assert_eq!((session.waited_ms, session.duration_ms), (Millis(10_000), Millis(90_000)));
    assert_eq!((session.energy_wh, session.average_w), (60, 2400));
    assert_eq!(shares(&session), [("phase L2", 60_000, 60), ("turn", 10_000, 10)]);
    assert_eq!((session.held_back_ms, session.held_back_percent), (Millis(70_000), 70));
    assert_eq!((session.began_before, session.ended_by, session.restarts), (false, Ending::Event, 0));
}

#[test]
fn late_messages_change_nothing_however_late() {
    let mut log = Log::new();
    let mut device = log.device();
    evening(&mut log, &mut device);
    let expected = log.sessions();
    // The anchor was away from the tenth message on, for hours; then everything is replayed, newest first or otherwise.
    let late = |entry: &Vec<u8>| {
        let entry = entry::read(entry).unwrap();
        let Payload::Bytes(payload) = entry.payload else { panic!() };
        entry::write(UnixMillis(entry.received_ms.0 + 3 * 3_600_000), &entry.topic, &payload)
    };
    let (live, away) = log.entries.split_at(10);
    let replayed: Vec<Vec<u8>> = away.iter().map(late).collect();
    let newest_first: Vec<Vec<u8>> = replayed.iter().rev().cloned().collect();
    let every_other = |from: usize| replayed.iter().skip(from).step_by(2).cloned();
    let in_two_heaps: Vec<Vec<u8>> = every_other(1).chain(every_other(0)).collect();
    for replayed in [replayed.clone(), newest_first, in_two_heaps] {
        let copies = live.to_vec();
        let entries = [live.to_vec(), replayed, copies].concat();
        assert_eq!(log.sessions_of(&entries, true), expected);
    }
}

#[test]
fn a_device_whose_clock_is_wrong_is_shown_at_the_anchors_time_even_if_it_is_set_meanwhile() {
    let mut log = Log::new();
    let mut device = log.device();
    let boots_at = UnixMillis(1_000_000);
    log.receive(5_000, &started(&mut device, 0)(boots_at));
    log.receive(15_000, &measured(&mut device, Reading { energy: 5_000, ..FULL })(UnixMillis(boots_at.0 + 10_000)));
    let by_ms = (START.0 + 15_000 - boots_at.0 - 10_000) as i64;
    let step = |at| device.author.say(Kind::Event, Event::ClockStepped { by_ms }, at).unwrap();
    log.live(16_000, step);
    log.live(25_000, ended(&mut device, 10_000));
    let session = log.sessions().remove(0);
    assert_eq!((session.start_ms.0 - START.0, session.end_ms.0 - START.0), (5_000, 25_000));
    assert_eq!(session.energy_wh, 10);
}

#[test]
fn a_session_that_began_before_the_range_or_goes_on_after_it_is_shown_as_such() {
    let mut log = Log::new();
    let mut device = log.device();
    evening(&mut log, &mut device);
    let in_range = |from: u64, to: u64| -> Vec<Vec<u8>> {
        let is_in = |bytes: &&Vec<u8>| {
            let received = entry::read(bytes).unwrap().received_ms.0 - START.0;
            (from..to).contains(&received)
        };
        log.entries.iter().filter(is_in).cloned().collect()
    };
    let session = log.sessions_of(&in_range(30_000, 200_000), false).remove(0);
    assert_eq!((session.start_ms.0 - START.0, session.began_before), (30_000, true));
    assert_eq!((session.energy_wh, session.ended_by), (50, Ending::Event));
    let session = log.sessions_of(&in_range(0, 60_000), true).remove(0);
    assert_eq!((session.end_ms.0 - START.0, session.ended_by), (59_000, Ending::NotYet));
    assert_eq!((session.energy_wh, session.began_before), (35, false));
    assert_eq!(log.sessions_of(&in_range(0, 20_000), true), []);
}

#[test]
fn without_an_end_event_the_last_measurement_says_how_much() {
    let mut log = Log::new();
    let mut device = log.device();
    log.live(0, started(&mut device, 0));
    log.live(10_000, measured(&mut device, Reading { energy: 40_000, ..FULL }));
    // The event is lost.
    drop(ended(&mut device, 44_000)(START));
    log.live(12_000, measured(&mut device, Reading { energy: 44_000, ..IDLE }));
    let session = log.sessions().remove(0);
    assert_eq!((session.energy_wh, session.ended_by), (44, Ending::Measurement));
    assert_eq!(session.end_ms.0 - START.0, 12_000);
}

#[test]
fn a_session_goes_on_over_a_restart_of_the_agent_and_energy_adds_up() {
    let mut log = Log::new();
    let mut device = log.device();
    log.live(0, |_| device.birth());
    log.live(1_000, started(&mut device, 7_000));
    log.live(60_000, measured(&mut device, Reading { energy: 107_000, ..FULL }));
    let mut again = device.restarted(&log.street, 9);
    log.live(65_000, |at| again.author.say(Kind::Event, Event::LeaseBegan {}, at).unwrap());
    log.live(66_000, measured(&mut again, Reading { limit: 0, draws: 0, ..FULL }));
    log.live(70_000, started(&mut again, 0));
    log.live(70_000, measured(&mut again, FULL));
    log.live(80_000, measured(&mut again, Reading { energy: 20_000, ..FULL }));
    log.live(90_000, ended(&mut again, 30_000));
    log.live(90_000, measured(&mut again, Reading { energy: 30_000, ..IDLE }));
    log.live(95_000, started(&mut again, 30_000));
    log.live(99_000, ended(&mut again, 31_000));
    let sessions = log.sessions();
    assert_eq!(sessions.len(), 2);
    let whole = &sessions[0];
    assert_eq!((whole.energy_wh, whole.restarts, whole.ended_by), (130, 1, Ending::Event));
    assert_eq!((whole.start_ms.0 - START.0, whole.end_ms.0 - START.0), (1_000, 90_000));
    assert_eq!(shares(whole), [("failsafe", 4_000, 4)]);
    assert_eq!((sessions[1].energy_wh, sessions[1].restarts), (1, 0));
}

#[test]
fn a_car_that_left_while_the_agent_was_away_ends_where_it_was_last_heard_of() {
    let mut log = Log::new();
    let mut device = log.device();
    log.live(0, started(&mut device, 0));
    log.live(60_000, measured(&mut device, Reading { energy: 100_000, ..FULL }));
    let mut again = device.restarted(&log.street, 9);
    log.live(120_000, measured(&mut again, IDLE));
    log.live(200_000, started(&mut again, 0));
    let sessions = log.sessions();
    assert_eq!((sessions[0].end_ms.0 - START.0, sessions[0].ended_by), (60_000, Ending::Measurement));
    assert_eq!((sessions[0].energy_wh, sessions[1].ended_by), (100, Ending::NotYet));
}

#[test]
fn in_a_simulation_power_is_by_the_plants_time() {
    let mut log = Log::new();
    let mut device = log.device();
    log.live(0, |at| {
        let Signed { topic, payload, .. } = device.birth();
        let text = String::from_utf8(payload).unwrap();
        let mut body: serde_json::Value = serde_json::from_str(&text).unwrap();
        body["time_factor"] = 240.into();
        ["from", "session", "seq", "time_ms", "sig"]
            .iter()
            .for_each(|member| drop(body.as_object_mut().unwrap().remove(*member)));
        assert_eq!(topic.kind, Kind::Status);
        device.author.say(Kind::Status, body, at).unwrap()
    });
    log.live(0, started(&mut device, 0));
    log.live(15_000, ended(&mut device, 11_000_000));
    let session = log.sessions().remove(0);
    assert_eq!((session.average_w, session.duration_ms, session.time_factor), (11_000, Millis(15_000), 240));
}

#[test]
fn with_a_policy_a_forged_end_does_not_count() {
    let mut log = Log::new();
    let mut device = log.device();
    evening(&mut log, &mut device);
    let mut impostor = Street::new().speaker("cp-1", Role::Device, 1);
    drop(impostor.birth());
    let forged = Event::ChargingEnded { energy_mwh: MilliWattHours(0) };
    let mut forgeries = vec![impostor.measurement()];
    forgeries.extend((0..40).map(|_| impostor.event(forged.clone())));
    // They come with the numbers that the device itself uses, before it does.
    let mut entries = log.entries[..1].to_vec();
    let received = UnixMillis(START.0 + 1);
    let damaged = |said: &Signed| {
        let mut payload = said.payload.clone();
        let at = payload.len() - 10;
        payload[at] = if payload[at] == b'A' { b'B' } else { b'A' };
        entry::write(received, &said.topic.to_string(), &payload)
    };
    entries.extend(forgeries.iter().map(damaged));
    entries.extend(log.entries[1..].iter().cloned());
    let expected = log.sessions();
    assert_ne!(log.sessions_of(&entries, true), expected, "nothing was forged that matters");
    let mut transformer = log.street.speaker("trafo-1", Role::Transformer, 2);
    let mut genuine = Genuine::for_speakers(log.street.speakers());
    let birth = entry::write(START, &transformer.birth().topic.to_string(), &transformer.birth().payload);
    assert!(genuine.is(&entry::read(&birth).unwrap()));
    entries.retain(|bytes| genuine.is(&entry::read(bytes).unwrap()));
    assert_eq!(log.sessions_of(&entries, true), expected);
}

#[test]
fn the_table_fits_120_columns_and_says_what_its_marks_mean() {
    let mut session = evening_session();
    session.device = name("charge-point-with-a-long-name-31");
    session.began_before = true;
    session.restarts = 12;
    session.ended_by = Ending::NotYet;
    let reasons = ["phase L1", "turn", "fuse garage-of-the-house-at-the-end", "dimming", "minimum"];
    session.held_back_by =
        reasons.map(|reason| Share { reason: reason.to_owned(), ms: Millis(1), percent: 20 }).to_vec();
    let short = evening_session();
    let lines = |session: &ChargingSession| -> Vec<String> {
        table(std::slice::from_ref(session)).lines().map(str::to_owned).collect()
    };
    for line in lines(&short).iter().chain(&lines(&session)) {
        assert!(line.chars().count() <= 120, "{}: {line}", line.chars().count());
    }
    assert!(lines(&short)[1].ends_with("0.060   2.4  70%  phase L2 60 %, turn 10 %"), "{:?}", lines(&short));
    let marked = &lines(&session)[1];
    assert!(marked.contains('<') && marked.contains('>') && marked.contains("*12"), "{marked}");
    assert_eq!(legend(&[short]), [] as [&str; 0]);
    assert_eq!(legend(&[session]).len(), 3);
}

/// Who has the log's files can claim any time in them.
#[test]
fn times_after_the_year_9999_are_shown_as_none() {
    for received in [253_402_300_800_001, u64::MAX] {
        let mut log = Log::new();
        let mut device = log.device();
        let receive = |log: &mut Log, at, said: &Signed| {
            log.entries.push(entry::write(UnixMillis(at), &said.topic.to_string(), &said.payload));
        };
        receive(&mut log, received - 1, &started(&mut device, 0)(START));
        receive(&mut log, received, &ended(&mut device, 9_000)(UnixMillis(START.0 + 1)));
        let sessions = log.sessions();
        assert_eq!((sessions.len(), sessions[0].energy_wh), (1, 9));
        let table = table(&sessions);
        assert!(table.lines().nth(1).is_some_and(|line| line.contains("no date")), "{table}");
        assert_eq!(legend(&sessions), [] as [&str; 0]);
    }
}

#[test]
fn clocks_that_are_set_by_any_amount_do_no_harm() {
    let mut log = Log::new();
    let mut device = log.device();
    let largest = grid_protocol::units::LARGEST;
    log.live(0, started(&mut device, largest));
    for by_ms in (0..3000).map(|_| -largest) {
        log.live(0, |at| device.author.say(Kind::Event, Event::ClockStepped { by_ms }, at).unwrap());
        log.live(0, measured(&mut device, Reading { energy: -largest, draws: 1, ..FULL }));
    }
    log.live(0, ended(&mut device, -largest));
    let sessions = log.sessions();
    assert_eq!(sessions.len(), 1);
    assert_eq!(table(&sessions).lines().count(), 2);
}

#[test]
fn csv_names_its_columns_as_the_help_does() {
    let mut csv = csv::Writer::from_writer(Vec::new());
    let session = evening_session();
    csv.serialize(CsvLine::from(&session)).unwrap();
    let text = String::from_utf8(csv.into_inner().unwrap()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "device,start,began_before,end,ended_by,waited_s,duration_s,energy_wh,average_w,held_back_percent,held_back_by,\
         restarts,time_factor"
    );
    let (start, end) = (date(UnixMillis(START.0 + 20_000)), date(UnixMillis(START.0 + 110_000)));
    let expected = format!("cp-1,{start},false,{end},event,10,90,60,2400,70,\"phase L2 60 %, turn 10 %\",0,1");
    assert_eq!(lines[1], expected);
}
