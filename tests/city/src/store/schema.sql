CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE IF NOT EXISTS facilities (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, address TEXT NOT NULL, phone TEXT NOT NULL,
    public INTEGER NOT NULL, suspended INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE IF NOT EXISTS users (
    id TEXT PRIMARY KEY, facility TEXT NOT NULL REFERENCES facilities (id), name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('manager', 'staff')), job TEXT NOT NULL,
    salt BLOB NOT NULL, hash BLOB NOT NULL, suspended INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE IF NOT EXISTS persons (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, reading TEXT NOT NULL, about TEXT NOT NULL,
    ended INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE IF NOT EXISTS readers (
    person TEXT NOT NULL REFERENCES persons (id) ON DELETE CASCADE, user TEXT NOT NULL REFERENCES users (id),
    PRIMARY KEY (person, user)
) STRICT;

CREATE TABLE IF NOT EXISTS notes (
    id TEXT PRIMARY KEY, person TEXT NOT NULL REFERENCES persons (id) ON DELETE CASCADE,
    author TEXT NOT NULL REFERENCES users (id), author_name TEXT NOT NULL, job TEXT NOT NULL,
    time INTEGER NOT NULL, text TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS notes_by_person ON notes (person, time DESC);

CREATE TABLE IF NOT EXISTS attachments (
    id TEXT PRIMARY KEY, note TEXT NOT NULL REFERENCES notes (id) ON DELETE CASCADE, name TEXT NOT NULL,
    media_type TEXT NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS attachments_by_note ON attachments (note);

CREATE TABLE IF NOT EXISTS notices (
    id TEXT PRIMARY KEY, title TEXT NOT NULL, text TEXT NOT NULL, members_only INTEGER NOT NULL,
    time INTEGER NOT NULL, until INTEGER
) STRICT;

CREATE TABLE IF NOT EXISTS sessions (
    token BLOB PRIMARY KEY, user TEXT NOT NULL REFERENCES users (id), facility TEXT NOT NULL, csrf TEXT NOT NULL,
    until INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS certificates (
    serial TEXT PRIMARY KEY, facility TEXT NOT NULL REFERENCES facilities (id),
    purpose TEXT NOT NULL CHECK (purpose IN ('facility', 'lan')), spki BLOB NOT NULL, der BLOB NOT NULL,
    issued INTEGER NOT NULL, not_after INTEGER NOT NULL, origin TEXT NOT NULL, evidence INTEGER NOT NULL DEFAULT 0,
    revoked INTEGER
) STRICT;

-- The number itself is not here: `key` is its keyed hash, the code only a salted one.
CREATE TABLE IF NOT EXISTS numbers (
    key BLOB PRIMARY KEY, salt BLOB NOT NULL, hash BLOB NOT NULL, facility TEXT NOT NULL REFERENCES facilities (id),
    expires INTEGER NOT NULL, manual INTEGER NOT NULL, approved INTEGER NOT NULL,
    spki BLOB, used INTEGER, serial TEXT
) STRICT;

-- Wrong codes, counted alike for numbers that exist and numbers that do not.
CREATE TABLE IF NOT EXISTS attempts (key BLOB PRIMARY KEY, failures INTEGER NOT NULL, last INTEGER NOT NULL) STRICT;

CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, facility TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS events_by_facility ON events (facility, seq);
CREATE INDEX IF NOT EXISTS events_by_subject ON events (subject, kind);

CREATE TABLE IF NOT EXISTS reports (
    facility TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, digest BLOB NOT NULL, body TEXT NOT NULL,
    answer TEXT NOT NULL, time INTEGER NOT NULL, PRIMARY KEY (facility, kind, key)
) STRICT;

-- Which box a renewed certificate belongs to: the serial of the certificate that came with a number. A certificate that is
-- not here is the first of its box.
CREATE TABLE IF NOT EXISTS boxes (serial TEXT PRIMARY KEY, box TEXT NOT NULL) STRICT;

-- The audit log of each box, as the city first saw it; what it accepted; what it refused.
DROP TABLE IF EXISTS audit_logs;
CREATE TABLE IF NOT EXISTS audit_pins (
    facility TEXT NOT NULL, box TEXT NOT NULL, log BLOB NOT NULL, key BLOB NOT NULL, pinned INTEGER NOT NULL,
    PRIMARY KEY (facility, box)
) STRICT;

CREATE TABLE IF NOT EXISTS audit_checkpoints (
    facility TEXT NOT NULL, log BLOB NOT NULL, sequence INTEGER NOT NULL, count INTEGER NOT NULL, head BLOB NOT NULL,
    key BLOB NOT NULL, message BLOB NOT NULL, signature BLOB NOT NULL, received INTEGER NOT NULL,
    PRIMARY KEY (facility, log, sequence)
) STRICT;

CREATE TABLE IF NOT EXISTS audit_faults (
    facility TEXT NOT NULL, reason TEXT NOT NULL, message BLOB NOT NULL, time INTEGER NOT NULL
) STRICT;

-- What boxes were asked for of their logs of accesses, and what they handed over.
CREATE TABLE IF NOT EXISTS access_requests (
    id TEXT PRIMARY KEY, facility TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL,
    next INTEGER, head BLOB, complete INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE IF NOT EXISTS access_entries (
    facility TEXT NOT NULL, log TEXT NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL, line TEXT NOT NULL,
    record TEXT, PRIMARY KEY (facility, log, number)
) STRICT;
