//! An authority of a test, and what it signs.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};
use tempfile::TempDir;

/// Signs certificates, and keeps them in files.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// The files of a certificate and its key.
#[derive(Debug, Clone)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let folder = tempfile::tempdir().expect("a directory");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("open");
        let authority = Self { issuer, folder };
        fs::write(authority.path(), authority.pem()).expect("a file");
        authority
    }

    /// The file of its own certificate.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("authority.crt")
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these names, in files called `file`.
    pub fn issue(&self, file: &str, names: &[&str]) -> Pair {
        self.issue_with(file, names, |_| {})
    }

    /// One whose time is over.
    pub fn issue_expired(&self, file: &str, names: &[&str]) -> Pair {
        self.issue_with(file, names, |params| params.not_after = date_time_ymd(2020, 1, 1))
    }

    /// One that says its name in the old way.
    pub fn issue_by_common_name(&self, file: &str, name: &str) -> Pair {
        self.issue_with(file, &[], |params| params.distinguished_name.push(DnType::CommonName, name))
    }

    fn issue_with(&self, file: &str, names: &[&str], change: impl Fn(&mut CertificateParams)) -> Pair {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("names");
        params.distinguished_name.push(DnType::CommonName, names.first().map_or("nobody", String::as_str));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let path = |ending: &str| self.folder.path().join(format!("{file}.{ending}"));
        let pair = Pair { certificate: path("crt"), key: path("key") };
        fs::write(&pair.certificate, certificate.pem()).expect("a file");
        fs::write(&pair.key, key.serialize_pem()).expect("a file");
        fs::set_permissions(&pair.key, fs::Permissions::from_mode(0o600)).expect("private");
        pair
    }
}
