//! Session order: what one writer acknowledged is what every linearizable read shows, from any
//! node.
//!
//! A register has one writer, which writes only while it is sure of the value, and never the value
//! that is there. So a read may show the last sure value or, if the write after it ended with an
//! unknown outcome, what that would have made; once it shows that, it must stay.

use std::fmt;

/// One thing with one writer: a key's state, a tag's value, an alias's target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register<V> {
    value: V,
    unsure: Option<V>,
}

/// A read that no order of the writes explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impossible {
    expected: String,
    seen: String,
}

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shows {}, must be {}", self.seen, self.expected)
    }
}

impl<V: Clone + PartialEq + fmt::Debug> Register<V> {
    /// A register whose value is known.
    pub fn new(value: V) -> Self {
        Self {
            value,
            unsure: None,
        }
    }

    /// The value, if it is known for sure.
    pub fn sure(&self) -> Option<&V> {
        self.unsure.is_none().then_some(&self.value)
    }

    /// A write was acknowledged.
    pub fn written(&mut self, value: V) {
        self.value = value;
        self.unsure = None;
    }

    /// A write's outcome is unknown.
    pub fn maybe_written(&mut self, value: V) {
        self.unsure = Some(value);
    }

    /// A linearizable read that began after everything noted here had ended.
    pub fn read(&mut self, seen: &V) -> Result<(), Impossible> {
        if *seen == self.value {
            return Ok(());
        }
        match self.unsure.take() {
            Some(unsure) if unsure == *seen => {
                self.value = unsure;
                Ok(())
            }
            unsure => {
                let expected = match &unsure {
                    None => format!("{:?}", self.value),
                    Some(unsure) => format!("{:?} or {unsure:?}", self.value),
                };
                self.unsure = unsure;
                Err(Impossible {
                    expected,
                    seen: format!("{seen:?}"),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a check that takes a stale or invented value, or one that goes back.
    #[test]
    fn only_possible_values_pass() {
        let mut register = Register::new(1);
        assert!(register.read(&1).is_ok());
        register.written(2);
        assert!(register.read(&1).is_err(), "stale");
        assert!(register.read(&7).is_err(), "invented");
        register.maybe_written(3);
        assert_eq!(register.sure(), None);
        assert!(register.read(&2).is_ok(), "not yet");
        assert!(register.read(&7).is_err(), "invented while unsure");
        assert!(register.read(&3).is_ok(), "late");
        assert_eq!(register.sure(), Some(&3));
        assert!(register.read(&2).is_err(), "went back");
    }
}
