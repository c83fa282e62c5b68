//! What opens locked domain keys: from a file, from standard input, or asked on the terminal. It is
//! never on a command line, in the environment or on a disk of ours, and never printed.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use keyrum_consensus::world::World;
use keyrum_crypto::{
    DomainKeyFile, InvalidUnlock, KeyFileError, OpenedBy, PASSPHRASE_CHARS_MIN, Unlock,
};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::Failure;
use crate::cli::Opener;
use crate::data::DataFolder;
use crate::run;
use crate::signals::Signals;

/// Longest text that is read, in bytes: hundreds of shares.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// Standard input, in place of a file.
const STANDARD_INPUT: &str = "-";

/// Why nothing is opened.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(
        "{what} is locked: {by}. Nothing was changed; name a file with what opens it with --unlock (- for standard input), or start where a terminal can ask"
    )]
    NotGiven { what: String, by: String },
    #[error("{}: {cause}. Nothing was changed", file.display())]
    Unreadable { file: PathBuf, cause: io::Error },
    #[error("--unlock {}: {cause}. Nothing was changed", file.display())]
    Invalid { file: PathBuf, cause: InvalidUnlock },
    #[error("what was typed opens nothing: {0}. Nothing was changed")]
    Typed(InvalidUnlock),
    #[error("the terminal: {0}. Nothing was changed")]
    Terminal(io::Error),
    #[error("interrupted; nothing was changed")]
    Interrupted,
    #[error("the supervisor did not say what opens the domain key")]
    NotHandedOver,
}

/// The keys of every Region's domain key that is locked; nothing but keys, so that who gets them
/// learns no passphrase.
pub(crate) async fn obtain(
    world: &World,
    folder: &DataFolder,
    opener: &Opener,
    signals: &mut Signals,
) -> Result<Unlock, Failure> {
    let mut source = Source::new(world, opener, signals);
    let mut keys = Unlock::default();
    for region in &folder.record().regions {
        let path = folder.domain_key(&region.name);
        // What is wrong with a file is said by the node that needs it.
        let by = DomainKeyFile::opened_by(&path).unwrap_or(OpenedBy::Anyone);
        if by != OpenedBy::Anyone {
            let what = format!("the domain key of {}", region.name);
            let open = |unlock: &Unlock| DomainKeyFile::open(&path, unlock, world.entropy.clone());
            let (file, _) = source.open(&what, by, open).await?;
            file.pass_key_on(&mut keys);
        }
    }
    Ok(keys)
}

/// What opens locked files: what the command line names, else a terminal that is asked for each.
pub(crate) struct Source<'s> {
    world: &'s World,
    named: Option<&'s Path>,
    signals: &'s mut Signals,
    /// What was given last; it may open more than one file.
    answer: Option<Unlock>,
}

impl<'s> Source<'s> {
    pub(crate) fn new(world: &'s World, opener: &'s Opener, signals: &'s mut Signals) -> Self {
        Self {
            world,
            named: opener.unlock.as_deref(),
            signals,
            answer: None,
        }
    }

    /// Opens one file, `what` in words, which takes `by`.
    pub(crate) async fn open<T>(
        &mut self,
        what: &str,
        by: OpenedBy,
        open: impl Fn(&Unlock) -> Result<T, KeyFileError>,
    ) -> Result<T, Failure> {
        if by == OpenedBy::Anyone {
            return Ok(open(&Unlock::default())?);
        }
        if let Some(file) = self.named {
            if self.answer.is_none() {
                let text = read(file)?;
                let unlock = Unlock::parse(&text).map_err(|cause| Trouble::Invalid {
                    file: file.to_owned(),
                    cause,
                })?;
                self.answer = Some(unlock);
            }
            return Ok(open(self.answer.get_or_insert_default())?);
        }
        let needs = match by {
            OpenedBy::Shares { needed, of } => format!("{needed} of its {of} shares open it"),
            OpenedBy::Passphrase | OpenedBy::Anyone => "a passphrase opens it".to_owned(),
        };
        if !io::stdin().is_terminal() {
            return Err(Trouble::NotGiven {
                what: what.to_owned(),
                by: needs,
            }
            .into());
        }
        if let Some(answer) = &self.answer
            && let Ok(opened) = open(answer)
        {
            return Ok(opened);
        }
        let (lines, how) = match by {
            OpenedBy::Shares { needed, .. } => (needed, "type them, one on each line"),
            OpenedBy::Passphrase | OpenedBy::Anyone => (1, "type it"),
        };
        let question = format!("{what} is locked: {needs}; {how} (not shown):");
        let text = ask(self.world, &question, lines, self.signals).await?;
        let unlock = Unlock::parse(text.as_bytes()).map_err(Trouble::Typed)?;
        Ok(open(self.answer.insert(unlock))?)
    }
}

/// A new passphrase: from the file that is named, else asked twice.
pub(crate) async fn new_passphrase(
    world: &World,
    file: Option<&Path>,
    what: &str,
    signals: &mut Signals,
) -> Result<Zeroizing<String>, Failure> {
    if let Some(file) = file {
        let text = read(file)?;
        let text = std::str::from_utf8(&text).map_err(|_| "the passphrase is not text")?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        return Ok(Zeroizing::new(text.to_owned()));
    }
    if !io::stdin().is_terminal() {
        return Err("nothing was changed: name a file with the passphrase with --passphrase-file (- for standard input), or have shares made with --shares K/N --out DIR".into());
    }
    // In between nothing is shown either: both lines may be pasted at once.
    let _hidden = Hidden::new().map_err(Trouble::Terminal)?;
    let question = format!(
        "A new passphrase of at least {PASSPHRASE_CHARS_MIN} characters for {what} (not shown):"
    );
    let first = ask(world, &question, 1, signals).await?;
    let again = ask(world, "The same again:", 1, signals).await?;
    if *first != *again {
        return Err("nothing was changed: the two are not the same".into());
    }
    Ok(first)
}

/// What the supervisor says on standard input: keys, up to an empty line.
pub(crate) fn handed_over() -> Result<Unlock, Failure> {
    let mut text = Zeroizing::new(String::with_capacity(TEXT_BYTES_MAX));
    loop {
        let line = read_line()?;
        match line.strip_suffix('\n') {
            // It ended without having said all.
            None => return Err(Trouble::NotHandedOver.into()),
            Some("") if text.is_empty() => return Ok(Unlock::default()),
            Some("") => {
                return Ok(Unlock::parse(text.as_bytes()).map_err(|_| Trouble::NotHandedOver)?);
            }
            Some(_) => text.push_str(&line),
        }
    }
}

/// A file's text, or that of standard input.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // One buffer of full size, so that no copy is left behind by growth.
    let mut bytes = Zeroizing::new(Vec::with_capacity(TEXT_BYTES_MAX + 1));
    let most = TEXT_BYTES_MAX as u64 + 1;
    let done = match path.to_str() {
        Some(STANDARD_INPUT) => io::stdin().lock().take(most).read_to_end(&mut bytes),
        _ => File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)),
    };
    let cause = match done {
        Ok(length) if length <= TEXT_BYTES_MAX => return Ok(bytes),
        Ok(_) => io::Error::other("it is too long"),
        Err(cause) => cause,
    };
    let file = path.to_owned();
    Err(Trouble::Unreadable { file, cause }.into())
}

/// Lines from the terminal, which shows none of them.
async fn ask(
    world: &World,
    question: &str,
    lines: u8,
    signals: &mut Signals,
) -> Result<Zeroizing<String>, Failure> {
    // Before the question: whoever answers at once is not shown either.
    let _hidden = Hidden::new().map_err(Trouble::Terminal)?;
    run::remark(question);
    let read = move || -> io::Result<Zeroizing<String>> {
        let mut text = Zeroizing::new(String::with_capacity(TEXT_BYTES_MAX));
        for number in 1..=lines {
            let line = read_line()?;
            if line.trim().is_empty() {
                break;
            }
            text.push_str(&line);
            if number < lines {
                run::remark(&format!("{number} of {lines}; the next:"));
            }
        }
        let length = text.trim_end_matches(['\n', '\r']).len();
        text.truncate(length);
        Ok(text)
    };
    tokio::select! {
        text = world.blocking.run(read) => Ok(text.map_err(Trouble::Terminal)?),
        () = signals.next() => Err(Trouble::Interrupted.into()),
    }
}

/// A line of standard input, without reading further; without a line break at the end.
fn read_line() -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(Vec::with_capacity(TEXT_BYTES_MAX));
    let mut byte = Zeroizing::new([0]);
    while line.len() < TEXT_BYTES_MAX && !line.ends_with(b"\n") {
        match rustix::io::read(io::stdin(), byte.as_mut_slice()) {
            Ok(0) => break,
            Ok(_) => line.push(byte[0]),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let text = std::str::from_utf8(&line).map_err(|_| io::Error::other("that is not text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden(Termios);

impl Hidden {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut now = before.clone();
        now.local_modes.remove(LocalModes::ECHO);
        now.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(io::stdin(), OptionalActions::Now, &now)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing either.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
