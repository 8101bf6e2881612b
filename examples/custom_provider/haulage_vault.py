"""``vault://NAME/KEY``: files put away in SQLite, one database per vault, in the folder that the profile names."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from providers import base, errors
from providers.receipts import in_order
from providers.schemes import Location, Scheme

LIMITS = base.PartLimits(max_parts=10_000, max_object_bytes=1_000_000_000)  # as large as a blob of SQLite gets
VAULT = Scheme("vault", "haulage_vault", frozenset({"destination"}), "", LIMITS, "bucket")
TABLE = "CREATE TABLE IF NOT EXISTS objects (id INTEGER PRIMARY KEY AUTOINCREMENT, key, visible, data)"


class Vault(base.Destination):
    """One object. Many threads and processes call it, and again after a crash: the database has all of its state."""

    limits = LIMITS

    def __init__(self, at: Location, profile: base.Profile, options: base.Options, services: base.Services) -> None:
        folder = profile.get("folder")
        if not folder:
            raise errors.InvalidValue("profile", profile.name, "one with 'folder', where the vaults are")
        self._file, self._key, self._on_exists = f"{folder}/{at.bucket}.db", at.key, options.on_exists

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._file, timeout=60)) as db, db:
                db.execute(TABLE)
                yield db
        except sqlite3.Error as exc:  # locked for too long, or away: tried again
            raise errors.TransportError(f"vault: {exc}") from exc

    def existing(self) -> base.ObjectStat | None:
        with self._open() as db:
            found = db.execute("SELECT length(data), id FROM objects WHERE key = ? AND visible", [self._key]).fetchone()
        return base.ObjectStat(found[0], base.Validator("version", str(found[1]))) if found else None

    def create_upload(self, plan: base.UploadPlan) -> base.UploadId:
        if plan.size_bytes is None:
            raise errors.LengthUnknown("vault: the size must be known")
        with self._open() as db:
            made = db.execute("INSERT INTO objects VALUES (NULL, ?, 0, zeroblob(?))", [self._key, plan.size_bytes])
        return base.UploadId(str(made.lastrowid))

    def put_part(self, upload: base.UploadId, part: base.Part, body: base.Body) -> base.PartReceipt:
        buffer, start = memoryview(bytearray(base.BUFFER_BYTES)), part.span.start
        while count := body.readinto(buffer):
            with self._open() as db, db.blobopen("objects", "data", self._row(db, upload)) as blob:
                blob.seek(start)
                blob.write(buffer[:count])
            start += count
        return base.PartReceipt(part.number, part.size_bytes)

    def complete_upload(self, upload: base.UploadId, receipts: Sequence[base.PartReceipt]) -> base.ObjectStat:
        size_bytes = sum(each.size_bytes for each in in_order(receipts, None))
        with self._open() as db:
            row = self._row(db, upload)
            others = "FROM objects WHERE key = ? AND visible AND id != ?"
            if self._on_exists in ("fail", "skip") and db.execute(f"SELECT 1 {others}", [self._key, row]).fetchone():
                raise errors.DestinationExists(f"vault: {self._key} exists")
            db.execute(f"DELETE {others}", [self._key, row])
            db.execute("UPDATE objects SET visible = 1 WHERE id = ?", [row])
        return base.ObjectStat(size_bytes, base.Validator("version", upload))

    def abort_upload(self, upload: base.UploadId) -> None:
        with self._open() as db:
            db.execute("DELETE FROM objects WHERE id = ? AND NOT visible", [upload])

    def _row(self, db: sqlite3.Connection, upload: base.UploadId) -> int:
        if db.execute("SELECT id FROM objects WHERE id = ?", [upload]).fetchone() is None:
            raise errors.UploadNotFound("vault: this upload is gone")
        return int(upload)


destination = Vault
