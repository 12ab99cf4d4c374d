-- What the router calls on each node, beside queue_service in the schema public.
--
-- A tenant is on the node that has its row in tenants. Calls for one that is not
-- here raise QC001 and have done nothing, so that the router can ask again where
-- it is, and repeat them there. Whoever connects to the node by himself needs
-- nothing of this.

CREATE SCHEMA cell;

CREATE FUNCTION cell.must_be_here(tenant uuid, hold boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = public, pg_temp
AS $$
BEGIN
	IF hold THEN
		PERFORM FROM tenants t WHERE t.id = tenant FOR KEY SHARE;
	ELSE
		PERFORM FROM tenants t WHERE t.id = tenant;
	END IF;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'tenant % is not on this node', tenant USING ERRCODE = 'QC001';
	END IF;
END $$;
COMMENT ON FUNCTION cell.must_be_here(uuid, boolean) IS
'Raises QC001 unless the tenant is on this node. With hold it stays until the transaction ends, as whoever moves it waits for that.';

CREATE FUNCTION cell.enqueue(tenant uuid, queue text, payload jsonb, idempotency_key text, group_key text, run_at timestamptz,
	OUT job_id uuid, OUT created boolean)
LANGUAGE plpgsql VOLATILE
SET search_path = public, pg_temp
AS $$
BEGIN
	PERFORM cell.must_be_here(tenant, hold => true);
	PERFORM set_config('app.current_tenant', tenant::text, true);
	SELECT e.job_id, e.created INTO job_id, created
	FROM queue_enqueue(queue, payload, idempotency_key => idempotency_key, group_key => group_key, run_at => run_at) e;
END $$;
COMMENT ON FUNCTION cell.enqueue(uuid, text, jsonb, text, text, timestamptz) IS 'queue_enqueue() for a tenant.';

CREATE FUNCTION cell.claim(tenant uuid, queue text, worker text, max_jobs integer, lease interval)
RETURNS TABLE (job_id uuid, lease_token bigint, payload jsonb, attempt integer, leased_until timestamptz)
LANGUAGE plpgsql VOLATILE
SET search_path = public, pg_temp
AS $$
BEGIN
	-- Holds nothing, so that it writes nothing but the claim, which then commits
	-- without waiting for the disk.
	PERFORM cell.must_be_here(tenant);
	PERFORM set_config('app.current_tenant', tenant::text, true);
	RETURN QUERY SELECT c.job_id, c.lease_token, c.payload, c.attempt, c.leased_until
		FROM queue_claim(queue, worker, max_jobs, lease) c;
END $$;
COMMENT ON FUNCTION cell.claim(uuid, text, text, integer, interval) IS 'queue_claim() for a tenant.';

-- "lost" may also mean that the job is on another node by now, lease and all.
CREATE FUNCTION cell.complete(tenant uuid, job uuid, lease_token bigint, result jsonb, OUT outcome text)
LANGUAGE plpgsql VOLATILE
SET search_path = public, pg_temp
AS $$
BEGIN
	PERFORM set_config('app.current_tenant', tenant::text, true);
	SELECT c.outcome INTO outcome FROM queue_complete(job, lease_token, result) c;
	IF outcome = 'lost' THEN
		PERFORM cell.must_be_here(tenant);
	END IF;
END $$;
COMMENT ON FUNCTION cell.complete(uuid, uuid, bigint, jsonb) IS 'queue_complete() for a tenant.';

CREATE FUNCTION cell.fail(tenant uuid, job uuid, lease_token bigint, error text, retry_in interval, OUT outcome text)
LANGUAGE plpgsql VOLATILE
SET search_path = public, pg_temp
AS $$
BEGIN
	PERFORM set_config('app.current_tenant', tenant::text, true);
	SELECT f.outcome INTO outcome FROM queue_fail(job, lease_token, error, retry_in) f;
	IF outcome = 'lost' THEN
		PERFORM cell.must_be_here(tenant);
	END IF;
END $$;
COMMENT ON FUNCTION cell.fail(uuid, uuid, bigint, text, interval) IS 'queue_fail() for a tenant.';

CREATE FUNCTION cell.heartbeat(tenant uuid, job uuid, lease_token bigint, OUT held boolean, OUT cancel_requested boolean,
	OUT leased_until timestamptz)
LANGUAGE plpgsql VOLATILE
SET search_path = public, pg_temp
AS $$
BEGIN
	PERFORM set_config('app.current_tenant', tenant::text, true);
	SELECT h.held, h.cancel_requested, h.leased_until INTO held, cancel_requested, leased_until
	FROM queue_heartbeat(job, lease_token) h;
	IF NOT held THEN
		PERFORM cell.must_be_here(tenant);
	END IF;
END $$;
COMMENT ON FUNCTION cell.heartbeat(uuid, uuid, bigint) IS 'queue_heartbeat() for a tenant.';

CREATE FUNCTION cell.statistics(OUT tenant_id uuid, OUT queue text, OUT depth bigint, OUT processing bigint, OUT enqueued bigint,
	OUT completed bigint, OUT dead bigint)
RETURNS SETOF record
LANGUAGE sql VOLATILE
SET search_path = public, pg_temp
AS $$
	SELECT s.tenant_id, s.queue, s.depth, s.processing, s.enqueued, s.completed, s.dead FROM queue_stats s
$$;
COMMENT ON FUNCTION cell.statistics() IS 'queue_stats of all tenants of this node.';

-- The role that the router connects as: it produces, claims and looks for any
-- tenant, and owns nothing.
CREATE ROLE router LOGIN;
SELECT queue_grant('router', p, all_tenants => true) FROM unnest(ARRAY['producer', 'worker', 'observer']) p \g /dev/null
GRANT USAGE ON SCHEMA cell TO router;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA cell FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA cell TO router;
