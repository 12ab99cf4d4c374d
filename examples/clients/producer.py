#!/usr/bin/env python3
"""Takes orders: a row and its job, both or neither. (Debian: python3-psycopg)

    TENANT=01890000-... PGUSER=shop ./producer.py 4711 4712

Whether a commit arrived is not known when the connection breaks, so the
transaction is made to be repeated: the order's number makes the row unique,
the idempotency key makes the job so.
"""
import os
import sys
import time

import psycopg
from psycopg.types.json import Jsonb

TENANT = os.environ["TENANT"]


def take_order(conn, number):
    with conn.transaction():
        conn.execute("SELECT set_config('app.current_tenant', %s, true)", [TENANT])
        conn.execute("INSERT INTO orders (number) VALUES (%s) ON CONFLICT DO NOTHING", [number])
        conn.execute(
            "SELECT queue_enqueue('invoices', %s, idempotency_key => %s)",
            [Jsonb({"order": number}), f"invoice of {number}"],
        )


numbers = [int(argument) for argument in sys.argv[1:]]
while numbers:
    try:
        # no prepared statements: a pooler may give each transaction another session
        with psycopg.connect(autocommit=True, prepare_threshold=None) as conn:
            while numbers:
                take_order(conn, numbers[0])
                print("took order", numbers.pop(0))
    except psycopg.OperationalError as error:
        print("connects again:", error, file=sys.stderr)
        time.sleep(1)
