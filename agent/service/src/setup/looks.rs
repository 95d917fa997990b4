//! What `check` looks at for every service that has an identity and a broker.

use std::path::Path;
use std::time::Duration;

use grid_protocol::identity::{Identity, named_in, validity_of};
use grid_protocol::message::Role;
use grid_protocol::topic::Name;

use super::Report;
use crate::broker::BrokerSettings;
use crate::clock::unix_now;
use crate::identity::{IdentityFiles, IdentitySettings};

/// How long the broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

impl Report<'_> {
    /// Whether the files of `[identity]` are those of `name` on `site` in this role, hold for a while, and are secret.
    /// `program` sets up who has it.
    pub fn identity(
        &mut self,
        identity: &IdentitySettings,
        (site, name, role): (&Name, &Name, Role),
        program: &str,
    ) -> Option<IdentityFiles> {
        let files = match identity.read() {
            Ok(files) => files,
            Err(error) => {
                self.wrong("identity", error);
                return None;
            }
        };
        let renew =
            format!("grid-broker ca issue {name} --role {role} --renew, and then {program} setup {name}.bundle");
        match files.check(site, name).map(|()| named_in(&files.certificate)) {
            Err(error) => self.wrong("identity", error),
            Ok(Err(error)) => self.wrong("identity", error),
            Ok(Ok(Identity { role: its_role, .. })) if its_role != role => {
                self.wrong("identity", format!("its certificate is for the role {its_role}, not {role}: {renew}"));
            }
            Ok(Ok(_)) => self.ok("identity", format!("{name}, {role} of the site {site}")),
        }
        match validity_of(&files.certificate) {
            Err(error) => self.wrong("certificate", error),
            Ok(validity) => {
                if files.authority.check(&files.certificate, validity.until).is_err() {
                    self.wrong("certificate", format!("the site's authority did not issue it: {renew}"));
                }
                self.holds("certificate", validity, unix_now(), &renew);
            }
        }
        self.secrets(identity);
        Some(files)
    }

    fn secrets(&mut self, identity: &IdentitySettings) {
        let secrets: Vec<(&str, &Path)> = match identity {
            IdentitySettings::Bundle(bundle) => vec![("bundle", bundle)],
            IdentitySettings::Files { message_key, tls_key, .. } => {
                let tls_key = tls_key.as_deref().map(|key| ("tls key", key));
                std::iter::once(("message key", message_key.as_path())).chain(tls_key).collect()
            }
        };
        for (what, file) in secrets {
            self.is_secret(what, file, false);
        }
    }

    /// Whether the broker answers and would let this identity in. It is greeted, and not logged in to.
    pub fn broker(&mut self, settings: &BrokerSettings, identity: Option<&IdentityFiles>) {
        let Some(identity) = identity else {
            self.none("broker", "cannot be asked without an identity");
            return;
        };
        let broker = match settings.resolve(identity) {
            Ok(broker) => broker,
            Err(error) => {
                self.wrong("broker", error);
                return;
            }
        };
        let how = if broker.is_by_tls() { "answers by TLS, and takes our certificate" } else { "answers, without TLS" };
        let reached = broker.reach(PATIENCE);
        self.judge("broker", reached.map(|()| format!("{broker} {how}")).map_err(|why| format!("{broker}: {why}")));
    }
}
