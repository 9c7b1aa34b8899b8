//! Query strings of messages.

use axum::extract::RawQuery;
use std::fmt::Display;
use tally_http::grpc::percent_encoded;
use tally_proto::tally::v1::{After, Page};

/// The parameters of a route.
#[derive(Default)]
pub struct Parameters(String);

impl Parameters {
    /// Adds a parameter.
    pub fn with(mut self, name: &str, value: impl Display) -> Self {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        self.0.push_str(&percent_encoded(&value.to_string(), |byte| {
            byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte)
        }));
        self
    }

    /// Adds a parameter for each value.
    pub fn with_each(self, name: &str, values: impl IntoIterator<Item = impl Display>) -> Self {
        values.into_iter().fold(self, |parameters, value| parameters.with(name, value))
    }

    /// Adds `after` and `wait_ms`.
    pub fn with_after(self, after: Option<After>) -> Self {
        let Some(After { receipt, wait_ms }) = after else { return self };
        self.with("after", receipt).with_each("wait_ms", wait_ms)
    }

    /// Adds `limit` and `cursor`.
    pub fn with_page(self, page: Option<Page>) -> Self {
        let Some(Page { limit, cursor }) = page else { return self };
        self.with_each("limit", limit).with_each("cursor", cursor)
    }

    /// As a handler takes them.
    pub fn query(self) -> RawQuery {
        RawQuery(Some(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_comes_back_out_of_the_query() {
        let parameters = Parameters::default()
            .with_each("subject_id", ["article:7", "a:用&x=1+ %"])
            .with_after(Some(After { receipt: "r".into(), wait_ms: Some(0) }))
            .with_page(Some(Page { limit: None, cursor: Some("c".into()) }));
        let RawQuery(Some(query)) = parameters.query() else { panic!("no query") };
        assert_eq!(query, "subject_id=article:7&subject_id=a:%E7%94%A8%26x%3D1%2B%20%25&after=r&wait_ms=0&cursor=c");
    }
}
