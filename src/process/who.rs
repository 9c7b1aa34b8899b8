//! Who may: the files of keys, watched, and what stands in front of the routes.

use crate::commands::{AccessArgs, Failure, file_failure};
use axum::Router;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tally_access::{AccessMetrics, Guard, JwtRules, KeyRing, KeySet, Moment, Reloading, cors};
use tally_streams::log::Now;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How often it is looked whether a file has changed.
const WATCH: Duration = Duration::from_secs(1);

/// Who may.
#[derive(Clone)]
pub struct Who {
    args: AccessArgs,
    keys: Option<Arc<Reloading<KeyRing>>>,
    tokens: Option<Arc<Reloading<KeySet>>>,
}

impl Who {
    /// Reads the files. Blocks.
    pub fn open(args: &AccessArgs) -> Result<Self, Failure> {
        cors(&args.cors_origin).map_err(|e| Failure::usage(format!("--cors-origin: {e}")))?;
        Ok(Self {
            keys: open("--keys", &args.keys, KeyRing::parse)?,
            tokens: open("--jwks", &args.jwks, KeySet::parse)?,
            args: args.clone(),
        })
    }

    /// Puts a guard in front of the routes, where somebody is asked at all.
    pub fn guard(&self, router: Router, metrics: &AccessMetrics) -> Router {
        if !self.args.asks() {
            return router;
        }
        let AccessArgs { jwt_issuer, jwt_audience, jwt_leeway, .. } = &self.args;
        let rules = JwtRules { issuer: jwt_issuer.clone(), audiences: jwt_audience.clone(), leeway: **jwt_leeway };
        let tokens = self.tokens.clone().map(|tokens| (tokens, rules));
        Guard::new(self.keys.clone(), tokens, metrics.clone(), Arc::new(moment)).wrap(router)
    }

    /// Answers browsers on pages of other origins, around everything else.
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
            let (who, metrics) = (self.clone(), metrics.clone());
            // Files may lie on slow disks.
            let _ = tokio::task::spawn_blocking(move || who.reload(asked, &metrics)).await;
        }
    }

    fn reload(&self, asked: bool, metrics: &AccessMetrics) {
        let keys = self.keys.as_ref().map(|keys| ("keys", keys.reload(asked)));
        let tokens = self.tokens.as_ref().map(|tokens| ("JWKS", tokens.reload(asked)));
        for (what, outcome) in keys.into_iter().chain(tokens) {
            match outcome {
                Ok(false) => continue,
                Ok(true) => tracing::info!("the file of {what} was read again"),
                Err(ref error) => tracing::error!("{error}: what was known before goes on"),
            }
            metrics.reloaded(outcome.is_ok());
        }
    }
}

fn moment() -> Moment {
    let Now { wall_ms, monotonic_ms } = Now::of_system();
    Moment { wall_ms, monotonic_ms }
}

fn open<T>(
    flag: &str,
    path: &Option<PathBuf>,
    parse: fn(&str) -> Result<T, String>,
) -> Result<Option<Arc<Reloading<T>>>, Failure> {
    let Some(path) = path else { return Ok(None) };
    Reloading::open(path, parse).map(|file| Some(Arc::new(file))).map_err(|why| file_failure(flag, path, &why))
}
