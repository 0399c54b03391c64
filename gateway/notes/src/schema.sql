-- Rows are found by tags, keyed hashes of the city's ids; everything else but a note's time is sealed.
CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

-- An empty key means that the key was destroyed and the rows are about to follow.
CREATE TABLE persons (
    tag  BLOB NOT NULL PRIMARY KEY,
    key  BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- Numbers are never used twice: marks of what was read rest on them.
CREATE TABLE notes (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    tag    BLOB NOT NULL UNIQUE,
    person BLOB NOT NULL REFERENCES persons (tag) ON DELETE CASCADE,
    time   INTEGER NOT NULL,
    -- What the note takes of the room that the policy gives: with what is searched of it and the rows of its attachments.
    bytes  INTEGER NOT NULL,
    body   BLOB NOT NULL
) STRICT;
CREATE INDEX notes_of_a_person ON notes (person, time, tag);
CREATE INDEX notes_by_arrival ON notes (person, number);
CREATE INDEX notes_by_age ON notes (time);

-- What is searched: folded texts of several notes in each, under the person's key.
CREATE TABLE segments (
    number INTEGER PRIMARY KEY,
    person BLOB NOT NULL REFERENCES persons (tag) ON DELETE CASCADE,
    body   BLOB NOT NULL
) STRICT;
CREATE INDEX segments_of_a_person ON segments (person, number);

-- Up to which number a staff member has read a person's notes, under the person's key.
CREATE TABLE marks (
    person BLOB NOT NULL REFERENCES persons (tag) ON DELETE CASCADE,
    reader BLOB NOT NULL,
    body   BLOB NOT NULL,
    PRIMARY KEY (person, reader)
) STRICT, WITHOUT ROWID;

CREATE TABLE staff (
    tag  BLOB NOT NULL PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE notices (
    number INTEGER PRIMARY KEY,
    tag    BLOB NOT NULL UNIQUE,
    body   BLOB NOT NULL
) STRICT;

-- What notes have attached. The files themselves are in a directory beside the database, each sealed under a key that
-- is in its row's body. The body is sealed under the person's key and bound to all other columns but `loose`.
CREATE TABLE attachments (
    tag    BLOB NOT NULL PRIMARY KEY,
    note   BLOB NOT NULL,
    person BLOB NOT NULL REFERENCES persons (tag) ON DELETE CASCADE,
    time   INTEGER NOT NULL,
    size   INTEGER NOT NULL,
    state  INTEGER NOT NULL,
    file   BLOB NOT NULL,
    body   BLOB NOT NULL,
    -- Under the how manieth database of the scanner it was looked into.
    judged INTEGER NOT NULL,
    loose  INTEGER NOT NULL
) STRICT;
CREATE INDEX attachments_of_a_note ON attachments (note);
CREATE INDEX attachments_by_age ON attachments (time, tag);
CREATE INDEX attachments_by_state ON attachments (state, size);
CREATE INDEX attachments_by_verdict ON attachments (judged, time) WHERE state = 3;
CREATE INDEX loose_attachments ON attachments (tag) WHERE loose = 1;
CREATE INDEX attachments_of_a_person ON attachments (person);

-- A note that is written anew takes its attachments up again before the transaction ends; what stays loose goes.
CREATE TRIGGER note_lets_go AFTER DELETE ON notes BEGIN
    UPDATE attachments SET loose = 1 WHERE note = old.tag;
END;

-- Files whose row, and with it their key, is gone: to be removed once that is on the disk.
CREATE TABLE erased_files (
    file BLOB NOT NULL PRIMARY KEY
) STRICT;
CREATE TRIGGER attachment_is_gone AFTER DELETE ON attachments WHEN old.file != x'' BEGIN
    INSERT OR IGNORE INTO erased_files (file) VALUES (old.file);
END;
CREATE TRIGGER attachment_lets_go AFTER UPDATE OF file ON attachments WHEN old.file != x'' AND old.file != new.file BEGIN
    INSERT OR IGNORE INTO erased_files (file) VALUES (old.file);
END;

PRAGMA user_version = 5;
