//! The parameters of an `aggregate` node.

use super::Aggregate;
use super::limit::{Limit, Memory};
use super::subjects::{self, SubjectParams};
use super::values::{ValueParams, check_values};
use super::windows::{self, DAYS_31_MS, WindowParams, millis};
use crate::counting::aggregation::{Aggregation, Form};
use crate::event_types::named;
use crate::expression::{Expression, Fault, SubjectKind};
use crate::facts::Emit;
use crate::params::{code, one_of, params};
use std::collections::BTreeMap;
use std::sync::Arc;
use tally_streams::topology::{ConfigDuration, ParamError};

/// The most subjects of a task.
const PLACES_MAX: u32 = 1_000_000;

params! {
    /// Parameters of `type: aggregate`.
    pub struct AggregateParams {
        /// Types of the events to aggregate. At least one.
        #[param("list of event types", default = "every type")]
        pub events: Option<Vec<String>>,
        /// [CEL](#cel-expressions) condition over the fields of an event: events for which it is false are not aggregated.
        #[param("CEL", name = "where", default = "every event counts")]
        pub condition: Option<String>,
        /// [CEL](#cel-expressions) expression that gives the id of the subject to aggregate for, or a list of ids; or several such
        /// expressions. For null, the event is not aggregated.
        #[param("CEL or list of CEL", default = "`subject_id`")]
        pub subject: Option<SubjectParams>,
        /// How many different subjects are counted in each partition of the input; events of further ones count for `kind:_other`
        /// ([limits](#limits-of-subjects)). Only where every kind in `subject` is a literal.
        #[param("number", default = "no limit", limits = format!("From 1 to {PLACES_MAX}."))]
        pub max_subjects: Option<u32>,
        /// Whether only callers with the scope `admin` may read subjects of the kinds in `subject`
        /// ([private subjects](#private-subjects)). Only where every kind in `subject` is a literal.
        #[param("bool", default = "`false`")]
        pub private: Option<bool>,
        /// [Values](#values) to compute, each a metric `<node>.<value>` of at most 64 bytes. From 1 to 32.
        #[param("mapping of name to value")]
        pub values: BTreeMap<String, ValueParams>,
        /// [Windows](#windows) to compute the values in, each once. At most 8.
        #[param("list of windows", default = "none")]
        #[serde(default)]
        pub windows: Vec<WindowParams>,
        /// How long a window takes events after its end, by append time. Only with `windows`.
        #[param("duration", default = "`0s`", limits = "Up to 31d.")]
        pub grace: Option<ConfigDuration>,
        /// When the values of a window are written.
        #[param(
            one_of([Emit::OnUpdate, Emit::OnClose]),
            default = code(Emit::default()),
            limits = crate::counting::windows::EMIT
        )]
        pub emit: Option<Emit>,
        /// Whether the values are computed for all time as well. False only with `windows`.
        #[param("bool", default = "`true`")]
        pub totals: Option<bool>,
    }
}

impl AggregateParams {
    /// Checks everything that needs no other node.
    pub fn check(self, node: &str) -> Result<Aggregate, Vec<ParamError>> {
        let Self { events, condition, subject, max_subjects, private, values, windows, grace, emit, totals } = self;
        let mut errors = Vec::new();
        let event_types = named(events, &mut errors);
        let condition = Expression::condition(condition, &mut errors);
        let subjects = subjects::check(subject, &mut errors);
        let (values, arguments) = check_values(node, &values, &mut errors);
        let grace_ms = millis(grace.unwrap_or_default());
        let kinds = windows::check(&windows, grace_ms, &mut errors);
        if grace_ms > DAYS_31_MS {
            errors.push(ParamError::new("grace", "must be at most 31d"));
        }
        let totals_given = totals.unwrap_or(true);
        if windows.is_empty() {
            let given = [
                ("grace", grace.is_some(), "says how long windows take events"),
                ("emit", emit.is_some(), windows::EMIT),
                ("totals", !totals_given, "leaves nothing to compute"),
            ];
            windows::refuse_without(given, &mut errors);
        }
        let memory = if totals_given { Memory::ForGood } else { Memory::Day };
        let limit = max_subjects.map(|places| Limit { places, memory });
        if limit.is_some_and(|limit| !(1..=PLACES_MAX).contains(&limit.places)) {
            errors.push(ParamError::new("max_subjects", format!("must be from 1 to {PLACES_MAX}")));
        }
        let kinds_of_subjects = subjects::kinds(&subjects);
        let is_private = private.unwrap_or_default();
        for (path, given, what) in [
            ("max_subjects", limit.is_some(), "limits derived subjects"),
            ("private", is_private, "is about the kinds that `subject` names"),
        ] {
            if given && kinds_of_subjects.contains(&SubjectKind::Own) {
                let message = format!("{what}, and `subject` takes that of the event, of any kind");
                errors.push(ParamError::new(path, message).with_help(subjects::LITERAL));
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let literal = |kind| match kind {
            SubjectKind::Literal(kind) if is_private => Some(kind),
            SubjectKind::Literal(_) | SubjectKind::Own => None,
        };
        let private_kinds = kinds_of_subjects.into_iter().filter_map(literal).collect();
        let aggregation = Aggregation {
            node: node.into(),
            form: Form::Values,
            values,
            windows: kinds,
            grace_ms,
            emit: emit.unwrap_or_default(),
            totals: totals_given,
        };
        Ok(Aggregate {
            aggregation: Arc::new(aggregation),
            event_types,
            condition,
            subjects,
            limit,
            private_kinds,
            arguments,
        })
    }
}

/// Adds the faults of an expression, as those of a parameter.
pub(super) fn add_faults(path: &str, faults: Vec<Fault>, errors: &mut Vec<ParamError>) {
    errors.extend(faults.into_iter().map(|fault| fault.in_param(path)));
}
