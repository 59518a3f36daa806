//! Characters of a search to tokens.

use super::super::{
    Fault,
    token::{self, Characters},
};

/// A token of a search.
pub(super) type Token = token::Token<Kind>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Open,
    Close,
    Comma,
    /// `=`, `!=`, `<>`, `<`, `<=`, `>`, `>=`.
    Sign(&'static str),
    /// A keyword or a field's name, as it was written.
    Word(String),
    /// A field's name in double quotes.
    Quoted(String),
    /// A text in single quotes.
    Text(String),
    /// A number as it was written.
    Number(String),
    End,
}

impl Kind {
    /// Whether it is this keyword, given in lower case.
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// For people.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Open => "'('".to_owned(),
            Self::Close => "')'".to_owned(),
            Self::Comma => "','".to_owned(),
            Self::Sign(sign) => format!("{sign:?}"),
            Self::Word(word) | Self::Number(word) => word.clone(),
            Self::Quoted(name) => format!("{name:?}"),
            Self::Text(text) => format!("{text:?}"),
            Self::End => "the end".to_owned(),
        }
    }
}

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Fault> {
    let mut lexer = Lexer { rest: Characters::new(text) };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.token()?;
        let is_end = token.kind == Kind::End;
        tokens.push(token);
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    rest: Characters<'a>,
}

impl Lexer<'_> {
    fn token(&mut self) -> Result<Token, Fault> {
        self.rest.skip_whitespace();
        let at = self.rest.at();
        let Some(c) = self.rest.peek() else { return Ok(Token { at, kind: Kind::End }) };
        let kind = match c {
            'a'..='z' | 'A'..='Z' | '_' => {
                Kind::Word(self.rest.run(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.'))
            }
            '0'..='9' | '-' | '+' => self.number(),
            '\'' => Kind::Text(self.quoted('\'')?),
            '"' => Kind::Quoted(self.quoted('"')?),
            '=' | '!' | '<' | '>' => self.sign()?,
            '(' | ')' | ',' => {
                self.rest.take();
                match c {
                    '(' => Kind::Open,
                    ')' => Kind::Close,
                    _ => Kind::Comma,
                }
            }
            _ => return Err(Fault::at(at, format!("{c:?} is not expected here"))),
        };
        Ok(Token { at, kind })
    }

    fn number(&mut self) -> Kind {
        let mut number: String = self.rest.take().into_iter().collect();
        loop {
            number += &self.rest.run(|c| c.is_ascii_alphanumeric() || c == '.');
            // An exponent may have its own sign.
            match self.rest.take_if(|c| matches!(c, '+' | '-') && number.ends_with(['e', 'E'])) {
                Some(sign) => number.push(sign),
                None => return Kind::Number(number),
            }
        }
    }

    fn sign(&mut self) -> Result<Kind, Fault> {
        let at = self.rest.at();
        let first = self.rest.take();
        let second = self.rest.take_if(|c| c == '=' || (c == '>' && first == Some('<')));
        Ok(Kind::Sign(match (first, second) {
            // Both are written for equality.
            (Some('='), _) => "=",
            (Some('!'), Some('=')) | (Some('<'), Some('>')) => "!=",
            (Some('<'), Some(_)) => "<=",
            (Some('<'), None) => "<",
            (Some('>'), Some(_)) => ">=",
            (Some('>'), None) => ">",
            _ => return Err(Fault::at(at, "'!' is not expected here; write not, or !=")),
        }))
    }

    /// A quoted text; a doubled quote stands for one.
    fn quoted(&mut self, quote: char) -> Result<String, Fault> {
        let opened = self.rest.at();
        self.rest.take_if(|c| c == quote);
        let mut text = String::new();
        loop {
            text += &self.rest.run(|c| c != quote);
            if self.rest.take_if(|c| c == quote).is_none() {
                return Err(Fault::at(opened, "this string has no end"));
            }
            if self.rest.take_if(|c| c == quote).is_none() {
                return Ok(text);
            }
            text.push(quote);
        }
    }
}
