/*
 * token.h
 *	  Random tokens, of leases and of permits.
 */
#ifndef QS_TOKEN_H
#define QS_TOKEN_H

extern int64 qs_random_token(void);

#endif							/* QS_TOKEN_H */
