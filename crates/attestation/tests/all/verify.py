"""Verifies a signature by a certificate's key: verify.py CERTIFICATE MESSAGE SIGNATURE ALGORITHM"""

import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

certificate, message, signature, algorithm = sys.argv[1:]
key = x509.load_pem_x509_certificate(Path(certificate).read_bytes()).public_key()
message, signature = Path(message).read_bytes(), Path(signature).read_bytes()
match algorithm:
    case "SHA256withRSA":
        key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    case "ECDSA-P256":
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    case "ECDSA-P384":
        key.verify(signature, message, ec.ECDSA(hashes.SHA384()))
    case "Ed25519":
        key.verify(signature, message)
print("holds")
