/*
 * limit_row.h
 *	  Token buckets that are kept in their rows.
 */
#ifndef QS_LIMIT_ROW_H
#define QS_LIMIT_ROW_H

#include "limit.h"

/* A bucket as of its base. */
typedef struct QsLimitRow
{
	QsBucket	bucket;
	int64		position;
} QsLimitRow;

extern bool qs_limit_row_read(QsCall *call, const QsLimit *limit,
							  const pg_uuid_t *tenant, const char *name,
							  QsLimitRow *row);
extern bool qs_limit_row_lock(QsCall *call, const QsLimit *limit,
							  const pg_uuid_t *tenant, const char *name,
							  QsLimitRow *row);
extern void qs_limit_row_write(QsCall *call, const QsLimit *limit,
							   const pg_uuid_t *tenant, const char *name,
							   const QsLimitRow *row, TimestampTz now);

#endif							/* QS_LIMIT_ROW_H */
