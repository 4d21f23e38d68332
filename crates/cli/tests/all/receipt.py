"""Checks a receipt by what its formats say and nothing of ours: DSSE, in-toto, signed notes, RFC 6962."""

import base64
import hashlib
import json
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

receipt, key_file, output = sys.argv[1:]


def sha256(data):
    return hashlib.sha256(data).digest()


# A verifier key of signed notes: name, id, and base64 of the algorithm (1 is Ed25519) with the key.
name, key_id, key = open(key_file).read().strip().split("+", 2)
key = base64.b64decode(key)
assert key[0] == 1 and sha256(name.encode() + b"\n" + key)[:4].hex() == key_id
public_key = Ed25519PublicKey.from_public_bytes(key[1:])

# DSSE: the signature is over type and payload, each after its length.
envelope = json.load(open(receipt))
payload = base64.b64decode(envelope["payload"])
kind = envelope["payloadType"].encode()
signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
public_key.verify(base64.b64decode(envelope["signatures"][0]["sig"]), signed)

# in-toto: the statement is about the output.
statement = json.loads(payload)
assert kind == b"application/vnd.in-toto+json"
assert statement["_type"] == "https://in-toto.io/Statement/v1"
assert statement["subject"][0]["digest"]["sha256"] == sha256(output.encode()).hex()
predicate = statement["predicate"]
log = predicate["log"]

# The checkpoint: a note of origin, size and root, and a signature after the key's id.
text, signature = log["checkpoint"].rsplit("\n\n— ", 1)
signature = base64.b64decode(signature.split(" ")[1])
assert signature[:4].hex() == key_id
public_key.verify(signature[4:], text.encode() + b"\n")
origin, size, root = text.split("\n")
assert (origin, int(size), root) == (log["origin"], log["tree_size"], log["root"])

# RFC 6962 (as RFC 9162, section 2.1.3.2, words it): from the leaf to the root.
leaf = base64.b64decode(log["leaf"])
node, index, last = sha256(b"\0" + leaf), log["index"], log["tree_size"] - 1
assert base64.b64decode(log["leaf_hash"]) == node
for neighbour in map(base64.b64decode, log["proof"]):
    assert last > 0
    if index % 2 == 1 or index == last:
        node = sha256(b"\1" + neighbour + node)
        while index % 2 == 0 and index != 0:
            index, last = index // 2, last // 2
    else:
        node = sha256(b"\1" + node + neighbour)
    index, last = index // 2, last // 2
assert last == 0 and node == base64.b64decode(root)

# The record says what the statement says.
record = json.loads(leaf)
assert record["sequence"] == log["index"]
execution = record["execution"]
assert execution["instance_id"] == predicate["execution_id"]
assert execution["fuel"] == predicate["fuel"]
assert execution["receipt"]["output"] == predicate["output"]
assert record["agent"]["module"] == predicate["agent"]["module"]
print("record", log["index"], "of", log["tree_size"])
