//! The trace: everything that happens in a run, in order, one line each.
//!
//! Two runs of one seed write the same bytes. Besides what the lab does and sees, the nodes' own
//! messages (level info and above) are in it, and every simulated second a checksum over every
//! byte that went over the network.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::io::Write;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use super::seed::Time;
use crate::rolling::Rolling;

/// Writes the trace. Clones are the same trace.
#[derive(Clone)]
pub(crate) struct Trace(Rc<RefCell<Inner>>);

struct Inner {
    time: Time,
    to: Option<Box<dyn Write>>,
    failed: Option<std::io::Error>,
    sum: Rolling,
    lines: u64,
    messages: Messages,
}

/// Messages of the code under test that wait to be written.
#[derive(Clone, Default)]
pub(crate) struct Messages(Arc<Mutex<Vec<String>>>);

impl Trace {
    pub(crate) fn new(time: Time, to: Option<Box<dyn Write>>) -> Self {
        let (sum, messages) = (Rolling::default(), Messages::default());
        Self(Rc::new(RefCell::new(Inner {
            time,
            to,
            failed: None,
            sum,
            lines: 0,
            messages,
        })))
    }

    /// Where the code under test puts its messages.
    pub(crate) fn messages(&self) -> Messages {
        self.0.borrow().messages.clone()
    }

    /// Writes one line: when, who, what.
    pub(crate) fn line(&self, who: &str, what: impl fmt::Display) {
        let mut inner = self.0.borrow_mut();
        inner.drain();
        inner.write(who, &what);
    }

    /// Writes what is left. Gives how many lines there were and their checksum.
    pub(crate) fn finish(&self) -> std::io::Result<(u64, u64)> {
        let mut inner = self.0.borrow_mut();
        inner.drain();
        if let Some(to) = &mut inner.to {
            to.flush()?;
        }
        match inner.failed.take() {
            Some(error) => Err(error),
            None => Ok((inner.lines, inner.sum.value())),
        }
    }
}

impl Inner {
    fn drain(&mut self) {
        let waiting = std::mem::take(
            &mut *self
                .messages
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for message in waiting {
            self.write("says", &message);
        }
    }

    fn write(&mut self, who: &str, what: &dyn fmt::Display) {
        let ms = self.time.ms();
        let line = format!("{:>5}.{:03} {who:<9} {what}\n", ms / 1000, ms % 1000);
        self.sum.add(line.as_bytes());
        self.lines += 1;
        if let Some(to) = &mut self.to
            && self.failed.is_none()
            && let Err(error) = to.write_all(line.as_bytes())
        {
            self.failed = Some(error);
        }
    }
}

/// Takes the messages of the code under test, while it is this thread's subscriber.
pub(crate) struct Ear(pub(crate) Messages);

impl Ear {
    fn hears(metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && *metadata.level() <= Level::INFO
            && metadata.target().starts_with("keyrum")
    }
}

impl Subscriber for Ear {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if Self::hears(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        Self::hears(metadata)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = event.metadata().level().to_string();
        event.record(&mut Words(&mut text));
        self.0
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(text);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Words<'a>(&'a mut String);

impl Visit for Words<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
