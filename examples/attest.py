#!/usr/bin/env python3
"""Makes an attestation document without an enclave, to test what an enclave does with KMS.

    python3 examples/attest.py FOLDER

The first run makes in FOLDER a root certificate (root.pem), a signer below it, and the key of an
"enclave" (enclave.key). Each run writes a new document for that key, FOLDER/document, which is good for
five minutes. Needs the openssl program, version 3.
"""

import pathlib
import subprocess
import sys
import time

CONFIG = """[req]
distinguished_name = name
[name]
[root]
basicConstraints = critical, CA:TRUE
[signer]
basicConstraints = critical, CA:FALSE
"""

PROTECTED = bytes.fromhex("a1013822")  # {1: -35}, ES384


def openssl(*arguments, stdin=None):
    done = subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, cwd=folder)
    if done.returncode:
        sys.exit(f"openssl {' '.join(arguments)}:\n{done.stderr.decode()}")
    return done.stdout


def cbor(value):
    """A value in CBOR; of Python's types only those that a document has."""

    def head(kind, number):
        for more, length in ((24, 1), (25, 2), (26, 4), (27, 8)):
            if number < 24:
                return bytes([kind << 5 | number])
            if number < 1 << 8 * length:
                return bytes([kind << 5 | more]) + number.to_bytes(length, "big")

    if value is None:
        return b"\xf6"
    if isinstance(value, int):
        return head(0, value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(cbor, value))
    items = (cbor(key) + cbor(item) for key, item in value.items())
    return head(5, len(value)) + b"".join(items)


def sign(message):
    """ES384: the two numbers of a DER signature, 48 bytes each."""
    der = openssl("dgst", "-sha384", "-sign", "signer.key", stdin=message)
    numbers, at = b"", 2
    for _ in range(2):
        end = at + 2 + der[at + 1]
        numbers += int.from_bytes(der[at + 2 : end], "big").to_bytes(48, "big")
        at = end
    return numbers


def certificate(name, *by):
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-noenc", "-keyout", f"{name}.key")
    form = ("-x509", "-sha384", "-days", "3650", "-subj", f"/CN=test {name}")
    openssl("req", "-config", "config", "-extensions", name, *curve, *form, *by, "-out", f"{name}.pem")


folder = pathlib.Path(sys.argv[1] if len(sys.argv) == 2 else sys.exit(__doc__))
if not (folder / "enclave.key").exists():
    folder.mkdir(exist_ok=True)
    (folder / "config").write_text(CONFIG)
    certificate("root")
    certificate("signer", "-CA", "root.pem", "-CAkey", "root.key")
    openssl("genrsa", "-out", "enclave.key", "2048")

payload = cbor({
    "module_id": "i-0123456789abcdef0-enc0123456789abcdef",
    "digest": "SHA384",
    "timestamp": int(time.time() * 1000),
    "pcrs": {index: bytes(48) for index in range(16)},  # zeros, as in debug mode
    "certificate": openssl("x509", "-in", "signer.pem", "-outform", "DER"),
    "cabundle": [openssl("x509", "-in", "root.pem", "-outform", "DER")],
    "public_key": openssl("pkey", "-in", "enclave.key", "-pubout", "-outform", "DER"),
    "user_data": None,
    "nonce": None,
})
signature = sign(cbor(["Signature1", PROTECTED, b"", payload]))
(folder / "document").write_bytes(cbor([PROTECTED, {}, payload, signature]))
