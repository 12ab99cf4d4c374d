-- What the workers did, as tables.

\pset footer off
\pset border 2
\pset linestyle unicode
\echo

\pset title 'Jobs per worker'
SELECT leased_by AS worker, count(*) AS completed,
	sum((result->>'files')::integer) AS files_verified
FROM jobs
WHERE status = 'completed'
GROUP BY 1
ORDER BY 1;

\pset title 'Attempts'
SELECT attempts, count(*) FILTER (WHERE NOT dead) AS completed,
	count(*) FILTER (WHERE dead) AS dead_lettered
FROM (
	SELECT attempts, false AS dead FROM jobs WHERE status = 'completed'
	UNION ALL
	SELECT attempts, true FROM dead_letter_jobs) AS ended
GROUP BY 1
ORDER BY 1;

\pset title 'Dead letters (the first 20)'
SELECT payload->>'package' AS package, attempts, reason,
	(SELECT string_agg(to_char(extract(epoch FROM (e->>'at')::timestamptz - enqueued_at), 'FM990.0" s"'),
			', ' ORDER BY n)
		FROM jsonb_array_elements(errors) WITH ORDINALITY AS failure (e, n)) AS failed_after,
	last_error
FROM dead_letter_jobs
ORDER BY died_at, 1
LIMIT 20;

-- At most 20 lines, whatever it took.
\pset title 'Rate'
WITH span AS (
	SELECT min(enqueued_at) AS start,
		greatest(1, ceil(extract(epoch FROM max(finished_at) - min(enqueued_at)) / 20)) AS step
	FROM jobs
), step AS (
	SELECT floor(extract(epoch FROM finished_at - start) / step) * step AS second,
		step, count(*) AS jobs
	FROM jobs, span
	WHERE status = 'completed'
	GROUP BY 1, 2
)
SELECT format('%s - %s s', second, second + step) AS time,
	round(jobs / step, 1) AS jobs_per_second,
	rpad(repeat('#', ceil(30 * jobs / max(jobs) OVER ())::integer), 30) AS " "
FROM step
ORDER BY second;
