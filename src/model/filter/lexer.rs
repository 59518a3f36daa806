//! Characters to tokens. What a run of characters is depends on where it stands: after a comparator a colon
//! is part of a time.

use super::{Fault, token::Characters};

/// A token of a filter.
pub(super) type Token = super::token::Token<Kind>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Open,
    Close,
    Minus,
    Comparator(Comparator),
    Comma,
    /// `AND`, `OR`, `NOT`, `IN`, or a field's name.
    Word(String),
    /// A field's name of several parts, some of them in quotes.
    Path(Vec<String>),
    /// What a field is compared with, or a field's name in quotes.
    Literal(Literal),
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparator {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
    Has,
    In,
}

impl Comparator {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
            Self::Has => ":",
            Self::In => "IN",
        }
    }
}

/// A literal's text, and where in it (in bytes) there are stars that are wildcards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Literal {
    pub(super) text: String,
    pub(super) stars: Vec<usize>,
    /// Whether it was quoted.
    pub(super) quoted: bool,
}

impl Literal {
    fn push_star(&mut self) {
        self.stars.push(self.text.len());
        self.text.push('*');
    }
}

pub(super) struct Lexer<'a> {
    rest: Characters<'a>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: Characters::new(text) }
    }

    /// The next token where an expression is expected, or goes on.
    pub(super) fn token(&mut self) -> Result<Token, Fault> {
        self.rest.skip_whitespace();
        let at = self.rest.at();
        let Some(c) = self.rest.peek() else { return Ok(Token { at, kind: Kind::End }) };
        let kind = match c {
            '(' => self.single(Kind::Open),
            ')' => self.single(Kind::Close),
            ',' => self.single(Kind::Comma),
            '-' => self.single(Kind::Minus),
            '=' | '!' | '<' | '>' | ':' => Kind::Comparator(self.comparator()?),
            '"' | '\'' => {
                let literal = self.quoted()?;
                if self.rest.peek() == Some('.') && literal.stars.is_empty() {
                    self.path(literal.text)?
                } else {
                    Kind::Literal(literal)
                }
            }
            _ if is_name(c) => {
                let run = self.rest.run(is_name);
                match run.strip_suffix('.') {
                    Some(begin) if matches!(self.rest.peek(), Some('"' | '\'')) => {
                        let parts = begin.split('.').map(str::to_owned).collect();
                        self.path_from(parts)?
                    }
                    _ => Kind::Word(run),
                }
            }
            _ => return Err(Fault::at(at, format!("{c:?} is not expected here"))),
        };
        Ok(Token { at, kind })
    }

    /// The rest of a name whose first part was quoted.
    fn path(&mut self, first: String) -> Result<Kind, Fault> {
        let mut parts = vec![first];
        while self.rest.take_if(|c| c == '.').is_some() {
            if matches!(self.rest.peek(), Some('"' | '\'')) {
                return self.path_from(parts);
            }
            let run = self.rest.run(is_name);
            let quote_follows = matches!(self.rest.peek(), Some('"' | '\''));
            match run.strip_suffix('.') {
                Some(begin) if quote_follows => {
                    parts.extend(begin.split('.').map(str::to_owned));
                    return self.path_from(parts);
                }
                _ => parts.extend(run.split('.').map(str::to_owned)),
            }
        }
        Ok(Kind::Path(parts))
    }

    /// The rest of a name whose next part is quoted.
    fn path_from(&mut self, mut parts: Vec<String>) -> Result<Kind, Fault> {
        let at = self.rest.at();
        let literal = self.quoted()?;
        if !literal.stars.is_empty() {
            return Err(Fault::at(at, r#"a name has no wildcards; as a character the star is written "\*""#));
        }
        let Kind::Path(rest) = self.path(literal.text)? else { return Ok(Kind::End) };
        parts.extend(rest);
        Ok(Kind::Path(parts))
    }

    /// The literal that must follow a comparator: a quoted string, or a run of characters up to a space or
    /// parenthesis.
    pub(super) fn literal(&mut self) -> Result<(usize, Literal), Fault> {
        self.rest.skip_whitespace();
        let at = self.rest.at();
        match self.rest.peek() {
            Some('"' | '\'') => Ok((at, self.quoted()?)),
            Some(c) if is_bare(c) => {
                let mut literal = Literal::default();
                while let Some(c) = self.rest.take_if(is_bare) {
                    if c == '*' { literal.push_star() } else { literal.text.push(c) }
                }
                if matches!(literal.text.as_str(), "AND" | "OR" | "NOT") {
                    return Err(Fault::at(
                        at,
                        format!("a value is missing; if {0} is it, write \"{0}\"", literal.text),
                    ));
                }
                Ok((at, literal))
            }
            Some('(') => Err(Fault::at(at, "one value is expected here; write field IN (a, b)")),
            Some(c) => Err(Fault::at(at, format!("a value is expected here, and not {c:?}"))),
            None => Err(Fault::at(at, "a value is missing")),
        }
    }

    /// Whether a claim comes, such as `$groups`.
    pub(super) fn is_claim(&mut self) -> bool {
        self.rest.skip_whitespace();
        self.rest.peek() == Some('$')
    }

    fn single(&mut self, kind: Kind) -> Kind {
        self.rest.take();
        kind
    }

    fn comparator(&mut self) -> Result<Comparator, Fault> {
        let at = self.rest.at();
        let first = self.rest.take();
        let equals = first != Some('=') && first != Some(':') && self.rest.take_if(|c| c == '=').is_some();
        match (first, equals) {
            (Some('='), _) => Ok(Comparator::Equal),
            (Some(':'), _) => Ok(Comparator::Has),
            (Some('<'), false) => Ok(Comparator::Less),
            (Some('<'), true) => Ok(Comparator::AtMost),
            (Some('>'), false) => Ok(Comparator::Greater),
            (Some('>'), true) => Ok(Comparator::AtLeast),
            (_, true) => Ok(Comparator::NotEqual),
            (_, false) => Err(Fault::at(at, "'!' is not expected here; write NOT, or !=")),
        }
    }

    fn quoted(&mut self) -> Result<Literal, Fault> {
        let opened = self.rest.at();
        let quote = self.rest.take();
        let mut literal = Literal { quoted: true, ..Literal::default() };
        loop {
            let at = self.rest.at();
            match self.rest.take() {
                None => return Err(Fault::at(opened, "this string has no end")),
                c if c == quote => return Ok(literal),
                Some('\\') => literal.text.push(match self.rest.take() {
                    Some(c @ ('\\' | '"' | '\'' | '*')) => c,
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('t') => '\t',
                    _ => return Err(Fault::at(at, r#"after a backslash there may be \ " ' * n r t"#)),
                }),
                Some('*') => literal.push_star(),
                Some(c) => literal.text.push(c),
            }
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

/// Characters of a value without quotes. No backslash: what needs an escape is to be quoted.
fn is_bare(c: char) -> bool {
    !c.is_whitespace() && !matches!(c, '(' | ')' | ',' | '"' | '\'' | '<' | '>' | '=' | '!' | '\\')
}
