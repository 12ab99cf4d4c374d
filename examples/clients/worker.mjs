#!/usr/bin/env node
// Writes an invoice for each order, exactly once. (npm install pg)
//
//	TENANT=01890000-... PGUSER=shop node worker.mjs
//
// Stops on SIGTERM, when the job in hand is done. Connects again when the server
// has restarted; a job that was in hand then comes back when its lease runs out.
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";

const worker = `${hostname()}:${process.pid}`;
const pool = new pg.Pool({ max: 1 });
let stopping = false;
let waiting = false;

// a connection that breaks is replaced; who uses it gets the error of his query
pool.on("error", () => {});
pool.on("connect", (client) => client.on("error", () => {}));
process.on("SIGTERM", () => {
  stopping = true;
  if (waiting) process.exit(0);
});

// Runs statements in a transaction for the tenant; with a pooler, each may have
// another session.
async function transaction(run) {
  const client = await pool.connect();
  let broken;
  try {
    await client.query("BEGIN");
    await client.query("SELECT set_config('app.current_tenant', $1, true)", [process.env.TENANT]);
    const result = await run(client);
    await client.query("COMMIT");
    return result;
  } catch (error) {
    broken = error;
    throw error;
  } finally {
    client.release(broken); // a connection with an error is not used again
  }
}

async function writeInvoice({ job_id, lease_token, payload }) {
  try {
    await transaction(async (client) => {
      // the effect and the completion, both or neither
      await client.query("INSERT INTO invoices (order_number, written_by) VALUES ($1, $2)", [payload.order, worker]);
      await client.query("SELECT queue_complete($1, $2, strict => true)", [job_id, lease_token]);
    });
  } catch (error) {
    if (error.code === "QS030") return; // the lease was lost: the job is somebody else's
    await transaction((client) => client.query("SELECT queue_fail($1, $2, $3)", [job_id, lease_token, error.message]));
  }
}

async function turn() {
  const claim = "SELECT * FROM queue_claim('invoices', worker => $1)";
  const { rows } = await transaction((client) => client.query(claim, [worker]));
  if (rows.length > 0) return writeInvoice(rows[0]);
  waiting = true;
  await transaction((client) => client.query("CALL queue_wait('invoices', '30 seconds')"));
}

while (!stopping) {
  try {
    await turn();
  } catch (error) {
    console.error("connects again:", error.message);
    await sleep(1000);
  } finally {
    waiting = false;
  }
}
await pool.end();
