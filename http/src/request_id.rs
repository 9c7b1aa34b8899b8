//! A name for each request, in the answer, in errors and in the log.

use axum::http::{HeaderMap, HeaderName};
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The header that carries a request's id, in both directions.
pub const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
const BYTES_MAX: usize = 64;

tokio::task_local! {
    static CURRENT: RequestId;
}

/// A request's id: that of the client if it is 1-64 of `A-Za-z0-9._-`, otherwise random. Handlers find it among the
/// request's extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Text);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Text {
    Own([u8; 16]),
    Sent(Arc<str>),
}

impl RequestId {
    /// The client's id if it is sane, else a new one.
    pub fn of(headers: &HeaderMap) -> Self {
        let sent = headers.get(REQUEST_ID_HEADER).and_then(|value| value.to_str().ok());
        sent.filter(|id| is_sane(id)).map_or_else(Self::new, |id| Self(Text::Sent(id.into())))
    }

    /// A unique id of sixteen hexadecimal digits: the place of this request in a sequence that begins at random for
    /// each process, scattered so that ids of neighbours do not look alike.
    pub(crate) fn new() -> Self {
        static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(getrandom::u64().unwrap_or_default()));
        Self(Text::Own(hex(scatter(NEXT.fetch_add(1, Ordering::Relaxed)))))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // Hexadecimal digits are UTF-8.
            Text::Own(digits) => std::str::from_utf8(digits).unwrap_or_default(),
            Text::Sent(id) => id,
        }
    }

    /// Runs a request under its id: problems made inside carry it.
    pub(crate) async fn scope<F: Future>(self, request: F) -> F::Output {
        CURRENT.scope(self, request).await
    }
}

/// The id of the request that this task works for; empty outside of any.
pub(crate) fn with_current<T>(read: impl FnOnce(&str) -> T) -> T {
    let current = CURRENT.try_with(Clone::clone);
    read(current.as_ref().map_or("", RequestId::as_str))
}

fn is_sane(id: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=BYTES_MAX).contains(&id.len()) && id.bytes().all(allowed)
}

fn hex(n: u64) -> [u8; 16] {
    std::array::from_fn(|at| b"0123456789abcdef"[(n >> (60 - 4 * at)) as usize & 15])
}

/// The finalizer of splitmix64 (Steele, Lea, Flood 2014), a bijection: no two numbers meet.
fn scatter(mut n: u64) -> u64 {
    n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sane_ids_are_taken_over() {
        let of = |sent: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID_HEADER, sent.parse().unwrap());
            RequestId::of(&headers).as_str().to_owned()
        };
        for id in ["a", "A-b_c.9", &"x".repeat(64)] {
            assert_eq!(of(id), id);
        }
        for id in ["", "a b", "a\"b", &"x".repeat(65)] {
            let made = of(id);
            assert_ne!(made, id);
            assert_eq!(made.len(), 16, "{made}");
        }
        assert_ne!(of(""), of(""));
        assert_eq!(hex(0x0123_4567_89ab_cdef), *b"0123456789abcdef");
    }
}
