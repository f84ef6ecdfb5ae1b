"""The store of generations: everything that an LLM answered, in one SQLite database per LLM.

A generation is kept under the hash of model, revision, prompt, decoding parameters and input text; it is never
changed, so that stores can be merged in any order and answers can be passed on as lines of JSON.
"""

import fcntl
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from espnet_ctx.context.llm import Answer, Decoding
from espnet_ctx.context.prompts import Prompt
from espnet_ctx.context.provenance import sha256_of
from espnet_ctx.files import UserError, whole_file

VERSION = 1
PATIENCE = 60.0  # seconds to wait for another process that is writing
SCHEMA = """
CREATE TABLE setting (id INTEGER PRIMARY KEY, sha256 TEXT UNIQUE NOT NULL, content TEXT NOT NULL);
CREATE TABLE maker (id INTEGER PRIMARY KEY, content TEXT UNIQUE NOT NULL);
CREATE TABLE generation (
    key TEXT PRIMARY KEY, setting INTEGER NOT NULL REFERENCES setting, maker INTEGER NOT NULL REFERENCES maker,
    input TEXT NOT NULL, output TEXT NOT NULL, truncated INTEGER NOT NULL,
    tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, seconds REAL NOT NULL, created TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX generation_by_setting ON generation (setting);
"""
FIELDS = {
    "input": str,
    "output": str,
    "truncated": int,
    "tokens_in": int,
    "tokens_out": int,
    "seconds": (int, float),
    "created": str,
}
COLUMNS = ", ".join(FIELDS)


@dataclass(frozen=True)
class Setting:
    """All that decides an answer but the input.

    Attributes:
        llm: the model's identity (see `llm.identify`).
        prompt: name and hash of what is asked; the name does not count.
        decoding: see `Decoding.as_dict`.
    """

    llm: Mapping[str, Any]
    prompt: Mapping[str, str]
    decoding: Mapping[str, Any]

    @classmethod
    def of(cls, llm: Mapping[str, Any], prompt: Prompt, decoding: Decoding) -> "Setting":
        """The setting of a run."""
        return cls(llm, {"name": prompt.name, "asked_sha256": prompt.asked_sha256}, decoding.as_dict())

    @property
    def content(self) -> dict[str, Any]:
        """As it is stored and exported."""
        return {"llm": dict(self.llm), "prompt": dict(self.prompt), "decoding": dict(self.decoding)}

    @property
    def sha256(self) -> str:
        """Hash of what counts."""
        return sha256_of([dict(self.llm), self.prompt["asked_sha256"], dict(self.decoding)])

    def key(self, text: str) -> str:
        """Under which the answer to an input is kept."""
        return sha256_of([self.sha256, text])


class Generations:
    """A store, open; use it as a context manager.

    Several processes may read and write one store on the same machine. On shared disks of a cluster each job
    writes a store of its own (see `part_path`), to be merged: SQLite's log does not work over a network.

    Args:
        path: the database; made when it is not there (unless `read_only`).
        read_only: write nothing.

    Raises:
        UserError: on opening or at any later call: not a store, damaged, locked for longer than `PATIENCE`, or
            the disk is full. What was stored before is kept.
    """

    def __init__(self, path, read_only: bool = False):
        self.path = Path(path)
        if read_only and not self.path.is_file():
            raise UserError(f"no such store: {self.path}")
        # a store without a log has no writer: it can be read without locks, also over a network
        immutable = read_only and not self.path.with_name(f"{self.path.name}-wal").exists()
        uri = f"{self.path.absolute().as_uri()}?{'mode=ro&immutable=1' if immutable else 'mode=rwc'}"
        with self._errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None)
        try:
            with self._errors():
                self._prepare(read_only)
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, read_only: bool) -> None:
        """Make the tables of a new store; refuse what is none, and leave it as it is."""
        if self._version() == 0 and self._is_empty() and not read_only:
            with self._transaction():
                if self._is_empty():  # no other process was faster
                    for statement in SCHEMA.split(";"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {VERSION}")
        if self._version() != VERSION:
            raise UserError(f"{self.path} is a database of version {self._version()}, not a store of version {VERSION}")
        if not read_only:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")  # what is stored survives a power cut

    def _version(self) -> int:
        return self._db.execute("PRAGMA user_version").fetchone()[0]

    def _is_empty(self) -> bool:
        return self._db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)

    def __enter__(self) -> "Generations":
        return self

    def __exit__(self, *_) -> None:
        self._db.close()

    def has(self, key: str) -> bool:
        """Whether there is an answer."""
        with self._errors():
            return self._db.execute("SELECT 1 FROM generation WHERE key = ?", (key,)).fetchone() is not None

    def get(self, key: str) -> Answer:
        """The answer that is kept under a key; KeyError: none."""
        with self._errors():
            query = "SELECT output, truncated, tokens_in, tokens_out FROM generation WHERE key = ?"
            row = self._db.execute(query, (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return Answer(row[0], bool(row[1]), *row[2:])

    def add(self, setting: Setting, made_with: Mapping[str, str], answers: Iterable[tuple[str, Answer]], seconds: float) -> None:
        """Keep answers to inputs that were given in one go, which took some seconds; all or none of them, and
        on the disk when this returns. What is there already stays."""
        answers = list(answers)
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        share = seconds / max(1, len(answers))
        rows = ((text, a.text, int(a.truncated), a.tokens_in, a.tokens_out, share, now) for text, a in answers)
        with self._errors(), self._transaction():
            self._insert(setting, made_with, rows)

    def makers(self, setting: Setting) -> list[dict[str, str]]:
        """What made the answers of a setting: backend, device, versions; oldest first."""
        query = (
            "SELECT content FROM maker WHERE id IN (SELECT DISTINCT maker FROM generation"
            " WHERE setting = (SELECT id FROM setting WHERE sha256 = ?)) ORDER BY id"
        )
        with self._errors():
            return [json.loads(content) for [content] in self._db.execute(query, (setting.sha256,))]

    def models(self, name: str, revision: str | None) -> list[dict[str, Any]]:
        """Identities of the models with answers here that have this name (as identity or as it was given) and
        revision (None: any)."""
        query = (
            "SELECT DISTINCT setting.content, maker.content FROM setting JOIN"
            " (SELECT DISTINCT setting AS s, maker AS m FROM generation) ON setting.id = s JOIN maker ON maker.id = m"
        )
        found = {}
        with self._errors():
            for setting, maker in self._db.execute(query):
                llm = json.loads(setting)["llm"]
                if name in (llm["model"], json.loads(maker).get("llm")) and revision in (None, llm["revision"]):
                    found[sha256_of(llm)] = llm
        return list(found.values())

    def stats(self) -> list[dict[str, Any]]:
        """For each setting: model, revision, prompt, decoding, number of answers, cut off ones, tokens read and
        written, seconds."""
        query = (
            "SELECT content, count(*), sum(truncated), sum(tokens_in), sum(tokens_out), sum(seconds)"
            " FROM generation JOIN setting ON setting.id = setting GROUP BY setting ORDER BY setting"
        )
        names = ("answers", "truncated", "tokens_in", "tokens_out", "seconds")
        with self._errors():
            return [{**json.loads(content), **dict(zip(names, sums, strict=True))} for content, *sums in self._db.execute(query)]

    def export(self, path) -> int:
        """Write all generations as lines of JSON, sorted by key; returns how many."""
        query = (
            f"SELECT setting.content, maker.content, {COLUMNS} FROM generation"
            " JOIN setting ON setting.id = setting JOIN maker ON maker.id = maker ORDER BY key"
        )
        count = 0
        with self._errors(), whole_file(path) as f:
            for setting, maker, *values in self._db.execute(query):
                line = {
                    "setting": json.loads(setting),
                    "made_with": json.loads(maker),
                    **dict(zip(FIELDS, values, strict=True)),
                }
                f.write(json.dumps(line, ensure_ascii=False) + "\n")
                count += 1
        return count

    def read_lines(self, path) -> int:
        """Take in lines of JSON as `export` writes them, all or none; returns how many were new.

        Raises:
            UserError: a missing file, or a line of another form.
        """
        before = self._count()
        with self._errors(), self._transaction():
            for number, line in enumerate(_lines(path), 1):
                try:
                    tree = json.loads(line)
                    setting = Setting(**tree["setting"])
                    maker = {str(k): str(v) for k, v in tree["made_with"].items()}
                    values = tuple(tree[field] for field in FIELDS)
                    if not all(isinstance(value, kind) for value, kind in zip(values, FIELDS.values(), strict=True)):
                        raise ValueError("wrong types")
                    setting.llm["model"], setting.llm["revision"], setting.prompt["name"], setting.sha256
                except (ValueError, KeyError, TypeError, AttributeError) as e:
                    raise UserError(f"{path}, line {number}: not a generation as 'context export' writes it: {e!r}") from None
                self._insert(setting, maker, [values])
        return self._count() - before

    def merge(self, other: "Generations") -> int:
        """Take in all generations of another store, all or none; returns how many were new."""
        before = self._count()
        query = f"SELECT {COLUMNS} FROM generation WHERE setting = ? AND maker = ?"
        with self._errors(), other._errors(), self._transaction():
            for s, m in other._db.execute("SELECT DISTINCT setting, maker FROM generation").fetchall():
                [[content]] = other._db.execute("SELECT content FROM setting WHERE id = ?", (s,))
                [[maker]] = other._db.execute("SELECT content FROM maker WHERE id = ?", (m,))
                self._insert(Setting(**json.loads(content)), json.loads(maker), other._db.execute(query, (s, m)))
        return self._count() - before

    def prune(self, prompt: str | None = None, model: str | None = None, before: str | None = None) -> int:
        """Delete the generations to which all that is given applies; returns how many.

        Args:
            prompt: name of the prompt.
            model: hub id or hash of the model.
            before: day (YYYY-MM-DD) before which they were made.
        """
        with self._errors():
            with self._transaction():
                doomed = []
                for id_, content in self._db.execute("SELECT id, content FROM setting").fetchall():
                    tree = json.loads(content)
                    if prompt in (None, tree["prompt"]["name"]) and model in (None, tree["llm"]["model"]):
                        doomed.append(id_)
                count = 0
                for id_ in doomed:
                    query = "DELETE FROM generation WHERE setting = ? AND created < ?"
                    count += self._db.execute(query, (id_, before or "9999")).rowcount
                self._db.execute("DELETE FROM setting WHERE id NOT IN (SELECT setting FROM generation)")
                self._db.execute("DELETE FROM maker WHERE id NOT IN (SELECT maker FROM generation)")
            self._db.execute("VACUUM")
        return count

    def _insert(self, setting: Setting, made_with: Mapping[str, str], rows: Iterable[tuple]) -> None:
        content = json.dumps(setting.content, sort_keys=True, ensure_ascii=False)
        maker = json.dumps(dict(made_with), sort_keys=True, ensure_ascii=False)
        self._db.execute("INSERT OR IGNORE INTO setting (sha256, content) VALUES (?, ?)", (setting.sha256, content))
        self._db.execute("INSERT OR IGNORE INTO maker (content) VALUES (?)", (maker,))
        [[s]] = self._db.execute("SELECT id FROM setting WHERE sha256 = ?", (setting.sha256,))
        [[m]] = self._db.execute("SELECT id FROM maker WHERE content = ?", (maker,))
        self._db.executemany(
            f"INSERT OR IGNORE INTO generation (key, setting, maker, {COLUMNS}) VALUES (?, ?, ?{', ?' * len(FIELDS)})",
            ((setting.key(row[0]), s, m, *row) for row in rows),
        )

    def _count(self) -> int:
        with self._errors():
            return self._db.execute("SELECT count(*) FROM generation").fetchone()[0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's errors in words that say what to do."""
        try:
            yield
        except sqlite3.DatabaseError as e:
            what = str(e)
            if "locked" in what or "busy" in what:
                raise UserError(f"{self.path} has been locked by another process for {PATIENCE:.0f} seconds") from e
            if "full" in what:
                raise UserError(f"the disk is full: {self.path} keeps what was finished; make room and run again") from e
            if isinstance(e, sqlite3.OperationalError):
                raise UserError(f"cannot use the store {self.path}: {what}") from e
            raise UserError(
                f"{self.path} is no store or is damaged ({what}): move it away, then run again or import an export of it"
            ) from e


def part_path(store: Path, job: int, jobs: int) -> Path:
    """The store of one job out of several, beside the one that they are merged into."""
    return store.with_name(f"{store.stem}.part{job}of{jobs}{store.suffix}")


def merge_parts(store: Path) -> int:
    """Merge what jobs have left beside a store into it and remove it; returns how many generations were new.

    Raises:
        UserError: a job is still writing.
    """
    new = 0
    with Generations(store) as target:
        for part in sorted(store.parent.glob(f"{store.stem}.part*of*{store.suffix}")):
            with only_one(part, None, wait=False):
                with Generations(part) as source:
                    new += target.merge(source)
                for path in (part, *(part.with_name(part.name + end) for end in ("-wal", "-shm", ".lock"))):
                    path.unlink(missing_ok=True)
    return new


@contextmanager
def only_one(store: Path, what: str | None, wait: bool = True) -> Iterator[None]:
    """Let one process at a time work on `what` of a store (None: on anything): others wait, or are refused.

    The lock is one byte of the file `<store>.lock` (or all of them); it goes when its process ends, however
    that ends. Not to be nested for one store: the system drops all locks of a process when it closes the file.
    """
    path = store.with_name(store.name + ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    length, start = (0, 0) if what is None else (1, int(sha256_of(what)[:15], 16))  # 0: to the end
    with open(path, "a+b") as f:
        try:
            fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
        except OSError:
            if not wait:
                raise UserError(f"{store} is being written by another process") from None
            print(f"waiting for another process that is asking the same for {store}", flush=True)
            fcntl.lockf(f, fcntl.LOCK_EX, length, start)
        yield


def _lines(path) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8") as f:
            yield from f
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    except UnicodeDecodeError as e:
        raise UserError(f"{path} is not UTF-8 text: {e}") from None
