-- When cron expressions are due.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS queue_service;
SET timezone = 'UTC';
SET datestyle = 'ISO';

-- the next times, in UTC and as clocks on walls have them
CREATE FUNCTION pg_temp.due(cron text, zone text, after timestamptz, n integer) RETURNS TABLE (utc text, local text) LANGUAGE sql AS $$
	SELECT to_char(t AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), to_char(t AT TIME ZONE zone, 'Dy DD Mon HH24:MI:SS') FROM queue_cron_next(cron, zone, after, n) t$$;
-- the same in one line
CREATE FUNCTION pg_temp.line(cron text, n integer DEFAULT 6, after timestamptz DEFAULT '2026-01-01 00:00Z', zone text DEFAULT 'UTC', format text DEFAULT 'MM-DD HH24:MI') RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(to_char(t AT TIME ZONE zone, format), ', ') FROM queue_cron_next(cron, zone, after, n) t$$;

-- fields
SELECT cron, pg_temp.line(cron) FROM unnest(ARRAY[
	'* * * * *', '5 * * * *', '*/20 * * * *', '7/20 * * * *', '10-12 * * * *', '0,30 * * * *', '10-50/20,5 * * * *', '59 23 * * *', '00 07 * * *',
	'0 */9 * * *', '0 8-17/4 * * *', '0 0 1 * *', '0 0 1,15 * *', '0 0 31 * *', '0 0 10/10 * *', '0 0 L * *', '0 0 15,l * *', '0 12 28-31,L 2 *',
	'0 0 1 jan *', '0 0 1 Feb-APR *', '0 0 1 */3 *', '0 0 1 11/1 *',
	'0 0 * * 0', '0 0 * * 7', '0 0 * * sun', '0 0 * * Mon', '0 0 * * 1-5', '0 0 * * mon-fri', '0 0 * * fri-sun', '0 0 * * 6-7', '0 0 * * */3', '0 0 * * 5/1', '0 0 * * tue,THU',
	'@hourly', '@daily', '@midnight', '@weekly', '@monthly', '@yearly', '@annually', '  @Daily ', E'\t0  0\t* * *\n']) cron;

-- days: either of both, unless one begins with a star
SELECT cron, pg_temp.line(cron, 8, format => 'Dy DD Mon') FROM unnest(ARRAY['0 0 13 * 5', '0 0 1,L * 1', '0 0 */2 * 1', '0 0 * * 1', '0 0 13 * *', '0 0 13 * */2', '0 0 1-31 * 1', '0 0 L 2 5']) cron;

-- month ends and leap days
SELECT cron, pg_temp.line(cron, 6, after, format => 'YYYY-MM-DD') FROM (VALUES
	('0 0 31 * *', '2026-01-31 00:00Z'::timestamptz), ('0 0 30 * *', '2026-01-30 00:00Z'), ('0 0 29 * *', '2027-12-29 00:00Z'), ('0 0 L * *', '2027-12-31 00:00Z'), ('0 0 L 2 *', '2023-01-01 00:00Z'),
	('0 0 29 2 *', '2023-01-01 00:00Z'), ('0 0 29 2 *', '2096-01-01 00:00Z'), ('0 0 29 2 */7', '2026-01-01 00:00Z'), ('0 0 L 2 */7', '2026-01-01 00:00Z'), ('59 23 31 12 *', '2026-12-31 23:58:59.999999Z')) c (cron, after);

-- strictly after, to the microsecond
SELECT pg_temp.line('0 12 * * *', 1, after) FROM unnest(ARRAY['2026-05-05 11:59:59.999999Z', '2026-05-05 12:00Z', '2026-05-05 12:00:00.000001Z']::timestamptz[]) after;

-- offsets other than whole hours, and seconds of a time before zones were agreed on
SELECT * FROM pg_temp.due('0 9 * * *', 'Asia/Kathmandu', '2026-01-01 00:00Z', 1);
SELECT * FROM pg_temp.due('30 8 * * *', 'Pacific/Chatham', '2026-01-01 00:00Z', 1);
SELECT * FROM pg_temp.due('0 12 * * *', 'Africa/Monrovia', '1971-01-01 00:00Z', 1);

-- a gap: Berlin has no 02:00 to 02:59 on 29 March 2026
SELECT cron, d.* FROM unnest(ARRAY['30 2 * * *', '0 2 * * *', '59 2 * * *', '0 3 * * *', '30 1 * * *', '*/20 2 * * *', '*/20 2,3 * * *', '0 */2 * * *', '30 2 29 3 *', '30 2 * * 0']) cron,
	pg_temp.due(cron, 'Europe/Berlin', '2026-03-29 00:15Z', 4) d;
-- ... what is due in every hour follows the time that passes
SELECT cron, pg_temp.line(cron, 4, '2026-03-29 00:10Z', 'Europe/Berlin') FROM unnest(ARRAY['15 * * * *', '*/30 * * * *', '0 0-23 * * *', '* * * * *', '30 0-1,2-23 29 3 *']) cron;
-- a doubled hour: Berlin has 02:00 to 02:59 twice on 25 October 2026
SELECT cron, d.* FROM unnest(ARRAY['30 2 * * *', '0 2 * * *', '0 3 * * *', '*/20 2 * * *', '0 */2 * * *', '30 2 25 10 *']) cron,
	pg_temp.due(cron, 'Europe/Berlin', '2026-10-25 00:15Z', 4) d;
SELECT * FROM pg_temp.due('*/30 * * * *', 'Europe/Berlin', '2026-10-24 23:50Z', 6);
SELECT * FROM pg_temp.due('15 * * * *', 'Europe/Berlin', '2026-10-24 23:50Z', 4);
-- begun in the gap's last moment, and within the doubled hour, either of both
SELECT d.* FROM unnest(ARRAY['2026-03-29 00:59:59.999999Z', '2026-03-29 01:00Z']::timestamptz[]) after, pg_temp.due('30 2 * * *', 'Europe/Berlin', after, 1) d;
SELECT d.* FROM unnest(ARRAY['2026-10-25 00:29:59Z', '2026-10-25 00:30Z', '2026-10-25 01:10Z', '2026-10-25 01:30Z']::timestamptz[]) after, pg_temp.due('30 2 * * *', 'Europe/Berlin', after, 1) d;
-- a gap at midnight, of half an hour, of two hours, of a day, and one without daylight saving time
SELECT * FROM pg_temp.due('0 0 * * *', 'America/Havana', '2026-03-07 12:00Z', 3);
SELECT * FROM pg_temp.due('15 2 * * *', 'Australia/Lord_Howe', '2026-10-02 18:00Z', 3);
SELECT * FROM pg_temp.due('45 1 * * *', 'Australia/Lord_Howe', '2026-04-03 18:00Z', 3);
SELECT * FROM pg_temp.due('15 2 * * *', 'Antarctica/Troll', '2026-03-28 12:00Z', 3);
SELECT * FROM pg_temp.due('0 12 * * *', 'Pacific/Apia', '2011-12-29 12:00Z', 3);
SELECT * FROM pg_temp.due('0 12 * * *', 'Pacific/Kwajalein', '1969-09-29 12:00Z', 3);
SELECT * FROM pg_temp.due('15 0 * * *', 'Asia/Pyongyang', '2018-05-04 00:00Z', 2);
-- the rules of a zone go on
SELECT * FROM pg_temp.due('30 2 * * *', 'Europe/Berlin', '2120-03-30 12:00Z', 2);
-- names of zones as PostgreSQL takes them
SELECT pg_temp.line('0 0 * * *', 1, zone => zone) FROM unnest(ARRAY['europe/BERLIN', 'UTC', 'Etc/GMT+5', '<X>-3']) zone;

-- in order, each matched, none between missed: as SQL has it
WITH due AS (SELECT t, lag(t) OVER (ORDER BY n) AS before FROM queue_cron_next('*/15 8-10,13 * 2-11 1-5', 'America/New_York', '2026-01-01 00:00Z', 3000) WITH ORDINALITY d (t, n)), model AS (
	SELECT m AS t FROM generate_series('2026-01-01 00:01Z'::timestamptz, (SELECT max(t) FROM due), '1 minute') m, LATERAL (SELECT m AT TIME ZONE 'America/New_York') l (l)
	WHERE extract(minute FROM l) IN (0, 15, 30, 45) AND extract(hour FROM l) IN (8, 9, 10, 13) AND extract(month FROM l) BETWEEN 2 AND 11 AND extract(dow FROM l) BETWEEN 1 AND 5)
SELECT count(*), count(*) FILTER (WHERE before >= due.t) AS unordered, count(*) FILTER (WHERE model.t IS NULL OR due.t IS NULL) AS different FROM due FULL JOIN model USING (t);

-- what is wrong with it
\set VERBOSITY terse
CREATE FUNCTION pg_temp.wrong(cron text, zone text DEFAULT 'UTC') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
BEGIN
	RETURN 'nothing: ' || queue_cron_next(cron, zone, '2026-01-01 00:00Z');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(': ', SQLSTATE, message, detail);
END$$;
SELECT cron, pg_temp.wrong(cron) FROM unnest(ARRAY['*', '* * * *', '* * * * * *', ' ', '* * * * ', '60 * * * *', '* 24 * * *', '* * 0 * *', '* * 32 * *', '* * * 0 *', '* * * 13 *', '* * * * 8', '-1 * * * *', '99999999999999999999 * * * *',
	'*/0 * * * *', '*/60 * * * *', '*/ * * * *', '*/x * * * *', '1-/2 * * * *', '5-1 * * * *', '* * * * fri-mon', '1--2 * * * *', '1-2-3 * * * *', ', * * * *', '1, * * * *', ',1 * * * *', '1,,2 * * * *', '** * * * *', '1* * * * *', '? * * * *',
	'x * * * *', 'jan * * * *', '* * * mon *', '* * * * jan', '* * * january *', '* * * ja *', '* * * * m', '* * L-3 * *', '* * 1-L * *', '* * L/2 * *', 'L * * * *', '* * LW * *', '* * * L *', '* * * * 5L', '* * * * 5#2', '1.5 * * * *', '0x1 * * * *', '１ * * * *', '* * ﬁ * *',
	'@', '@reboot', '@hourlyx', '@daily @daily', '@daily 0', '@every 5m', '0 0 30 2 *', '0 0 31 2,4,6,9,11 *', '0 0 31 apr */2']) cron;
SELECT zone, pg_temp.wrong('@daily', zone) FROM unnest(ARRAY['Europe/Berlim', 'CEST', ' UTC', '', '../../../etc/passwd', 'right/UTC']) zone;
SELECT pg_temp.wrong('@daily', repeat('x', 256));
SELECT pg_temp.wrong('0 0 31 2 1');
SELECT queue_cron_next(NULL);
SELECT queue_cron_next('@daily', NULL);
SELECT queue_cron_next('@daily', n => NULL);
SELECT queue_cron_next('@daily', n => 0);
SELECT queue_cron_next('@daily', n => 10001);
SELECT queue_cron_next('@daily', after => 'infinity');
SELECT queue_cron_next('@daily', after => now() + interval '101 years');
SELECT queue_cron_next(repeat('*', 1001));
SELECT bool_and(t > now() AND t < now() + interval '25 hours') AS next, count(*) FROM queue_cron_next('@daily') t;
-- it needs no tenant, and no table
BEGIN READ ONLY;
SET LOCAL app.current_tenant = 'x';
SELECT count(*) FROM queue_cron_next('@daily', n => 10000);
COMMIT;
