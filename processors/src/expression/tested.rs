//! What the conditions around a place have tested.

use super::check::PROPERTIES;
use cel::common::ast::operators::{EQUALS, IN, LOGICAL_AND, LOGICAL_NOT, LOGICAL_OR, NOT_EQUALS};
use cel::common::ast::{Expr, IdedExpr, LiteralValue};

/// What an expression has tested before it reads a property.
#[derive(Clone, Debug, PartialEq)]
pub enum Tested {
    /// The event has this property.
    Present(String),
    /// The event is of this type.
    Type(String),
    /// The event is not of this type.
    OtherType(String),
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
            (IN, [name, container]) if outcome => match (&name.expr, &container.expr) {
                (Expr::Literal(LiteralValue::String(name)), Expr::Ident(properties)) if properties == PROPERTIES => {
                    vec![Tested::Present(name.inner().to_owned())]
                }
                _ => Vec::new(),
            },
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn of_type(field: &IdedExpr, literal: &IdedExpr, outcome: bool) -> Option<Tested> {
    match (&field.expr, &literal.expr) {
        (Expr::Ident(field), Expr::Literal(LiteralValue::String(name))) if field == "type" => {
            let name = name.inner().to_owned();
            Some(if outcome { Tested::Type(name) } else { Tested::OtherType(name) })
        }
        _ => None,
    }
}
