-- A state of many pages, in the middle of its work. Expects the temporary table `size` of one row:
-- pages, batches, events (a page), failures, scope (the token of a run's scope), now (RFC 3339).
--
-- Books of 200 pages in chains. Of each book 140 pages are at rest; page 141 is where the book
-- stands: in one of ten live batches, uploaded, waiting for an instant, or runnable; the others
-- wait for the page before. In every fiftieth book page 100 is dead and all behind it wait.

CREATE TEMP TABLE place (i INTEGER PRIMARY KEY, book INTEGER, number INTEGER, key TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < (SELECT pages FROM size))
INSERT INTO place
SELECT i, (i - 1) / 200, (i - 1) % 200 + 1,
       printf('%s:School %06d:%d:%04d',
              CASE (i - 1) / 200 % 4 WHEN 0 THEN 'Alabama' WHEN 1 THEN 'California'
                                     WHEN 2 THEN 'Missouri' ELSE 'Ohio' END,
              (i - 1) / 200, 1849 + (i - 1) / 200 % 30, (i - 1) % 200 + 1)
FROM n;

INSERT INTO recipes (recipe_hash, prompt_name, prompt_template, context_template, schema, model,
                     generation_config, created_at)
SELECT 'recipe-1', 'page_ocr', 'Read {{ key }}', NULL, '{}', 'gemini', '{"temperature":0.1}', now
FROM size;

INSERT INTO runs (run_id, label, status, recipe_hash, scope, config_snapshot, config_sha256,
                  restarts, totals, started_at, ended_at, created_at, updated_at)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
SELECT printf('01a20000-0000-7000-8000-%012d', i), 'night ' || i,
       iif(i = 500, 'processing', 'stopped'), 'recipe-1', scope, 'model: {name: gemini}', 'config',
       i % 3, '{"completed": 10}', at, iif(i = 500, NULL, at), at, at
FROM (SELECT i, scope, strftime('%Y-%m-%dT%H:%M:%f000Z', now, '-' || (500 - i) || ' hours') AS at
      FROM n, size);

INSERT INTO submissions (batch_id, display_name, state, run_id, recipe_hash, model,
                         key_fingerprint, record_count, lines_sha256, lines_bytes, creates,
                         remote_name, remote_state, count_submitted, count_succeeded, count_failed,
                         count_missing, count_released, tokens_prompt, tokens_candidates,
                         tokens_total, cost_nanos, created_at, updated_at, submitted_at, polled_at,
                         ended_at, terminal_seen_at, closed_at)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < (SELECT batches FROM size))
SELECT printf('b%07d', i), printf('pagemill-b%07d', i), iif(live, 'submitted', 'settled'),
       '01a20000-0000-7000-8000-000000000500', 'recipe-1', 'gemini', 'key', iif(live, 100, 10),
       'sha', 500000, 1, printf('batches/b%07d', i),
       iif(live, 'BATCH_STATE_RUNNING', 'BATCH_STATE_SUCCEEDED'),
       iif(live, NULL, 10), iif(live, NULL, 9), iif(live, NULL, 1), iif(live, NULL, 0),
       iif(live, NULL, 0), 30000, 6000, 36000, 20000000, begun, ended, begun, ended,
       iif(live, NULL, ended), iif(live, NULL, ended), iif(live, NULL, ended)
FROM (SELECT i, i > batches - 10 AS live,
             strftime('%Y-%m-%dT%H:%M:%f000Z', now, '-' || ((batches - i) * 5 + 60) || ' minutes') AS begun,
             strftime('%Y-%m-%dT%H:%M:%f000Z', now, '-' || ((batches - i) * 5) || ' minutes') AS ended
      FROM n, size);

INSERT INTO active_batches (batch_id, created_at, updated_at, status)
SELECT batch_id, created_at, updated_at, iif(state = 'settled', 'completed', 'active') FROM submissions;

INSERT INTO pages (record_key, book, levels, page_number, stage, status, scope, run_id,
                   predecessor, waits_for, chain_ahead, not_before, error, batch_id, image_file,
                   image_expires_at, uploaded_at, output_sha256, output_bytes, created_at, updated_at)
SELECT key, substr(key, 1, length(key) - 5),
       json_array(substr(key, 1, instr(key, ':') - 1), printf('School %06d', book),
                  '' || (1849 + book % 30), printf('%04d', number)),
       number, stage,
       CASE stage WHEN 'completed' THEN 'done' WHEN 'dead' THEN 'dead: ValidationError'
                  WHEN 'batched' THEN 'in a batch' ELSE 'on the work list' END,
       scope, '01a20000-0000-7000-8000-000000000500', former,
       iif(stage = 'discovered' AND (number > edge + 1 OR stuck), former, NULL), 200 - number,
       iif(stage = 'discovered' AND number = edge + 1 AND book % 10 = 3 AND NOT stuck,
           strftime('%Y-%m-%dT%H:%M:%f000Z', now, '+' || (book % 90 + 1) || ' minutes'), NULL),
       iif(stage IN ('dead','review'), 'ValidationError', NULL),
       iif(stage = 'batched', printf('b%07d', batches - book / 5 % 10), NULL),
       iif(stage IN ('uploaded','batched'), 'files/' || key, NULL),
       iif(stage IN ('uploaded','batched'), strftime('%Y-%m-%dT%H:%M:%f000Z', now, '+40 hours'), NULL),
       iif(stage IN ('uploaded','batched'), strftime('%Y-%m-%dT%H:%M:%f000Z', now, '-8 hours'), NULL),
       iif(stage = 'completed', 'sha-' || i, NULL), iif(stage = 'completed', 2048, NULL), now, now
FROM (SELECT i, book, number, key, now, batches, scope, stuck, edge,
             CASE WHEN number > edge + 1 THEN 'discovered'
                  WHEN number = edge + 1 THEN
                       CASE WHEN stuck THEN 'discovered'
                            WHEN book % 5 = 0 AND book < 5000 THEN 'batched'
                            WHEN book % 10 = 1 THEN 'uploaded' ELSE 'discovered' END
                  WHEN stuck AND number = edge THEN 'dead'
                  WHEN i % 100 = 37 THEN 'dead'
                  WHEN i % 1000 = 11 THEN 'review'
                  WHEN i % 200 = 63 THEN 'skipped' ELSE 'completed' END AS stage,
             iif(number > 1, substr(key, 1, length(key) - 4) || printf('%04d', number - 1), NULL)
                 AS former
      FROM (SELECT *, book % 50 = 49 AS stuck, iif(book % 50 = 49, 100, 140) AS edge
            FROM place, size)) AS p;

INSERT INTO inflight_records (record_key, batch_id, created_at)
SELECT record_key, batch_id, created_at FROM pages WHERE stage = 'batched';

INSERT INTO page_events (record_key, at, from_stage, to_stage, event, run_id, correlation_id)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < (SELECT events FROM size))
SELECT key, now, iif(n.i = 1, NULL, 'discovered'), 'discovered', iif(n.i = 1, 'seen', 'requeued'),
       '01a20000-0000-7000-8000-000000000500', '01a20000-0000-7000-8000-000000000500'
FROM n, place, size;

INSERT INTO attempts (batch_id, record_key, attempt_number, outcome, error_type, message,
                      image_file, finish_reason, tokens_prompt, tokens_candidates, tokens_total,
                      cost_nanos, created_at, decided_at)
SELECT s.batch_id, p.key, 1, iif(p.i % 10 = 0, 'rejected', 'accepted'),
       iif(p.i % 10 = 0, 'ValidationError', NULL), iif(p.i % 10 = 0, '"title" is missing', NULL),
       'files/' || p.key, 'STOP', 3000, 600, 3600, 2000000, s.created_at, s.closed_at
FROM size CROSS JOIN place AS p CROSS JOIN submissions AS s
WHERE p.i >= 10 AND p.i < 10 * (batches - 9) AND s.batch_id = printf('b%07d', p.i / 10);
INSERT INTO attempts (batch_id, record_key, attempt_number, outcome, image_file, created_at)
SELECT batch_id, record_key, 1, 'pending', image_file, updated_at FROM pages WHERE stage = 'batched';

INSERT INTO batch_record_keys (batch_id, record_key, created_at)
SELECT batch_id, record_key, created_at FROM attempts;

INSERT INTO failure_logs (record_key, batch_id, attempt_number, error_type, error_message,
                          error_traceback, raw_response_text, counted, created_at)
SELECT key, printf('b%07d', i % batches + 1), 1,
       CASE i % 5 WHEN 0 THEN 'Truncated' WHEN 1 THEN 'JSONDecodeError' ELSE 'ValidationError' END,
       'at /: "title" is a required property', 'line 1', 'what the model said of page ' || i, 1,
       strftime('%Y-%m-%dT%H:%M:%f000Z', now, '-' || (i % 43200) || ' minutes')
FROM place, size WHERE i <= failures;
INSERT INTO failure_counts (record_key, count, last_updated)
SELECT record_key, count(*), max(created_at) FROM failure_logs GROUP BY record_key;

INSERT INTO remote_files (name, uri, purpose, mime, bytes, record_key, key_fingerprint, state,
                          created_at, updated_at, expires_at)
SELECT image_file, 'https://files.example/' || image_file, 'image', 'image/jpeg', 500000, record_key,
       'key', 'live', uploaded_at, uploaded_at, image_expires_at
FROM pages WHERE stage IN ('uploaded','batched');

DROP TABLE temp.place;
