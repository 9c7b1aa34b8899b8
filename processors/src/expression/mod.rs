//! CEL expressions over an event: compiled and checked when a file is loaded, evaluated once per event.

mod calls;
mod check;
mod fault;
mod fields;
mod functions;
mod id;
mod schema;
mod signature;
mod subject;
mod syntax;
mod tested;
mod tokens;

pub use fault::Fault;
pub use schema::{Properties, Property, Schema, Type};
pub use subject::SubjectKind;

use crate::mistake::Mistake;
use cel::{Context, Env, Program, Value};
use check::Checker;
use fields::Fields;
use std::fmt;
use std::sync::{Arc, LazyLock};
use tally_model::{Event, Scalar};
use tally_streams::topology::ParamError;
use tested::{Tested, when};

/// The fields of an event that an expression may name.
pub const FIELDS: &[&str] =
    &["event_id", "type", "actor_id", "subject_id", "occurred_at", "ip", "user_agent", "duration_ms", "properties"];

/// The standard library and the functions of [`functions`], shared by all expressions.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(functions::env()));

/// What an expression must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// True or false: a condition.
    Bool,
    /// A text: a subject. Null where the event has none.
    Text,
    /// Texts: a subject, or a list of subjects. A null is none.
    Texts,
    /// A whole number or a float: a value to aggregate. Null where the event has none.
    Number,
    /// Any scalar: a property.
    Scalar,
}

/// A compiled expression.
#[derive(Clone)]
pub struct Expression {
    program: Arc<Program>,
    source: Arc<str>,
    fields: &'static [&'static str],
    wanted: Wanted,
    /// Whether it uses `properties` other than by the name of one of them: only then a map of all is built.
    whole_properties: bool,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        (&self.source, self.fields, self.wanted) == (&other.source, other.fields, other.wanted)
    }
}

impl Expression {
    /// Compiles an expression over these fields of an event, and checks everything that needs no declared properties:
    /// names, functions, operands, and the type of the result. All mistakes at once.
    pub fn compile(source: &str, fields: &'static [&'static str], wanted: Wanted) -> Result<Self, Vec<Fault>> {
        let program = ENV.compile(source).map_err(|errors| fault::of_parser(source, &errors))?;
        let mut expression =
            Self { program: Arc::new(program), source: source.into(), fields, wanted, whole_properties: false };
        let unknown = Schema::default();
        let checker = expression.checked(&unknown, Vec::new());
        if !checker.faults.is_empty() {
            return Err(checker.faults);
        }
        let whole_properties = checker.whole_properties;
        expression.whole_properties = whole_properties;
        Ok(expression)
    }

    /// The condition of the parameter `where`, if there is one. Mistakes in it go to `errors`.
    pub fn condition(source: Option<String>, errors: &mut Vec<ParamError>) -> Option<Self> {
        match Self::compile(&source?, FIELDS, Wanted::Bool) {
            Ok(condition) => Some(condition),
            Err(faults) => {
                errors.extend(faults.into_iter().map(|fault| fault.in_param("where")));
                None
            }
        }
    }

    /// Checks it against the properties of the events that it will see; what its result is as a property. It is optional
    /// where it may be null.
    pub fn check(&self, schema: &Schema) -> Result<Property, Vec<Fault>> {
        self.check_where(schema, None)
    }

    /// The same, if it sees only events for which a condition holds.
    pub fn check_where(&self, schema: &Schema, condition: Option<&Self>) -> Result<Property, Vec<Fault>> {
        let tested = condition.map(|condition| when(condition.program.expression(), true)).unwrap_or_default();
        let checker = self.checked(schema, tested);
        let result = Property { kind: checker.result, optional: checker.may_be_null };
        if checker.faults.is_empty() { Ok(result) } else { Err(checker.faults) }
    }

    fn checked<'a>(&'a self, schema: &'a Schema, tested: Vec<Tested>) -> Checker<'a> {
        let mut checker = Checker::new(&self.program, &self.source, self.fields, schema, tested);
        checker.run(self.program.expression(), self.wanted);
        checker
    }

    /// The events among these for which it holds, if it is a condition.
    pub fn passed(&self, schema: &Schema) -> Schema {
        schema.clone().assuming(&when(self.program.expression(), true))
    }

    /// The kinds of the subjects that it names; a mistake where one of them is not a literal.
    pub fn subject_kinds(&self) -> Result<Vec<SubjectKind>, Vec<Fault>> {
        subject::kinds(self.program.expression())
    }

    /// True or false for an event.
    pub fn test(&self, event: &Event) -> Result<bool, Mistake> {
        match self.evaluate(event)? {
            Value::Bool(answer) => Ok(answer),
            other => Err(Mistake::new("must give true or false", format!("{other:?}"))),
        }
    }

    /// A text for an event.
    pub fn text(&self, event: &Event) -> Result<String, Mistake> {
        let null = || Mistake::new("must give a text", format!("{:?}", Value::Null));
        self.text_or_null(event)?.ok_or_else(null)
    }

    /// A text or null for an event.
    pub fn text_or_null(&self, event: &Event) -> Result<Option<String>, Mistake> {
        match self.evaluate(event)? {
            Value::String(text) => Ok(Some(text.to_string())),
            Value::Null => Ok(None),
            other => Err(Mistake::new("must give a text", format!("{other:?}"))),
        }
    }

    /// Texts for an event: one, or a list of them. Nulls are left out.
    pub fn texts(&self, event: &Event) -> Result<Vec<String>, Mistake> {
        let text = |value: &Value| match value {
            Value::String(text) => Ok(Some(text.to_string())),
            Value::Null => Ok(None),
            other => Err(Mistake::new("must give a text or a list of texts", format!("{other:?}"))),
        };
        match self.evaluate(event)? {
            Value::List(list) => list.iter().filter_map(|value| text(value).transpose()).collect(),
            value => Ok(text(&value)?.into_iter().collect()),
        }
    }

    /// A scalar or null for an event.
    pub fn scalar(&self, event: &Event) -> Result<Option<Scalar>, Mistake> {
        match self.evaluate(event)? {
            Value::Null => Ok(None),
            Value::Bool(value) => Ok(Some(Scalar::Bool(value))),
            Value::Int(value) => Ok(Some(Scalar::Int(value))),
            Value::UInt(value) => Ok(Some(i64::try_from(value).map_or(Scalar::Float(value as f64), Scalar::Int))),
            // JSON has no such numbers.
            Value::Float(value) if !value.is_finite() => Err(Mistake::new("must give a number", value.to_string())),
            Value::Float(value) => Ok(Some(Scalar::Float(value))),
            Value::String(text) => Ok(Some(Scalar::Text(text.to_string()))),
            other => Err(Mistake::new("must give a text, a number, true or false", format!("{other:?}"))),
        }
    }

    fn evaluate(&self, event: &Event) -> Result<Value, Mistake> {
        let fields = Fields::new(event, self.whole_properties);
        let mut context = Context::with_env(ENV.clone());
        context.set_variable_resolver(&fields);
        self.program.execute(&context).map_err(|error| {
            let said = error.to_string();
            // Behind the colon are keys and values.
            match said.split_once(": ") {
                Some((reason, detail)) => Mistake::new(reason, detail),
                None => said.into(),
            }
        })
    }
}

#[cfg(test)]
mod tests;
