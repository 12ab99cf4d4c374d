#!/bin/bash
# Writes invoices with psql: one turn, and one connection, for each job.
#
#	TENANT=01890000-... PGUSER=shop ./worker.sh
#
# SIGTERM ends it after the turn. A turn that fails for the server's sake is
# followed by another; the job that it had comes back when its lease runs out.
set -uo pipefail

stopping=
trap 'stopping=yes' TERM INT

turn()
{
	psql -X -q -At -v tenant="$TENANT" -v worker="${HOSTNAME:-psql}:$$" <<-'END'
	\set ON_ERROR_STOP on
	BEGIN;
	SET LOCAL app.current_tenant = :'tenant';
	-- one row also if there is no job, for \gset
	SELECT job.*, job.job_id IS NOT NULL AS claimed
	FROM (VALUES (1)) AS one
	LEFT JOIN queue_claim('invoices', worker => :'worker') AS job ON true \gset
	COMMIT;

	\if :claimed
		-- The effect and the completion, both or neither.
		\set ON_ERROR_STOP off
		BEGIN;
		SET LOCAL app.current_tenant = :'tenant';
		INSERT INTO invoices (order_number, written_by)
		VALUES ((:'payload'::jsonb->>'order')::bigint, :'worker');
		\if :ERROR
		\else
			SELECT queue_complete(:'job_id', :lease_token, strict => true) \g /dev/null
		\endif
		COMMIT;
		-- QS030: the lease was lost, and the job is somebody else's.
		SELECT :'LAST_ERROR_SQLSTATE' NOT IN ('00000', 'QS030') AS failed \gset
		\set ON_ERROR_STOP on
		\if :failed
			BEGIN;
			SET LOCAL app.current_tenant = :'tenant';
			SELECT queue_fail(:'job_id', :lease_token, :'LAST_ERROR_MESSAGE') \g /dev/null
			COMMIT;
		\endif
	\else
		BEGIN;
		SET LOCAL app.current_tenant = :'tenant';
		CALL queue_wait('invoices', '5 seconds');
		COMMIT;
	\endif
	END
}

while [ -z "$stopping" ]
do
	turn || sleep 1
done
