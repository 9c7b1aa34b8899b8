//! What is wrong with the syntax of an expression, in words for those who write one. The parser's own messages are about
//! the rules of its grammar.

use super::fault::Fault;
use super::tokens::{Kind, Token, tokens};

const CHOICE: &str = "a choice is `condition ? a : b`";
/// Words that are operators elsewhere.
const FOREIGN: [(&str, &str); 7] = [
    ("and", "`&&` means and"),
    ("or", "`||` means or"),
    ("not", "`!` means not"),
    ("is", "`==` compares"),
    ("like", "`text.contains(part)`, or `text.matches(pattern)`"),
    ("if", CHOICE),
    ("then", CHOICE),
];

/// The first mistake; None where this sees none.
pub fn mistake(source: &str) -> Option<Fault> {
    let (tokens, wrong_token) = tokens(source);
    let mut reader = Reader { tokens: &tokens, open: Vec::new() };
    let mut wants_operand = true;
    for at in 0..tokens.len() {
        let read = if wants_operand { reader.operand(at) } else { reader.behind_operand(at) };
        match read {
            Ok(wants) => wants_operand = wants,
            Err(fault) => return Some(fault),
        }
    }
    wrong_token.or_else(|| reader.end(wants_operand).err())
}

/// A bracket, or a choice, that is not closed yet.
struct Open {
    /// Its token.
    at: usize,
    what: Opened,
    /// Whether its current entry has had its colon, in a map.
    has_colon: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Opened {
    Group,
    Arguments,
    List,
    Index,
    Map,
    /// A `?` that waits for its `:`.
    Choice,
}

struct Reader<'a> {
    tokens: &'a [Token],
    open: Vec<Open>,
}

impl Reader<'_> {
    /// A token where an operand must begin. Whether one must still begin behind it.
    fn operand(&mut self, at: usize) -> Result<bool, Fault> {
        let token = &self.tokens[at];
        match token.kind {
            Kind::Literal | Kind::Word => Ok(false),
            Kind::Not => Ok(true),
            Kind::Operator if token.is("-") => Ok(true),
            Kind::Mark if token.is(".") && self.next_is_word(at) => Ok(true),
            Kind::Open => {
                let what = match token.text.as_str() {
                    "(" => Opened::Group,
                    "[" => Opened::List,
                    _ => Opened::Map,
                };
                self.open(at, what)
            }
            Kind::Close if self.may_close(at) => self.close(at),
            Kind::Operator | Kind::Mark | Kind::Close => Err(self.no_operand(at)),
        }
    }

    /// A token behind an operand. Whether another operand must begin behind it.
    fn behind_operand(&mut self, at: usize) -> Result<bool, Fault> {
        let (token, before) = (&self.tokens[at], &self.tokens[at - 1]);
        match (token.kind, token.text.as_str()) {
            (Kind::Operator, _) => Ok(true),
            (Kind::Open, "[") => self.open(at, Opened::Index),
            (Kind::Open, "(") if before.kind == Kind::Word => self.open(at, Opened::Arguments),
            (Kind::Open, "{") if before.kind == Kind::Word => self.open(at, Opened::Map),
            (Kind::Open | Kind::Literal | Kind::Word | Kind::Not, _) => Err(self.no_operator(at)),
            (Kind::Close, _) => self.close(at),
            (Kind::Mark, ".") if self.next_is_word(at) => Ok(true),
            (Kind::Mark, ".") => Err(token.fault("expected a name after `.`", None)),
            (Kind::Mark, "?") => self.open(at, Opened::Choice),
            (Kind::Mark, ":") => self.colon(at),
            (Kind::Mark, _) => self.comma(at),
        }
    }

    fn next_is_word(&self, at: usize) -> bool {
        self.tokens.get(at + 1).is_some_and(|next| next.kind == Kind::Word)
    }

    fn open(&mut self, at: usize, what: Opened) -> Result<bool, Fault> {
        self.open.push(Open { at, what, has_colon: false });
        Ok(true)
    }

    /// Whether a bracket may close without an operand before it: empty, or behind the last comma of a list.
    fn may_close(&self, at: usize) -> bool {
        let (Some(open), Some(before)) = (self.open.last(), at.checked_sub(1)) else { return false };
        let may_be_empty = matches!(open.what, Opened::Arguments | Opened::List | Opened::Map);
        let may_end_so = matches!(open.what, Opened::List | Opened::Map);
        may_be_empty && open.at == before || may_end_so && self.tokens[before].is(",")
    }

    fn close(&mut self, at: usize) -> Result<bool, Fault> {
        let token = &self.tokens[at];
        let Some(open) = self.open.pop() else {
            return Err(token.fault(format!("unexpected `{}`: no bracket is open", token.text), None));
        };
        let opened = &self.tokens[open.at];
        let closing = match opened.text.as_str() {
            "(" => ")",
            "[" => "]",
            "{" => "}",
            _ => return Err(opened.fault("`?` has no `:`", Some(CHOICE))),
        };
        if token.text != closing {
            let message = format!("`{}` is closed by `{}`", opened.text, token.text);
            return Err(token.fault(message, Some(&format!("`{closing}`"))));
        }
        let before = &self.tokens[at - 1];
        if open.what == Opened::Map && !open.has_colon && open.at + 1 < at && !before.is(",") {
            return Err(Self::no_value(before));
        }
        Ok(false)
    }

    fn colon(&mut self, at: usize) -> Result<bool, Fault> {
        match self.open.last_mut() {
            Some(Open { what: Opened::Choice, .. }) => drop(self.open.pop()),
            Some(open) if open.what == Opened::Map && !open.has_colon => open.has_colon = true,
            _ => return Err(self.tokens[at].fault("unexpected `:`", Some(CHOICE))),
        }
        Ok(true)
    }

    fn comma(&mut self, at: usize) -> Result<bool, Fault> {
        match self.open.last_mut() {
            Some(open) if open.what == Opened::Choice => {
                Err(self.tokens[open.at].fault("`?` has no `:`", Some(CHOICE)))
            }
            Some(open) if open.what == Opened::Map => match std::mem::take(&mut open.has_colon) {
                true => Ok(true),
                false => Err(Self::no_value(&self.tokens[at - 1])),
            },
            Some(open) if matches!(open.what, Opened::Arguments | Opened::List) => Ok(true),
            _ => Err(self.tokens[at].fault("unexpected `,`", None)),
        }
    }

    fn no_value(key: &Token) -> Fault {
        key.fault(format!("expected `:` and a value after `{}`", key.text), Some("a map is `{'key': value}`"))
    }

    /// Something else stands where an operand must begin.
    fn no_operand(&self, at: usize) -> Fault {
        let token = &self.tokens[at];
        match at.checked_sub(1).map(|before| &self.tokens[before]) {
            Some(before) if before.kind == Kind::Open && token.kind == Kind::Close => {
                before.fault(format!("expected an operand between `{}` and `{}`", before.text, token.text), None)
            }
            Some(before) if before.kind != Kind::Open => {
                let help = (before.is("<") && token.is(">")).then_some("`!=` means different");
                before.fault(format!("expected an operand after `{}`", before.text), help)
            }
            _ => token.fault(format!("expected an operand before `{}`", token.text), None),
        }
    }

    /// Something else stands where an operator must be.
    fn no_operator(&self, at: usize) -> Fault {
        let (token, before) = (&self.tokens[at], &self.tokens[at - 1]);
        for word in [token, before] {
            if let Some((_, help)) = FOREIGN.iter().find(|(foreign, _)| word.text.eq_ignore_ascii_case(foreign)) {
                return word.fault(format!("unexpected `{}`", word.text), Some(*help));
            }
        }
        let are_texts = token.kind == Kind::Literal && before.kind == Kind::Literal;
        let is_close = before.at + before.text.chars().count() == token.at;
        let help = (are_texts && is_close).then_some("a quote within a text is `\\'`");
        token.fault(format!("expected an operator before `{}`", token.text), help)
    }

    fn end(&self, wants_operand: bool) -> Result<(), Fault> {
        let Some(last) = self.tokens.last() else { return Err(Fault::new("is empty")) };
        if wants_operand && last.kind != Kind::Open {
            return Err(last.fault(format!("expected an operand after `{}`", last.text), None));
        }
        match self.open.last() {
            Some(open) if open.what == Opened::Choice => {
                Err(self.tokens[open.at].fault("`?` has no `:`", Some(CHOICE)))
            }
            Some(open) => {
                Err(self.tokens[open.at].fault(format!("`{}` is not closed", self.tokens[open.at].text), None))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "syntax_tests.rs"]
mod tests;
