//! The subjects of an `aggregate` node: its parameter `subject`.

use crate::expression::{Expression, FIELDS, SubjectKind, Wanted};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use std::fmt;
use tally_streams::topology::ParamError;

/// The help for parameters that need literal kinds.
pub const LITERAL: &str = "`subject: \"'campaign:' + id(properties.campaign)\"`";

/// The expression of a subject, or those of several.
#[derive(Clone, Debug)]
pub struct SubjectParams {
    sources: Vec<String>,
    is_list: bool,
}

impl<'de> Deserialize<'de> for SubjectParams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = SubjectParams;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an expression or a list of expressions")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<SubjectParams, E> {
                Ok(SubjectParams { sources: vec![text.to_owned()], is_list: false })
            }
            fn visit_seq<S: SeqAccess<'de>>(self, seq: S) -> Result<SubjectParams, S::Error> {
                let sources = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(SubjectParams { sources, is_list: true })
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}

/// The expressions of the subjects; None is the event's own.
pub fn check(subject: Option<SubjectParams>, errors: &mut Vec<ParamError>) -> Vec<Option<Expression>> {
    let Some(SubjectParams { sources, is_list }) = subject else { return vec![None] };
    if sources.is_empty() {
        errors.push(ParamError::new("subject", "needs at least one expression"));
    }
    let mut subjects = Vec::new();
    for (i, source) in sources.iter().enumerate() {
        let path = if is_list { format!("subject[{i}]") } else { "subject".to_owned() };
        if source.trim() == "subject_id" {
            subjects.push(None);
            continue;
        }
        let expression = Expression::compile(source, FIELDS, Wanted::Texts);
        let expression = expression.and_then(|expression| expression.subject_kinds().map(|_| expression));
        match expression {
            Ok(expression) => subjects.push(Some(expression)),
            Err(faults) => errors.extend(faults.into_iter().map(|fault| fault.in_param(&path))),
        }
    }
    subjects
}

/// The kinds of the subjects of all expressions.
pub fn kinds(subjects: &[Option<Expression>]) -> Vec<SubjectKind> {
    let of = |subject: &Option<Expression>| match subject {
        // Its faults are those of `subject`.
        Some(expression) => expression.subject_kinds().unwrap_or_default(),
        None => vec![SubjectKind::Own],
    };
    subjects.iter().flat_map(of).collect()
}
