//! Authentication and authorization: the key files, watched, and the guard in front of the routes.

use crate::commands::{AccessArgs, Failure, file_failure};
use axum::Router;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tally_access::{
    AccessMetrics, Fetched, Guard, JwksUrl, JwtRules, KeyRing, Moment, Reloading, Routes, TokenKeys, cors,
};
use tally_streams::log::Now;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How often the files are checked for changes.
const WATCH: Duration = Duration::from_secs(1);

/// How often the address of a JWKS is fetched.
const JWKS_REFRESH: Duration = Duration::from_secs(300);

/// Who may use this process.
#[derive(Clone)]
pub struct Who {
    args: AccessArgs,
    keys: Option<Arc<Reloading<KeyRing>>>,
    tokens: Option<Arc<TokenKeys>>,
}

impl Who {
    /// Reads the files, and fetches the JWKS from its address.
    pub async fn open(args: &AccessArgs) -> Result<Self, Failure> {
        cors(&args.cors_origin).map_err(|e| Failure::usage(format!("--cors-origin: {e}")))?;
        let keys = args.keys.as_deref().map(|path| {
            let file = Reloading::open(path, KeyRing::parse).map(Arc::new);
            file.map_err(|why| file_failure("--keys", path, &why))
        });
        let tokens = match &args.jwks {
            Some(place) => Some(Arc::new(token_keys(args, place).await?)),
            None => None,
        };
        Ok(Self { keys: keys.transpose()?, tokens, args: args.clone() })
    }

    /// Puts a guard in front of the routes if authentication is configured.
    pub fn guard(&self, routes: Routes, metrics: &AccessMetrics) -> Router {
        if !self.args.asks() {
            return routes.into_router(None);
        }
        let AccessArgs { jwt_issuer, jwt_audience, jwt_leeway, .. } = &self.args;
        let rules = JwtRules { issuer: jwt_issuer.clone(), audiences: jwt_audience.clone(), leeway: *jwt_leeway };
        let tokens = self.tokens.clone().map(|tokens| (tokens, rules));
        let guard = Guard::new(self.keys.clone(), tokens, metrics.clone(), Arc::new(moment));
        routes.into_router(Some(&guard))
    }

    /// Answers CORS requests of browsers, around everything else.
    pub fn cors(&self, router: Router) -> Result<Router, Failure> {
        Ok(match cors(&self.args.cors_origin).map_err(Failure::usage)? {
            Some(layer) => router.layer(layer),
            None => router,
        })
    }

    /// Reads the files again when they change, and on SIGHUP, until `stopping`.
    pub async fn watch(self, metrics: AccessMetrics, stopping: CancellationToken) {
        if !self.args.asks() {
            return;
        }
        let mut hangup = signal(SignalKind::hangup()).ok();
        loop {
            let asked = async {
                match &mut hangup {
                    Some(signal) => drop(signal.recv().await),
                    None => std::future::pending().await,
                }
            };
            let asked = tokio::select! {
                () = stopping.cancelled() => return,
                () = asked => true,
                () = tokio::time::sleep(WATCH) => false,
            };
            self.reload(asked, &metrics).await;
        }
    }

    async fn reload(&self, asked: bool, metrics: &AccessMetrics) {
        if let Some(keys) = self.keys.clone() {
            // Files may lie on slow disks.
            let read = tokio::task::spawn_blocking(move || keys.reload(asked)).await;
            let fetched = match read {
                Ok(Ok(true)) => Fetched::New,
                Ok(Ok(false)) => Fetched::Same,
                Ok(Err(why)) => Fetched::Failed(why),
                Err(error) => Fetched::Failed(error.to_string()),
            };
            note("keys", &fetched, metrics);
        }
        if let Some(tokens) = &self.tokens {
            note("JWKS", &tokens.refresh(asked).await, metrics);
        }
    }
}

fn moment() -> Moment {
    let Now { wall_ms, monotonic_ms } = Now::of_system();
    Moment { wall_ms, monotonic_ms }
}

fn note(what: &str, fetched: &Fetched, metrics: &AccessMetrics) {
    match fetched {
        Fetched::Same => return,
        Fetched::New => tracing::info!("the {what} were read again"),
        Fetched::Failed(error) => tracing::error!("{what}: {error}: the former ones stay in use"),
    }
    metrics.reloaded(*fetched == Fetched::New);
}

/// The keys of JWTs, from a file or from an address.
async fn token_keys(args: &AccessArgs, place: &str) -> Result<TokenKeys, Failure> {
    let wrong = |why: String| Failure::usage(format!("--jwks {place}: {why}"));
    if !JwksUrl::is_url(place) {
        let of_addresses = [("--jwks-ca", args.jwks_ca.is_some()), ("--jwks-refresh", args.jwks_refresh.is_some())];
        if let Some((flag, _)) = of_addresses.iter().find(|(_, given)| *given) {
            return Err(Failure::usage(format!("{flag}: --jwks is a file, and this is for an address: leave it out")));
        }
        let path = Path::new(place);
        return TokenKeys::file(path).map_err(|why| file_failure("--jwks", path, &why));
    }
    let url = JwksUrl::parse(place, args.jwks_ca.as_deref()).map_err(|e| wrong(e.to_string()))?;
    TokenKeys::published(url, args.jwks_refresh.unwrap_or(JWKS_REFRESH)).await.map_err(wrong)
}
