//! The tokens of an expression, for messages about its syntax.

use super::fault::Fault;
use tally_streams::topology::parse_duration;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number or a text.
    Literal,
    /// A name, or `true`, `false` and `null`.
    Word,
    /// An operator between two operands. `-` may also stand before one.
    Operator,
    /// `!`
    Not,
    /// `.`, `,`, `?` or `:`
    Mark,
    /// An opening bracket.
    Open,
    /// A closing bracket.
    Close,
}

/// A part of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Its characters.
    pub text: String,
    /// The place of the first one in the expression.
    pub at: usize,
}

impl Token {
    /// A mistake at this token.
    pub fn fault(&self, message: impl Into<String>, help: Option<&str>) -> Fault {
        let length = self.text.chars().count();
        Fault { message: message.into(), help: help.map(str::to_owned), at: Some(place(self.at, length)) }
    }

    /// Whether it is this text, and no literal.
    pub fn is(&self, text: &str) -> bool {
        self.kind != Kind::Literal && self.text == text
    }
}

/// A place in an expression: the first character, from 0, and how many.
pub fn place(at: usize, length: usize) -> (u32, u32) {
    (u32::try_from(at).unwrap_or(u32::MAX), u32::try_from(length).unwrap_or(1))
}

const LONG_OPERATORS: [&str; 6] = ["==", "!=", "<=", ">=", "&&", "||"];
/// What other languages have, and what is meant.
const FOREIGN: [(&str, &str); 6] = [
    ("===", "`==` compares"),
    ("!==", "`!=` compares"),
    ("=>", "`>=` means at least"),
    ("=", "`==` compares"),
    ("&", "`&&` means and"),
    ("|", "`||` means or"),
];

/// The tokens up to the end, or up to something that is no token, and what is wrong there.
pub fn tokens(source: &str) -> (Vec<Token>, Option<Fault>) {
    let chars: Vec<char> = source.chars().collect();
    let mut lexer = Lexer { chars: &chars, at: 0 };
    let mut tokens = Vec::new();
    loop {
        match lexer.next() {
            Ok(Some(token)) => tokens.push(token),
            Ok(None) => return (tokens, None),
            Err(fault) => return (tokens, Some(fault)),
        }
    }
}

struct Lexer<'a> {
    chars: &'a [char],
    at: usize,
}

impl Lexer<'_> {
    fn next(&mut self) -> Result<Option<Token>, Fault> {
        self.skip_blanks();
        let Some(first) = self.peek(0) else { return Ok(None) };
        if let Some(prefix) = self.text_prefix() {
            return self.text(prefix).map(Some);
        }
        let next_is_digit = self.peek(1).is_some_and(|c| c.is_ascii_digit());
        if first.is_ascii_digit() || first == '.' && next_is_digit {
            return self.number().map(Some);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let length = self.count(0, |c| c.is_ascii_alphanumeric() || c == '_');
            let token = self.take(Kind::Word, length);
            return Ok(Some(if token.text == "in" { Token { kind: Kind::Operator, ..token } } else { token }));
        }
        if let Some((foreign, help)) = FOREIGN.iter().find(|(foreign, _)| self.is_here(foreign)) {
            // `&&` and `||` begin like two of them.
            if !LONG_OPERATORS.iter().any(|operator| self.is_here(operator)) || foreign.len() == 3 {
                let token = self.take(Kind::Operator, foreign.len());
                return Err(token.fault(format!("unexpected `{foreign}`"), Some(*help)));
            }
        }
        if LONG_OPERATORS.iter().any(|operator| self.is_here(operator)) {
            return Ok(Some(self.take(Kind::Operator, 2)));
        }
        let kind = match first {
            '<' | '>' | '+' | '-' | '*' | '/' | '%' => Kind::Operator,
            '!' => Kind::Not,
            '.' | ',' | '?' | ':' => Kind::Mark,
            '(' | '[' | '{' => Kind::Open,
            ')' | ']' | '}' => Kind::Close,
            _ => {
                let is_quote = matches!(first, '‘' | '’' | '“' | '”' | '„' | '«' | '»' | '`');
                let help = is_quote.then_some("a text stands in `'` or `\"`");
                return Err(self.take(Kind::Mark, 1).fault(format!("unexpected `{first}`"), help));
            }
        };
        Ok(Some(self.take(kind, 1)))
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn is_here(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(ahead, c)| self.peek(ahead) == Some(c))
    }

    /// How many characters from there on are such.
    fn count(&self, ahead: usize, is_such: impl Fn(char) -> bool) -> usize {
        (ahead..).take_while(|ahead| self.peek(*ahead).is_some_and(&is_such)).count()
    }

    fn take(&mut self, kind: Kind, length: usize) -> Token {
        let token = Token { kind, text: self.chars[self.at..self.at + length].iter().collect(), at: self.at };
        self.at += length;
        token
    }

    fn skip_blanks(&mut self) {
        loop {
            self.at += self.count(0, |c| c.is_ascii_whitespace());
            if !self.is_here("//") {
                return;
            }
            self.at += self.count(0, |c| c != '\n');
        }
    }

    fn number(&mut self) -> Result<Token, Fault> {
        let digit = |c: char| c.is_ascii_digit();
        let mut length = if self.is_here("0x") {
            2 + self.count(2, |c| c.is_ascii_hexdigit())
        } else {
            let mut length = self.count(0, digit);
            if self.peek(length) == Some('.') && self.peek(length + 1).is_some_and(digit) {
                length += 1 + self.count(length + 1, digit);
            }
            if matches!(self.peek(length), Some('e' | 'E')) {
                let sign = usize::from(matches!(self.peek(length + 1), Some('+' | '-')));
                let exponent = self.count(length + 1 + sign, digit);
                length += if exponent > 0 { 1 + sign + exponent } else { 0 };
            }
            length
        };
        length += usize::from(matches!(self.peek(length), Some('u' | 'U')));
        let rest = self.count(length, |c| c.is_ascii_alphanumeric() || c == '_');
        let token = self.take(Kind::Literal, length + rest);
        if rest == 0 {
            return Ok(token);
        }
        let help = parse_duration(&token.text)
            .ok()
            .map(|meant| format!("durations are milliseconds: `{}`", meant.as_millis()));
        Err(token.fault(format!("`{}` is not a number", token.text), help.as_deref()))
    }

    /// How many letters stand before the quote of a text; None where there is no text.
    fn text_prefix(&self) -> Option<usize> {
        (0..=2)
            .find(|ahead| matches!(self.peek(*ahead), Some('\'' | '"')))
            .filter(|prefix| (0..*prefix).all(|ahead| matches!(self.peek(ahead), Some('r' | 'R' | 'b' | 'B'))))
    }

    fn text(&mut self, prefix: usize) -> Result<Token, Fault> {
        let quote = self.chars[self.at + prefix];
        let is_raw = (0..prefix).any(|ahead| matches!(self.peek(ahead), Some('r' | 'R')));
        let is_long = (0..3).all(|ahead| self.peek(prefix + ahead) == Some(quote));
        let closing = if is_long { 3 } else { 1 };
        let mut length = prefix + closing;
        loop {
            match self.peek(length) {
                Some(c) if c == quote && (1..closing).all(|ahead| self.peek(length + ahead) == Some(quote)) => {
                    return Ok(self.take(Kind::Literal, length + closing));
                }
                Some('\\') if !is_raw => length += self.escape(length)?,
                Some('\n' | '\r') if !is_long => return Err(self.unclosed(prefix, quote)),
                Some(_) => length += 1,
                None => return Err(self.unclosed(prefix, quote)),
            }
        }
    }

    fn unclosed(&self, prefix: usize, quote: char) -> Fault {
        let at = Some(place(self.at + prefix, 1));
        Fault { message: format!("a text has no closing `{quote}`"), help: None, at }
    }

    /// How long the escape is that begins there.
    fn escape(&self, ahead: usize) -> Result<usize, Fault> {
        let hex = |digits| (self.count(ahead + 2, |c| c.is_ascii_hexdigit()) >= digits).then_some(2 + digits);
        let length = match self.peek(ahead + 1) {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '"' | '\'' | '\\' | '?' | '`') => Some(2),
            Some('x' | 'X') => hex(2),
            Some('u') => hex(4),
            Some('U') => hex(8),
            Some('0'..='3') => (self.count(ahead + 2, |c| matches!(c, '0'..='7')) >= 2).then_some(4),
            _ => None,
        };
        length.ok_or_else(|| {
            let escape: String = self.chars[self.at + ahead..].iter().take(2).collect();
            let message = format!("`{escape}` is not an escape of a text");
            let help = Some(format!("`\\{escape}`, or `r` before the text: `r'{escape}'`"));
            Fault { message, help, at: Some(place(self.at + ahead, escape.chars().count())) }
        })
    }
}
