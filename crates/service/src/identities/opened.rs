//! Secrets of identities, opened and kept: opening one costs more than checking a signature with it.
//!
//! What is kept is found by the sealed bytes it was opened from. So whoever asks must have looked these
//! up in a state just before, as for every request: a secret that the state does not hold any more, or
//! holds sealed otherwise, is not found here.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use keyrum_types::SealedMaterial;

/// Most secrets kept of a kind. Unit: secrets of about 200 bytes with what they were opened from.
const KEPT_MAX: usize = 1024;

/// The opened secrets of one kind that were used last. Each has one place it may be in, so room and work
/// are bounded; where two want one place, each is opened again when its turn comes. What leaves its place
/// is zeroed by its own type, once nobody uses it.
pub(crate) struct Opened<T>(OnceLock<Box<[Place<T>]>>);

type Place<T> = Mutex<Option<(SealedMaterial, Arc<T>)>>;

impl<T> Default for Opened<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T> Opened<T> {
    /// What `sealed` holds: what is kept, if it is also `wanted`, or what `open` gives, which is kept
    /// then.
    ///
    /// `wanted` says whether a secret belongs to the name that `open` would check: the same sealed bytes
    /// under another name open nothing.
    pub(crate) fn get<E>(
        &self,
        sealed: &SealedMaterial,
        wanted: impl FnOnce(&T) -> bool,
        open: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let places = self
            .0
            .get_or_init(|| (0..KEPT_MAX).map(|_| Mutex::default()).collect());
        let place = &places[place_of(sealed)];
        // A panic elsewhere cannot leave half a secret behind.
        let lock = || place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((from, opened)) = &*lock()
            && from == sealed
            && wanted(opened)
        {
            return Ok(opened.clone());
        }
        let opened = Arc::new(open()?);
        *lock() = Some((sealed.clone(), opened.clone()));
        Ok(opened)
    }
}

/// By what sealed bytes end with: a tag, which is as good as random.
fn place_of(sealed: &SealedMaterial) -> usize {
    let end = sealed.0.last_chunk::<8>();
    end.map_or(0, |end| u64::from_be_bytes(*end) as usize % KEPT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(number: usize) -> SealedMaterial {
        SealedMaterial(number.to_be_bytes().into())
    }

    /// Catches a secret that is given for other sealed bytes or for another name than it was opened
    /// for, one that is opened each time, and room that grows without bound.
    #[test]
    fn secrets_belong_to_their_sealed_bytes_and_names() {
        let kept = Opened::<(usize, char)>::default();
        let ask = |number: usize, name: char| {
            let mut was_opened = false;
            let found = kept.get(
                &sealed(number),
                |(_, own)| *own == name,
                || {
                    was_opened = true;
                    Ok::<_, ()>((number, name))
                },
            );
            assert_eq!(*found.unwrap(), (number, name));
            was_opened
        };
        for number in 0..3 * KEPT_MAX {
            assert!(ask(number, 'a'), "{number}");
            assert!(!ask(number, 'a'), "{number}");
            assert!(ask(number, 'b'), "{number}");
        }
        let places = kept.0.get().unwrap();
        assert_eq!(places.len(), KEPT_MAX);
        let failed = kept.get(&sealed(usize::MAX), |_| true, || Err("damaged"));
        assert_eq!(failed, Err("damaged"));
    }

    /// Catches a secret that outlives its place.
    #[test]
    fn secrets_that_are_pushed_out_are_dropped() {
        let kept = Opened::<usize>::default();
        let open = |number: usize| {
            let found = kept.get(&sealed(number), |_| true, || Ok::<_, ()>(number));
            Arc::downgrade(&found.unwrap())
        };
        let first = open(0);
        let same_place = (1..).find(|other| place_of(&sealed(*other)) == place_of(&sealed(0)));
        assert!(first.upgrade().is_some());
        open(same_place.unwrap());
        assert!(first.upgrade().is_none());
    }
}
