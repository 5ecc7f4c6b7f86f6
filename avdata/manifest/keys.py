"""Keys and source ids: how clips and videos are named when the manifest does not say."""

from __future__ import annotations

import hashlib
import os
import re

from avdata.clip import KEY_PATTERN
from avdata.errors import ClipError, Reason

MAX_DEFAULT_KEY = 120  # leaves room for what trim appends

_UNSAFE = re.compile(r"[^A-Za-z0-9_]+")
_URL = re.compile(r"https?://", re.IGNORECASE)
_EMPTY = bytes(16)
_YOUTUBE = re.compile(
    r"https?://(?:(?:www\.|m\.|music\.)?youtube(?:-nocookie)?\.com/"
    r"(?:watch\?(?:[^#]*&)?v=|shorts/|embed/|live/|v/)|youtu\.be/)"
    r"([A-Za-z0-9_-]{11})(?![A-Za-z0-9_-])"
)


def youtube_url(video_id: str) -> str:
    """Return the address of a YouTube video; raise ClipError if the id cannot be one."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{11}", video_id):
        raise ClipError(
            Reason.BAD_URL, f"{video_id!r} is no YouTube id (11 letters, digits, '-' or '_')"
        )
    return f"https://www.youtube.com/watch?v={video_id}"


def default_source_id(url: str) -> str:
    """Return the YouTube id of a YouTube URL, else the file's name and a hash of the whole URL."""
    if match := _YOUTUBE.match(url):
        return match[1]
    name = re.split(r"[?#]", url, maxsplit=1)[0] if _URL.match(url) else url
    stem = os.path.splitext(name.rstrip("/").rsplit("/", 1)[-1])[0]
    return slug(stem, url, 60)


def default_key(dataset: str, source_id: str, start_ms: int | None) -> str:
    """Return `dataset-source_id-start_ms`, made safe (see `safe_key`)."""
    text = f"{dataset}-{source_id}" if dataset else source_id
    return safe_key(text if start_ms is None else f"{text}-{start_ms:08d}")


def safe_key(text: str) -> str:
    """Return `text` if it can be a key, else a slug of it and 12 hex digits of its hash.

    Deterministic; two texts get one key only if 48 bits of their hashes agree.
    """
    if len(text) <= MAX_DEFAULT_KEY and KEY_PATTERN.fullmatch(text):
        return text
    return slug(text, text, MAX_DEFAULT_KEY)


def slug(name: str, whole: str, limit: int) -> str:
    """Return the safe characters of `name` and 12 hex digits of the hash of `whole`."""
    digest = hashlib.blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    safe = _UNSAFE.sub("-", name)[: limit - 13].strip("-")
    return f"{safe}-{digest}" if safe else digest


class KeySet:
    """A set of texts that costs 16 to 48 bytes each: a hash table of 128-bit digests.

    Two different texts are taken for one with a probability below 1e-24 in 1e7 texts.
    """

    def __init__(self) -> None:
        self._slots = 1 << 12
        self._table = bytearray(16 * self._slots)
        self._count = 0

    def add(self, text: str) -> bool:
        """Add `text`; tell whether it was new."""
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if not self._put(digest):
            return False
        self._count += 1
        if 3 * self._count > 2 * self._slots:
            self._grow()
        return True

    def _put(self, digest: bytes) -> bool:
        table, mask = self._table, self._slots - 1
        slot = int.from_bytes(digest[:8], "little") & mask
        while True:
            found = table[16 * slot : 16 * slot + 16]
            if found == digest:
                return False
            if found == _EMPTY:
                table[16 * slot : 16 * slot + 16] = digest
                return True
            slot = (slot + 1) & mask

    def _grow(self) -> None:
        old, self._slots = self._table, 2 * self._slots
        self._table = bytearray(16 * self._slots)
        for at in range(0, len(old), 16):
            digest = bytes(old[at : at + 16])
            if digest != _EMPTY:
                self._put(digest)
