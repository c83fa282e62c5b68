//! The `Date` header, from the injected clock: clients correct their own clocks by it.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::header::HeaderValue;
use keyrum_types::Clock;

use crate::calendar::Date;

/// Writes dates, each second's once.
pub(super) struct Dates {
    clock: Arc<dyn Clock>,
    latest: Mutex<(u64, HeaderValue)>,
}

impl Dates {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            latest: Mutex::new((0, write(0))),
        }
    }

    pub(super) fn header(&self) -> HeaderValue {
        let second = self.clock.now().0 / 1000;
        // A panic elsewhere cannot leave half a date behind.
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.0 != second {
            *latest = (second, write(second));
        }
        latest.1.clone()
    }
}

/// Seconds since 1970 in the fixed form of RFC 9110, section 5.6.7.
fn write(seconds: u64) -> HeaderValue {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let days = seconds / 86_400;
    let date = Date::after(days);
    let text = format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        date.day,
        date.month_name(),
        date.year,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    );
    HeaderValue::from_maybe_shared(hyper::body::Bytes::from(text))
        .expect("letters, digits and punctuation may stand in a header")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a date that is a day off around leap days and turns of the year.
    #[test]
    fn dates_are_right() {
        for (seconds, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_798_761_599, "Thu, 31 Dec 2026 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(write(seconds), date);
        }
    }
}
