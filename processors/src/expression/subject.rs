//! The kinds of the subjects that an expression names. They are literals: which kinds there are must be known before the
//! first event, and clients must not make up others.

use super::fault::Fault;
use cel::common::ast::operators::{ADD, CONDITIONAL};
use cel::common::ast::{Expr, IdedExpr, LiteralValue};
use tally_model::check_subject_kind;

/// A kind of subjects that an expression gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectKind {
    /// This one.
    Literal(String),
    /// That of the event's own subject.
    Own,
}

const HELP: &str = "begin with a literal: `'campaign:' + id(properties.campaign)`";

/// The kinds that an expression can give, each once.
pub fn kinds(expression: &IdedExpr) -> Result<Vec<SubjectKind>, Vec<Fault>> {
    let (mut kinds, mut faults) = (Vec::new(), Vec::new());
    collect(expression, &mut kinds, &mut faults);
    if faults.is_empty() { Ok(kinds) } else { Err(faults) }
}

fn collect(expression: &IdedExpr, kinds: &mut Vec<SubjectKind>, faults: &mut Vec<Fault>) {
    let kind = match &expression.expr {
        Expr::Call(call) if call.func_name == CONDITIONAL => {
            call.args.iter().skip(1).for_each(|branch| collect(branch, kinds, faults));
            return;
        }
        Expr::List(list) => return list.elements.iter().for_each(|element| collect(element, kinds, faults)),
        // `'a:' + b + c` is `('a:' + b) + c`.
        Expr::Call(call) if call.func_name == ADD && !call.args.is_empty() => {
            return match &call.args[0].expr {
                Expr::Ident(_) => faults.push(not_literal()),
                _ => collect(&call.args[0], kinds, faults),
            };
        }
        Expr::Literal(LiteralValue::String(text)) => match text.split_once(':') {
            Some((kind, _)) => match check_subject_kind(kind) {
                Ok(()) => SubjectKind::Literal(kind.to_owned()),
                Err(rule) => return faults.push(Fault::new(format!("the kind `{kind}` {rule}"))),
            },
            None => {
                let message = format!("`{}` is no kind of subjects: a kind ends with `:`", text.inner());
                return faults.push(Fault { help: Some(HELP.to_owned()), ..Fault::new(message) });
            }
        },
        // An event for which it gives null takes no part.
        Expr::Literal(LiteralValue::Null) => return,
        Expr::Ident(name) if name == "subject_id" => SubjectKind::Own,
        _ => return faults.push(not_literal()),
    };
    if !kinds.contains(&kind) {
        kinds.push(kind);
    }
}

fn not_literal() -> Fault {
    Fault { help: Some(HELP.to_owned()), ..Fault::new("the kind of the subject must be a literal") }
}
