//! Which values of the settings do not make sense, each with what to do about it.

use std::net::SocketAddr;

use grid_protocol::message::Role;
use grid_service::settings::Problems;

use super::{Grant, Listen, Settings, Transformer, User};
use crate::access::{BRIDGES, is_brokers_own};

const LONGEST_USER_NAME: usize = 64;

impl Settings {
    /// Notes every value that does not make sense.
    pub(crate) fn note_problems(&self, wrong: &mut Problems) {
        self.check_listeners(wrong);
        self.check_who_comes_in(wrong);
        check_transformers(&self.transformer, wrong);
        check_users(&self.user, wrong);
        self.check_grants(wrong);
        self.limits.note_problems(wrong);
    }

    fn check_listeners(&self, wrong: &mut Problems) {
        let Listen { mqtt, mqtts, ws, wss, http, plain_passwords } = &self.listen;
        let none = [mqtt, mqtts, ws, wss].iter().all(|address| address.is_none());
        wrong.unless(!none, || "listen: expected an address at mqtt, mqtts, ws or wss".to_owned());

        let all = [("mqtt", mqtt), ("mqtts", mqtts), ("ws", ws), ("wss", wss), ("http", http)];
        let set: Vec<(&str, SocketAddr)> =
            all.iter().filter_map(|(key, address)| address.map(|address| (*key, address))).collect();
        for (place, (key, address)) in set.iter().enumerate() {
            let same = set[..place].iter().find(|(_, other)| is_taken_by(*address, *other));
            wrong.unless(same.is_none(), || {
                let other = same.map_or("", |(other, _)| other);
                format!("listen.{key} = {address}: listen.{other} has this address already")
            });
        }
        for (key, address) in [("mqtts", mqtts), ("wss", wss)] {
            wrong.unless(address.is_none() || self.tls.is_some(), || {
                format!("listen.{key}: needs a section [tls] with certificate and key")
            });
        }
        let reachable = set.iter().filter(|(key, address)| *key != "http" && !address.ip().is_loopback());
        for (key, address) in reachable {
            if self.access.open {
                wrong.unless(self.open_to_others, || {
                    format!(
                        "listen.{key} = {address}: will not be open there, since anyone on the network could read every \
                         message and command every device. Listen on a loopback address such as 127.0.0.1:1883, or add \
                         --open if that is what you want"
                    )
                });
            } else if matches!(*key, "mqtt" | "ws") {
                wrong.unless(*plain_passwords, || {
                    format!(
                        "listen.{key} = {address}: passwords could be read on the way. Use {key}s, or a loopback address \
                         such as 127.0.0.1:1883, or set listen.plain_passwords = true if that is what you want"
                    )
                });
            }
        }
    }

    fn check_who_comes_in(&self, wrong: &mut Problems) {
        let access = &self.access;
        wrong.unless(access.revocations.is_none() || access.authority.is_some(), || {
            "access.revocations: needs access.authority, which signed it".to_owned()
        });
        let over_tls = self.listen.mqtts.is_some() || self.listen.wss.is_some();
        let by_certificate = access.authority.is_some() && over_tls;
        wrong.unless(access.open || by_certificate || !self.user.is_empty(), || {
            "access: nobody could log in. Name access.authority and listen on mqtts or wss, or add a [[user]]; on \
             loopback, access.open = true lets everybody in"
                .to_owned()
        });
    }

    fn check_grants(&self, wrong: &mut Problems) {
        for (place, grant) in self.grant.iter().enumerate() {
            let Grant { to, role, publish, subscribe } = grant;
            wrong.unless(to.is_some() != role.is_some(), || {
                format!("grant[{place}]: expected either to = \"<name>\" or role = \"<role>\"")
            });
            wrong.unless(!publish.is_empty() || !subscribe.is_empty(), || {
                format!("grant[{place}]: expected topic filters at publish or subscribe")
            });
            for pattern in publish.iter().map(super::Pattern::as_str) {
                wrong.unless(!is_brokers_own(pattern), || {
                    format!(
                        "grant[{place}].publish = {pattern:?}: only the broker publishes below $SYS, and bridges below \
                         {BRIDGES}"
                    )
                });
            }
        }
    }
}

/// Whether who listens on `other` listens on `address` already. With port 0 the system chooses a free one.
fn is_taken_by(address: SocketAddr, other: SocketAddr) -> bool {
    let is_all = address.ip().is_unspecified() || other.ip().is_unspecified();
    address.port() == other.port() && address.port() != 0 && (is_all || address.ip() == other.ip())
}

fn check_transformers(transformers: &[Transformer], wrong: &mut Problems) {
    for (place, transformer) in transformers.iter().enumerate() {
        let name = &transformer.name;
        let twice = transformers[..place].iter().any(|other| other.name == *name);
        wrong.unless(!twice, || format!("transformer[{place}].name = \"{name}\": stands twice"));
        let itself = transformer.devices.is_some() && transformer.leads(name.as_str());
        wrong.unless(!itself, || format!("transformer[{place}].devices: \"{name}\" cannot be behind itself"));
    }
}

fn check_users(users: &[User], wrong: &mut Problems) {
    for (place, user) in users.iter().enumerate() {
        let name = &user.name;
        let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
        let good = (1..=LONGEST_USER_NAME).contains(&name.chars().count()) && name.chars().all(allowed);
        wrong.unless(good, || {
            format!(
                "user[{place}].name = {name:?}: expected 1 to {LONGEST_USER_NAME} letters, digits, '-', '_', '.' and '@'"
            )
        });
        let twice = users[..place].iter().any(|other| other.name == *name);
        wrong.unless(!twice, || format!("user[{place}].name = {name:?}: stands twice"));
        wrong.unless(matches!(user.role, Role::Operator | Role::Guest), || {
            let role = user.role;
            format!(
                "user[{place}].role = \"{role}\": a user is an operator or a guest. A {role} logs in with the certificate \
                 that vouches for its message key"
            )
        });
        if let Err(why) = user.password_hash.check() {
            wrong.unless(false, || format!("user[{place}].password_hash of {name:?}: {why}"));
        }
        wrong.unless(!user.has_password, || {
            format!(
                "user[{place}].password of {name:?}: passwords do not belong into settings. Put what grid-broker \
                 hash-password makes of it at password_hash"
            )
        });
    }
}
