//! Expressions to predicates: names are looked up, and each value must fit its field.

use super::{
    ChangeType, Claim, Fault, Operand, Schema, Scope, Unset, ValueType,
    lexer::{Comparator, Literal},
    operand::{Expected, is_claim, operand},
    parser::{Expression, Name, Restriction, Said},
    predicate::{Comparison, Pattern, Predicate, Subject, Test},
    schema::{OCCURRED_AT, RESOURCE_ID, TYPE},
};

const TYPES: [(&str, ChangeType); 4] = [
    ("CREATED", ChangeType::Created),
    ("UPDATED", ChangeType::Updated),
    ("DELETED", ChangeType::Deleted),
    ("SNAPSHOT", ChangeType::Snapshot),
];

pub(super) struct Check<'a> {
    pub(super) schema: &'a Schema,
    pub(super) scope: Scope,
    /// Claims that are used, by slot.
    pub(super) claims: Vec<Claim>,
}

impl Check<'_> {
    pub(super) fn check(&mut self, expression: &Expression) -> Result<Predicate, Fault> {
        Ok(match expression {
            Expression::All(parts) => Predicate::All(self.all(parts)?),
            Expression::Any(parts) => Predicate::Any(self.all(parts)?),
            Expression::Not(inner) => Predicate::Not(Box::new(self.check(inner)?)),
            Expression::Restriction(restriction) => {
                let subject = self.subject(&restriction.field)?;
                let test = self.test(restriction, &subject)?;
                let predicate = Predicate::Test(subject, test);
                match restriction.comparator {
                    Comparator::NotEqual => Predicate::Not(Box::new(predicate)),
                    _ => predicate,
                }
            }
        })
    }

    fn all(&mut self, parts: &[Expression]) -> Result<Vec<Predicate>, Fault> {
        parts.iter().map(|part| self.check(part)).collect()
    }

    fn subject(&self, name: &Name) -> Result<Subject, Fault> {
        if let Some(field) = name.alias().and_then(|alias| self.schema.field(alias)) {
            return Ok(self.whole(field));
        }
        let (first, path) = name.parts.split_first().ok_or_else(|| self.unknown(name))?;
        if let Some(field) = self.schema.field(first) {
            let is_json = self.schema.fields.get(field).is_some_and(|field| field.value.is_json());
            return match path {
                [] => Ok(self.whole(field)),
                path if is_json => Ok(Subject::Path(field, path.to_vec())),
                _ => Err(Fault::at(name.at, format!("{first} is no JSON, so there is nothing within it"))),
            };
        }
        let of_event = match name.alias() {
            Some(TYPE) => Subject::Type,
            Some(RESOURCE_ID) => Subject::ResourceId,
            Some(OCCURRED_AT) => Subject::OccurredAt,
            _ => return Err(self.unknown(name)),
        };
        match self.scope {
            Scope::Events => Ok(of_event),
            Scope::Rows => {
                Err(Fault::at(name.at, format!("{} is a field of events, and a list has none", name.text())))
            }
            Scope::Policy => Err(Fault::at(
                name.at,
                format!("{} is a field of events, and this is about rows", name.text()),
            )),
        }
    }

    fn whole(&self, field: usize) -> Subject {
        match self.schema.fields.get(field) {
            Some(of) if of.value.is_json() => Subject::Path(field, Vec::new()),
            _ => Subject::Field(field),
        }
    }

    fn unknown(&self, name: &Name) -> Fault {
        unknown(name.at, &name.text(), self.schema, self.scope)
    }

    fn test(&mut self, restriction: &Restriction, subject: &Subject) -> Result<Test, Fault> {
        let Said { at, literal } = &restriction.value;
        if restriction.comparator == Comparator::Has && is_star(literal) {
            return Ok(Test::Present);
        }
        let expected = match subject {
            Subject::Type => return type_test(restriction),
            Subject::ResourceId => Expected { value: &ValueType::Text, unset: Unset::Null },
            Subject::OccurredAt => Expected { value: &ValueType::Time, unset: Unset::AsInMessages },
            Subject::Field(field) | Subject::Path(field, _) => self.expected(*field),
        };
        let comparison = comparison(restriction.comparator);
        compares(restriction, comparison, expected.value)?;
        if self.scope == Scope::Policy
            && let Some(name) = is_claim(literal)
        {
            let slot = self.slot(*at, subject, name)?;
            return Ok(match restriction.comparator {
                Comparator::In => Test::InClaim(slot),
                _ => Test::Claim(comparison, slot),
            });
        }
        if restriction.comparator == Comparator::In {
            return list(restriction, expected);
        }
        match literal.stars.is_empty() {
            true => Ok(Test::Compare(comparison, operand(&restriction.value, expected)?)),
            false => wildcard(&restriction.value, comparison, expected).map(Test::Matches),
        }
    }

    fn expected(&self, field: usize) -> Expected<'_> {
        const NONE: Expected<'static> = Expected { value: &ValueType::Other, unset: Unset::Null };
        self.schema
            .fields
            .get(field)
            .map_or(NONE, |field| Expected { value: &field.value, unset: field.unset })
    }

    /// The slot of a claim, which becomes a value of the field's type when it is bound.
    fn slot(&mut self, at: usize, subject: &Subject, name: &str) -> Result<usize, Fault> {
        let claim = Claim { name: name.split('.').map(str::to_owned).collect(), field: subject.field() };
        let takes = |value: &ValueType| {
            matches!(value, ValueType::Text | ValueType::Padded | ValueType::Integer | ValueType::Uuid)
        };
        let fits = subject.field().is_some_and(|field| takes(self.expected(field).value));
        if !fits || matches!(subject, Subject::Path(..)) {
            return Err(Fault::at(at, "a claim is compared with a text, an integer or a uuid"));
        }
        if let Some(slot) = self.claims.iter().position(|known| *known == claim) {
            return Ok(slot);
        }
        self.claims.push(claim);
        Ok(self.claims.len() - 1)
    }
}

/// There is no such field.
pub(super) fn unknown(at: usize, name: &str, schema: &Schema, scope: Scope) -> Fault {
    Fault::at(at, format!("there is no field {name}; there are {}", schema.names(scope)))
}

fn is_star(literal: &Literal) -> bool {
    literal.text == "*" && literal.stars == [0]
}

/// `:` means `=`: rows have no collections.
fn comparison(comparator: Comparator) -> Comparison {
    match comparator {
        Comparator::Equal | Comparator::NotEqual | Comparator::Has | Comparator::In => Comparison::Equal,
        Comparator::Less => Comparison::Less,
        Comparator::AtMost => Comparison::AtMost,
        Comparator::Greater => Comparison::Greater,
        Comparator::AtLeast => Comparison::AtLeast,
    }
}

/// Whether values of this type are compared in this way.
fn compares(restriction: &Restriction, comparison: Comparison, value: &ValueType) -> Result<(), Fault> {
    let what = match value {
        _ if comparison == Comparison::Equal => return Ok(()),
        ValueType::Bool => "a truth value",
        ValueType::Enum(_) => "an enum",
        ValueType::Other => "a value of this type",
        _ => return Ok(()),
    };
    Err(not_by(restriction, what))
}

fn not_by(restriction: &Restriction, what: &str) -> Fault {
    let sign = restriction.comparator.as_str();
    Fault::at(restriction.comparator_at, format!("{what} is not compared by {sign}, but by = and !="))
}

fn type_test(restriction: &Restriction) -> Result<Test, Fault> {
    if comparison(restriction.comparator) != Comparison::Equal || restriction.comparator == Comparator::In {
        return Err(not_by(restriction, "a type"));
    }
    let Said { at, literal } = &restriction.value;
    let name = literal.text.as_str();
    let short = name.strip_prefix("EVENT_TYPE_").unwrap_or(name);
    match TYPES.iter().find(|(known, _)| *known == short) {
        Some((_, change)) => Ok(Test::Type(*change)),
        None => {
            Err(Fault::at(*at, format!("{name:?} is no type; there are CREATED, UPDATED, DELETED, SNAPSHOT")))
        }
    }
}

fn list(restriction: &Restriction, expected: Expected<'_>) -> Result<Test, Fault> {
    let said = || std::iter::once(&restriction.value).chain(&restriction.others);
    if let Some(wild) = said().find(|said| !said.literal.stars.is_empty()) {
        return Err(Fault::at(
            wild.at,
            r#"a list has no wildcards; as a character the star is written "\*""#,
        ));
    }
    let mut operands: Vec<Operand> = said().map(|said| operand(said, expected)).collect::<Result<_, _>>()?;
    operands.sort();
    operands.dedup();
    Ok(Test::In(operands))
}

fn wildcard(said: &Said, comparison: Comparison, expected: Expected<'_>) -> Result<Pattern, Fault> {
    use ValueType::{Json, Jsonb, Padded, Text};
    if !matches!(expected.value, Text | Padded | Json | Jsonb) {
        return Err(Fault::at(
            said.at,
            r#"wildcards go with texts only; as a character the star is written "\*""#,
        ));
    }
    if comparison != Comparison::Equal {
        return Err(Fault::at(
            said.at,
            r#"wildcards go with = and != only; as a character the star is written "\*""#,
        ));
    }
    pattern(&said.literal).ok_or_else(|| {
        Fault::at(
            said.at,
            r#"a wildcard stands at the beginning or the end; as a character it is written "\*""#,
        )
    })
}

/// The pattern of a text with wildcards at its beginning, its end or both; `None`: there is one in the
/// middle.
fn pattern(literal: &Literal) -> Option<Pattern> {
    let text = literal.text.as_str();
    let last = text.len().checked_sub(1)?;
    let (begins, ends) = (literal.stars.contains(&0), literal.stars.contains(&last));
    if literal.stars.iter().any(|&at| at != 0 && at != last) {
        return None;
    }
    Some(match (begins, ends) {
        (true, true) => Pattern::Contains(text.get(1..last).unwrap_or_default().to_owned()),
        (true, false) => Pattern::Ends(text.get(1..)?.to_owned()),
        (false, _) => Pattern::Begins(text.get(..last)?.to_owned()),
    })
}
