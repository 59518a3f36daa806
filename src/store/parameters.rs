//! Parses `--database-url`, in either of libpq's forms. Every parameter that libpq knows is used, ignored
//! with a note, or refused by name; so are those that other tools write into such URLs. No message holds a
//! value, which may be a password.

use super::tls::Security;
use std::time::Duration;
use tokio_postgres::{
    Config,
    config::{ChannelBinding, Host, LoadBalanceHosts, TargetSessionAttrs},
};

/// The content of a URL.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    pub(super) user: Option<String>,
    pub(super) password: Option<Vec<u8>>,
    pub(super) database: Option<String>,
    pub(super) hosts: Vec<Host>,
    pub(super) addresses: Vec<std::net::IpAddr>,
    pub(super) ports: Vec<u16>,
    pub(super) passfile: Option<String>,
    pub(super) balance: bool,
    pub(super) security: Security,
    /// Those that a shown URL needs as well, none of them secret.
    pub(super) shown: Vec<(String, String)>,
    /// What is ignored, and why.
    pub(super) notes: Vec<String>,
    /// Everything else, on top of this program's defaults.
    pub(super) config: Config,
}

/// The refusal of a text that is neither form.
const NO_URL: &str = "is not a Postgres URL, such as postgresql://user@host/database";

/// Parameters that change nothing here.
const IGNORED: [(&str, &str); 21] = [
    ("schema", "tables are named with their schema here"),
    ("currentSchema", "tables are named with their schema here"),
    ("search_path", "tables are named with their schema here"),
    ("pgbouncer", "behind a transaction pooler give --wakeups poll"),
    ("connection_limit", "see --db-pool-size"),
    ("pool_timeout", "see --db-pool-size"),
    ("pool_mode", "see --wakeups"),
    ("max_conns", "see --db-pool-size"),
    ("socket_timeout", "every statement has its own limit here"),
    ("statement_cache_size", "see --wakeups"),
    ("prepared_statements", "see --wakeups"),
    ("fallback_application_name", "it is trex"),
    ("client_encoding", "it is UTF8"),
    ("sslcompression", "no TLS library compresses any more"),
    ("krbsrvname", "Kerberos is not supported"),
    ("gsslib", "Kerberos is not supported"),
    ("gssdelegation", "Kerberos is not supported"),
    ("max_protocol_version", "it is 3.0"),
    ("uselibpqcompat", "libpq's meaning is the only one here"),
    ("authtype", "libpq ignores it too"),
    ("tty", "libpq ignores it too"),
];

/// Parameters that ask for what this program lacks, and whose loss would matter.
const REFUSED: [(&str, &str); 18] = [
    ("service", "write the connection into the URL"),
    ("servicefile", "write the connection into the URL"),
    ("requirepeer", "who owns a socket is not looked at here"),
    ("require_auth", "use channel_binding=require, which asks for SCRAM over TLS"),
    ("sslcrl", "revocation lists are not read"),
    ("sslcrldir", "revocation lists are not read"),
    ("sslpassword", "decrypt the key first"),
    ("sslkeylogfile", "session keys are not written"),
    ("requiressl", "write sslmode=require"),
    ("ssl", "write sslmode=require or verify-full"),
    ("sslfactory", "write sslmode=verify-full with sslrootcert"),
    ("sslaccept", "write sslmode: require accepts any certificate, verify-full only the right one"),
    ("sslidentity", "write sslcert and sslkey"),
    ("scram_client_key", "give the password"),
    ("scram_server_key", "give the password"),
    ("oauth_issuer", "OAuth is not supported"),
    ("oauth_client_id", "OAuth is not supported"),
    ("min_protocol_version", "the protocol is 3.0"),
];

impl Parameters {
    /// Reads a URL or a key-value string.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parameters = Self::default();
        let scheme = ["postgresql://", "postgres://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        match scheme {
            Some(rest) => parameters.take_url(rest)?,
            None => {
                for (name, value) in pairs(text).ok_or(NO_URL)? {
                    let hosts = value.split(',').map(str::to_owned).collect();
                    parameters.take(&name, &value, hosts)?;
                }
            }
        }
        Ok(parameters)
    }

    fn take_url(&mut self, rest: &str) -> Result<(), String> {
        // Only what stands before the first slash may be a name and a password.
        let name_ends = rest.find('@').filter(|&at| !rest[..at].contains('/')).map_or(0, |at| at + 1);
        let query_begins = rest[name_ends..].find('?').map_or(rest.len(), |at| name_ends + at);
        let (base, query) = rest.split_at(query_begins);
        let base: Config = format!("postgresql://{base}").parse().map_err(|_| NO_URL)?;
        self.user = base.get_user().map(str::to_owned);
        self.password = base.get_password().map(<[u8]>::to_vec);
        self.database = base.get_dbname().map(str::to_owned);
        self.hosts = base.get_hosts().to_vec();
        self.ports = base.get_ports().to_vec();
        for pair in query.trim_start_matches('?').split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(NO_URL)?;
            let name = decoded(name).ok_or(NO_URL)?;
            // A comma within a directory is written %2C: split first.
            let parts = value.split(',').map(decoded).collect::<Option<Vec<_>>>().ok_or(NO_URL)?;
            self.take(&name, &parts.join(","), parts)?;
        }
        Ok(())
    }

    fn take(&mut self, name: &str, value: &str, parts: Vec<String>) -> Result<(), String> {
        let bad = || format!("{name} has no value that is understood");
        let number = || value.parse::<u64>().map_err(|_| bad());
        match name {
            "user" => self.user = Some(value.to_owned()),
            "password" => self.password = Some(value.as_bytes().to_vec()),
            "dbname" => self.database = Some(value.to_owned()),
            "passfile" => self.passfile = Some(value.to_owned()),
            "host" => self.hosts = parts.into_iter().map(host).collect(),
            "hostaddr" => {
                let addresses: Result<_, _> = parts.iter().map(|part| part.parse()).collect();
                self.addresses = addresses.map_err(|_| bad())?;
            }
            "port" => {
                let port = |part: &String| if part.is_empty() { Ok(5432) } else { part.parse() };
                let ports: Result<_, _> = parts.iter().map(port).collect();
                self.ports = ports.map_err(|_| bad())?;
            }
            "options" => drop(self.config.options(value)),
            "application_name" => drop(self.config.application_name(value)),
            "connect_timeout" => drop(self.config.connect_timeout(seconds(number()?))),
            "keepalives" => drop(self.config.keepalives(number()? != 0)),
            "keepalives_idle" => drop(self.config.keepalives_idle(seconds(number()?))),
            "keepalives_interval" => drop(self.config.keepalives_interval(seconds(number()?))),
            "keepalives_count" => {
                let count = number()?.try_into().map_err(|_| bad())?;
                self.config.keepalives_retries(count);
            }
            // The only one in milliseconds.
            "tcp_user_timeout" => drop(self.config.tcp_user_timeout(Duration::from_millis(number()?))),
            "target_session_attrs" => match value {
                "any" => {}
                "read-write" | "primary" => {
                    self.config.target_session_attrs(TargetSessionAttrs::ReadWrite);
                }
                "read-only" | "standby" | "prefer-standby" => {
                    return Err(
                        "target_session_attrs: the hub writes, so it needs any, read-write or primary"
                            .to_owned(),
                    );
                }
                _ => return Err(bad()),
            },
            "load_balance_hosts" => match value {
                "disable" => {}
                "random" => {
                    self.balance = true;
                    self.config.load_balance_hosts(LoadBalanceHosts::Random);
                }
                _ => return Err(bad()),
            },
            "channel_binding" => {
                let binding = match value {
                    "disable" => ChannelBinding::Disable,
                    "prefer" => ChannelBinding::Prefer,
                    "require" => ChannelBinding::Require,
                    _ => return Err("channel_binding is disable, prefer or require".to_owned()),
                };
                self.config.channel_binding(binding);
                self.shown.push((name.to_owned(), value.to_owned()));
            }
            "gssencmode" if value == "require" => {
                return Err("gssencmode=require: Kerberos is not supported; use TLS (sslmode)".to_owned());
            }
            // They ask for what is the case anyway.
            "gssencmode" => {}
            "replication" if matches!(value, "" | "false" | "off" | "no" | "0") => {}
            "replication" => return Err("replication: the hub needs ordinary sessions".to_owned()),
            "requiressl" if value == "0" => {}
            "client_encoding" if matches!(value, "auto" | "UTF8" | "utf8" | "UTF-8" | "utf-8") => {}
            name if super::tls::PARAMETERS.contains(&name) => {
                self.security.take(name, value)?;
                self.shown.push((name.to_owned(), value.to_owned()));
            }
            name => return self.judge(name),
        }
        Ok(())
    }

    fn judge(&mut self, name: &str) -> Result<(), String> {
        let among = |list: &[(&str, &'static str)]| {
            list.iter().find(|(known, _)| *known == name).map(|(_, why)| *why)
        };
        if let Some(why) = among(&REFUSED) {
            return Err(format!("{name} is not supported: {why}"));
        }
        match among(&IGNORED) {
            Some(why) => self.notes.push(format!("{name} is ignored: {why}")),
            // A piece of a password that was not encoded is no name, and is not shown.
            None if is_name(name) => return Err(format!("{name} is no parameter that trex knows")),
            None => return Err(NO_URL.to_owned()),
        }
        Ok(())
    }
}

/// A short word of lower-case letters, as parameters are.
fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len()) && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase())
}

/// Zero means no limit in libpq, or the system's own.
fn seconds(number: u64) -> Duration {
    Duration::from_secs(if number == 0 { u64::from(u32::MAX) } else { number })
}

fn host(name: String) -> Host {
    if name.starts_with('/') { Host::Unix(name.into()) } else { Host::Tcp(name) }
}

fn decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'%' {
            let digits = text.get(at + 1..at + 3)?;
            plain.push(u8::from_str_radix(digits, 16).ok()?);
            at += 3;
        } else {
            plain.push(byte);
            at += 1;
        }
    }
    String::from_utf8(plain).ok()
}

/// The pairs of `host=db user='a b'`: quotes keep blanks together, a backslash escapes what follows.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let mut value = String::new();
        let after = after.trim_start();
        let (quoted, body) = after.strip_prefix('\'').map_or((false, after), |body| (true, body));
        let mut characters = body.char_indices();
        let mut end = None;
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' => value.extend(characters.next().map(|(_, next)| next)),
                '\'' if quoted => {
                    end = Some(at + 1);
                    break;
                }
                blank if !quoted && blank.is_whitespace() => {
                    end = Some(at);
                    break;
                }
                other => value.push(other),
            }
        }
        if quoted && end.is_none() {
            return None;
        }
        pairs.push((name.trim().to_owned(), value));
        rest = body[end.unwrap_or(body.len())..].trim_start();
    }
    (!pairs.is_empty()).then_some(pairs)
}

#[cfg(test)]
mod tests;
