//! Checks an expression before the first event: names, functions, operands, and the type of the result.

use super::Wanted;
use super::fault::Fault;
use super::schema::{Found, Schema, Type};
use super::tested::{Tested, is_type, text, when};
use cel::Program;
use cel::common::ast::operators::{
    ADD, CONDITIONAL, DIVIDE, EQUALS, GREATER, GREATER_EQUALS, IN, INDEX, LESS, LESS_EQUALS, LOGICAL_AND, LOGICAL_NOT,
    LOGICAL_OR, MODULO, MULTIPLY, NEGATE, NOT_EQUALS, NOT_STRICTLY_FALSE, SUBSTRACT,
};
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr};
use tally_streams::topology::suggest;

/// The field with the properties.
pub const PROPERTIES: &str = "properties";

/// One walk over an expression.
pub struct Checker<'a> {
    program: &'a Program,
    /// The text of the expression.
    pub source: &'a str,
    fields: &'a [&'static str],
    schema: &'a Schema,
    /// Variables of the comprehensions around the place.
    locals: Vec<String>,
    /// What is known at the place, from the conditions around it.
    tested: Vec<Tested>,
    /// The mistakes so far.
    pub faults: Vec<Fault>,
    /// The type of the whole.
    pub result: Type,
    /// Whether the whole may be null.
    pub may_be_null: bool,
    /// Whether `properties` is used other than by the name of one of them.
    pub whole_properties: bool,
}

impl<'a> Checker<'a> {
    /// `tested` is known of every event that the expression sees.
    pub fn new(
        program: &'a Program,
        source: &'a str,
        fields: &'a [&'static str],
        schema: &'a Schema,
        tested: Vec<Tested>,
    ) -> Self {
        Self {
            program,
            source,
            fields,
            schema,
            locals: Vec::new(),
            tested,
            faults: Vec::new(),
            result: Type::Any,
            may_be_null: false,
            whole_properties: false,
        }
    }

    /// Checks the whole expression.
    pub fn run(&mut self, expression: &IdedExpr, wanted: Wanted) {
        self.result = self.result_of(expression, wanted);
    }

    /// Each branch of a choice must give what is wanted.
    fn result_of(&mut self, expression: &IdedExpr, wanted: Wanted) -> Type {
        if let Expr::Call(call) = &expression.expr
            && call.func_name == CONDITIONAL
            && let [condition, yes, no] = call.args.as_slice()
        {
            self.bool_operand(condition, "?");
            let yes = self.assuming(when(condition, true), |this| this.result_of(yes, wanted));
            let no = self.assuming(when(condition, false), |this| this.result_of(no, wanted));
            return yes.or(no);
        }
        let found = self.type_of(expression);
        let nullable = |name: &str| matches!(name, "ip" | "user_agent" | "duration_ms");
        self.may_be_null |= found == Type::Null || matches!(&expression.expr, Expr::Ident(name) if nullable(name));
        let (fits, what) = match wanted {
            Wanted::Bool => (found == Type::Bool, "true or false"),
            Wanted::Text => (matches!(found, Type::Text | Type::Null), "a text"),
            Wanted::Texts => (matches!(found, Type::Text | Type::Null | Type::List), "a text or a list of texts"),
            Wanted::Number => (found.is_number() || found == Type::Null, "a number"),
            Wanted::Scalar => (!matches!(found, Type::List | Type::Map), "a text, a number, true or false"),
        };
        if !fits && found != Type::Any {
            let help = match (wanted, found) {
                (Wanted::Text | Wanted::Texts, Type::Int | Type::Float | Type::Uint | Type::Bool) => {
                    Some("`string(…)` makes a text of it")
                }
                _ => None,
            };
            self.fault(None, format!("must give {what}, but gives {found}"), help.map(str::to_owned));
        }
        found
    }

    /// The type of a part.
    pub fn type_of(&mut self, expression: &IdedExpr) -> Type {
        match &expression.expr {
            Expr::Unspecified | Expr::Struct(_) => Type::Any,
            Expr::Literal(literal) => match literal {
                LiteralValue::Boolean(_) => Type::Bool,
                LiteralValue::Bytes(_) => Type::Any,
                LiteralValue::Double(_) => Type::Float,
                LiteralValue::Int(_) => Type::Int,
                LiteralValue::Null => Type::Null,
                LiteralValue::String(_) => Type::Text,
                LiteralValue::UInt(_) => Type::Uint,
            },
            Expr::Ident(name) => {
                self.whole_properties |= name == PROPERTIES;
                self.variable(name, expression)
            }
            Expr::List(list) => {
                for element in &list.elements {
                    self.type_of(element);
                }
                Type::List
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    match &entry.expr {
                        EntryExpr::MapEntry(entry) => {
                            self.type_of(&entry.key);
                            self.type_of(&entry.value);
                        }
                        EntryExpr::StructField(_) => {}
                    }
                }
                Type::Map
            }
            Expr::Select(select) => self.select(select, expression),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Call(call) => self.call(call, expression),
        }
    }

    fn variable(&mut self, name: &str, expression: &IdedExpr) -> Type {
        if name.starts_with('@') || self.locals.iter().any(|local| local == name) {
            return Type::Any;
        }
        if !self.fields.contains(&name) {
            let at = self.place(expression, name.chars().count());
            let help = suggest(name, self.fields.iter().copied(), "names");
            self.fault(at, format!("unknown name `{name}`"), help);
            return Type::Any;
        }
        match name {
            "occurred_at" | "duration_ms" => Type::Int,
            PROPERTIES => Type::Map,
            _ => Type::Text,
        }
    }

    fn is_properties(&self, expression: &IdedExpr) -> bool {
        matches!(&expression.expr, Expr::Ident(name) if name == PROPERTIES && !self.locals.contains(name))
    }

    fn select(&mut self, select: &SelectExpr, expression: &IdedExpr) -> Type {
        if self.is_properties(&select.operand) {
            self.variable(PROPERTIES, &select.operand);
            // The place is that of the dot; that of `has` stands at its bracket.
            let place = self.place(expression, select.field.chars().count());
            let place = place.filter(|_| !select.test).map(|(start, length)| (start + 1, length));
            return self.property(&select.field, place, select.test);
        }
        match self.type_of(&select.operand) {
            Type::Any | Type::Map => {}
            other => {
                let at = self.place(expression, select.field.chars().count() + 1);
                self.fault(at, format!("`.{}` is looked up in {other}, which has no such parts", select.field), None);
            }
        }
        if select.test { Type::Bool } else { Type::Any }
    }

    /// A property by its name; with `test`, whether the event has it.
    fn property(&mut self, name: &str, place: Option<(u32, u32)>, test: bool) -> Type {
        match self.schema.find(name, &self.tested) {
            Found::Never => {
                let help = suggest(name, self.schema.properties(), "properties");
                let types: Vec<_> = self.schema.types().map(|name| format!("`{name}`")).collect();
                let message = format!("unknown property `{name}` of {}", types.join(", "));
                self.fault(place, message, help);
                if test { Type::Bool } else { Type::Any }
            }
            _ if test => Type::Bool,
            Found::Always(kind) => kind,
            Found::Sometimes(kind) => {
                let help = format!("test for it: `has(properties.{name}) && …`, or `has(properties.{name}) ? … : …`");
                self.fault(place, format!("an event may lack the property `{name}`"), Some(help));
                kind
            }
        }
    }

    fn comprehension(&mut self, comprehension: &ComprehensionExpr) -> Type {
        match self.type_of(&comprehension.iter_range) {
            Type::Any | Type::List | Type::Map => {}
            other => {
                let at = self.place(&comprehension.iter_range, 1);
                self.fault(at, format!("needs a list or a map, but this is {other}"), None);
            }
        }
        let accumulated = self.type_of(&comprehension.accu_init);
        let before = self.locals.len();
        self.locals.push(comprehension.iter_var.clone());
        self.locals.extend(comprehension.iter_var2.clone());
        self.locals.push(comprehension.accu_var.clone());
        for part in [&comprehension.loop_cond, &comprehension.loop_step, &comprehension.result] {
            self.type_of(part);
        }
        self.locals.truncate(before);
        // `exists_one` counts, and compares at the end.
        if accumulated == Type::Int { Type::Bool } else { accumulated }
    }

    fn call(&mut self, call: &CallExpr, expression: &IdedExpr) -> Type {
        let name = call.func_name.as_str();
        match (name, call.args.as_slice()) {
            (CONDITIONAL, [condition, yes, no]) => {
                self.bool_operand(condition, "?");
                let yes = self.assuming(when(condition, true), |this| this.type_of(yes));
                let no = self.assuming(when(condition, false), |this| this.type_of(no));
                yes.or(no)
            }
            // An operand that fails does not matter where the other one decides.
            (LOGICAL_AND | LOGICAL_OR, [a, b]) => {
                let decided = name == LOGICAL_AND;
                let symbol = if decided { "&&" } else { "||" };
                self.assuming(when(b, decided), |this| this.bool_operand(a, symbol));
                self.assuming(when(a, decided), |this| this.bool_operand(b, symbol));
                Type::Bool
            }
            (LOGICAL_NOT, [operand]) => {
                self.bool_operand(operand, "!");
                Type::Bool
            }
            (NOT_STRICTLY_FALSE, [operand]) => {
                self.type_of(operand);
                Type::Bool
            }
            (NEGATE, [operand]) => match self.type_of(operand) {
                kind @ (Type::Any | Type::Int | Type::Float) => kind,
                other => {
                    let at = self.place(expression, 1);
                    self.fault(at, format!("`-` takes a number, not {other}"), None);
                    Type::Any
                }
            },
            (INDEX, [container, index]) => self.index(container, index, expression),
            (IN, [element, container]) => {
                if let (true, Expr::List(list)) = (is_type(element), &container.expr) {
                    list.elements.iter().for_each(|name| self.known_type(name));
                }
                self.type_of(element);
                if !self.is_properties(container) {
                    self.container(container, expression);
                }
                Type::Bool
            }
            (EQUALS | NOT_EQUALS | LESS | LESS_EQUALS | GREATER | GREATER_EQUALS, [a, b]) => {
                for (_, literal) in [(a, b), (b, a)].into_iter().filter(|(field, _)| is_type(field)) {
                    self.known_type(literal);
                }
                self.comparison(symbol(name), a, b, expression);
                Type::Bool
            }
            (ADD | SUBSTRACT | MULTIPLY | DIVIDE | MODULO, [a, b]) => self.arithmetic(symbol(name), a, b, expression),
            _ => self.function(call, expression),
        }
    }

    /// Reports a literal that is no type of the events that come here.
    fn known_type(&mut self, literal: &IdedExpr) {
        let Some(name) = text(literal) else { return };
        let mut types = self.schema.types().peekable();
        // Without any type nothing is known about the events.
        if types.peek().is_some() && types.all(|known| known != name) {
            let place = self.place(literal, name.chars().count() + 2);
            let help = suggest(&name, self.schema.types(), "types of the events here");
            self.fault(place, format!("no event of the type `{name}` comes here"), help);
        }
    }

    fn container(&mut self, container: &IdedExpr, expression: &IdedExpr) {
        match self.type_of(container) {
            Type::Any | Type::List | Type::Map => {}
            other => {
                let at = self.place(expression, "in".len());
                let help = (other == Type::Text).then(|| "for a part of a text: `text.contains(part)`".to_owned());
                self.fault(at, format!("`in` takes a list on its right, not {other}"), help);
            }
        }
    }

    fn index(&mut self, container: &IdedExpr, index: &IdedExpr, expression: &IdedExpr) -> Type {
        if self.is_properties(container) {
            self.variable(PROPERTIES, container);
            if let Expr::Literal(LiteralValue::String(name)) = &index.expr {
                let place = self.place(index, name.chars().count() + 2);
                return self.property(name.inner(), place, false);
            }
            self.type_of(index);
            return Type::Any;
        }
        self.type_of(index);
        match self.type_of(container) {
            Type::Any | Type::List | Type::Map => {}
            other => {
                let at = self.place(expression, 1);
                self.fault(at, format!("`[…]` takes a list or a map, not {other}"), None);
            }
        }
        Type::Any
    }

    fn comparison(&mut self, symbol: &str, a: &IdedExpr, b: &IdedExpr, expression: &IdedExpr) {
        let (left, right) = (self.type_of(a), self.type_of(b));
        let equality = matches!(symbol, "==" | "!=");
        let fits = match (left, right) {
            (Type::Any, _) | (_, Type::Any) => true,
            (Type::Null, _) | (_, Type::Null) => equality,
            (Type::List | Type::Map, _) => equality && left == right,
            _ => left == right || left.is_number() && right.is_number(),
        };
        if !fits {
            let at = self.place(expression, symbol.len());
            let help = match (left, right) {
                (Type::Text, number) | (number, Type::Text) if number.is_number() => {
                    Some("a number has no quotes; `int(…)` makes one of a text".to_owned())
                }
                _ => None,
            };
            self.fault(at, format!("`{symbol}` compares {left} with {right}"), help);
        }
    }

    fn arithmetic(&mut self, symbol: &str, a: &IdedExpr, b: &IdedExpr, expression: &IdedExpr) -> Type {
        let (left, right) = (self.type_of(a), self.type_of(b));
        let takes = |kind: Type| match symbol {
            "+" => kind.is_number() || matches!(kind, Type::Text | Type::List),
            "%" => matches!(kind, Type::Int | Type::Uint),
            _ => kind.is_number(),
        };
        match (left, right) {
            (Type::Any, other) | (other, Type::Any) if other == Type::Any || takes(other) => return other,
            _ if left == right && takes(left) => return left,
            _ => {}
        }
        let at = self.place(expression, symbol.len());
        let help = match (left, right) {
            (Type::Text, other) | (other, Type::Text) if symbol == "+" && other != Type::List => {
                Some("`string(…)` makes a text of a number")
            }
            _ if left.is_number() && right.is_number() && symbol != "%" => {
                Some("`double(…)` makes a float of a whole number")
            }
            _ => None,
        };
        let operands = match (left, right) {
            (Type::Any, known) | (known, Type::Any) => known.to_string(),
            _ => format!("{left} and {right}"),
        };
        self.fault(at, format!("`{symbol}` takes no {operands}"), help.map(str::to_owned));
        Type::Any
    }

    fn bool_operand(&mut self, operand: &IdedExpr, symbol: &str) {
        match self.type_of(operand) {
            Type::Any | Type::Bool => {}
            other => {
                let at = self.place(operand, 1);
                self.fault(at, format!("`{symbol}` takes true or false, not {other}"), None);
            }
        }
    }

    fn assuming<R>(&mut self, tested: Vec<Tested>, check: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.tested.len();
        self.tested.extend(tested);
        let result = check(self);
        self.tested.truncate(before);
        result
    }

    /// Where a part begins, in characters from 0.
    pub fn place(&self, expression: &IdedExpr, length: usize) -> Option<(u32, u32)> {
        let (start, _) = self.program.source_info().offset_for(expression.id)?;
        let before = self.source.get(..start as usize)?.chars().count();
        Some((u32::try_from(before).ok()?, u32::try_from(length).unwrap_or(1)))
    }

    /// Notes a mistake; a part that is checked twice has it once.
    pub fn fault(&mut self, at: Option<(u32, u32)>, message: impl Into<String>, help: Option<String>) {
        let fault = Fault { message: message.into(), help, at };
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }
}

/// The operator as it is written.
fn symbol(function: &str) -> &str {
    function.trim_matches('_')
}
