//! Client certificates: a SPIFFE id or a DNS name says who calls, never the common name.

use super::{Claims, Denied, Method, Principal};
use std::time::{Duration, SystemTime};
use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// Who vouches for a name that no SPIFFE trust domain does: the authority that the listener trusts.
const ISSUER: &str = "x509";
const SPIFFE: &str = "spiffe://";

/// Whom a certificate names, whose authority has been checked. One with several names of the kind that is
/// looked at names nobody.
pub(super) fn principal(der: &[u8], now: SystemTime) -> Result<Principal, Denied> {
    let parsed = Certificate::from_der(der).map_err(|_| Denied::Certificate("it cannot be read"))?;
    let expires = SystemTime::UNIX_EPOCH + parsed.tbs_certificate.validity.not_after.to_unix_duration();
    // A certificate is good to the end of its last second.
    let expires = expires + Duration::from_secs(1);
    if expires <= now {
        return Err(Denied::Expired);
    }
    let names = parsed
        .tbs_certificate
        .get::<SubjectAltName>()
        .map_err(|_| Denied::Certificate("its names cannot be read"))?
        .map(|(_, names)| names.0)
        .unwrap_or_default();
    let (issuer, subject) = named(&names)?;
    let mut claims = Claims::default();
    claims.insert("iss", issuer.as_str().into());
    claims.insert("sub", subject.as_str().into());
    Ok(Principal {
        method: Method::Certificate,
        issuer,
        subject,
        claims,
        expires: Some(expires),
        key: None,
        scopes: Vec::new(),
    })
}

fn named(names: &[GeneralName]) -> Result<(String, String), Denied> {
    let uris: Vec<_> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str()),
            _ => None,
        })
        .collect();
    let hosts: Vec<_> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DnsName(host) => Some(host.as_str()),
            _ => None,
        })
        .collect();
    match (uris.as_slice(), hosts.as_slice()) {
        ([uri], _) if uri.starts_with(SPIFFE) => {
            let domain = uri.strip_prefix(SPIFFE).and_then(|rest| rest.split('/').next()).unwrap_or_default();
            Ok((format!("{SPIFFE}{domain}"), (*uri).to_owned()))
        }
        ([], [host]) => Ok((ISSUER.to_owned(), host.to_ascii_lowercase())),
        ([], []) => Err(Denied::Certificate("it has neither a SPIFFE id nor a DNS name")),
        _ => Err(Denied::Certificate("it has several names, or a URI that is no SPIFFE id")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType, date_time_ymd};

    fn of(names: Vec<SanType>) -> Result<Principal, Denied> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.not_after = date_time_ymd(2100, 1, 1);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        principal(certificate.der(), SystemTime::now())
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    fn uri(name: &str) -> SanType {
        SanType::URI(name.try_into().unwrap())
    }

    #[test]
    fn one_name_says_who_calls() {
        let spiffe = of(vec![uri("spiffe://prod.example/web"), dns("web.example")]).unwrap();
        assert_eq!(
            (&*spiffe.issuer, &*spiffe.subject),
            ("spiffe://prod.example", "spiffe://prod.example/web")
        );
        let host = of(vec![dns("Web.example")]).unwrap();
        assert_eq!((&*host.issuer, &*host.subject), ("x509", "web.example"));
        assert!(host.expires.is_some());
        for odd in [
            vec![],
            vec![dns("a.example"), dns("b.example")],
            vec![uri("https://a.example"), dns("a.example")],
            vec![uri("spiffe://a/x"), uri("spiffe://a/y")],
        ] {
            assert!(matches!(of(odd), Err(Denied::Certificate(_))));
        }
    }
}
