-- The shop that the clients here work for: orders come in, and each gets one
-- invoice. As the owner of the extension:
--
--	psql -v tenant=01890000-0000-7000-8000-000000000001 -f shop.sql

INSERT INTO tenants (id, name) VALUES (:'tenant', :'tenant') ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS orders (
	tenant_id uuid NOT NULL DEFAULT queue_tenant(),
	number bigint CHECK (number > 0),
	PRIMARY KEY (tenant_id, number));
-- No key keeps an order from having two invoices: strict completion does.
CREATE TABLE IF NOT EXISTS invoices (
	tenant_id uuid NOT NULL DEFAULT queue_tenant(),
	order_number bigint NOT NULL,
	written_by text NOT NULL,
	FOREIGN KEY (tenant_id, order_number) REFERENCES orders);

SELECT 'CREATE ROLE shop LOGIN' WHERE to_regrole('shop') IS NULL \gexec
GRANT SELECT, INSERT ON orders, invoices TO shop;
SELECT queue_grant('shop', 'producer'), queue_grant('shop', 'worker') \g /dev/null

BEGIN;
SET LOCAL app.current_tenant = :'tenant';
SELECT queue_create('invoices', max_attempts => 2, backoff_base => '1 second') \g /dev/null
COMMIT;
