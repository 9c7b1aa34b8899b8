//! Authentication and authorization: the flags of every process that serves HTTP.

use super::Failure;
use clap::Args;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Who may do what.
#[derive(Args, Clone, Debug)]
pub struct AccessArgs {
    /// File of API keys in YAML; `tally key` writes entries. Reloaded when it changes
    #[arg(long, env = "TALLY_KEYS", value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// JWKS with the keys that sign JWTs: a file, reloaded when it changes, or a URL, fetched periodically: https://…, or
    /// http://… on this machine
    #[arg(long, env = "TALLY_JWKS", value_name = "FILE|URL")]
    pub jwks: Option<String>,
    /// Interval between fetches of the --jwks URL, 1s to 1 day; 5m by default
    #[arg(long, env = "TALLY_JWKS_REFRESH", value_name = "TIME", requires = "jwks", value_parser = refresh)]
    pub jwks_refresh: Option<Duration>,
    /// CA certificates in PEM for --jwks https://…; the public CAs by default
    #[arg(long, env = "TALLY_JWKS_CA", value_name = "FILE", requires = "jwks")]
    pub jwks_ca: Option<PathBuf>,
    /// Issuer (`iss`) that a JWT must have; any by default
    #[arg(long, env = "TALLY_JWT_ISSUER", value_name = "TEXT", requires = "jwks")]
    pub jwt_issuer: Option<String>,
    /// Audiences (`aud`) of which a JWT must have one; without this flag, a JWT must have none
    #[arg(long, env = "TALLY_JWT_AUDIENCE", value_name = "TEXT", value_delimiter = ',', requires = "jwks")]
    pub jwt_audience: Vec<String>,
    /// Tolerated clock difference from the issuer of JWTs, at most 1 day
    #[arg(long, env = "TALLY_JWT_LEEWAY", value_name = "TIME", default_value = "60s", requires = "jwks", value_parser = leeway)]
    pub jwt_leeway: Duration,
    /// Serve other machines without authentication: every client that reaches the port has every scope
    #[arg(long, env = "TALLY_OPEN_TO_EVERYONE", value_parser = clap::builder::BoolishValueParser::new())]
    pub open_to_everyone: bool,
    /// Origins whose pages may call the API from browsers, such as https://example.org, or `*`
    #[arg(long, env = "TALLY_CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    pub cors_origin: Vec<String>,
}

impl AccessArgs {
    /// Whether authentication is configured.
    pub fn asks(&self) -> bool {
        self.keys.is_some() || self.jwks.is_some()
    }

    /// Refuses to serve other machines without authentication.
    pub fn check(&self, listen: &str, address: SocketAddr) -> Result<(), Failure> {
        if self.asks() && self.open_to_everyone {
            return Err(Failure::usage(
                "--open-to-everyone: has no effect beside --keys and --jwks: leave it out, or leave out both of them",
            ));
        }
        if self.cors_origin.len() > 1 && self.cors_origin.iter().any(|origin| origin == "*") {
            return Err(Failure::usage(
                "--cors-origin: `*` is every origin, without credentials: leave it out, or leave out the others",
            ));
        }
        let is_reached_from_here_alone = address.ip().to_canonical().is_loopback();
        if self.open_to_everyone && is_reached_from_here_alone {
            return Err(Failure::usage(format!(
                "--open-to-everyone: only this machine reaches --listen {listen}, where everybody may do everything \
                 anyway: leave it out"
            )));
        }
        if self.asks() || self.open_to_everyone || is_reached_from_here_alone {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "--listen {listen}: other machines would reach this, and nothing says who may: name a file of keys with \
             --keys (`tally key` makes one) or --jwks, listen on 127.0.0.1, or say --open-to-everyone"
        )))
    }
}

/// A greater leeway would admit tokens that expired long ago.
const LEEWAY_MAX: Duration = Duration::from_secs(86_400);

fn leeway(text: &str) -> Result<Duration, String> {
    let leeway = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    if leeway <= LEEWAY_MAX { Ok(leeway) } else { Err("must be at most 1 day".to_owned()) }
}

fn refresh(text: &str) -> Result<Duration, String> {
    let refresh = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    let limits = Duration::from_secs(1)..=Duration::from_secs(86_400);
    if limits.contains(&refresh) { Ok(refresh) } else { Err("must be from 1s to 1 day".to_owned()) }
}

/// What is wrong with a file, by its flag.
pub fn file_failure(flag: &str, path: &Path, why: &str) -> Failure {
    // The reason names the file.
    let rest = why.strip_prefix(&path.display().to_string()).unwrap_or(why);
    Failure::usage(format!("{flag} {}{rest}", path.display()))
}
