//! The grammar of AIP-160, by recursive descent: OR binds tighter than AND, and terms side by side are joined
//! by AND.
//!
//! ```text
//! expression := sequence { "AND" sequence }
//! sequence   := factor { factor }
//! factor     := term { "OR" term }
//! term       := [ "NOT" | "-" ] simple
//! simple     := "(" expression ")" | field comparator literal | field "IN" "(" literal { "," literal } ")"
//! field      := name { "." name }, where a name may stand in quotes
//! ```

use super::{
    Fault, MAX_BYTES, MAX_DEPTH, MAX_TESTS,
    lexer::{Comparator, Kind, Lexer, Literal, Token},
};

/// An expression whose names are not resolved yet.
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
    pub(super) field: Name,
    pub(super) comparator: Comparator,
    pub(super) comparator_at: usize,
    pub(super) value: Said,
    /// The other values of a list.
    pub(super) others: Vec<Said>,
}

/// A value, and its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) at: usize,
    pub(super) literal: Literal,
}

/// A field's name, or a path that begins with one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) at: usize,
    pub(super) parts: Vec<String>,
    /// Whether a part of it was quoted, so that its dots are ordinary characters.
    quoted: bool,
    whole: String,
}

impl Name {
    fn unquoted(at: usize, whole: &str) -> Self {
        let parts = whole.split('.').map(str::to_owned).collect();
        Self { at, parts, quoted: false, whole: whole.to_owned() }
    }

    fn quoted(at: usize, parts: Vec<String>) -> Self {
        let whole = parts.join(".");
        Self { at, parts, quoted: true, whole }
    }

    /// What it may be as a whole, dots included.
    pub(super) fn alias(&self) -> Option<&str> {
        (!self.quoted).then_some(&self.whole)
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        self.whole.clone()
    }
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
            Kind::Word(word) if !is_keyword(word) => {
                let name = Name::unquoted(self.next.at, word);
                self.advance()?;
                self.restriction(name)
            }
            Kind::Path(parts) => {
                let name = Name::quoted(self.next.at, parts.clone());
                self.advance()?;
                self.restriction(name)
            }
            Kind::Literal(literal) if literal.stars.is_empty() => {
                let name = Name::quoted(self.next.at, vec![literal.text.clone()]);
                let alone = self.unexpected();
                self.advance().map_err(|_| alone.clone())?;
                if !matches!(self.next.kind, Kind::Comparator(_)) && !self.is_word("IN") {
                    return Err(alone);
                }
                self.restriction(name)
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

    /// What follows a field's name.
    fn restriction(&mut self, field: Name) -> Result<Expression, Fault> {
        let (at, name) = (field.at, field.text());
        let comparator = match &self.next.kind {
            Kind::Comparator(comparator) => *comparator,
            Kind::Word(word) if word == "IN" => Comparator::In,
            Kind::Open => return Err(Fault::at(at, format!("there is no function {name}, nor any other"))),
            _ => {
                let problem =
                    format!("{name} stands alone; compare a field with a value, as in field = \"{name}\"");
                return Err(Fault::at(at, problem));
            }
        };
        let comparator_at = self.next.at;
        self.tests += 1;
        if self.tests > MAX_TESTS {
            return Err(Fault::at(at, format!("there are more than {MAX_TESTS} comparisons")));
        }
        let (value, others) = match comparator {
            Comparator::In => self.list()?,
            // The lexer is just past the comparator.
            _ => {
                let value = self.said()?;
                self.next = self.lexer.token()?;
                (value, Vec::new())
            }
        };
        Ok(Expression::Restriction(Restriction { field, comparator, comparator_at, value, others }))
    }

    fn said(&mut self) -> Result<Said, Fault> {
        self.lexer.literal().map(|(at, literal)| Said { at, literal })
    }

    /// What follows IN: values in parentheses, or a claim.
    fn list(&mut self) -> Result<(Said, Vec<Said>), Fault> {
        if self.lexer.is_claim() {
            let claim = self.said()?;
            self.next = self.lexer.token()?;
            return Ok((claim, Vec::new()));
        }
        self.advance()?;
        if self.next.kind != Kind::Open {
            return Err(Fault::at(self.next.at, "after IN there are values in parentheses, as in IN (a, b)"));
        }
        let opened = self.next.at;
        let (first, mut others) = (self.said()?, Vec::new());
        loop {
            self.next = self.lexer.token()?;
            match self.next.kind {
                Kind::Comma => others.push(self.said()?),
                Kind::Close => break,
                Kind::End => return Err(Fault::at(opened, "this parenthesis has no end")),
                _ => return Err(Fault::at(self.next.at, "between the values of a list there are commas")),
            }
        }
        self.advance()?;
        Ok((first, others))
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
            Kind::Open | Kind::Minus | Kind::Literal(_) | Kind::Path(_) => true,
            Kind::Word(word) => word != "AND" && word != "OR",
            Kind::Close | Kind::Comma | Kind::Comparator(_) | Kind::End => false,
        }
    }

    fn unexpected(&self) -> Fault {
        let problem = match &self.next.kind {
            Kind::Open => "'(' is not expected here".to_owned(),
            Kind::Close => "')' is not expected here".to_owned(),
            Kind::Minus => "'-' is not expected here".to_owned(),
            Kind::Comparator(comparator) => format!("{:?} has no field before it", comparator.as_str()),
            Kind::Comma => "',' is not expected here".to_owned(),
            Kind::Word(word) => format!("{word} is not expected here"),
            Kind::Path(parts) => format!("{} is not expected here", parts.join(".")),
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
