//! What an agent sees now: for who asks it, and not for the log.

use std::fmt;

use grid_protocol::message::{Activity, Balance, Measurement};
use grid_protocol::units::MilliAmps;
use serde::{Deserialize, Serialize};

/// What an agent said last of what flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// A device's newest measurement.
    Device(Measurement),
    /// A transformer's newest balance.
    Transformer(Balance),
}

impl View {
    /// Whether meter and actuator work, as far as it shows.
    pub fn is_sound(&self) -> bool {
        match self {
            Self::Device(measurement) => measurement.state != Activity::Fault && measurement.stale_ms.is_none(),
            Self::Transformer(_) => true,
        }
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |currents: &[MilliAmps]| currents.iter().map(MilliAmps::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Device(measurement) => {
                let Measurement { state, current_ma, limit_ma, stale_ms, obeys, .. } = measurement;
                write!(f, "measures {}", list(current_ma))?;
                if let Some(age) = stale_ms {
                    write!(f, " ({} ms ago)", age.0)?;
                }
                match state {
                    Activity::Off => write!(f, "; is switched off"),
                    Activity::Fault => write!(f, "; has a fault"),
                    _ if obeys.is_none() => write!(f, "; is in failsafe, and may draw {limit_ma}"),
                    _ => write!(f, "; is led, and may draw {limit_ma}"),
                }
            }
            Self::Transformer(balance) => {
                let Balance { limit_ma, load_ma, devices, .. } = balance;
                let noun = if *devices == 1 { "device" } else { "devices" };
                write!(f, "measures {} of {}; leads {devices} {noun}", list(load_ma), list(limit_ma))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(more: &str) -> View {
        let text = format!(
            r#"{{"uptime_ms":1,"current_ma":[3100,0],"voltage_mv":[230000,230000],"limit_ma":6000,"settled":true,"lease_ms":0,
                "demand_ma":0,"energy_mwh":0,{more}}}"#
        );
        View::Device(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn a_person_reads_what_flows_and_whether_somebody_leads() {
        let led = r#""state":"charging","obeys":{"session":"0000000000000001","seq":1}"#;
        assert_eq!(device(led).to_string(), "measures 3100 mA, 0 mA; is led, and may draw 6000 mA");
        let failsafe = device(r#""state":"failsafe""#);
        assert_eq!(failsafe.to_string(), "measures 3100 mA, 0 mA; is in failsafe, and may draw 6000 mA");
        let late = device(r#""state":"fault","stale_ms":900"#);
        assert_eq!(late.to_string(), "measures 3100 mA, 0 mA (900 ms ago); has a fault");
        assert!(failsafe.is_sound() && !late.is_sound());
        let balance = r#"{"limit_ma":[20000,20000],"load_ma":[1,2],"uncontrolled_ma":[0,0],"headroom_ma":[0,0],"devices":3,
                          "held_back_percent":0}"#;
        let view = |balance: &str| View::Transformer(serde_json::from_str(balance).unwrap()).to_string();
        assert_eq!(view(balance), "measures 1 mA, 2 mA of 20000 mA, 20000 mA; leads 3 devices");
        assert!(view(&balance.replace(":3,", ":1,")).ends_with("leads 1 device"));
    }
}
