-- Takes an order: the row and its job, both or neither.
--
--	psql -U shop -v tenant=01890000-... -v order=4711 -f producer.sql
--
-- It may be run again if it is not known whether it succeeded: the order's
-- number makes the row unique, and the idempotency key makes the job so.

\set ON_ERROR_STOP on
BEGIN;
SET LOCAL app.current_tenant = :'tenant';
INSERT INTO orders (number) VALUES (:order) ON CONFLICT DO NOTHING;
SELECT job_id, created
FROM queue_enqueue('invoices', jsonb_build_object('order', :order),
	idempotency_key => 'invoice of ' || :order);
COMMIT;
