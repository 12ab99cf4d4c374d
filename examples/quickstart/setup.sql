-- One job for each installed package.
--
-- Reads :packages (tab-separated: name, size in KiB, md5sums file) and brings
-- the whole below :budget_mb by verifying only every n-th file of the largest
-- packages.

INSERT INTO tenants (id, name) VALUES (:'tenant', 'quickstart');
SELECT set_config('app.current_tenant', :'tenant', false) \g /dev/null

SELECT queue_create('verify',
	description => 'Verify the files of Debian packages',
	max_attempts => 3,
	default_lease => '2 minutes',
	backoff_base => '1 second',
	backoff_factor => 2,
	backoff_jitter => 0.2) \g /dev/null

CREATE TEMP TABLE package (name text, kb bigint, md5sums text);
\copy package FROM pstdin (NULL '')

CREATE TEMP TABLE cap AS
SELECT max(mb) * 1024 AS kb
FROM (SELECT 64 >> n AS mb FROM generate_series(0, 6) AS n) AS candidate
WHERE mb = 1
	OR (SELECT sum(least(kb, mb * 1024)) FROM package) <= :budget_mb * 1024;

SELECT count(*) AS jobs
FROM queue_enqueue_many('verify',
	ARRAY(SELECT jsonb_build_object('package', name, 'md5sums', md5sums,
			'every', greatest(1, ceil(package.kb::numeric / cap.kb)))
		FROM package, cap ORDER BY name),
	job_type => 'verify-package') \gset

SELECT count(*) FILTER (WHERE package.kb > cap.kb) AS large, cap.kb / 1024 AS cap_mb
FROM package, cap GROUP BY cap.kb \gset

\echo Enqueued :jobs jobs, one for each installed package.
\echo (:large packages have more than :cap_mb MB: of those only every n-th file is read.)
