//! The options about who must be known to call a hub, and how.

use super::duration;
use crate::app::{Authentication, Issuing, KeySource, TokenRules, read_policy};
use anyhow::{Context, bail, ensure};
use std::{path::PathBuf, time::Duration};

/// Who calls.
#[derive(Debug, clap::Args)]
pub(super) struct AuthenticationOptions {
    /// Whether callers are known by tokens (JWT) of an issuer; then, or with --enable-api-keys, a call of
    /// nobody is refused
    #[arg(
        long, env = "TREX_ENABLE_JWT", default_value_t = false,
        default_missing_value = "true", num_args = 0..=1, action = clap::ArgAction::Set, value_name = "BOOL"
    )]
    enable_jwt: bool,
    /// The issuer's public keys, as a JSON Web Key Set; looked at every 10 s
    #[arg(long, env = "TREX_JWK_CERT_FILE", value_name = "FILE")]
    jwk_cert_file: Option<PathBuf>,
    /// Where the issuer publishes them; of several issuers, in their order and separated by commas
    #[arg(long, env = "TREX_JWK_CERT_URL", value_delimiter = ',', value_name = "URLS")]
    jwk_cert_url: Vec<String>,
    /// The `iss` of tokens; of several issuers, separated by commas
    #[arg(long, env = "TREX_JWT_ISSUER", value_delimiter = ',', value_name = "ISSUERS")]
    jwt_issuer: Vec<String>,
    /// The `aud` that a token must have; one of several, separated by commas
    #[arg(long, env = "TREX_JWT_AUDIENCE", value_delimiter = ',', value_name = "AUDIENCES")]
    jwt_audience: Vec<String>,
    /// How far the clocks of issuers may be off [default: 30s]
    #[arg(long, env = "TREX_JWT_LEEWAY", value_parser = humantime::parse_duration, value_name = "TIME")]
    jwt_leeway: Option<Duration>,
    /// Tokens that are valid for longer than this are refused [default: none is]
    #[arg(long, env = "TREX_JWT_MAX_LIFETIME", value_parser = duration, value_name = "TIME")]
    jwt_max_lifetime: Option<Duration>,
    /// Whether callers are known by API keys (trex keys)
    #[arg(
        long, env = "TREX_ENABLE_API_KEYS", default_value_t = false,
        default_missing_value = "true", num_args = 0..=1, action = clap::ArgAction::Set, value_name = "BOOL"
    )]
    enable_api_keys: bool,
    /// Whether a policy says what callers may do; without one, whoever is known may do everything
    #[arg(
        long, env = "TREX_ENABLE_AUTHZ", default_value_t = false,
        default_missing_value = "true", num_args = 0..=1, action = clap::ArgAction::Set, value_name = "BOOL"
    )]
    enable_authz: bool,
    /// The policy, in TOML; looked at every 10 s, and on SIGHUP
    #[arg(long, env = "TREX_ACL_FILE", value_name = "FILE")]
    acl_file: Option<PathBuf>,
    /// Methods of gRPC that may be called by nobody, such as /grpc.reflection.v1.ServerReflection/*;
    /// separated by commas
    #[arg(long, env = "TREX_AUTH_BYPASS_METHODS", value_delimiter = ',', value_name = "METHODS")]
    auth_bypass_methods: Vec<String>,
}

const LEEWAY: Duration = Duration::from_secs(30);

impl AuthenticationOptions {
    /// Reads them. A flag that cannot act is an error: it would be taken for protection.
    /// `certificates`: callers of gRPC are known by them.
    pub(super) fn read(&self, certificates: bool) -> anyhow::Result<Authentication> {
        let (tokens, keys) = (self.tokens()?, self.enable_api_keys);
        let asks = tokens.is_some() || keys;
        let policy = match (self.enable_authz, &self.acl_file) {
            (true, None) => bail!("--enable-authz needs --acl-file"),
            (false, Some(_)) => bail!("--acl-file does nothing without --enable-authz"),
            (true, Some(_)) if !asks && !certificates => bail!(
                "--enable-authz needs to know who calls: --enable-jwt, --enable-api-keys or \
                 --grpc-tls-enable-client-auth"
            ),
            (true, Some(file)) => {
                // Now, while nothing has begun.
                read_policy(file).map_err(|fault| anyhow::anyhow!("--acl-file: {fault}"))?;
                Some(file.clone())
            }
            (false, None) => None,
        };
        let open_methods = self.auth_bypass_methods.clone();
        if is_given(&open_methods) && !asks && policy.is_none() {
            bail!(
                "--auth-bypass-methods does nothing without --enable-jwt, --enable-api-keys or --enable-authz"
            );
        }
        Ok(Authentication { tokens, keys, policy, open_methods })
    }

    fn tokens(&self) -> anyhow::Result<Option<TokenRules>> {
        if !self.enable_jwt {
            let given = [
                ("--jwk-cert-file", self.jwk_cert_file.is_some()),
                ("--jwk-cert-url", is_given(&self.jwk_cert_url)),
                ("--jwt-issuer", is_given(&self.jwt_issuer)),
                ("--jwt-audience", is_given(&self.jwt_audience)),
                ("--jwt-leeway", self.jwt_leeway.is_some()),
                ("--jwt-max-lifetime", self.jwt_max_lifetime.is_some()),
            ];
            if let Some((flag, _)) = given.iter().find(|(_, given)| *given) {
                bail!("{flag} does nothing without --enable-jwt");
            }
            return Ok(None);
        }
        let file = self.jwk_cert_file.iter().cloned().map(|file| Ok(KeySource::File(file)));
        let urls = self.jwk_cert_url.iter().filter(|url| !url.is_empty());
        let sources = file.chain(urls.map(|url| KeySource::url(url))).collect::<anyhow::Result<Vec<_>>>();
        let sources = sources.context("--jwk-cert-url")?;
        ensure!(!sources.is_empty(), "--enable-jwt needs --jwk-cert-file or --jwk-cert-url");
        ensure!(is_given(&self.jwt_issuer), "--enable-jwt needs --jwt-issuer");
        ensure!(is_given(&self.jwt_audience), "--enable-jwt needs --jwt-audience");
        ensure!(
            sources.len() == self.jwt_issuer.len(),
            "--jwt-issuer names {} issuers, and there are {} places of keys: each issuer has its own",
            self.jwt_issuer.len(),
            sources.len()
        );
        let rules = TokenRules {
            issuers: self
                .jwt_issuer
                .iter()
                .zip(sources)
                .map(|(name, source)| Issuing { name: name.clone(), source })
                .collect(),
            audiences: self.jwt_audience.clone(),
            leeway: self.jwt_leeway.unwrap_or(LEEWAY),
            longest_life: self.jwt_max_lifetime,
        };
        // Now, while nothing has begun.
        rules.verifier().map_err(|fault| anyhow::anyhow!("--jwk-cert-file: {fault}"))?;
        Ok(Some(rules))
    }
}

/// The config file and the environment may have it empty.
fn is_given(list: &[String]) -> bool {
    list.iter().any(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        options: AuthenticationOptions,
    }

    fn read(arguments: &[&str]) -> Result<Authentication, String> {
        let parsed = Only::try_parse_from([&["trex"], arguments].concat()).unwrap();
        parsed.options.read(false).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn what_cannot_act_is_refused() {
        assert!(!read(&[]).unwrap().is_required());
        assert!(read(&["--enable-api-keys"]).unwrap().is_required());
        let url = "--jwk-cert-url=https://sso.example/keys";
        for (arguments, lacks) in [
            (&["--jwt-issuer=https://sso.example"][..], "does nothing without --enable-jwt"),
            (&["--enable-authz"], "needs --acl-file"),
            (&["--acl-file=/x"], "does nothing without --enable-authz"),
            (&["--enable-authz", "--acl-file=/x"], "needs to know who calls"),
            (&["--enable-authz", "--acl-file=/x", "--enable-api-keys"], "--acl-file: /x: cannot be read"),
            (&["--auth-bypass-methods=/a.B/c"], "does nothing"),
            (&["--enable-jwt"], "needs --jwk-cert-file or --jwk-cert-url"),
            (&["--enable-jwt", url], "needs --jwt-issuer"),
            (&["--enable-jwt", url, "--jwt-issuer=a"], "needs --jwt-audience"),
            (&["--enable-jwt", url, "--jwt-issuer=a,b", "--jwt-audience=t"], "2 issuers"),
            (&["--enable-jwt", "--jwk-cert-url=http://sso.example", "--jwt-issuer=a"], "neither https"),
            (
                &["--enable-jwt", "--jwk-cert-file=/nowhere.json", "--jwt-issuer=a", "--jwt-audience=t"],
                "--jwk-cert-file: /nowhere.json: cannot be read",
            ),
        ] {
            let refusal = read(arguments).unwrap_err();
            assert!(refusal.contains(lacks), "{refusal}");
        }
        assert!(read(&["--enable-jwt", url, "--jwt-issuer=a", "--jwt-audience=t"]).unwrap().is_required());
    }
}
