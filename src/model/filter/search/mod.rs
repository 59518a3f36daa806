//! Searches: which rows a list wants, in the SQL-like language that clients of the upstream REST API write,
//! such as `species like 'T%' and created_at > '2026-01-01'`. Parsed to a typed tree, which `store/search.rs`
//! writes in SQL with its values as parameters. NULL is as in SQL: a comparison with it is unknown.

mod lexer;

use super::{
    Comparison, Fault, MAX_DEPTH, MAX_TESTS, Operand, Schema, Scope, ValueType,
    check::unknown,
    lexer::Literal,
    operand::{Expected, typed},
};
use lexer::{Kind, Token, tokens};

/// Bytes in a search, at most.
const MAX_SEARCH_BYTES: usize = 65_536;
/// Values in one list, at most.
const MAX_LISTED: usize = 5000;

/// The condition of a search. Fields are places in the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Search {
    /// All of these.
    All(Vec<Search>),
    /// At least one of these.
    Any(Vec<Search>),
    /// Not this.
    Not(Box<Search>),
    /// The field compares in this way with this value.
    Compare(usize, Comparison, Operand),
    /// The field is one of these.
    In(usize, Vec<Operand>),
    /// The field's text looks like this: `%` stands for any characters, `_` for one.
    Like {
        /// The field.
        field: usize,
        /// As LIKE has it.
        pattern: String,
        /// Whether case is ignored.
        any_case: bool,
    },
    /// The field is NULL.
    IsNull(usize),
}

impl Search {
    /// Parses a search; an empty one is none.
    pub fn parse(text: &str, schema: &Schema) -> Result<Option<Self>, Fault> {
        if text.len() > MAX_SEARCH_BYTES {
            let problem = format!("it has {} bytes, and may have {MAX_SEARCH_BYTES}", text.len());
            return Err(Fault::at(1, problem));
        }
        if let Some(at) = text.chars().position(|c| c == '\0') {
            return Err(Fault::at(at + 1, "there is a NUL"));
        }
        let tokens = tokens(text)?;
        let mut parser = Parser { tokens: &tokens, schema, depth: 0, tests: 0 };
        if parser.next().kind == Kind::End {
            return Ok(None);
        }
        let search = parser.any()?;
        match parser.next().kind {
            Kind::End => Ok(Some(search)),
            _ => Err(parser.unexpected("and, or, or the end")),
        }
    }
}

/// Reads `fields`, names separated by commas, to places in the schema; an empty list is empty.
pub fn fields(text: &str, schema: &Schema) -> Result<Vec<usize>, Fault> {
    let (mut fields, mut begin) = (Vec::new(), 1);
    if text.trim().is_empty() {
        return Ok(fields);
    }
    for part in text.split(',') {
        let at = begin + part.chars().take_while(|c| c.is_whitespace()).count();
        begin += part.chars().count() + 1;
        let name = part.trim();
        let field = schema.field(name).ok_or_else(|| unknown(at, name, schema, Scope::Rows))?;
        if !fields.contains(&field) {
            fields.push(field);
        }
    }
    Ok(fields)
}

/// Reads by recursive descent; NOT binds tighter than AND, and AND tighter than OR, as in SQL.
struct Parser<'a> {
    /// The tokens to come; the last is the end, and stays.
    tokens: &'a [Token],
    schema: &'a Schema,
    depth: usize,
    tests: usize,
}

const END: Token = Token { at: 1, kind: Kind::End };

impl<'a> Parser<'a> {
    fn next(&self) -> &'a Token {
        self.tokens.first().unwrap_or(&END)
    }

    fn take(&mut self) -> &'a Token {
        let next = self.next();
        if let [_, rest @ ..] = self.tokens
            && !rest.is_empty()
        {
            self.tokens = rest;
        }
        next
    }

    fn eat(&mut self, keyword: &str) -> bool {
        let eaten = self.next().kind.is(keyword);
        if eaten {
            self.take();
        }
        eaten
    }

    fn require(&mut self, kind: &Kind, what: &str) -> Result<(), Fault> {
        if self.next().kind != *kind {
            return Err(self.unexpected(what));
        }
        self.take();
        Ok(())
    }

    fn unexpected(&self, wanted: &str) -> Fault {
        let Token { at, kind } = self.next();
        Fault::at(*at, format!("{} is not expected here, but {wanted}", kind.describe()))
    }

    fn any(&mut self) -> Result<Search, Fault> {
        let mut parts = vec![self.all()?];
        while self.eat("or") {
            parts.push(self.all()?);
        }
        Ok(joined(parts, Search::Any))
    }

    fn all(&mut self) -> Result<Search, Fault> {
        let mut parts = vec![self.term()?];
        while self.eat("and") {
            parts.push(self.term()?);
        }
        Ok(joined(parts, Search::All))
    }

    fn term(&mut self) -> Result<Search, Fault> {
        let at = self.next().at;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Fault::at(at, format!("parentheses and negations go deeper than {MAX_DEPTH}")));
        }
        let term = if self.eat("not") {
            Search::Not(Box::new(self.term()?))
        } else if self.next().kind == Kind::Open {
            self.take();
            let inner = self.any()?;
            self.require(&Kind::Close, "')'")?;
            inner
        } else {
            self.test()?
        };
        self.depth -= 1;
        Ok(term)
    }

    fn test(&mut self) -> Result<Search, Fault> {
        let field = self.field()?;
        self.tests += 1;
        if self.tests > MAX_TESTS {
            return Err(Fault::at(self.next().at, format!("there are more than {MAX_TESTS} comparisons")));
        }
        if let Kind::Sign(sign) = self.next().kind {
            return self.comparison(field, sign);
        }
        if self.eat("is") {
            let negated = self.eat("not");
            if !self.eat("null") {
                return Err(self.unexpected("null"));
            }
            return Ok(negate(negated, Search::IsNull(field)));
        }
        let negated = self.eat("not");
        if self.eat("in") {
            return Ok(negate(negated, Search::In(field, self.list(field)?)));
        }
        if self.eat("between") {
            let least = self.ordered(field)?;
            if !self.eat("and") {
                return Err(self.unexpected("and"));
            }
            let most = self.ordered(field)?;
            let between = vec![
                Search::Compare(field, Comparison::AtLeast, least),
                Search::Compare(field, Comparison::AtMost, most),
            ];
            return Ok(negate(negated, Search::All(between)));
        }
        let any_case = self.next().kind.is("ilike");
        if !self.eat("like") && !self.eat("ilike") {
            return Err(self.unexpected("a comparison: =, !=, <, <=, >, >=, like, ilike, in, between, is"));
        }
        self.like(field, any_case).map(|like| negate(negated, like))
    }

    fn field(&mut self) -> Result<usize, Fault> {
        let Token { at, kind } = self.next();
        let (Kind::Word(name) | Kind::Quoted(name)) = kind else {
            return Err(self.unexpected("a field"));
        };
        let is_keyword = ["and", "or", "in", "like", "ilike", "is", "between", "null"]
            .iter()
            .any(|keyword| kind.is(keyword));
        match self.schema.field(name) {
            Some(field) => {
                self.take();
                Ok(field)
            }
            None if is_keyword => Err(self.unexpected("a field")),
            None => Err(unknown(*at, name, self.schema, Scope::Rows)),
        }
    }

    fn comparison(&mut self, field: usize, sign: &str) -> Result<Search, Fault> {
        let at = self.take().at;
        if self.next().kind.is("null") {
            return Err(Fault::at(
                self.next().at,
                "nothing compares with null; write is null, or is not null",
            ));
        }
        let comparison = match sign {
            "<" => Comparison::Less,
            "<=" => Comparison::AtMost,
            ">" => Comparison::Greater,
            ">=" => Comparison::AtLeast,
            _ => Comparison::Equal,
        };
        if comparison != Comparison::Equal {
            self.is_ordered(field, at)?;
        }
        let compare = Search::Compare(field, comparison, self.value(field)?);
        Ok(negate(sign == "!=", compare))
    }

    fn is_ordered(&self, field: usize, at: usize) -> Result<(), Fault> {
        let value = self.schema.fields.get(field).map(|field| &field.value);
        match value {
            Some(ValueType::Bool | ValueType::Enum(_) | ValueType::Other) => {
                Err(Fault::at(at, "values of this field have no order"))
            }
            _ => Ok(()),
        }
    }

    fn ordered(&mut self, field: usize) -> Result<Operand, Fault> {
        self.is_ordered(field, self.next().at)?;
        self.value(field)
    }

    fn value(&mut self, field: usize) -> Result<Operand, Fault> {
        let Some(field) = self.schema.fields.get(field) else { return Err(self.unexpected("a field")) };
        let Token { at, kind } = self.next();
        let is_truth = kind.is("true") || kind.is("false");
        let (text, quoted) = match kind {
            Kind::Text(text) => (text.clone(), true),
            Kind::Number(text) => (text.clone(), false),
            Kind::Word(word) if is_truth => (word.to_ascii_lowercase(), false),
            _ => return Err(self.unexpected("a value: a text in single quotes, a number, true or false")),
        };
        if field.value.is_json() {
            return Err(Fault::at(*at, "a field that holds JSON is not searched"));
        }
        let expected = Expected { value: &field.value, unset: field.unset };
        let literal = |text| Literal { text, stars: Vec::new(), quoted };
        let read = typed(&literal(text.clone()), expected);
        let operand = match (&field.value, read) {
            // A time without a zone is in UTC, and a space may separate the parts of a time.
            (ValueType::Time, Err(problem)) => typed(&literal(text + "Z"), expected).map_err(|_| problem),
            (_, read) => read,
        };
        let operand = operand.map_err(|problem| Fault::at(*at, problem))?;
        self.take();
        Ok(operand)
    }

    fn list(&mut self, field: usize) -> Result<Vec<Operand>, Fault> {
        self.require(&Kind::Open, "'('")?;
        let mut operands = vec![self.value(field)?];
        while self.next().kind == Kind::Comma {
            self.take();
            if operands.len() == MAX_LISTED {
                return Err(Fault::at(self.next().at, format!("a list has more than {MAX_LISTED} values")));
            }
            operands.push(self.value(field)?);
        }
        self.require(&Kind::Close, "',' or ')'")?;
        Ok(operands)
    }

    fn like(&mut self, field: usize, any_case: bool) -> Result<Search, Fault> {
        let Token { at, kind } = self.next();
        let Kind::Text(pattern) = kind else { return Err(self.unexpected("a text in single quotes")) };
        let value = self.schema.fields.get(field).map(|field| &field.value);
        if !matches!(value, Some(ValueType::Text | ValueType::Padded)) {
            return Err(Fault::at(*at, "like goes with texts only"));
        }
        if pattern.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1 {
            return Err(Fault::at(*at, "a pattern does not end with a backslash"));
        }
        self.take();
        Ok(Search::Like { field, pattern: pattern.clone(), any_case })
    }
}

fn negate(negated: bool, search: Search) -> Search {
    if negated { Search::Not(Box::new(search)) } else { search }
}

fn joined(mut parts: Vec<Search>, join: fn(Vec<Search>) -> Search) -> Search {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            join(parts)
        }
    }
}

#[cfg(test)]
mod tests;
