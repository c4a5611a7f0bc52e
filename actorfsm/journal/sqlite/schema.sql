-- The tables of a journal, format 1. Checksums: see codec.py.

-- Who owns the machines. One partition holds all of them.
CREATE TABLE owners (
  partition INTEGER PRIMARY KEY,
  epoch INTEGER NOT NULL,
  pid INTEGER NOT NULL,
  host TEXT NOT NULL
);
INSERT INTO owners VALUES (0, 0, 0, '');

-- Where each machine is: the fold of its entries.
CREATE TABLE machines (
  machine_id TEXT PRIMARY KEY,
  machine TEXT NOT NULL,
  status TEXT NOT NULL,
  state TEXT NOT NULL, -- names of states, each between two U+001F
  seq INTEGER NOT NULL,
  checksum BLOB NOT NULL
) WITHOUT ROWID;
-- Of the machines that are held: each start looks for them.
CREATE INDEX IF NOT EXISTS machines_held ON machines (machine_id) WHERE status IN ('quarantined', 'suspended');

-- What happened. Of a trimmed entry there is the answer and the hash of the body. In the order in which it was written:
-- to keep the entries of each machine together would write twice as many pages.
CREATE TABLE entries (
  machine_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  concluded_id TEXT,
  body TEXT,
  answer TEXT,
  trimmed BLOB,
  checksum BLOB NOT NULL,
  PRIMARY KEY (machine_id, seq)
);
CREATE UNIQUE INDEX entries_concluded ON entries (machine_id, concluded_id) WHERE concluded_id IS NOT NULL;

-- Where loading begins.
CREATE TABLE snapshots (
  machine_id TEXT PRIMARY KEY,
  seq INTEGER NOT NULL,
  image TEXT NOT NULL,
  checksum BLOB NOT NULL
);

-- Timers that run.
CREATE TABLE timers (
  machine_id TEXT NOT NULL,
  name TEXT NOT NULL,
  due_us INTEGER NOT NULL,
  body TEXT NOT NULL,
  checksum BLOB NOT NULL,
  PRIMARY KEY (machine_id, name)
) WITHOUT ROWID;
CREATE INDEX timers_due ON timers (due_us, machine_id, name);

-- Outbox and durable inbox: what is still to be done, in the order in which it was promised.
CREATE TABLE pending (
  place INTEGER PRIMARY KEY AUTOINCREMENT,
  key TEXT NOT NULL UNIQUE,
  machine_id TEXT NOT NULL,
  event_id TEXT NOT NULL,
  body TEXT NOT NULL,
  checksum BLOB NOT NULL
);

CREATE TABLE dead_letters (
  place INTEGER PRIMARY KEY AUTOINCREMENT,
  machine_id TEXT NOT NULL,
  reason TEXT NOT NULL,
  at_us INTEGER NOT NULL,
  body TEXT NOT NULL,
  checksum BLOB NOT NULL
);
