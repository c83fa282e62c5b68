//! All of a state's rows, as a snapshot holds them and the digest sums them.

use std::sync::Arc;

use super::Row;
use crate::State;

impl State {
    /// Every fact; the registers first, then in an order that the contents alone fix.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row> {
        let registers = std::iter::once(Row::Registers(self.registers.clone()));
        let keys = self.keys.values().map(|key| Row::Key(Arc::clone(key)));
        let aliases = self
            .aliases
            .iter()
            .map(|((account, name), alias)| Row::Alias {
                account: *account,
                name: name.clone(),
                alias: *alias,
            });
        let windows = self
            .windows
            .iter()
            .map(|(&node, &window)| Row::Window { node, window });
        let answers = self
            .answers
            .iter()
            .map(|(&(node, sequence), outcome)| Row::Answer {
                node,
                sequence,
                outcome: Arc::clone(outcome),
            });
        let rotations = self.rotations.iter().map(|(&key, rotation)| Row::Rotation {
            key,
            rotation: Arc::clone(rotation),
        });
        let families = self.families.iter().map(|(&key, family)| Row::Family {
            key,
            family: Arc::clone(family),
        });
        let buried = self
            .buried
            .iter()
            .map(|(&key, &incarnation)| Row::Buried { key, incarnation });
        let channels = self.channels.iter().map(|(with, &channel)| Row::Channel {
            with: with.clone(),
            channel,
        });
        let outbox = self.outbox.iter().map(|((to, number), message)| Row::Sent {
            to: to.clone(),
            number: *number,
            message: Arc::clone(message),
        });
        let last_uses = self
            .last_uses
            .iter()
            .map(|(&key, &last)| Row::LastUse { key, last });
        let imports = self.imports.iter().map(|(&key, imports)| Row::Imports {
            key,
            imports: Arc::clone(imports),
        });
        let awaited = self.awaited.iter().map(|(&key, awaited)| Row::Awaited {
            key,
            awaited: Arc::clone(awaited),
        });
        let grants = self.grants.iter();
        let grants = grants.map(|grant| Row::Grant(Arc::clone(grant)));
        let identities = self.identities.iter();
        let identities = identities.map(|record| Row::Identity(Arc::clone(record)));
        let book = self.identities.book().cloned();
        let book = book.map(Row::IdentityBook).into_iter();
        let deleted = self.identities.deleted();
        let deleted = deleted.map(|(name, revision)| Row::DeletedIdentity {
            name: name.clone(),
            revision,
        });
        registers
            .chain(keys)
            .chain(aliases)
            .chain(windows)
            .chain(answers)
            .chain(rotations)
            .chain(families)
            .chain(buried)
            .chain(channels)
            .chain(outbox)
            .chain(last_uses)
            .chain(imports)
            .chain(awaited)
            .chain(grants)
            .chain(identities)
            .chain(book)
            .chain(deleted)
    }
}
