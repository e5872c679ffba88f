//! `numeric`, which Decimal128 holds as long as it has at most 34 digits.
//!
//! The exponent of a Decimal128 is PostgreSQL's display scale, so that 5.00 stays 5.00. Zero has a sign and numbers
//! without a fraction may have a positive exponent in Decimal128; neither is seen in PostgreSQL.

use bson::{Bson, Decimal128, RawBsonRef};
use smallvec::SmallVec;

use super::float::{self, Digits};
use super::wire::take;
use super::{Fault, invalid, is_space, mismatch, wire};

/// What MongoDB keeps of a number.
const MAX_DIGITS: usize = 34;
const BEYOND: u128 = 10u128.pow(MAX_DIGITS as u32);
const LEAST_EXPONENT: i64 = -6176;
const GREATEST_EXPONENT: i64 = 6111;
/// PostgreSQL's digits have four of ours.
const GROUP: usize = 4;
/// See `NUMERIC_DSCALE_MASK` of PostgreSQL's `numeric.c`.
const MAX_SCALE: u16 = 0x3fff;

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xc000;
const INFINITY: u16 = 0xd000;
const NEGATIVE_INFINITY: u16 = 0xf000;
/// What `numeric_send` gives as the scale of infinities, by the way it reads its own header.
const INFINITY_SCALE: u16 = 0x20;

/// Digits; most numbers have few of them.
type Text = SmallVec<[u8; 64]>;
/// PostgreSQL's digits.
type Groups = SmallVec<[u16; 12]>;

/// A number as some BSON type has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Integer(i64),
    Double(f64),
    Decimal(Numeric),
}

impl Number {
    /// A stored number, if it is one.
    pub(super) fn of(value: RawBsonRef<'_>) -> Option<Number> {
        Some(match value {
            RawBsonRef::Int32(number) => Number::Integer(number.into()),
            RawBsonRef::Int64(number) => Number::Integer(number),
            RawBsonRef::Double(number) => Number::Double(number),
            RawBsonRef::Decimal128(number) => Number::Decimal(Numeric::from_decimal(number)),
            _ => return None,
        })
    }

    /// The same as a numeric. A double is the shortest decimal that means it.
    pub(super) fn to_numeric(self) -> Numeric {
        match self {
            Number::Integer(number) => Numeric::of_integer(number),
            Number::Double(number) => Numeric::of_double(number),
            Number::Decimal(number) => number,
        }
    }

    /// The nearest double.
    pub(super) fn to_double(self) -> Result<f64, Fault> {
        match self {
            Number::Integer(number) => Ok(number as f64),
            Number::Double(number) => Ok(number),
            Number::Decimal(number) => float::parse_double(&number.to_string()),
        }
    }
}

/// A value of type `numeric` that MongoDB can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numeric {
    NaN,
    Infinity,
    NegativeInfinity,
    Finite(Decimal),
}

/// `coefficient` × 10 ^ `exponent`; a negative exponent is the display scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    /// Never of zero.
    negative: bool,
    /// Of at most 34 digits.
    coefficient: u128,
    exponent: i32,
}

/// A stored number as a numeric.
pub(super) fn read(value: RawBsonRef<'_>) -> Result<Numeric, Fault> {
    Number::of(value)
        .map(Number::to_numeric)
        .ok_or_else(|| mismatch(value, "Decimal128"))
}

/// See `numeric_in` and `set_var_from_str` of PostgreSQL's `numeric.c`.
pub(super) fn parse(text: &str) -> Result<Numeric, Fault> {
    let word = text.trim_matches(is_space);
    let (negative, unsigned) = match word.as_bytes().first() {
        Some(b'-') => (true, &word[1..]),
        Some(b'+') => (false, &word[1..]),
        _ => (false, word),
    };
    let is = |name: &str| unsigned.eq_ignore_ascii_case(name);
    if word.eq_ignore_ascii_case("nan") {
        return Ok(Numeric::NaN);
    }
    if is("inf") || is("infinity") {
        return Ok(Numeric::infinity(negative));
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits: Text = SmallVec::from_slice(whole.as_bytes());
    digits.extend_from_slice(fraction.as_bytes());
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(invalid("numeric", text));
    }
    let exponent = exponent.map_or(Ok(0), |exponent| parse_exponent(exponent, text))?;
    let scale = fraction.len() as i64 - exponent;
    Decimal::new(negative, &digits, scale).map(Numeric::Finite)
}

/// As `strtol` reads it, which skips white space. What follows the digits is looked at last.
fn parse_exponent(exponent: &str, text: &str) -> Result<i64, Fault> {
    let word = exponent.trim_start_matches(is_space);
    let sign = usize::from(word.starts_with(['-', '+']));
    let digits = word
        .bytes()
        .skip(sign)
        .take_while(u8::is_ascii_digit)
        .count();
    if digits == 0 {
        return Err(invalid("numeric", text));
    }
    let (number, rest) = word.split_at(sign + digits);
    match number.parse() {
        Ok(exponent) if (-1_073_741_822..=1_073_741_822).contains(&exponent) => match rest {
            "" => Ok(exponent),
            _ => Err(invalid("numeric", text)),
        },
        _ => Err(overflow()),
    }
}

/// See `numeric_recv` of PostgreSQL's `numeric.c`.
pub(super) fn from_binary(mut bytes: &[u8]) -> Result<Numeric, Fault> {
    let malformed = |part| {
        Fault::new(
            "22P03",
            format!("invalid {part} in external \"numeric\" value"),
        )
    };
    let count = u16::from_be_bytes(take(&mut bytes)?);
    let weight = i16::from_be_bytes(take(&mut bytes)?);
    let sign = u16::from_be_bytes(take(&mut bytes)?);
    let scale = u16::from_be_bytes(take(&mut bytes)?);
    if !matches!(sign, 0 | NEGATIVE | NAN | INFINITY | NEGATIVE_INFINITY) {
        return Err(malformed("sign"));
    }
    if scale > MAX_SCALE {
        return Err(malformed("scale"));
    }
    let mut digits = Text::new();
    for _ in 0..count {
        let group = u16::from_be_bytes(take(&mut bytes)?);
        if group > 9999 {
            return Err(malformed("digit"));
        }
        digits.extend(wire::two((group / 100).into()));
        digits.extend(wire::two(group.into()));
    }
    if !bytes.is_empty() {
        return Err(wire::too_long());
    }
    match sign {
        NAN => return Ok(Numeric::NaN),
        INFINITY => return Ok(Numeric::Infinity),
        NEGATIVE_INFINITY => return Ok(Numeric::NegativeInfinity),
        _ => {}
    }
    // The digits that came say more or less than the scale that came; the scale decides.
    let sent = (i64::from(count) - i64::from(weight) - 1) * GROUP as i64;
    let kept = digits.len() as i64 + i64::from(scale) - sent;
    digits.resize(usize::try_from(kept).unwrap_or(0), b'0');
    Decimal::new(sign == NEGATIVE, &digits, scale.into()).map(Numeric::Finite)
}

fn overflow() -> Fault {
    Fault::new("22003", "value overflows numeric format").detail(format!(
        "MongoDB keeps {MAX_DIGITS} digits, and exponents from {LEAST_EXPONENT} to {GREATEST_EXPONENT}."
    ))
}

impl Numeric {
    fn of_integer(number: i64) -> Numeric {
        Numeric::Finite(Decimal {
            negative: number < 0,
            coefficient: number.unsigned_abs().into(),
            exponent: 0,
        })
    }

    fn of_double(number: f64) -> Numeric {
        if number.is_nan() {
            return Numeric::NaN;
        }
        if number.is_infinite() {
            return Numeric::infinity(number < 0.0);
        }
        let Digits { digits, exponent } = Digits::of_double(number);
        let scale = digits.len() as i64 - 1 - i64::from(exponent);
        // A double has 17 digits and an exponent of three digits at most.
        Decimal::new(number < 0.0, &digits, scale).map_or(Numeric::NaN, Numeric::Finite)
    }

    fn infinity(negative: bool) -> Numeric {
        match negative {
            true => Numeric::NegativeInfinity,
            false => Numeric::Infinity,
        }
    }

    /// It is no infinity, and a number.
    pub(super) fn is_finite(&self) -> bool {
        matches!(self, Numeric::Finite(_))
    }

    /// Its value, if it has no fraction and is not beyond all integers of SQL.
    pub(super) fn whole(&self) -> Option<i128> {
        match self {
            Numeric::Finite(decimal) => decimal
                .divided()
                .filter(|(_, exact)| *exact)
                .map(|(whole, _)| whole),
            _ => None,
        }
    }

    /// The nearest integer, away from zero if two are; none if it is beyond all integers of SQL.
    pub(super) fn rounded(&self) -> Option<i128> {
        match self {
            Numeric::Finite(decimal) => decimal.rounded(),
            _ => None,
        }
    }

    /// How many digits there are after the point.
    pub(super) fn scale(&self) -> i32 {
        match self {
            Numeric::Finite(decimal) => decimal.scale(),
            _ => 0,
        }
    }

    /// As it is stored.
    pub(super) fn to_bson(self) -> Bson {
        Bson::Decimal128(self.to_decimal())
    }

    fn to_decimal(self) -> Decimal128 {
        let bits = match self {
            Numeric::NaN => 0b11111 << 122,
            Numeric::Infinity => 0b01111 << 123,
            Numeric::NegativeInfinity => 0b11111 << 123,
            Numeric::Finite(decimal) => decimal.to_bits(),
        };
        Decimal128::from_bytes(u128::to_le_bytes(bits))
    }

    /// See IEEE 754-2008, 3.5.2, binary integer decimal. Coefficients of more than 34 digits mean zero.
    fn from_decimal(decimal: Decimal128) -> Numeric {
        let bits = u128::from_le_bytes(decimal.bytes());
        let negative = bits >> 127 == 1;
        let combination = bits >> 122 & 0b11111;
        match combination {
            0b11111 => return Numeric::NaN,
            0b11110 => return Numeric::infinity(negative),
            _ => {}
        }
        let (biased, coefficient) = match combination >> 3 {
            0b11 => (bits >> 111, 0),
            _ => (bits >> 113, bits & ((1 << 113) - 1)),
        };
        let coefficient = match coefficient < BEYOND {
            true => coefficient,
            false => 0,
        };
        Numeric::Finite(Decimal {
            negative: negative && coefficient != 0,
            coefficient,
            exponent: (biased & 0x3fff) as i32 + LEAST_EXPONENT as i32,
        })
    }

    /// Adds its text, which has never an exponent.
    pub(super) fn put_text(&self, out: &mut Vec<u8>) {
        match self {
            Numeric::NaN => out.extend_from_slice(b"NaN"),
            Numeric::Infinity => out.extend_from_slice(b"Infinity"),
            Numeric::NegativeInfinity => out.extend_from_slice(b"-Infinity"),
            Numeric::Finite(decimal) => decimal.put_text(out),
        }
    }

    /// Adds its binary form; see `numeric_send` of PostgreSQL's `numeric.c`.
    pub(super) fn put_binary(&self, out: &mut Vec<u8>) {
        let mut header = |sign, scale| put_words(&[0, 0, sign, scale], out);
        match self {
            Numeric::NaN => header(NAN, 0),
            Numeric::Infinity => header(INFINITY, INFINITY_SCALE),
            Numeric::NegativeInfinity => header(NEGATIVE_INFINITY, INFINITY_SCALE),
            Numeric::Finite(decimal) => decimal.put_binary(out),
        }
    }
}

impl std::fmt::Display for Numeric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = Vec::new();
        self.put_text(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl Decimal {
    /// Of decimal digits, the last `scale` of them after the point; a negative scale stands for zeros.
    fn new(negative: bool, digits: &[u8], scale: i64) -> Result<Decimal, Fault> {
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        let digits = &digits[zeros..];
        if digits.is_empty() {
            // There is no 000.
            return Decimal::checked(false, 0, -scale.max(0));
        }
        // Zeros before the point may become an exponent, as long as none after it are lost.
        let last = digits.iter().rposition(|digit| *digit != b'0').unwrap_or(0);
        let spare = match scale <= 0 {
            true => digits.len() - 1 - last,
            false => 0,
        };
        let cut = spare.min(digits.len().saturating_sub(MAX_DIGITS));
        let kept = &digits[..digits.len() - cut];
        if kept.len() > MAX_DIGITS {
            return Err(overflow());
        }
        let exponent = cut as i64 - scale;
        let padding = exponent.clamp(0, (MAX_DIGITS - kept.len()) as i64);
        let coefficient = kept
            .iter()
            .fold(0, |number, digit| number * 10 + u128::from(digit - b'0'));
        Decimal::checked(
            negative,
            coefficient * 10u128.pow(padding as u32),
            exponent - padding,
        )
    }

    fn checked(negative: bool, coefficient: u128, exponent: i64) -> Result<Decimal, Fault> {
        if !(LEAST_EXPONENT..=GREATEST_EXPONENT).contains(&exponent) {
            return Err(overflow());
        }
        Ok(Decimal {
            negative,
            coefficient,
            exponent: exponent as i32,
        })
    }

    fn scale(&self) -> i32 {
        (-self.exponent).max(0)
    }

    fn to_bits(self) -> u128 {
        let biased = (i64::from(self.exponent) - LEAST_EXPONENT) as u128;
        u128::from(self.negative) << 127 | biased << 113 | self.coefficient
    }

    fn signed(&self, magnitude: u128) -> Option<i128> {
        let magnitude = i128::try_from(magnitude).ok()?;
        Some(if self.negative { -magnitude } else { magnitude })
    }

    /// Without its fraction, and whether that was nothing.
    fn divided(&self) -> Option<(i128, bool)> {
        let power = 10u128.checked_pow(self.exponent.unsigned_abs());
        let (whole, exact) = match (power, self.exponent < 0) {
            _ if self.coefficient == 0 => (0, true),
            (Some(power), false) => (self.coefficient.checked_mul(power)?, true),
            (None, false) => return None,
            (Some(power), true) => (
                self.coefficient / power,
                self.coefficient.is_multiple_of(power),
            ),
            // A coefficient has fewer digits than so great a power of ten.
            (None, true) => (0, false),
        };
        self.signed(whole).map(|whole| (whole, exact))
    }

    fn rounded(&self) -> Option<i128> {
        let (whole, exact) = self.divided()?;
        if exact {
            return Some(whole);
        }
        let up = 10u128
            .checked_pow(self.exponent.unsigned_abs())
            .is_some_and(|power| self.coefficient % power >= power.div_ceil(2));
        Some(match (up, self.negative) {
            (false, _) => whole,
            (true, false) => whole + 1,
            (true, true) => whole - 1,
        })
    }

    fn put_text(&self, out: &mut Vec<u8>) {
        if self.negative {
            out.push(b'-');
        }
        let digits = self.digits();
        let scale = self.scale() as usize;
        match digits.len().checked_sub(scale) {
            _ if scale == 0 => out.extend_from_slice(&digits),
            None | Some(0) => {
                out.extend_from_slice(b"0.");
                out.resize(out.len() + scale - digits.len(), b'0');
                out.extend_from_slice(&digits);
            }
            Some(point) => {
                out.extend_from_slice(&digits[..point]);
                out.push(b'.');
                out.extend_from_slice(&digits[point..]);
            }
        }
    }

    /// Its digits with the zeros that a positive exponent stands for; zero has one digit.
    fn digits(&self) -> Text {
        let mut buffer = itoa::Buffer::new();
        let shown = match u64::try_from(self.coefficient) {
            Ok(small) => buffer.format(small),
            Err(_) => buffer.format(self.coefficient),
        };
        let mut digits = Text::from_slice(shown.as_bytes());
        if self.coefficient != 0 {
            digits.resize(digits.len() + self.exponent.max(0) as usize, b'0');
        }
        digits
    }

    fn put_binary(&self, out: &mut Vec<u8>) {
        let sign = if self.negative { NEGATIVE } else { 0 };
        let (groups, weight) = self.groups();
        put_words(
            &[
                groups.len() as u16,
                weight as u16,
                sign,
                self.scale() as u16,
            ],
            out,
        );
        put_words(&groups, out);
    }

    /// PostgreSQL's digits without zeros at either end, and the power of 10,000 of the first.
    fn groups(&self) -> (Groups, i16) {
        let mut digits = self.digits();
        let scale = self.scale() as usize;
        digits.resize(digits.len() + scale.next_multiple_of(GROUP) - scale, b'0');
        let groups: Groups = digits
            .rchunks(GROUP)
            .rev()
            .map(|group| {
                group
                    .iter()
                    .fold(0, |number, digit| number * 10 + u16::from(digit - b'0'))
            })
            .collect();
        let Some(first) = groups.iter().position(|group| *group != 0) else {
            return (Groups::new(), 0);
        };
        let last = groups
            .iter()
            .rposition(|group| *group != 0)
            .unwrap_or(first);
        let before_point = groups.len() as i64 - scale.div_ceil(GROUP) as i64;
        let weight = before_point - 1 - first as i64;
        (Groups::from_slice(&groups[first..=last]), weight as i16)
    }
}

fn put_words(words: &[u16], out: &mut Vec<u8>) {
    out.extend(words.iter().flat_map(|word| word.to_be_bytes()));
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn refused(text: &str) -> &'static str {
        parse(text).unwrap_err().sqlstate
    }

    #[test]
    fn scale_survives_and_exponents_do_not() {
        for (text, shown) in [
            ("5.00", "5.00"),
            (" +1e3\n", "1000"),
            ("1e 3", "1000"),
            ("-0.00", "0.00"),
            ("0e-7", "0.0000000"),
            ("0e9", "0"),
            (".5", "0.5"),
            ("5.", "5"),
            ("1.5e-3", "0.0015"),
            (
                "00012345678901234567890123456789012.34",
                "12345678901234567890123456789012.34",
            ),
            ("1e36", "1000000000000000000000000000000000000"),
            ("nan", "NaN"),
            ("+inf", "Infinity"),
            ("-Infinity", "-Infinity"),
        ] {
            let number = parse(text).unwrap();
            assert_eq!(number.to_string(), shown);
            assert_eq!(Numeric::from_decimal(number.to_decimal()), number, "{text}");
        }
    }

    #[test]
    fn what_decimal128_cannot_hold_is_refused() {
        for text in [
            "12345678901234567890123456789012345",
            "1000000000000000000000000000000000.00",
            "1e-6177",
            "1e6145",
            "1e2000000000",
        ] {
            assert_eq!(refused(text), "22003", "{text}");
        }
        for text in [
            "", ".", "1e", "e1", "1 2", "1.2.3", "+nan", "--1", "0x1", "1e5x",
        ] {
            assert_eq!(refused(text), "22P02", "{text}");
        }
    }

    #[test]
    fn decimals_are_the_same_bits_as_the_drivers() {
        for text in [
            "0",
            "-1.50",
            "9999999999999999999999999999999999",
            "1E+6111",
            "1E-6176",
            "NaN",
            "-Infinity",
        ] {
            let theirs: Decimal128 = text.parse().unwrap();
            let ours = Numeric::from_decimal(theirs);
            assert_eq!(ours.to_decimal().to_string(), text);
        }
        let negative_zero = Numeric::from_decimal("-0E+3".parse().unwrap());
        assert_eq!(negative_zero.to_string(), "0");
        // A coefficient beyond 34 digits, and the form that only such coefficients have, are zero.
        for bits in [
            (6176 << 113) | ((1u128 << 113) - 1),
            (0b11 << 125) | (6176 << 111),
        ] {
            let number = Numeric::from_decimal(Decimal128::from_bytes(bits.to_le_bytes()));
            assert_eq!(number.to_string(), "0");
        }
    }

    #[test]
    fn binary_forms_have_no_zeros_at_their_ends() {
        for (text, words) in [
            ("12345.678", &[3, 1, 0, 3, 1, 2345, 6780][..]),
            ("-0.00001", &[1, 0xfffe, NEGATIVE, 5, 1000]),
            ("100000000", &[1, 2, 0, 0, 1]),
            ("0.00", &[0, 0, 0, 2]),
            ("NaN", &[0, 0, NAN, 0]),
            ("Infinity", &[0, 0, INFINITY, INFINITY_SCALE]),
            ("-Infinity", &[0, 0, NEGATIVE_INFINITY, INFINITY_SCALE]),
        ] {
            let mut form = Vec::new();
            put_words(words, &mut form);
            let mut out = Vec::new();
            parse(text).unwrap().put_binary(&mut out);
            assert_eq!(out, form, "{text}");
            assert_eq!(from_binary(&form), parse(text));
        }
    }

    #[test]
    fn the_scale_that_is_sent_decides_over_the_digits() {
        let sent = |words: &[u16]| {
            let mut form = Vec::new();
            put_words(words, &mut form);
            from_binary(&form).map(|number| number.to_string())
        };
        assert_eq!(sent(&[2, 0, 0, 1, 7, 9900]).unwrap(), "7.9");
        assert_eq!(sent(&[1, 0, 0, 6, 7]).unwrap(), "7.000000");
        assert_eq!(sent(&[1, 0xfffd, 0, 2, 7]).unwrap(), "0.00");
        assert_eq!(sent(&[1, 0, 0, 0, 10_000]).unwrap_err().sqlstate, "22P03");
        assert_eq!(sent(&[1, 0, 1, 0, 1]).unwrap_err().sqlstate, "22P03");
        assert_eq!(sent(&[2, 0, 0, 0, 1]).unwrap_err().sqlstate, "08P01");
    }

    #[test]
    fn numbers_of_all_lengths_come_back_in_both_forms() {
        let seed = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        for _ in 0..20_000 {
            let count = random.random_range(1..=MAX_DIGITS);
            let coefficient = random.random_range(0..10u128.pow(count as u32));
            let scale = random.random_range(0..40);
            // One digit before the point at least, as PostgreSQL shows them.
            let digits = format!("{coefficient:0>width$}", width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            let sign = if coefficient > 0 && random.random() {
                "-"
            } else {
                ""
            };
            let point = if scale > 0 { "." } else { "" };
            let text = format!("{sign}{whole}{point}{fraction}");
            let number = parse(&text).unwrap();
            assert_eq!(number.to_string(), text);
            assert_eq!(Numeric::from_decimal(number.to_decimal()), number);
            let mut binary = Vec::new();
            number.put_binary(&mut binary);
            assert_eq!(from_binary(&binary), Ok(number), "{text}");
        }
    }

    #[test]
    fn any_number_is_a_numeric() {
        for (value, text) in [
            (RawBsonRef::Int32(-7), "-7"),
            (RawBsonRef::Int64(i64::MIN), "-9223372036854775808"),
            (RawBsonRef::Double(0.1), "0.1"),
            (RawBsonRef::Double(-0.0), "0"),
            (RawBsonRef::Double(-1.5e-7), "-0.00000015"),
            (RawBsonRef::Double(f64::NEG_INFINITY), "-Infinity"),
            (RawBsonRef::Decimal128("1E+3".parse().unwrap()), "1000"),
        ] {
            assert_eq!(read(value).unwrap().to_string(), text);
        }
        let fault = read(RawBsonRef::String("7")).unwrap_err();
        assert_eq!(fault.sqlstate, "42804");
    }

    #[test]
    fn integers_are_rounded_away_from_zero() {
        for (text, rounded, whole) in [
            ("2.5", 3, None),
            ("-2.5", -3, None),
            ("2.49", 2, None),
            ("-7.00", -7, Some(-7)),
            ("1e-6000", 0, None),
            (
                "1e18",
                1_000_000_000_000_000_000,
                Some(1_000_000_000_000_000_000),
            ),
        ] {
            let number = parse(text).unwrap();
            assert_eq!(
                (number.rounded(), number.whole()),
                (Some(rounded), whole),
                "{text}"
            );
        }
        assert_eq!(parse("1e600").unwrap().rounded(), None);
    }
}
