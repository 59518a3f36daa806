//! The grammar of AIP-160, by recursive descent: OR binds tighter than AND, and terms side by side are joined by AND.
//!
//! ```text
//! expression := sequence { "AND" sequence }
//! sequence   := factor { factor }
//! factor     := term { "OR" term }
//! term       := [ "NOT" | "-" ] simple
//! simple     := "(" expression ")" | field comparator literal
//! ```

use super::{
    Fault, MAX_BYTES, MAX_DEPTH, MAX_TESTS,
    lexer::{Comparator, Kind, Lexer, Literal, Token},
};

/// An expression, before it is known what its names mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Restriction(Restriction),
}

/// A field, a comparator and a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Restriction {
    pub(super) field: String,
    pub(super) field_at: usize,
    pub(super) comparator: Comparator,
    pub(super) comparator_at: usize,
    pub(super) literal: Literal,
    pub(super) literal_at: usize,
}

/// Reads an expression; `None`: there is nothing.
pub(super) fn parse(text: &str) -> Result<Option<Expression>, Fault> {
    if text.len() > MAX_BYTES {
        return Err(Fault::at(1, format!("it has {} bytes, and may have {MAX_BYTES}", text.len())));
    }
    if let Some(at) = text.chars().position(|c| c == '\0') {
        return Err(Fault::at(at + 1, "there is a NUL"));
    }
    let mut lexer = Lexer::new(text);
    let next = lexer.token()?;
    if next.kind == Kind::End {
        return Ok(None);
    }
    let mut parser = Parser { lexer, next, depth: 0, tests: 0 };
    let expression = parser.expression()?;
    match parser.next.kind {
        Kind::End => Ok(Some(expression)),
        _ => Err(parser.unexpected()),
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The token to come.
    next: Token,
    depth: usize,
    tests: usize,
}

impl Parser<'_> {
    fn expression(&mut self) -> Result<Expression, Fault> {
        let mut parts = vec![self.sequence()?];
        while self.eat_word("AND")? {
            parts.push(self.sequence()?);
        }
        Ok(joined(parts, Expression::All))
    }

    fn sequence(&mut self) -> Result<Expression, Fault> {
        let mut parts = vec![self.factor()?];
        while self.begins_term() {
            parts.push(self.factor()?);
        }
        Ok(joined(parts, Expression::All))
    }

    fn factor(&mut self) -> Result<Expression, Fault> {
        let mut parts = vec![self.term()?];
        while self.eat_word("OR")? {
            parts.push(self.term()?);
        }
        Ok(joined(parts, Expression::Any))
    }

    fn term(&mut self) -> Result<Expression, Fault> {
        let negated = self.next.kind == Kind::Minus || self.is_word("NOT");
        if negated {
            self.advance()?;
        }
        let simple = self.simple()?;
        Ok(if negated { Expression::Not(Box::new(simple)) } else { simple })
    }

    fn simple(&mut self) -> Result<Expression, Fault> {
        match &self.next.kind {
            Kind::Open => self.composite(),
            Kind::Word(name) if !is_keyword(name) => {
                let field = name.clone();
                self.restriction(field)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn composite(&mut self) -> Result<Expression, Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Fault::at(self.next.at, format!("parentheses go deeper than {MAX_DEPTH}")));
        }
        let opened = self.advance()?.at;
        let inner = self.expression()?;
        if self.next.kind == Kind::End {
            return Err(Fault::at(opened, "this parenthesis has no end"));
        }
        if self.next.kind != Kind::Close {
            return Err(self.unexpected());
        }
        self.advance()?;
        self.depth -= 1;
        Ok(inner)
    }

    fn restriction(&mut self, field: String) -> Result<Expression, Fault> {
        let field_at = self.advance()?.at;
        let Kind::Comparator(comparator) = self.next.kind else {
            return Err(if self.next.kind == Kind::Open {
                Fault::at(field_at, format!("there is no function {field}, nor any other"))
            } else {
                Fault::at(
                    field_at,
                    format!("{field} stands alone; compare a field with a value, as in field = \"{field}\""),
                )
            });
        };
        let comparator_at = self.next.at;
        self.tests += 1;
        if self.tests > MAX_TESTS {
            return Err(Fault::at(field_at, format!("there are more than {MAX_TESTS} comparisons")));
        }
        // The lexer stands behind the comparator.
        let (literal_at, literal) = self.lexer.literal()?;
        self.next = self.lexer.token()?;
        Ok(Expression::Restriction(Restriction {
            field,
            field_at,
            comparator,
            comparator_at,
            literal,
            literal_at,
        }))
    }

    /// Goes on to the next token, and returns the one that was to come.
    fn advance(&mut self) -> Result<Token, Fault> {
        let next = self.lexer.token()?;
        Ok(std::mem::replace(&mut self.next, next))
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.next.kind, Kind::Word(next) if next == word)
    }

    fn eat_word(&mut self, word: &str) -> Result<bool, Fault> {
        let eaten = self.is_word(word);
        if eaten {
            self.advance()?;
        }
        Ok(eaten)
    }

    fn begins_term(&self) -> bool {
        match &self.next.kind {
            Kind::Open | Kind::Minus | Kind::Literal(_) => true,
            Kind::Word(word) => word != "AND" && word != "OR",
            Kind::Close | Kind::Comparator(_) | Kind::End => false,
        }
    }

    fn unexpected(&self) -> Fault {
        let problem = match &self.next.kind {
            Kind::Open => "'(' is not expected here".to_owned(),
            Kind::Close => "')' is not expected here".to_owned(),
            Kind::Minus => "'-' is not expected here".to_owned(),
            Kind::Comparator(comparator) => format!("{:?} has no field before it", comparator.as_str()),
            Kind::Word(word) => format!("{word} is not expected here"),
            Kind::Literal(_) => {
                "a value stands alone; compare a field with it, as in field = \"value\"".to_owned()
            }
            Kind::End => "more is expected".to_owned(),
        };
        Fault::at(self.next.at, problem)
    }
}

fn is_keyword(word: &str) -> bool {
    matches!(word, "AND" | "OR" | "NOT")
}

fn joined(mut parts: Vec<Expression>, join: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            join(parts)
        }
    }
}
