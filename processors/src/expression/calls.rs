//! Checks calls of functions.

use super::check::Checker;
use super::functions::{NO_TIME, duration_ms, pattern_of};
use super::schema::Type;
use super::signature::{self, Parameter, SIGNATURES, Signature};
use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue};
use tally_model::parse_ms;
use tally_streams::topology::suggest;

impl Checker<'_> {
    /// A call of a function that is no operator.
    pub fn function(&mut self, call: &CallExpr, expression: &IdedExpr) -> Type {
        let name = call.func_name.as_str();
        // Optional values have functions of their own; what they give is seen at work.
        if name.starts_with('_') || name.starts_with('@') || is_optional(call) {
            for operand in call.target.iter().map(AsRef::as_ref).chain(&call.args) {
                self.type_of(operand);
            }
            return Type::Any;
        }
        let arguments: Vec<&IdedExpr> = call.target.iter().map(AsRef::as_ref).chain(&call.args).collect();
        let types: Vec<Type> = arguments.iter().map(|argument| self.type_of(argument)).collect();
        let Some(signature) = signature::find(name) else {
            let help = suggest(name, SIGNATURES.iter().map(|signature| signature.name), "functions");
            let at = self.name_of(expression, name);
            self.fault(at, format!("unknown function `{name}`"), help);
            return Type::Any;
        };
        let Signature { method, function, takes, gives, .. } = signature;
        let fits = if call.target.is_some() { *method } else { *function };
        if !fits || takes.len() != arguments.len() {
            let forms = forms(signature);
            let at = self.name_of(expression, name);
            self.fault(at, format!("`{name}` is called as {forms}"), None);
            return *gives;
        }
        for ((parameter, argument), found) in takes.iter().zip(&arguments).zip(types) {
            self.argument(name, *parameter, argument, found);
        }
        *gives
    }

    fn argument(&mut self, function: &str, parameter: Parameter, argument: &IdedExpr, found: Type) {
        let (fits, what) = match parameter {
            Parameter::Of(wanted) => (wanted == Type::Any || found == wanted, wanted.to_string()),
            Parameter::Sized => {
                (matches!(found, Type::Text | Type::List | Type::Map), "a text, a list or a map".into())
            }
            Parameter::Pattern | Parameter::Time | Parameter::Duration => (found == Type::Text, "text".into()),
        };
        let place = self.place(argument, 1);
        if !fits && found != Type::Any {
            let help = (what == "text").then(|| "`string(…)` makes a text of it".to_owned());
            self.fault(place, format!("`{function}` takes {what}, not {found}"), help);
            return;
        }
        let literal = match &argument.expr {
            Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
            _ => None,
        };
        let mistake = match (parameter, literal) {
            (Parameter::Pattern, None) => Some("the pattern of `matches` must be a literal".to_owned()),
            (Parameter::Pattern, Some(text)) => pattern_of(text).err().map(|error| format!("`{text}`: {error}")),
            (Parameter::Time, Some(text)) if parse_ms(text).is_none() => Some(format!("`{text}` {NO_TIME}")),
            (Parameter::Duration, Some(text)) => duration_ms(text).err(),
            _ => None,
        };
        if let Some(message) = mistake {
            let length = literal.map_or(1, |text| text.chars().count() + 2);
            let place = self.place(argument, length);
            self.fault(place, message, None);
        }
    }

    /// The name of the function that is called: its bracket is the place of the call.
    fn name_of(&self, call: &IdedExpr, name: &str) -> Option<(u32, u32)> {
        let (bracket, length) = self.place(call, name.chars().count())?;
        let start = bracket.checked_sub(length)?;
        let text: String = self.source.chars().skip(start as usize).take(length as usize).collect();
        if text == name { Some((start, length)) } else { Some((bracket, 1)) }
    }
}

fn is_optional(call: &CallExpr) -> bool {
    matches!(call.func_name.as_str(), "of" | "ofNonZeroValue" | "none" | "hasValue" | "value" | "or" | "orValue")
        && call.target.is_some()
}

fn forms(signature: &Signature) -> String {
    let name = signature.name;
    let arguments = |count: usize| vec!["…"; count].join(", ");
    let method = format!("`x.{name}({})`", arguments(signature.takes.len() - 1));
    let function = format!("`{name}({})`", arguments(signature.takes.len()));
    match (signature.method, signature.function) {
        (true, true) => format!("{method} or {function}"),
        (true, false) => method,
        _ => function,
    }
}
