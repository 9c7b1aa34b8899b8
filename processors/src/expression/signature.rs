//! The functions that expressions may call, with the types that they take and give.

use super::schema::Type;

/// A parameter of a function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Parameter {
    /// A value of this type.
    Of(Type),
    /// A text, a list or a map.
    Sized,
    /// A literal regular expression: it is compiled when the file is loaded.
    Pattern,
    /// A time in RFC 3339.
    Time,
    /// A duration, like `5m`.
    Duration,
}

/// A function.
pub struct Signature {
    /// Its name.
    pub name: &'static str,
    /// Whether it can be called as a method: the first parameter is the value before the dot then.
    pub method: bool,
    /// Whether it can be called as a function.
    pub function: bool,
    /// What it takes.
    pub takes: &'static [Parameter],
    /// What it gives.
    pub gives: Type,
}

const ANY: Parameter = Parameter::Of(Type::Any);
const INT: Parameter = Parameter::Of(Type::Int);
const TEXT: Parameter = Parameter::Of(Type::Text);

const fn function(name: &'static str, takes: &'static [Parameter], gives: Type) -> Signature {
    Signature { name, method: false, function: true, takes, gives }
}

const fn method(name: &'static str, takes: &'static [Parameter], gives: Type) -> Signature {
    Signature { name, method: true, function: false, takes, gives }
}

/// All functions.
pub const SIGNATURES: &[Signature] = &[
    function("bool", &[ANY], Type::Bool),
    method("contains", &[TEXT, TEXT], Type::Bool),
    function("day", &[INT], Type::Text),
    function("double", &[ANY], Type::Float),
    function("duration", &[Parameter::Duration], Type::Int),
    function("dyn", &[ANY], Type::Any),
    method("endsWith", &[TEXT, TEXT], Type::Bool),
    function("host", &[TEXT], Type::Text),
    function("hour", &[INT], Type::Int),
    function("id", &[TEXT], Type::Text),
    function("int", &[ANY], Type::Int),
    Signature { function: true, ..method("matches", &[TEXT, Parameter::Pattern], Type::Bool) },
    Signature { function: true, ..method("size", &[Parameter::Sized], Type::Int) },
    method("startsWith", &[TEXT, TEXT], Type::Bool),
    function("string", &[ANY], Type::Text),
    function("timestamp", &[Parameter::Time], Type::Int),
    function("type", &[ANY], Type::Any),
    function("uint", &[ANY], Type::Uint),
    function("weekday", &[INT], Type::Int),
];

/// The function of a name.
pub fn find(name: &str) -> Option<&'static Signature> {
    SIGNATURES.iter().find(|signature| signature.name == name)
}
