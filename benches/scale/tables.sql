-- A state of any size. Expects the temporary table `size` of one row: pages, completed, events (a
-- page), live, members, uploaded, book_pages, chained, scope, fingerprint, image (its hash), image_bytes, now.

CREATE TEMP TABLE place (i INTEGER PRIMARY KEY, book TEXT, number INTEGER, key TEXT, former TEXT,
                         stage TEXT, batch TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < (SELECT pages FROM size))
INSERT INTO place
SELECT i, book, number, printf('%s:%04d', book, number),
       iif(number > 1, printf('%s:%04d', book, number - 1), NULL),
       CASE WHEN i <= completed THEN 'completed' WHEN i <= in_batches THEN 'batched'
            WHEN i <= in_batches + uploaded THEN 'uploaded' ELSE 'discovered' END,
       CASE WHEN i <= completed THEN printf('done%07d', (i - 1) / 100)
            WHEN i <= in_batches THEN printf('live%04d', (i - completed - 1) / members) END
FROM (SELECT i, printf('Alabama:School %06d:1849', (i - 1) / book_pages) AS book,
             (i - 1) % book_pages + 1 AS number, completed, members,
             completed + live * members AS in_batches, uploaded
      FROM n, size);

INSERT INTO recipes (recipe_hash, prompt_name, prompt_template, context_template, schema, model,
                     generation_config, created_at)
SELECT 'recipe-1', 'page_ocr', 'Read {{ key }}', NULL, '{}', 'gemini', '{"temperature":0.1}', now
FROM size;

INSERT INTO runs (run_id, label, status, recipe_hash, scope, config_snapshot, config_sha256,
                  restarts, totals, started_at, ended_at, created_at, updated_at)
SELECT 'before', 'the run before', 'stopped', 'recipe-1', scope, 'model: {name: gemini}', 'config',
       0, '{}', now, now, now, now
FROM size;

INSERT INTO submissions (batch_id, display_name, state, run_id, recipe_hash, model,
                         key_fingerprint, record_count, lines_sha256, lines_bytes, creates,
                         remote_name, remote_state, count_submitted, count_succeeded, count_failed,
                         count_missing, count_released, created_at, updated_at, submitted_at,
                         polled_at, ended_at, terminal_seen_at, closed_at)
SELECT batch, 'pagemill-' || batch, iif(open, 'submitted', 'settled'), 'before', 'recipe-1', 'gemini',
       fingerprint, held, 'sha', 500000, 1, 'batches/' || batch,
       iif(open, 'BATCH_STATE_RUNNING', 'BATCH_STATE_SUCCEEDED'),
       iif(open, NULL, held), iif(open, NULL, held), iif(open, NULL, 0), iif(open, NULL, 0),
       iif(open, NULL, 0), now, now, now, NULL, iif(open, NULL, now), iif(open, NULL, now),
       iif(open, NULL, now)
FROM (SELECT batch, batch LIKE 'live%' AS open, count(*) AS held FROM place
      WHERE batch IS NOT NULL GROUP BY batch), size;

INSERT INTO reports (batch_id, name, markdown, created_at, updated_at)
SELECT batch_id, batch_id || '.md', 'all is well', closed_at, closed_at
FROM submissions WHERE state = 'settled';

INSERT INTO active_batches (batch_id, created_at, updated_at, status)
SELECT batch_id, created_at, updated_at, iif(state = 'settled', 'completed', 'active') FROM submissions;

INSERT INTO pages (record_key, book, levels, page_number, stage, status, scope, run_id, recipe_hash,
                   predecessor, chain_ahead, batch_id, image_mime, image_bytes, image_sha256,
                   image_file, image_expires_at, uploaded_at, output_sha256, output_bytes,
                   created_at, updated_at)
SELECT key, book, json_array('Alabama', substr(book, 9, 13), '1849', printf('%04d', number)), number,
       stage, stage, scope, 'before', 'recipe-1', former,
       iif(chained, book_pages - number, 0),
       iif(stage = 'batched', batch, NULL), 'image/jpeg', image_bytes, image,
       iif(sent, 'files/p' || i, NULL), iif(sent, strftime('%Y-%m-%dT%H:%M:%f000Z', now, '+47 hours'), NULL),
       iif(sent, now, NULL), iif(stage = 'completed', image, NULL), iif(stage = 'completed', 2048, NULL),
       now, now
FROM (SELECT *, stage IN ('uploaded', 'batched') AS sent FROM place), size;

INSERT INTO inflight_records (record_key, batch_id, created_at)
SELECT record_key, batch_id, created_at FROM pages WHERE stage = 'batched';

INSERT INTO page_events (record_key, at, from_stage, to_stage, event, run_id)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < (SELECT events FROM size))
SELECT key, now, iif(n.i = 1, NULL, 'discovered'), 'discovered', iif(n.i = 1, 'seen', 'requeued'), 'before'
FROM n, place, size;

INSERT INTO remote_files (name, uri, purpose, mime, bytes, sha256, record_key, key_fingerprint, state,
                          created_at, updated_at, expires_at)
SELECT 'files/p' || i, 'https://files.example/v1beta/files/p' || i, 'image', 'image/jpeg', image_bytes,
       image, key, fingerprint, 'live', now, now, strftime('%Y-%m-%dT%H:%M:%f000Z', now, '+47 hours')
FROM place, size WHERE stage IN ('uploaded', 'batched');

INSERT INTO attempts (batch_id, record_key, attempt_number, outcome, image_file, finish_reason,
                      tokens_prompt, tokens_candidates, tokens_total, created_at, decided_at)
SELECT batch, key, 1, iif(stage = 'batched', 'pending', 'accepted'), 'files/p' || i,
       iif(stage = 'batched', NULL, 'STOP'), iif(stage = 'batched', NULL, 3000),
       iif(stage = 'batched', NULL, 600), iif(stage = 'batched', NULL, 3600), now,
       iif(stage = 'batched', NULL, now)
FROM place, size WHERE batch IS NOT NULL;

INSERT INTO batch_record_keys (batch_id, record_key, created_at)
SELECT batch_id, record_key, created_at FROM attempts;

DROP TABLE temp.place;
DROP TABLE temp.size;
