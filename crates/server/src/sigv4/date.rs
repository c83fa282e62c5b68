//! The timestamps of signatures, in the clock's terms and back.

/// Seconds in a day.
const DAY: u64 = 86_400;

/// Days from March 1st of year 0 to 1970 (Howard Hinnant, "chrono-compatible low-level date
/// algorithms").
const EPOCH_DAYS: u64 = 719_468;

/// How a timestamp looks in a signature: `YYYYMMDDTHHMMSSZ`, the basic format of ISO 8601.
pub(super) type Stamp = [u8; 16];

/// Reads `YYYYMMDDTHHMMSSZ` as seconds since 1970; `None` if it is anything else.
pub(super) fn parse_basic(text: &str) -> Option<u64> {
    let text: &Stamp = text.as_bytes().try_into().ok()?;
    if text[8] != b'T' || text[15] != b'Z' {
        return None;
    }
    seconds(
        [
            number(&text[..4])?,
            number(&text[4..6])?,
            number(&text[6..8])?,
        ],
        [
            number(&text[9..11])?,
            number(&text[11..13])?,
            number(&text[13..15])?,
        ],
    )
}

/// Writes seconds since 1970 as `YYYY-MM-DDTHH:MM:SSZ`, the extended format of ISO 8601.
pub(crate) fn iso(at: u64) -> String {
    let stamp = basic(at);
    let stamp = text(&stamp);
    format!(
        "{}-{}-{}T{}:{}:{}Z",
        &stamp[..4],
        &stamp[4..6],
        &stamp[6..8],
        &stamp[9..11],
        &stamp[11..13],
        &stamp[13..15]
    )
}

/// Reads the fixed form of a `Date` header, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
/// Source: RFC 9110, section 5.6.7.
pub(super) fn parse_http(text: &str) -> Option<u64> {
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let text: &[u8; 29] = text.as_bytes().try_into().ok()?;
    let marks = [
        (3, b','),
        (4, b' '),
        (7, b' '),
        (11, b' '),
        (16, b' '),
        (19, b':'),
        (22, b':'),
    ];
    if marks.iter().any(|&(at, mark)| text[at] != mark) || &text[25..] != b" GMT" {
        return None;
    }
    let month = MONTHS
        .chunks_exact(3)
        .position(|month| month == &text[8..11])?;
    seconds(
        [
            number(&text[12..16])?,
            month as u64 + 1,
            number(&text[5..7])?,
        ],
        [
            number(&text[17..19])?,
            number(&text[20..22])?,
            number(&text[23..25])?,
        ],
    )
}

/// Writes seconds since 1970; years after 9999 are written as 9999.
pub(super) fn basic(at: u64) -> Stamp {
    let days = at / DAY + EPOCH_DAYS;
    let of_era = days % 146_097;
    let of_years = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * of_years + of_years / 4 - of_years / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12 + 1;
    let year = days / 146_097 * 400 + of_years + u64::from(month <= 2);
    let mut stamp = *b"00000000T000000Z";
    let mut put = |from: usize, to: usize, mut value: u64| {
        for digit in stamp[from..to].iter_mut().rev() {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put(0, 4, year.min(9999));
    put(4, 6, month);
    put(6, 8, day);
    put(9, 11, at / 3600 % 24);
    put(11, 13, at / 60 % 60);
    put(13, 15, at % 60);
    stamp
}

/// The text of a stamp.
pub(super) fn text(stamp: &Stamp) -> &str {
    std::str::from_utf8(stamp).expect("digits and two letters are ASCII")
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, &digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + u64::from(digit - b'0'))
    })
}

/// `None` for days and times that do not exist, and before 1970.
fn seconds([year, month, day]: [u64; 3], [hour, minute, second]: [u64; 3]) -> Option<u64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of_month = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    let exists = (1..=days_of_month).contains(&day) && hour < 24 && minute < 60 && second < 60;
    if !exists || year < 1970 {
        return None;
    }
    let (year, from_march) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + of_year - EPOCH_DAYS;
    Some(days * DAY + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a date that is a day off around leap days and turns of the year, in either direction.
    #[test]
    fn dates_go_there_and_back() {
        for (at, stamp) in [
            (0, "19700101T000000Z"),
            (784_111_777, "19941106T084937Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_440_938_160, "20150830T123600Z"),
            (1_798_761_599, "20261231T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(parse_basic(stamp), Some(at), "{stamp}");
            assert_eq!(text(&basic(at)), stamp);
        }
        for day in 0..80_000 {
            let at = day * DAY + day % DAY;
            assert_eq!(parse_basic(text(&basic(at))), Some(at), "{at}");
        }
        assert_eq!(text(&basic(u64::MAX)).len(), 16);
        let http = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(parse_http(http), Some(784_111_777));
    }

    /// Catches text that is taken for a date although it is none.
    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "20150830",
            "20150830T123600",
            "20150830T123600ZZ",
            "2015-08-30T12:36:00Z",
            "20150830t123600z",
            "20150230T123600Z",
            "20151301T123600Z",
            "20150830T243600Z",
            "20150830T126000Z",
            "20150830T123660Z",
            "+0150830T123600Z",
            "19691231T235959Z",
            "2015083\u{661}T12360Z",
        ] {
            assert_eq!(parse_basic(text), None, "{text}");
        }
        for text in [
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun, 06 Nov 1994 08.49.37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(parse_http(text), None, "{text}");
        }
    }
}
