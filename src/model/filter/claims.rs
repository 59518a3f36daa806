//! Claims: values of a policy that are known only when somebody calls.

use super::{Filter, Operand, ValueType};

/// Values in one list, at most.
const LISTED: usize = 1000;

/// A claim that a filter names, and the field that it is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Its name, and those within it: `$a.b` is `b` within `a`.
    pub name: Vec<String>,
    /// The field of the schema that it is compared with.
    pub field: Option<usize>,
}

/// What a principal claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimValue {
    /// A string.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A list, for IN only.
    List(Vec<ClaimValue>),
}

/// A filter's claims with their values, by slot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Bound(pub(super) Vec<Vec<Operand>>);

impl Bound {
    /// The values of a slot, for SQL.
    pub fn values(&self, slot: usize) -> &[Operand] {
        self.0.get(slot).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Filter {
    /// Gives claims their values; `None`: one is missing, empty or does not fit its field, so the rule does
    /// not apply.
    pub fn bind(&self, claims: impl Fn(&[String]) -> Option<ClaimValue>) -> Option<Bound> {
        let bound = self.0.claims.iter().enumerate().map(|(slot, claim)| {
            let field = self.schema().fields.get(claim.field?)?;
            let value = claims(&claim.name)?;
            let mut operands = match (value, self.is_listed(slot)) {
                (ClaimValue::List(list), true) if (1..=LISTED).contains(&list.len()) => {
                    list.iter().map(|value| operand(value, &field.value)).collect::<Option<Vec<_>>>()?
                }
                (ClaimValue::List(_), _) | (_, true) => return None,
                (value, false) => vec![operand(&value, &field.value)?],
            };
            operands.sort();
            operands.dedup();
            Some(operands)
        });
        bound.collect::<Option<Vec<_>>>().map(Bound)
    }

    fn is_listed(&self, slot: usize) -> bool {
        let mut listed = false;
        self.predicate()
            .visit(&mut |_, test| listed |= matches!(test, super::Test::InClaim(of) if *of == slot));
        listed
    }
}

fn operand(value: &ClaimValue, of: &ValueType) -> Option<Operand> {
    match (value, of) {
        (ClaimValue::Text(text), _) if text.is_empty() || text.contains('\0') => None,
        (ClaimValue::Text(text), ValueType::Text) => Some(Operand::Text(text.clone())),
        (ClaimValue::Text(text), ValueType::Padded) => {
            Some(Operand::Text(text.trim_end_matches(' ').to_owned()))
        }
        (ClaimValue::Integer(number), ValueType::Integer) => Some(Operand::Integer(*number)),
        (ClaimValue::Text(text), ValueType::Integer) => {
            let number = text.parse::<i64>().ok()?;
            (number.to_string() == *text).then_some(Operand::Integer(number))
        }
        (ClaimValue::Text(text), ValueType::Uuid) => {
            uuid::Uuid::try_parse(text).ok().map(|uuid| Operand::Uuid(uuid.as_u128()))
        }
        _ => None,
    }
}
