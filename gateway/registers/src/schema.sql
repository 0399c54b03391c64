CREATE TABLE events (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    at     INTEGER NOT NULL,
    by     TEXT NOT NULL,
    medium INTEGER,
    ends   INTEGER NOT NULL CHECK (ends IN (0, 1)),
    body   TEXT NOT NULL
) STRICT;

CREATE INDEX events_of_medium ON events (medium, seq) WHERE medium IS NOT NULL;

-- Entries before this moment may be dropped; 0: none may. And the highest number a medium ever had.
CREATE TABLE retention (
    only_row    INTEGER PRIMARY KEY CHECK (only_row = 1),
    before      INTEGER NOT NULL,
    last_medium INTEGER NOT NULL
) STRICT;
INSERT INTO retention (only_row, before, last_medium) VALUES (1, 0, 0);

CREATE TRIGGER an_entry_is_never_changed BEFORE UPDATE ON events
BEGIN
    SELECT RAISE(ABORT, 'an entry is never changed');
END;

-- A medium's entries are kept until its life has been over for so long; every other entry just so long.
CREATE TRIGGER an_entry_is_kept BEFORE DELETE ON events
WHEN OLD.at >= (SELECT before FROM retention)
    OR (OLD.medium IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM events AS last
        WHERE last.medium = OLD.medium AND last.ends = 1 AND last.at < (SELECT before FROM retention)))
BEGIN
    SELECT RAISE(ABORT, 'an entry is kept for its time');
END;

PRAGMA user_version = 1;
