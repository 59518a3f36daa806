//! Dates and times as Postgres and RFC 3339 write them, as one number: over Postgres' whole range, which
//! exceeds 64 bits of microseconds since 1970.

/// Later than every time.
pub(super) const INFINITY: i128 = i128::MAX;
/// Earlier than every time.
pub(super) const MINUS_INFINITY: i128 = i128::MIN;

const DAY: i128 = 86_400_000_000;

/// How a time is written, and what its number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A day; days since 1970.
    Date,
    /// Without a zone; microseconds since 1970.
    Local,
    /// With a zone; microseconds since 1970. A day is its midnight in UTC.
    Zoned,
}

impl Form {
    /// The first and the last that Postgres has.
    pub(super) fn range(self) -> std::ops::RangeInclusive<i128> {
        match self {
            Self::Date => -2_440_588..=2_145_042_905,
            Self::Local | Self::Zoned => -210_866_803_200_000_000..=9_224_318_015_999_999_999,
        }
    }
}

/// Why a text is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It is not written as a time, or there is no such day.
    Form,
    /// It is finer than microseconds.
    TooFine,
}

/// The text that is left.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take(&mut self, wanted: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        wanted.contains(first).then(|| {
            self.0 = rest;
            *first
        })
    }

    fn require(&mut self, wanted: &[u8]) -> Result<u8, Wrong> {
        self.take(wanted).ok_or(Wrong::Form)
    }

    /// A number of at least and at most this many digits.
    fn number(&mut self, least: usize, most: usize) -> Result<i64, Wrong> {
        let digits = self.0.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) =
            self.0.split_at_checked(digits).filter(|_| digits >= least).ok_or(Wrong::Form)?;
        self.0 = rest;
        Ok(number.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
    }

    /// Two digits of at most this value.
    fn two(&mut self, most: i64) -> Result<i64, Wrong> {
        self.number(2, 2).and_then(|number| if number <= most { Ok(number) } else { Err(Wrong::Form) })
    }
}

/// Reads a time.
pub(super) fn parse(text: &str, form: Form) -> Result<i128, Wrong> {
    match text {
        "infinity" => return Ok(INFINITY),
        "-infinity" => return Ok(MINUS_INFINITY),
        _ => {}
    }
    let (text, before_christ) = match text.strip_suffix(" BC") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let mut rest = Rest(text.as_bytes());
    let days = day(&mut rest, before_christ)?;
    if form == Form::Date || rest.0.is_empty() {
        let number = if form == Form::Date { days.into() } else { i128::from(days) * DAY };
        return if rest.0.is_empty() { Ok(number) } else { Err(Wrong::Form) };
    }
    rest.require(b"Tt ")?;
    let clock = clock(&mut rest)?;
    let offset = if form == Form::Zoned { offset(&mut rest)? } else { 0 };
    if !rest.0.is_empty() {
        return Err(Wrong::Form);
    }
    Ok(i128::from(days) * DAY + i128::from(clock) - i128::from(offset) * 1_000_000)
}

fn day(rest: &mut Rest<'_>, before_christ: bool) -> Result<i64, Wrong> {
    let year = rest.number(4, 7)?;
    let year = if before_christ { 1 - year } else { year };
    rest.require(b"-")?;
    let month = rest.two(12)?;
    rest.require(b"-")?;
    let day = rest.two(31)?;
    let days = days_from_civil(year, month, day);
    if month == 0 || day == 0 || civil_from_days(days) != (year, month, day) {
        return Err(Wrong::Form);
    }
    Ok(days)
}

/// Microseconds of a day.
fn clock(rest: &mut Rest<'_>) -> Result<i64, Wrong> {
    let hours = rest.two(23)?;
    rest.require(b":")?;
    let minutes = rest.two(59)?;
    rest.require(b":")?;
    let seconds = rest.two(59)?;
    let mut micros = 0;
    if rest.take(b".").is_some() {
        let digits = rest.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (fraction, after) = rest.0.split_at_checked(digits).filter(|_| digits > 0).ok_or(Wrong::Form)?;
        rest.0 = after;
        if fraction.iter().skip(6).any(|digit| *digit != b'0') {
            return Err(Wrong::TooFine);
        }
        let padded = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(6);
        micros = padded.fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    }
    Ok(((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros)
}

/// Seconds east of UTC.
fn offset(rest: &mut Rest<'_>) -> Result<i64, Wrong> {
    let sign = match rest.require(b"Zz+-")? {
        b'+' => 1,
        b'-' => -1,
        _ => return Ok(0),
    };
    let mut seconds = rest.two(23)? * 3600;
    for unit in [60, 1] {
        if rest.take(b":").is_some() {
            seconds += rest.two(59)? * unit;
        } else {
            break;
        }
    }
    Ok(sign * seconds)
}

/// Days since 1970 in the proleptic Gregorian calendar: Howard Hinnant's algorithm.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// A time in ISO 8601, which Postgres reads whatever its settings are.
pub(super) fn write(number: i128, form: Form) -> String {
    match number {
        INFINITY => return "infinity".to_owned(),
        MINUS_INFINITY => return "-infinity".to_owned(),
        _ => {}
    }
    let (days, micros) = match form {
        Form::Date => (number, 0),
        Form::Local | Form::Zoned => (number.div_euclid(DAY), number.rem_euclid(DAY)),
    };
    // Checked times are within Postgres' range, whose days fit by far.
    let (year, month, day) = civil_from_days(i64::try_from(days).unwrap_or_default());
    let (year, era) = if year < 1 { (1 - year, " BC") } else { (year, "") };
    let date = format!("{year:04}-{month:02}-{day:02}");
    if form == Form::Date {
        return date + era;
    }
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let zone = if form == Form::Zoned { "+00" } else { "" };
    format!(
        "{date} {:02}:{:02}:{:02}.{micros:06}{zone}{era}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_postgres_writes_is_read_and_written_again() {
        for (text, expected) in [
            ("1970-01-01T00:00:00+00:00", 0),
            ("1970-01-01T02:00:00.5+02:00", 500_000),
            ("1969-12-31T23:25:52+23:59:08", -88_396_000_000),
            ("2026-11-20T05:45:41.574626+00:00", 1_795_153_541_574_626),
            ("0001-01-01T00:00:00Z", -62_135_596_800_000_000),
            ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
            ("0044-03-15T00:00:00+00:00 BC", -63_517_824_000_000_000),
            ("4714-11-24T00:00:00+00:00 BC", *Form::Zoned.range().start()),
            ("294276-12-31T23:59:59.999999+00:00", *Form::Zoned.range().end()),
        ] {
            assert_eq!(parse(text, Form::Zoned), Ok(expected), "{text}");
            assert_eq!(parse(&write(expected, Form::Zoned), Form::Zoned), Ok(expected), "{text}");
        }
        for (text, expected) in
            [("1970-01-02", 1), ("4714-11-24 BC", -2_440_588), ("5874897-12-31", 2_145_042_905)]
        {
            assert_eq!(parse(text, Form::Date), Ok(expected), "{text}");
            assert_eq!(write(expected, Form::Date), text);
        }
        assert_eq!(parse("1970-01-01T00:00:01", Form::Local), Ok(1_000_000));
        for text in [
            "1970-02-29",
            "1970-13-01",
            "70-01-01",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00Z",
            "x",
            "1970-01-01T00:00:00",
            "",
        ] {
            assert_eq!(parse(text, Form::Zoned), Err(Wrong::Form), "{text}");
        }
        assert_eq!(parse("1970-01-01T00:00:00.0000001Z", Form::Zoned), Err(Wrong::TooFine));
    }
}
