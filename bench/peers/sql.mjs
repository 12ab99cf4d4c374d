// sql.mjs MODULES: installs the schemas of pg-boss and graphile-worker into the
// database that PG* names, and writes the SQL that they send, as JSON:
//
//	{ peer: { verb: { text, variables }, ... }, ... }
//
// Each verb is called once, and what the library sends is noted: its own SQL, for
// its own settings. Their parameters become variables of pgbench: ids of jobs
// :id or :ids, which the claim sets, others their value. Statements that a library
// sends only once (what it caches) are left out.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const modules = process.argv[2];
const payload = JSON.parse(process.argv[3]);
const many = Number(process.argv[4]);
const load = (path) => import(pathToFileURL(join(modules, path)));

const { default: pg } = await load('pg/esm/index.mjs');
const { PgBoss } = await load('pg-boss/dist/index.js');
const { makeWorkerUtils } = await load('graphile-worker/dist/index.js');
const { processSharedOptions } = await load('graphile-worker/dist/lib.js');
const { batchGetJobs } = await load('graphile-worker/dist/sql/getJobs.js');
const { batchCompleteJobs } = await load('graphile-worker/dist/sql/completeJobs.js');

const pool = new pg.Pool();
let sent = [];

async function query(text, values) {
	if (typeof text === 'object')
		({ text, values } = text);
	sent.push({ text, values: values ?? [] });
	return pool.query(text, values);
}

// What was sent last while the code ran, for pgbench.
async function note(code, ids = []) {
	const variables = {};
	sent = [];
	const result = await code();
	const { text, values } = sent.at(-1);
	const is_id = (value) => ids.some((id) => id === value);
	const replaced = text.replaceAll(/\$(\d+)/g, (_, n) => {
		const value = values[n - 1];
		if (value === null || value === undefined)
			return 'NULL';
		if (is_id(value))
			return ':id';
		if (Array.isArray(value) && value.some(is_id))
			return value.length === 1 ? 'ARRAY[:id]' : ':ids';
		variables[`p${n}`] = Array.isArray(value) ? `{${value.join(',')}}` : String(value);
		return `:p${n}`;
	});
	return [{ text: replaced.trim().replace(/;$/, ''), variables }, result];
}

// The verbs of a library that has send, insert, fetch and complete.
async function verbs({ send, insert, fetch, complete }) {
	const found = {};
	[found.enqueue] = await note(() => send(payload));
	[found.enqueue_many] = await note(() => insert(Array(many).fill(payload)));
	for (const n of [1, 10, 100]) {
		await insert(Array(n).fill(payload));
		let jobs;
		[found[`claim${n}`], jobs] = await note(() => fetch(n));
		[found[`complete${n}`]] = await note(() => complete(jobs), jobs.map((job) => job.id));
	}
	return found;
}

async function pg_boss() {
	const boss = new PgBoss({ db: { executeSql: query }, supervise: false, schedule: false });
	await boss.start();
	await boss.createQueue('mail');
	return verbs({
		send: (data) => boss.send('mail', data),
		insert: (all) => boss.insert('mail', all.map((data) => ({ data }))),
		fetch: (batchSize) => boss.fetch('mail', { batchSize }),
		complete: (jobs) => boss.complete('mail', jobs.map((job) => job.id)),
	});
}

async function graphile_worker() {
	const utils = await makeWorkerUtils({ pgPool: pool });
	const options = processSharedOptions({ pgPool: pool });
	const with_client = (code) => code({ query });
	const tasks = { mail: () => {} };

	await utils.migrate();
	await utils.release();
	with_client.withRetries = with_client;
	// its helpers send what these two calls do
	const { makeAddJob, makeAddJobs } = await load('graphile-worker/dist/helpers.js');
	const add_job = makeAddJob(options, with_client);
	const add_jobs = makeAddJobs(options, with_client);
	await add_job('mail', payload);
	await batchGetJobs(options, with_client, tasks, 'worker', null, 1);
	return verbs({
		send: (data) => add_job('mail', data),
		insert: (all) => add_jobs(all.map((data) => ({ identifier: 'mail', payload: data }))),
		fetch: (n) => batchGetJobs(options, with_client, tasks, 'worker', null, n),
		complete: (jobs) => batchCompleteJobs(options, with_client, 'worker', jobs),
	});
}

const found = { 'pg-boss': await pg_boss(), 'graphile-worker': await graphile_worker() };
process.stdout.write(JSON.stringify(found, null, '\t'), () => process.exit(0));
