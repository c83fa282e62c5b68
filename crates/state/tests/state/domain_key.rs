//! Words of transcripts about the domain key.

use std::collections::BTreeMap;

use keyrum_state::{
    Command, DomainKeyConfirmation, DomainKeyStage, KeyRef, Place, Resealed, State,
};
use keyrum_types::{AccountId, Fingerprint, SEALING_FORMAT, SealedMaterial};

/// A sealing of the same secret under a version of the domain key, as `crypto` would begin it.
pub(crate) fn under(version: u32, sealed: &SealedMaterial) -> SealedMaterial {
    let secret = match sealed.domain_key_version() {
        Some(_) => &sealed.0[5..],
        None => &sealed.0,
    };
    SealedMaterial(
        [&[SEALING_FORMAT], &version.to_be_bytes()[..], secret]
            .concat()
            .into(),
    )
}

/// Seals all that the command brings under a version.
pub(crate) fn seal_under(version: u32, command: &mut Command, caller: AccountId) {
    for (_, sealed) in command.secrets_mut(Some(caller)) {
        *sealed = under(version, sealed);
    }
}

/// The command of a line about the domain key; `None` if it is about something else.
pub(crate) fn command(
    name: &str,
    words: &[&str],
    options: &BTreeMap<&str, &str>,
    key: impl Fn(usize) -> KeyRef,
    state: &State,
) -> Option<Command> {
    let number = |name: &str| options[name].parse::<u32>().unwrap();
    let members = || {
        let nodes = options["members"]
            .split(',')
            .filter(|node| !node.is_empty());
        nodes.map(|node| node.parse().unwrap()).collect()
    };
    let print = |byte: u8| Fingerprint([byte; 8]);
    let fingerprint = || print(options.get("print").map_or(2, |text| text.parse().unwrap()));
    Some(match name {
        "AnnounceDomainKey" => Command::AnnounceDomainKey {
            version: number("version"),
            fingerprint: fingerprint(),
            first: print(1),
        },
        "ConfirmDomainKey" => Command::ConfirmDomainKey {
            version: number("version"),
            fingerprint: fingerprint(),
            node: number("node").into(),
            what: match words.contains(&"unneeded") {
                true => DomainKeyConfirmation::Unneeded,
                false => DomainKeyConfirmation::Held,
            },
        },
        "ActivateDomainKey" => Command::ActivateDomainKey {
            version: number("version"),
            members: members(),
        },
        "AbandonDomainKey" => Command::AbandonDomainKey {
            version: number("version"),
        },
        // Everything in the places named that is not sealed under the version yet: `K1`, a message
        // `eu-west-1/3`, or `rest` for all that is left.
        "ResealSecrets" => {
            let version = number("version");
            let places: Vec<_> = match words {
                ["rest"] => state.places_not_under(version, None).collect(),
                words => (0..words.len())
                    .map(|at| match words[at].split_once('/') {
                        Some((to, message)) => {
                            Place::Sent(to.parse().unwrap(), message.parse().unwrap())
                        }
                        None => Place::Key(key(at)),
                    })
                    .collect(),
            };
            let sealings = |place: &Place| {
                let secrets = state.secrets_at(place).into_iter();
                // `stale` are as somebody saw them who was mistaken.
                secrets
                    .map(|(_, sealed)| match options.contains_key("stale") {
                        true => (under(9, &sealed), under(version, &sealed)),
                        false => (sealed.clone(), under(version, &sealed)),
                    })
                    .collect()
            };
            let resealed = places.into_iter().map(|place| Resealed {
                sealings: sealings(&place),
                place,
            });
            Command::ResealSecrets {
                resealed: resealed.collect(),
            }
        }
        "WithdrawDomainKey" => Command::WithdrawDomainKey {
            version: number("version"),
        },
        "DestroyDomainKey" => Command::DestroyDomainKey {
            version: number("version"),
            members: members(),
        },
        _ => return None,
    })
}

/// `show domain-key`.
pub(crate) fn show(state: &State) -> Vec<String> {
    let mut lines = vec![format!("version {} seals", state.sealing_version())];
    lines.extend(state.domain_key_versions().map(|(version, known)| {
        let since = match known.stage {
            DomainKeyStage::Retired { since } => format!(" since {since}"),
            _ => String::new(),
        };
        let (stage, confirmed) = (known.stage.name(), &known.confirmed);
        let sealings = state.sealings_under(version);
        format!("version {version} {stage}{since} confirmed={confirmed:?} sealings={sealings}")
    }));
    let versions = state.domain_key_versions();
    let under: u64 = versions.map(|(v, _)| state.sealings_under(v)).sum();
    if under > 0
        && state
            .places_not_under(state.sealing_version(), None)
            .next()
            .is_none()
    {
        lines.push("all is sealed under it".to_owned());
    }
    lines
}

/// The places of an event, with the versions that their secrets are sealed under from then on.
pub(crate) fn resealed_text(resealed: &[Resealed]) -> String {
    let place = |place: &Place| match place {
        Place::Key(key) => key.id.to_string(),
        Place::Sent(to, number) => format!("{number} for {to}"),
        Place::Identity(name) => name.to_string(),
    };
    let text = |group: &Resealed| {
        let versions = group.sealings.iter().map(|(was, now)| {
            let [was, now] = [was, now].map(|s| s.domain_key_version().unwrap_or(0));
            format!("{was}->{now}")
        });
        let versions: Vec<_> = versions.collect();
        format!("{} [{}]", place(&group.place), versions.join(", "))
    };
    let texts: Vec<_> = resealed.iter().map(text).collect();
    texts.join("; ")
}
