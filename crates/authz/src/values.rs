//! Values that conditions compare by meaning: numbers, dates and addresses.
//!
//! No floats: two nodes must never disagree, and 0.1 is not what a float says it is.

use std::cmp::Ordering;
use std::net::IpAddr;

/// A decimal number of any length, compared exactly.
///
/// Digits without zeros at the outer ends, so equal numbers are equal values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decimal<'t> {
    negative: bool,
    whole: &'t str,
    fraction: &'t str,
}

impl<'t> Decimal<'t> {
    /// `[+-]digits[.digits]`, as AWS documents numeric conditions: integers and decimals.
    pub(crate) fn parse(text: &'t str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !is_digits(whole) || !is_digits(fraction) {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let is_zero = whole.is_empty() && fraction.is_empty();
        Some(Self {
            negative: negative && !is_zero,
            whole,
            fraction,
        })
    }

    fn magnitude(&self, other: &Self) -> Ordering {
        let (own, others) = (self.whole, other.whole);
        own.len()
            .cmp(&others.len())
            .then_with(|| own.cmp(others))
            .then_with(|| self.fraction.cmp(other.fraction))
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => self.magnitude(other),
            (true, true) => other.magnitude(self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A moment: seconds since 1970 in UTC, and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    seconds: i64,
    nanos: u32,
}

impl Moment {
    /// Seconds since 1970, or a date of the W3C's profile of ISO 8601: `2026-07-01`,
    /// `2026-07-01T12:30Z`, `2026-07-01T12:30:15.5+02:00`. Digits below a nanosecond do not count.
    ///
    /// Deviation: a year alone, such as `2026`, means that many seconds.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() <= 18
            && let digits = text.strip_prefix('-').unwrap_or(text)
            && !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit())
        {
            let seconds = text.parse().ok()?;
            return Some(Self { seconds, nanos: 0 });
        }
        let (date, time) = match text.split_once('T') {
            Some((date, time)) => (date, Some(time)),
            None => (text, None),
        };
        let mut fields = date.split('-');
        let year = number(fields.next()?, 4)?;
        let month = number(fields.next()?, 2)?;
        let day = fields.next().map_or(Some(1), |day| number(day, 2))?;
        let in_month = days_in_month(year, month)?;
        if fields.next().is_some() || day < 1 || day > in_month {
            return None;
        }
        let midnight = days_from_civil(year, month, day) * 86_400;
        let (of_day, nanos) = time.map_or(Some((0, 0)), time_of_day)?;
        Some(Self {
            seconds: midnight + of_day,
            nanos,
        })
    }
}

/// `hh:mm[:ss[.s]]` and `Z` or an offset: seconds after midnight in UTC, and nanoseconds.
fn time_of_day(time: &str) -> Option<(i64, u32)> {
    let (clock, offset) = match time.strip_suffix('Z') {
        Some(clock) => (clock, 0),
        None => {
            let at = time.rfind(['+', '-'])?;
            let (hours, minutes) = time[at + 1..].split_once(':')?;
            let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
            let sign = if time[at..].starts_with('-') { -1 } else { 1 };
            let fits = hours <= 23 && minutes <= 59;
            fits.then_some((&time[..at], sign * (hours * 3600 + minutes * 60)))?
        }
    };
    let mut fields = clock.split(':');
    let hours = number(fields.next()?, 2)?;
    let minutes = number(fields.next()?, 2)?;
    let (seconds, fraction) = match fields.next() {
        None => (0, ""),
        Some(seconds) => match seconds.split_once('.') {
            None => (number(seconds, 2)?, ""),
            Some((seconds, fraction)) if !fraction.is_empty() => (number(seconds, 2)?, fraction),
            Some(_) => return None,
        },
    };
    let fits = hours <= 23 && minutes <= 59 && seconds <= 60 && fields.next().is_none();
    if !fits || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{:0<9.9}", fraction).parse().ok()?;
    Some((hours * 3600 + minutes * 60 + seconds - offset, nanos))
}

fn number(text: &str, digits: usize) -> Option<i64> {
    let is_number = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

fn days_in_month(year: i64, month: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    Some(match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    })
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar. Years are at most four digits.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March end with the leap day.
    let year = year - i64::from(month <= 2);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + day_of_year - 719_468
}

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Net {
    base: IpAddr,
    bits: u8,
}

impl Net {
    /// `address/bits`; without the bits, one address.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            None => (text, None),
            Some((address, bits)) => (address, Some(bits)),
        };
        let base: IpAddr = address.parse().ok()?;
        let all = if base.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => all,
            Some(bits) if bits.bytes().all(|b| b.is_ascii_digit()) => bits.parse().ok()?,
            Some(_) => return None,
        };
        (bits <= all).then_some(Self { base, bits })
    }

    /// An address of the other kind is never in it.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let differ = match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                u128::from(base.to_bits() ^ address.to_bits()) << 96
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => base.to_bits() ^ address.to_bits(),
            _ => return false,
        };
        differ.leading_zeros() >= u32::from(self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches numbers that are compared as texts or as floats.
    #[test]
    fn decimals_are_exact() {
        let cmp = |a, b| Decimal::parse(a).unwrap().cmp(&Decimal::parse(b).unwrap());
        for (a, b, order) in [
            ("7", "07", Ordering::Equal),
            ("1.50", "+1.5", Ordering::Equal),
            ("-0", "0.0", Ordering::Equal),
            ("9", "10", Ordering::Less),
            ("-9", "-10", Ordering::Greater),
            ("-1", "1", Ordering::Less),
            ("0.1", "0.09", Ordering::Greater),
            ("9007199254740993", "9007199254740992", Ordering::Greater),
            (
                "0.1000000000000000055511151231257827",
                "0.1",
                Ordering::Greater,
            ),
        ] {
            assert_eq!(cmp(a, b), order, "{a} {b}");
            assert_eq!(cmp(b, a), order.reverse(), "{b} {a}");
        }
        for bad in [
            "", "-", ".5", "5.", "1e3", "0x1", " 1", "1 ", "１", "--1", "inf",
        ] {
            assert_eq!(Decimal::parse(bad), None, "{bad}");
        }
    }

    /// Catches dates that are off, offsets with the wrong sign, and texts that are no dates.
    #[test]
    fn moments() {
        let seconds = |text| Moment::parse(text).map(|moment| moment.seconds);
        for (text, want) in [
            ("0", 0),
            ("-1", -1),
            ("1700000000", 1_700_000_000),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-03-01", 951_868_800),
            ("2000-02", 949_363_200),
            ("2023-11-14T22:13:20Z", 1_700_000_000),
            ("2023-11-14T22:13:20.999Z", 1_700_000_000),
            ("2023-11-15T00:13:20+02:00", 1_700_000_000),
            ("2023-11-14T17:13:20-05:00", 1_700_000_000),
            ("2023-11-14T22:13Z", 1_699_999_980),
            ("0000-03-01T00:00:00Z", -62_162_035_200),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(seconds(text), Some(want), "{text}");
        }
        assert!(Moment::parse("2023-11-14T22:13:20.5Z") > Moment::parse("2023-11-14T22:13:20Z"));
        assert!(Moment::parse("2023-11-14T22:13:20.5Z") > Moment::parse("1700000000"));
        for bad in [
            "",
            "-",
            "x",
            "2023-13-01",
            "2023-02-29",
            "2023-11-14T",
            "2023-11-14T22:13:20",
            "2023-11-14T24:00:00Z",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20+2:00",
            "2023-1-14",
            "2023-11-14-1",
            "2023-00-01",
            "2023-01-00",
            "20231114T221320Z",
            "2023-11-14 22:13:20Z",
            "2023-11-14T22:1é:20Z",
        ] {
            assert_eq!(Moment::parse(bad), None, "{bad}");
        }
    }

    /// Catches a range that is too wide or too narrow, and one that mixes kinds of addresses.
    #[test]
    fn nets() {
        for (net, address, inside) in [
            ("203.0.113.0/24", "203.0.113.255", true),
            ("203.0.113.0/24", "203.0.114.0", false),
            ("203.0.113.77/24", "203.0.113.1", true),
            ("203.0.113.7", "203.0.113.7", true),
            ("203.0.113.7", "203.0.113.6", false),
            ("0.0.0.0/0", "255.1.2.3", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "1.2.3.4", false),
            ("2001:db8::/33", "2001:db8:7fff::1", true),
            ("2001:db8::/33", "2001:db8:8000::1", false),
            ("2001:db8::1", "2001:DB8:0:0::1", true),
            ("10.0.0.0/31", "10.0.0.2", false),
        ] {
            let contains = Net::parse(net).unwrap().contains(address.parse().unwrap());
            assert_eq!(contains, inside, "{net} {address}");
        }
        for bad in [
            "",
            "x",
            "1.2.3",
            "1.2.3.4/33",
            "::/129",
            "1.2.3.4/",
            "1.2.3.4/+8",
            "1.2.3.4/8/8",
        ] {
            assert_eq!(Net::parse(bad), None, "{bad}");
        }
    }
}
