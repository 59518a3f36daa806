//! The `ssl…` parameters of a URL, and the settings made of them.

use super::{
    Connector,
    fault::Context,
    verify::{Roots, Trust, Verifier},
};
use crate::tls::{self, FileFault};
use rustls::{
    ClientConfig, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// How much TLS is demanded, in the order of strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) enum Mode {
    Disable,
    /// Only if the server insists.
    Allow,
    /// If the server has it.
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl Mode {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }
}

/// The parameters about TLS.
#[derive(Debug, Default)]
pub(in crate::store) struct Security {
    mode: Option<Mode>,
    root: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    without_certificate: bool,
    direct: bool,
    without_sni: bool,
    /// Whether only TLS 1.3 is allowed, or only 1.2.
    only: (bool, bool),
}

/// The names of the parameters about TLS.
pub(in crate::store) const PARAMETERS: [&str; 9] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslcertmode",
    "sslnegotiation",
    "sslsni",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
];

const MODES: &str = "sslmode is one of disable, allow, prefer, require, verify-ca, verify-full";

impl Security {
    /// Takes one of [`PARAMETERS`].
    pub(in crate::store) fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        match (name, value) {
            ("sslmode", text) => self.mode = Some(Mode::parse(text).ok_or(MODES)?),
            ("sslrootcert", file) => self.root = (!file.is_empty()).then(|| file.to_owned()),
            ("sslcert", file) => self.certificate = (!file.is_empty()).then(|| file.into()),
            ("sslkey", file) if file.contains(':') && !file.starts_with('/') => {
                return Err("sslkey is a file: keys in devices (engine:id) are not supported".to_owned());
            }
            ("sslkey", file) => self.key = (!file.is_empty()).then(|| file.into()),
            ("sslcertmode", "disable") => self.without_certificate = true,
            ("sslcertmode", "allow") => self.without_certificate = false,
            ("sslcertmode", _) => return Err("sslcertmode is disable or allow here".to_owned()),
            ("sslnegotiation", "postgres") => self.direct = false,
            ("sslnegotiation", "direct") => self.direct = true,
            ("sslnegotiation", _) => return Err("sslnegotiation is postgres or direct".to_owned()),
            ("sslsni", number) => self.without_sni = number == "0",
            ("ssl_min_protocol_version", version) => self.only.0 = is_1_3(name, version)?,
            ("ssl_max_protocol_version", "") => self.only.1 = false,
            ("ssl_max_protocol_version", version) => self.only.1 = !is_1_3(name, version)?,
            _ => {}
        }
        Ok(())
    }

    /// As the URL and `sslrootcert=system` demand.
    pub(in crate::store) fn mode(&self) -> Mode {
        let default = if self.is_system() { Mode::VerifyFull } else { Mode::Prefer };
        self.mode.unwrap_or(default)
    }

    fn is_system(&self) -> bool {
        self.root.as_deref() == Some("system")
    }

    /// Reads the files. `home`: where libpq's default files are.
    pub(in crate::store) fn connector(&self, home: Option<&Path>) -> Result<Connector, String> {
        let mode = self.mode();
        if mode == Mode::Disable {
            return Ok(Connector::none());
        }
        if self.is_system() && mode < Mode::VerifyFull {
            return Err("sslrootcert=system needs sslmode=verify-full: anybody has a certificate that this \
                        machine trusts"
                .to_owned());
        }
        if self.direct && mode < Mode::Require {
            return Err("sslnegotiation=direct needs sslmode=require or more".to_owned());
        }
        let versions: &[&SupportedProtocolVersion] = match self.only {
            (false, false) => &[&TLS13, &TLS12],
            (true, false) => &[&TLS13],
            (false, true) => &[&TLS12],
            (true, true) => {
                return Err("ssl_max_protocol_version is below ssl_min_protocol_version".to_owned());
            }
        };
        let (trust, context) = self.trust(mode, home)?;
        let provider = tls::provider();
        let verifier = Arc::new(Verifier { provider: provider.clone(), trust });
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match self.client_files(home)? {
            Some((certificate, key)) => {
                let chain =
                    tls::certificates(&certificate, &read(&certificate)?).map_err(about("sslcert"))?;
                check_permissions(&key)?;
                let secret = tls::private_key(&key, &read(&key)?).map_err(about("sslkey"))?;
                builder.with_client_auth_cert(chain, secret).map_err(|_| {
                    format!("sslkey {} does not fit sslcert {}", key.display(), certificate.display())
                })?
            }
            None => builder.with_no_client_auth(),
        };
        config.enable_sni = !self.without_sni;
        // A server before 17 ignores it.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Connector::new(config, mode <= Mode::Prefer, self.direct, context))
    }

    /// With a file of authorities every mode verifies the chain, as in libpq; without one only the verifying
    /// modes do.
    fn trust(&self, mode: Mode, home: Option<&Path>) -> Result<(Trust, Context), String> {
        let direct = self.direct;
        if self.is_system() {
            let store = tls::system_roots().map_err(about("sslrootcert"))?;
            let context = Context { roots: "the store of this machine".to_owned(), direct };
            return Ok((Trust::Named(Roots { store, certificates: Vec::new() }), context));
        }
        let path = match (&self.root, home.map(|home| home.join(".postgresql/root.crt"))) {
            (Some(given), _) => Some(PathBuf::from(given)),
            (None, Some(default)) if default.is_file() => Some(default),
            (None, _) => None,
        };
        let Some(path) = path else {
            if mode >= Mode::VerifyCa {
                return Err("sslmode=verify-ca and verify-full need sslrootcert: the file of the server's \
                            authority, or system"
                    .to_owned());
            }
            return Ok((Trust::Anybody, Context { roots: String::new(), direct }));
        };
        let pem = tls::read(&path).map_err(about("sslrootcert"))?;
        let store = tls::roots(&path, &pem).map_err(about("sslrootcert"))?;
        let certificates = tls::certificates(&path, &pem).map_err(about("sslrootcert"))?;
        let roots = Roots { store, certificates };
        let trust = if mode == Mode::VerifyFull { Trust::Named(roots) } else { Trust::Signed(roots) };
        Ok((trust, Context { roots: path.display().to_string(), direct }))
    }

    /// The certificate and the key of this client.
    fn client_files(&self, home: Option<&Path>) -> Result<Option<(PathBuf, PathBuf)>, String> {
        if self.without_certificate {
            return Ok(None);
        }
        let default =
            |name: &str| home.map(|home| home.join(".postgresql").join(name)).filter(|path| path.is_file());
        let given = self.certificate.is_some() || self.key.is_some();
        let certificate = self.certificate.clone().or_else(|| default("postgresql.crt"));
        let key = self.key.clone().or_else(|| default("postgresql.key"));
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (Some(_), None) if given => Err("sslcert needs sslkey".to_owned()),
            (None, Some(_)) if given => Err("sslkey needs sslcert".to_owned()),
            _ => Ok(None),
        }
    }
}

fn is_1_3(name: &str, version: &str) -> Result<bool, String> {
    match version {
        "TLSv1.3" => Ok(true),
        // Versions before 1.2 are never used, which is stricter than what was asked for.
        "TLSv1.2" | "" => Ok(false),
        "TLSv1" | "TLSv1.1" if name == "ssl_min_protocol_version" => Ok(false),
        _ => Err(format!("{name} is TLSv1.2 or TLSv1.3")),
    }
}

fn about(name: &'static str) -> impl Fn(FileFault) -> String {
    move |fault| format!("{name} {fault}")
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    tls::read(path).map_err(|fault| format!("sslcert, sslkey: {fault}"))
}

/// As in libpq: only its owner may read a key; a group may read root's.
fn check_permissions(key: &Path) -> Result<(), String> {
    let metadata = fs::metadata(key).map_err(|error| format!("sslkey {}: {error}", key.display()))?;
    let (forbidden, right) = if metadata.uid() == 0 { (0o037, "0640") } else { (0o077, "0600") };
    if metadata.mode() & forbidden != 0 {
        let path = key.display();
        return Err(format!("sslkey {path} may be read or written by others: chmod {right} {path}"));
    }
    Ok(())
}
