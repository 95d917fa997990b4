//! The authority's folder: where each file is, and in which order they are written.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use grid_protocol::identity::{
    Authority, Identity, IssueError, Issuer, Serial, ServerCertificate, Validity, hosts_of, named_in, serial_of,
    validity_of,
};
use grid_protocol::message::{Header, Message, Session};
use grid_protocol::revocation::{self, RevocationList, Revocations, Revoked, authority_name};
use grid_protocol::seal::SealError;
use grid_protocol::topic::Name;
use grid_service::clock::unix_now;
use grid_service::file::{replace, replace_secret};
use rustix::fs::{FlockOperation, flock};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::error::CaError;

/// The folder, held by this process alone as long as this lives: two commands at once would lose what one of them did.
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

/// A certificate that the authority issued.
pub struct Issued {
    /// Whom it names.
    pub identity: Identity,
    /// Its serial number.
    pub serial: Serial,
    /// How long it holds.
    pub validity: Validity,
}

impl Folder {
    /// Opens the folder of an authority.
    pub fn open(path: PathBuf) -> Result<Self, CaError> {
        if !path.is_dir() {
            return Err(CaError::NoAuthority(path));
        }
        let folder = Self::lock(path)?;
        if folder.is_there()? { Ok(folder) } else { Err(CaError::NoAuthority(folder.path)) }
    }

    /// Opens a folder, or makes it.
    pub fn make(path: PathBuf) -> Result<Self, CaError> {
        fs::create_dir_all(&path).map_err(failed("make", &path))?;
        Self::lock(path)
    }

    fn lock(path: PathBuf) -> Result<Self, CaError> {
        let lock = File::open(&path).map_err(failed("open", &path))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed("lock", &path)(error.into()))?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.path.join("ca.pem")
    }

    /// The authority's private key.
    pub fn key(&self) -> PathBuf {
        self.path.join("ca.key")
    }

    /// The broker's certificate.
    pub fn server_certificate(&self) -> PathBuf {
        self.path.join("broker.pem")
    }

    /// The broker's private key.
    pub fn server_key(&self) -> PathBuf {
        self.path.join("broker.key")
    }

    /// The list of revoked certificates.
    pub fn revocations_file(&self) -> PathBuf {
        self.path.join("revoked.json")
    }

    /// The copies of all certificates.
    pub fn issued_folder(&self) -> PathBuf {
        self.path.join("issued")
    }

    /// The hosts that the broker's certificate holds for; none if there is no such certificate.
    pub fn hosts(&self) -> Result<Vec<String>, CaError> {
        let file = self.server_certificate();
        if !file.exists() {
            return Ok(Vec::new());
        }
        let Ok(der) = CertificateDer::from_pem_slice(read(&file)?.as_bytes()) else { return Err(CaError::NoPem(file)) };
        hosts_of(&der).map_err(|why| CaError::Certificate { file, why })
    }

    /// The folder that holds `etc` and `var` of the machine that the authority is for, if this is the usual folder there.
    pub fn machine(&self) -> Option<&Path> {
        let usual = Path::new(super::DEFAULT_FOLDER).strip_prefix("/").ok()?;
        self.path.ends_with(usual).then(|| self.path.ancestors().nth(usual.components().count())).flatten()
    }

    /// Whether it holds an authority. One that is not complete is an error.
    pub fn is_there(&self) -> Result<bool, CaError> {
        let (certificate, key) = (self.certificate(), self.key());
        match (certificate.exists(), key.exists()) {
            (true, _) => Ok(true),
            (false, false) => Ok(false),
            (false, true) => Err(CaError::Half { key, certificate }),
        }
    }

    /// Writes a new authority. Its certificate comes last: before that nobody can trust it, and what is left of an
    /// interrupted attempt harms nobody.
    pub fn create(&self, issuer: &Issuer, server: &ServerCertificate) -> Result<(), CaError> {
        let issued = self.issued_folder();
        fs::create_dir_all(&issued).map_err(failed("make", &issued))?;
        let header =
            Header { from: authority_name(), session: Session(rand::random()), seq: Some(1), time_ms: unix_now() };
        self.put_revocations(issuer, &Message { header, body: Revocations::default() })?;
        self.put_server(server)?;
        write_secret(&self.key(), issuer.key_pem().as_bytes())?;
        write(&self.certificate(), issuer.certificate_pem().as_bytes())
    }

    /// Writes the broker's certificate and key. A power cut between the two leaves a pair that does not fit, which the
    /// broker says at its start; `issue-server` again mends it.
    pub fn put_server(&self, server: &ServerCertificate) -> Result<(), CaError> {
        write_secret(&self.server_key(), server.key_pem().as_bytes())?;
        write(&self.server_certificate(), server.certificate.as_bytes())
    }

    /// The authority with its private key.
    pub fn issuer(&self) -> Result<Issuer, CaError> {
        let (certificate, key) = (self.certificate(), self.key());
        let (certificate_pem, key_pem) = (read(&certificate)?, read(&key)?);
        Issuer::from_pem(&certificate_pem, &key_pem).map_err(|why| CaError::Unusable { certificate, key, why })
    }

    /// Keeps a copy of a certificate (DER), and says where.
    pub fn record(&self, name: &Name, certificate: &[u8]) -> Result<PathBuf, CaError> {
        let folder = self.issued_folder();
        fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
        let why = |why| CaError::Certificate { file: folder.clone(), why };
        let file = folder.join(format!("{name}-{}.pem", serial_of(certificate).map_err(why)?));
        write(&file, grid_protocol::identity::certificate_pem(certificate).as_bytes())?;
        Ok(file)
    }

    /// Takes back the copy of a certificate that nobody got.
    pub fn forget(&self, record: &Path) -> Result<(), CaError> {
        fs::remove_file(record).map_err(failed("remove", record))
    }

    /// All certificates that were issued, by name and then by age.
    pub fn issued(&self) -> Result<Vec<Issued>, CaError> {
        let folder = self.issued_folder();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed("read", &folder))?,
        };
        let mut issued = Vec::new();
        for entry in entries {
            let file = entry.map_err(failed("read", &folder))?.path();
            if file.extension().is_some_and(|extension| extension == "pem") {
                issued.push(read_issued(file)?);
            }
        }
        issued.sort_by(|a, b| {
            let key = |issued: &Issued| (issued.identity.name.clone(), issued.validity.from, issued.serial.clone());
            key(a).cmp(&key(b))
        });
        Ok(issued)
    }

    /// The list of revoked certificates, checked.
    pub fn revocations(&self, issuer: &Issuer) -> Result<RevocationList, CaError> {
        let file = self.revocations_file();
        let payload = fs::read(&file).map_err(failed("read", &file))?;
        let authority: Authority = issuer.authority();
        revocation::read(&payload, issuer.site(), &authority).map_err(|why| CaError::Revocations { file, why })
    }

    /// Adds certificates to the list. Its session goes on, so that everybody can tell the newest.
    pub fn revoke(&self, issuer: &Issuer, mut list: RevocationList, which: &[&Issued]) -> Result<(), CaError> {
        list.header.seq = list.header.seq.map(|seq| seq + 1);
        list.header.time_ms = unix_now();
        list.body.revoked.extend(
            which.iter().map(|issued| Revoked { serial: issued.serial.clone(), name: issued.identity.name.clone() }),
        );
        self.put_revocations(issuer, &list)
    }

    fn put_revocations(&self, issuer: &Issuer, list: &RevocationList) -> Result<(), CaError> {
        let file = self.revocations_file();
        match revocation::write(list, issuer) {
            Ok(payload) => write(&file, &payload),
            Err(why @ IssueError::Seal(SealError::TooLong(_))) => Err(CaError::TooMany { file, why }),
            Err(why) => Err(CaError::Issue(why)),
        }
    }
}

fn read_issued(file: PathBuf) -> Result<Issued, CaError> {
    let pem = read(&file)?;
    let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else { return Err(CaError::NoPem(file)) };
    let why = |why| CaError::Certificate { file: file.clone(), why };
    Ok(Issued {
        identity: named_in(&der).map_err(why)?,
        serial: serial_of(&der).map_err(why)?,
        validity: validity_of(&der).map_err(why)?,
    })
}

/// Reads one of the folder's files.
pub fn read(file: &Path) -> Result<String, CaError> {
    fs::read_to_string(file).map_err(failed("read", file))
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), CaError> {
    replace(file, bytes).map_err(failed("write", file))
}

/// Writes what only its owner may read.
pub fn write_secret(file: &Path, bytes: &[u8]) -> Result<(), CaError> {
    replace_secret(file, bytes).map_err(failed("write", file))
}

fn failed<'a>(verb: &'static str, path: &'a Path) -> impl Fn(io::Error) -> CaError + use<'a> {
    move |source| CaError::File { verb, path: path.to_owned(), source }
}
