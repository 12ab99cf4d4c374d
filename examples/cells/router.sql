-- The router: PL/Proxy functions that call the nodes, and where each tenant is.
-- Variables: partitions, the options of the server (p0 'host=... dbname=...', ...);
-- home_nodes, how many nodes there are at first.

CREATE EXTENSION plproxy;
CREATE SCHEMA cells;

-- modular_mapping: any number of nodes, not only powers of two.
CREATE SERVER cells FOREIGN DATA WRAPPER plproxy OPTIONS (modular_mapping '1', :partitions);
CREATE USER MAPPING FOR PUBLIC SERVER cells OPTIONS ("user" 'router');

-- Tenants that are not on the node that their hash says. A node that is added
-- changes no hash: tenants are moved to it.
CREATE TABLE cells.moved (
	tenant_id uuid PRIMARY KEY,
	node integer NOT NULL,
	moved_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What "move" is about, so that it can be finished or taken back after a crash:
-- copying, nothing has happened yet; decided, all will.
CREATE TABLE cells.moves (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	tenant_id uuid NOT NULL UNIQUE,
	from_node integer NOT NULL,
	to_node integer NOT NULL,
	state text NOT NULL DEFAULT 'copying' CHECK (state IN ('copying', 'decided')),
	started_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- By MD5, which no version of PostgreSQL will change.
CREATE FUNCTION cells.home_node(tenant uuid) RETURNS integer
LANGUAGE sql IMMUTABLE
RETURN ('x' || substr(md5(tenant::text), 1, 7))::bit(28)::integer % :home_nodes;

CREATE FUNCTION cells.node(tenant uuid) RETURNS integer
LANGUAGE sql STABLE
RETURN coalesce((SELECT m.node FROM cells.moved m WHERE m.tenant_id = tenant), cells.home_node(tenant));

-- Where to connect to enqueue in a transaction of one's own.
CREATE FUNCTION cells.connection(node integer) RETURNS text
LANGUAGE sql STABLE
RETURN (SELECT o.option_value FROM pg_foreign_server s, pg_options_to_table(s.srvoptions) o
	WHERE s.srvname = 'cells' AND o.option_name = 'p' || node);

CREATE FUNCTION cells.nodes() RETURNS SETOF integer
LANGUAGE sql STABLE
AS $$
	SELECT substr(o.option_name, 2)::integer FROM pg_foreign_server s, pg_options_to_table(s.srvoptions) o
	WHERE s.srvname = 'cells' AND o.option_name ~ '^p\d+$' ORDER BY 1
$$;

-- Each verb twice: on a node, by PL/Proxy; and for a tenant, which goes where the
-- tenant is. What raised QC001 did nothing: if the tenant is on another node by
-- now, it is repeated there.

CREATE FUNCTION cells.enqueue_on(node integer, tenant uuid, queue text, payload jsonb, idempotency_key text, group_key text,
	run_at timestamptz, OUT job_id uuid, OUT created boolean)
LANGUAGE plproxy
AS $$
	CLUSTER 'cells'; RUN ON node;
	SELECT * FROM cell.enqueue(tenant, queue, payload, idempotency_key, group_key, run_at);
$$;
CREATE FUNCTION cells.enqueue(tenant uuid, queue text, payload jsonb DEFAULT '{}', idempotency_key text DEFAULT NULL,
	group_key text DEFAULT NULL, run_at timestamptz DEFAULT NULL, OUT job_id uuid, OUT created boolean)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
	node integer;
BEGIN
	LOOP
		node := cells.node(tenant);
		BEGIN
			SELECT e.job_id, e.created INTO job_id, created
			FROM cells.enqueue_on(node, tenant, queue, payload, idempotency_key, group_key, run_at) e;
			RETURN;
		EXCEPTION WHEN SQLSTATE 'QC001' THEN
			IF cells.node(tenant) = node THEN
				RAISE;
			END IF;
		END;
	END LOOP;
END $$;

CREATE FUNCTION cells.claim_on(node integer, tenant uuid, queue text, worker text, max_jobs integer, lease interval)
RETURNS TABLE (job_id uuid, lease_token bigint, payload jsonb, attempt integer, leased_until timestamptz)
LANGUAGE plproxy
AS $$
	CLUSTER 'cells'; RUN ON node;
	SELECT * FROM cell.claim(tenant, queue, worker, max_jobs, lease);
$$;
CREATE FUNCTION cells.claim(tenant uuid, queue text, worker text DEFAULT NULL, max_jobs integer DEFAULT 1, lease interval DEFAULT NULL)
RETURNS TABLE (job_id uuid, lease_token bigint, payload jsonb, attempt integer, leased_until timestamptz)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
	node integer;
BEGIN
	LOOP
		node := cells.node(tenant);
		BEGIN
			RETURN QUERY SELECT c.* FROM cells.claim_on(node, tenant, queue, worker, max_jobs, lease) c;
			RETURN;
		EXCEPTION WHEN SQLSTATE 'QC001' THEN
			IF cells.node(tenant) = node THEN
				RAISE;
			END IF;
		END;
	END LOOP;
END $$;

CREATE FUNCTION cells.complete_on(node integer, tenant uuid, job uuid, lease_token bigint, result jsonb, OUT outcome text)
LANGUAGE plproxy
AS $$
	CLUSTER 'cells'; RUN ON node;
	SELECT * FROM cell.complete(tenant, job, lease_token, result);
$$;
CREATE FUNCTION cells.complete(tenant uuid, job uuid, lease_token bigint, result jsonb DEFAULT NULL, OUT outcome text)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
	node integer;
BEGIN
	LOOP
		node := cells.node(tenant);
		BEGIN
			outcome := cells.complete_on(node, tenant, job, lease_token, result);
			RETURN;
		EXCEPTION WHEN SQLSTATE 'QC001' THEN
			IF cells.node(tenant) = node THEN
				RAISE;
			END IF;
		END;
	END LOOP;
END $$;

CREATE FUNCTION cells.fail_on(node integer, tenant uuid, job uuid, lease_token bigint, error text, retry_in interval, OUT outcome text)
LANGUAGE plproxy
AS $$
	CLUSTER 'cells'; RUN ON node;
	SELECT * FROM cell.fail(tenant, job, lease_token, error, retry_in);
$$;
CREATE FUNCTION cells.fail(tenant uuid, job uuid, lease_token bigint, error text DEFAULT NULL, retry_in interval DEFAULT NULL,
	OUT outcome text)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
	node integer;
BEGIN
	LOOP
		node := cells.node(tenant);
		BEGIN
			outcome := cells.fail_on(node, tenant, job, lease_token, error, retry_in);
			RETURN;
		EXCEPTION WHEN SQLSTATE 'QC001' THEN
			IF cells.node(tenant) = node THEN
				RAISE;
			END IF;
		END;
	END LOOP;
END $$;

CREATE FUNCTION cells.heartbeat_on(node integer, tenant uuid, job uuid, lease_token bigint, OUT held boolean,
	OUT cancel_requested boolean, OUT leased_until timestamptz)
LANGUAGE plproxy
AS $$
	CLUSTER 'cells'; RUN ON node;
	SELECT * FROM cell.heartbeat(tenant, job, lease_token);
$$;
CREATE FUNCTION cells.heartbeat(tenant uuid, job uuid, lease_token bigint, OUT held boolean, OUT cancel_requested boolean,
	OUT leased_until timestamptz)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
	node integer;
BEGIN
	LOOP
		node := cells.node(tenant);
		BEGIN
			SELECT h.held, h.cancel_requested, h.leased_until INTO held, cancel_requested, leased_until
			FROM cells.heartbeat_on(node, tenant, job, lease_token) h;
			RETURN;
		EXCEPTION WHEN SQLSTATE 'QC001' THEN
			IF cells.node(tenant) = node THEN
				RAISE;
			END IF;
		END;
	END LOOP;
END $$;

-- Statistics of all nodes: at once, and an error if one is down;
CREATE FUNCTION cells.statistics(OUT tenant_id uuid, OUT queue text, OUT depth bigint, OUT processing bigint, OUT enqueued bigint,
	OUT completed bigint, OUT dead bigint)
RETURNS SETOF record
LANGUAGE plproxy
AS $$
	CLUSTER 'cells'; RUN ON ALL;
	SELECT * FROM cell.statistics();
$$;

-- or node by node, with what is wrong with one instead.
CREATE FUNCTION cells.statistics_on(node integer, OUT tenant_id uuid, OUT queue text, OUT depth bigint, OUT processing bigint,
	OUT enqueued bigint, OUT completed bigint, OUT dead bigint)
RETURNS SETOF record
LANGUAGE plproxy
AS $$
	CLUSTER 'cells'; RUN ON node;
	SELECT * FROM cell.statistics();
$$;
CREATE FUNCTION cells.state()
RETURNS TABLE (node integer, tenants bigint, depth numeric, processing numeric, completed numeric, error text)
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
	FOR node IN SELECT cells.nodes() LOOP
		BEGIN
			SELECT count(DISTINCT s.tenant_id), sum(s.depth), sum(s.processing), sum(s.completed), NULL
				INTO tenants, depth, processing, completed, error
			FROM cells.statistics_on(node) s;
		EXCEPTION WHEN OTHERS THEN
			tenants := NULL;
			depth := NULL;
			processing := NULL;
			completed := NULL;
			error := SQLERRM;
		END;
		RETURN NEXT;
	END LOOP;
END $$;
