//! What the conditions around a place have tested.

use super::check::PROPERTIES;
use cel::common::ast::operators::{EQUALS, IN, LOGICAL_AND, LOGICAL_NOT, LOGICAL_OR, NOT_EQUALS};
use cel::common::ast::{Expr, IdedExpr, LiteralValue};

/// What an expression has tested before it reads a property.
#[derive(Clone, Debug, PartialEq)]
pub enum Tested {
    /// The event has this property.
    Present(String),
    /// The event is of one of these types.
    OneOf(Vec<String>),
    /// The event is of none of these types.
    NoneOf(Vec<String>),
}

/// What is known where a condition has this outcome.
pub fn when(condition: &IdedExpr, outcome: bool) -> Vec<Tested> {
    match &condition.expr {
        Expr::Select(select) if select.test && outcome => match &select.operand.expr {
            Expr::Ident(name) if name == PROPERTIES => vec![Tested::Present(select.field.clone())],
            _ => Vec::new(),
        },
        Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
            (LOGICAL_NOT, [operand]) => when(operand, !outcome),
            (LOGICAL_AND, [a, b]) if outcome => [when(a, true), when(b, true)].concat(),
            (LOGICAL_OR, [a, b]) if !outcome => [when(a, false), when(b, false)].concat(),
            (EQUALS, [a, b]) => of_type(a, b, outcome).or_else(|| of_type(b, a, outcome)).into_iter().collect(),
            (NOT_EQUALS, [a, b]) => of_type(a, b, !outcome).or_else(|| of_type(b, a, !outcome)).into_iter().collect(),
            (IN, [name, container]) => match (&name.expr, &container.expr) {
                (Expr::Literal(LiteralValue::String(name)), Expr::Ident(properties))
                    if properties == PROPERTIES && outcome =>
                {
                    vec![Tested::Present(name.inner().to_owned())]
                }
                _ => of_types(name, container, outcome).into_iter().collect(),
            },
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// `type == 'read'`.
fn of_type(field: &IdedExpr, literal: &IdedExpr, outcome: bool) -> Option<Tested> {
    is_type(field).then(|| Some(Tested::of(vec![text(literal)?], outcome)))?
}

/// `type in ['read', 'view']`.
fn of_types(field: &IdedExpr, list: &IdedExpr, outcome: bool) -> Option<Tested> {
    let Expr::List(list) = &list.expr else { return None };
    let names: Option<Vec<_>> = list.elements.iter().map(text).collect();
    is_type(field).then(|| Some(Tested::of(names?, outcome)))?
}

/// Whether it is the type of the event.
pub fn is_type(expression: &IdedExpr) -> bool {
    matches!(&expression.expr, Expr::Ident(name) if name == "type")
}

/// A literal text.
pub fn text(expression: &IdedExpr) -> Option<String> {
    match &expression.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner().to_owned()),
        _ => None,
    }
}

impl Tested {
    fn of(types: Vec<String>, outcome: bool) -> Self {
        if outcome { Self::OneOf(types) } else { Self::NoneOf(types) }
    }
}
