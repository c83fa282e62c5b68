#!/bin/sh
# Makes openssl.txt with the openssl program (3.0 or newer): keys in PKCS#8 and
# SubjectPublicKeyInfo, and what openssl signs, encrypts and agrees on with them, each a name and
# hexadecimal digits. The tests read the text; nobody needs openssl to run them.
# Usage: sh openssl.sh > openssl.txt
set -eu
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
cd "$folder"

printf 'a message that openssl signs' > message

pair() { # name, then genpkey's arguments
    name=$1; shift
    openssl genpkey "$@" -outform DER -out "$name.key"
    openssl pkcs8 -topk8 -nocrypt -inform DER -in "$name.key" -outform DER -out "$name.pkcs8"
    openssl pkey -inform DER -in "$name.pkcs8" -pubout -outform DER -out "$name.spki"
    rm "$name.key"
}
use() { # name, then pkeyutl's arguments
    name=$1; shift
    openssl pkeyutl -keyform DER -inkey "$name.pkcs8" "$@"
}

for bits in 2048 3072 4096; do
    pair rsa$bits -algorithm RSA -pkeyopt rsa_keygen_bits:$bits
    for hash in 256 384 512; do
        use rsa$bits -sign -rawin -in message -digest sha$hash -out rsa$bits-pkcs1-$hash.sig
        use rsa$bits -sign -rawin -in message -digest sha$hash -out rsa$bits-pss-$hash.sig \
            -pkeyopt rsa_padding_mode:pss -pkeyopt rsa_pss_saltlen:digest
    done
    for hash in sha1 sha256; do
        use rsa$bits -encrypt -in message -out rsa$bits-oaep-$hash.enc \
            -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:$hash
    done
done

curve() { # name, openssl's name, digest
    pair "$1" -algorithm EC -pkeyopt "ec_paramgen_curve:$2" -pkeyopt ec_param_enc:named_curve
    use "$1" -sign -rawin -in message -digest "$3" -out "$1.sig"
    pair "$1-peer" -algorithm EC -pkeyopt "ec_paramgen_curve:$2" -pkeyopt ec_param_enc:named_curve
    openssl pkeyutl -derive -keyform DER -inkey "$1.pkcs8" \
        -peerform DER -peerkey "$1-peer.spki" -out "$1.shared"
    rm "$1-peer.pkcs8"
}
curve p256 P-256 sha256
curve p384 P-384 sha384
curve p521 P-521 sha512
pair p256k1 -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1 -pkeyopt ec_param_enc:named_curve
use p256k1 -sign -rawin -in message -digest sha256 -out p256k1.sig

pair ed25519 -algorithm ED25519
use ed25519 -sign -rawin -in message -out ed25519.sig

pair sm2 -algorithm SM2
use sm2 -sign -rawin -in message -digest sm3 -pkeyopt distid:1234567812345678 -out sm2.sig
use sm2 -encrypt -in message -out sm2.enc

# Refused on import: a curve by its parameters, and three primes.
pair p256-explicit -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit
pair rsa2048-three -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_primes:3

# Material wrapped for import to rsa2048: an AES key by OAEP, then p256.pkcs8 with it (RFC 5649).
printf '0123456789abcdef0123456789abcdef' > aes.bin
for hash in sha1 sha256; do
    use rsa2048 -encrypt -in aes.bin -out wrapped-key \
        -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:$hash
    openssl enc -id-aes256-wrap-pad -iv A65959A6 -in p256.pkcs8 -out wrapped-material \
        -K "$(od -An -v -tx1 aes.bin | tr -d ' \n')"
    cat wrapped-key wrapped-material > wrapped-p256-$hash
    rm wrapped-key wrapped-material
done
rm aes.bin

for file in *; do
    printf '%s %s\n' "$file" "$(od -An -v -tx1 "$file" | tr -d ' \n')"
done
