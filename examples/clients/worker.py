#!/usr/bin/env python3
"""Writes an invoice for each order, exactly once. (Debian: python3-psycopg)

    TENANT=01890000-... PGUSER=shop ./worker.py

Stops on SIGTERM, when the job in hand is done. Connects again when the server
has restarted; a job that was in hand then comes back when its lease runs out.
"""
import os
import signal
import socket
import sys
import time
from contextlib import contextmanager

import psycopg
from psycopg.rows import namedtuple_row

TENANT = os.environ["TENANT"]
WORKER = f"{socket.gethostname()}:{os.getpid()}"
stopping = waiting = False


def stop(_signal, _frame):
    global stopping
    stopping = True
    if waiting:
        sys.exit(0)


@contextmanager
def transaction(conn):
    with conn.transaction():
        conn.execute("SELECT set_config('app.current_tenant', %s, true)", [TENANT])
        yield


def write_invoice(conn, job):
    try:
        with transaction(conn):  # the effect and the completion, both or neither
            conn.execute(
                "INSERT INTO invoices (order_number, written_by) VALUES (%s, %s)",
                [job.payload["order"], WORKER],
            )
            conn.execute("SELECT queue_complete(%s, %s, strict => true)", [job.job_id, job.lease_token])
    except psycopg.OperationalError:
        raise  # the server is gone
    except Exception as error:
        if getattr(error, "sqlstate", None) == "QS030":
            return  # the lease was lost, and the job is somebody else's
        with transaction(conn):
            conn.execute("SELECT queue_fail(%s, %s, %s)", [job.job_id, job.lease_token, str(error)])


def work(conn):
    global waiting
    while not stopping:
        with transaction(conn):
            job = conn.execute("SELECT * FROM queue_claim('invoices', worker => %s)", [WORKER]).fetchone()
        if job:
            write_invoice(conn, job)
            continue
        waiting = True
        with transaction(conn):
            conn.execute("CALL queue_wait('invoices', '30 seconds')")
        waiting = False


signal.signal(signal.SIGTERM, stop)
while not stopping:
    try:
        # no prepared statements: a pooler may give each transaction another session
        with psycopg.connect(autocommit=True, prepare_threshold=None, row_factory=namedtuple_row) as conn:
            work(conn)
    except psycopg.OperationalError as error:
        waiting = False
        print("connects again:", error, file=sys.stderr)
        time.sleep(1)
