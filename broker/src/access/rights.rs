//! What one client may do: rights of its role, and what the settings grant beyond them.
//!
//! In site S, under the own name N (section 5 of the design):
//!
//! | role | publishes | reads |
//! |---|---|---|
//! | device | `grid/S/N/` status, measurement, event, replay | its own setpoint, ack and `set/#`; status and balance of its transformers; the anchor's status |
//! | transformer | the same and balance; setpoint of its devices | its own ack and `set/#`; everything of its devices; the anchor's status |
//! | anchor | `grid/S/+/ack`, `grid/S/N/+` | `grid/S/#` |
//! | operator | `grid/S/+/set/+` | `#`, `$SYS/#` |
//! | guest | – | `grid/S/{transformer}/#` |
//!
//! Everybody reads `grid/S/ca/revoked`, and nobody but the broker publishes it, whatever is granted: an old list would
//! be as well signed as the newest. Nobody but the broker publishes below `$SYS` either, except
//! `$SYS/broker/connection/…`, where bridges of mosquitto say that they are there.

use grid_protocol::message::Role;
use grid_protocol::revocation;
use grid_protocol::topic::Name;

use crate::access::filter::FilterSet;
use crate::settings::{Grant, Settings, Transformer};

/// Where a bridge of mosquitto says whether it is connected.
pub const BRIDGES: &str = "$SYS/broker/connection/";

/// What a subscription to a filter may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Everything that matches it.
    All,
    /// Some of it: each message must be looked at.
    Some,
    /// Nothing at all.
    Nothing,
}

/// What one client may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Everything,
    Granted { publish: FilterSet, read: FilterSet, revocations: String },
}

impl Rights {
    /// All that a client can be allowed.
    pub fn all() -> Self {
        Self(Kind::Everything)
    }

    /// Whether it may publish to the valid `topic`.
    pub fn may_publish(&self, topic: &str) -> bool {
        if is_brokers_own(topic) {
            return false;
        }
        match &self.0 {
            Kind::Everything => true,
            Kind::Granted { publish, revocations, .. } => topic != revocations && publish.matches(topic),
        }
    }

    /// What a subscription to the valid `filter` may bring.
    pub fn reads(&self, filter: &str) -> Reads {
        match &self.0 {
            Kind::Everything => Reads::All,
            Kind::Granted { read, .. } if read.covers(filter) => Reads::All,
            Kind::Granted { read, .. } if read.overlaps(filter) => Reads::Some,
            Kind::Granted { .. } => Reads::Nothing,
        }
    }

    /// Whether it may be sent what is published to `topic`.
    pub fn may_read(&self, topic: &str) -> bool {
        match &self.0 {
            Kind::Everything => true,
            Kind::Granted { read, .. } => read.matches(topic),
        }
    }
}

/// Whether only the broker itself may publish to `topic`, or to what matches it if it is a filter.
pub fn is_brokers_own(topic: &str) -> bool {
    topic == "$SYS" || topic.starts_with("$SYS/") && !topic.starts_with(BRIDGES)
}

/// What the settings say about rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    site: Name,
    anchor: Name,
    transformers: Vec<Transformer>,
    grants: Vec<Grant>,
}

impl Rules {
    /// The rules in `settings`, whose values have been checked.
    pub fn new(settings: &Settings) -> Self {
        Self {
            site: settings.site.clone(),
            anchor: settings.anchor.clone(),
            transformers: settings.transformer.clone(),
            grants: settings.grant.clone(),
        }
    }

    /// The site.
    pub fn site(&self) -> &Name {
        &self.site
    }

    /// Whether `name` is one of the site's transformers.
    pub fn is_transformer(&self, name: &str) -> bool {
        self.transformers.iter().any(|transformer| transformer.name.as_str() == name)
    }

    /// What who has this name and role may do.
    pub fn rights(&self, name: &str, role: Role) -> Rights {
        let revocations = revocation::topic(&self.site).to_string();
        let mut publish = self.publishes(name, role);
        let mut read = self.reads(name, role);
        read.push(revocations.clone());
        for grant in self.grants.iter().filter(|grant| grant.is_for(name, role)) {
            publish.extend(grant.publish.iter().map(|pattern| pattern.filter(name)));
            read.extend(grant.subscribe.iter().map(|pattern| pattern.filter(name)));
        }
        Rights(Kind::Granted { publish: publish.into_iter().collect(), read: read.into_iter().collect(), revocations })
    }

    fn publishes(&self, name: &str, role: Role) -> Vec<String> {
        let own = |kinds: &[&str]| kinds.iter().map(|kind| self.topic(name, kind)).collect::<Vec<_>>();
        match role {
            Role::Device => own(&["status", "measurement", "event", "replay"]),
            Role::Transformer => {
                let mut topics = own(&["status", "measurement", "event", "replay", "balance"]);
                topics.extend(self.devices(name).into_iter().map(|device| self.topic(device, "setpoint")));
                topics
            }
            // `+` is one level, so commands (`set/…`) to it are not among them.
            Role::Anchor => vec![self.topic("+", "ack"), self.topic(name, "+")],
            Role::Operator => vec![self.topic("+", "set/+")],
            Role::Guest => Vec::new(),
        }
    }

    fn reads(&self, name: &str, role: Role) -> Vec<String> {
        let own = |kinds: &[&str]| kinds.iter().map(|kind| self.topic(name, kind)).collect::<Vec<_>>();
        match role {
            Role::Device => {
                let mut topics = own(&["setpoint", "ack", "set/#"]);
                topics.push(self.topic(self.anchor.as_str(), "status"));
                for transformer in self.transformers.iter().filter(|transformer| transformer.leads(name)) {
                    topics.extend(["status", "balance"].map(|kind| self.topic(transformer.name.as_str(), kind)));
                }
                topics
            }
            Role::Transformer => {
                let mut topics = own(&["ack", "set/#"]);
                topics.push(self.topic(self.anchor.as_str(), "status"));
                topics.extend(self.devices(name).into_iter().map(|device| self.topic(device, "#")));
                topics
            }
            Role::Anchor => vec![format!("grid/{}/#", self.site)],
            Role::Operator => vec!["#".to_owned(), "$SYS/#".to_owned()],
            Role::Guest => self.transformers.iter().map(|it| self.topic(it.name.as_str(), "#")).collect(),
        }
    }

    /// The devices of a transformer, as levels of a filter.
    fn devices(&self, transformer: &str) -> Vec<&str> {
        match self.transformers.iter().find(|it| it.name.as_str() == transformer) {
            Some(Transformer { devices: Some(devices), .. }) => devices.iter().map(Name::as_str).collect(),
            Some(Transformer { devices: None, .. }) => vec!["+"],
            None => Vec::new(),
        }
    }

    fn topic(&self, device: &str, kind: &str) -> String {
        format!("grid/{}/{device}/{kind}", self.site)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Pattern;

    fn settings() -> Settings {
        let transformer = |name: &str, devices: &[&str]| Transformer {
            name: name.parse().unwrap(),
            devices: (!devices.is_empty()).then(|| devices.iter().map(|name| name.parse().unwrap()).collect()),
        };
        Settings {
            transformer: vec![transformer("trafo-1", &["cp-1", "cp-2"]), transformer("trafo-2", &[])],
            ..Settings::for_site("s".parse().unwrap())
        }
    }

    fn pattern(text: &str) -> Pattern {
        text.to_owned().try_into().unwrap()
    }

    fn rights(name: &str, role: Role) -> Rights {
        Rules::new(&settings()).rights(name, role)
    }

    /// Every topic that matters here.
    fn topics() -> Vec<String> {
        let names = ["trafo-1", "trafo-2", "cp-1", "cp-3", "anchor-1", "anchor-2", "ca"];
        let kinds = [
            "status",
            "measurement",
            "setpoint",
            "event",
            "balance",
            "checkpoint",
            "ack",
            "replay",
            "set/limit",
            "revoked",
        ];
        let of_site = names.iter().flat_map(|name| kinds.iter().map(move |kind| format!("grid/s/{name}/{kind}")));
        let others = ["grid/t/cp-1/status", "homeassistant/x", "$SYS/broker/uptime", "$SYS/broker/connection/b/state"];
        of_site.chain(others.map(str::to_owned)).collect()
    }

    fn allowed(may: impl Fn(&str) -> bool) -> Vec<String> {
        let topics = topics();
        topics.into_iter().filter(|topic| may(topic)).map(|it| it.trim_start_matches("grid/s/").to_owned()).collect()
    }

    #[test]
    fn each_role_publishes_what_it_has_to_say_and_nothing_else() {
        let own = |name: &str, kinds: &[&str]| kinds.iter().map(|kind| format!("{name}/{kind}")).collect::<Vec<_>>();
        let device = own("cp-1", &["status", "measurement", "event", "replay"]);
        let mut first = own("trafo-1", &["status", "measurement", "event", "balance", "replay"]);
        first.push("cp-1/setpoint".to_owned());
        let mut second = own("trafo-1", &["setpoint"]);
        second.extend(own("trafo-2", &["status", "measurement", "setpoint", "event", "balance", "replay"]));
        second.extend(["cp-1", "cp-3", "anchor-1", "anchor-2", "ca"].map(|name| format!("{name}/setpoint")));
        let all_kinds =
            ["status", "measurement", "setpoint", "event", "balance", "checkpoint", "ack", "replay", "revoked"];
        let mut anchor = ["trafo-1", "trafo-2", "cp-1", "cp-3"].map(|name| format!("{name}/ack")).to_vec();
        anchor.extend(own("anchor-1", &all_kinds));
        anchor.extend(["anchor-2/ack", "ca/ack"].map(str::to_owned));
        let everybody = ["trafo-1", "trafo-2", "cp-1", "cp-3", "anchor-1", "anchor-2", "ca"];
        let operator = everybody.map(|name| format!("{name}/set/limit")).to_vec();
        for (name, role, expected) in [
            ("cp-1", Role::Device, device),
            ("trafo-1", Role::Transformer, first),
            ("trafo-2", Role::Transformer, second),
            ("anchor-1", Role::Anchor, anchor),
            ("anna", Role::Operator, operator),
            ("gast", Role::Guest, Vec::new()),
        ] {
            assert_eq!(allowed(|topic| rights(name, role).may_publish(topic)), expected, "{name}, {role}");
        }
    }

    #[test]
    fn each_role_reads_what_concerns_it() {
        let list = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let all_of = |name: &str| allowed(|topic| topic.starts_with(&format!("grid/s/{name}/")));
        let first = list(
            "trafo-1/ack trafo-1/set/limit cp-1/status cp-1/measurement cp-1/setpoint cp-1/event cp-1/balance \
             cp-1/checkpoint cp-1/ack cp-1/replay cp-1/set/limit cp-1/revoked anchor-1/status ca/revoked",
        );
        let of_site = allowed(|topic| topic.starts_with("grid/s/"));
        let guest = [all_of("trafo-1"), all_of("trafo-2"), list("ca/revoked")].concat();
        for (name, role, expected) in [
            (
                "cp-1",
                Role::Device,
                list(
                    "trafo-1/status trafo-1/balance trafo-2/status trafo-2/balance cp-1/setpoint cp-1/ack \
                     cp-1/set/limit anchor-1/status ca/revoked",
                ),
            ),
            // Only the transformer that leads all devices leads this one.
            (
                "cp-3",
                Role::Device,
                list("trafo-2/status trafo-2/balance cp-3/setpoint cp-3/ack cp-3/set/limit anchor-1/status ca/revoked"),
            ),
            ("trafo-1", Role::Transformer, first),
            ("trafo-2", Role::Transformer, of_site.clone()),
            ("anchor-1", Role::Anchor, of_site),
            ("anna", Role::Operator, allowed(|_| true)),
            ("gast", Role::Guest, guest),
        ] {
            assert_eq!(allowed(|topic| rights(name, role).may_read(topic)), expected, "{name}, {role}");
        }
    }

    /// What `grid-agent` and `grid-anchor` subscribe to. Were some of it only partly granted, each message would be
    /// looked at; were it not granted, they would not work.
    #[test]
    fn the_programs_of_the_grid_may_subscribe_to_what_they_subscribe_to() {
        for filter in ["cp-1/setpoint", "cp-1/set/#", "cp-1/ack", "trafo-1/status", "anchor-1/status"] {
            assert_eq!(rights("cp-1", Role::Device).reads(&format!("grid/s/{filter}")), Reads::All, "{filter}");
        }
        for filter in ["+/status", "+/measurement", "trafo-2/ack", "trafo-2/set/#"] {
            assert_eq!(rights("trafo-2", Role::Transformer).reads(&format!("grid/s/{filter}")), Reads::All, "{filter}");
        }
        assert_eq!(rights("trafo-1", Role::Transformer).reads("grid/s/+/measurement"), Reads::Some);
        assert_eq!(rights("anchor-1", Role::Anchor).reads("grid/s/#"), Reads::All);
    }

    #[test]
    fn a_subscription_brings_all_some_or_nothing() {
        let guest = rights("gast", Role::Guest);
        for (filter, expected) in [
            ("grid/s/trafo-1/#", Reads::All),
            ("grid/s/trafo-1/balance", Reads::All),
            ("#", Reads::Some),
            ("grid/s/+/balance", Reads::Some),
            ("grid/s/cp-1/#", Reads::Nothing),
            ("$SYS/#", Reads::Nothing),
        ] {
            assert_eq!(guest.reads(filter), expected, "{filter}");
        }
        assert_eq!(rights("anna", Role::Operator).reads("$SYS/broker/#"), Reads::All);
        assert_eq!(Rights::all().reads("#"), Reads::All);
    }

    #[test]
    fn a_grant_extends_what_a_name_or_a_role_may_do() {
        let mut settings = settings();
        settings.grant = vec![
            Grant {
                to: Some("ha".to_owned()),
                role: None,
                publish: vec![pattern("homeassistant/#")],
                subscribe: vec![pattern("homeassistant/#")],
            },
            Grant {
                to: None,
                role: Some(Role::Device),
                publish: vec![pattern("homeassistant/+/{name}/config"), pattern("stat-{name}/x")],
                subscribe: Vec::new(),
            },
        ];
        let rules = Rules::new(&settings);
        let ha = rules.rights("ha", Role::Guest);
        assert!(ha.may_publish("homeassistant/x") && ha.may_read("homeassistant/x"));
        let device = rules.rights("cp-1", Role::Device);
        for (topic, expected) in [
            ("homeassistant/sensor/cp-1/config", true),
            ("stat-cp-1/x", true),
            ("homeassistant/sensor/cp-3/config", false),
            ("homeassistant/x", false),
        ] {
            assert_eq!(device.may_publish(topic), expected, "{topic}");
        }
        assert!(!rules.rights("gast", Role::Guest).may_read("homeassistant/x"));
    }

    #[test]
    fn the_brokers_own_topics_are_granted_to_nobody() {
        let mut settings = settings();
        let everything = ["#", "grid/#", "$SYS/broker/connection/#"].map(pattern).to_vec();
        settings.grant =
            vec![Grant { to: Some("bridge".to_owned()), role: None, publish: everything, subscribe: Vec::new() }];
        let bridge = Rules::new(&settings).rights("bridge", Role::Guest);
        for rights in [&bridge, &Rights::all()] {
            assert!(rights.may_publish("homeassistant/x") && rights.may_publish("grid/s/cp-1/set/charging"));
            assert!(rights.may_publish("$SYS/broker/connection/b/state"));
            assert!(!rights.may_publish("$SYS") && !rights.may_publish("$SYS/broker/uptime"));
        }
        assert!(!bridge.may_publish("grid/s/ca/revoked"));
        assert!(!rights("anna", Role::Operator).may_publish("$SYS/broker/connection/b/state"));
    }
}
