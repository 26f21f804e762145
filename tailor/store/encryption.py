"""Keys of users: a name for looking them up, a token for their rows, a key for their words.

AES-256-GCM (package cryptography) and HMAC-SHA256 (hmac).
"""

import hmac
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tailor.errors import StoreError

MASTER, MASTER_FILE = "TAILOR_MASTER_KEY", "TAILOR_MASTER_KEY_FILE"
NONCE, KEY = 12, 32  # bytes
LEAST = 32  # characters of a master key
DIGEST = 32  # characters of a digest


class KeysError(StoreError):
    """The keys do not fit the store: its operator must mend that, no caller can."""


@dataclass(frozen=True)
class Subject:
    """A user as the store knows one: rows carry the token, words are encrypted with the key."""

    user_id: str
    token: str
    key: bytes

    @classmethod
    def new(cls, user_id: str) -> "Subject":
        """Make a token and a key for a user."""
        return cls(user_id, secrets.token_hex(12), secrets.token_bytes(KEY))

    def digest(self, text: str) -> str:
        """Return a digest that only the holder of this key can make."""
        names_key = hmac.digest(self.key, b"names", "sha256")
        return hmac.digest(names_key, text.encode(), "sha256").hex()[:DIGEST]

    def encrypt(self, value: Any, location: str) -> bytes:
        """Encrypt a JSON value; it can be decrypted with this key and this location only."""
        return _encrypt(self.key, json.dumps(value).encode(), f"{self.token} {location}")

    def decrypt(self, sealed: bytes, location: str) -> Any:
        """Return an encrypted value. Raises KeysError for a foreign or damaged one."""
        try:
            return json.loads(_decrypt(self.key, sealed, f"{self.token} {location}"))
        except InvalidTag:
            raise KeysError(
                f"{location}: a value does not open with its person's key: the row is damaged, or"
                " was put there by hand"
            ) from None


class Seal:
    """Protects the entries of the key store with a master key.

    Ids and keys are encrypted, and looked up by a keyed digest. Without a master key they are
    stored as they are.
    """

    def __init__(self, master: str | None = None) -> None:
        if master is not None and len(master) < LEAST:
            raise StoreError(
                f"the master key has {len(master)} characters: give at least {LEAST}, such as"
                " `openssl rand -hex 32` prints"
            )
        root = b"tailor" if master is None else master.encode()
        self._name_key = hmac.digest(root, b"names", "sha256")
        self._key = None if master is None else hmac.digest(root, b"keys", "sha256")

    @classmethod
    def of_environment(cls) -> "Seal":
        """Read the master key from the environment.

        TAILOR_MASTER_KEY_FILE names a file with it, TAILOR_MASTER_KEY holds it; without both there
        is none.
        """
        path = os.environ.get(MASTER_FILE)
        return cls.of_file(Path(path)) if path else cls(os.environ.get(MASTER) or None)

    @classmethod
    def of_file(cls, path: Path) -> "Seal":
        """Read the master key from a file. Raises StoreError where that cannot be read."""
        try:
            return cls(path.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(
                f"the file of the master key, {path}, cannot be read ({error})"
            ) from None

    def name(self, tenant: str, user_id: str) -> str:
        """Return the digest by which a user's entry is looked up."""
        return hmac.digest(self._name_key, f"{tenant}\0{user_id}".encode(), "sha256").hex()

    @property
    def has_master_key(self) -> bool:
        """True if there is a master key."""
        return self._key is not None

    @property
    def check(self) -> str:
        """A digest that is the same for every seal of one master key, and for no other."""
        return self.name("", "check")

    def encrypt(self, plain: bytes, location: str) -> bytes:
        """Encrypt with the master key, if there is one."""
        return plain if self._key is None else _encrypt(self._key, plain, location)

    def decrypt(self, sealed: bytes, location: str) -> bytes:
        """Decrypt with the master key. Raises KeysError where another one encrypted it."""
        if self._key is None:
            return sealed
        try:
            return _decrypt(self._key, sealed, location)
        except InvalidTag:
            raise KeysError(
                f"{location}: a key does not open with this master key: {MASTER} or {MASTER_FILE}"
                " must be what it was"
            ) from None

    def wrap(self, subject: Subject) -> bytes:
        """Return a subject's key and id as the key store holds them."""
        return self.encrypt(subject.key + subject.user_id.encode(), subject.token)

    def unwrap(self, token: str, sealed: bytes) -> Subject:
        """Return the subject of an entry."""
        plain = self.decrypt(sealed, token)
        return Subject(plain[KEY:].decode(), token, plain[:KEY])


def _encrypt(key: bytes, plain: bytes, location: str) -> bytes:
    nonce = os.urandom(NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plain, location.encode())


def _decrypt(key: bytes, sealed: bytes, location: str) -> bytes:
    return AESGCM(key).decrypt(sealed[:NONCE], sealed[NONCE:], location.encode())
