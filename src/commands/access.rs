//! Authentication and authorization: the flags of every process that serves HTTP.

use super::Failure;
use clap::Args;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Who may do what.
#[derive(Args, Clone, Debug)]
pub struct AccessArgs {
    /// The file of API keys, in YAML; `tally key` writes its entries. Read again when it changes
    #[arg(long, env = "TALLY_KEYS", value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// The keys that sign JWTs, as a JWKS: a file, read again when it changes, or its address, https://… or http://… on this
    /// machine, asked again and again
    #[arg(long, env = "TALLY_JWKS", value_name = "FILE|URL")]
    pub jwks: Option<String>,
    /// How often the address of --jwks is asked; 5m by default
    #[arg(long, env = "TALLY_JWKS_REFRESH", value_name = "TIME", requires = "jwks", value_parser = refresh)]
    pub jwks_refresh: Option<Duration>,
    /// With --jwks https://…: the certificates, in PEM, of who vouches for that server; by default those that the world trusts
    #[arg(long, env = "TALLY_JWKS_CA", value_name = "FILE", requires = "jwks")]
    pub jwks_ca: Option<PathBuf>,
    /// The issuer (`iss`) that a JWT must name
    #[arg(long, env = "TALLY_JWT_ISSUER", value_name = "TEXT", requires = "jwks")]
    pub jwt_issuer: Option<String>,
    /// The audiences (`aud`), separated by commas, of which a JWT must name one
    #[arg(long, env = "TALLY_JWT_AUDIENCE", value_name = "TEXT", value_delimiter = ',', requires = "jwks")]
    pub jwt_audience: Vec<String>,
    /// By how much clocks may differ from those of whoever makes JWTs
    #[arg(long, env = "TALLY_JWT_LEEWAY", value_name = "TIME", default_value = "60s", requires = "jwks", value_parser = leeway)]
    pub jwt_leeway: Duration,
    /// Let everybody who reaches the port do everything, also where that is not this machine alone
    #[arg(long, env = "TALLY_OPEN_TO_EVERYONE", value_parser = clap::builder::BoolishValueParser::new())]
    pub open_to_everyone: bool,
    /// Pages of this origin may call from browsers, like https://example.org, or `*`; may be given again
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
                "--open-to-everyone: nobody is asked for keys then: leave out --keys and --jwks",
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
