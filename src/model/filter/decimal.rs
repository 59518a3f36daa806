//! Decimal numbers of any size, compared exactly and without conversion from their text.

use std::cmp::Ordering;

/// A number, as the digits of a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decimal<'a> {
    /// -1: minus infinity; 0: finite; 1: infinity; 2: not a number, which Postgres sorts above all others.
    class: i8,
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

impl<'a> Decimal<'a> {
    /// Reads a number as Postgres and JSON write it, with or without an exponent.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let of_class = |class| Self { class, negative: false, whole: b"", fraction: b"", exponent: 0 };
        match text {
            "NaN" => return Some(of_class(2)),
            "Infinity" => return Some(of_class(1)),
            "-Infinity" => return Some(of_class(-1)),
            _ => {}
        }
        let (negative, digits) = match text.as_bytes() {
            [b'-', digits @ ..] => (true, digits),
            [b'+', digits @ ..] => (false, digits),
            digits => (false, digits),
        };
        let (digits, exponent) = match digits.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => {
                (digits.get(..at)?, std::str::from_utf8(digits.get(at + 1..)?).ok()?.parse::<i32>().ok()?)
            }
            None => (digits, 0),
        };
        let (whole, fraction) = match digits.iter().position(|byte| *byte == b'.') {
            Some(at) => (digits.get(..at)?, digits.get(at + 1..)?),
            None => (digits, &b""[..]),
        };
        let is_number = |digits: &[u8]| digits.iter().all(u8::is_ascii_digit);
        let some = !whole.is_empty() || !fraction.is_empty();
        (some && is_number(whole) && is_number(fraction)).then_some(Self {
            class: 0,
            negative,
            whole,
            fraction,
            exponent: exponent.into(),
        })
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        self.whole.iter().chain(self.fraction).copied().skip_while(|digit| *digit == b'0')
    }

    /// The power of ten of the first digit that is not 0; `None`: the number is 0, or none.
    pub(super) fn magnitude(&self) -> Option<i64> {
        let zeros = self.whole.iter().chain(self.fraction).position(|digit| *digit != b'0')?;
        Some(self.whole.len() as i64 - zeros as i64 - 1 + self.exponent)
    }

    /// How many digits follow the point.
    pub(super) fn scale(&self) -> i64 {
        (self.fraction.len() as i64 - self.exponent).max(0)
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        if self.class != 0 || other.class != 0 {
            return self.class.cmp(&other.class);
        }
        match (self.magnitude(), other.magnitude()) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) if other.negative => Ordering::Greater,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) if self.negative => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(_), Some(_)) if self.negative != other.negative => other.negative.cmp(&self.negative),
            (Some(mine), Some(others)) => {
                let larger = mine.cmp(&others).then_with(|| self.compare_digits(other));
                if self.negative { larger.reverse() } else { larger }
            }
        }
    }

    fn compare_digits(&self, other: &Self) -> Ordering {
        let (mut mine, mut others) = (self.digits(), other.digits());
        loop {
            match (mine.next(), others.next()) {
                (None, None) => return Ordering::Equal,
                (a, b) => match a.unwrap_or(b'0').cmp(&b.unwrap_or(b'0')) {
                    Ordering::Equal => {}
                    unequal => return unequal,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_by_value() {
        let sorted = [
            "-Infinity",
            "-1e400",
            "-12.5",
            "-1.5",
            "-0.1",
            "-1e-400",
            "0",
            "1e-400",
            "0.09",
            "0.1",
            "0.10001",
            "1",
            "9.99",
            "12.5",
            "123",
            "9007199254740993",
            "99999999999999999999999999999999999999.1",
            "1e400",
            "Infinity",
            "NaN",
        ];
        for (n, a) in sorted.iter().enumerate() {
            for (m, b) in sorted.iter().enumerate() {
                let (a, b) = (Decimal::parse(a).unwrap(), Decimal::parse(b).unwrap());
                assert_eq!(a.compare(&b), n.cmp(&m), "{a:?} {b:?}");
            }
        }
        for (a, b) in [
            ("1.50", "1.5"),
            ("-0.0", "0"),
            ("1e2", "100"),
            ("+7", "007"),
            ("0.5e1", "5"),
            (".5", "0.5"),
            ("5.", "5"),
        ] {
            assert_eq!(
                Decimal::parse(a).unwrap().compare(&Decimal::parse(b).unwrap()),
                Ordering::Equal,
                "{a} {b}"
            );
        }
        for text in ["", "-", ".", "1e", "1.2.3", "abc", "0x1", "1 ", "1e99999999999"] {
            assert!(Decimal::parse(text).is_none(), "{text}");
        }
    }
}
