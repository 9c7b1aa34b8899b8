//! Answers without end: they end with what let them in.

use super::{Credential, Guard};
use crate::scope::Scope;
use axum::body::{Body, Bytes, HttpBody};
use hyper::body::Frame;
use std::pin::Pin;
use std::task::{Context, Poll};

/// How old the leave to read may be when something is given out. Heartbeats see to it that something is.
const LEAVE_MS: i64 = 5_000;

/// Among the extensions of a response that lasts: the scope that it needs for as long as it lasts, beyond that of its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlsoNeeds(pub Scope);

/// The credential that admitted a request whose response lasts.
pub(super) struct Leave {
    pub guard: Guard,
    pub credential: Credential<'static>,
    pub scope: Scope,
    /// What the response needs beyond that.
    pub also: Option<Scope>,
    /// By the monotonic clock.
    pub given_at_ms: i64,
}

impl Leave {
    /// Whether it still holds.
    fn holds(&mut self) -> bool {
        let now = (self.guard.0.clock)();
        if now.monotonic_ms < self.given_at_ms + LEAVE_MS {
            return true;
        }
        self.given_at_ms = now.monotonic_ms;
        let mut needed = std::iter::once(self.scope).chain(self.also);
        let found = self.guard.0.find(&self.credential, now);
        found.is_ok_and(|principal| needed.all(|scope| principal.scopes.allow(scope)))
    }

    /// The answer, for as long as this holds.
    pub fn bind(self, body: Body) -> Body {
        Body::new(Lasting { body, leave: self })
    }
}

struct Lasting {
    body: Body,
    leave: Leave,
}

impl HttpBody for Lasting {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self.leave.holds() {
            true => Pin::new(&mut self.body).poll_frame(context),
            false => Poll::Ready(None),
        }
    }
}
