//! A key's grants by whom they are for, so that a request looks only at those that may allow it.
//!
//! A grantee may have thousands of grants on one key, such as one for each of its customers, told apart by
//! their encryption contexts. So those of one grantee lie under marks: numbers that follow from a
//! constraint, and that a request which meets the constraint has too; and beside each grant stand all
//! marks that it asks for. A mark only spares looking: two constraints may share one.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyrum_types::GrantId;
use rpds::RedBlackTreeMapSync as Map;

use crate::{Grant, GrantConstraints, GrantPrincipal, KeyRef};

/// So few grants are all looked at: to work out a request's marks takes longer.
const FEW: usize = 4;

/// The mark of a grant that asks for no encryption context.
const OPEN: u64 = 0;

/// Grants by key, whether they are for a service, grantee, mark and id.
#[derive(Clone)]
pub(crate) struct Granted(Map<(KeyRef, bool), Map<String, Theirs>>);

/// One grantee's grants on a key.
#[derive(Clone)]
pub(crate) struct Theirs {
    /// How many they are; not 0.
    count: usize,
    /// By one of the marks that each asks for. Under none there is nothing.
    under: Map<u64, Map<GrantId, Marked>>,
}

struct Marked {
    /// The marks of every request that may meet the constraints, in no order.
    asks_for: Box<[u64]>,
    grant: Arc<Grant>,
}

impl Granted {
    pub(crate) fn new() -> Self {
        Self(Map::new_sync())
    }

    pub(crate) fn put(&mut self, grant: &Arc<Grant>) {
        let (place, name) = place_of(grant);
        let (mark, asks_for) = marks_asked_for(&grant.terms.constraints);
        let mut names = self.0.get(&place).cloned().unwrap_or_else(Map::new_sync);
        let mut theirs = names.get(name).cloned().unwrap_or_else(|| Theirs {
            count: 0,
            under: Map::new_sync(),
        });
        let mut marked = theirs
            .under
            .get(&mark)
            .cloned()
            .unwrap_or_else(Map::new_sync);
        let before = marked.size();
        let grant = Arc::clone(grant);
        marked.insert_mut(grant.id, Marked { asks_for, grant });
        theirs.count += marked.size() - before;
        theirs.under.insert_mut(mark, marked);
        names.insert_mut(name.to_owned(), theirs);
        self.0.insert_mut(place, names);
    }

    pub(crate) fn remove(&mut self, grant: &Grant) {
        let (place, name) = place_of(grant);
        let (mark, _) = marks_asked_for(&grant.terms.constraints);
        let Some(names) = self.0.get(&place) else {
            return;
        };
        let Some(mut theirs) = names.get(name).cloned() else {
            return;
        };
        let Some(mut marked) = theirs.under.get(&mark).cloned() else {
            return;
        };
        theirs.count -= usize::from(marked.remove_mut(&grant.id));
        match marked.is_empty() {
            true => _ = theirs.under.remove_mut(&mark),
            false => theirs.under.insert_mut(mark, marked),
        }
        let names = match theirs.count {
            0 => names.remove(name),
            _ => names.insert(name.to_owned(), theirs),
        };
        match names.is_empty() {
            true => _ = self.0.remove_mut(&place),
            false => self.0.insert_mut(place, names),
        }
    }

    /// A key's grants to principals of IAM or to services.
    pub(crate) fn on(&self, key: KeyRef, services: bool) -> Option<&Map<String, Theirs>> {
        self.0.get(&(key, services))
    }
}

fn place_of(grant: &Grant) -> ((KeyRef, bool), &str) {
    match &grant.terms.grantee {
        GrantPrincipal::Aws(name) => ((grant.key, false), name),
        GrantPrincipal::Service(name) => ((grant.key, true), name),
    }
}

impl Theirs {
    /// Those whose constraints a request with this encryption context may meet; all of them, if that of
    /// the operation does not count (`None`).
    pub(crate) fn candidates<'s>(
        &'s self,
        context: Option<&BTreeMap<String, String>>,
    ) -> impl Iterator<Item = &'s Arc<Grant>> + use<'s> {
        let marks = context.filter(|_| self.count > FEW).map(marks_of);
        // A context may have more pairs than there are marks.
        let looked_up = (marks.as_ref()).filter(|marks| marks.len() < self.under.size());
        let all = looked_up.is_none().then(|| self.under.values());
        let some = looked_up.into_iter().flatten();
        let some: Vec<_> = some.filter_map(|mark| self.under.get(mark)).collect();
        let marked = all.into_iter().flatten().chain(some).flat_map(Map::values);
        let may_be_met = move |marked: &&Marked| match &marks {
            None => true,
            Some(marks) => {
                let mut asks_for = marked.asks_for.iter();
                asks_for.all(|mark| marks.binary_search(mark).is_ok())
            }
        };
        marked.filter(may_be_met).map(|marked| &marked.grant)
    }
}

/// The marks that grants with these constraints ask for, and the one that they lie under.
fn marks_asked_for(constraints: &GrantConstraints) -> (u64, Box<[u64]>) {
    if let Some(equals) = &constraints.context_equals {
        let mark = whole(equals);
        return (mark, [mark].into());
    }
    let pairs = constraints.context_subset.iter().flatten();
    let marks = pairs.clone().map(|(key, value)| mark_of_pair(key, value));
    // The longest pair: names of customers are longer than names of stages.
    let longest = pairs.max_by_key(|(key, value)| (key.len() + value.len(), *key));
    let mark = longest.map_or(OPEN, |(key, value)| mark_of_pair(key, value));
    (mark, marks.collect())
}

/// The marks that a request with this context has, in order.
fn marks_of(context: &BTreeMap<String, String>) -> Vec<u64> {
    let pairs = context.iter().map(|(key, value)| mark_of_pair(key, value));
    let mut marks: Vec<u64> = [OPEN, whole(context)].into_iter().chain(pairs).collect();
    marks.sort_unstable();
    marks.dedup();
    marks
}

/// The mark of a context as a whole. Keys that differ in case alone, with one value, are one.
fn whole(context: &BTreeMap<String, String>) -> u64 {
    let pairs = context.iter().map(|(key, value)| mark_of_pair(key, value));
    let mut pairs: Vec<u64> = pairs.collect();
    pairs.sort_unstable();
    pairs.dedup();
    mark(pairs.into_iter().flat_map(u64::to_be_bytes))
}

/// Constraints mind the case of values and not of keys.
fn mark_of_pair(key: &str, value: &str) -> u64 {
    let key = key.bytes().map(|byte| byte.to_ascii_lowercase());
    mark(key.chain([0]).chain(value.bytes()))
}

/// FNV-1a; never [`OPEN`]. Who chooses contexts whose marks meet only has own grants looked at.
fn mark(bytes: impl Iterator<Item = u8>) -> u64 {
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.max(OPEN + 1)
}

#[cfg(test)]
mod tests {
    use keyrum_authz::constraints_met;
    use keyrum_types::{GrantOperation, KeyId, UnixMillis};

    use super::*;
    use crate::GrantTerms;

    type Pairs = BTreeMap<String, String>;

    fn grant(number: u16, constraints: GrantConstraints) -> Arc<Grant> {
        let account = "111122223333".parse().unwrap();
        let mut id = [0; 32];
        id[..2].copy_from_slice(&number.to_be_bytes());
        Arc::new(Grant {
            key: KeyRef {
                account,
                id: KeyId::single_region([1; 16]),
            },
            id: GrantId(id),
            issuer: account,
            created: UnixMillis(0),
            terms: GrantTerms {
                name: None,
                grantee: GrantPrincipal::Aws("ada".to_owned()),
                retiring: None,
                operations: vec![GrantOperation::Encrypt],
                constraints,
            },
        })
    }

    fn pairs(seed: usize) -> Pairs {
        const KEYS: [&str; 4] = ["a", "A", "Tenant", "tenant"];
        const VALUES: [&str; 3] = ["1", "b", "B"];
        let mut seed = seed;
        let mut draw = |of: usize| {
            let drawn = seed % of;
            seed /= of;
            drawn
        };
        let count = draw(4);
        let pair = |_| (KEYS[draw(4)].to_owned(), VALUES[draw(3)].to_owned());
        (0..count).map(pair).collect()
    }

    /// Catches a grant that a request would be allowed by and that is not looked at; one that is looked at
    /// after it is gone; and an index that looks at all of a thousand although one is meant.
    #[test]
    fn marks_spare_no_grant_that_counts() {
        let mut granted = Granted::new();
        let mut grants = Vec::new();
        for number in 0..600_usize {
            let some = |at: usize| Some(pairs(number * 7919 + at));
            let constraints = match number % 5 {
                0 => GrantConstraints::default(),
                1 | 2 => GrantConstraints {
                    context_equals: some(1),
                    ..GrantConstraints::default()
                },
                3 => GrantConstraints {
                    context_subset: some(2),
                    ..GrantConstraints::default()
                },
                _ => GrantConstraints {
                    context_equals: some(3),
                    context_subset: some(4),
                    source_arn: None,
                },
            };
            grants.push(grant(number as u16, constraints));
            granted.put(&grants[number]);
        }
        let key = grants[0].key;
        while !grants.is_empty() {
            let theirs = granted.on(key, false).unwrap().get("ada").unwrap();
            for seed in 0..500 {
                let context = pairs(seed * 104_729);
                let looked_at: Vec<_> = theirs.candidates(Some(&context)).map(|g| g.id).collect();
                for grant in &grants {
                    let constraints = &grant.terms.constraints.view();
                    let encrypt = GrantOperation::Encrypt;
                    if constraints_met(constraints, encrypt, &context, None) {
                        assert!(looked_at.contains(&grant.id), "{context:?} {grant:?}");
                    }
                }
            }
            assert_eq!(theirs.candidates(None).count(), grants.len());
            for _ in 0..200 {
                granted.remove(&grants.pop().unwrap());
            }
        }
        assert!(granted.on(key, false).is_none());

        for number in 0..1000 {
            let tenant = ("tenant".to_owned(), number.to_string());
            let stage = ("stage".to_owned(), "p".to_owned());
            let both = Pairs::from([tenant, stage]);
            let constraints = match number % 2 {
                0 => GrantConstraints {
                    context_equals: Some(both),
                    ..GrantConstraints::default()
                },
                _ => GrantConstraints {
                    context_subset: Some(both),
                    ..GrantConstraints::default()
                },
            };
            granted.put(&grant(number, constraints));
        }
        let theirs = granted.on(key, false).unwrap().get("ada").unwrap();
        for (tenant, stage, count) in [("10", "p", 1), ("11", "p", 1), ("none", "p", 0)] {
            let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
            let context = Pairs::from([pair("tenant", tenant), pair("stage", stage)]);
            assert_eq!(theirs.candidates(Some(&context)).count(), count, "{tenant}");
        }

        // Alike in what they lie under.
        for number in 0..1000 {
            let tenant = ("tenant".to_owned(), number.to_string());
            let service = ("service".to_owned(), "long name of all".to_owned());
            let constraints = GrantConstraints {
                context_subset: Some(Pairs::from([tenant, service])),
                ..GrantConstraints::default()
            };
            granted.put(&grant(1000 + number, constraints));
        }
        let theirs = granted.on(key, false).unwrap().get("ada").unwrap();
        let context = Pairs::from([
            ("Service".to_owned(), "long name of all".to_owned()),
            ("tenant".to_owned(), "17".to_owned()),
        ]);
        let found: Vec<_> = theirs
            .candidates(Some(&context))
            .map(|g| g.id.0[..2].to_vec())
            .collect();
        assert_eq!(found, [1017_u16.to_be_bytes()]);
    }
}
