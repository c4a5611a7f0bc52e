-- The tables of a journal, format 1, and the functions that write to them. Checksums: see codec.py.
-- Text is compared byte by byte (COLLATE "C"), which is the order of code points. PostgreSQL's text has no U+0000: in
-- ids, names and reasons it is written as two characters, see text.py. Bodies are JSON, which escapes it by itself.

CREATE TABLE actorfsm_schema (
  version integer PRIMARY KEY,
  applied_at timestamptz NOT NULL DEFAULT now()
);

-- Who owns the machines. One partition holds all of them. The token is that of the owner's connection: what an earlier
-- connection of the same owner still has under way comes to nothing once there is a new one.
CREATE TABLE owners (
  partition integer PRIMARY KEY,
  epoch bigint NOT NULL,
  token uuid NOT NULL,
  pid integer NOT NULL,
  host text NOT NULL
);
INSERT INTO owners VALUES (0, 0, gen_random_uuid(), 0, '');

-- Where each machine is: the fold of its entries.
CREATE TABLE machines (
  machine_id text COLLATE "C" PRIMARY KEY,
  machine text NOT NULL,
  status text NOT NULL,
  state text NOT NULL, -- names of states, each between two U+001F
  seq bigint NOT NULL,
  checksum bytea NOT NULL
);

-- What happened. Of a trimmed entry there is the answer and the hash of the body.
CREATE TABLE entries (
  machine_id text COLLATE "C" NOT NULL,
  seq bigint NOT NULL,
  concluded_id text COLLATE "C",
  body text,
  answer text,
  trimmed bytea,
  checksum bytea NOT NULL,
  PRIMARY KEY (machine_id, seq)
);
CREATE UNIQUE INDEX entries_concluded ON entries (machine_id, concluded_id) WHERE concluded_id IS NOT NULL;

-- Where loading begins.
CREATE TABLE snapshots (
  machine_id text COLLATE "C" PRIMARY KEY,
  seq bigint NOT NULL,
  image text NOT NULL,
  checksum bytea NOT NULL
);

-- Timers that run.
CREATE TABLE timers (
  machine_id text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  due_us bigint NOT NULL,
  body text NOT NULL,
  checksum bytea NOT NULL,
  PRIMARY KEY (machine_id, name)
);
CREATE INDEX timers_due ON timers (due_us, machine_id, name);

-- Outbox and durable inbox: what is still to be done, in the order in which it was promised.
CREATE TABLE pending (
  place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  key text COLLATE "C" NOT NULL UNIQUE,
  machine_id text NOT NULL,
  event_id text NOT NULL,
  body text NOT NULL,
  checksum bytea NOT NULL
);

CREATE TABLE dead_letters (
  place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  machine_id text NOT NULL,
  reason text NOT NULL,
  at_us bigint NOT NULL,
  body text NOT NULL,
  checksum bytea NOT NULL
);

-- Each write is one call of one function, and so one transaction that the server ends by itself: an owner that is
-- paused, or gone, holds no lock. The errors that they raise: see refusals.py.

-- The lock that an owner's connection holds for as long as it lives.
CREATE FUNCTION owner_lock(of_token uuid) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
  SELECT hashtextextended(of_token::text, 0)
$$;

-- Become the owner. Unless by force, only if the one before is gone.
CREATE FUNCTION take_over(by_force boolean, my_pid integer, my_host text, OUT my_epoch bigint, OUT my_token uuid)
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  before owners;
BEGIN
  SELECT * INTO STRICT before FROM owners WHERE partition = 0 FOR UPDATE;
  IF NOT by_force AND NOT pg_try_advisory_xact_lock(owner_lock(before.token)) THEN
    RAISE EXCEPTION USING ERRCODE = 'AF005', MESSAGE = before.host, DETAIL = before.pid::text;
  END IF;
  my_epoch := before.epoch + 1;
  my_token := gen_random_uuid();
  UPDATE owners SET epoch = my_epoch, token = my_token, pid = my_pid, host = my_host
    WHERE partition = 0;
  PERFORM pg_advisory_lock(owner_lock(my_token));
END
$$;

-- Go on as the owner on a new connection. It waits for what the connection before has under way; what
-- that one is told later comes to nothing.
CREATE FUNCTION resume(my_epoch bigint) RETURNS uuid
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  my_token uuid := gen_random_uuid();
BEGIN
  UPDATE owners SET token = my_token WHERE partition = 0 AND epoch = my_epoch;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'AF001', MESSAGE = 'taken over';
  END IF;
  PERFORM pg_advisory_lock(owner_lock(my_token));
  RETURN my_token;
END
$$;

-- Let only the owner go on, and nobody take over before this transaction ends.
CREATE FUNCTION check_owner(my_epoch bigint, my_token uuid) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  now_epoch bigint;
  now_token uuid;
BEGIN
  SELECT epoch, token INTO STRICT now_epoch, now_token FROM owners WHERE partition = 0 FOR SHARE;
  IF now_epoch <> my_epoch THEN
    RAISE EXCEPTION USING ERRCODE = 'AF001', MESSAGE = 'taken over';
  ELSIF now_token <> my_token THEN
    RAISE EXCEPTION USING ERRCODE = 'AF004', MESSAGE = 'not the connection of the owner';
  END IF;
END
$$;

-- Store batches. Arrays of one kind are of one length; there is one element for each row. The statements are to go
-- through the indexes also while the statistics still say that the tables are empty.
CREATE FUNCTION append(
  my_epoch bigint, my_token uuid,
  entry_machine_ids text[], entry_seqs bigint[], entry_concluded_ids text[], entry_bodies text[],
  entry_checksums bytea[],
  head_machine_ids text[], head_machines text[], head_statuses text[], head_states text[], head_seqs bigint[],
  head_checksums bytea[], head_old_seqs bigint[], head_old_checksums bytea[],
  ended_machine_ids text[], ended_names text[],
  timer_machine_ids text[], timer_names text[], timer_dues bigint[], timer_bodies text[], timer_checksums bytea[],
  accepted_machine_ids text[], accepted_event_ids text[],
  pending_keys text[], pending_machine_ids text[], pending_event_ids text[], pending_bodies text[],
  pending_checksums bytea[],
  settled_keys text[],
  dead_machine_ids text[], dead_reasons text[], dead_ats bigint[], dead_bodies text[], dead_checksums bytea[],
  image_machine_ids text[], image_seqs bigint[], image_texts text[], image_checksums bytea[]
) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  moved bigint;
  born bigint;
BEGIN
  PERFORM check_owner(my_epoch, my_token);
  IF cardinality(accepted_event_ids) > 0 AND EXISTS (
    SELECT FROM unnest(accepted_machine_ids, accepted_event_ids) AS it (machine_id, event_id)
    JOIN entries ON entries.machine_id = it.machine_id AND entries.concluded_id = it.event_id
  ) THEN
    RAISE EXCEPTION USING ERRCODE = 'AF003', MESSAGE = 'an event id is used up';
  END IF;
  IF cardinality(head_machine_ids) > 0 THEN
    INSERT INTO entries (machine_id, seq, concluded_id, body, checksum)
      SELECT * FROM unnest(entry_machine_ids, entry_seqs, entry_concluded_ids, entry_bodies, entry_checksums);
    UPDATE machines SET machine = it.machine, status = it.status, state = it.state, seq = it.seq,
        checksum = it.checksum
      FROM unnest(head_machine_ids, head_machines, head_statuses, head_states, head_seqs, head_checksums,
        head_old_seqs, head_old_checksums)
        AS it (machine_id, machine, status, state, seq, checksum, old_seq, old_checksum)
      WHERE machines.machine_id = it.machine_id AND machines.seq = it.old_seq
        AND machines.checksum = it.old_checksum;
    GET DIAGNOSTICS moved = ROW_COUNT;
    IF moved < cardinality(head_machine_ids) THEN
      INSERT INTO machines
        SELECT it.machine_id, it.machine, it.status, it.state, it.seq, it.checksum
        FROM unnest(head_machine_ids, head_machines, head_statuses, head_states, head_seqs, head_checksums,
          head_old_seqs) AS it (machine_id, machine, status, state, seq, checksum, old_seq)
        WHERE it.old_seq = 0
        ON CONFLICT DO NOTHING;
      GET DIAGNOSTICS born = ROW_COUNT;
      IF moved + born < cardinality(head_machine_ids) THEN
        RAISE EXCEPTION USING ERRCODE = 'AF002', MESSAGE = 'a machine has moved on';
      END IF;
    END IF;
  END IF;
  IF cardinality(ended_names) > 0 THEN
    DELETE FROM timers USING unnest(ended_machine_ids, ended_names) AS it (machine_id, name)
      WHERE timers.machine_id = it.machine_id AND timers.name = it.name;
  END IF;
  IF cardinality(timer_names) > 0 THEN
    INSERT INTO timers
      SELECT * FROM unnest(timer_machine_ids, timer_names, timer_dues, timer_bodies, timer_checksums)
      ON CONFLICT (machine_id, name) DO UPDATE
      SET due_us = excluded.due_us, body = excluded.body, checksum = excluded.checksum;
  END IF;
  IF cardinality(pending_keys) > 0 THEN
    INSERT INTO pending (key, machine_id, event_id, body, checksum)
      SELECT key, machine_id, event_id, body, checksum
      FROM unnest(pending_keys, pending_machine_ids, pending_event_ids, pending_bodies, pending_checksums)
        WITH ORDINALITY AS it (key, machine_id, event_id, body, checksum, place)
      ORDER BY place;
  END IF;
  IF cardinality(settled_keys) > 0 THEN
    DELETE FROM pending WHERE key = ANY (settled_keys);
  END IF;
  IF cardinality(dead_reasons) > 0 THEN
    INSERT INTO dead_letters (machine_id, reason, at_us, body, checksum)
      SELECT machine_id, reason, at_us, body, checksum
      FROM unnest(dead_machine_ids, dead_reasons, dead_ats, dead_bodies, dead_checksums)
        WITH ORDINALITY AS it (machine_id, reason, at_us, body, checksum, place)
      ORDER BY place;
  END IF;
  IF cardinality(image_seqs) > 0 THEN
    INSERT INTO snapshots SELECT * FROM unnest(image_machine_ids, image_seqs, image_texts, image_checksums)
      ON CONFLICT (machine_id) DO UPDATE
      SET seq = excluded.seq, image = excluded.image, checksum = excluded.checksum;
  END IF;
END
$$;

-- Return the place, from 1, of the first of these claims that comes too late: its event id is used up, or something
-- waits under its key. One of them may be null.
CREATE FUNCTION first_used(machine_ids text[], event_ids text[], keys text[]) RETURNS bigint
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
  SELECT min(place)
  FROM unnest(machine_ids, event_ids, keys) WITH ORDINALITY AS it (machine_id, event_id, key, place)
  WHERE EXISTS (SELECT FROM pending WHERE pending.key = it.key) OR EXISTS (
    SELECT FROM entries WHERE entries.machine_id = it.machine_id AND entries.concluded_id = it.event_id
  )
$$;

-- Store a machine's image as of an entry, and trim entries to what is left of them.
CREATE FUNCTION snapshot(
  my_epoch bigint, my_token uuid, of_machine_id text, of_seq bigint, of_checksum bytea, image_text text,
  image_checksum bytea, trimmed_seqs bigint[], trimmed_answers text[], trimmed_hashes bytea[]
) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  PERFORM check_owner(my_epoch, my_token);
  PERFORM FROM machines WHERE machine_id = of_machine_id AND seq = of_seq AND checksum = of_checksum FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'AF002', MESSAGE = 'a machine has moved on';
  END IF;
  INSERT INTO snapshots VALUES (of_machine_id, of_seq, image_text, image_checksum)
    ON CONFLICT (machine_id) DO UPDATE
    SET seq = excluded.seq, image = excluded.image, checksum = excluded.checksum;
  UPDATE entries SET body = NULL, answer = it.answer, trimmed = it.hash
    FROM unnest(trimmed_seqs, trimmed_answers, trimmed_hashes) AS it (seq, answer, hash)
    WHERE entries.machine_id = of_machine_id AND entries.seq = it.seq;
  RETURN 1;
END
$$;

-- Forget event ids and answers of trimmed entries. The last of them stays as a link of the chain, without what it says.
CREATE FUNCTION forget(my_epoch bigint, my_token uuid, of_machine_id text, through_seq bigint) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  last bigint;
  forgotten bigint;
BEGIN
  PERFORM check_owner(my_epoch, my_token);
  SELECT least(through_seq, coalesce((SELECT seq - 1 FROM snapshots WHERE machine_id = of_machine_id), 0))
    INTO last;
  SELECT coalesce(min(seq) - 1, last) INTO last FROM entries
    WHERE machine_id = of_machine_id AND seq <= last AND body IS NOT NULL;
  SELECT count(concluded_id) INTO forgotten FROM entries WHERE machine_id = of_machine_id AND seq <= last;
  DELETE FROM entries WHERE machine_id = of_machine_id AND seq < last;
  UPDATE entries SET concluded_id = NULL, answer = NULL, trimmed = NULL
    WHERE machine_id = of_machine_id AND seq = last;
  RETURN forgotten;
END
$$;

CREATE FUNCTION drop_dead_letters(my_epoch bigint, my_token uuid, places bigint[]) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  dropped bigint;
BEGIN
  PERFORM check_owner(my_epoch, my_token);
  DELETE FROM dead_letters WHERE place = ANY (places);
  GET DIAGNOSTICS dropped = ROW_COUNT;
  RETURN dropped;
END
$$;

INSERT INTO actorfsm_schema (version) VALUES (1);
