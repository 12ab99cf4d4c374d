-- What is yours on each node, for the demonstration: orders, which are written in
-- the transaction that enqueues, and effects, in that which completes. Keys to
-- tenants, so that a row cannot come while its tenant is being moved.

CREATE TABLE orders (
	name text PRIMARY KEY,
	tenant_id uuid NOT NULL REFERENCES tenants (id)
);
CREATE TABLE effects (
	name text PRIMARY KEY,
	tenant_id uuid NOT NULL REFERENCES tenants (id)
);
GRANT INSERT ON orders, effects TO router;
