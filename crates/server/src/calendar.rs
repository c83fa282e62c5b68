//! Days since 1970 as dates.

/// The months' names, as every date of HTTP and of records has them.
pub(crate) const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Date {
    pub(crate) year: u64,
    /// 1 to 12.
    pub(crate) month: u64,
    /// 1 to 31.
    pub(crate) day: u64,
}

impl Date {
    /// So many days after 1970-01-01.
    pub(crate) fn after(days: u64) -> Self {
        // Years run from March here, so that the leap day is the last of its year
        // (Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`).
        let since = days + 719_468;
        let of_era = since % 146_097;
        let of_years = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * of_years + of_years / 4 - of_years / 100);
        let month_from_march = (5 * of_year + 2) / 153;
        let month = (month_from_march + 2) % 12;
        Self {
            year: since / 146_097 * 400 + of_years + u64::from(month < 2),
            month: month + 1,
            day: of_year - (153 * month_from_march + 2) / 5 + 1,
        }
    }

    /// The month's name.
    pub(crate) fn month_name(self) -> &'static str {
        let month = usize::try_from(self.month - 1).expect("a month is a small number");
        MONTHS[month]
    }
}
