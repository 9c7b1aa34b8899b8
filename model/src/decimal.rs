//! Decimals: whole units of a power of ten. They are never converted to a float.

use std::fmt;

/// The most digits behind the decimal point.
pub const SCALE_MAX: u8 = 9;

/// A number with a fixed count of digits behind the decimal point.
///
/// Its text is exact and canonical: `350` units of scale 2 are `3.50`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    units: i128,
    scale: u8,
}

impl Decimal {
    /// `units` / 10^`scale`; None if the scale exceeds [`SCALE_MAX`].
    pub fn new(units: i128, scale: u8) -> Option<Self> {
        (scale <= SCALE_MAX).then_some(Self { units, scale })
    }

    /// An integer: scale 0.
    pub fn integer(integer: i128) -> Self {
        Self { units: integer, scale: 0 }
    }

    /// The number in units of 10^-scale.
    pub fn units(self) -> i128 {
        self.units
    }

    /// Digits behind the decimal point, 0 to [`SCALE_MAX`].
    pub fn scale(self) -> u8 {
        self.scale
    }

    /// Reads a JSON number, with or without an exponent, exactly as it is written: `3.50` has scale 2. None if it is no
    /// JSON number, exceeds 128 bits, or needs more than [`SCALE_MAX`] digits behind the point.
    pub fn parse(text: &str) -> Option<Self> {
        let (is_negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (number, exponent) = match rest.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, parse_exponent(exponent)?),
            None => (rest, 0),
        };
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (number, None),
        };
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(whole) || whole.len() > 1 && whole.starts_with('0') || fraction.is_some_and(|f| !is_digits(f)) {
            return None;
        }
        let mut fraction = fraction.unwrap_or_default();
        // Zeros at the end that do not fit the scale change nothing.
        while fraction.len() > usize::from(SCALE_MAX)
            && let Some(shorter) = fraction.strip_suffix('0')
        {
            fraction = shorter;
        }
        let digit = |units: i128, byte: u8| {
            let digit = i128::from(byte - b'0');
            units.checked_mul(10)?.checked_add(if is_negative { -digit } else { digit })
        };
        let units = whole.bytes().chain(fraction.bytes()).try_fold(0, digit)?;
        if units == 0 && exponent != 0 {
            return Self::new(0, 0);
        }
        let scale = i64::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
        if scale >= 0 {
            return Self { units, scale: 0 }.reinterpreted(scale);
        }
        let factor = 10_i128.checked_pow(u32::try_from(-scale).ok()?)?;
        Self::new(units.checked_mul(factor)?, 0)
    }

    /// These units with that scale, less the zeros at the end that do not fit.
    fn reinterpreted(self, mut scale: i64) -> Option<Self> {
        let mut units = self.units;
        while scale > i64::from(SCALE_MAX) && units % 10 == 0 {
            (units, scale) = (units / 10, scale - 1);
        }
        Self::new(units, u8::try_from(scale).ok()?)
    }

    /// The same number with another scale; None if that would lose digits or exceeds 128 bits.
    pub fn rescaled(self, scale: u8) -> Option<Self> {
        let units = match scale.checked_sub(self.scale) {
            Some(more) => self.units.checked_mul(10_i128.checked_pow(more.into())?)?,
            None => {
                let divisor = 10_i128.checked_pow((self.scale - scale).into())?;
                (self.units % divisor == 0).then(|| self.units / divisor)?
            }
        };
        Self::new(units, scale)
    }

    /// The same number without zeros at the end behind the decimal point: equal numbers are then equal values.
    pub fn shortened(self) -> Self {
        let Self { mut units, mut scale } = self;
        while scale > 0 && units % 10 == 0 {
            (units, scale) = (units / 10, scale - 1);
        }
        Self { units, scale }
    }

    /// Divided by another one, with this many digits behind the point, rounded half away from zero. None if that one is 0,
    /// or a number exceeds 128 bits.
    pub fn divided(self, by: Self, scale: u8) -> Option<Self> {
        let (mut dividend, mut divisor) = (self.units.unsigned_abs(), by.units.unsigned_abs());
        // Digits of the quotient beyond that of the units.
        let digits = i32::from(scale) + i32::from(by.scale) - i32::from(self.scale);
        if digits < 0 {
            divisor = divisor.checked_mul(10_u128.checked_pow(digits.unsigned_abs())?)?;
        }
        let mut quotient = dividend.checked_div(divisor)?;
        dividend %= divisor;
        for _ in 0..digits {
            dividend = dividend.checked_mul(10)?;
            quotient = quotient.checked_mul(10)?.checked_add(dividend / divisor)?;
            dividend %= divisor;
        }
        quotient = quotient.checked_add(u128::from(dividend >= divisor - dividend))?;
        let units = i128::try_from(quotient).ok()?;
        Self::new(if (self.units < 0) == (by.units < 0) { units } else { -units }, scale)
    }
}

/// The digits of an exponent; beyond four of them no number but 0 fits.
fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse::<i64>().unwrap_or(i64::MAX).min(10_000);
    Some(if text.starts_with('-') { -size } else { size })
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scale == 0 {
            return write!(f, "{}", self.units);
        }
        let divisor = 10_u128.pow(self.scale.into());
        let (units, sign) = (self.units.unsigned_abs(), if self.units < 0 { "-" } else { "" });
        write!(f, "{sign}{}.{:0width$}", units / divisor, units % divisor, width = usize::from(self.scale))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text_of(text: &str) -> Option<String> {
        Decimal::parse(text).map(|decimal| decimal.to_string())
    }

    #[test]
    fn quotients_are_rounded_half_away_from_zero() {
        let quotient = |a: &str, b: &str, scale| {
            let (a, b) = (Decimal::parse(a).unwrap(), Decimal::parse(b).unwrap());
            a.divided(b, scale).map(|quotient| quotient.to_string())
        };
        for (a, b, scale, expected) in [
            ("1", "3", 3, Some("0.333")),
            ("2", "3", 3, Some("0.667")),
            ("1", "2", 0, Some("1")),
            ("-1", "2", 0, Some("-1")),
            ("1", "-2", 0, Some("-1")),
            ("-1", "-2", 0, Some("1")),
            ("-0.499", "1", 0, Some("0")),
            ("0", "5", 2, Some("0.00")),
            ("12.50", "0.4", 1, Some("31.3")),
            ("0.000000001", "2", 0, Some("0")),
            ("1.00", "8", 0, Some("0")),
            ("4.00", "8", 0, Some("1")),
            ("5", "0", 3, None),
            ("0", "0.00", 3, None),
            ("170141183460469231731687303715884105727", "1", 0, Some("170141183460469231731687303715884105727")),
            ("170141183460469231731687303715884105727", "1", 1, None),
            ("1", "170141183460469231731687303715884105727", 1, Some("0.0")),
        ] {
            assert_eq!(quotient(a, b, scale).as_deref(), expected, "{a} / {b}");
        }
    }

    proptest! {
        #[test]
        fn a_quotient_is_the_nearest_number(a in -1_000_000..1_000_000i128, b in 1..1_000i128, by_scale in 0..4u8, of_scale in 0..4u8, scale in 0..4u8) {
            let quotient = Decimal { units: a, scale: of_scale }.divided(Decimal { units: b, scale: by_scale }, scale);
            // In units of 10^-12 of 1/b: |q - a/b| is at most half a unit of the last digit.
            let units = quotient.map(Decimal::units).unwrap();
            let exact = a * 10_i128.pow(u32::from(12 + by_scale + scale - of_scale));
            let distance = (units * b * 10_i128.pow(12) - exact).abs();
            prop_assert!(2 * distance <= b * 10_i128.pow(12), "{units}");
        }
    }

    #[test]
    fn numbers_are_read_exactly_as_they_are_written() {
        for text in [
            "0",
            "-1",
            "3.50",
            "-0.000000001",
            "170141183460469231731687303715884105727",
            "-170141183460469231731687303715884105728",
            "170141183460469231731687303715.884105727",
        ] {
            assert_eq!(text_of(text).as_deref(), Some(text));
        }
        for (text, canonical) in [
            ("-0", "0"),
            ("1e3", "1000"),
            ("1.5E+2", "150"),
            ("15e-1", "1.5"),
            ("1.0000000000000", "1.000000000"),
            ("0.1e-8", "0.000000001"),
            ("10e-10", "0.000000001"),
            ("0e99999999999999999999", "0"),
            ("0.00000000000000000000001e20", "0.001"),
        ] {
            assert_eq!(text_of(text).as_deref(), Some(canonical), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_or_does_not_fit_is_refused() {
        for text in [
            "",
            "-",
            "+1",
            "01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "1 ",
            "NaN",
            "1.0000000001",
            "1e-10",
            "1e39",
            "1e99999999999999999999",
            "170141183460469231731687303715884105728",
            "1.5.2",
            "1e2e3",
            "\u{661}",
        ] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
        assert_eq!(Decimal::new(1, 10), None);
    }

    #[test]
    fn a_scale_changes_only_where_no_digit_is_lost() {
        let decimal = |text| Decimal::parse(text).unwrap();
        assert_eq!(decimal("3.5").rescaled(3), Some(decimal("3.500")));
        assert_eq!(decimal("3.500").rescaled(1), Some(decimal("3.5")));
        assert_eq!(decimal("3.501").rescaled(2), None);
        assert_eq!(decimal("170141183460469231731687303715884105727").rescaled(1), None);
        assert_eq!(decimal("1").rescaled(10), None);
    }

    proptest! {
        #[test]
        fn every_decimal_is_read_back_from_its_text(units in any::<i128>(), scale in 0..=SCALE_MAX) {
            let decimal = Decimal::new(units, scale).unwrap();
            prop_assert_eq!(Decimal::parse(&decimal.to_string()), Some(decimal));
        }
    }
}
