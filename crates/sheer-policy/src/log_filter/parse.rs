//! Reads filters. A mistake is told with its place and what could stand there.

use std::fmt;

use regex::Regex;

use sheer_api::names::{GRPC_CODES, grpc_code};

use super::{Expr, FIELDS, Field, Kind, Order, Pattern};

/// Brackets within brackets: nobody writes more, and each takes stack.
const DEEPEST: usize = 32;
/// Longest filter, bytes.
const LONGEST: usize = 4096;

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FilterError {
    /// Character where it went wrong, from 1.
    pub column: usize,
    /// What is wrong, and what could stand there.
    pub problem: String,
    text: String,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at column {} of {:?}: {}", self.column, self.text, self.problem)
    }
}

/// One word of a filter.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    Open,
    Close,
    Or,
    And,
    Not,
    Order(Order),
    Found(bool),
    /// With its unit, which may be empty.
    Number(f64, String),
    Text(String),
    Word(String),
}

struct Parser<'a> {
    text: &'a str,
    /// Each with its place, bytes.
    tokens: Vec<(usize, Token)>,
    next: usize,
}

pub(super) fn filter(text: &str) -> Result<Expr, FilterError> {
    let mut parser = Parser {
        text,
        tokens: Vec::new(),
        next: 0,
    };
    if text.len() > LONGEST {
        return Err(parser.wrong(0, format!("longer than {LONGEST} bytes")));
    }
    parser.read()?;
    let expr = parser.any(0)?;
    match parser.tokens.get(parser.next) {
        None => Ok(expr),
        Some((at, token)) => Err(parser.wrong(
            *at,
            format!("{} is one too many: && or || may follow here", describe(token)),
        )),
    }
}

impl Parser<'_> {
    fn wrong(&self, at: usize, problem: impl Into<String>) -> FilterError {
        let before = self.text.get(..at).unwrap_or(self.text);
        FilterError {
            column: before.chars().count() + 1,
            problem: problem.into(),
            text: self.text.chars().take(200).collect(),
        }
    }

    /// Splits the text into tokens.
    fn read(&mut self) -> Result<(), FilterError> {
        let text = self.text;
        let mut at = 0;
        while let Some(first) = text[at..].chars().next() {
            if first.is_whitespace() {
                at += first.len_utf8();
                continue;
            }
            let (token, length) = match fixed(&text[at..]) {
                Some(found) => found,
                None if first == '"' => self.quoted(at)?,
                None if first.is_ascii_digit() => self.number(at)?,
                None if is_word(first) => {
                    let word: String = text[at..].chars().take_while(|c| is_word(*c)).collect();
                    let length = word.len();
                    (Token::Word(word), length)
                }
                None => {
                    let hint = match first {
                        '=' => ": == compares",
                        '&' => ": && is and",
                        '|' => ": || is or",
                        '\'' => ": text stands in \"\"",
                        _ => "",
                    };
                    return Err(self.wrong(at, format!("{first:?} means nothing here{hint}")));
                }
            };
            self.tokens.push((at, token));
            at += length;
        }
        Ok(())
    }

    fn quoted(&self, start: usize) -> Result<(Token, usize), FilterError> {
        let mut value = String::new();
        let mut chars = self.text[start + 1..].char_indices();
        while let Some((at, next)) = chars.next() {
            match next {
                '"' => return Ok((Token::Text(value), at + 2)),
                '\\' => match chars.next() {
                    Some((_, next @ ('"' | '\\'))) => value.push(next),
                    // Of regular expressions: \d stays \d.
                    Some((_, next)) => value.extend(['\\', next]),
                    None => break,
                },
                next => value.push(next),
            }
        }
        Err(self.wrong(start, "this text has no end: a \" is missing"))
    }

    fn number(&self, start: usize) -> Result<(Token, usize), FilterError> {
        let rest = &self.text[start..];
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let unit: String = rest[digits..].chars().take_while(|c| is_word(*c)).collect();
        let value = rest[..digits].parse::<f64>();
        let value = value.map_err(|_| self.wrong(start, format!("{:?} is no number", &rest[..digits])))?;
        let length = digits + unit.len();
        Ok((Token::Number(value, unit), length))
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn takes(&mut self, token: &Token) -> bool {
        let takes = self.peek() == Some(token);
        self.next += usize::from(takes);
        takes
    }

    /// The next token and its place; what is missing where there is none.
    fn take(&mut self, expected: &str) -> Result<(usize, Token), FilterError> {
        match self.tokens.get(self.next).cloned() {
            Some(found) => {
                self.next += 1;
                Ok(found)
            }
            None => Err(self.wrong(self.text.len(), format!("it ends where {expected} should stand"))),
        }
    }

    fn any(&mut self, depth: usize) -> Result<Expr, FilterError> {
        let mut terms = vec![self.all(depth)?];
        while self.takes(&Token::Or) {
            terms.push(self.all(depth)?);
        }
        Ok(one_or(terms, Expr::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Expr, FilterError> {
        let mut terms = vec![self.term(depth)?];
        while self.takes(&Token::And) {
            terms.push(self.term(depth)?);
        }
        Ok(one_or(terms, Expr::All))
    }

    fn term(&mut self, depth: usize) -> Result<Expr, FilterError> {
        let (at, token) = self.take("a comparison, as status >= 500,")?;
        if depth >= DEEPEST {
            return Err(self.wrong(at, format!("more than {DEEPEST} brackets within each other")));
        }
        match token {
            Token::Not => Ok(Expr::Not(Box::new(self.term(depth + 1)?))),
            Token::Open => {
                let inner = self.any(depth + 1)?;
                if self.takes(&Token::Close) {
                    Ok(inner)
                } else {
                    Err(self.wrong(at, "this bracket is never closed"))
                }
            }
            Token::Word(name) => {
                let field = field(&name).map_err(|problem| self.wrong(at, problem))?;
                self.comparison(field)
            }
            token => Err(self.wrong(
                at,
                format!("{} stands where a field should: {}", describe(&token), names()),
            )),
        }
    }

    fn comparison(&mut self, field: Field) -> Result<Expr, FilterError> {
        let (at, order) = self.take("an operator (== != < <= > >= ~ !~)")?;
        let (place, value) = self.take("a value")?;
        let name = field.name();
        match (order, field.kind()) {
            (Token::Order(order), Kind::Number | Kind::Time) => {
                let value = number(field, value).map_err(|problem| self.wrong(place, problem))?;
                Ok(Expr::Number(field, order, value))
            }
            (Token::Order(order @ (Order::Equal | Order::NotEqual)), Kind::Text) => {
                let value = text(field, value).map_err(|problem| self.wrong(place, problem))?;
                Ok(Expr::Text(field, order == Order::Equal, value))
            }
            (Token::Found(found), Kind::Text) => {
                let value = text(field, value).map_err(|problem| self.wrong(place, problem))?;
                let pattern = Regex::new(&value).map_err(|error| self.wrong(place, in_one_line(&error)))?;
                Ok(Expr::Pattern(field, found, Pattern(pattern)))
            }
            (Token::Order(_), Kind::Text) => Err(self.wrong(at, format!("{name} is text: == != ~ and !~ compare it"))),
            (Token::Found(_), Kind::Number | Kind::Time) => {
                Err(self.wrong(at, format!("{name} is no text: == != < <= > and >= compare it")))
            }
            (token, _) => Err(self.wrong(
                at,
                format!(
                    "{} stands where an operator should: == != < <= > >= ~ !~",
                    describe(&token)
                ),
            )),
        }
    }
}

fn one_or(mut terms: Vec<Expr>, several: fn(Vec<Expr>) -> Expr) -> Expr {
    match terms.len() {
        1 => terms.remove(0),
        _ => several(terms),
    }
}

/// What is always written alike, the longer first.
fn fixed(text: &str) -> Option<(Token, usize)> {
    let mut fixed = vec![
        ("||", Token::Or),
        ("&&", Token::And),
        ("!~", Token::Found(false)),
        ("~", Token::Found(true)),
        ("(", Token::Open),
        (")", Token::Close),
    ];
    fixed.extend(Order::ALL.map(|order| (order.as_str(), Token::Order(order))));
    fixed.push(("!", Token::Not));
    fixed.sort_by_key(|(spelt, _)| std::cmp::Reverse(spelt.len()));
    let (spelt, token) = fixed.into_iter().find(|(spelt, _)| text.starts_with(spelt))?;
    Some((token, spelt.len()))
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

/// `_` for `-` is understood, as OpenTelemetry and JSON spell names so.
fn field(name: &str) -> Result<Field, String> {
    let wanted = name.replace('_', "-").to_ascii_lowercase();
    if let Some((_, field, _)) = FIELDS.iter().find(|(known, ..)| *known == wanted) {
        return Ok(*field);
    }
    let like = FIELDS
        .iter()
        .find(|(known, ..)| known.starts_with(&wanted) || wanted.starts_with(known));
    let hint = like.map_or_else(String::new, |(known, ..)| format!(" (did you mean {known}?)"));
    Err(format!("there is no field {name}{hint}: {}", names()))
}

fn names() -> String {
    let names: Vec<_> = FIELDS.iter().map(|(name, ..)| *name).collect();
    names.join(", ")
}

fn number(field: Field, value: Token) -> Result<u64, String> {
    let name = field.name();
    match (field.kind(), value) {
        (Kind::Time, Token::Number(value, unit)) => {
            let micros = match unit.as_str() {
                "us" => 1.0,
                "ms" => 1_000.0,
                "s" => 1_000_000.0,
                "m" => 60_000_000.0,
                "" => return Err(format!("{name} is a time: a unit is missing, as in 200ms")),
                other => return Err(format!("{other} is no unit of time: us, ms, s and m are")),
            };
            Ok((value * micros).round() as u64)
        }
        (_, Token::Number(value, unit)) if unit.is_empty() && value.fract() == 0.0 => Ok(value as u64),
        (_, Token::Number(..)) => Err(format!("{name} is compared with a whole number without a unit")),
        (_, Token::Word(word)) if field == Field::GrpcStatus => {
            let code = grpc_code(&word).map(u64::from);
            code.ok_or_else(|| format!("{word} is no code of gRPC: {}", GRPC_CODES.join(", ")))
        }
        (Kind::Time, token) => Err(format!(
            "{name} is compared with a time, as 200ms, and not with {}",
            describe(&token)
        )),
        (_, token) => Err(format!(
            "{name} is compared with a number, and not with {}",
            describe(&token)
        )),
    }
}

/// Words need no quotes: `method == GET`.
fn text(field: Field, value: Token) -> Result<String, String> {
    match value {
        Token::Text(text) | Token::Word(text) => Ok(text),
        token => Err(format!(
            "{} is compared with text in \"\", and not with {}",
            field.name(),
            describe(&token)
        )),
    }
}

fn describe(token: &Token) -> String {
    match token {
        Token::Open => "(".to_owned(),
        Token::Close => ")".to_owned(),
        Token::Or => "||".to_owned(),
        Token::And => "&&".to_owned(),
        Token::Not => "!".to_owned(),
        Token::Order(order) => order.as_str().to_owned(),
        Token::Found(true) => "~".to_owned(),
        Token::Found(false) => "!~".to_owned(),
        Token::Number(value, unit) => format!("{value}{unit}"),
        Token::Text(text) => format!("{text:?}"),
        Token::Word(word) => word.clone(),
    }
}

fn in_one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().next_back().unwrap_or_default();
    format!("no regular expression: {}", last.trim_start_matches("error: "))
}
