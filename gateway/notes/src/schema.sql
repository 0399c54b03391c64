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

CREATE TABLE notes (
    tag    BLOB NOT NULL PRIMARY KEY,
    person BLOB NOT NULL REFERENCES persons (tag) ON DELETE CASCADE,
    time   INTEGER NOT NULL,
    body   BLOB NOT NULL
) STRICT;
CREATE INDEX notes_of_a_person ON notes (person, time, tag);
CREATE INDEX notes_by_age ON notes (time, tag);

CREATE TABLE staff (
    tag  BLOB NOT NULL PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE notices (
    number INTEGER PRIMARY KEY,
    tag    BLOB NOT NULL UNIQUE,
    body   BLOB NOT NULL
) STRICT;

PRAGMA user_version = 1;
