//! What `count` and `unique` have in common: the parameters of an [`Aggregate`] with a single value, named as the node.

use super::Aggregate;
use super::argument::Argument;
use super::windows;
use crate::counting::aggregation::{AggregateValue, AggregateWindow, Aggregation, Form, Function};
use crate::counting::windows::{MINUTE_MS, whole_minutes};
use crate::facts::Emit;
use std::sync::Arc;
use tally_model::{WindowSpec, check_event_type};
use tally_streams::topology::{ConfigDuration, ParamError};

/// The parameters of a short form.
pub struct Short {
    pub event: String,
    pub windows: Vec<ConfigDuration>,
    pub emit: Option<Emit>,
    pub function: Function,
    pub argument: Option<Argument>,
}

impl Short {
    /// Checks what needs no other node. `errors` has the mistakes that are found already.
    pub fn check(self, node: &str, mut errors: Vec<ParamError>) -> Result<Aggregate, Vec<ParamError>> {
        let Self { event, windows, emit, function, argument } = self;
        if let Err(rule) = check_event_type(&event) {
            errors.push(ParamError::new("event", rule));
        }
        let kinds = windows::each_once(&windows, &mut errors, |path, length, errors| {
            let size_ms = whole_minutes(path, *length, errors)? * MINUTE_MS;
            Some(AggregateWindow::new(WindowSpec::Tumbling { size_ms }))
        });
        if windows.is_empty() {
            windows::refuse_without([("emit", emit.is_some(), windows::EMIT)], &mut errors);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let aggregation = Aggregation {
            node: node.into(),
            form: Form::Short,
            values: vec![AggregateValue { metric: node.into(), function, scale: 0 }],
            windows: kinds,
            // That of a short form is a setting of the topology: see [`Aggregation::placed`].
            grace_ms: 0,
            emit: emit.unwrap_or_default(),
            totals: true,
        };
        Ok(Aggregate {
            aggregation: Arc::new(aggregation),
            event_types: vec![event],
            condition: None,
            subjects: vec![None],
            limit: None,
            private_kinds: Vec::new(),
            arguments: vec![argument],
        })
    }
}
