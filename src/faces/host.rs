//! The names that a listener answers to. A web page can make its own name resolve to 127.0.0.1, and then has
//! the same origin as a hub there. A hub that does not authenticate its callers therefore answers only to
//! names that no page can have.

use http::{Request, Version, header::HOST, uri::Authority};
use std::{net::Ipv6Addr, sync::Arc};

/// The names that are allowed besides IP addresses and `localhost`. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Hosts(Arc<[String]>);

/// What is wrong with the host that a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stranger {
    /// It names none, or more than one.
    Unclear,
    /// It names another host.
    Unknown,
}

impl Hosts {
    /// These names, without ports; letters of any case.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether a request names a host that is allowed.
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), Stranger> {
        let mut hosts = request.headers().get_all(HOST).iter();
        let (first, second) = (hosts.next(), hosts.next());
        if second.is_some() {
            return Err(Stranger::Unclear);
        }
        let header = match first {
            Some(value) => Some(value.to_str().map_err(|_| Stranger::Unclear)?),
            None if request.version() == Version::HTTP_11 => return Err(Stranger::Unclear),
            None => None,
        };
        // A proxy may have sent the whole address in the request line: both must be right.
        let named: Vec<_> =
            header.into_iter().chain(request.uri().authority().map(Authority::as_str)).collect();
        match named.as_slice() {
            [] => Err(Stranger::Unknown),
            named if named.iter().all(|host| self.allows(host)) => Ok(()),
            _ => Err(Stranger::Unknown),
        }
    }

    fn allows(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else { return false };
        let name = name.to_ascii_lowercase();
        let is_address = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
            None => name.parse::<std::net::Ipv4Addr>().is_ok(),
        };
        is_address || name == "localhost" || self.0.contains(&name)
    }
}

fn without_port(host: &str) -> Option<&str> {
    let (name, port) = match host.rfind(':') {
        Some(at) if !host.ends_with(']') => (host.get(..at)?, host.get(at + 1..)?),
        _ => (host, ""),
    };
    port.bytes().all(|byte| byte.is_ascii_digit()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_no_page_can_have_are_answered() {
        let hosts = Hosts::new(["Hub.Example.com".to_owned()]);
        let check = |host: &str| hosts.check(&Request::builder().header(HOST, host).body(()).unwrap());
        for good in [
            "localhost",
            "LOCALHOST:8000",
            "127.0.0.1:8000",
            "10.1.2.3",
            "[::1]:8000",
            "[::1]",
            "hub.example.com:80",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "evil.example",
            "localhost.evil.example",
            "evil.example:8000",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
            "evil.example#localhost",
            "[evil]",
            "::1",
            "",
            "localhost:80:80",
            "0x7f.1",
        ] {
            assert_eq!(check(bad), Err(Stranger::Unknown), "{bad}");
        }
        assert_eq!(hosts.check(&Request::new(())), Err(Stranger::Unclear));
        let twice =
            Request::builder().header(HOST, "localhost").header(HOST, "evil.example").body(()).unwrap();
        assert_eq!(hosts.check(&twice), Err(Stranger::Unclear));
        let whole =
            Request::builder().uri("http://evil.example/").header(HOST, "localhost").body(()).unwrap();
        assert_eq!(hosts.check(&whole), Err(Stranger::Unknown));
    }
}
