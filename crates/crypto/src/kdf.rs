//! Derives keys from a key: the counter mode of NIST SP 800-108r1, section 4.1, over HMAC-SHA-256
//! with a 32-bit counter in front of the fixed input.

use ring::hmac;
use zeroize::Zeroizing;

/// Bytes in one block of the underlying HMAC.
const BLOCK_BYTES: usize = 32;

/// Fills `out` from `key` and the fixed input, which is given in parts.
pub(crate) fn counter_mode(key: &hmac::Key, fixed_input: &[&[u8]], out: &mut [u8]) {
    for (block, counter) in out.chunks_mut(BLOCK_BYTES).zip(1u32..) {
        let mut prf = hmac::Context::with_key(key);
        prf.update(&counter.to_be_bytes());
        for part in fixed_input {
            prf.update(part);
        }
        block.copy_from_slice(&prf.sign().as_ref()[..block.len()]);
    }
}

/// Derives `N` bytes for the purpose `label` and this `context`.
///
/// The fixed input is the one SP 800-108 recommends: label, a zero byte, context, and the output's
/// length in bits. Labels contain no zero byte, and each label's context has a fixed shape, so no
/// two purposes share an input.
pub(crate) fn derive<const N: usize>(
    key: &hmac::Key,
    label: &str,
    context: &[&[u8]],
) -> Zeroizing<[u8; N]> {
    let bits = u32::try_from(N * 8).expect("derived keys are shorter than 512 MiB");
    let bits = bits.to_be_bytes();
    let mut fixed_input: [&[u8]; 8] = [&[]; 8];
    fixed_input[0] = label.as_bytes();
    fixed_input[1] = &[0];
    fixed_input[2..2 + context.len()].copy_from_slice(context);
    fixed_input[2 + context.len()] = &bits;
    let mut out = Zeroizing::new([0; N]);
    counter_mode(key, &fixed_input, out.as_mut_slice());
    out
}

/// The HMAC key over secret bytes.
///
/// ring does not zero its keys, so this one lives no longer than one derivation.
pub(crate) fn prf_key(secret: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(text: &str) -> Vec<u8> {
        let digit = |b: u8| (b as char).to_digit(16).unwrap() as u8;
        text.as_bytes()
            .chunks(2)
            .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
            .collect()
    }

    /// Catches a counter mode that differs from the standard's. Source: NIST CAVP, KDFCTR_gen,
    /// HMAC_SHA256, counter before the fixed data, 32 bits, L = 128, count 0.
    #[test]
    fn counter_mode_gives_the_published_answer() {
        let key = unhex("dd1d91b7d90b2bd3138533ce92b272fbf8a369316aefe242e659cc0ae238afe0");
        let fixed_input = unhex(concat!(
            "01322b96b30acd197979444e468e1c5c6859bf1b1cf951b7e725303e237e46b8",
            "64a145fab25e517b08f8683d0315bb2911d80a0e8aba17f3b413faac",
        ));
        let mut out = [0; 16];
        counter_mode(&prf_key(&key), &[&fixed_input], &mut out);
        assert_eq!(out.to_vec(), unhex("10621342bfb0fd40046c0e29f2cfdbf0"));
    }

    /// Catches a second block that repeats the first, and parts that are joined wrongly: the same
    /// output is computed here without the loop.
    #[test]
    fn blocks_follow_the_counter() {
        let key = prf_key(b"a key");
        let derived = derive::<48>(&key, "label", &[b"con", b"text"]);
        let block = |counter: u8| {
            let input = [&[0, 0, 0, counter][..], b"label\0context", &[0, 0, 1, 128]].concat();
            hmac::sign(&key, &input).as_ref().to_vec()
        };
        let expected = [block(1), block(2)].concat();
        assert_eq!(derived.as_slice(), &expected[..48]);
    }
}
