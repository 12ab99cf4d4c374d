#!/usr/bin/env node
// Takes orders: a row and its job, both or neither. (npm install pg)
//
//	TENANT=01890000-... PGUSER=shop node producer.mjs 4711 4712
//
// Whether a commit arrived is not known when the connection breaks, so the
// transaction is made to be repeated: the order's number makes the row unique,
// the idempotency key makes the job so.
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";

const pool = new pg.Pool({ max: 1 });
// a connection that breaks is replaced; who uses it gets the error of his query
pool.on("error", () => {});
pool.on("connect", (client) => client.on("error", () => {}));

async function takeOrder(number) {
  const client = await pool.connect();
  let broken;
  try {
    await client.query("BEGIN");
    await client.query("SELECT set_config('app.current_tenant', $1, true)", [process.env.TENANT]);
    await client.query("INSERT INTO orders (number) VALUES ($1) ON CONFLICT DO NOTHING", [number]);
    await client.query("SELECT queue_enqueue('invoices', $1, idempotency_key => $2)", [
      { order: number },
      `invoice of ${number}`,
    ]);
    await client.query("COMMIT");
  } catch (error) {
    broken = error;
    throw error;
  } finally {
    client.release(broken); // a connection with an error is not used again
  }
}

// 57P0x, 08xxx: the server stops, or the connection broke; without a code of
// the server's, it was not reached
const isPassing = (error) => /^(57P0|08)/.test(error.code ?? "08") || error.severity === undefined;

for (const number of process.argv.slice(2).map(Number)) {
  for (;;) {
    try {
      await takeOrder(number);
      console.log("took order", number);
      break;
    } catch (error) {
      if (!isPassing(error)) throw error;
      console.error("connects again:", error.message);
      await sleep(1000);
    }
  }
}
await pool.end();
