//! Authorization headers that were changed in every small way: none may panic, and none may be
//! accepted that does not say what the right one says.

use super::tests::{ACCESS_KEY, Client, identify, keys};

/// Pseudo-random numbers, the same in every run (Marsaglia, "Xorshift RNGs").
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

const PIECES: [&str; 20] = [
    "AWS4-HMAC-SHA256",
    "Credential=",
    "SignedHeaders=",
    "Signature=",
    ",",
    ", ",
    " ",
    "/",
    ";",
    "=",
    "host",
    "x-amz-date",
    "aws4_request",
    "20150830",
    "us-east-1",
    "kms",
    "AKIAIOSFODNN7EXAMPLE",
    "\t",
    "\u{e9}",
    "",
];

/// The three things a header says, as any reader would tell them; their order does not matter.
fn says(header: &str) -> Vec<String> {
    let mut said: Vec<String> = header
        .split([',', ' '])
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect();
    said.sort();
    said
}

/// Catches a header that makes the server panic, and one that is accepted although it says something
/// else than the one that was signed.
#[test]
fn changed_headers_are_refused() {
    let client = Client::new();
    let right = client.authorization();
    assert!(identify(&client.with_authorization(&right), &keys()).is_ok());
    let mut headers: Vec<String> = Vec::new();
    // Every character replaced, removed and doubled.
    for (at, old) in right.char_indices() {
        let (before, after) = (&right[..at], &right[at + old.len_utf8()..]);
        for new in ['0', 'z', 'A', ' ', ',', ';', '=', '/', '%', '~'] {
            headers.push(format!("{before}{new}{after}"));
        }
        headers.push(format!("{before}{after}"));
        headers.push(format!("{before}{old}{old}{after}"));
    }
    // Pieces in the wrong places, parts cut out, swapped and repeated.
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..30_000 {
        let mut header = right.clone();
        for _ in 0..=dice.below(4) {
            let mut place = || {
                let at = dice.below(header.len() + 1);
                (0..=at)
                    .rev()
                    .find(|at| header.is_char_boundary(*at))
                    .unwrap_or(0)
            };
            let (one, two) = (place(), place());
            let (from, to) = (one.min(two), one.max(two));
            let piece = match dice.below(3) {
                0 => PIECES[dice.below(PIECES.len())].to_owned(),
                1 => header[from..to].to_owned(),
                _ => String::new(),
            };
            match dice.below(3) {
                0 => header.insert_str(from, &piece),
                1 => header.replace_range(from..to, &piece),
                _ => header = format!("{}{piece}", &header[..from]),
            }
        }
        headers.push(header);
    }
    let (mut refused, mut same) = (0, 0);
    for header in &headers {
        // What no HTTP message can hold does not get here.
        if hyper::header::HeaderValue::from_str(header).is_err() {
            continue;
        }
        match identify(&client.with_authorization(header), &keys()) {
            Ok(arn) => {
                assert_eq!(says(header), says(&right), "{header}");
                assert!(arn.ends_with(ACCESS_KEY));
                same += 1;
            }
            Err(error) => {
                assert_eq!(error.status, 400, "{header}");
                refused += 1;
            }
        }
    }
    assert!(
        refused > 30_000 && same > 0,
        "{refused} refused, {same} the same"
    );
}
