//! What a person or a script says about the site.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use grid_broker::PasswordHash;
use grid_broker::settings::Listen;
use grid_protocol::message::Role;
use grid_protocol::topic::Name;
use grid_service::setup::{BadSettings, Questions, first_line_of};
use zeroize::Zeroizing;

use super::error::Failure;
use super::{Arguments, CONFIG, Settings};
use crate::ca::{HostList, TLS_PORT};

/// The user of Home Assistant.
pub const HOME_ASSISTANT: &str = "homeassistant";
const WEBSOCKET_PORT: u16 = 8884;
const LOCAL_PORT: u16 = 1883;
const HTTP_PORT: u16 = 9883;

/// Who logs in with a password.
pub struct User {
    /// The name.
    pub name: String,
    /// Given, or made up; `None`: the one that is in the settings.
    pub password: Option<Password>,
}

/// A password.
pub struct Password {
    /// The text.
    pub text: Zeroizing<String>,
    /// Nobody knows it yet.
    pub is_made_up: bool,
}

/// All that is to be known.
pub struct Answers {
    /// The site.
    pub site: Name,
    /// How clients reach the broker.
    pub hosts: HostList,
    /// The ports of mqtts, wss, mqtt and http.
    pub ports: [u16; 4],
    /// The transformer.
    pub transformer: Name,
    /// The anchor.
    pub anchor: Name,
    /// Who reads everything and gives commands; none if settings are there without one.
    pub operator: Option<User>,
    /// Home Assistant, if it is wanted.
    pub home_assistant: Option<User>,
}

impl Answers {
    /// Takes what is given, and asks for the rest. What is there already gives the defaults.
    pub fn get(
        given: Arguments,
        there: Option<&Settings>,
        site_there: Option<&Name>,
        hosts_there: HostList,
    ) -> Result<Self, Failure> {
        let ask = Questions::on_terminal();
        let site = site_there.or(there.map(|there| &there.site)).cloned();
        let site = ask.answer("The site's name (a-z, 0-9, -)", "--site", given.site, site)?;
        let hosts = if hosts_there.0.is_empty() { HostList::of_this_machine() } else { hosts_there };
        let hosts = ask.answer(
            "Names and addresses under which others reach this machine",
            "--host",
            given.hosts.given(),
            Some(hosts),
        )?;
        let listen = there.map(|there| there.listen.clone()).unwrap_or_default();
        let port = |given: Option<u16>, there: Option<SocketAddr>, usual| {
            given.or(there.map(|there| there.port())).unwrap_or(usual)
        };
        let mqtts = port(None, listen.mqtts, TLS_PORT);
        let mqtts = ask.answer("The port for agents and people (MQTT over TLS)", "--port", given.port, Some(mqtts))?;
        let ports = [
            mqtts,
            port(given.websocket_port, listen.wss, WEBSOCKET_PORT),
            port(given.local_port, listen.mqtt, LOCAL_PORT),
            port(given.http_port, listen.http, HTTP_PORT),
        ];
        let name = |name: &str| name.parse::<Name>().ok();
        let transformer = there.and_then(|there| Some(there.transformer.first()?.name.clone()));
        let transformer = transformer.or_else(|| name("trafo-1"));
        let transformer = ask.answer("The transformer's name", "--transformer", given.transformer, transformer)?;
        let anchor = there.map(|there| there.anchor.clone()).or_else(|| name("anchor-1"));
        let anchor = ask.answer("The anchor's name", "--anchor", given.anchor, anchor)?;

        let users = there.map(|there| there.user.as_slice()).unwrap_or_default();
        let is_there = |name: &str| users.iter().any(|user| user.name == name);
        let user = |name: String, file: Option<std::path::PathBuf>| {
            let file = file.map(|file| first_line_of(&file)).transpose()?;
            if file.is_none() && is_there(&name) {
                return Ok(User { name, password: None });
            }
            let (text, is_made_up) = ask.new_password(&format!("Password of {name}"), file)?;
            Ok::<_, Failure>(User { name, password: Some(Password { text, is_made_up }) })
        };
        let is_operator =
            |user: &&grid_broker::settings::User| user.role == Role::Operator && user.name != HOME_ASSISTANT;
        let operator = match (&given.operator, users.iter().find(is_operator)) {
            // Somebody has taken him out.
            (None, None) if there.is_some() => None,
            (_, known) => {
                let known = known.map_or("operator", |user| &user.name).to_owned();
                let question = "Who reads everything and gives commands (a user name)";
                Some(ask.answer(question, "--operator", given.operator, Some(known))?)
            }
        };
        let operator = operator.map(|operator| user(operator, given.password_file)).transpose()?;
        let wants = is_there(HOME_ASSISTANT)
            || ask.is_wanted("Shall Home Assistant show and command the devices?", given.home_assistant)?;
        let home_assistant = match wants {
            true => Some(user(HOME_ASSISTANT.to_owned(), given.home_assistant_password_file)?),
            false => None,
        };
        Ok(Self { site, hosts, ports, transformer, anchor, operator, home_assistant })
    }

    /// Where the broker is to listen: for TLS on all addresses, for the rest on loopback.
    pub fn listen(&self) -> Listen {
        let [mqtts, wss, mqtt, http] = self.ports;
        let at = |address: Ipv4Addr, port| Some(SocketAddr::new(IpAddr::V4(address), port));
        let (all, loopback) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST);
        Listen {
            mqtts: at(all, mqtts),
            wss: at(all, wss),
            mqtt: at(loopback, mqtt),
            http: at(loopback, http),
            ..Listen::default()
        }
    }

    /// Fails if settings that are there say otherwise than the answers, with each difference.
    pub fn check_against(&self, there: &Settings) -> Result<(), BadSettings> {
        let mut differences = Vec::new();
        let mut compare = |key: &str, is: String, asked: String| {
            if is != asked {
                differences.push(format!("{key} is {is}, not {asked}"));
            }
        };
        let name =
            |name: Option<&Name>| name.map_or("not there".to_owned(), |name| format!("{name:?}", name = name.as_str()));
        compare("site", name(Some(&there.site)), name(Some(&self.site)));
        compare("anchor", name(Some(&there.anchor)), name(Some(&self.anchor)));
        let transformer = there.transformer.iter().find(|there| there.name == self.transformer);
        let first = transformer.or(there.transformer.first()).map(|there| &there.name);
        compare("transformer", name(first), name(Some(&self.transformer)));
        let port = |address: Option<SocketAddr>| address.map(|address| address.port());
        let asked = self.listen();
        for (key, is, asked) in [
            ("mqtts", there.listen.mqtts, asked.mqtts),
            ("wss", there.listen.wss, asked.wss),
            ("mqtt", there.listen.mqtt, asked.mqtt),
            ("http", there.listen.http, asked.http),
        ] {
            // A listener that somebody took out stays out.
            if let (Some(is), Some(asked)) = (port(is), port(asked)) {
                compare(&format!("the port of listen.{key}"), is.to_string(), asked.to_string());
            }
        }
        for user in [&self.operator, &self.home_assistant].into_iter().flatten() {
            let User { name, password } = user;
            match (there.user.iter().find(|there| there.name == *name), password) {
                (None, _) => differences.push(format!("there is no [[user]] {name:?}")),
                (Some(there), Some(password)) if !there.password_hash.matches(password.text.as_bytes()) => {
                    differences.push(format!("the password of {name} is another"));
                }
                (Some(_), _) => {}
            }
        }
        let (file, more) = (CONFIG.into(), "");
        if differences.is_empty() { Ok(()) } else { Err(BadSettings::Otherwise { file, differences, more }) }
    }
}

impl User {
    /// The hash of the password, for settings in which the user is not yet.
    pub fn hash(&self) -> Result<Option<PasswordHash>, Failure> {
        let hash = self.password.as_ref().map(|password| PasswordHash::create(password.text.as_bytes()));
        Ok(hash.transpose()?)
    }
}
