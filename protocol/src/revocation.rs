//! Which certificates are revoked: `grid/{site}/ca/revoked`, retained, signed by the site's authority.
//!
//! ```text
//! {"from":"ca","session":"…","seq":3,"time_ms":…,"revoked":[{"serial":"4a…","name":"cp-3"}],"sig":"…"}
//! ```
//!
//! The list is cumulative: the newest one says everything. It is signed as every message is ([`crate::seal`]), but with
//! the key of the authority's certificate: ECDSA P-256 with SHA-256 (FIPS 186-4), r and s of 32 bytes each (the form of
//! RFC 7518, section 3.4). So whoever knows the authority knows whether a list is genuine, and needs no further key.

use serde::{Deserialize, Serialize};

use crate::identity::{Authority, IdentityError, Serial};
#[cfg(feature = "issue")]
use crate::identity::{IssueError, Issuer};
use crate::message::Message;
#[cfg(feature = "issue")]
use crate::seal::seal_with;
use crate::seal::{BadSignature, OpenError, Sealed};
use crate::topic::{Kind, Name, Topic};

/// All certificates of a site that are revoked: what a [`RevocationList`] says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocations {
    /// In the order of their revocation.
    pub revoked: Vec<Revoked>,
}

/// One certificate that is revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// Its serial number.
    pub serial: Serial,
    /// Whom it named.
    pub name: Name,
}

/// A list as the authority publishes it. Its session begins with the authority; `seq` rises with each list.
pub type RevocationList = Message<Revocations>;

/// Why a payload is no list of revocations that counts.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    /// It has not the form of a signed message.
    #[error(transparent)]
    Form(#[from] OpenError),
    /// It is not from the authority.
    #[error("it is from {0}, but only \"ca\", the site's authority, can revoke")]
    Sender(Name),
    /// It has no number, so that nobody could tell whether it is the newest.
    #[error("it has no sequence number from 1 on")]
    Unnumbered,
    /// The authority's certificate cannot be used.
    #[error(transparent)]
    Authority(#[from] IdentityError),
    /// The signature is not the authority's.
    #[error("it is not signed by the authority of this site")]
    Signature(#[from] BadSignature),
}

impl Revocations {
    /// Whether the certificate with this serial number is revoked.
    pub fn contains(&self, serial: &Serial) -> bool {
        self.revoked.iter().any(|revoked| revoked.serial == *serial)
    }

    /// The serial numbers of all revoked certificates.
    pub fn serials(&self) -> impl Iterator<Item = &Serial> {
        self.revoked.iter().map(|revoked| &revoked.serial)
    }
}

/// The name under which a site's authority speaks. Nobody else can have it.
pub fn authority_name() -> Name {
    "ca".parse().unwrap_or_else(|_| unreachable!("a literal name"))
}

/// Where the list of a site stands.
pub fn topic(site: &Name) -> Topic {
    Topic::new(site, &authority_name(), Kind::Revoked)
}

/// Reads a list of `site` and checks that its authority signed it.
pub fn read(payload: &[u8], site: &Name, authority: &Authority) -> Result<RevocationList, RevocationError> {
    let sealed = Sealed::parse(payload)?;
    let list: RevocationList = sealed.read()?;
    if list.header.from != authority_name() {
        return Err(RevocationError::Sender(list.header.from));
    }
    if list.header.seq.is_none_or(|seq| seq == 0) {
        return Err(RevocationError::Unnumbered);
    }
    sealed.verify_with(&topic(site).to_string(), |bytes, signature| {
        if authority.signed(bytes, signature)? { Ok(()) } else { Err(RevocationError::Signature(BadSignature)) }
    })?;
    Ok(list)
}

/// Signs a list for the issuer's site and returns the payload to publish. It may have at most 8 KiB: about 120
/// certificates.
#[cfg(feature = "issue")]
pub fn write(list: &RevocationList, issuer: &Issuer) -> Result<Vec<u8>, IssueError> {
    seal_with(&topic(issuer.site()), list, |bytes| issuer.sign(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Header, Session};
    use crate::seal::SealError;
    use crate::units::UnixMillis;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn site() -> Name {
        "demo".parse().unwrap()
    }

    fn issuer() -> Issuer {
        Issuer::create(&site(), NOW).unwrap()
    }

    fn list(names: &[&str]) -> RevocationList {
        let revoked = names.iter().enumerate().map(|(at, name)| Revoked {
            serial: Serial::from_bytes(&[u8::try_from(at % 200).unwrap() + 1; 16]).unwrap(),
            name: name.parse().unwrap(),
        });
        let header = Header { from: authority_name(), session: Session(7), seq: Some(2), time_ms: NOW };
        Message { header, body: Revocations { revoked: revoked.collect() } }
    }

    #[test]
    fn what_the_authority_revoked_reads_back() {
        let issuer = issuer();
        let list = list(&["cp-3", "cp-4"]);
        let payload = write(&list, &issuer).unwrap();
        let read = read(&payload, &site(), &issuer.authority()).unwrap();
        assert_eq!(read, list);
        assert!(read.body.contains(&Serial::from_bytes(&[2; 16]).unwrap()));
        assert!(!read.body.contains(&Serial::from_bytes(&[3; 16]).unwrap()));
        assert_eq!(read.body.serials().count(), 2);
    }

    #[test]
    fn a_list_of_another_authority_or_for_another_site_does_not_count() {
        let issuer = issuer();
        let payload = write(&list(&["cp-3"]), &issuer).unwrap();
        let other = Issuer::create(&site(), NOW).unwrap().authority();
        assert!(matches!(read(&payload, &site(), &other), Err(RevocationError::Signature(_))));
        let elsewhere = "elsewhere".parse().unwrap();
        assert!(matches!(read(&payload, &elsewhere, &issuer.authority()), Err(RevocationError::Signature(_))));
    }

    #[test]
    fn a_list_that_somebody_changed_or_signed_for_himself_does_not_count() {
        let issuer = issuer();
        let payload = write(&list(&["cp-3"]), &issuer).unwrap();
        for at in 0..payload.len() {
            let mut changed = payload.clone();
            changed[at] ^= 1;
            assert!(read(&changed, &site(), &issuer.authority()).is_err(), "byte {at}");
        }
        let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
        let forged = crate::seal::seal(&topic(&site()), &list(&[]), &key).unwrap();
        assert!(matches!(read(&forged, &site(), &issuer.authority()), Err(RevocationError::Signature(_))));
    }

    #[test]
    fn only_the_authority_revokes_and_each_list_has_a_number() {
        let issuer = issuer();
        let mut from_another = list(&["cp-3"]);
        from_another.header.from = "cp-4".parse().unwrap();
        let payload = write(&from_another, &issuer).unwrap();
        assert!(matches!(read(&payload, &site(), &issuer.authority()), Err(RevocationError::Sender(_))));
        for seq in [None, Some(0)] {
            let mut unnumbered = list(&["cp-3"]);
            unnumbered.header.seq = seq;
            let payload = write(&unnumbered, &issuer).unwrap();
            assert!(matches!(read(&payload, &site(), &issuer.authority()), Err(RevocationError::Unnumbered)));
        }
    }

    #[test]
    fn a_hundred_certificates_fit_and_too_many_are_refused() {
        let issuer = issuer();
        assert!(write(&list(&["charge-point-1"; 100]), &issuer).is_ok());
        let refused = write(&list(&["charge-point-1"; 200]), &issuer);
        assert!(matches!(refused, Err(IssueError::Seal(SealError::TooLong(_)))));
    }
}
