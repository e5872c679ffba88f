//! Exact sums of PostgreSQL's numeric, in its text and its binary form.
//!
//! As PostgreSQL's own accumulator (`NumericSumAccum` in `numeric.c`): one counter
//! for each base-10000 digit, carried only when the sum is read, so that nothing is
//! ever rounded. The sum has the largest display scale of its parts. NaN and
//! infinities add up as in PostgreSQL 14 and later. The binary form is that of
//! `numeric_send`.

/// The base of PostgreSQL's digits.
const BASE: i64 = 10_000;
/// Decimal digits in one of them.
const DECIMALS: usize = 4;
/// The largest display scale (`NUMERIC_DSCALE_MAX`).
const MAX_SCALE: u16 = 0x3fff;
/// Digits before the decimal point that numeric can hold: 131,072, in base 10000, with room for none more.
const MAX_WEIGHT: i32 = i16::MAX as i32;
/// A counter holds this many digits without an overflow; far more than there can be shards.
const MAX_ADDED: u32 = 1 << 30;

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xc000;
const INFINITY: u16 = 0xd000;
const NEGATIVE_INFINITY: u16 = 0xf000;
/// What `numeric_send` gives as the scale of infinities, by the way it reads its own header.
const INFINITY_SCALE: u16 = 0x20;

/// Why a numeric is not added, or a sum not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumericError {
    /// Not as PostgreSQL writes numerics.
    #[error("malformed numeric")]
    Malformed,
    /// Beyond what numeric can hold: 22003.
    #[error("value overflows numeric format")]
    Overflow,
}

/// A sum of any number of numerics, exact.
#[derive(Clone, Debug, Default)]
pub struct NumericSum {
    /// Signed counters of digits; the first is worth `BASE ^ weight`.
    digits: Vec<i64>,
    weight: i32,
    scale: u16,
    added: u32,
    special: Special,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Special {
    nan: bool,
    infinity: bool,
    negative_infinity: bool,
}

/// A sum, carried.
enum Sum {
    NaN,
    Infinity,
    NegativeInfinity,
    /// Digits without zeros at either end; none of zero.
    Finite {
        negative: bool,
        weight: i32,
        digits: Vec<u16>,
        scale: u16,
    },
}

impl NumericSum {
    /// Nothing added yet: zero.
    pub fn new() -> NumericSum {
        NumericSum::default()
    }

    /// Adds a numeric in text form, as `numeric_out` writes it.
    pub fn add_text(&mut self, text: &[u8]) -> Result<(), NumericError> {
        match text {
            b"NaN" => self.special.nan = true,
            b"Infinity" => self.special.infinity = true,
            b"-Infinity" => self.special.negative_infinity = true,
            _ => return self.add_decimal(text),
        }
        Ok(())
    }

    fn add_decimal(&mut self, text: &[u8]) -> Result<(), NumericError> {
        let (sign, unsigned) = match text {
            [b'-', rest @ ..] => (-1, rest),
            rest => (1, rest),
        };
        let point = unsigned.iter().position(|&b| b == b'.');
        let (whole, fraction) = match point {
            Some(at) => (&unsigned[..at], &unsigned[at + 1..]),
            None => (unsigned, &unsigned[..0]),
        };
        let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
        let shaped = !whole.is_empty() && point.is_none_or(|_| !fraction.is_empty());
        if !shaped || !digits(whole) || !digits(fraction) {
            return Err(NumericError::Malformed);
        }
        let scale = u16::try_from(fraction.len()).map_err(|_| NumericError::Malformed)?;
        let groups = whole.len().div_ceil(DECIMALS);
        let weight = i32::try_from(groups).map_err(|_| NumericError::Malformed)? - 1;
        self.reserve(weight, groups + fraction.len().div_ceil(DECIMALS), scale)?;
        for (index, group) in whole.rchunks(DECIMALS).enumerate() {
            self.add_digit(index as i32, sign * decimal(group));
        }
        for (index, group) in fraction.chunks(DECIMALS).enumerate() {
            let shift = 10i64.pow((DECIMALS - group.len()) as u32);
            self.add_digit(-1 - index as i32, sign * decimal(group) * shift);
        }
        Ok(())
    }

    /// Adds a numeric in binary form, as `numeric_send` writes it.
    pub fn add_binary(&mut self, bytes: &[u8]) -> Result<(), NumericError> {
        let (header, digits) = bytes
            .split_first_chunk::<8>()
            .ok_or(NumericError::Malformed)?;
        let [count, weight, sign, scale] =
            [0, 2, 4, 6].map(|at| u16::from_be_bytes([header[at], header[at + 1]]));
        if digits.len() != usize::from(count) * 2 {
            return Err(NumericError::Malformed);
        }
        let sign = match sign {
            POSITIVE => 1,
            NEGATIVE => -1,
            NAN => {
                self.special.nan = true;
                return Ok(());
            }
            INFINITY => {
                self.special.infinity = true;
                return Ok(());
            }
            NEGATIVE_INFINITY => {
                self.special.negative_infinity = true;
                return Ok(());
            }
            _ => return Err(NumericError::Malformed),
        };
        let weight = i32::from(weight as i16);
        let digits = digits
            .chunks_exact(2)
            .map(|d| u16::from_be_bytes([d[0], d[1]]));
        if digits.clone().any(|digit| i64::from(digit) >= BASE) {
            return Err(NumericError::Malformed);
        }
        self.reserve(weight, usize::from(count), scale)?;
        for (index, digit) in digits.enumerate() {
            self.add_digit(weight - index as i32, sign * i64::from(digit));
        }
        Ok(())
    }

    /// Adds an integer.
    pub fn add_integer(&mut self, value: i64) -> Result<(), NumericError> {
        self.add_text(value.to_string().as_bytes())
    }

    /// Makes room for `count` digits, the first of this weight.
    fn reserve(&mut self, weight: i32, count: usize, scale: u16) -> Result<(), NumericError> {
        if scale > MAX_SCALE || self.added == MAX_ADDED {
            return Err(NumericError::Malformed);
        }
        self.added += 1;
        self.scale = self.scale.max(scale);
        if self.digits.is_empty() {
            self.weight = weight;
        }
        if weight > self.weight {
            let more = (weight - self.weight) as usize;
            self.digits.splice(0..0, std::iter::repeat_n(0, more));
            self.weight = weight;
        }
        let length = (self.weight - weight) as usize + count;
        if self.digits.len() < length {
            self.digits.resize(length, 0);
        }
        Ok(())
    }

    /// `reserve` has made the room.
    fn add_digit(&mut self, weight: i32, digit: i64) {
        let index = usize::try_from(self.weight - weight);
        if let Some(counter) = index.ok().and_then(|index| self.digits.get_mut(index)) {
            *counter += digit;
        }
    }

    /// The sum as `numeric_out` writes it.
    pub fn text(&self) -> Result<Vec<u8>, NumericError> {
        let (negative, weight, digits, scale) = match self.sum()? {
            Sum::NaN => return Ok(b"NaN".to_vec()),
            Sum::Infinity => return Ok(b"Infinity".to_vec()),
            Sum::NegativeInfinity => return Ok(b"-Infinity".to_vec()),
            Sum::Finite {
                negative,
                weight,
                digits,
                scale,
            } => (negative, weight, digits, usize::from(scale)),
        };
        let digit = |of: i32| {
            let index = usize::try_from(weight - of).ok();
            index.and_then(|i| digits.get(i)).copied().unwrap_or(0)
        };
        let mut text = String::new();
        if negative {
            text.push('-');
        }
        let first = if digits.is_empty() { 0 } else { weight.max(0) };
        text.push_str(&digit(first).to_string());
        (0..first)
            .rev()
            .for_each(|of| text.push_str(&format!("{:04}", digit(of))));
        if scale > 0 {
            text.push('.');
            let end = text.len() + scale;
            let mut of = -1;
            while text.len() < end {
                text.push_str(&format!("{:04}", digit(of)));
                of -= 1;
            }
            text.truncate(end);
        }
        Ok(text.into_bytes())
    }

    /// The sum as `numeric_send` writes it.
    pub fn binary(&self) -> Result<Vec<u8>, NumericError> {
        let write = |weight: i16, sign: u16, scale: u16, digits: &[u16]| {
            let count = u16::try_from(digits.len()).map_err(|_| NumericError::Overflow)?;
            let head = [count, weight as u16, sign, scale];
            let all = head.iter().chain(digits);
            Ok(all.flat_map(|word| word.to_be_bytes()).collect())
        };
        match self.sum()? {
            Sum::NaN => write(0, NAN, 0, &[]),
            Sum::Infinity => write(0, INFINITY, INFINITY_SCALE, &[]),
            Sum::NegativeInfinity => write(0, NEGATIVE_INFINITY, INFINITY_SCALE, &[]),
            Sum::Finite {
                negative,
                weight,
                digits,
                scale,
            } => {
                let weight = i16::try_from(weight).map_err(|_| NumericError::Overflow)?;
                let sign = if negative { NEGATIVE } else { POSITIVE };
                write(weight, sign, scale, &digits)
            }
        }
    }

    fn sum(&self) -> Result<Sum, NumericError> {
        match self.special {
            Special { nan: true, .. } => return Ok(Sum::NaN),
            Special {
                infinity: true,
                negative_infinity: true,
                ..
            } => return Ok(Sum::NaN),
            Special { infinity: true, .. } => return Ok(Sum::Infinity),
            Special {
                negative_infinity: true,
                ..
            } => return Ok(Sum::NegativeInfinity),
            _ => {}
        }
        // From the last digit on; the counters are kept, so that more can be added.
        let mut low_first: Vec<i64> = self.digits.iter().rev().copied().collect();
        let mut weight = self.weight;
        let mut carry = 0;
        for counter in &mut low_first {
            let value = *counter + carry;
            carry = value.div_euclid(BASE);
            *counter = value.rem_euclid(BASE);
        }
        while carry != 0 && carry != -1 {
            low_first.push(carry.rem_euclid(BASE));
            carry = carry.div_euclid(BASE);
            weight += 1;
        }
        // A borrow that is left makes the whole negative: what it lacks of the next power.
        let negative = carry == -1;
        if negative {
            let mut borrow = 0;
            for digit in &mut low_first {
                let value = -*digit - borrow;
                borrow = i64::from(value < 0);
                *digit = value.rem_euclid(BASE);
            }
            if borrow == 0 {
                low_first.push(1);
                weight += 1;
            }
        }
        let mut digits: Vec<u16> = low_first.iter().rev().map(|&digit| digit as u16).collect();
        let leading = digits.iter().take_while(|&&digit| digit == 0).count();
        digits.drain(..leading);
        weight -= leading as i32;
        while digits.last() == Some(&0) {
            digits.pop();
        }
        if digits.is_empty() {
            weight = 0;
        }
        if weight > MAX_WEIGHT {
            return Err(NumericError::Overflow);
        }
        Ok(Sum::Finite {
            negative: negative && !digits.is_empty(),
            weight,
            digits,
            scale: self.scale,
        })
    }
}

fn decimal(digits: &[u8]) -> i64 {
    let add = |value, digit: &u8| value * 10 + i64::from(digit - b'0');
    digits.iter().fold(0, add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(values: &[&str]) -> String {
        let mut sum = NumericSum::new();
        for value in values {
            sum.add_text(value.as_bytes()).unwrap();
        }
        // The binary form must say the same.
        let mut again = NumericSum::new();
        again.add_binary(&sum.binary().unwrap()).unwrap();
        assert_eq!(again.text(), sum.text());
        String::from_utf8(sum.text().unwrap()).unwrap()
    }

    #[test]
    fn sums_are_exact_and_keep_the_largest_scale() {
        let cases: [(&[&str], &str); 14] = [
            (&[], "0"),
            (&["0.00"], "0.00"),
            (&["1", "-1"], "0"),
            (&["1.50", "-1.5"], "0.00"),
            (&["9999", "1"], "10000"),
            (&["-9999", "-1"], "-10000"),
            (&["10000", "-1"], "9999"),
            (&["-10000", "1"], "-9999"),
            (&["1", "-10000.0001"], "-9999.0001"),
            (&["0.1", "0.02", "0.003"], "0.123"),
            (
                &["9223372036854775807", "9223372036854775807"],
                "18446744073709551614",
            ),
            (
                &["99999999999999999999999999999999999999.999", "0.001"],
                "100000000000000000000000000000000000000.000",
            ),
            (&["0.00000001", "-0.00000002"], "-0.00000001"),
            (&["100000000", "-99999999.5"], "0.5"),
        ];
        for (values, wanted) in cases {
            assert_eq!(sum(values), wanted, "{values:?}");
        }
    }

    #[test]
    fn specials_add_up_as_in_postgres_14() {
        assert_eq!(sum(&["NaN", "1"]), "NaN");
        assert_eq!(sum(&["Infinity", "-5.5"]), "Infinity");
        assert_eq!(sum(&["-Infinity", "7"]), "-Infinity");
        assert_eq!(sum(&["Infinity", "-Infinity"]), "NaN");
        assert_eq!(sum(&["Infinity", "NaN"]), "NaN");
    }

    #[test]
    fn what_postgres_would_not_write_is_refused() {
        for text in [
            "", "-", ".5", "5.", "+5", "1e5", " 1", "1,5", "inf", "0x1", "--1", "1.2.3",
        ] {
            let added = NumericSum::new().add_text(text.as_bytes());
            assert_eq!(added, Err(NumericError::Malformed), "{text:?}");
        }
        let cases: [&[u8]; 6] = [
            b"",
            &[0, 0, 0, 0, 0, 0, 0],
            &[0, 1, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            &[0, 0, 0, 0, 0x80, 0, 0, 0],
            &[0, 1, 0, 0, 0, 0, 0, 0, 0x27, 0x10],
        ];
        for bytes in cases {
            let added = NumericSum::new().add_binary(bytes);
            assert_eq!(added, Err(NumericError::Malformed), "{bytes:?}");
        }
    }

    #[test]
    fn the_largest_weight_overflows_by_one() {
        let largest = [0, 1, 0x7f, 0xff, 0, 0, 0, 0, 0x27, 0x0f];
        let mut sum = NumericSum::new();
        sum.add_binary(&largest).unwrap();
        assert_eq!(sum.binary().unwrap(), largest);
        sum.add_binary(&largest).unwrap();
        assert_eq!(sum.binary(), Err(NumericError::Overflow));
        assert_eq!(sum.text(), Err(NumericError::Overflow));
    }
}
