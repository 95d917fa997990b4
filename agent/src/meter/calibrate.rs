//! What a meter would have to be configured like, to show a current that is known.

use std::fmt;

use grid_protocol::units::MilliAmps;

use super::config::divide_rounded;

/// How one phase's sensor is configured, as far as a known current can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wiring {
    /// The shunt; none where a driver of Linux knows it.
    pub shunt_milliohm: Option<u32>,
    /// Grid milliamps for each of the sensor's.
    pub scale: u32,
    /// The sign is turned.
    pub invert: bool,
    /// Added after scale and sign.
    pub offset_ma: i64,
}

/// What one phase showed while a known current flowed through its shunt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calibration {
    /// The mean of the readings.
    pub measured: MilliAmps,
    /// The largest less the smallest of them.
    pub spread: MilliAmps,
    /// What it should have been.
    pub expected: MilliAmps,
    /// What follows.
    pub advice: Correction,
}

/// What would make the meter right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Correction {
    /// Nothing: it is right within 1 %, or one milliamp of the sensor.
    Right,
    /// One or the other: with the offset only where it was measured that nothing flows.
    Change {
        /// The other sign, if that is wrong.
        invert: Option<bool>,
        /// The shunt that would explain it, if one could.
        shunt_milliohm: Option<i64>,
        /// The offset that would; none if the sign alone does.
        offset_ma: Option<i64>,
    },
    /// Far too little flows through the shunt.
    NothingFlows,
}

/// Compares readings of one phase with `through_ma`, the current that flows through the shunt itself, before scaling.
///
/// None without readings.
pub fn calibrate(wiring: &Wiring, readings: &[MilliAmps], through_ma: i64) -> Option<Calibration> {
    let (least, most) = (readings.iter().min()?, readings.iter().max()?);
    let count = i64::try_from(readings.len()).ok()?;
    let measured = MilliAmps(divide_rounded(readings.iter().map(|reading| reading.0).sum(), count));
    let scale = i64::from(wiring.scale);
    let expected = MilliAmps(through_ma.saturating_mul(scale));
    let tolerance = (expected.0.abs() / 100).max(scale);
    let shown = measured.0 - wiring.offset_ma;
    let advice = if (measured.0 - expected.0).abs() <= tolerance {
        Correction::Right
    } else if expected.0 == 0 {
        Correction::Change { invert: None, shunt_milliohm: None, offset_ma: Some(-shown) }
    } else if shown.abs() <= tolerance {
        Correction::NothingFlows
    } else {
        let turned = shown.signum() != expected.0.signum();
        let shown = if turned { -shown } else { shown };
        let wanted = (expected.0 - wiring.offset_ma).abs().max(1);
        let invert = turned.then_some(!wiring.invert);
        let sign_is_all = (shown + wiring.offset_ma - expected.0).abs() <= tolerance;
        let present = wiring.shunt_milliohm.map(i64::from).filter(|_| !sign_is_all);
        let shunt_milliohm = present
            .map(|milliohm| divide_rounded(milliohm * shown.abs(), wanted))
            .filter(|milliohm| *milliohm > 0 && present != Some(*milliohm));
        let offset_ma = (!sign_is_all).then_some(expected.0 - shown);
        Correction::Change { invert, shunt_milliohm, offset_ma }
    };
    Some(Calibration { measured, spread: *most - *least, expected, advice })
}

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "measured {} (spread {}), expected {}: ", self.measured, self.spread, self.expected)?;
        match &self.advice {
            Correction::Right => f.write_str("right"),
            Correction::NothingFlows => {
                f.write_str("hardly anything flows through the shunt: is it in the circuit, between Vin+ and Vin-?")
            }
            Correction::Change { invert, shunt_milliohm, offset_ma } => {
                let sign = invert.map(|invert| format!("invert = {invert}"));
                let shunt = shunt_milliohm.map(|shunt| format!("shunt_milliohm = {shunt}"));
                let offset = offset_ma.map(|offset| format!("offset_ma = {offset}"));
                let amount = match (shunt, offset) {
                    (Some(shunt), Some(offset)) => Some(format!("{shunt} (or {offset} instead of the shunt)")),
                    (shunt, offset) => shunt.or(offset),
                };
                write!(f, "set {}", sign.into_iter().chain(amount).collect::<Vec<_>>().join(" and "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIRING: Wiring = Wiring { shunt_milliohm: Some(100), scale: 100, invert: false, offset_ma: 0 };

    fn advice(wiring: &Wiring, shown: i64, through: i64) -> Correction {
        calibrate(wiring, &[MilliAmps(shown - 50), MilliAmps(shown + 50)], through).unwrap().advice
    }

    #[test]
    fn what_is_right_within_a_hundredth_needs_no_change() {
        for (shown, through) in [(50_000, 500), (50_500, 500), (49_500, 500), (100, 0), (-100, 0)] {
            assert_eq!(advice(&WIRING, shown, through), Correction::Right, "{shown} {through}");
        }
    }

    #[test]
    fn without_a_current_what_is_shown_is_the_offset() {
        let change = |offset_ma| Correction::Change { invert: None, shunt_milliohm: None, offset_ma: Some(offset_ma) };
        assert_eq!(advice(&WIRING, 300, 0), change(-300));
        assert_eq!(advice(&Wiring { offset_ma: -300, ..WIRING }, 200, 0), change(-500));
    }

    #[test]
    fn a_current_tells_the_shunt_and_the_sign() {
        let change =
            |invert, shunt, offset| Correction::Change { invert, shunt_milliohm: Some(shunt), offset_ma: Some(offset) };
        assert_eq!(advice(&WIRING, 5_000, 500), change(None, 10, 45_000));
        assert_eq!(advice(&WIRING, -55_000, 500), change(Some(true), 110, -5_000));
        assert_eq!(advice(&Wiring { invert: true, ..WIRING }, -50_000, 500), SIGN_ALONE);
        assert_eq!(advice(&WIRING, 60, 500), Correction::NothingFlows);
        assert_eq!(calibrate(&WIRING, &[], 500), None);
    }

    const SIGN_ALONE: Correction = Correction::Change { invert: Some(false), shunt_milliohm: None, offset_ma: None };

    #[test]
    fn what_is_advised_is_said_as_it_stands_in_the_settings() {
        let said = |wiring: &Wiring, shown, through| {
            let said = calibrate(wiring, &[MilliAmps(shown)], through).unwrap().to_string();
            said.split_once(": ").unwrap().1.to_owned()
        };
        let turned = Wiring { invert: true, ..WIRING };
        assert_eq!(said(&turned, -50_000, 500), "set invert = false");
        let both = "set invert = true and shunt_milliohm = 110 (or offset_ma = -5000 instead of the shunt)";
        assert_eq!(said(&WIRING, -55_000, 500), both);
        assert_eq!(said(&WIRING, 300, 0), "set offset_ma = -300");
        // Neither a shunt of 0, which no settings take, nor the one that is set.
        let coarse = Wiring { shunt_milliohm: Some(1), ..WIRING };
        assert_eq!(said(&coarse, 20_000, 500), "set offset_ma = 30000");
        assert_eq!(said(&coarse, 45_000, 500), "set offset_ma = 5000");
        let by_linux = Wiring { shunt_milliohm: None, ..WIRING };
        assert_eq!(said(&by_linux, -55_000, 500), "set invert = true and offset_ma = -5000");
    }

    #[test]
    fn what_is_advised_makes_it_right() {
        let chip = super::super::ChipConfig { shunt_milliohm: 100, ..super::super::ChipConfig::default() };
        // 500 mA through 90 mΩ, the wrong way round.
        let uv = -45_000;
        let shown = chip.grid_current(uv).0;
        let Correction::Change { invert: Some(invert), shunt_milliohm: Some(shunt), .. } = advice(&WIRING, shown, 500)
        else {
            panic!("it is wrong")
        };
        let shunt_milliohm = u32::try_from(shunt).unwrap();
        let mended = super::super::ChipConfig { invert, shunt_milliohm, ..chip };
        assert_eq!(mended.grid_current(uv), MilliAmps(50_000));
    }
}
