//! CEL expressions over the fields of an event.

use crate::mistake::Mistake;
use cel::common::value::CowVal;
use cel::context::VariableResolver;
use cel::{Context, Env, Program, Value};
use std::collections::HashMap;
use std::sync::Arc;
use tally_model::{Event, Scalar};

/// The fields of an event that an expression may name.
pub const FIELDS: &[&str] =
    &["event_id", "type", "actor_id", "subject_id", "occurred_at", "ip", "user_agent", "duration_ms", "properties"];

/// A compiled expression.
#[derive(Clone)]
pub struct Expression {
    program: Arc<Program>,
    env: Arc<Env>,
}

impl Expression {
    /// Compiles it; it may name only `allowed` fields of an event.
    pub fn compile(source: &str, allowed: &[&'static str]) -> Result<Self, String> {
        let env = Arc::new(Env::stdlib());
        let program = env.compile(source).map_err(|e| format!("does not compile: {e}"))?;
        if let Some(unknown) = program.references().variables().iter().find(|name| !allowed.contains(name)) {
            return Err(format!("names `{unknown}`; it may name {}", allowed.join(", ")));
        }
        Ok(Self { program: Arc::new(program), env })
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
        match self.evaluate(event)? {
            Value::String(text) => Ok(text.to_string()),
            other => Err(Mistake::new("must give a text", format!("{other:?}"))),
        }
    }

    fn evaluate(&self, event: &Event) -> Result<Value, Mistake> {
        let fields = Fields(event);
        let mut context = Context::with_env(self.env.clone());
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

/// The fields of an event, converted when an expression reads them.
struct Fields<'a>(&'a Event);

impl VariableResolver for Fields<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let value = FIELDS.contains(&variable).then(|| value_of(self.0, variable))?;
        value.try_into().ok().map(CowVal::Owned)
    }
}

fn value_of(event: &Event, field: &str) -> Value {
    let optional = |text: Option<&str>| text.map_or(Value::Null, Value::from);
    match field {
        "event_id" => Value::from(event.event_id()),
        "type" => Value::from(event.event_type()),
        "actor_id" => Value::from(event.actor_id()),
        "subject_id" => Value::from(&*event.subject_id),
        "occurred_at" => Value::Int(event.occurred_at_ms),
        "ip" => optional(event.ip()),
        "user_agent" => optional(event.user_agent()),
        "duration_ms" => event.duration_ms.map_or(Value::Null, Value::Int),
        _ => {
            let scalar = |scalar: &Scalar| match scalar {
                Scalar::Bool(b) => Value::Bool(*b),
                Scalar::Int(i) => Value::Int(*i),
                Scalar::Float(f) => Value::Float(*f),
                Scalar::Text(t) => Value::from(t.as_str()),
            };
            let entries = event.properties.iter().map(|(name, value)| (name.clone(), scalar(value)));
            Value::from(entries.collect::<HashMap<String, Value>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let json = br#"{"event_id":"e","type":"read","actor_id":"u1","subject_id":"article:7","duration_ms":6000,
                        "properties":{"source":"feed","depth":3}}"#;
        Event::from_log(json, 0).unwrap()
    }

    fn test(source: &str) -> Result<bool, Mistake> {
        Expression::compile(source, FIELDS)?.test(&event())
    }

    #[test]
    fn sees_the_fields_of_the_event() {
        assert_eq!(test("duration_ms >= 5000"), Ok(true));
        assert_eq!(test("duration_ms >= 7000 || type == 'view'"), Ok(false));
        assert_eq!(test("properties.source == 'feed' && properties.depth > 2"), Ok(true));
        assert_eq!(test("has(properties.missing)"), Ok(false));
        let subject = Expression::compile("'user:' + actor_id", FIELDS).unwrap();
        assert_eq!(subject.text(&event()), Ok("user:u1".to_owned()));
    }

    #[test]
    fn mistakes_are_told_at_the_earliest() {
        let reason = |source: &str| test(source).unwrap_err().reason;
        assert!(reason("duration_ms >=").starts_with("does not compile"));
        assert!(reason("duration >= 5").starts_with("names `duration`; it may name event_id, type"));
        let mistake = |source: &str| test(source).unwrap_err();
        let number = mistake("duration_ms + 1");
        assert_eq!((number.reason.as_str(), number.detail.is_some()), ("must give true or false", true));
        assert_eq!(mistake("properties.missing == 1"), Mistake::new("No such key", "missing"));
    }
}
