//! The authority of the site, and what the service is given of it.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use grid_protocol::identity::Issuer;
use grid_service::clock::unix_now;
use grid_service::setup::{Readers, Root, SetupError};

use super::answers::Answers;
use super::error::Failure;
use super::{AUTHORITY, CERTIFICATE, KEY, settings};
use crate::ca::{self, CaError, Folder};

/// Sees to an authority and to a certificate of the broker for the hosts.
pub fn see_to(
    authority: &Folder,
    issuer: Option<Issuer>,
    answers: &Answers,
    hosts_there: &[String],
) -> Result<(), Failure> {
    let hosts = &answers.hosts.0;
    let (asked, certified): (BTreeSet<_>, BTreeSet<_>) = (hosts.iter().collect(), hosts_there.iter().collect());
    if let Some(issuer) = issuer {
        if asked == certified {
            println!("unchanged  {}", authority.path().display());
            return open_folder(authority);
        }
        let server = issuer.issue_server(hosts, unix_now()).map_err(CaError::Issue)?;
        authority.put_server(&server)?;
        println!("written    {}, for {}", authority.server_certificate().display(), answers.hosts);
    } else {
        let issuer = Issuer::create(&answers.site, unix_now()).map_err(CaError::Issue)?;
        let server = issuer.issue_server(hosts, unix_now()).map_err(CaError::Issue)?;
        authority.create(&issuer, &server)?;
        println!("written    {}, the authority of {}; keep a copy elsewhere", authority.path().display(), answers.site);
    }
    open_folder(authority)
}

/// The service's user reads the list of revoked certificates there. Keys are each for root alone.
fn open_folder(authority: &Folder) -> Result<(), Failure> {
    let set = |path: PathBuf, mode| {
        fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(|source| Failure::Mode { path, source })
    };
    set(authority.path().to_owned(), 0o755)?;
    set(authority.revocations_file(), 0o644)
}

/// Fails if `/etc/grid` has the certificate of another authority: whoever trusts that would not trust this one.
pub fn check_copy(root: &Root, issuer: Option<&Issuer>) -> Result<(), SetupError> {
    match (root.read(AUTHORITY)?, issuer) {
        (Some(there), issuer) if issuer.is_none_or(|issuer| issuer.certificate_pem().as_bytes() != there) => {
            Err(SetupError::OtherAuthority(root.at(AUTHORITY)))
        }
        (Some(_) | None, _) => Ok(()),
    }
}

/// Puts what the service is given into `/etc/grid`. Says whether anything there has changed.
pub fn copy(root: &Root, authority: &Folder) -> Result<bool, Failure> {
    root.write(AUTHORITY, ca::read(&authority.certificate())?.as_bytes(), Readers::All)?;
    let certificate = ca::read(&authority.server_certificate())?;
    let key = ca::read(&authority.server_key())?;
    // The certificate comes last: a pair that an interruption has left is written again.
    let is_same = root.read(CERTIFICATE)?.is_some_and(|there| there == certificate.as_bytes())
        && root.read(KEY)?.is_some_and(|there| there == key.as_bytes());
    if !is_same {
        if let Some(there) = root.read(CERTIFICATE)?
            && !settings::is_issued_by(&there, &ca::read(&authority.certificate())?)
        {
            println!("differs    {}: no certificate of this authority; it stays", root.at(CERTIFICATE).display());
            return Ok(false);
        }
        root.write(KEY, key.as_bytes(), Readers::Owner)?;
        root.write(CERTIFICATE, certificate.as_bytes(), Readers::All)?;
    }
    root.let_read(KEY, Readers::Owner)?;
    let mark = if is_same { "unchanged" } else { "written  " };
    println!("{mark}  {}, {}", root.at(CERTIFICATE).display(), root.at(KEY).display());
    Ok(!is_same)
}
