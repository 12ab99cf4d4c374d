/*
 * claim_only.h
 *	  Commits a transaction without waiting for its WAL if it did nothing but
 *	  claim.
 */
#ifndef QS_CLAIM_ONLY_H
#define QS_CLAIM_ONLY_H

extern void qs_claim_only_init(void);
extern void qs_claim_only_begin(void);
extern void qs_claim_only_end(bool ran_user_code);

#endif							/* QS_CLAIM_ONLY_H */
