/*
 * failures.c
 *	  The history of a job's failed attempts: see failures.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "failures.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

static void
push_key(JsonbParseState **state, const char *key)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, key);
	value.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &value);
}

static void
push_string(JsonbParseState **state, const char *key, char *string, int length)
{
	JsonbValue	value;

	push_key(state, key);
	value.type = string ? jbvString : jbvNull;
	value.val.string.val = string;
	value.val.string.len = length;
	pushJsonbValue(state, WJB_VALUE, &value);
}

/* An array of one object: attempt, at, worker, error. */
static Datum
make_entry(QsTable *table, char *error, int length)
{
	JsonbParseState *state = NULL;
	JsonbValue	attempt;
	char	   *at = JsonEncodeDateTime(NULL, TimestampTzGetDatum(table->call->now),
										TIMESTAMPTZOID, NULL);
	char	   *worker = qs_is_null(table, QS_JOB_LEASED_BY) ? NULL :
		TextDatumGetCString(qs_get(table, QS_JOB_LEASED_BY));

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_key(&state, "attempt");
	attempt.type = jbvNumeric;
	attempt.val.numeric = int64_to_numeric(DatumGetInt32(qs_get(table, QS_JOB_ATTEMPTS)));
	pushJsonbValue(&state, WJB_VALUE, &attempt);
	push_string(&state, "at", at, strlen(at));
	push_string(&state, "worker", worker, worker ? strlen(worker) : 0);
	push_string(&state, "error", error, length);
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY,
														   NULL)));
}

/*
 * Notes that the attempt of the loaded job failed; error may be NULL, if its
 * worker gave none. Of more than QS_MAX_FAILURES the oldest goes.
 */
void
qs_note_failure(QsTable *table, const char *error)
{
	char	   *text = NULL;
	int			length = 0;
	Datum		errors;

	if (error != NULL)
	{
		length = pg_mbcliplen(error, strlen(error), QS_ERROR_BYTES);
		text = pnstrdup(error, length);
		qs_set(table, QS_JOB_LAST_ERROR, CStringGetTextDatum(text));
	}
	else
		qs_set_null(table, QS_JOB_LAST_ERROR);

	errors = make_entry(table, text, length);
	if (!qs_is_null(table, QS_JOB_ERRORS))
	{
		Datum		before = PointerGetDatum(PG_DETOAST_DATUM(qs_get(table, QS_JOB_ERRORS)));

		if (JB_ROOT_IS_ARRAY(DatumGetJsonbP(before)) &&
			JB_ROOT_COUNT(DatumGetJsonbP(before)) >= QS_MAX_FAILURES)
			before = DirectFunctionCall2(jsonb_delete_idx, before, Int32GetDatum(0));
		errors = DirectFunctionCall2(jsonb_concat, before, errors);
	}
	qs_set(table, QS_JOB_ERRORS, errors);
}
