"""What makes a person's rows theirs: a name for looking up, a token and a key. AES-256-GCM and
HMAC-SHA256 (package cryptography, hmac).
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


class KeysError(StoreError):
    """People's keys do not fit the store: whoever runs it must mend that; no caller can."""


@dataclass(frozen=True)
class Subject:
    """A person as the store knows one: rows hold the token, and what the key closes."""

    user_id: str
    token: str
    key: bytes

    @classmethod
    def new(cls, user_id: str) -> "Subject":
        return cls(user_id, secrets.token_hex(12), secrets.token_bytes(KEY))

    def encrypt(self, value: Any, where: str) -> bytes:
        """A JSON value that only this person's key opens, and only as what stands in `where`."""
        return _encrypt(self.key, json.dumps(value).encode(), f"{self.token} {where}")

    def decrypt(self, sealed: bytes, where: str) -> Any:
        """What was closed. Raises KeysError where it is another's, or damaged."""
        try:
            return json.loads(_decrypt(self.key, sealed, f"{self.token} {where}"))
        except InvalidTag:
            raise KeysError(
                f"{where}: a value does not open with its person's key: the row is damaged, or was"
                " put there by hand"
            ) from None


class Seal:
    """How people stand in the key store: under a master key ids and keys are closed, and looked up
    by a keyed digest; without one they lie open there.
    """

    def __init__(self, master: str | None = None) -> None:
        if master is not None and len(master) < LEAST:
            raise StoreError(
                f"the master key has {len(master)} characters: give at least {LEAST}, such as"
                " `openssl rand -hex 32` prints"
            )
        given = b"tailor" if master is None else master.encode()
        self._names = hmac.digest(given, b"names", "sha256")
        self._box = None if master is None else hmac.digest(given, b"keys", "sha256")

    @classmethod
    def of_environment(cls) -> "Seal":
        """By TAILOR_MASTER_KEY, or what the file holds that TAILOR_MASTER_KEY_FILE names; without
        both, none.
        """
        path = os.environ.get(MASTER_FILE)
        return cls.of_file(Path(path)) if path else cls(os.environ.get(MASTER) or None)

    @classmethod
    def of_file(cls, path: Path) -> "Seal":
        try:
            return cls(path.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(
                f"the file of the master key, {path}, cannot be read ({error})"
            ) from None

    def name(self, tenant: str, user_id: str) -> str:
        """By which a person is looked up."""
        return hmac.digest(self._names, f"{tenant}\0{user_id}".encode(), "sha256").hex()

    @property
    def is_closed(self) -> bool:
        """Whether there is a master key."""
        return self._box is not None

    @property
    def check(self) -> str:
        """The same for every seal of one master key, and for no other."""
        return self.name("", "check")

    def encrypt(self, plain: bytes, where: str) -> bytes:
        return plain if self._box is None else _encrypt(self._box, plain, where)

    def decrypt(self, sealed: bytes, where: str) -> bytes:
        """Raises KeysError where another master key closed it."""
        try:
            return sealed if self._box is None else _decrypt(self._box, sealed, where)
        except InvalidTag:
            raise KeysError(
                f"{where}: a key does not open with this master key: {MASTER} or {MASTER_FILE} must"
                " be what it was"
            ) from None

    def wrap(self, subject: Subject) -> bytes:
        """A subject's id and key, as the key store holds them."""
        return self.encrypt(subject.key + subject.user_id.encode(), subject.token)

    def unwrap(self, token: str, sealed: bytes) -> Subject:
        plain = self.decrypt(sealed, token)
        return Subject(plain[KEY:].decode(), token, plain[:KEY])


def _encrypt(key: bytes, plain: bytes, where: str) -> bytes:
    nonce = os.urandom(NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plain, where.encode())


def _decrypt(key: bytes, sealed: bytes, where: str) -> bytes:
    return AESGCM(key).decrypt(sealed[:NONCE], sealed[NONCE:], where.encode())
