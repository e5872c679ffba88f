//! Numbers of binary fractions, and the shortest decimal ones that mean them.

use bson::RawBsonRef;
use smallvec::SmallVec;

use super::numeric::Number;
use super::wire::put_padded;
use super::{Fault, Forms, invalid, is_space, mismatch};

/// With 17 digits there is a decimal nearer to each double than to any other.
const MAX_DIGITS: usize = 17;

/// `double precision` of a text; see `float8in_internal` of PostgreSQL's `float.c`.
pub(super) fn parse_double(text: &str) -> Result<f64, Fault> {
    let number = Written::find(text, "double precision")?;
    let value: f64 = number.parse()?;
    number.check(value.is_infinite() || value == 0.0, number.digits)?;
    Ok(value)
}

/// `real` of a text, rounded once; see `float4in` there.
pub(super) fn parse_real(text: &str) -> Result<f32, Fault> {
    let number = Written::find(text, "real")?;
    let value: f32 = number.parse()?;
    number.check(value.is_infinite() || value == 0.0, text)?;
    Ok(value)
}

/// A text and what of it is a number.
struct Written<'a> {
    text: &'a str,
    name: &'static str,
    /// As much as `strtod` reads.
    digits: &'a str,
    /// What follows; it makes a number none, but is looked at last.
    rest: &'a str,
}

impl<'a> Written<'a> {
    fn find(text: &'a str, name: &'static str) -> Result<Written<'a>, Fault> {
        let word = text.trim_matches(is_space);
        let sign = usize::from(word.starts_with(['-', '+']));
        if is_hexadecimal(&word[sign..]) {
            return Err(Fault::new(
                "0A000",
                format!("\"{text}\" is not understood for tables on MongoDB"),
            ));
        }
        let (digits, rest) = match decimal_length(&word.as_bytes()[sign..]) {
            0 => (word, ""),
            length => word.split_at(sign + length),
        };
        Ok(Written {
            text,
            name,
            digits,
            rest,
        })
    }

    fn parse<F: std::str::FromStr>(&self) -> Result<F, Fault> {
        self.digits
            .parse()
            .map_err(|_| invalid(self.name, self.text))
    }

    /// An infinity or a zero that the text does not say is one that it was rounded to.
    fn check(&self, lost: bool, shown: &str) -> Result<(), Fault> {
        let mantissa = self.digits.split(['e', 'E']).next().unwrap_or_default();
        if lost && mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9')) {
            let name = self.name;
            return Err(Fault::new(
                "22003",
                format!("\"{shown}\" is out of range for type {name}"),
            ));
        }
        match self.rest {
            "" => Ok(()),
            _ => Err(invalid(self.name, self.text)),
        }
    }
}

fn is_hexadecimal(unsigned: &str) -> bool {
    unsigned
        .strip_prefix("0x")
        .or_else(|| unsigned.strip_prefix("0X"))
        .map(|digits| digits.strip_prefix('.').unwrap_or(digits))
        .is_some_and(|digits| digits.starts_with(|c: char| c.is_ascii_hexdigit()))
}

/// How much of a text is a decimal number with or without an exponent.
fn decimal_length(bytes: &[u8]) -> usize {
    let digits = |from: usize| {
        let after = bytes.get(from..).unwrap_or_default();
        after
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    };
    let whole = digits(0);
    let mut end = whole;
    if bytes.get(end) == Some(&b'.') {
        let fraction = digits(end + 1);
        if whole + fraction == 0 {
            return 0;
        }
        end += 1 + fraction;
    }
    if end > 0 && matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'-' | b'+')));
        match digits(end + 1 + sign) {
            0 => {}
            exponent => end += 1 + sign + exponent,
        }
    }
    end
}

/// Any stored number.
pub(super) fn read_double(value: RawBsonRef<'_>) -> Result<f64, Fault> {
    match Number::of(value) {
        Some(number) => number.to_double(),
        None => Err(mismatch(value, "Double")),
    }
}

/// Any stored number that `real` can hold.
pub(super) fn read_real(value: RawBsonRef<'_>) -> Result<f32, Fault> {
    narrow(read_double(value)?)
}

/// See `dtof` of PostgreSQL's `float.c`.
pub(super) fn narrow(value: f64) -> Result<f32, Fault> {
    let narrowed = value as f32;
    if narrowed.is_infinite() && value.is_finite() {
        return Err(Fault::new("22003", "value out of range: overflow"));
    }
    if narrowed == 0.0 && value != 0.0 {
        return Err(Fault::new("22003", "value out of range: underflow"));
    }
    Ok(narrowed)
}

/// Adds the text of a `double precision`.
pub(super) fn put_double(value: f64, forms: &Forms, out: &mut Vec<u8>) -> Result<(), Fault> {
    check_forms(forms)?;
    put(value, || Digits::of_double(value), 15, out);
    Ok(())
}

/// Adds the text of a `real`.
pub(super) fn put_real(value: f32, forms: &Forms, out: &mut Vec<u8>) -> Result<(), Fault> {
    check_forms(forms)?;
    put(value.into(), || Digits::of_real(value), 6, out);
    Ok(())
}

fn check_forms(forms: &Forms) -> Result<(), Fault> {
    if forms.extra_float_digits < 1 {
        return Err(Fault::new(
            "0A000",
            "extra_float_digits below 1 is not supported for tables on MongoDB",
        ));
    }
    Ok(())
}

/// See `to_chars` of PostgreSQL's `d2s.c`: from `scientific` digits before the point on there is an exponent.
fn put(value: f64, digits: impl FnOnce() -> Digits, scientific: i32, out: &mut Vec<u8>) {
    if value.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    if value.is_infinite() {
        return out.extend_from_slice(b"Infinity");
    }
    let Digits { digits, exponent } = digits();
    if (-4..scientific).contains(&exponent) {
        put_plain(&digits, exponent, out);
    } else {
        put_scientific(&digits, exponent, out);
    }
}

fn put_plain(digits: &[u8], exponent: i32, out: &mut Vec<u8>) {
    match usize::try_from(exponent + 1) {
        Ok(before) if before >= digits.len() => {
            out.extend_from_slice(digits);
            out.resize(out.len() + before - digits.len(), b'0');
        }
        Ok(before) if before > 0 => {
            out.extend_from_slice(&digits[..before]);
            out.push(b'.');
            out.extend_from_slice(&digits[before..]);
        }
        _ => {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + exponent.unsigned_abs() as usize - 1, b'0');
            out.extend_from_slice(digits);
        }
    }
}

fn put_scientific(digits: &[u8], exponent: i32, out: &mut Vec<u8>) {
    let (first, rest) = digits.split_at(1);
    out.extend_from_slice(first);
    if !rest.is_empty() {
        out.push(b'.');
        out.extend_from_slice(rest);
    }
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    put_padded(exponent.unsigned_abs().into(), 2, out);
}

/// The shortest decimal that is read as a finite number and no other; its sign is left out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Digits {
    /// Without zeros at its end; one at least.
    pub(super) digits: SmallVec<[u8; 24]>,
    /// Of its first digit.
    pub(super) exponent: i32,
}

impl Digits {
    /// Of a `double precision`.
    pub(super) fn of_double(value: f64) -> Digits {
        let bits = value.to_bits();
        let fraction = bits & ((1 << 52) - 1);
        let parts = Parts::new(fraction, (bits >> 52) as i32 & 0x7ff, 52, 1075);
        let value = value.abs();
        let shortest = Digits::parse(zmij::Buffer::new().format_finite(value));
        let rounded = |digits: usize| format!("{value:.digits$e}");
        Digits::inside(&parts, shortest, |digits| {
            Some(rounded(digits)).filter(|text| text.parse() == Ok(value))
        })
    }

    /// Of a `real`.
    pub(super) fn of_real(value: f32) -> Digits {
        let bits = value.to_bits();
        let fraction = bits & ((1 << 23) - 1);
        let parts = Parts::new(fraction.into(), (bits >> 23) as i32 & 0xff, 23, 150);
        let value = value.abs();
        let shortest = Digits::parse(zmij::Buffer::new().format_finite(value));
        let rounded = |digits: usize| format!("{value:.digits$e}");
        Digits::inside(&parts, shortest, |digits| {
            Some(rounded(digits)).filter(|text| text.parse() == Ok(value))
        })
    }

    /// PostgreSQL's choice among the decimals that mean a float: the shortest, of these the nearest, and of two that
    /// are equally near the even one. That is Żmij's as well, but for one that is half way between two floats, which a
    /// reader who rounds to even takes for the right one; PostgreSQL does not count on that, and writes more digits:
    /// 9.999999999999999e+22, not 1e+23.
    ///
    /// `rounded` gives a decimal with so many digits after the first, if it means the float.
    fn inside(
        parts: &Parts,
        shortest: Digits,
        rounded: impl Fn(usize) -> Option<String>,
    ) -> Digits {
        if !parts.is_bound(&shortest) {
            return shortest;
        }
        (shortest.digits.len() - 1..MAX_DIGITS)
            .filter_map(|digits| rounded(digits).map(|text| Digits::parse(&text)))
            .find(|longer| !parts.is_bound(longer))
            .unwrap_or(shortest)
    }

    /// Of a decimal with or without a point and an exponent.
    fn parse(text: &str) -> Digits {
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits = SmallVec::from_slice(whole.as_bytes());
        digits.extend_from_slice(fraction.as_bytes());
        let last = digits.iter().rposition(|digit| *digit != b'0').unwrap_or(0);
        digits.truncate(last + 1);
        let zeros = digits[..last].iter().take_while(|digit| **digit == b'0');
        let zeros = zeros.count();
        digits.drain(..zeros);
        let exponent: i32 = exponent.parse().unwrap_or_default();
        Digits {
            digits,
            exponent: exponent + whole.len() as i32 - 1 - zeros as i32,
        }
    }

    /// The number, as digits and the power of ten that they are multiplied by.
    fn whole(&self) -> (u128, i32) {
        let number = |number: u64, digit: &u8| number * 10 + u64::from(digit - b'0');
        let digits = self.digits.iter().fold(0, number);
        (digits.into(), self.exponent + 1 - self.digits.len() as i32)
    }
}

/// A float: `mantissa` × 2 ^ `exponent`.
struct Parts {
    mantissa: u128,
    exponent: i32,
    /// The next smaller float is half as far away as the next greater one.
    narrow_below: bool,
}

impl Parts {
    fn new(fraction: u64, exponent: i32, fraction_bits: u32, bias: i32) -> Parts {
        let hidden = if exponent == 0 { 0 } else { 1 << fraction_bits };
        Parts {
            mantissa: u128::from(fraction | hidden),
            exponent: exponent.max(1) - bias,
            narrow_below: fraction == 0 && exponent > 1,
        }
    }

    /// The decimal is exactly half way to a neighbour.
    fn is_bound(&self, decimal: &Digits) -> bool {
        // A float with a fraction is itself written with fewer digits than what is half way to its neighbour. That is
        // any float whose lowest bit is no whole number; zero, which has no neighbour below it, is one of them here.
        if self.exponent <= 0 {
            return false;
        }
        let below = match self.narrow_below {
            true => (4 * self.mantissa - 1, self.exponent - 2),
            false => (2 * self.mantissa - 1, self.exponent - 1),
        };
        let above = (2 * self.mantissa + 1, self.exponent - 1);
        odd_and_power(decimal.whole()).is_some_and(|decimal| decimal == below || decimal == above)
    }
}

/// A decimal as an odd number times a power of two, if it is one of few enough digits to be half way between floats:
/// these have at most 55 bits, so that 5 ^ 24 can neither divide them nor be divided by.
fn odd_and_power((digits, ten): (u128, i32)) -> Option<(u128, i32)> {
    let fives = 5u128.pow(ten.unsigned_abs().min(24));
    let product = match ten {
        25.. | ..=-25 => return None,
        0.. => digits * fives,
        _ if digits % fives == 0 => digits / fives,
        _ => return None,
    };
    let twos = product.trailing_zeros();
    Some((product >> twos, ten + twos as i32))
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, RngExt, SeedableRng};

    use super::*;

    fn double(value: f64) -> String {
        let mut out = Vec::new();
        put_double(value, &Forms::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn real(value: f32) -> String {
        let mut out = Vec::new();
        put_real(value, &Forms::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn doubles_are_written_as_postgresql_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (0.1, "0.1"),
            (100.0, "100"),
            (123_456_790_000.0, "123456790000"),
            (123_456_789_012_345.0, "123456789012345"),
            (1e15, "1e+15"),
            (9_007_199_254_740_993.0, "9.007199254740992e+15"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1e23, "9.999999999999999e+22"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(double(value), text);
        }
    }

    #[test]
    fn reals_have_their_own_digits() {
        for (value, text) in [
            (100_000.0, "100000"),
            (1e6, "1e+06"),
            (0.1, "0.1"),
            // Of two that are equally near, the even one.
            (14_608_421.0 / 4.0, "3.6521052e+06"),
            (1.0 / 4096.0, "0.00024414062"),
            (f32::MAX, "3.4028235e+38"),
            (1e-45, "1e-45"),
        ] {
            assert_eq!(real(value), text);
        }
    }

    /// Its bits decide of what size and shape it is.
    fn some_double(random: &mut impl Rng) -> f64 {
        let bits: u64 = random.random();
        match random.random_range(0..5) {
            0 => f64::from_bits(bits),
            1 => (bits >> random.random_range(0..64)) as f64 / 100.0,
            // Few bits, far from the point: half way between decimals of few digits.
            2 => (bits >> 44) as f64 * 2f64.powi(random.random_range(-100..100)),
            3 => 2f64.powi(random.random_range(-1074..1024)),
            _ => random.random_range(1..1000) as f64 * 10f64.powi(random.random_range(-300..300)),
        }
    }

    #[test]
    fn digits_are_those_that_the_standard_library_finds() {
        let seed = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let (mut bounds, mut seen) = (0, 0);
        for _ in 0..20_000 {
            let value = some_double(&mut random).abs();
            let real = value as f32;
            if value.is_finite() {
                let shortest = format!("{value:e}");
                let most = Digits::parse(&shortest).digits.len() - 1;
                // Of two that are equally near, the even one.
                let even = Some(format!("{value:.most$e}"));
                let even = even.filter(|text| text.parse() == Ok(value));
                let expected = Digits::parse(&even.unwrap_or(shortest));
                let digits = Digits::of_double(value);
                assert_eq!(double(value).parse(), Ok(value));
                match digits.digits.len() > most + 1 {
                    // It is half way to another float.
                    true => bounds += 1,
                    false => assert_eq!(digits, expected, "{value:e}"),
                }
                seen += 1;
            }
            if real.is_finite() {
                let shortest = format!("{real:e}");
                let most = Digits::parse(&shortest).digits.len() - 1;
                let even = Some(format!("{real:.most$e}"));
                let even = even.filter(|text| text.parse() == Ok(real));
                let expected = Digits::parse(&even.unwrap_or(shortest));
                let digits = Digits::of_real(real);
                assert_eq!(self::real(real).parse(), Ok(real));
                match digits.digits.len() > most + 1 {
                    true => bounds += 1,
                    false => assert_eq!(digits, expected, "{real:e}"),
                }
            }
        }
        assert!(seen > 15_000 && bounds < 2_000, "{seen} {bounds}");
    }

    #[test]
    fn any_number_is_a_float() {
        let decimal = RawBsonRef::Decimal128("0.10".parse().unwrap());
        for (value, read) in [
            (RawBsonRef::Int32(7), 7.0),
            (RawBsonRef::Int64(7), 7.0),
            (RawBsonRef::Double(0.1), 0.1),
            (decimal, 0.1),
        ] {
            assert_eq!(read_double(value), Ok(read));
            assert_eq!(read_real(value), Ok(read as f32));
        }
        for value in [1e39, 1e-50] {
            assert_eq!(
                read_real(RawBsonRef::Double(value)).unwrap_err().sqlstate,
                "22003"
            );
        }
    }

    #[test]
    fn what_is_lost_in_reading_is_an_error() {
        for text in ["1e400", "-1e400x", "1e-400"] {
            assert_eq!(parse_double(text).unwrap_err().sqlstate, "22003", "{text}");
        }
        let real = parse_real(" 1e39 ").unwrap_err().message;
        assert_eq!(real, "\" 1e39 \" is out of range for type real");
        for text in ["", "x", "1e", "1 2", ".", "0x", "1e5e5"] {
            assert_eq!(parse_double(text).unwrap_err().sqlstate, "22P02", "{text}");
        }
        assert_eq!(parse_double("0x1p3").unwrap_err().sqlstate, "0A000");
        for (text, value) in [
            (" 5e-324\t", 5e-324),
            ("0e999", 0.0),
            ("-inf", f64::NEG_INFINITY),
            (".5", 0.5),
        ] {
            assert_eq!(parse_double(text), Ok(value));
        }
    }

    #[test]
    fn fewer_digits_than_the_shortest_are_not_supported() {
        let forms = Forms {
            extra_float_digits: 0,
            ..Forms::default()
        };
        let fault = put_double(0.1, &forms, &mut Vec::new()).unwrap_err();
        assert_eq!(fault.sqlstate, "0A000");
    }
}
