-- A tenant whose names and errors would be scripts.
SET client_min_messages = warning;
INSERT INTO tenants (id, name) VALUES ('00000000-0000-4000-8000-00000000000a', '</title><script>document.title = "ran"</script>');
SET app.current_tenant = '00000000-0000-4000-8000-00000000000a';
CREATE TEMP TABLE hostile AS SELECT text FROM unnest(ARRAY[
	'</script><script>document.title = "ran"</script>', '"><img src=x onerror="document.title = ''ran''">', ''' onmouseover=''document.title = "ran"',
	'</style></svg><iframe srcdoc="<script>parent.document.title = 1</script>">', '--><svg onload="document.title = ''ran''">', E'a\x01\x1b[2J', E'\u202Egpj.exe',
	E'\u05e2\u05d1\u05e8\u05d9\u05ea', repeat('W', 128), repeat('long words ', 11), 'javascript:document.title="ran"']) text;
SELECT queue_create(text, alert_depth => 1), queue_enqueue(text, job_type => text), queue_enqueue(text), queue_tenant_limit_set(queue_tenant(), text, 10, 1) FROM hostile;
SELECT queue_fail(job_id, lease_token, text, dead => true) FROM hostile, LATERAL queue_claim(text, text);
SELECT FROM queue_maintain(now());
RESET app.current_tenant;
SELECT FROM queue_maintain();
