//! Who is who, and who may do what.
//!
//! One [`Access`] is everything that can be loaded again while the broker runs: certificates, users, rights and
//! revocations. Connections look at the newest one through a [`watch::Receiver`], so nobody is dropped by a reload who
//! may stay.
//!
//! | module | what it is |
//! |---|---|
//! | `identity` | who a client is, what it shows to prove that, why it is not let in |
//! | `rights` | what a role may do, and what is granted beyond that |
//! | `filter` | which topic filter covers which, and which overlap |
//! | `users` | passwords |
//! | `files` | the authority's certificate, revocations, the broker's own certificate and key |
//!
//! # How somebody proves who he is
//!
//! By a certificate of the site's authority, or else by user and password. A certificate goes first: who shows one that
//! does not count is refused, whatever the password. The TLS handshake has checked it too; here it is checked again,
//! against the authority and the revocations of this moment.

mod files;
mod filter;
mod identity;
mod rights;
mod users;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use grid_protocol::identity::{Authority, Serial, serial_of};
use grid_protocol::message::Role;
use grid_service::clock::unix_now;
use grid_service::settings::{Problems, SettingsError};
use rustls::ServerConfig;
use tokio::sync::watch;

pub use identity::{Credentials, Denied, Identity, Owner, shortened};
pub use rights::{BRIDGES, Reads, Rights, is_brokers_own};
pub use users::{BadHash, PasswordHash};

use crate::access::files::Revocations;
use crate::access::rights::Rules;
use crate::settings::Settings;

/// Certificates, users, rights and revocations at one moment.
#[derive(Debug)]
pub struct Access {
    /// `None`: everybody may do everything.
    closed: Option<Closed>,
    tls: Option<Arc<ServerConfig>>,
    revocations: Option<Revocations>,
}

/// Whom a broker lets in that asks.
#[derive(Debug)]
struct Closed {
    rules: Rules,
    authority: Option<Arc<Authority>>,
    revoked: HashSet<Serial>,
    users: HashMap<String, (Role, PasswordHash)>,
}

impl Access {
    /// Everybody may do everything.
    pub fn open() -> watch::Receiver<Arc<Self>> {
        watch::channel(Arc::new(Self { closed: None, tls: None, revocations: None })).1
    }

    /// Everybody may do everything, also over TLS.
    pub fn open_with_tls(tls: Arc<ServerConfig>) -> Self {
        Self { closed: None, tls: Some(tls), revocations: None }
    }

    /// Checks the settings and reads the files that they name.
    ///
    /// # Errors
    ///
    /// All that is wrong with settings and files, at once.
    pub fn load(settings: &Settings) -> Result<Self, SettingsError> {
        let mut wrong = Problems::default();
        settings.note_problems(&mut wrong);
        let access = Self::read(settings, &mut wrong);
        wrong.check().map(|()| access)
    }

    /// Like [`Access::load`], for a broker that runs with `self`. What must not change or go back is a problem, too.
    pub fn load_again(&self, settings: &Settings) -> Result<Self, SettingsError> {
        let mut wrong = Problems::default();
        settings.note_problems(&mut wrong);
        let access = Self::read(settings, &mut wrong);
        access.note_steps_back(self, settings, &mut wrong);
        wrong.check().map(|()| access)
    }

    fn read(settings: &Settings, wrong: &mut Problems) -> Self {
        let mut note = |problem: String| wrong.unless(false, || problem);
        let files = &settings.access;
        let authority = files.authority.as_deref().and_then(|file| files::authority(file).map_err(&mut note).ok());
        let revocations = match (&files.revocations, &authority) {
            (Some(file), Some(authority)) => {
                files::revocations(file, &settings.site, authority).map_err(&mut note).ok().flatten()
            }
            (Some(_), None) | (None, _) => None,
        };
        let tls = settings.tls.as_ref().and_then(|tls| files::tls(tls, authority.as_ref()).map_err(&mut note).ok());
        let closed = (!files.open).then(|| Closed {
            rules: Rules::new(settings),
            authority: authority.map(Arc::new),
            revoked: revocations.iter().flat_map(|list| list.serials.iter().cloned()).collect(),
            users: settings
                .user
                .iter()
                .map(|user| (user.name.clone(), (user.role, user.password_hash.clone())))
                .collect(),
        });
        Self { closed, tls: tls.map(Arc::new), revocations }
    }

    /// The site stays, and a list of revocations is not replaced by an older one, or by none, of the same authority.
    fn note_steps_back(&self, before: &Self, settings: &Settings, wrong: &mut Problems) {
        let (Some(now), Some(then)) = (&self.closed, &before.closed) else { return };
        wrong.unless(now.rules.site() == then.rules.site(), || {
            let (new, old) = (now.rules.site(), then.rules.site());
            format!("site = \"{new}\": is \"{old}\" until the broker is started again")
        });
        let Some(file) = settings.access.revocations.as_ref().filter(|_| now.authority == then.authority) else {
            return;
        };
        match (&before.revocations, &self.revocations) {
            (Some(_), None) => wrong.unless(false, || format!("access.revocations {file:?}: is not there any more")),
            (Some(old), Some(new)) => {
                wrong.unless(old.seq <= new.seq, || {
                    let (old, new) = (old.seq, new.seq);
                    format!("access.revocations {file:?}: list {new} is older than list {old}, which is in force")
                });
            }
            (None, _) => {}
        }
    }

    /// Who shows these credentials.
    pub async fn identify(&self, credentials: &Credentials) -> Result<Identity, Denied> {
        let Some(closed) = &self.closed else { return Ok(Identity::Anyone) };
        match (&credentials.certificate, &credentials.user) {
            (Some(certificate), _) => closed.identify_by_certificate(certificate),
            (None, Some(user)) => closed.identify_by_password(user, credentials.password.as_deref()).await,
            (None, None) => Err(Denied::Nothing),
        }
    }

    /// What `identity` may do; `None` if it may not be here at all (any more). How long its certificate is valid is looked
    /// at by [`Access::identify`] only.
    pub fn rights(&self, identity: &Identity) -> Option<Arc<Rights>> {
        let Some(closed) = &self.closed else { return Some(Arc::new(Rights::all())) };
        let (name, role) = match identity {
            Identity::Anyone => return None,
            Identity::Certified { name, role, serial, authority } => {
                if closed.authority.as_ref() != Some(authority) || closed.revoked.contains(serial) {
                    return None;
                }
                (name.as_str(), *role)
            }
            Identity::User { name, role, password_hash } => {
                let (role_now, hash_now) = closed.users.get(name)?;
                if (role_now, hash_now) != (role, password_hash) {
                    return None;
                }
                (name.as_str(), *role)
            }
        };
        if role == Role::Transformer && !closed.rules.is_transformer(name) {
            return None;
        }
        Some(Arc::new(closed.rules.rights(name, role)))
    }

    /// How the broker speaks TLS, if it does.
    pub fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.clone()
    }

    /// Topic and payload of the signed list of revocations, to be published retained, if there is one.
    pub fn revocations(&self) -> Option<(&str, &Bytes)> {
        self.revocations.as_ref().map(|list| (list.topic.as_str(), &list.payload))
    }

    /// Whether nobody is asked who he is.
    pub fn is_open(&self) -> bool {
        self.closed.is_none()
    }
}

impl Closed {
    fn identify_by_certificate(&self, certificate: &[u8]) -> Result<Identity, Denied> {
        let no_authority = || Denied::Certificate("the settings name no access.authority".to_owned());
        let authority = self.authority.as_ref().ok_or_else(no_authority)?;
        let named = authority.check(certificate, unix_now())?;
        let serial = serial_of(certificate)?;
        let (name, role) = (named.name, named.role);
        if named.site != *self.rules.site() {
            return Err(Denied::OtherSite { name, site: named.site });
        }
        if self.revoked.contains(&serial) {
            return Err(Denied::Revoked { name, serial });
        }
        if role == Role::Transformer && !self.rules.is_transformer(name.as_str()) {
            return Err(Denied::UnknownTransformer(name));
        }
        Ok(Identity::Certified { name, role, serial, authority: authority.clone() })
    }

    async fn identify_by_password(&self, user: &str, password: Option<&[u8]>) -> Result<Identity, Denied> {
        let known = self.users.get_key_value(user);
        // For an unknown user another one's hash is checked in vain, so that the time taken does not tell who is known.
        let Some((_, hash)) = known.map(|(_, user)| user).or_else(|| self.users.values().next()) else {
            return Err(Denied::UnknownUser(shortened(user)));
        };
        let is_right = hash.is_of(password.unwrap_or_default().to_vec()).await;
        match known {
            None => Err(Denied::UnknownUser(shortened(user))),
            Some((name, _)) if !is_right => Err(Denied::WrongPassword(name.clone())),
            Some((name, (role, hash))) => {
                Ok(Identity::User { name: name.clone(), role: *role, password_hash: hash.clone() })
            }
        }
    }
}

#[cfg(test)]
mod tests;
